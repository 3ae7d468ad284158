"""Max and average pooling: blocks of channels and rows with halos; padding is written by the load, counted by VPOOL."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from compiler.ir.graph import Graph, Pool
from compiler.isa.program import EngineSpec
from compiler.isa.table import POOL_AVERAGE, POOL_MAX, Flag, Space
from compiler.ops.base import COUNT_LIMIT, Proto, Step, Task, Tile, View, limits, unsigned_flag
from compiler.ops.blocks import uniform_makespan
from compiler.ops.boxes import align, box_sizes, dense_strides
from compiler.ops.dma import load, load_const, load_time, padded_load, store, store_time
from compiler.plan.model import Box
from cost_models.primitives import OTHER_CYCLES, ceil_div, vector_cycles

_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32)


@dataclass(frozen=True, slots=True)
class Span:
    """Input positions of a run of outputs along one axis: from `first` (may be negative), `length` in all,
    of which [real, real + count) of the tensor exist, `before` padding positions ahead of them."""

    first: int
    length: int
    real: int
    count: int
    before: int


def span(out: int, outs: int, stride: int, pad: int, window: int, limit: int) -> Span:
    first = out * stride - pad
    length = (outs - 1) * stride + window
    lo, hi = max(0, first), min(limit, first + length)
    if lo >= hi:
        return Span(first, length, 0, 0, length)
    return Span(first, length, lo, hi - lo, lo - first)


def windows(node: Pool) -> tuple[int, int]:
    return (node.kernel[0] - 1) * node.dilations[0] + 1, (node.kernel[1] - 1) * node.dilations[1] + 1


def rows_of(node: Pool, out: int, outs: int) -> Span:
    return span(out, outs, node.strides[0], node.pads[0], windows(node)[0], node.x_shape[2])


def cols_of(node: Pool, out: int, outs: int) -> Span:
    return span(out, outs, node.strides[1], node.pads[1], windows(node)[1], node.x_shape[3])


def input_box(node: Pool, box: Box) -> Box:
    """Rows and columns with their halo, the same channels."""
    r = rows_of(node, box[4], box[5] - box[4])
    c = cols_of(node, box[6], box[7] - box[6])
    return (
        *box[:4],
        *(r.real, r.real + max(1, r.count)),
        *(c.real, c.real + max(1, c.count)),
    )


def tiles(node: Pool, box: Box, tile: Tile) -> Iterator[Box]:
    for n in range(box[0], box[1]):
        for c in range(box[2], box[3], tile["ch"]):
            for h in range(box[4], box[5], tile["r"]):
                for w in range(box[6], box[7], tile["c"]):
                    yield (
                        n, n + 1, c, min(c + tile["ch"], box[3]), h, min(h + tile["r"], box[5]),
                        w, min(w + tile["c"], box[7]),
                    )  # fmt: skip


def slots(node: Pool, box: Box, tile: Tile) -> tuple[int, int]:
    """Bytes of an input and of a result slot."""
    _, c, h, w = box_sizes(box)
    ch, r, cols = min(tile["ch"], c), min(tile["r"], h), min(tile["c"], w)
    kh, kw = windows(node)
    ih, iw = (r - 1) * node.strides[0] + kh, (cols - 1) * node.strides[1] + kw
    return align(ch * ih * iw), align(ch * r * cols)


def choose_tile(node: Pool, box: Box, engine: EngineSpec) -> Tile | None:
    """Channel and row blocks with the least makespan of equal tiles."""
    n, channels, height, width = box_sizes(box)
    taps = node.kernel[0] * node.kernel[1]
    plane = node.x_shape[2] * node.x_shape[3]
    best: tuple[int, Tile] | None = None

    def fit(tile: Tile) -> bool:
        rows, cols = (tile["r"] - 1) * node.strides[0] + windows(node)[0], (tile["c"] - 1) * node.strides[1]
        if max(tile["ch"], rows, cols + windows(node)[1], *node.strides, *node.dilations) > COUNT_LIMIT:
            return False
        return 2 * sum(slots(node, box, tile)) <= engine.act_bytes

    columns = width
    while columns > 1 and not fit({"ch": 1, "r": 1, "c": columns}):
        columns = ceil_div(columns, 2)
    if not fit({"ch": 1, "r": 1, "c": columns}):
        return None
    for row_split in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096):
        r = ceil_div(height, min(height, row_split))
        if not fit({"ch": 1, "r": r, "c": columns}):
            continue
        lo, hi = 1, channels
        while lo < hi:
            mid = (lo + hi + 1) // 2
            lo, hi = (mid, hi) if fit({"ch": mid, "r": r, "c": columns}) else (lo, mid - 1)
        fewest = ceil_div(channels, lo)
        for split in _SPLITS:
            ch = ceil_div(channels, min(channels, fewest * split))
            ih = min(node.x_shape[2], (r - 1) * node.strides[0] + windows(node)[0])
            iw = min(node.x_shape[3], (columns - 1) * node.strides[1] + windows(node)[1])
            ld, a = load_time(engine, (ch, ih, iw), (plane, node.x_shape[3], 1), 1)
            st, b = store_time(engine, (ch, r, columns), (height * width, width, 1), 1)
            bank = ceil_div((a + b) * engine.clock_khz * 1000, engine.bank_bytes_per_second)
            cx = vector_cycles(ch * r * columns, taps, engine.vector_lanes)
            count = n * ceil_div(channels, ch) * ceil_div(height, r) * ceil_div(width, columns)
            cycles = uniform_makespan(count, ld, cx, st, bank)
            if best is None or cycles < best[0]:
                best = (cycles, {"ch": ch, "r": r, "c": columns})
        if height == 1 or fewest == 1 or row_split >= height:
            break
    return best[1] if best else None


def fill_byte(graph: Graph, node: Pool) -> int:
    """What padding holds: the least value for a maximum, the zero point for an average."""
    if node.kind == "max":
        return limits(graph, node.x)[0] & 0xFF
    return node.x_zero_point & 0xFF


def load_window(engine: EngineSpec, x: View, box: Box, r: Span, c: Span, scratch_addr: int, fill: int) -> list[Proto]:
    """The input tile of an output box, padded where it leaves the tensor."""
    channels = box[3] - box[2]
    s = x.strides
    dims = [(channels, s[1], r.length * c.length * x.elem), (r.count, s[2], c.length * x.elem), (c.count, s[3], x.elem)]
    start = x.at(box[0], box[2], r.real, c.real)
    if r.count == r.length and c.count == c.length:
        return load(engine, x, start, Space.ACT, scratch_addr, dims, "input")
    pads = (r.before, r.length - r.count - r.before, c.before, c.length - c.count - c.before)
    return [padded_load(engine, x, start, scratch_addr, dims, pads, fill)]


def _count_region(node: Pool, r: Span, c: Span) -> tuple[int, int, int, int]:
    """top, left, bottom, right of the tile's part that an average's divisor counts."""
    if not node.count_include_pad:
        return r.before, c.before, r.before + r.count, c.before + c.count
    top, left, bottom, right = node.explicit_pads
    return (
        max(0, min(r.length, -top - r.first)),
        max(0, min(c.length, -left - c.first)),
        max(0, min(r.length, node.x_shape[2] + bottom - r.first)),
        max(0, min(c.length, node.x_shape[3] + right - c.first)),
    )


def lower(task: Task) -> list[Step]:
    """Steps of a pooling slice: padded load, VPOOL, store."""
    node, engine, graph = task.node, task.engine, task.graph
    assert isinstance(node, Pool)
    x, y = task.view(node.x), task.view(node.y)
    in_slot, out_slot = slots(node, task.box, task.tile)
    flags = unsigned_flag(graph, node.x, Flag.X_UNSIGNED) | unsigned_flag(graph, node.y, Flag.Y_UNSIGNED)
    lo, hi = limits(graph, node.y)
    fill = fill_byte(graph, node)
    entry = struct.pack("<ffhh4x", node.x_scale, node.y_scale, node.x_zero_point, node.y_zero_point)
    steps = []
    for i, box in enumerate(tiles(node, task.box, task.tile)):
        step = Step()
        if node.kind == "average":
            step.tab = 0
            if i == 0:
                step.loads.append(load_const(task, "entry", len(entry), lambda: entry, Space.TAB, 0, "table"))
        r, c = rows_of(node, box[4], box[5] - box[4]), cols_of(node, box[6], box[7] - box[6])
        src, dst = i % 2 * in_slot, 2 * in_slot + i % 2 * out_slot
        sizes = box_sizes(box)
        if r.count and c.count:
            step.loads.extend(load_window(engine, x, box, r, c, src, fill))
        else:  # nothing but padding
            step.loads.append(Proto("SYNC", {}, cycles=OTHER_CYCLES))
            size = sizes[1] * r.length * c.length
            blank = {"dst_addr": src, "count": size, "value": fill}
            step.cx.append(Proto("VFILL", blank, 0, vector_cycles(size, 1, engine.vector_lanes), role="compute"))
        count = _count_region(node, r, c)
        fields = {
            "kind": POOL_AVERAGE if node.kind == "average" else POOL_MAX,
            "src_addr": src, "dst_addr": dst, "tab_addr": 0, "c": sizes[1],
            "in_h": r.length, "in_w": c.length, "kh": node.kernel[0], "kw": node.kernel[1],
            "sh": node.strides[0], "sw": node.strides[1], "dh": node.dilations[0], "dw": node.dilations[1],
            "oh": sizes[2], "ow": sizes[3],
            "valid_top": r.before, "valid_left": c.before,
            "valid_bottom": r.before + r.count, "valid_right": c.before + c.count,
            "count_top": count[0], "count_left": count[1], "count_bottom": count[2], "count_right": count[3],
            "lo": lo, "hi": hi,
        }  # fmt: skip
        elements = sizes[1] * sizes[2] * sizes[3]
        cycles = vector_cycles(elements, node.kernel[0] * node.kernel[1], engine.vector_lanes)
        step.cx.append(Proto("VPOOL", fields, flags, cycles, role="compute", result=True))
        start = y.at(box[0], box[2], box[4], box[6])
        dims = [(sizes[a], y.strides[a], dense_strides(sizes)[a]) for a in range(1, 4)]
        step.stores = store(engine, y, start, Space.ACT, dst, dims, box)
        steps.append(step)
    return steps
