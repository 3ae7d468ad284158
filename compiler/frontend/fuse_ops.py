"""Float operators of a QDQ graph and the integer nodes that each becomes: one rule an operator.

A rule gets the Fuser, the float node, the output parameters and the output name; it appends integer nodes or raises
Unfit with the reason. Constant operands may be float or integers behind DequantizeLinear; a float weight is quantised
here, symmetric and per channel, and that is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import convtranspose, ort
from compiler.frontend.integer import QP, QT, S8, U8, Emitter, Unfit
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph
from compiler.frontend.windows import Window, window

if TYPE_CHECKING:
    from compiler.frontend.fuse import Fuser

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant: real values, and the integers behind them where the model gives them (axis -1 = per tensor)."""

    real: Array
    q: Array | None = None
    scale: Array | None = None
    zero: Array | None = None
    axis: int = -1


def take_dequantized(graph: OnnxGraph) -> dict[str, Weight]:
    """Every DequantizeLinear of a constant leaves the graph: its floats become a constant, its integers the Weight."""
    taken: dict[str, Weight] = {}
    kept: list[Node] = []
    for n in graph.nodes:
        weight = _dequantized(graph, n) if n.op == "DequantizeLinear" and n.domain in ("", MS) else None
        if weight is None:
            kept.append(n)
        else:
            taken[n.outputs[0]] = weight
            graph.constants[n.outputs[0]] = weight.real
    graph.nodes = kept
    return taken


def _dequantized(graph: OnnxGraph, n: Node) -> Weight | None:
    q, scale = graph.constants.get(n.inputs[0]), graph.constants.get(n.input(1))
    zero = graph.constants.get(n.input(2)) if n.input(2) else None
    if q is None or scale is None or (n.input(2) and zero is None):
        return None
    if n.int("block_size", 0) or scale.dtype != np.float32:
        try:
            value = ort.evaluate(graph, [n], {}, n.outputs)[n.outputs[0]]
        except Exception:
            return None
        return Weight(np.asarray(value, np.float32))
    wide = q.astype(np.int64)
    shift = np.zeros(scale.shape, np.int64) if zero is None else np.asarray(zero).astype(np.int64)
    axis = -1
    if scale.size > 1:
        axis = n.int("axis", 1) % q.ndim
        side = [1] * q.ndim
        side[axis] = scale.size
        real = ((wide - shift.reshape(side)).astype(np.float32) * scale.reshape(side)).astype(np.float32)
    else:
        real = ((wide - shift.reshape(-1)[0]).astype(np.float32) * scale.reshape(())).astype(np.float32)
    if q.dtype not in (np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int32)):
        if wide.min(initial=0) < -128 or wide.max(initial=0) > 127:  # 16 bits
            return Weight(real)
        q = wide.astype(np.int8)  # 4-bit integers are carried as int8
    return Weight(real, q, scale.reshape(-1), shift.reshape(-1), axis)


def weight_of(graph: OnnxGraph, taken: dict[str, Weight], made: dict[str, Node], name: str) -> Weight | None:
    """The constant behind `name`: dequantised integers, a float constant, or a Transpose of either."""
    if name in taken:
        return taken[name]
    value = graph.constants.get(name)
    if value is not None:
        return Weight(value)
    n = made.get(name)
    if n is None or n.op != "Transpose" or n.domain:
        return None
    inner = weight_of(graph, taken, made, n.inputs[0])
    if inner is None:
        return None
    perm = n.ints("perm", range(inner.real.ndim)[::-1])
    axis = perm.index(inner.axis) if inner.axis >= 0 else -1
    q = None if inner.q is None else inner.q.transpose(perm)
    return Weight(inner.real.transpose(perm), q, inner.scale, inner.zero, axis)


def integers(f: Fuser, n: Node, w: Weight, axis: int, elem: int, *, where: str = "weight") -> tuple[Array, Array, Array]:
    """8-bit integers, scales and zero points of a weight, along `axis` if there are several. Quantises float weights."""
    if w.q is not None and w.q.dtype != np.int32 and w.scale is not None and w.zero is not None and w.axis in (-1, axis):
        return w.q, w.scale, w.zero
    others = tuple(k for k in range(w.real.ndim) if k != axis)
    peak = np.abs(w.real).max(axis=others).astype(np.float32)
    scale = np.where(peak > 0, peak / np.float32(127), np.float32(1)).astype(np.float32)
    side = [1] * w.real.ndim
    side[axis] = scale.size
    q = np.clip(np.rint(w.real / scale.reshape(side)), -127, 127).astype(np.int8)
    f.report.fallback(f"float {where} of node '{n.name}' ({n.op}) quantised per channel, symmetric int8")
    return q, scale, np.zeros(scale.shape, np.int64)


def int_bias(f: Fuser, n: Node, bias: Weight | None, x: QP, w_scale: Array, m: int) -> Array | None:
    """int32 bias at xs*ws; as it is if the model gives it at just that scale."""
    if bias is None:
        return None
    unit = (np.float32(x.scale) * np.asarray(w_scale, np.float32)).astype(np.float32)
    if bias.q is not None and bias.q.dtype == np.int32 and bias.scale is not None and bias.real.ndim <= 1:
        given = np.broadcast_to(bias.scale, (m,))
        zero_free = bias.zero is None or not np.any(bias.zero)
        if zero_free and np.allclose(given, np.broadcast_to(unit, (m,)), rtol=1e-5, atol=0):
            return np.broadcast_to(bias.q.reshape(-1), (m,)).astype(np.int32)
    real = bias.real.astype(np.float64).reshape(-1)
    if real.size not in (1, m):
        raise Unfit("its bias is not one value a channel")
    value = np.rint(np.broadcast_to(real, (m,)) / np.broadcast_to(unit, (m,)).astype(np.float64))
    if np.abs(value).max(initial=0) >= 2**31 - 2**24:
        f.report.fallback(f"bias of node '{n.name}' saturates in int32: its weights are tiny against it")
        value = np.clip(value, -(2**31) + 2**24, 2**31 - 2**24)
    return value.astype(np.int64).astype(np.int32)


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
    q, scale, zero = integers(f, n, w, 0, x.qp.elem)
    kernel = tuple(int(d) for d in q.shape[2:])
    win = window(n, shape[2:], kernel)
    attributes = {
        "dilations": list(win.dilations),
        "group": n.int("group", 1),
        "kernel_shape": list(kernel),
        "pads": win.pads,
        "strides": list(win.strides),
    }
    b = int_bias(f, n, bias, x.qp, scale, q.shape[0])
    f.emitter.conv(x, q, scale, zero, b, y, qp, n.name, attributes)


def _conv_transpose(f: Fuser, n: Node, qp: QP, y: str) -> None:
    x = source(f, n, n.inputs[0])
    w = f.weight(n.inputs[1])
    bias = f.weight(n.input(2)) if n.input(2) else None
    if w is None or (n.input(2) and bias is None):
        raise Unfit("its weights are not constant")
    q, scale, zero = integers(f, n, w, 1, x.qp.elem)
    groups = n.int("group", 1)
    tiled = scale if scale.size == 1 else np.tile(scale, groups)
    b = int_bias(f, n, bias, x.qp, tiled, q.shape[1] * groups)
    convtranspose.emit(f.emitter, n, x, q, scale, zero, b, y, qp)


def _gemm(f: Fuser, n: Node, qp: QP, y: str) -> None:
    if n.float("alpha", 1.0) != 1.0 or (n.input(2) and n.float("beta", 1.0) != 1.0):
        raise Unfit("Gemm with alpha or beta other than 1")
    if n.int("transA", 0):
        raise Unfit("Gemm with transA")
    x, w = source(f, n, n.inputs[0]), f.weight(n.inputs[1])
    bias = f.weight(n.input(2)) if n.input(2) else None
    if w is None or (n.input(2) and bias is None):
        raise Unfit("matrix product of two activations")
    if n.int("transB", 0):
        w = transposed(w)
    _product(f, n, x, w, bias, qp, y)


def transposed(w: Weight) -> Weight:
    axis = w.axis if w.axis < 0 else 1 - w.axis
    return Weight(w.real.T, None if w.q is None else w.q.T, w.scale, w.zero, axis)


def _matmul(f: Fuser, n: Node, qp: QP, y: str) -> None:
    if n.inputs[0] not in f.deq and f.weight(n.inputs[0]) is not None:
        raise Unfit("matrix product with the constant on the left")
    w = f.weight(n.inputs[1])
    if w is None:
        raise Unfit("matrix product of two activations")
    _product(f, n, source(f, n, n.inputs[0]), w, None, qp, y)


def _product(f: Fuser, n: Node, x: QT, w: Weight, bias: Weight | None, qp: QP, y: str) -> None:
    if w.real.ndim != 2:
        raise Unfit(f"matrix product with a constant of rank {w.real.ndim}")
    q, scale, zero = integers(f, n, w, 1, x.qp.elem)
    m = q.shape[1]
    b = None
    if bias is not None and bias.real.size not in (1, m):
        raise Unfit("its bias is not one value a column")
    if bias is not None:
        b = int_bias(f, n, Weight(bias.real.reshape(-1), None if bias.q is None else bias.q.reshape(-1), bias.scale, bias.zero), x.qp, scale, m)
    f.emitter.matmul(x, q, scale, zero, b, y, qp, n.name)


def range_of(values: Array, elem: int) -> QP:
    """Asymmetric 8-bit parameters for the range of `values`, zero included."""
    lo, hi = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32((hi - lo) / 255.0)
    if not np.isfinite(scale) or scale <= 0:
        scale = np.float32(1.0)
    base = 0 if elem == U8 else -128
    return QP(scale, int(np.clip(round(base - lo / float(scale)), base, base + 255)), elem)


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
    if len(shape) not in (3, 4):
        raise Unfit(f"pool with {len(shape) - 2} spatial dimensions")
    uniform = not any(win.pads) or bool(n.int("count_include_pad", 0))
    if qp.zero % 2 and uniform and not any(t > e for t, e in zip(win.tail, win.end, strict=True)):
        _average_conv(f, n, x, qp, y, win)
        return
    attributes = {
        "ceil_mode": n.int("ceil_mode", 0),
        "count_include_pad": n.int("count_include_pad", 0),
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


def _pooled(f: Fuser, n: Node, op: str, x: QT, qp: QP, y: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    e = f.emitter
    made, made_qp, shifted = e.finish(x.qp.elem, qp, y, n.name)
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
    if n.int("keepdims", 1):
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
    if not axes and not n.int("noop_with_empty_axes", 0):
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
        e.nodes.append(Node("Concat", [p.name for p in parts], [y], n.name, "", {"axis": n.int("axis", 0)}))
    else:
        for p in parts:
            inputs += e.params(p)
        out = [e.scale(y, qp.scale), e.zero(y, qp.zero, qp.elem)]
        e.nodes.append(Node("QLinearConcat", out + inputs, [y], n.name, MS, {"axis": n.int("axis", 0)}))
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


def is_clamp(n: Node, graph: OnnxGraph) -> bool:
    if n.domain:
        return False
    return n.op == "Relu" or (n.op == "Clip" and all(i in graph.constants for i in n.uses[1:]))


def clamp_bounds(n: Node, graph: OnnxGraph) -> tuple[float, float]:
    if n.op == "Relu":
        return 0.0, float("inf")
    bounds = [float("-inf"), float("inf")]
    for k in (1, 2):
        if n.input(k):
            bounds[k - 1] = float(graph.constants[n.input(k)].reshape(-1)[0])
    return bounds[0], bounds[1]


def pad_value(n: Node, graph: OnnxGraph) -> float | None:
    """The constant that a Pad writes; None for any other operator or mode."""
    if n.op != "Pad" or n.text("mode", "constant") != "constant":
        return None
    if not n.input(2):
        return 0.0
    value = graph.constants.get(n.input(2))
    return float("nan") if value is None else float(value.reshape(-1)[0])


def moves_exactly(n: Node, graph: OnnxGraph) -> bool:
    """Whether a movement operator commutes with quantization here: constant arguments, one data input, nearest only."""
    rest = [i for i in n.inputs[1:] if i]
    if any(i not in graph.constants for i in rest) or graph.shape(n.outputs[0]) is None:
        return False
    if n.op == "Resize":
        return n.text("mode", "nearest") == "nearest" and not n.text("coordinate_transformation_mode", "half_pixel").startswith("tf_crop")
    if n.op == "MaxPool":
        return len([o for o in n.outputs if o]) == 1 and len(graph.shape(n.outputs[0]) or ()) in (3, 4)
    if n.op == "Pad":
        value = pad_value(n, graph)
        return value is None or np.isfinite(value)
    return n.op != "Gather" or n.inputs[0] not in graph.constants


def moved(n: Node, x: QT, outputs: list[str], e: Emitter) -> Node:
    """The movement node on integers."""
    inputs = [x.name, *n.inputs[1:]]
    value = pad_value(n, e.graph)
    if value is not None:
        while len(inputs) < 3:
            inputs.append("")
        q = x.qp.quantize(np.float32(value))
        inputs[2] = e.const(f"{n.name}_pad_value", np.asarray(q).reshape(()))
    return Node(n.op, inputs, outputs, n.name, "", dict(n.attributes))
