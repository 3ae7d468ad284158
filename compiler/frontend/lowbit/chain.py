"""Element-wise float chains between an integer tensor and a quantiser: found, proved monotone, evaluated.

A chain reads one tensor (its source) and constants that are scalars or vary along the source's channel axis. ONNX
Runtime evaluates it, so a batch normalisation here is the batch normalisation of the model, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import ort
from compiler.frontend.integer import Unfit
from compiler.frontend.islands import ELEMENTWISE
from compiler.frontend.lowbit.grid import Array, Grids
from compiler.frontend.onnxgraph import Node, OnnxGraph, Type

_ONE_WAY = {
    "Add", "Sub", "Mul", "Div", "BatchNormalization", "Relu", "Clip", "Min", "Max", "Round", "Floor", "Ceil", "Sign",
    "GreaterOrEqual", "Greater", "Less", "LessOrEqual", "Cast", "Identity", "Neg", "LeakyRelu", "HardSigmoid",
}  # fmt: skip
# Correctly rounded or plainly ordered float32 operations: in one variable they never turn, so neither does their chain.
_ALLOWED = ELEMENTWISE | {"GreaterOrEqual", "Greater", "Less", "LessOrEqual", "Cast", "HardTanh"}
MOST_NODES = 96
MOST_ELEMENTS = 1 << 24  # of one tensor of an evaluation


@dataclass(slots=True)
class Chain:
    """Nodes in order from `source` to `result`. channels: 0, or the extent of the axis that constants vary along.

    monotone: proved by its form for every channel (rising or falling)."""

    source: str
    result: str
    nodes: tuple[Node, ...]
    channels: int
    monotone: bool
    rank: int
    axis: int
    sessions: dict[tuple[int, ...], Any] = field(default_factory=dict)

    def evaluate(self, graph: OnnxGraph, values: Array, columns: int) -> Array:
        """The chain on float32 values (channels, columns), or (1, columns) where channels do not matter: whole floats.

        The result has `columns` columns and as many rows as the values, or as there are channels."""
        rows = max(len(values), self.channels, 1)
        most = max(1, MOST_ELEMENTS // (rows * self.comparisons(graph)))
        if most < columns:
            parts = [values if values.shape[1] == 1 else values[:, k : k + most] for k in range(0, columns, most)]
            sizes = [min(most, columns - k) for k in range(0, columns, most)]
            return np.concatenate([self.evaluate(graph, p, n) for p, n in zip(parts, sizes, strict=True)], axis=1)
        wide = np.broadcast_to(values.astype(np.float32), (rows, columns))
        if not self.nodes:
            return np.ascontiguousarray(wide)
        along = self.axis
        if self.rank < 2:
            feed = np.ascontiguousarray(wide).reshape((columns,) if self.rank else ())
        else:
            other = 0 if along else 1  # the columns stand on the batch axis
            shape = [1] * self.rank
            shape[along], shape[other] = rows, columns
            feed = np.ascontiguousarray(wide if along < other else wide.T).reshape(shape)
        result = self._session(graph, feed.shape).run([self.result], {self.source: feed})[0]
        flat = np.asarray(result, np.float32)
        if self.rank < 2:
            return flat.reshape(1, columns)
        return flat.reshape(rows, columns) if along < other else np.ascontiguousarray(flat.reshape(columns, rows).T)

    def comparisons(self, graph: OnnxGraph) -> int:
        """Most elements that a node makes of one: the thresholds of a MultiThreshold."""
        held = [graph.constants[i] for n in self.nodes for i in n.uses if i in graph.constants]
        return max((v.size // max(1, self.channels) for v in held if v.ndim > self.rank), default=1)

    def integers(self, graph: OnnxGraph, values: Array, columns: int) -> NDArray[np.int64]:
        """`evaluate` as integers. Raises Unfit where one of them is none."""
        found = self.evaluate(graph, values, columns)
        if not (np.abs(found) < 2.0**31).all():
            raise Unfit("its activation gives infinite or undefined values")
        return np.rint(found).astype(np.int64)

    def _session(self, graph: OnnxGraph, shape: tuple[int, ...]) -> Any:
        if shape not in self.sessions:
            used = {i for n in self.nodes for i in n.uses}
            sub = OnnxGraph(
                name="chain",
                nodes=list(self.nodes),
                constants={k: v for k, v in graph.constants.items() if k in used},
                inputs=[self.source],
                outputs=[self.result],
                types={self.source: Type(1, shape)},
                opset=graph.opset,
                domains=dict(graph.domains),
            )
            self.sessions[shape] = ort.session(sub.to_model().SerializeToString())
        return self.sessions[shape]


def find(
    graph: OnnxGraph, grids: Grids, made: dict[str, Node], result: str, axis_of: Callable[[str], int | None]
) -> Chain | None:
    """The chain that ends in `result`. axis_of(tensor): its channel axis if it may be a source, else None."""
    order: list[Node] = []
    seen: set[str] = set()
    sources: dict[str, None] = {}
    straight = True

    def visit(name: str) -> bool:
        nonlocal straight
        if name in graph.constants or name in seen:
            straight = straight and name not in seen
            return True
        if axis_of(name) is not None:
            sources[name] = None
            return len(sources) == 1
        seen.add(name)
        composite = grids.composites.get(name)
        if composite is not None:
            if not visit(composite.source):
                return False
            order.extend(composite.nodes)
            return True
        node = made.get(name)
        if node is None or node.domain or node.op not in _ALLOWED or len(order) > MOST_NODES:
            return False
        data = [i for i in node.uses if i not in graph.constants]
        straight = straight and len(data) == 1 and node.op in _ONE_WAY and _ordered(graph, node)
        if not all(visit(i) for i in data):
            return False
        order.append(node)
        return True

    if not visit(result) or len(sources) != 1:
        return None
    source = next(iter(sources))
    shape = graph.shape(source)
    axis = axis_of(source)
    if shape is None or axis is None:
        return None
    channels = _channels(graph, order, shape, axis)
    if channels is None:
        return None
    return Chain(source, result, tuple(order), channels, straight, len(shape), axis)


def _ordered(graph: OnnxGraph, n: Node) -> bool:
    """Whether a one-variable node is monotone for its constants."""
    if n.op == "LeakyRelu":
        return n.real("alpha", 0.01) >= 0
    if n.op == "HardSigmoid":
        return n.real("alpha", 0.2) >= 0
    if n.op == "Div":
        return n.inputs[1] in graph.constants
    if n.op == "Cast":
        return n.integer("to", 0) in (1, 6, 7, 9, 10, 11)
    return True


def _channels(graph: OnnxGraph, nodes: list[Node], shape: tuple[int, ...], axis: int) -> int | None:
    """0 if all constants are scalars, the extent of `axis` if some vary along it alone, None otherwise."""
    rank, channels = len(shape), 0
    inner = {o for n in nodes for o in n.outputs}
    for n in nodes:
        if n.op == "BatchNormalization":
            if axis != 1 or rank < 2:
                return None
            channels = shape[1]
            continue
        if n.op in ("Unsqueeze", "ReduceSum"):
            continue
        for i in n.uses:
            value = graph.constants.get(i)
            if value is None or i in inner or value.size == 1:
                if value is not None and value.ndim > rank + 1:
                    return None
                continue
            wide = rank + 1 if n.op == "GreaterOrEqual" and value.ndim == rank + 1 else rank
            form = (1,) * (wide - value.ndim) + value.shape
            if len(form) != wide or any(d != 1 for k, d in enumerate(form[:rank]) if k != axis):
                return None
            if form[axis] == 1:
                continue
            if form[axis] != shape[axis]:
                return None
            channels = shape[axis]
    return channels
