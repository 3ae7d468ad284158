"""Matrix products in the one form that engines have: activation on the left, one constant of rank 2, a bias a column.

Needs a clean OnnxGraph, float or QDQ. Does, exactly: transA and a constant on the left by Transpose nodes (W x is the
transpose of x^T W^T), a constant of rank 1 or with leading ones by Reshape, alpha and beta into float constants, a bias
that is not one value a column into an Add behind the product. What is left alone keeps its node for the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import shapes
from compiler.frontend.onnxgraph import Node, OnnxGraph

Array = NDArray[Any]


def regular_products(graph: OnnxGraph) -> None:
    """Rewrite `graph` in place."""
    rewrite = _Rewrite(graph)
    changed = False
    for n in graph.nodes:
        before = len(rewrite.nodes)
        if n.op in ("Gemm", "MatMul") and not n.domain and len(n.inputs) >= 2:
            changed |= rewrite.gemm(n) if n.op == "Gemm" else rewrite.matmul(n)
        if len(rewrite.nodes) == before:
            rewrite.nodes.append(n)
    if changed:
        graph.nodes = rewrite.nodes
        graph.sort()
        graph.prune()
        shapes.infer(graph)


class _Rewrite:
    """The nodes written so far, and which tensors are weights: constants, dequantised ones, or either transposed."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.weights = set(graph.constants)
        for n in graph.nodes:
            if n.op in ("DequantizeLinear", "Transpose") and n.inputs and n.inputs[0] in self.weights:
                self.weights.add(n.outputs[0])

    def gemm(self, n: Node) -> bool:
        """Whether the Gemm was changed; the nodes that stand for it are written then."""
        graph = self.graph
        (a, b), y = n.inputs[:2], n.outputs[0]
        shape_a, shape_b = graph.shape(a), graph.shape(b)
        left = a in self.weights
        if shape_a is None or shape_b is None or len(shape_a) != 2 or len(shape_b) != 2 or left == (b in self.weights):
            return False
        columns = shape_b[0] if n.integer("transB", 0) else shape_b[1]
        rows = shape_a[1] if n.integer("transA", 0) else shape_a[0]
        bias = n.input(2)
        fits = not bias or self._is_vector(bias, columns)
        alpha, beta = n.real("alpha", 1.0), n.real("beta", 1.0)
        weight = a if left else b
        folds = (alpha == 1 or weight in graph.constants) and (not bias or beta == 1 or bias in graph.constants)
        plain = not left and not n.integer("transA", 0) and fits and (alpha, beta) == (1, 1)
        if not folds or (plain and (not bias or graph.shape(bias) == (columns,))):
            return False
        if alpha != 1:
            weight = self._scaled(weight, alpha)
        if bias and beta != 1:
            bias = self._scaled(bias, beta)
        if left:
            w = weight if n.integer("transA", 0) else self._turned(weight)
            x = b if n.integer("transB", 0) else self._turned(b)
            product = graph.fresh(f"{y}_turned")
            self._add("MatMul", [x, w], product, n.name)
            inner = y if not bias else graph.fresh(f"{y}_product")
            self._add("Transpose", [product], inner, f"{y}_transpose", perm=[1, 0])
            fits = False
        else:
            x = self._turned(a) if n.integer("transA", 0) else a
            w = self._turned(weight) if n.integer("transB", 0) else weight
            inner = y if fits or not bias else graph.fresh(f"{y}_product")
            inputs = [x, w, self._vector(bias, columns)] if bias and fits else [x, w]
            self._add("Gemm" if len(inputs) == 3 else "MatMul", inputs, inner, n.name)
        if bias and not fits:
            self._declare(inner, (rows, columns), y)
            self._add("Add", [inner, bias], y, f"{n.name}_bias")
        return True

    def matmul(self, n: Node) -> bool:
        """Whether the MatMul was changed; the nodes that stand for it are written then."""
        graph = self.graph
        (a, b), y = n.inputs[:2], n.outputs[0]
        shape_a, shape_b = graph.shape(a), graph.shape(b)
        if shape_a is None or shape_b is None or (a in self.weights) == (b in self.weights):
            return False
        if a in self.weights:
            if len(shape_a) != 2 or len(shape_b) < 2:
                return False
            product = graph.fresh(f"{y}_turned")
            rank = len(shape_b)
            perm = [*range(rank - 2), rank - 1, rank - 2]
            self._add("MatMul", [self._turned(b, perm), self._turned(a)], product, n.name)
            self._declare(product, (*shape_b[:-2], shape_b[-1], shape_a[0]), y)
            self._add("Transpose", [product], y, f"{y}_transpose", perm=perm)
            return True
        if b not in graph.constants:
            return False
        if len(shape_b) == 1 and len(shape_a) > 1:
            product = graph.fresh(f"{y}_column")
            self._add("MatMul", [a, self._reshaped(b, (shape_b[0], 1))], product, n.name)
            self._declare(product, (*shape_a[:-1], 1), y)
            self._add("Reshape", [product, self._shape(f"{y}_shape", shape_a[:-1])], y, f"{y}_reshape")
            return True
        if 2 < len(shape_b) <= len(shape_a) and all(d == 1 for d in shape_b[:-2]):
            self._add("MatMul", [a, self._reshaped(b, shape_b[-2:])], y, n.name)
            return True
        return False

    def _add(self, op: str, inputs: list[str], output: str, name: str, **attributes: Any) -> None:
        taken = any(m.name == name for m in self.nodes)
        self.nodes.append(Node(op, inputs, [output], self.graph.fresh(name) if taken else name, "", attributes))

    def _declare(self, name: str, shape: tuple[int, ...], like: str) -> None:
        known = self.graph.types.get(like)
        if known is not None:
            self.graph.types.setdefault(name, type(known)(known.elem, shape))

    def _turned(self, name: str, perm: list[int] | None = None) -> str:
        """A tensor with its last two axes exchanged: a constant at once, anything else by a node."""
        perm = perm or [1, 0]
        value = self.graph.constants.get(name)
        turned = self.graph.fresh(f"{name}_transposed")
        if value is not None:
            self.graph.constants[turned] = np.ascontiguousarray(value.transpose(perm))
        else:
            self._add("Transpose", [name], turned, f"{turned}_transpose", perm=perm)
        return turned

    def _reshaped(self, name: str, shape: tuple[int, ...]) -> str:
        made = self.graph.fresh(f"{name}_matrix")
        self.graph.constants[made] = self.graph.constants[name].reshape(shape)
        return made

    def _shape(self, name: str, shape: tuple[int, ...]) -> str:
        made = self.graph.fresh(name)
        self.graph.constants[made] = np.asarray(shape, np.int64)
        return made

    def _scaled(self, name: str, factor: float) -> str:
        value = self.graph.constants[name]
        made = self.graph.fresh(f"{name}_scaled")
        self.graph.constants[made] = (value.astype(np.float64) * factor).astype(value.dtype)
        return made

    def _is_vector(self, bias: str, columns: int) -> bool:
        """Whether a bias is one value a column; a scalar only where it can be spread, in a constant."""
        shape = self.graph.shape(bias)
        if shape is None or bias not in self.weights:
            return False
        if shape in ((columns,), (1, columns)):
            return True
        return bias in self.graph.constants and self.graph.constants[bias].size == 1

    def _vector(self, bias: str, columns: int) -> str:
        value = self.graph.constants.get(bias)
        if value is None or value.shape == (columns,):
            return bias
        made = self.graph.fresh(f"{bias}_vector")
        self.graph.constants[made] = np.ascontiguousarray(np.broadcast_to(value.reshape(-1), (columns,)))
        return made
