"""The layers without a matrix as units: pools, averages, element-wise operators, tables, movements, arg max."""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod

import numpy as np

from compiler.ir.graph import ArgMax, Binary, Copy, DType, GlobalAverage, Move, Pool, Shape4, Table, storage4
from compiler.isa.stream.table import CONSTANT, MAX_DIMS, MAX_INPUTS, ONE_CHANNEL, ONE_POSITION
from compiler.partition.check.stream.matrix import frame_fields, groups_of, pad, window
from compiler.partition.check.stream.pieces import Model
from compiler.partition.check.stream.words import (
    Element,
    Engine,
    Flow,
    Illegal,
    Want,
    Word,
    fewest_lanes,
    range_bits,
    typed,
)

BYTE = 8
Simple = Pool | GlobalAverage | Binary | Table | Move | ArgMax


def lanes_of(model: Model, node: Simple) -> int:
    """What the lanes must divide: the channels of a position; of a movement those of all that it reads and makes."""
    if isinstance(node, Binary):
        return node.y_shape[1]
    if not isinstance(node, Move):
        return model.view(node.x)[1]
    sources = [name for name in node.xs if name not in model.graph.constants]
    channels = [model.view(name)[1] for name in sources]
    if len(sources) == len(node.xs) and side_by_side(model, node) is not None:
        return gcd(*channels)
    return gcd(model.view(node.y)[1], *channels)


def build(model: Model, node: Simple, pe: int) -> Engine:
    """The units of a layer. Raises Illegal."""
    e = Engine()
    if isinstance(node, Pool):
        e.gives = _pool(model, e, node, pe)
    elif isinstance(node, GlobalAverage):
        e.gives = _average(model, e, node, pe)
    elif isinstance(node, Binary):
        e.gives = _binary(model, e, node, pe)
    elif isinstance(node, Table):
        e.gives = _table(model, e, node, pe)
    elif isinstance(node, Move):
        e.gives = _move(model, e, node, pe)
    else:
        e.gives = _arg(model, e, node, pe)
    return e


def _input(model: Model, number: int, name: str, lanes: int) -> Want:
    return Want(number, Word(lanes, model.element(name), model.elements(name)))


def _pool(model: Model, e: Engine, node: Pool, pe: int) -> Flow:
    images, channels, height, width = node.x_shape
    at: Flow | Want = _input(model, 0, node.x, pe)
    image, out, taps = (height, width), (node.y_shape[2], node.y_shape[3]), prod(node.kernel)
    if any(node.pads):
        at, image = pad(e, at, images, channels, image, node.pads)
    if taps > 1 or node.strides != (1, 1):
        at = window(e, at, images, channels, pe, image, node.kernel, node.strides, node.dilations, out, pe)
    x, y = model.element(node.x), model.element(node.y)
    f = {"pe": pe, **typed("x", x), **typed("y", y), "pixels": prod(out), "channels": channels, "taps": taps}
    f |= {"kind": int(node.kind == "average"), "more": images - 1}
    return e.put("POOL", f, Word(pe, y, images * prod(out) * channels), at)


def _average(model: Model, e: Engine, node: GlobalAverage, pe: int) -> Flow:
    images, channels, height, width = node.x_shape
    x, y, pixels = model.element(node.x), model.element(node.y), height * width
    low, high = (pixels * (v - node.x_zero_point) for v in model.values(node.x))
    acc = Element(range_bits(low, high), True)
    f = {"pe": pe, **typed("x", x), **typed("y", acc), "pixels": pixels, "channels": channels}
    f |= {"bias": int(node.x_zero_point != 0), "more": images - 1}
    total = e.put("SUM", f, Word(pe, acc, images * channels), _input(model, 0, node.x, pe))
    lanes = fewest_lanes(pe, channels, pixels * channels // pe)
    g = {"pe": lanes, **typed("x", acc), **typed("y", y), "pixels": images, "channels": channels}
    out = Word(lanes, y, images * channels)
    return e.put("REQ", g | {"zero_point": node.y_zero_point}, out, e.convert(total, lanes))


def _binary(model: Model, e: Engine, node: Binary, pe: int) -> Flow:
    images, channels, height, width = node.y_shape
    pixels, y = images * height * width, model.element(node.y)
    if DType.S16 in (model.graph.tensors[t].dtype for t in (node.a, node.b, node.y)):
        return _wide_sum(model, e, node, pe)
    sides = (("a", node.a, node.a_shape), ("b", node.b, node.b_shape))
    # Images are apart where each has its own of every stream, and constants are those of one.
    one = all(
        shape[0] == (1 if name in model.graph.constants else images) and shape[2:] in ((height, width), (1, 1))
        for _, name, shape in sides
    )
    count = images if one else 1
    f = {"pe": pe, **typed("y", y), "pixels": pixels // count, "channels": channels, "kind": int(node.kind == "mul")}
    f["more"] = count - 1
    f |= {"x_bits": BYTE, "x_signed": int(model.graph.tensors[node.a].dtype == DType.S8)}
    f["b_signed"] = int(model.graph.tensors[node.b].dtype == DType.S8)
    streams: list[Want] = []
    for side, name, shape in sides:
        spread = _spread((1, *shape[1:]), (1, *node.y_shape[1:])) if one else _spread(shape, node.y_shape)
        if name in model.graph.constants:
            spread |= CONSTANT
        else:
            lanes = 1 if spread & ONE_CHANNEL else pe
            streams.append(Want(len(streams), Word(lanes, model.element(name), prod(shape))))
        f[f"{side}_shape"] = spread
    return e.put("BIN", f, Word(pe, y, pixels * channels), *streams)


def _wide_sum(model: Model, e: Engine, node: Binary, pe: int) -> Flow:
    """Two streams of one shape, both in the bits of the wider."""
    a, b, y, elements = *(model.element(t) for t in (node.a, node.b, node.y)), model.elements(node.y)
    f = {"pe": pe, **typed("y", y), "pixels": elements // node.y_shape[1], "channels": node.y_shape[1], "kind": 0}
    f |= {"x_bits": max(a.bits, b.bits), "x_signed": int(a.signed), "b_signed": int(b.signed)}
    f |= {"a_shape": 0, "b_shape": 0}
    reads = [Want(k, Word(pe, x, elements)) for k, x in enumerate((a, b))]
    return e.put("BIN", f, Word(pe, y, elements), *reads)


def _spread(shape: Shape4, out: Shape4) -> int:
    """How an operand is spread over the result: over channels, over positions, over both."""
    flags = ONE_CHANNEL if shape[1] == 1 < out[1] else 0
    positions, every = shape[0] * shape[2] * shape[3], out[0] * out[2] * out[3]
    if positions == 1 < every:
        return flags | ONE_POSITION
    if (shape[0], *shape[2:]) != (out[0], *out[2:]):
        raise Illegal(f"an operand of shape {list(shape)} is spread over rows or columns alone")
    return flags


def _table(model: Model, e: Engine, node: Table, pe: int) -> Flow:
    """Any byte may come, so it takes eight bits."""
    images, channels, height, width = node.shape
    y = model.element(node.y)
    f = {"pe": pe, "x_bits": BYTE, "x_signed": int(model.graph.tensors[node.x].dtype == DType.S8), **typed("y", y)}
    f |= {"pixels": images * height * width, "channels": channels, "tables": len(node.table)}
    return e.put("TAB", f, Word(pe, y, prod(node.shape)), _input(model, 0, node.x, pe))


def side_by_side(model: Model, node: Move) -> list[Copy] | None:
    """The copies of a movement by the result's channels, if it puts whole inputs side by side along them."""
    images, channels, *plane = model.view(node.y)
    own = sorted(node.copies, key=lambda c: c.dst_offset // prod(plane))
    if len(own) > MAX_INPUTS or sorted(c.source for c in own) != list(range(len(node.xs))):
        return None
    start = 0
    for c in own:
        n, depth, *size = model.view(node.xs[c.source])
        block = depth * prod(plane)  # of an image
        whole = n == images and prod(size) == prod(plane) and prod(c.dims) == n * block and c.src_offset == 0
        dense = _runs(c.dims, c.src_strides, block, block) and _runs(
            c.dims, c.dst_strides, block, channels * prod(plane)
        )
        if not whole or not dense or c.dst_offset != start * prod(plane):
            return None
        start += depth
    return own if start == channels else None


def _runs(dims: tuple[int, ...], strides: tuple[int, ...], block: int, apart: int) -> bool:
    """Whether a copy's elements are whole blocks, each in its order, one every `apart` elements."""
    at = np.zeros(1, np.int64)
    for size, stride in zip(dims, strides, strict=True):
        at = (at[:, None] + np.arange(size, dtype=np.int64) * stride).reshape(-1)
    k = np.arange(len(at), dtype=np.int64)
    return bool((at == k // block * apart + k % block).all())


def apart(model: Model, node: Move) -> int:
    """Images that a movement keeps apart, doing the same with each; 1 where there are none."""
    images = model.view(node.y)[0]
    if images == 1 or any(model.view(name)[0] != images for name in node.xs):
        return 1
    made = model.elements(node.y) // images
    for c in node.copies:
        read = model.elements(node.xs[c.source]) // images
        if _of_an_image(c, images, read, made) is None:
            return 1
    return images


def _of_an_image(c: Copy, images: int, read: int, made: int) -> tuple[int, ...] | None:
    """Sizes of a copy's dimensions within an image, if one of them, or its outer part, goes from image to image, and
    the others stay within one."""
    for d in range(len(c.dims)):
        inner, rest = divmod(c.dims[d], images)
        if rest or c.src_strides[d] * inner != read or c.dst_strides[d] * inner != made:
            continue
        dims = (*c.dims[:d], inner, *c.dims[d + 1 :])
        ends = ((c.src_offset, c.src_strides, read), (c.dst_offset, c.dst_strides, made))
        if all(_stays(dims, *end) for end in ends):
            return dims
    return None


def _stays(dims: tuple[int, ...], offset: int, strides: tuple[int, ...], size: int) -> bool:
    """Whether a copy's elements are among the first `size`."""
    reach = [(n - 1) * s for n, s in zip(dims, strides, strict=True)]
    return offset + sum(r for r in reach if r < 0) >= 0 and offset + sum(r for r in reach if r > 0) < size


def _parts(model: Model, node: Move) -> int:
    """Images, or equal groups of rows of them, of which a movement makes each from the same ones of what it reads."""
    images = apart(model, node)
    shapes, made = [model.view(name) for name in node.xs], model.view(node.y)
    if images != made[0] or any(s[0] != images for s in shapes):
        return images
    copies = []
    for c in node.copies:
        dims = c.dims
        if images > 1:
            within = _of_an_image(c, images, prod(shapes[c.source]) // images, prod(made) // images)
            assert within is not None
            dims = within
        copies.append(replace(c, dims=dims))
    return images * groups_of(images, shapes, made, copies)


def _move(model: Model, e: Engine, node: Move, pe: int) -> Flow:
    if any(name in model.graph.constants for name in node.xs):
        raise Illegal("it moves a constant")
    y, elements = model.element(node.y), model.elements(node.y)
    beside = side_by_side(model, node) if len(node.xs) > 1 else None
    if beside is None:
        if len(node.xs) > MAX_INPUTS or any(len(c.dims) > MAX_DIMS for c in node.copies):
            raise Illegal(f"more than {MAX_INPUTS} inputs or {MAX_DIMS} dimensions")
        sizes = [model.elements(name) for name in node.xs]
        reads = [_input(model, k, name, pe) for k, name in enumerate(node.xs)]
        f = frame_fields(sizes, elements, len(node.copies), pe, y, _parts(model, node))
        return e.put("BUF", f, Word(pe, y, elements), *reads)
    channels = [model.view(node.xs[c.source])[1] for c in beside]
    pixels = elements // sum(channels)
    streams: list[Flow | Want] = []
    for c, own in zip(beside, channels, strict=True):
        at: Flow | Want = _input(model, c.source, node.xs[c.source], pe)
        if c.table is not None:
            f = {"pe": pe, "x_bits": BYTE, "x_signed": int(model.graph.tensors[node.y].dtype == DType.S8)}
            f |= {**typed("y", y), "pixels": pixels, "channels": own, "tables": 1}
            at = e.put("TAB", f, Word(pe, y, pixels * own), at)
        streams.append(at)
    f = {"pe": pe, **typed("x", y), "pixels": pixels, "inputs": len(streams)}
    f |= {f"c{k}": own for k, own in enumerate(channels)}
    return e.put("CAT", f, Word(pe, y, elements), *streams)


def _arg(model: Model, e: Engine, node: ArgMax, pe: int) -> Flow:
    images, channels, height, width = model.view(node.x)
    outer, axis, inner = node.dims
    if (outer, axis, inner) != (images, channels, height * width):
        raise Illegal("it does not run along the channels")
    _, depth, *plane = storage4(model.graph.tensors[node.y].shape)
    if depth > 1 and prod(plane) > 1:
        raise Illegal("its result has another order than the stream")
    f = {"pe": pe, **typed("x", model.element(node.x)), "pixels": outer * inner, "channels": channels}
    f["last"] = int(node.select_last)
    return e.put("ARG", f, Word(1, Element(64, True), outer * inner), _input(model, 0, node.x, pe))
