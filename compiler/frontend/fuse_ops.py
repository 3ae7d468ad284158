"""Float operators of a QDQ graph and the integer nodes that each becomes: one rule an operator.

A rule gets the Fuser, the float node, the output parameters and the output name; it appends integer nodes or raises
Unfit with the reason. Constant operands may be float or integers behind DequantizeLinear; a float weight is quantised
here, symmetric and per channel, and that is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import convtranspose
from compiler.frontend.integer import QP, QT, S8, U8, Emitter, Unfit
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph
from compiler.frontend.weights import Weight, int_bias, integers, range_of, scaled, transposed
from compiler.frontend.windows import Window, window

if TYPE_CHECKING:
    from compiler.frontend.fuse import Fuser

Array = NDArray[Any]


def source(f: Fuser, n: Node, name: str) -> QT:
    """The integers behind a float input of `n`; a unary island in between gets its exact range and a table."""
    found = f.deq.get(name) or f.bridge(n, name)
    if found is None:
        raise Unfit(f"its input '{name}' is not quantised")
    return found


def _conv(f: Fuser, n: Node, qp: QP, y: str) -> None:
    x = source(f, n, n.inputs[0])
    w = f.weight(n.inputs[1])
    bias = f.weight(n.input(2)) if n.input(2) else None
    if w is None or (n.input(2) and bias is None):
        raise Unfit("its weights are not constant")
    shape = f.emitter.shape(x.name)
    if len(shape) not in (3, 4):
        raise Unfit(f"{n.op} with {len(shape) - 2} spatial dimensions")
    q, scale, zero = integers(f.report, n, w, 0, x.qp.elem)
    kernel = tuple(int(d) for d in q.shape[2:])
    win = window(n, shape[2:], kernel)
    attributes = {
        "dilations": list(win.dilations),
        "group": n.integer("group", 1),
        "kernel_shape": list(kernel),
        "pads": win.pads,
        "strides": list(win.strides),
    }
    b = int_bias(f.report, n, bias, x.qp, scale, q.shape[0])
    f.emitter.conv(x, q, scale, zero, b, y, qp, n.name, attributes)


def _conv_transpose(f: Fuser, n: Node, qp: QP, y: str) -> None:
    x = source(f, n, n.inputs[0])
    w = f.weight(n.inputs[1])
    bias = f.weight(n.input(2)) if n.input(2) else None
    if w is None or (n.input(2) and bias is None):
        raise Unfit("its weights are not constant")
    q, scale, zero = integers(f.report, n, w, 1, x.qp.elem)
    groups = n.integer("group", 1)
    tiled = scale if scale.size == 1 else np.tile(scale, groups)
    b = int_bias(f.report, n, bias, x.qp, tiled, q.shape[1] * groups)
    convtranspose.emit(f.emitter, n, x, q, scale, zero, b, y, qp)


def _gemm(f: Fuser, n: Node, qp: QP, y: str) -> None:
    alpha, beta = n.real("alpha", 1.0), n.real("beta", 1.0)
    if alpha <= 0:
        raise Unfit("Gemm with an alpha of 0 or less")
    if n.integer("transA", 0):
        raise Unfit("Gemm with transA")
    x, w = source(f, n, n.inputs[0]), f.weight(n.inputs[1])
    bias = f.weight(n.input(2)) if n.input(2) else None
    if w is None or (n.input(2) and bias is None):
        raise Unfit("matrix product of two activations")
    if n.integer("transB", 0):
        w = transposed(w)
    if alpha != 1:
        w = scaled(w, alpha)
    if bias is not None and beta != 1:
        bias = scaled(bias, beta)
    _product(f, n, x, w, bias, qp, y)


def _matmul(f: Fuser, n: Node, qp: QP, y: str) -> None:
    if n.inputs[0] not in f.deq and f.weight(n.inputs[0]) is not None:
        raise Unfit("matrix product with the constant on the left")
    w = f.weight(n.inputs[1])
    if w is None:
        raise Unfit("matrix product of two activations")
    _product(f, n, source(f, n, n.inputs[0]), w, None, qp, y)


def _product(f: Fuser, n: Node, x: QT, w: Weight, bias: Weight | None, qp: QP, y: str) -> None:
    if len(w.shape) != 2:
        raise Unfit(f"matrix product with a constant of rank {len(w.shape)}")
    q, scale, zero = integers(f.report, n, w, 1, x.qp.elem)
    m = q.shape[1]
    b = None
    if bias is not None and prod(bias.shape) not in (1, m):
        raise Unfit("its bias is not one value a column")
    if bias is not None:
        b = int_bias(
            f.report,
            n,
            Weight(bias.real.reshape(-1), None if bias.q is None else bias.q.reshape(-1), bias.scale, bias.zero),
            x.qp,
            scale,
            m,
        )
    f.emitter.matmul(x, q, scale, zero, b, y, qp, n.name)


def operand(f: Fuser, n: Node, name: str, elem: int) -> QT:
    """An operand of an element-wise operator: an activation, or a constant brought to 8 bits."""
    w = None if name in f.deq else f.weight(name)
    if w is None:
        return source(f, n, name)
    if w.q is not None and w.q.dtype != np.int32 and w.scale is not None and w.zero is not None and w.axis < 0:
        e = U8 if w.q.dtype == np.uint8 else S8
        return QT(f.emitter.const(f"{name}_q", w.q), QP(np.float32(w.scale[0]), int(w.zero[0]), e))
    qp = range_of(w.real, elem)
    f.report.fallback(f"float constant of node '{n.name}' ({n.op}) quantised to 8 bits by its own range")
    return QT(f.emitter.const(f"{name}_q", qp.quantize(w.real)), qp)


def _binary(kind: str) -> Callable[[Fuser, Node, QP, str], None]:
    def rule(f: Fuser, n: Node, qp: QP, y: str) -> None:
        if len(n.inputs) != 2:
            raise Unfit(f"{n.op} of {len(n.inputs)} tensors")
        elem = next((f.deq[i].qp.elem for i in n.inputs if i in f.deq), qp.elem)
        a, b = (operand(f, n, i, elem) for i in n.inputs)
        if n.op == "Sub":
            b = negated(f.emitter, b)
        f.emitter.binary(kind, a, b, y, qp, n.name)

    return rule


def negated(e: Emitter, t: QT) -> QT:
    """The negated reals, exactly: q -> (lo + hi) - q with the zero point likewise."""
    total = t.qp.lo + t.qp.hi
    qp = QP(t.qp.scale, total - t.qp.zero, t.qp.elem)
    if t.name in e.graph.constants:
        value = total - e.graph.constants[t.name].astype(np.int16)
        return QT(e.const(f"{t.name}_negated", value.astype(e.graph.constants[t.name].dtype)), qp)
    name = e.graph.fresh(f"{t.name}_negated")
    e.table(t.name, name, total - t.qp.bytes_in_order().astype(np.int16), t.qp.elem, name)
    return QT(name, qp)


def _average_pool(f: Fuser, n: Node, qp: QP, y: str) -> None:
    x = source(f, n, n.inputs[0])
    shape = f.emitter.shape(x.name)
    kernel = tuple(n.ints("kernel_shape", []))
    win = window(n, shape[2:], kernel)
    if any(d != 1 for d in win.dilations):
        raise Unfit("dilated average pool")
    if min(win.out) < 1:
        raise Unfit("its window is larger than its padded input")
    if len(shape) not in (3, 4):
        raise Unfit(f"pool with {len(shape) - 2} spatial dimensions")
    counts = bool(n.integer("count_include_pad", 0))
    overhangs = any(t > e for t, e in zip(win.tail, win.end, strict=True))
    if counts and overhangs:
        raise Unfit("average that counts pads and whose last window overhangs them: the integer operator counts more")
    ties = qp.zero % 2 == 1 and prod(win.kernel) % 2 == 0
    if ties and (counts or not any(win.pads)) and not overhangs:
        _average_conv(f, n, x, qp, y, win)
        return
    attributes = {
        "ceil_mode": n.integer("ceil_mode", 0),
        "count_include_pad": n.integer("count_include_pad", 0),
        "kernel_shape": list(kernel),
        "pads": win.pads,
        "strides": list(win.strides),
    }
    _pooled(f, n, "QLinearAveragePool", x, qp, y, (*shape[:2], *win.out), attributes)


def _average_conv(f: Fuser, n: Node, x: QT, qp: QP, y: str, win: Window) -> None:
    """Average as a depthwise convolution with ones.

    QLinearAveragePool adds the zero point before it rounds, QuantizeLinear after: with an odd zero point they differ
    at every tie (2 % of the elements of a 2x2 window at equal scales). A convolution rounds as QuantizeLinear does."""
    channels = f.emitter.shape(x.name)[1]
    one, zero = (129, 128) if x.qp.elem == U8 else (1, 0)
    w = np.full((channels, 1, *win.kernel), one, np.uint8 if x.qp.elem == U8 else np.int8)
    scale = np.float32(1.0) / np.float32(np.prod(win.kernel))
    attributes = {
        "dilations": [1] * len(win.kernel),
        "group": channels,
        "kernel_shape": list(win.kernel),
        "pads": win.pads,
        "strides": list(win.strides),
    }
    f.emitter.conv(x, w, np.asarray(scale), np.asarray(zero), None, y, qp, n.name, attributes)


def _pooled(
    f: Fuser, n: Node, op: str, x: QT, qp: QP, y: str, shape: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    e = f.emitter
    made, made_qp, shifted = e.finish(x.qp.elem, qp, y)
    inputs = [*e.params(x), e.scale(made, made_qp.scale), e.zero(made, made_qp.zero, made_qp.elem)]
    e.nodes.append(Node(op, inputs, [made], n.name, MS, attributes))
    e.declare(made, made_qp.elem, shape)
    e.close(made, made_qp, y, qp, shifted, n.name)


def _global_average(f: Fuser, n: Node, qp: QP, y: str) -> None:
    x = source(f, n, n.inputs[0])
    shape = f.emitter.shape(x.name)
    if len(shape) not in (3, 4):
        raise Unfit(f"{n.op} with {len(shape) - 2} spatial dimensions")
    out = (*shape[:2], *(1 for _ in shape[2:]))
    _pooled(f, n, "QLinearGlobalAveragePool", x, qp, y, out, {"channels_last": 0})


def _reduce_mean(f: Fuser, n: Node, qp: QP, y: str) -> None:
    x = source(f, n, n.inputs[0])
    shape = f.emitter.shape(x.name)
    rank = len(shape)
    axes = reduce_axes(n, f.graph, rank)
    if rank not in (3, 4) or axes != list(range(2, rank)):
        raise Unfit("mean over other axes than the spatial ones")
    if n.integer("keepdims", 1):
        _global_average(f, n, qp, y)
        return
    kept = f.graph.fresh(f"{y}_kept")
    _global_average(f, n, qp, kept)
    f.emitter.reshape(kept, y, shape[:2])


def reduce_axes(n: Node, graph: OnnxGraph, rank: int) -> list[int] | None:
    """Sorted axes of a reduction (attribute or input form), None if they are not constant."""
    if n.input(1):
        value = graph.constants.get(n.input(1))
        if value is None:
            return None
        axes = [int(v) for v in value.reshape(-1)]
    else:
        axes = n.ints("axes", [])
    if not axes and not n.integer("noop_with_empty_axes", 0):
        axes = list(range(rank))
    return sorted(a % rank for a in axes)


def _concat(f: Fuser, n: Node, qp: QP, y: str) -> None:
    e = f.emitter
    inputs: list[str] = []
    parts: list[QT] = []
    for k, i in enumerate(n.inputs):
        if i in f.deq:
            part = f.deq[i]
        elif (w := f.weight(i)) is not None:
            part = QT(e.const(f"{i}_q", qp.quantize(w.real)), qp)
        else:
            name = f.graph.fresh(f"{i}_q{k}")
            if not f.match(i, qp, name, f"{n.name}_input{k}"):
                raise Unfit(f"its input '{i}' is not quantised")
            part = QT(name, qp)
        parts.append(e.retype(part, qp.elem))
    if all(p.qp == qp for p in parts):
        e.nodes.append(Node("Concat", [p.name for p in parts], [y], n.name, "", {"axis": n.integer("axis", 0)}))
    else:
        for p in parts:
            inputs += e.params(p)
        out = [e.scale(y, qp.scale), e.zero(y, qp.zero, qp.elem)]
        e.nodes.append(Node("QLinearConcat", out + inputs, [y], n.name, MS, {"axis": n.integer("axis", 0)}))
    e.declare(y, qp.elem, e.shape(n.outputs[0]))


RULES: dict[str, Callable[[Fuser, Node, QP, str], None]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _binary("Add"),
    "Sub": _binary("Add"),
    "Mul": _binary("Mul"),
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "ReduceMean": _reduce_mean,
    "Concat": _concat,
}
