"""Readers of the integer operators: canonical ONNX node -> IR node; Unfit with the reason where no engine has it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import functions, read_moves
from compiler.frontend.integer import DTYPE, S8, S16, STORED, U8, Unfit
from compiler.frontend.onnxgraph import MS, Node
from compiler.frontend.windows import Window, window
from compiler.ir import graph as ir

if TYPE_CHECKING:
    from compiler.frontend.reader import Reading

F32 = np.float32
WIDE = "more than 8 bits, which only streaming engines take"
MOST_FACTOR = 1 << 7  # of a wide addition: with 16 bits beside it below 2^24
MATRIX_AXES = (0, 3, 1, 2)  # a matrix product of rank >= 3: channels lie on the last storage axis


def read(r: Reading, n: Node) -> tuple[ir.Node, ...]:
    """The IR nodes of one ONNX node (several only for Split)."""
    rule = RULES.get((n.domain, n.op))
    if rule is not None:
        return (rule(r, n),)
    if functions.is_product(n.domain, n.op):
        return (_own_product(r, n),)
    if n.domain == functions.DOMAIN:
        return (_wide_pool(r, n) if n.op == functions.MAX_POOL else _wide_add(r, n),)
    moved = read_moves.read(r, n)
    if moved is None:
        raise Unfit(f"no engine operator for {n.op}")
    return moved


def _quant(r: Reading, n: Node, scale: int, zero: int) -> ir.Quant:
    value = r.scalar(n.input(scale))
    if not 0 < value < float("inf"):
        raise Unfit(f"its scale {value:g} is no positive number")
    return ir.Quant(value, r.zero(n.input(zero)))


def table(r: Reading, n: Node, entry: tuple[str, NDArray[Any] | None]) -> ir.Table:
    """Gather of a 256-entry table, or of one table a channel."""
    x, offset = entry
    shape = r.shape(r.activation(x))
    data = np.ascontiguousarray(r.const(n.inputs[0]))
    signed = r.graph.elem(x) == S8
    if offset is None:
        if data.shape[0] != 256:
            raise Unfit("its table has not 256 entries")
        values = data.view(np.uint8).reshape(1, 256)
    else:
        channels = data.shape[0] // 256
        start = np.arange(channels) * 256 + (128 if signed else 0)
        side = (1,) * (len(shape) - offset.ndim) + offset.shape
        wanted = tuple(channels if k == 1 else 1 for k in range(len(shape)))
        if data.shape[0] != channels * 256 or len(shape) < 2 or shape[1] != channels or side != wanted:
            raise Unfit("its table is not one of 256 entries a channel")
        if not np.array_equal(offset.reshape(-1), start):
            raise Unfit("its table is not one of 256 entries a channel")
        values = data.view(np.uint8).reshape(channels, 256)
        if signed:
            values = np.roll(values, -128, axis=1)
    return ir.Table(n.name, n.op, x, n.outputs[0], np.ascontiguousarray(values), ir.storage4(shape))


def requant_scale(xs: NDArray[Any], ws: NDArray[Any], ys: NDArray[Any], m: int) -> NDArray[np.float32]:
    """f32(f32(xs*ws)/ys) for every channel. Raises Unfit for what no requantiser takes."""
    with np.errstate(all="ignore"):
        product = (xs.astype(F32).reshape(-1) * ws.astype(F32).reshape(-1)).astype(F32)
        scale = (product / ys.astype(F32).reshape(-1)).astype(F32)
    if not np.isfinite(scale).all() or (scale < 0).any():
        raise Unfit("its scales give a factor that is negative or not finite")
    return np.ascontiguousarray(np.broadcast_to(scale, (m,)))


def _one_zero(r: Reading, name: str) -> int:
    if not name:
        return 0
    zero = r.const(name).reshape(-1)
    if not (zero == zero[0]).all():
        raise Unfit("weight zero points differ between channels")
    return int(zero[0])


def _same_elem(r: Reading, *names: str) -> None:
    if len({r.graph.elem(i) for i in names}) != 1:
        raise Unfit("it mixes signed and unsigned tensors")


def _weight(r: Reading, name: str) -> NDArray[np.generic]:
    value = r.const(name)
    if value.dtype not in (np.uint8, np.int8):
        raise Unfit("its weights are not 8-bit integers")
    return value


def _conv(r: Reading, n: Node) -> ir.Node:
    x, y = r.activation(n.inputs[0]), n.outputs[0]
    w = _weight(r, n.inputs[3])
    _same_elem(r, x, n.inputs[3], y)
    shape = r.shape(x)
    if len(shape) not in (3, 4):
        raise Unfit(f"convolution with {len(shape) - 2} spatial dimensions")
    win = window(n, shape[2:], tuple(int(d) for d in w.shape[2:]))
    m = int(w.shape[0])
    bias = r.const(n.inputs[8]) if n.input(8) else np.zeros(m, np.int32)
    q = _quant(r, n, 6, 7)
    r.quant[y] = q
    r.quant.setdefault(x, _quant(r, n, 1, 2))
    full = w if w.ndim == 4 else w[:, :, None, :]
    return ir.Conv(
        name=n.name,
        op=n.op,
        x=x,
        y=y,
        weight=np.ascontiguousarray(full),
        weight_zero_point=_one_zero(r, n.inputs[5]),
        bias=np.ascontiguousarray(bias, np.int32),
        scale=requant_scale(r.const(n.inputs[1]), r.const(n.inputs[4]), r.const(n.inputs[6]), m),
        x_zero_point=r.zero(n.inputs[2]),
        y_zero_point=q.zero_point,
        x_shape=ir.storage4(shape),
        y_shape=ir.storage4(r.shape(y)),
        strides=_pair(win.strides, 1),
        pads=_pads(win.begin, win.end),
        dilations=_pair(win.dilations, 1),
        groups=n.integer("group", 1),
    )


def _pair(values: tuple[int, ...], first: int) -> tuple[int, int]:
    return (values[0], values[1]) if len(values) == 2 else (first, values[0])


def _pads(begin: tuple[int, ...], end: tuple[int, ...]) -> tuple[int, int, int, int]:
    (t, left), (b, right) = _pair(begin, 0), _pair(end, 0)
    return (t, left, b, right)


def _matrix(r: Reading, n: Node, bias_at: int, y_at: int) -> ir.Node:
    x, y = r.activation(n.inputs[0]), n.outputs[0]
    if n.inputs[3] not in r.graph.constants:
        raise Unfit("matrix product of two activations")
    w = _weight(r, n.inputs[3])
    shape, out = r.shape(x), r.shape(y)
    _same_elem(r, x, n.inputs[3], y)
    if w.ndim != 2 or not shape:
        raise Unfit(f"matrix product with a constant of rank {w.ndim}")
    if n.integer("transA", 0) or n.integer("transB", 0) or n.real("alpha", 1.0) != 1.0:
        raise Unfit("matrix product with transposition or alpha")
    m = int(w.shape[1])
    bias = np.zeros(m, np.int32)
    if bias_at and n.input(bias_at):
        given = r.const(n.inputs[bias_at])
        if given.size not in (1, m):
            raise Unfit("its bias is not one value a column")
        bias = np.broadcast_to(given.reshape(-1), (m,)).astype(np.int32)
    q = _quant(r, n, y_at, y_at + 1)
    r.quant[y] = q
    r.quant.setdefault(x, _quant(r, n, 1, 2))
    axes = (0, 1, 2, 3) if len(shape) <= 2 else MATRIX_AXES
    xs, ys = ir.storage4(shape), ir.storage4(out)
    return ir.Conv(
        name=n.name,
        op=n.op,
        x=x,
        y=y,
        weight=np.ascontiguousarray(w.T)[:, :, None, None],
        weight_zero_point=_one_zero(r, n.inputs[5]),
        bias=bias,
        scale=requant_scale(r.const(n.inputs[1]), r.const(n.inputs[4]), r.const(n.inputs[y_at]), m),
        x_zero_point=r.zero(n.inputs[2]),
        y_zero_point=q.zero_point,
        x_shape=_four(xs, axes),
        y_shape=_four(ys, axes),
        axes=axes,
    )


def _integer(r: Reading, n: Node) -> ir.Node:
    """ConvInteger or MatMulInteger: the accumulators themselves."""
    x, y = r.activation(n.inputs[0]), n.outputs[0]
    w = _weight(r, n.inputs[1])
    _same_elem(r, x, n.inputs[1])
    conv = n.op == "ConvInteger"
    m = int(w.shape[0] if conv else w.shape[-1])
    return ir.Conv(
        name=n.name,
        op=n.op,
        x=x,
        y=y,
        weight_zero_point=_one_zero(r, n.input(3)),
        bias=np.zeros(m, np.int32),
        scale=np.ones(m, F32),
        x_zero_point=r.zero(n.input(2)),
        y_zero_point=0,
        **_product(r, n, w, conv),
    )


def _product(r: Reading, n: Node, w: NDArray[np.generic], conv: bool) -> Any:
    """Weight, shapes and window of a sum of products whose first input is x, as fields of an ir.Conv."""
    shape, out = r.shape(n.inputs[0]), r.shape(n.outputs[0])
    if not conv:
        if w.ndim != 2 or not shape:
            raise Unfit(f"matrix product with a constant of rank {w.ndim}")
        axes = (0, 1, 2, 3) if len(shape) <= 2 else MATRIX_AXES
        full = np.ascontiguousarray(w.T)[:, :, None, None]
        xs, ys = _four(ir.storage4(shape), axes), _four(ir.storage4(out), axes)
        return {"weight": full, "x_shape": xs, "y_shape": ys, "axes": axes}
    if len(shape) not in (3, 4):
        raise Unfit(f"convolution with {len(shape) - 2} spatial dimensions")
    win = window(n, shape[2:], tuple(int(d) for d in w.shape[2:]))
    return {
        "weight": np.ascontiguousarray(w if w.ndim == 4 else w[:, :, None, :]),
        "x_shape": ir.storage4(shape),
        "y_shape": ir.storage4(out),
        "strides": _pair(win.strides, 1),
        "pads": _pads(win.begin, win.end),
        "dilations": _pair(win.dilations, 1),
        "groups": n.integer("group", 1),
    }


def _own_product(r: Reading, n: Node) -> ir.Node:
    """A convolution or matrix product of compiler/frontend/functions.py."""
    product = functions.product_of(n.op)
    assert product is not None
    x, y = r.integers(n.inputs[0]), n.outputs[0]
    wide = product.bits > 8 or product.wide or r.graph.elem(y) == S16
    if wide and not r.wide:
        raise Unfit(WIDE)
    w = r.const(n.inputs[1])
    if product.wide:
        if w.dtype != np.int16 or _one_zero(r, n.inputs[3]):
            raise Unfit("its weights are no 16-bit integers around zero")
    else:
        w = _weight(r, n.inputs[1])
        _same_elem(r, x, n.inputs[1])
    m = int(w.shape[0] if product.conv else w.shape[-1])
    thresholds = _thresholds(r, n, m, (1 << product.bits) - 1) if product.bits else None
    elem = r.graph.elem(y)
    if thresholds is not None:
        if elem not in STORED:
            raise Unfit("its result has no type of an engine")
        info, levels = np.iinfo(STORED[elem]), thresholds.levels
        if thresholds.step <= 0 or levels.lo < info.min or levels.hi > info.max:
            raise Unfit("its levels leave the type of its result")
    elif elem not in (6, 7):
        raise Unfit("sums of another type than int32 or int64")
    return ir.Conv(
        name=n.name,
        op=product.kind,
        x=x,
        y=y,
        weight_zero_point=_one_zero(r, n.inputs[3]),
        bias=np.zeros(m, np.int32),
        scale=np.ones(m, F32),
        x_zero_point=r.zero(n.inputs[2]),
        y_zero_point=0,
        thresholds=thresholds,
        **_product(r, n, w, product.conv),
    )


def _thresholds(r: Reading, n: Node, m: int, width: int) -> ir.Thresholds:
    """The step function of inputs 4 to 7."""
    table = r.const(n.inputs[4])
    kinds = (np.int32, np.int64) if n.op.startswith("Wide") else (np.int32,)
    if table.dtype not in kinds or table.shape != (m, width) or (table[:, 1:] < table[:, :-1]).any():
        raise Unfit("its thresholds are no table of ascending rows")
    if not np.array_equal(r.const(n.inputs[5]).reshape(-1), np.arange(m) * width):
        raise Unfit("its rows of thresholds do not follow one another")
    used = np.flatnonzero((table != np.iinfo(table.dtype).max).any(axis=0))
    count = int(used[-1]) + 1 if len(used) else 1
    base, step = int(r.scalar(n.inputs[6])), int(r.scalar(n.inputs[7]))
    return ir.Thresholds(base, step, np.ascontiguousarray(table[:, :count]))


def _four(shape: ir.Shape4, axes: tuple[int, int, int, int]) -> ir.Shape4:
    return (shape[axes[0]], shape[axes[1]], shape[axes[2]], shape[axes[3]])


def _fma(a: np.float32, b: np.float32, c: np.float32) -> np.float32:
    """f32(a*b + c) rounded once: the product is exact in float64, the sum is rounded to odd before it is to float32."""
    product, addend = float(a) * float(b), float(c)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    if error and np.isfinite(total):
        bits = int(np.float64(total).view(np.int64))
        if bits & 1 == 0:
            toward = np.inf if error > 0 else -np.inf
            total = float(np.nextafter(np.float64(total), toward))
    return F32(total)


def add_constants(
    sa: np.float32, za: int, sb: np.float32, zb: int, sy: np.float32, zy: int
) -> tuple[np.float32, np.float32, np.float32]:
    """ra, rb, c of QLinearAdd for scales and zero points of a, b and y."""
    ra, rb = F32(sa / sy), F32(sb / sy)
    return ra, rb, F32(F32(zy) - _fma(ra, F32(za), F32(rb * F32(zb))))


def _binary(r: Reading, n: Node) -> ir.Node:
    a, b, y = r.eight(n.inputs[0]), r.eight(n.inputs[3]), n.outputs[0]
    _same_elem(r, a, b, y)
    if a in r.graph.constants and b in r.graph.constants:
        raise Unfit("both operands are constant")
    shapes = [r.shape(i) if i not in r.graph.constants else r.graph.constants[i].shape for i in (a, b)]
    out = r.shape(y)
    if any(len(s) != len(out) for s in shapes):
        raise Unfit("its operands differ in rank")
    if len(out) > 4 and any(
        s not in (1, o) for s, o in zip((prod(v[2:-1]) for v in shapes), [prod(out[2:-1])] * 2, strict=True)
    ):
        raise Unfit("broadcast inside merged dimensions")
    qa, qb, qy = _quant(r, n, 1, 2), _quant(r, n, 4, 5), _quant(r, n, 6, 7)
    sa, sb, sy = F32(qa.scale), F32(qb.scale), F32(qy.scale)
    params: dict[str, float]
    if n.op == "QLinearAdd":
        ra, rb, c = add_constants(sa, qa.zero_point, sb, qb.zero_point, sy, qy.zero_point)
        params = {"ra": float(ra), "rb": float(rb), "c": float(c)}
    else:
        params = {"s": float(F32(F32(sa * sb) / sy))}
    for name, q in ((a, qa), (b, qb)):
        r.quant.setdefault(name, q)
        if name in r.graph.constants:
            r.constants[name] = r.graph.constants[name]
    r.quant[y] = qy
    return ir.Binary(
        name=n.name,
        op=n.op,
        a=a,
        b=b,
        y=y,
        kind="add" if n.op == "QLinearAdd" else "mul",
        a_zero_point=qa.zero_point,
        b_zero_point=qb.zero_point,
        y_zero_point=qy.zero_point,
        params=params,
        a_shape=ir.storage4(tuple(shapes[0])),
        b_shape=ir.storage4(tuple(shapes[1])),
        y_shape=ir.storage4(out),
    )


def _wide_add(r: Reading, n: Node) -> ir.Node:
    """y = a * a_times + b * b_times + offset, in whole numbers that float32 holds."""
    a, b, y = r.integers(n.inputs[0]), r.integers(n.inputs[1]), n.outputs[0]
    if not r.wide:
        raise Unfit(WIDE)
    shape = r.shape(y)
    if r.shape(a) != shape or r.shape(b) != shape:
        raise Unfit("its operands differ in shape")
    ra, rb, c = (int(r.scalar(i)) for i in n.inputs[2:5])
    if not 0 < ra < MOST_FACTOR or not 0 < rb < MOST_FACTOR or abs(c) >= 2**23:
        raise Unfit("its factors are no small whole numbers")
    four = ir.storage4(shape)
    params = {"ra": float(ra), "rb": float(rb), "c": float(c)}
    return ir.Binary(n.name, n.op, a, b, y, "add", 0, 0, 0, params, four, four, four)


def _wide_pool(r: Reading, n: Node) -> ir.Node:
    if not r.wide or r.graph.elem(n.inputs[0]) != S16:
        raise Unfit(WIDE)
    return _pool(r, n, "max", None)


def _window(r: Reading, n: Node, x: str) -> Window:
    shape = r.shape(x)
    if len(shape) not in (3, 4):
        raise Unfit(f"pool with {len(shape) - 2} spatial dimensions")
    return window(n, shape[2:], tuple(n.ints("kernel_shape", [])))


def _pool(r: Reading, n: Node, kind: str, quant: tuple[ir.Quant, ir.Quant] | None) -> ir.Node:
    x, y = r.integers(n.inputs[0]) if n.domain == functions.DOMAIN else r.activation(n.inputs[0]), n.outputs[0]
    _same_elem(r, x, y)
    win = _window(r, n, x)
    out = r.shape(y)
    if tuple(out[2:]) != win.out:
        raise Unfit(f"its output shape {out} is not the one of its window")
    end = tuple(max(t, 0) for t in win.tail)
    # QLinearAveragePool counts the whole kernel, the float operator not what ceil_mode lets overhang the pads.
    counted = tuple(max(e, t) for e, t in zip(win.end, win.tail, strict=True))
    qx, qy = quant or (ir.Quant(1.0, 0), ir.Quant(1.0, 0))
    if quant:
        r.quant[y] = qy
        r.quant.setdefault(x, qx)
    elif x in r.quant:
        r.quant[y] = r.quant[x]
    return ir.Pool(
        name=n.name,
        op=n.op,
        x=x,
        y=y,
        kind=kind,
        kernel=_pair(win.kernel, 1),
        strides=_pair(win.strides, 1),
        pads=_pads(win.begin, end),
        dilations=_pair(win.dilations, 1),
        x_shape=ir.storage4(r.shape(x)),
        y_shape=ir.storage4(out),
        count_include_pad=bool(n.integer("count_include_pad", 0)) and kind == "average",
        explicit_pads=_pads(win.begin, counted),
        x_scale=qx.scale,
        x_zero_point=qx.zero_point,
        y_scale=qy.scale,
        y_zero_point=qy.zero_point,
    )


def _max_pool(r: Reading, n: Node) -> ir.Node:
    if len([o for o in n.outputs if o]) > 1:
        raise Unfit("MaxPool with indices")
    return _pool(r, n, "max", None)


def _average_pool(r: Reading, n: Node) -> ir.Node:
    if n.integer("channels_last", 0):
        raise Unfit("channels-last pool")
    return _pool(r, n, "average", (_quant(r, n, 1, 2), _quant(r, n, 3, 4)))


def _global_average(r: Reading, n: Node) -> ir.Node:
    x, y = r.activation(n.inputs[0]), n.outputs[0]
    _same_elem(r, x, y)
    shape = r.shape(x)
    if n.integer("channels_last", 0) or len(shape) not in (3, 4):
        raise Unfit("global average over other axes than the last two")
    qx, qy = _quant(r, n, 1, 2), _quant(r, n, 3, 4)
    r.quant[y] = qy
    r.quant.setdefault(x, qx)
    count = prod(shape[2:])
    return ir.GlobalAverage(
        name=n.name,
        op=n.op,
        x=x,
        y=y,
        scale=float(F32(F32(qx.scale) / F32(F32(qy.scale) * F32(count)))),
        x_zero_point=qx.zero_point,
        y_zero_point=qy.zero_point,
        x_shape=ir.storage4(shape),
        y_shape=ir.storage4(r.shape(y)),
    )


def _argmax(r: Reading, n: Node) -> ir.Node:
    x, y = r.activation(n.inputs[0]), n.outputs[0]
    shape = r.shape(x)
    axis = n.integer("axis", 0) % len(shape)
    dims = (prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))
    return ir.ArgMax(n.name, n.op, x, y, dims, bool(n.integer("select_last_index", 0)))


RULES: dict[tuple[str, str], Callable[[Reading, Node], ir.Node]] = {
    ("", "ConvInteger"): _integer,
    ("", "MatMulInteger"): _integer,
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): lambda r, n: _matrix(r, n, 0, 6),
    (MS, "QGemm"): lambda r, n: _matrix(r, n, 6, 7),
    (MS, "QLinearAdd"): _binary,
    (MS, "QLinearMul"): _binary,
    ("", "MaxPool"): _max_pool,
    (MS, "QLinearAveragePool"): _average_pool,
    (MS, "QLinearGlobalAveragePool"): _global_average,
    ("", "ArgMax"): _argmax,
}

__all__ = ["DTYPE", "U8", "read", "table"]
