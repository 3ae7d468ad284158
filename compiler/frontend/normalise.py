"""Integer nodes in their one canonical form, whoever wrote them.

Needs an OnnxGraph behind `fuse`. Does, node by node: explicit pads; weights in the signedness of the activations with
one zero point for all channels (the same integers w - zero); constant B not transposed; operands of one rank;
QLinearLeakyRelu and QLinearSigmoid as 256-entry tables. A node that cannot be brought there stays as it is, and the
reader makes a host segment of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.frontend.integer import DTYPE, ELEM, QP, QT, Emitter, Unfit, same_zero
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph
from compiler.frontend.options import ImportReport
from compiler.frontend.windows import window


def qparams(graph: OnnxGraph, n: Node, scale: int, zero: int, elem: int) -> QP | None:
    """The constant per-tensor parameters at two input positions; `elem` if there is no zero point."""
    s, z = graph.constants.get(n.input(scale)), graph.constants.get(n.input(zero))
    if (
        s is None
        or s.size != 1
        or (z is None and n.input(zero))
        or (z is not None and (z.size != 1 or z.dtype not in ELEM))
    ):
        return None
    if z is None:
        return QP(np.float32(s.reshape(-1)[0]), 0, elem) if elem in DTYPE else None
    return QP(np.float32(s.reshape(-1)[0]), int(z.reshape(-1)[0]), ELEM[z.dtype])


def normalise(graph: OnnxGraph, report: ImportReport) -> None:
    """Rewrite `graph` in place."""
    e = Emitter(graph, report)
    for n in graph.nodes:
        rule = _RULES.get(n.op)
        try:
            if rule is None or (n.domain == MS) != (n.op in _MICROSOFT):
                e.nodes.append(n)
            else:
                rule(e, n)
        except Unfit as why:
            report.reasons.setdefault(n.name, str(why))
            e.nodes.append(n)
    graph.nodes = e.nodes
    graph.sort()
    graph.prune()


def _weights(e: Emitter, n: Node, at: int, axis: int) -> None:
    """Shift the weights at input `at` (scale at+1, zero point at+2) to the signedness of input 0."""
    graph = e.graph
    w, zero = graph.constants.get(n.inputs[at]), graph.constants.get(n.inputs[at + 2])
    elem = graph.elem(n.inputs[0])
    if w is None:
        raise Unfit("matrix product of two activations" if n.op != "QLinearConv" else "its weights are not constant")
    if zero is None or w.dtype not in ELEM or elem not in DTYPE:
        raise Unfit("its quantization parameters are not constant 8-bit ones")
    first = np.moveaxis(w, axis, 0)
    moved, z = same_zero(first, zero, elem)
    if moved is first and np.all(zero == z):
        return
    n.inputs[at] = e.const(f"{n.inputs[at]}_{elem}", np.ascontiguousarray(np.moveaxis(moved, 0, axis)))
    n.inputs[at + 2] = e.const(f"{n.inputs[at + 2]}_{elem}", np.full(zero.shape, z, DTYPE[elem]))


def _conv(e: Emitter, n: Node) -> None:
    _weights(e, n, 3, 0)
    shape, w = e.graph.shape(n.inputs[0]), e.graph.constants[n.inputs[3]]
    if shape is not None and len(shape) == w.ndim:
        win = window(n, shape[2:], tuple(int(d) for d in w.shape[2:]))
        n.attributes = {
            "dilations": list(win.dilations),
            "group": n.integer("group", 1),
            "kernel_shape": list(win.kernel),
            "pads": win.pads,
            "strides": list(win.strides),
        }
    e.nodes.append(n)


def _matmul(e: Emitter, n: Node) -> None:
    b = e.graph.constants.get(n.inputs[3])
    if b is not None and b.ndim == 2:
        _weights(e, n, 3, 1)
    e.nodes.append(n)


def _gemm(e: Emitter, n: Node) -> None:
    b = e.graph.constants.get(n.inputs[3])
    if b is None or b.ndim != 2 or n.integer("transA", 0):
        raise Unfit("matrix product of two activations" if b is None else "QGemm with transA")
    if n.integer("transB", 0):
        n.inputs[3] = e.const(f"{n.inputs[3]}_transposed", np.ascontiguousarray(b.T))
        n.attributes.pop("transB")
    _weights(e, n, 3, 1)
    e.nodes.append(n)


def _binary(e: Emitter, n: Node) -> None:
    shapes = [e.graph.shape(n.inputs[k]) for k in (0, 3)]
    if None not in shapes:
        rank = max(len(s) for s in shapes if s is not None)
        for k in (0, 3):
            n.inputs[k] = e.align(QT(n.inputs[k], QP(np.float32(1), 0, e.graph.elem(n.inputs[k]))), rank).name
    e.nodes.append(n)


def _unary(e: Emitter, n: Node) -> None:
    elem = e.graph.elem(n.inputs[0])
    x, y = qparams(e.graph, n, 1, 2, elem), qparams(e.graph, n, 3, 4, elem)
    if x is None or y is None or elem not in DTYPE:
        raise Unfit("its quantization parameters are not constant")
    real = x.dequantize(x.bytes_in_order())
    values: NDArray[np.float32]
    if n.op == "QLinearLeakyRelu":
        values = np.where(real >= 0, real, np.float32(n.real("alpha", 0.01)) * real).astype(np.float32)
    else:
        values = (1.0 / (1.0 + np.exp(-real.astype(np.float64)))).astype(np.float32)
    e.table(n.inputs[0], n.outputs[0], y.quantize(values), y.elem, n.name)


_MICROSOFT = {"QGemm", "QLinearAdd", "QLinearMul", "QLinearLeakyRelu", "QLinearSigmoid"}
_RULES = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearAdd": _binary,
    "QLinearMul": _binary,
    "QLinearLeakyRelu": _unary,
    "QLinearSigmoid": _unary,
}
