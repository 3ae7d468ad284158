"""A convolution or matrix-product task as numbers: blocks, walk over tiles, durations. Knows no weights, no addresses.

Everything is in operator order (batch n, output channels m, rows h, columns w; input channels k of one group).
Channels-last operands (`last`: a matrix product whose channel axis is innermost) are not transposed on the way in:
the tile lies as [pixel][k] and the MAC reads it as one input channel whose window is a row of k taps; the result
[m][pixel] is turned by one VCOPY so that stores are dense.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from compiler.ir.graph import Conv, Shape4
from compiler.isa.program import EngineSpec
from compiler.isa.table import VREQ_ENTRY_BYTES
from compiler.ops.base import COUNT_LIMIT, Tile
from compiler.ops.boxes import align
from compiler.ops.shares import SHARE_GRAIN_BYTES, share_bounds
from compiler.plan.model import Box
from compiler.requant import entry_bytes
from cost_models.primitives import best_mac_mode, ceil_div, contiguous_runs, dma_bus_bytes

ROWS_OUTER, CHANNELS_OUTER = 0, 1
BIAS_BYTES = 4


def operator_axes(node: Conv) -> tuple[int, int, int, int]:
    """Storage axis of n, c, h, w; a matrix product over a batch takes its rows as columns of one image."""
    if pointwise(node) and node.y_shape[2] == node.y_shape[3] == 1 and node.y_shape[0] > 1:
        n, c, h, w = node.axes
        return (w, c, h, n)
    return node.axes


def pointwise(node: Conv) -> bool:
    return node.weight.shape[2:] == (1, 1) and node.strides == (1, 1) and not any(node.pads) and node.groups == 1


def operator_shape(shape: Shape4, node: Conv) -> Shape4:
    """x_shape or y_shape under `operator_axes`."""
    if operator_axes(node) != node.axes:
        return (shape[3], shape[1], shape[2], shape[0])
    return shape


def gaps(node: Conv) -> tuple[int, int]:
    """Rows and columns between the end of a window and the next one's start.

    Where the input has them after the last window too, a layer needs them like its windows: what it reads is then one
    run of bytes in the buffer over all channels, not a run a channel that ends short of a row.
    """
    found = []
    for a in (2, 3):
        window = (node.weight.shape[a] - 1) * node.dilations[a - 2] + 1
        stride, outputs = node.strides[a - 2], operator_shape(node.y_shape, node)[a]
        padded = node.pads[a - 2] or node.pads[a]
        inside = operator_shape(node.x_shape, node)[a] >= outputs * stride
        found.append(stride - window if stride > window and not padded and inside else 0)
    return found[0], found[1]


@dataclass(frozen=True, slots=True)
class Geometry:
    """One task. Ranges half-open; strides in bytes, operator order; elem: bytes of a stored result (4: sums)."""

    b0: int
    b1: int
    m0: int
    m1: int
    h0: int
    h1: int
    w0: int
    w1: int
    k0: int
    k1: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    pad_top: int
    pad_left: int
    in_h: int
    in_w: int
    groups: int
    group_m: int  # output channels of a group
    group_k: int  # input channels of a group
    last: bool
    elem: int
    x_strides: Shape4
    y_strides: Shape4
    resident: bool
    row_step: int = 1  # rows of the tensor from one row of the tile to the next: a window of one row skips the others
    entry_bytes: int = VREQ_ENTRY_BYTES  # of TAB a channel for the requantiser
    gap_h: int = 0  # rows and columns after a window that are loaded with it (see `gaps`)
    gap_w: int = 0
    share: tuple[int, int] = (0, 1)  # of each weight block that is loaded here: index, sharers
    input_share: tuple[int, int] = (0, 1)  # of each input block

    def loaded(self, block_bytes: int) -> int:
        """Bytes of a weight block that the task loads itself."""
        lo, hi = share_bounds(block_bytes, *self.share)
        return hi - lo

    @property
    def tab_channel_bytes(self) -> int:
        """TAB bytes of an output channel: bias and requantiser; accumulators that leave have none here."""
        return BIAS_BYTES + (self.entry_bytes if self.elem == 1 else 0)

    @property
    def window_h(self) -> int:
        return (self.kh - 1) * self.dh + 1 + self.gap_h

    @property
    def window_w(self) -> int:
        return (self.kw - 1) * self.dw + 1 + self.gap_w

    def rows_of(self, h: int, count: int) -> tuple[int, int, int]:
        """(first real input row, real rows, padding above) of `count` output rows from h; see also `height`."""
        return _clip(h * self.sh - self.pad_top, self.height(count), self.in_h)

    def cols_of(self, w: int, count: int) -> tuple[int, int, int]:
        return _clip(w * self.sw - self.pad_left, self.width(count), self.in_w)

    def height(self, count: int) -> int:
        return (count - 1) * self.sh + self.window_h

    def width(self, count: int) -> int:
        return (count - 1) * self.sw + self.window_w


def _clip(start: int, length: int, limit: int) -> tuple[int, int, int]:
    lo, hi = max(0, start), min(limit, start + length)
    if lo >= hi:  # wholly padding
        return 0, 0, length
    return lo, hi - lo, lo - start


def geometry(
    node: Conv, box: Box, k0: int, k1: int, elem: int, x_strides: Shape4, y_strides: Shape4, resident: bool,
    share: tuple[int, int] = (0, 1), input_share: tuple[int, int] = (0, 1), needed: Shape4 | None = None,
) -> Geometry:  # fmt: skip
    """box: of the output in storage4 order; strides of x and y buffers in bytes, storage order. needed: those of a
    buffer of x with what is needed alone, where tasks with other buffers must take the same input blocks."""
    axes = operator_axes(node)
    n, m, h, w = ((box[2 * a], box[2 * a + 1]) for a in axes)
    xs: Shape4 = tuple(x_strides[a] for a in axes)  # type: ignore[assignment]
    ys: Shape4 = tuple(y_strides[a] for a in axes)  # type: ignore[assignment]
    shape = operator_shape(node.x_shape, node)
    pixels = (h[1] - h[0]) * (w[1] - w[0])
    spatial = [a for a, size in ((axes[2], h[1] - h[0]), (axes[3], w[1] - w[0])) if size > 1]
    last = pointwise(node) and pixels > 1 and all(axes[1] > a for a in spatial)
    gap_h, gap_w = gaps(node)
    cols = min(shape[3], (w[1] - w[0] - 1) * node.strides[1] + node.weight.shape[3] + gap_w)
    step = row_step(node, h[1] - h[0], cols, gap_h, xs if needed is None else tuple(needed[a] for a in axes))
    return Geometry(
        *n, *m, *h, *w, k0, k1, node.weight.shape[2], node.weight.shape[3], node.strides[0] // step, node.strides[1],
        *node.dilations, node.pads[0], node.pads[1], ceil_div(shape[2], step), shape[3], node.groups,
        node.weight.shape[0] // node.groups, node.weight.shape[1], last, elem,
        (xs[0], xs[1], xs[2] * step, xs[3]), ys, resident, step, requantiser_bytes(node),
        0 if step > 1 else gap_h, gap_w, share, input_share,
    )  # fmt: skip


def row_step(node: Conv, rows: int, cols: int, gap: int, xs: Sequence[int]) -> int:
    """The row stride if the window is one row high and the bank moves less when the rows between are left out.

    Where that holds for the needed rows alone in a buffer, it holds for a larger buffer too (its rows lie no denser): a
    tile that fits the scratchpads when it is priced fits them when it is lowered."""
    stride = node.strides[0]
    if node.weight.shape[2] > 1 or stride == 1 or node.pads[0] or node.pads[2] or rows < 2:
        return 1
    every = dma_bus_bytes(*contiguous_runs(2, (rows - 1) * stride + 1 + gap, cols, xs[1], xs[2], xs[3], 1))
    some = dma_bus_bytes(*contiguous_runs(2, rows, cols, xs[1], xs[2] * stride, xs[3], 1))
    return stride if some < every else 1


def requantiser_bytes(node: Conv) -> int:
    """TAB bytes to keep free for a channel's requantiser entry; optional thresholds take what is left."""
    return VREQ_ENTRY_BYTES if node.thresholds is None else entry_bytes(node)


@dataclass(frozen=True, slots=True)
class MBlock:
    """Output channels [start, start + size); input groups [group, group + groups)."""

    start: int
    size: int
    group: int
    groups: int


@dataclass(frozen=True, slots=True)
class Visit:
    """One step of the walk. new_*: the operand differs from that of the step before and is loaded."""

    batch: int
    h: int
    rows: int
    w: int
    cols: int
    m: MBlock
    k: int
    depth: int
    new_act: bool
    new_wgt: bool
    new_tab: bool
    first: bool
    final: bool


def spans(lo: int, hi: int, size: int) -> list[tuple[int, int]]:
    return [(i, min(size, hi - i)) for i in range(lo, hi, size)]


def m_blocks(g: Geometry, size: int) -> list[MBlock]:
    """Channel blocks of a tile: whole groups, or a part of one group."""
    if g.groups == 1:
        return [MBlock(a, n, 0, 1) for a, n in spans(g.m0, g.m1, size)]
    if size >= g.group_m:
        whole = size // g.group_m * g.group_m
        return [MBlock(a, n, a // g.group_m, n // g.group_m) for a, n in spans(g.m0, g.m1, whole)]
    return [
        MBlock(a, n, start // g.group_m, 1)
        for start in range(g.m0, g.m1, g.group_m)
        for a, n in spans(start, start + g.group_m, size)
    ]


def walk(g: Geometry, tile: Tile) -> Iterator[Visit]:
    """The steps of a task in order: tiles of the chosen loop order, input-channel blocks innermost."""
    places = [
        (b, *r, *c)
        for b in range(g.b0, g.b1)
        for r in spans(g.h0, g.h1, tile["r"])
        for c in spans(g.w0, g.w1, tile["c"])
    ]
    channels = m_blocks(g, tile["m"])
    depths = spans(g.k0, g.k1, tile["n"])
    if tile["order"] == ROWS_OUTER:
        pairs = ((p, m) for p in places for m in channels)
    else:
        pairs = ((p, m) for m in channels for p in places)
    act = wgt = tab = None
    for (b, h, rows, w, cols), m in pairs:
        for i, (k, depth) in enumerate(depths):
            now = (b, h, w, m.group, m.groups, k), (m.start, k), m.start
            yield Visit(
                b, h, rows, w, cols, m, k, depth, now[0] != act, now[1] != wgt, now[2] != tab,
                i == 0, i == len(depths) - 1,
            )  # fmt: skip
            act, wgt, tab = now


@lru_cache(maxsize=65536)
def mac_mode(
    g_last: bool, m: int, k: int, groups: int, kh: int, kw: int, oh: int, ow: int, tm: int, tn: int
) -> tuple[int, int]:
    """(mode, cycles) of a tile's MAC. In channels-last tiles k taps of one channel stand in a row."""
    if g_last:
        return best_mac_mode(m, 1, 1, 1, k, oh * ow, 1, tm, tn)
    return best_mac_mode(m, k, groups, kh, kw, oh, ow, tm, tn)


def act_bytes_of(g: Geometry, m: MBlock | None, m_size: int, depth: int, rows: int, cols: int) -> int:
    """Bytes of an input tile in ACT."""
    groups = m.groups if m else (1 if g.groups == 1 else max(1, m_size // g.group_m))
    if g.last:
        return rows * cols * depth
    return groups * depth * g.height(rows) * g.width(cols)


def turned(g: Geometry) -> bool:
    """The result tile passes through a transposing VCOPY."""
    return g.last and g.elem == 1


@dataclass(frozen=True, slots=True)
class Slots:
    """Scratchpad bytes of a tile: input slot, result slot, transposition area, weight, table and accumulator slots."""

    act_in: int
    act_out: int
    act_turn: int
    wgt: int
    tab: int
    acc: int


def slots(g: Geometry, tile: Tile) -> Slots:
    m = min(tile["m"], g.m1 - g.m0)
    rows, cols = min(tile["r"], g.h1 - g.h0), min(tile["c"], g.w1 - g.w0)
    depth = min(tile["n"], g.k1 - g.k0)
    out = align(m * rows * cols) if g.elem == 1 else 0
    return Slots(
        align(act_bytes_of(g, None, m, depth, rows, cols)),
        out,
        out if turned(g) else 0,
        0 if g.resident else align(m * depth * g.kh * g.kw),
        align(m * g.tab_channel_bytes),
        align(m * rows * cols * 4),
    )


def encodable(g: Geometry, tile: Tile) -> bool:
    """Whether the counts of a tile's MAC stand in their fields."""
    m, depth = min(tile["m"], g.m1 - g.m0), min(tile["n"], g.k1 - g.k0)
    rows, cols = min(tile["r"], g.h1 - g.h0), min(tile["c"], g.w1 - g.w0)
    counts = (rows * cols,) if g.last else (g.height(rows), g.width(cols), g.sh, g.sw, g.dh, g.dw)
    return max(m, depth, *counts) <= COUNT_LIMIT


def fits(s: Slots, engine: EngineSpec, wgt_ring_bytes: int, partial: bool) -> bool:
    return (
        2 * (s.act_in + s.act_out) + s.act_turn <= engine.act_bytes
        and 2 * s.wgt <= wgt_ring_bytes
        and 2 * s.tab <= engine.tab_bytes
        and s.acc * (2 if partial else 1) <= engine.acc_bytes
    )


def weight_bytes(g: Geometry) -> int:
    return (g.m1 - g.m0) * (g.k1 - g.k0) * g.kh * g.kw


def weight_blocks(g: Geometry, tile: Tile) -> list[tuple[int, int, int, int]]:
    """The weight blocks in the order in which they are loaded: (m, channels, k, depth)."""
    return [(v.m.start, v.m.size, v.k, v.depth) for v in walk(g, tile) if v.new_wgt]


def shareable(g: Geometry, tile: Tile) -> bool:
    """Whether the task's weights may come in shares: every block is loaded once a frame (what is shared passes the
    links each time), and every sharer has something of each."""
    places = (g.b1 - g.b0) * ceil_div(g.h1 - g.h0, tile["r"]) * ceil_div(g.w1 - g.w0, tile["c"])
    if places > 1 and (tile["order"] == ROWS_OUTER or tile["n"] < g.k1 - g.k0):
        return False
    least = SHARE_GRAIN_BYTES * (g.share[1] - 1)
    return all(m * depth * g.kh * g.kw > least for _, m, _, depth in weight_blocks(g, tile))


def input_grain(g: Geometry, v: Visit) -> int:
    """Bytes of what an input block is cut at: a channel with its padding; channels last a row of pixels, or a pixel."""
    if g.last:
        return (v.cols if v.rows > 1 else 1) * v.depth
    return g.height(v.rows) * g.width(v.cols)


def input_units(g: Geometry, v: Visit) -> tuple[int, int]:
    """[from, to) of the grains of an input block that the task loads itself."""
    units = (v.rows if v.rows > 1 else v.cols) if g.last else v.m.groups * v.depth
    return share_bounds(units, *g.input_share, 1)


def input_blocks(g: Geometry, tile: Tile) -> list[tuple[int, Visit]]:
    """(step, visit) of each input block that is loaded, in order."""
    return [(i, v) for i, v in enumerate(walk(g, tile)) if v.new_act and not void(g, v)]


def input_shareable(g: Geometry, tile: Tile) -> bool:
    """Whether the task's input may come in shares: nothing of it is padding alone, every sharer has some of each."""
    rows, cols = spans(g.h0, g.h1, tile["r"]), spans(g.w0, g.w1, tile["c"])
    least = spans(g.k0, g.k1, tile["n"])[-1][1]
    if g.last:
        least = min(r if r > 1 else c for _, r in rows for _, c in cols)
    elif not all(g.rows_of(h, n)[1] for h, n in rows) or not all(g.cols_of(w, n)[1] for w, n in cols):
        return False
    return g.groups == 1 and least >= g.input_share[1]


def void(g: Geometry, v: Visit) -> bool:
    """The input tile is nothing but padding: it is filled, not loaded."""
    return not g.last and (g.rows_of(v.h, v.rows)[1] == 0 or g.cols_of(v.w, v.cols)[1] == 0)


def last_dims(g: Geometry, v: Visit) -> list[tuple[int, int, int]]:
    """Channels-last input tile, or the task's share of it: rows, columns, channels; the outer spatial axis first."""
    xs = g.x_strides
    lo, hi = input_units(g, v)
    rows, cols = (hi - lo, v.cols) if v.rows > 1 else (v.rows, hi - lo)
    row = (rows, xs[2], v.cols * v.depth)
    col = (cols, xs[3], v.depth)
    return [row, col, (v.depth, xs[1], 1)]


def out_dims(g: Geometry, v: Visit) -> list[tuple[int, int, int]]:
    """Result tile: DRAM and scratchpad strides, in the order in which it lies in the scratchpad."""
    ys, e = g.y_strides, g.elem
    if turned(g):
        return [
            (v.rows, ys[2], v.cols * v.m.size),
            (v.cols, ys[3], v.m.size),
            (v.m.size, ys[1], 1),
        ]
    return [
        (v.m.size, ys[1], v.rows * v.cols * e),
        (v.rows, ys[2], v.cols * e),
        (v.cols, ys[3], e),
    ]


def m_quantum(g: Geometry, tm: int) -> int:
    return tm if g.groups == 1 or g.group_m == 1 else g.group_m


def balanced(total: int, largest: int, quantum: int) -> int:
    """Block size <= largest that cuts `total` into the fewest blocks, even, a multiple of `quantum` where possible."""
    if largest >= total:
        return total
    if largest < quantum:
        return max(1, largest)
    blocks = ceil_div(total, largest // quantum * quantum)
    return min(largest, align(ceil_div(total, blocks), quantum))
