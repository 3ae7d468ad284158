"""Convolutions and matrix products, whole or a block of one, and the joins of blocks, as units.

acc = bias + sum (x - zx)(w - zw): the unit multiplies x as it comes with w - zw and starts from bias - zx sum(w - zw).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Conv, Copy, DType, Shape4
from compiler.isa.stream.table import BRAM, DRAM, HLS, LUTRAM, MAX_INPUTS, MEMORIES, RTL, URAM, VARIANTS
from compiler.partition.check.stream.pieces import JOIN, PART, Model, Piece
from compiler.partition.check.stream.steps import are_shifts
from compiler.partition.check.stream.windows import Windows, held_words, turn_cycles
from compiler.partition.check.stream.words import (
    Element,
    Engine,
    Flow,
    Fold,
    Illegal,
    Want,
    Word,
    divides,
    divisors,
    fewest_lanes,
    range_bits,
    typed,
)

MOST_STEPS = 255  # that stand as thresholds at once
STORED = (0, 1, 2, 3)  # axes of an operator whose order is that of its tensors
RTL_BITS = (2, 8)
LUTRAM_WORDS, BRAM_WORDS, URAM_WORDS = 256, 33, 1024  # most, least, least
PORT_BITS = 1024
LINE_LUTRAM_BITS = 1 << 14
FRAME_LUTRAM_BITS, FRAME_URAM_BITS = 1 << 15, 1 << 21
MOST_PARTS = 1 << 16  # of a frame
INT32 = np.iinfo(np.int32)
SUMS = Element(32, True)


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A piece's part of the matrix: rows, columns a group, kernel, groups; w - zw by its sums a row, int64[rows]."""

    rows: int
    depth: int
    kernel: tuple[int, int]
    groups: int
    w_bits: int
    plus: NDArray[np.int64]
    minus: NDArray[np.int64]
    bias: NDArray[np.int64]

    @property
    def taps(self) -> int:
        """Columns of a group's matrix."""
        return self.depth * prod(self.kernel)

    @property
    def size(self) -> int:
        return self.rows * self.taps

    @property
    def depthwise(self) -> bool:
        """A row a channel."""
        return self.groups > 1 and (self.rows, self.depth) == (self.groups, 1)


@lru_cache(maxsize=4096)
def block_of(node: Conv, rows: tuple[int, int], columns: tuple[int, int]) -> Block:
    """columns: of the whole matrix; a grouped layer's groups keep all of theirs, and biases go to the first block."""
    grouped = node.groups > 1
    w = node.weight[rows[0] : rows[1]] if grouped else node.weight[rows[0] : rows[1], columns[0] : columns[1]]
    w = w.astype(np.int32) - node.weight_zero_point
    m, n, kh, kw = w.shape
    low, high = int(w.min()), int(w.max())
    bits = 1 if (low, high) == (-1, 1) and bool(w.all()) else max(2, range_bits(low, high))
    plus = np.maximum(w, 0).reshape(m, -1).sum(axis=1, dtype=np.int64)
    minus = np.minimum(w, 0).reshape(m, -1).sum(axis=1, dtype=np.int64)
    bias = node.bias[rows[0] : rows[1]].astype(np.int64) if grouped or columns[0] == 0 else np.zeros(m, np.int64)
    groups = m // (node.weight.shape[0] // node.groups) if grouped else 1
    return Block(m, n, (kh, kw), groups, bits, plus, minus, bias)


def sums(node: Conv, b: Block, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least and greatest accumulator by row over every input in low..high and the padding, which is the zero point."""
    under, over = min(low - node.x_zero_point, 0), max(high - node.x_zero_point, 0)
    return b.bias + b.plus * under + b.minus * over, b.bias + b.plus * over + b.minus * under


def sum_bits(node: Conv, b: Block, low: int, high: int) -> int:
    """Bits of the accumulators."""
    of_rows = sums(node, b, low, high)
    least, most = int(of_rows[0].min()), int(of_rows[1].max())
    if (least < INT32.min or most > INT32.max) and not node.wide:
        return 32  # it wraps
    return max(2, range_bits(least, most))


def whole_image(node: Conv, b: Block) -> bool:
    """The one window is the image in its own order, so that no window unit is needed."""
    same = b.kernel == node.x_shape[2:] and node.y_shape[2:] == (1, 1)
    return same and b.groups == 1 and not any(node.pads)


def check_fold(model: Model, p: Piece, fold: Fold) -> None:
    """Raises Illegal for a fold, variant or memory that the piece cannot have."""
    node = p.node
    assert isinstance(node, Conv)
    if p.kind == JOIN:
        divides(fold.pe, gcd(*p.blocks), "PE")
        if (fold.simd, fold.variant, fold.memory) != (1, VARIANTS[HLS], MEMORIES[LUTRAM]):
            raise Illegal(f"a join with SIMD {fold.simd}, variant {fold.variant}, memory {fold.memory}")
        return
    b = block_of(node, p.rows, p.columns)
    divides(fold.pe, b.rows if b.depthwise else b.rows // b.groups, "PE")
    if b.depthwise:
        if fold.simd not in (1, b.taps):
            raise Illegal(f"SIMD {fold.simd} is neither 1 nor the {b.taps} taps of a depthwise layer")
    elif whole_image(node, b):
        divides(fold.simd, b.taps, "SIMD")
    elif fold.simd != b.taps or b.kernel == (1, 1):
        divides(fold.simd, b.depth, "SIMD")
    bits = b.w_bits, model.element(node.x).bits
    if fold.variant == VARIANTS[RTL] and (b.depthwise or min(bits) < RTL_BITS[0] or max(bits) > RTL_BITS[1]):
        raise Illegal(f"no RTL unit for a layer with operands of {bits[0]} and {bits[1]} bits")
    words, width = b.size // (fold.pe * fold.simd), fold.pe * fold.simd * b.w_bits
    deep = {"lutram": words <= LUTRAM_WORDS, "bram": words >= BRAM_WORDS, "uram": words >= URAM_WORDS}
    if not deep.get(fold.memory, width <= PORT_BITS):
        raise Illegal(f"{words} words of {width} weight bits do not stand in {fold.memory}")


def build(model: Model, p: Piece, fold: Fold) -> Engine:
    """The units of a layer or part. Raises Illegal."""
    node = p.node
    assert isinstance(node, Conv)
    if p.kind == JOIN:
        return _join(model, p, fold)
    e = Engine()
    b, part = block_of(node, p.rows, p.columns), p.kind == PART
    images, channels, height, width = node.x_shape[0], p.columns[1] - p.columns[0], *node.x_shape[2:]
    moves = (b.kernel != (1, 1) or node.strides != (1, 1) or any(node.pads)) and not whole_image(node, b)
    x, of = model.element(node.x), node.x_shape[1]
    pixels = images * node.y_shape[2] * node.y_shape[3]
    lanes = fold.pe if b.depthwise else min(fold.simd, b.depth) if moves else fold.simd
    crops = part and channels != of
    through = lanes
    if crops:
        through = _through(p.columns[0], channels, of, lanes, images * height * width, b.size * pixels, fold)
    at: Flow | Want = Want(0, Word(through, x, model.elements(node.x)))
    if node.axes != STORED:
        own = gcd(through, model.view(node.x)[1])
        at = _reorder(e, Want(0, Word(own, x, model.elements(node.x))), model.view(node.x), node.axes)
        at = e.convert(at, through)
    if crops:
        f = {"pe": through, **typed("x", x), "channels": of, "in_h": height, "in_w": width, "more": images - 1}
        f |= {"oh": height, "ow": width, "sh": 1, "sw": 1, "first": p.columns[0], "kept": channels}
        at = e.put("CROP", f, Word(through, x, images * height * width * channels), at)
        at = e.convert(at, lanes)
    if moves:
        at = _windows(e, at, node, channels, b, fold)
    acc = Element(sum_bits(node, b, *model.values(node.x)), True)
    at = _matrix(e, at, node, b, fold, x, acc, pixels)
    if not p.sums and model.graph.tensors[node.y].dtype not in (DType.I32, DType.I64):
        at = _activation(model, e, at, p, pixels, b.rows)
    if node.axes != STORED and not part:
        at = _restore(model, e, at, p)
    e.gives = at
    return e


def _through(first: int, channels: int, of: int, lanes: int, positions: int, macs: int, fold: Fold) -> int:
    """Lanes of the CROP that keeps a part's channels: as few as pass the image in three quarters of the part's time."""
    fits = [d for d in divisors(gcd(first, channels, of)) if d % lanes == 0 or lanes % d == 0]
    cycles = macs // (fold.pe * fold.simd)
    return next((d for d in fits if 4 * (positions * of // d) <= 3 * cycles), fits[-1])


def _reorder(e: Engine, at: Flow | Want, shape: Shape4, axes: Sequence[int]) -> Flow:
    """A buffer that gives all elements of a tensor seen with axis axes[k] as its axis k: of a frame, of an image where
    that keeps images apart, of a group of rows where it keeps these apart."""
    apart = axes[0] == 0 or shape[0] == shape[axes[0]] == 1
    word, parts = at.word, shape[0] if apart else 1
    if apart:
        seen = (1, shape[axes[1]], shape[axes[2]], shape[axes[3]])
        far = tuple(prod(shape[k + 1 :]) for k in axes)
        near = tuple(prod(seen[k + 1 :]) for k in range(4))
        parts *= groups_of(parts, [shape], seen, [Copy(0, seen, 0, far, 0, near)])
    return e.put("BUF", frame_fields([word.elements], word.elements, 1, word.lanes, word.element, parts), word, at)


def groups_of(images: int, shapes: Sequence[Shape4], out: Shape4, copies: Sequence[Copy]) -> int:
    """The most equal groups of rows of all images that are copied alike, each to its own group, `copies` within an
    image: the position along one dimension of every copy tells the group on both sides."""
    for count in sorted(divisors(gcd(*(s[2] for s in (*shapes, out)))), reverse=True):
        if images * count <= MOST_PARTS and all(_grouped(c, shapes[c.source], out, count) for c in copies):
            return count
    return 1


def _grouped(c: Copy, source: Shape4, target: Shape4, count: int) -> bool:
    ends = ((source, c.src_offset, c.src_strides), (target, c.dst_offset, c.dst_strides))
    return any(
        size % count == 0
        and all(s[d] * size == image[2] * image[3] for image, _, s in ends)  # from the first row to behind the last
        and all(_led(c.dims, *end, d, count) for end in ends)
        for d, size in enumerate(c.dims)
    )


def _led(dims: tuple[int, ...], image: Shape4, offset: int, strides: tuple[int, ...], d: int, count: int) -> bool:
    """Whether every address of a copy lies in the group of rows that its position along dimension d says."""
    address = np.full(dims, offset)
    for k, (size, stride) in enumerate(zip(dims, strides, strict=True)):
        address += _along(k, len(dims), np.arange(size)) * stride
    groups = address % (image[2] * image[3]) * count // (image[2] * image[3])
    return bool((groups == _along(d, len(dims), np.arange(dims[d]) * count // dims[d])).all())


def _along(d: int, dims: int, values: NDArray[np.int64]) -> NDArray[np.int64]:
    return values.reshape([-1 if k == d else 1 for k in range(dims)])


def frame_fields(sizes: list[int], out: int, copies: int, lanes: int, x: Element, parts: int) -> dict[str, int]:
    """BUF: two parts of every input; a frame has so many of them."""
    sizes = [size // parts for size in sizes]
    f = {"pe": lanes, **typed("x", x), "inputs": len(sizes), "elements": out // parts, "copies": copies}
    f |= {f"n{k}": size for k, size in enumerate(sizes)} | {"more": parts - 1}
    bits = 2 * sum(sizes) * x.bits
    return f | {"memory": LUTRAM if bits <= FRAME_LUTRAM_BITS else BRAM if bits < FRAME_URAM_BITS else URAM}


def _windows(e: Engine, at: Flow | Want, node: Conv, channels: int, b: Block, fold: Fold) -> Flow | Want:
    """Padding, then sliding windows; for a kernel of one tap the rows and columns that a stride leaves."""
    kernel, image, out = b.kernel, (node.x_shape[2], node.x_shape[3]), (node.y_shape[2], node.y_shape[3])
    images = node.x_shape[0]
    lanes, x = at.word.lanes, at.word.element
    if any(node.pads):
        at, image = pad(e, at, images, channels, image, node.pads)
    if kernel == (1, 1):
        f = {"pe": lanes, **typed("x", x), "channels": channels, "in_h": image[0], "in_w": image[1]}
        f |= {"oh": out[0], "ow": out[1], "sh": node.strides[0], "sw": node.strides[1], "kept": channels}
        return e.put("CROP", f | {"more": images - 1}, Word(lanes, x, images * prod(out) * channels), at)
    at_once = fold.simd == b.taps if b.depthwise else fold.simd > b.depth
    group = lanes if b.depthwise else b.depth
    wide = lanes * prod(kernel) if at_once else lanes
    return window(e, at, images, channels, group, image, kernel, node.strides, node.dilations, out, wide)


def pad(
    e: Engine, at: Flow | Want, images: int, channels: int, image: tuple[int, int], pads: tuple[int, int, int, int]
) -> tuple[Flow, tuple[int, int]]:
    """A border; pads top, left, bottom, right. Gives the image's new size."""
    lanes, x = at.word.lanes, at.word.element
    tall, wide = image[0] + pads[0] + pads[2], image[1] + pads[1] + pads[3]
    f = {"pe": lanes, **typed("x", x), "channels": channels, "in_h": image[0], "in_w": image[1]}
    f |= {**dict(zip(("top", "left", "bottom", "right"), pads, strict=True)), "more": images - 1}
    return e.put("PAD", f, Word(lanes, x, images * tall * wide * channels), at), (tall, wide)


def window(
    e: Engine, at: Flow | Want, images: int, channels: int, block: int, image: tuple[int, int],
    kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], out: tuple[int, int], lanes_out: int,
) -> Flow:  # fmt: skip
    """Windows in the order [channels/block][kh][kw][block], a line buffer between its two sides."""
    lanes, x = at.word.lanes, at.word.element
    folds = channels // lanes
    windows = Windows(image, folds, block // lanes, kernel, strides, dilations, out, lanes_out // lanes)
    depth = held_words(windows)
    if out[0] == 1:  # nothing is let go before the image ends: the next frame comes in beside it
        depth += image[0] * image[1] * folds
    else:  # as far as the next window lies ahead within its row, and at the end of a row
        depth += ((kernel[1] - 1) * dilations[1] + 1 + strides[1] + strides[0] * image[1]) * folds
    f = {"pe": lanes, "pe_out": lanes_out, **typed("x", x), "channels": channels, "block": block, "depth": depth}
    f |= {"in_h": image[0], "in_w": image[1], "oh": out[0], "ow": out[1]}
    f |= {"kh": kernel[0], "kw": kernel[1], "sh": strides[0], "sw": strides[1], "dh": dilations[0], "dw": dilations[1]}
    f |= {"memory": LUTRAM if depth * lanes * x.bits <= LINE_LUTRAM_BITS else BRAM, "more": images - 1}
    cycles = images * turn_cycles(windows, depth)
    return e.put("WIN", f, Word(lanes_out, x, images * prod(out) * prod(kernel) * channels), at, cycles=cycles)


def _matrix(
    e: Engine, at: Flow | Want, node: Conv, b: Block, fold: Fold, x: Element, acc: Element, pixels: int
) -> Flow:
    """MVAU or VVAU; weights out of DRAM come from a reader of their own, over port 1."""
    start = b.bias - node.x_zero_point * (b.plus + b.minus)
    f = {"pe": fold.pe, "simd": fold.simd, **typed("x", x), **typed("y", acc), "pixels": pixels, "w_bits": b.w_bits}
    f |= {"variant": VARIANTS.index(fold.variant), "memory": MEMORIES.index(fold.memory)}
    f["bias"] = int((start % (1 << 32) if acc.bits <= 32 else start).any())
    if b.depthwise:
        op, f = "VVAU", f | {"channels": b.rows, "taps": b.taps}
    else:
        op, f = "MVAU", f | {"mh": b.rows // b.groups, "mw": b.taps, "groups": b.groups}
    cycles = pixels * (b.rows // fold.pe) * (b.taps // fold.simd)
    unit = e.put(op, f, Word(fold.pe, acc, pixels * b.rows), cycles=cycles)
    if fold.memory == MEMORIES[DRAM]:
        word = Word(fold.pe * fold.simd, Element(b.w_bits, True), pixels * b.size)
        g = {"pe": word.lanes, **typed("x", word.element), "words": b.size // word.lanes, "turns": pixels}
        e.join(e.put("MEM", g, word), unit.unit, 1)
    e.join(at, unit.unit, 0)
    return unit


def _activation(model: Model, e: Engine, at: Flow | Want, p: Piece, pixels: int, m: int) -> Flow:
    """Thresholds, or the requantiser, with as few lanes as keep up with the unit before."""
    node, acc = p.node, at.word.element
    assert isinstance(node, Conv) and isinstance(at, Flow)
    lanes = fewest_lanes(at.word.lanes, pixels * m, e.units[at.unit].cycles)
    ready = e.convert(at, lanes)
    y = model.element(p.makes)
    f = {"pe": lanes, "x_bits": acc.bits, "x_signed": 1, **typed("y", y), "pixels": pixels, "channels": m}
    out = Word(lanes, y, pixels * m)
    if node.thresholds is None or _scaled(model, p):
        return e.put("REQ", f | {"zero_point": node.y_zero_point}, out, ready)
    t = node.thresholds
    steps = t.values.shape[1]
    memory = BRAM if steps > MOST_STEPS or (steps > 3 and m // lanes > 64) else LUTRAM
    f |= {"steps": steps, "base": t.base, "step": t.step, "variant": RTL if steps > 3 else HLS, "memory": memory}
    return e.put("THR", f, out, ready)


def _scaled(model: Model, p: Piece) -> bool:
    """Whether more than 255 steps are a multiplication and a shift in every channel of the piece, by proof."""
    node = p.node
    assert isinstance(node, Conv) and node.thresholds is not None
    if node.thresholds.values.shape[1] <= MOST_STEPS:
        return False
    return _by_proof(node, p.rows, model.values(node.x))


@lru_cache(maxsize=1024)
def _by_proof(node: Conv, rows: tuple[int, int], values: tuple[int, int]) -> bool:
    assert node.thresholds is not None
    own = replace(node.thresholds, values=node.thresholds.values[rows[0] : rows[1]])
    return are_shifts(own, *sums(node, block_of(node, rows, (0, node.weight.shape[1])), *values))


def _restore(model: Model, e: Engine, at: Flow | Want, p: Piece) -> Flow:
    """The order of the tensor, from that of the operator."""
    node = p.node
    assert isinstance(node, Conv)
    back = sorted(range(4), key=lambda k: node.axes[k])
    return _reorder(e, e.convert(at, gcd(at.word.lanes, model.view(p.makes)[1])), node.y_shape, back)


def _join(model: Model, p: Piece, fold: Fold) -> Engine:
    """Sums of each row block's columns added; row blocks side by side; then what the parts of columns left undone."""
    node = p.node
    assert isinstance(node, Conv)
    e = Engine()
    pixels = node.y_shape[0] * node.y_shape[2] * node.y_shape[3]
    columns = len(p.reads) // len(p.blocks)
    each = [c for c in p.blocks for _ in range(columns)]  # channels of every stream
    streams: list[Flow | Want] = [
        Want(k, Word(fold.pe, model.element(name), pixels * each[k])) for k, name in enumerate(p.reads)
    ]
    made = model.element(node.y)
    if p.sums:
        made = Element(sum_bits(node, block_of(node, p.rows, p.columns), *model.values(node.x)), True)
        rows = [streams[k : k + columns] for k in range(0, len(streams), columns)]
        streams = [_tree(e, "ADD", own, made, pixels) for own in rows]
    at = _tree(e, "CAT", streams, made, pixels)
    if p.sums and model.graph.tensors[node.y].dtype not in (DType.I32, DType.I64):
        at = _activation(model, e, at, p, pixels, sum(p.blocks))
    if node.axes != STORED:
        at = _restore(model, e, at, p)
    assert isinstance(at, Flow)
    e.gives = at
    return e


def _tree(e: Engine, op: str, streams: list[Flow | Want], made: Element, pixels: int) -> Flow | Want:
    """Units of at most eight streams, level by level; what is left over goes up as it is."""
    while len(streams) > 1:
        level: list[Flow | Want] = []
        for k in range(0, len(streams), MAX_INPUTS):
            own = streams[k : k + MAX_INPUTS]
            level.append(own[0] if len(own) == 1 else _many(e, op, own, made, pixels))
        streams = level
    return streams[0]


def _many(e: Engine, op: str, own: list[Flow | Want], made: Element, pixels: int) -> Flow:
    lanes, x = own[0].word.lanes, own[0].word.element
    f = {"pe": lanes, **typed("x", x), "pixels": pixels, "inputs": len(own)}
    if op == "ADD":  # sums come as int32, at every level
        f |= {**typed("x", SUMS), **typed("y", made), "channels": own[0].word.elements // pixels}
        return e.put(op, f, Word(lanes, made, own[0].word.elements), *own)
    f |= {f"c{k}": s.word.elements // pixels for k, s in enumerate(own)}
    return e.put(op, f, Word(lanes, x, sum(s.word.elements for s in own)), *own)
