"""The other layers as engines: pools, averages, element-wise operators, tables, movements, arg max."""

from __future__ import annotations

import struct
from functools import partial
from math import gcd

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import ArgMax, Binary, DType, GlobalAverage, Graph, Move, Pool, Shape4, Table, storage4
from compiler.isa.stream.ports import value_range
from compiler.isa.stream.table import CONSTANT, MAX_DIMS, MAX_INPUTS, ONE_CHANNEL, ONE_POSITION
from compiler.isa.table import MODE_FIXED
from compiler.ops import binary, global_average
from compiler.ops.stream.buffer import frame_buffer
from compiler.ops.stream.conv import input_range, pad, window
from compiler.ops.stream.images import by_image
from compiler.ops.stream.parts import (
    Constant,
    Element,
    End,
    Engine,
    Fold,
    element,
    fewest_lanes,
    narrow,
    refuse,
    signed_bits,
    view,
    x_fields,
    y_fields,
)
from compiler.requant import pack_vreq


def _clamp(graph: Graph, name: str) -> dict[str, int]:
    """The clamp of a result: its type's, and no wider than the levels that it is known to have."""
    lo, hi = graph.tensors[name].dtype.range
    y = element(graph.tensors[name])
    low, high = value_range(y.bits, y.signed)
    return {"lo": max(lo, low), "hi": min(hi, high)}


def _alike(graph: Graph, x: str, y: str, pe: int, pixels: int, channels: int) -> dict[str, int]:
    f = {"pe": pe, **x_fields(element(graph.tensors[x])), **y_fields(element(graph.tensors[y]))}
    return f | {"pixels": pixels, "channels": channels}


def lower_pool(graph: Graph, node: Pool, fold: Fold) -> Engine:
    """Padding with what takes no part (the least value; the zero point), window, pool."""
    engine = Engine()
    x = element(graph.tensors[node.x])
    n, channels, height, width = node.x_shape
    average = node.kind == "average"
    fill = node.x_zero_point if average else input_range(graph, node.x)[0]
    at: End | None = None
    image = (height, width)
    if any(node.pads):
        at = pad(engine, at, channels, image, node.pads, fill, x, fold.pe, n - 1)
        image = (height + node.pads[0] + node.pads[2], width + node.pads[1] + node.pads[3])
    out, taps = (node.y_shape[2], node.y_shape[3]), node.kernel[0] * node.kernel[1]
    if taps > 1 or node.strides != (1, 1):
        at = window(engine, at, channels, fold.pe, image, node.kernel, node.strides, node.dilations, out, x, fold.pe,
                    fold.pe, n - 1)  # fmt: skip
    f = _alike(graph, node.x, node.y, fold.pe, out[0] * out[1], channels) | {"taps": taps, "kind": int(average)}
    y = element(graph.tensors[node.y])
    low, high = value_range(y.bits, y.signed)
    f |= {"lo": low, "hi": high, "more": n - 1}
    slots: dict[int, tuple[str, Constant]] = {}
    if average:
        slots = {
            0: (f"{node.name}.entry", lambda: average_entry(node)),
            1: (f"{node.name}.divisors", lambda: divisors_of(node)),
        }
    engine.output = engine.after(engine.unit("POOL", f, slots), at)
    return engine


def average_entry(node: Pool) -> bytes:
    """The VPOOL entry: scales and zero points."""
    return struct.pack("<ffhh4x", node.x_scale, node.y_scale, node.x_zero_point, node.y_zero_point)


def divisors_of(node: Pool) -> bytes:
    """uint16 a position: taps in the region that the divisor counts."""
    t, left, b, r = node.explicit_pads if node.count_include_pad else (0, 0, 0, 0)
    counts = []
    for k, (low, high) in enumerate(((t, b), (left, r))):
        start = np.arange(node.y_shape[2 + k])[:, None] * node.strides[k] - node.pads[k]
        tap = start + np.arange(node.kernel[k]) * node.dilations[k]
        counts.append(((tap >= -low) & (tap < node.x_shape[2 + k] + high)).sum(axis=1))
    return bytes(np.maximum(np.multiply.outer(*counts), 1).astype("<u2").tobytes())


def lower_global(graph: Graph, node: GlobalAverage, fold: Fold) -> Engine:
    """Sums of each channel, then the proved requantiser."""
    engine = Engine()
    low, high = input_range(graph, node.x)
    n, channels, pixels = node.x_shape[0], node.x_shape[1], node.x_shape[2] * node.x_shape[3]
    clamp = _clamp(graph, node.y)
    lo, hi = (0, 255) if graph.tensors[node.y].dtype == DType.U8 else (-128, 127)
    x_lo, x_hi = (0, 255) if graph.tensors[node.x].dtype == DType.U8 else (-128, 127)
    acc = Element(signed_bits(pixels * (low - node.x_zero_point), pixels * (high - node.x_zero_point)), True)
    f = {"pe": fold.pe, **x_fields(element(graph.tensors[node.x])), **y_fields(acc)}
    f |= {"pixels": pixels, "channels": channels, "bias": int(node.x_zero_point != 0), "more": n - 1}
    bias = np.full(channels, -node.x_zero_point * pixels, "<i4")
    slots: dict[int, tuple[str, Constant]] = {0: (f"{node.name}.bias", lambda: bias.tobytes())} if f["bias"] else {}
    at = engine.after(engine.unit("SUM", f, slots), None)
    lanes = fewest_lanes(fold.pe, channels, pixels * channels // fold.pe)
    at = narrow(engine, at, fold.pe, lanes, n * channels, acc)
    g = {"pe": lanes, "x_bits": acc.bits, "x_signed": 1, **y_fields(element(graph.tensors[node.y]))}
    g |= {"pixels": n, "channels": channels, "zero_point": node.y_zero_point, **clamp}

    def entries() -> bytes:
        return pack_vreq(global_average.requant_plan(node, x_lo, x_hi, lo, hi)) * channels

    engine.notes["proof"] = lambda: global_average.requant_plan(node, x_lo, x_hi, lo, hi).proof()
    engine.output = engine.after(engine.unit("REQ", g, {0: (f"{node.name}.requantiser", entries)}), at)
    return engine


def images_apart(graph: Graph, node: Binary) -> bool:
    """Whether each image has operands of its own, or constants that are those of all; else a frame is one image."""
    y, sides = node.y_shape, ((node.a, node.a_shape), (node.b, node.b_shape))
    own = all(s[0] == (1 if name in graph.constants else y[0]) for name, s in sides)
    return own and all(s[2:] in (y[2:], (1, 1)) for _, s in sides)


def operand_shape(node: Binary, shape: Shape4, apart: bool) -> int:
    """How an operand is spread over the output, over each image of it if they are `apart`: bits of BIN's a_shape."""
    y = node.y_shape if not apart else (1, *node.y_shape[1:])
    own = shape if not apart else (1, *shape[1:])
    positions, channels = own[0] * own[2] * own[3], own[1]
    out = 0
    if channels == 1 and y[1] > 1:
        out |= ONE_CHANNEL
    if positions == 1 and y[0] * y[2] * y[3] > 1:
        out |= ONE_POSITION
    elif own[0] != y[0] or own[2:] != y[2:]:
        raise refuse(node.name, node.op, f"an operand of shape {list(shape)} is spread over rows or columns alone")
    return out


def stream_order(values: NDArray[np.generic], shape: Shape4) -> bytes:
    """Constant bytes in the order n, h, w, c."""
    data: bytes = np.ascontiguousarray(np.asarray(values).reshape(shape).transpose(0, 2, 3, 1)).tobytes()
    return data


def lower_binary(graph: Graph, node: Binary, fold: Fold) -> Engine:
    """One unit; a constant operand stands in its memory."""
    engine = Engine()
    if DType.S16 in (graph.tensors[name].dtype for name in (node.a, node.b, node.y)):
        return _wide_sum(graph, node, fold)
    y = node.y_shape
    apart = images_apart(graph, node)
    n = y[0] if apart else 1
    f = _alike(graph, node.a, node.y, fold.pe, y[0] * y[2] * y[3] // n, y[1]) | _clamp(graph, node.y)
    f |= {"kind": int(node.kind == "mul"), "x_bits": 8, "more": n - 1}
    f["b_signed"] = int(graph.tensors[node.b].dtype == DType.S8)
    f["x_signed"] = int(graph.tensors[node.a].dtype == DType.S8)
    slots: dict[int, tuple[str, Constant]] = {0: (f"{node.name}.entry", lambda: binary.entry(graph, node).data)}
    engine.notes["proof"] = lambda: binary.entry(graph, node).proof
    streams = []
    for k, (name, shape) in enumerate(((node.a, node.a_shape), (node.b, node.b_shape))):
        side = "ab"[k]
        f[f"{side}_shape"] = operand_shape(node, shape, apart)
        if name in graph.constants:
            f[f"{side}_shape"] |= CONSTANT
            slots[k + 1] = (name, partial(stream_order, graph.constants[name], shape))
        else:
            streams.append(name)
    unit = engine.unit("BIN", f, slots)
    engine.inputs = [(unit, p) for p in range(len(streams))]
    engine.output = (unit, 0)
    return engine


def _wide_sum(graph: Graph, node: Binary, fold: Fold) -> Engine:
    """A sum of whole multiples: the fixed form without a shift. Both operands come in the bits of the wider one."""
    engine = Engine()
    y = node.y_shape
    a, b = (element(graph.tensors[name]) for name in (node.a, node.b))
    f = _alike(graph, node.a, node.y, fold.pe, y[0] * y[2] * y[3], y[1]) | _clamp(graph, node.y)
    f |= {"x_bits": max(a.bits, b.bits), "b_signed": int(b.signed)}
    given = (int(node.params[k]) for k in ("ra", "rb", "c"))
    data = struct.pack("<BBhhhiiq8x", MODE_FIXED, 0, 0, 0, 0, *given)
    unit = engine.unit("BIN", f, {0: (f"{node.name}.entry", lambda: data)})
    engine.inputs, engine.output = [(unit, 0), (unit, 1)], (unit, 0)
    return engine


def lower_table(graph: Graph, node: Table, fold: Fold) -> Engine:
    """Any byte may come, so the input is taken as eight bits; the result is as narrow as its levels."""
    engine = Engine()
    s = node.shape
    f = _alike(graph, node.x, node.y, fold.pe, s[0] * s[2] * s[3], s[1])
    f |= {"x_bits": 8, "x_signed": int(graph.tensors[node.x].dtype == DType.S8), "tables": len(node.table)}
    table = (f"{node.name}.table", lambda: np.ascontiguousarray(node.table).tobytes())
    engine.output = engine.after(engine.unit("TAB", f, {0: table}), None)
    return engine


def channel_concat(graph: Graph, node: Move) -> list[tuple[int, NDArray[np.generic] | None]] | None:
    """[(source, table)] by channel if the copies are a concatenation of whole inputs along the channels, image by
    image."""
    whole_shapes = [view(graph, name) for name in node.xs]
    _, shapes, out, copies = by_image(whole_shapes, view(graph, node.y), node.copies)
    parts: list[tuple[int, int, NDArray[np.generic] | None]] = []
    plane = out[2] * out[3]
    for c in copies:
        shape = shapes[c.source]
        size = int(np.prod(shape))
        alike = shape[2] * shape[3] == plane  # rows and columns may be seen otherwise: positions follow one another
        if shape[0] != 1 or out[0] != 1 or not alike or c.src_offset or c.dst_offset % plane:
            return None
        if int(np.prod(c.dims)) != size:
            return None
        expected = size
        for d, s, t in zip(c.dims, c.src_strides, c.dst_strides, strict=True):
            if d == 1:
                continue
            expected //= d
            if s != expected or t != expected:
                return None
        parts.append((c.dst_offset // plane, c.source, c.table))
    parts.sort(key=lambda p: p[0])
    sizes = [view(graph, node.xs[s])[1] for _, s, _ in parts]
    starts = [sum(sizes[:k]) for k in range(len(sizes))]
    whole = [p[0] for p in parts] == starts and sum(sizes) == out[1] and len({p[1] for p in parts}) == len(node.xs)
    return [(s, t) for _, s, t in parts] if whole and len(parts) == len(node.xs) <= MAX_INPUTS else None


def move_granule(graph: Graph, node: Move) -> int:
    """What the lanes of a movement must divide."""
    sources = [x for x in node.xs if x not in graph.constants]
    if channel_concat(graph, node) is not None and len(sources) == len(node.xs):
        return gcd(*(view(graph, x)[1] for x in node.xs))
    return gcd(view(graph, node.y)[1], *(view(graph, x)[1] for x in sources))


def lower_move(graph: Graph, node: Move, fold: Fold) -> Engine:
    """Concatenation of channels as it is; any other movement through frame buffers."""
    engine = Engine()
    if any(x in graph.constants for x in node.xs):
        raise refuse(node.name, node.op, "it moves a constant")
    x = element(graph.tensors[node.y])  # as wide as its widest input: narrower ones are widened on arrival
    out = view(graph, node.y)
    parts = channel_concat(graph, node)
    if parts is not None and len(node.xs) > 1:
        ports: dict[int, End] = {}
        y = element(graph.tensors[node.y])
        pixels = out[0] * out[2] * out[3]
        f = {"pe": fold.pe, **x_fields(y), "pixels": pixels, "inputs": len(parts)}
        f |= {f"c{k}": view(graph, node.xs[s])[1] for k, (s, _) in enumerate(parts)}
        cat = engine.unit("CAT", f)
        for k, (source, table) in enumerate(parts):
            ports[source] = (cat, k)
            if table is not None:
                channels = view(graph, node.xs[source])[1]
                raw = Element(8, graph.tensors[node.y].dtype == DType.S8)
                g = {"pe": fold.pe, **x_fields(raw), **y_fields(y), "pixels": pixels, "channels": channels}
                data = partial(bytes, np.ascontiguousarray(table).tobytes())
                unit = engine.unit("TAB", g | {"tables": 1}, {0: (f"{node.name}.table{k}", data)})
                engine.streams.append(((unit, 0), (cat, k)))
                ports[source] = (unit, 0)
        engine.inputs = [ports[k] for k in range(len(node.xs))]
        engine.output = (cat, 0)
        return engine
    if len(node.xs) > MAX_INPUTS or any(len(c.dims) > MAX_DIMS for c in node.copies):
        raise refuse(node.name, node.op, f"it has more than {MAX_INPUTS} inputs or {MAX_DIMS} dimensions")
    kind = graph.tensors[node.y].dtype.numpy
    fill = int(np.array([node.fill or 0], f"u{kind.itemsize}").view(kind)[0])
    shapes = [view(graph, name) for name in node.xs]
    engine.output = frame_buffer(engine, [None] * len(shapes), shapes, out, node.copies, fill, x, fold.pe, node.name)
    return engine


def lower_argmax(graph: Graph, node: ArgMax, fold: Fold) -> Engine:
    """Along the channels, where the results then follow one another as the output's elements do."""
    engine = Engine()
    shape, out = view(graph, node.x), storage4(graph.tensors[node.y].shape)
    outer, axis, inner = node.dims
    if axis != shape[1] or outer != shape[0] or inner != shape[2] * shape[3]:
        raise refuse(node.name, node.op, "it does not run along the channels")
    if out[1] != 1 and out[2] * out[3] != 1:
        raise refuse(node.name, node.op, "its result has another order than the stream")
    f = {"pe": fold.pe, **x_fields(element(graph.tensors[node.x])), "pixels": outer * inner, "channels": axis}
    engine.output = engine.after(engine.unit("ARG", f | {"last": int(node.select_last)}), None)
    return engine
