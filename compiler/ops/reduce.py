"""The reduce slice of a convolution whose input channels were split: adds int32 partial sums and requantises."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.ir.graph import Conv
from compiler.isa.program import EngineSpec
from compiler.isa.table import Flag, Space
from compiler.ops.base import COUNT_LIMIT, Proto, Step, Task, Tile, View, unsigned_flag
from compiler.ops.blocks import uniform_makespan
from compiler.ops.boxes import align, box_sizes
from compiler.ops.conv_const import instruction_zero_point, output_range, requant_plan
from compiler.ops.conv_geometry import operator_axes, requantiser_bytes
from compiler.ops.dma import load, load_const, load_time, store, store_time
from compiler.plan.model import Box
from compiler.requant import pack_vreq, packed_bytes
from cost_models.primitives import ceil_div, vector_cycles

_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
WORD = 4


def _ranges(node: Conv, box: Box) -> list[tuple[int, int]]:
    return [(box[2 * a], box[2 * a + 1]) for a in operator_axes(node)]


def tiles(node: Conv, box: Box, tile: Tile) -> Iterator[tuple[int, int, int, int, int, int, int]]:
    """(batch, m, channels, h, rows, w, cols); w and cols span the whole box."""
    (n0, n1), (m0, m1), (h0, h1), (w0, w1) = _ranges(node, box)
    for n in range(n0, n1):
        for m in range(m0, m1, tile["m"]):
            for h in range(h0, h1, tile["r"]):
                for w in range(w0, w1, tile["c"]):
                    yield (
                        n, m, min(tile["m"], m1 - m), h, min(tile["r"], h1 - h), w, min(tile["c"], w1 - w),
                    )  # fmt: skip


def choose_tile(node: Conv, box: Box, partials: int, engine: EngineSpec) -> Tile | None:
    """Channel and row blocks with the least makespan; all partials of a tile are in ACC at once, twice."""
    (n0, n1), (m0, m1), (h0, h1), (w0, w1) = _ranges(node, box)
    channels, height, width = m1 - m0, h1 - h0, w1 - w0
    best: tuple[int, Tile] | None = None

    def fit(m: int, r: int, c: int) -> bool:
        return (
            m <= COUNT_LIMIT
            and 2 * partials * align(m * r * c * WORD) <= engine.acc_bytes
            and 2 * align(m * r * c) <= engine.act_bytes
            and 2 * align(m * requantiser_bytes(node)) <= engine.tab_bytes
        )

    c = width
    while c > 1 and not fit(1, 1, c):
        c = ceil_div(c, 2)
    r = height
    while r > 1 and not fit(1, r, c):
        r = ceil_div(r, 2)
    if not fit(1, r, c):
        return None
    m = channels
    while not fit(m, r, c):
        m = ceil_div(m, 2)
    fewest = ceil_div(channels, m)
    for s in _SPLITS:
        m = ceil_div(channels, min(channels, fewest * s))
        count = m * r * c
        ld, a = load_time(engine, (m, r, c), (height * width * WORD, width * WORD, WORD), WORD)
        st, b = store_time(engine, (m, r, c), (height * width, width, 1), 1)
        cx = partials * vector_cycles(count, 1, engine.vector_lanes)
        bank = ceil_div((partials * a + b) * engine.clock_khz * 1000, engine.bank_bytes_per_second)
        n_tiles = (n1 - n0) * ceil_div(channels, m) * ceil_div(height, r) * ceil_div(width, c)
        cycles = uniform_makespan(n_tiles, partials * ld, cx, st, bank)
        if best is None or cycles < best[0]:
            best = (cycles, {"m": m, "r": r, "c": c})
    return best[1] if best else None


def lower(task: Task) -> list[Step]:
    """Steps of a reduce slice: load every partial's tile, VACC into the first, VREQ, store."""
    node, engine, graph = task.node, task.engine, task.graph
    assert isinstance(node, Conv)
    axes = operator_axes(node)
    y = task.view(node.y)
    views = [task.view(name) for name in task.partials]
    tile = task.tile
    sizes = [box_sizes(task.box)[a] for a in axes]
    block = min(tile["m"], sizes[1]) * min(tile["r"], sizes[2]) * min(tile["c"], sizes[3])
    acc_slot, out_slot = align(block * WORD), align(block)
    x_unsigned = bool(unsigned_flag(graph, node.x, Flag.X_UNSIGNED))
    y_flag = unsigned_flag(graph, node.y, Flag.Y_UNSIGNED)
    lo, hi = output_range(graph, node)
    m0, m1 = _ranges(node, task.box)[1]
    plan = None
    if not task.pricing:
        plan = requant_plan(node, x_unsigned, bool(y_flag), True)
        largest = max(packed_bytes(plan, m, min(m + tile["m"], m1)) for m in range(m0, m1, tile["m"]))
        if largest > engine.tab_bytes // 2 // 64 * 64:
            plan = requant_plan(node, x_unsigned, bool(y_flag), False)
        task.notes["requantiser"] = plan.proof(m0, m1)

    def entries(start: int, stop: int) -> bytes:
        assert plan is not None
        return pack_vreq(plan, start, stop)

    def at(view: View, n: int, m: int, h: int, w: int) -> int:
        place = [0, 0, 0, 0]
        for a, i in zip(axes, (n, m, h, w), strict=True):
            place[a] = i
        return view.at(*place)

    steps: list[Step] = []
    table, loaded = -1, -1
    for i, (n, m, channels, h, rows, w, cols) in enumerate(tiles(node, task.box, tile)):
        step = Step()
        if m != loaded:
            table, loaded = table + 1, m
            step.loads.append(
                load_const(
                    task, f"t{m}",
                    packed_bytes(plan, m, m + channels) if plan else channels * requantiser_bytes(node),
                    lambda m=m, c=channels: entries(m, m + c), Space.TAB, 0, "table",  # type: ignore[misc]
                )
            )  # fmt: skip
        step.tab = table
        base = i % 2 * len(views) * acc_slot
        count = channels * rows * cols
        for k, view in enumerate(views):
            s = view.strides
            dims = [
                (channels, s[axes[1]], rows * cols * WORD), (rows, s[axes[2]], cols * WORD), (cols, s[axes[3]], WORD)
            ]  # fmt: skip
            step.loads.extend(load(engine, view, at(view, n, m, h, w), Space.ACC, base + k * acc_slot, dims, "input"))
        cycles = vector_cycles(count, 1, engine.vector_lanes)
        for k in range(1, len(views)):
            fields = {"dst_addr": base, "src_addr": base + k * acc_slot, "count": count}
            step.cx.append(Proto("VACC", fields, 0, cycles, role="compute"))
        out = i % 2 * out_slot
        fields = {
            "acc_addr": base, "dst_addr": out, "tab_addr": 0, "m": channels,
            "zero_point": instruction_zero_point(plan, m, m + channels) if plan else 0,
            "lo": lo, "hi": hi, "count": rows * cols,
        }  # fmt: skip
        step.cx.append(Proto("VREQ", fields, y_flag, cycles, role="compute", result=True))
        ys = y.strides
        dims = [(channels, ys[axes[1]], rows * cols), (rows, ys[axes[2]], cols), (cols, ys[axes[3]], 1)]
        box = [0] * 8
        for a, (lo_, size) in zip(axes, ((n, 1), (m, channels), (h, rows), (w, cols)), strict=True):
            box[2 * a], box[2 * a + 1] = lo_, lo_ + size
        step.stores = store(engine, y, at(y, n, m, h, w), Space.ACT, out, dims, tuple(box))
        steps.append(step)
    return steps
