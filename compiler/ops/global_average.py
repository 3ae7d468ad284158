"""Global average: VSUM over blocks of channels (and of pixels where a plane does not fit), then VREQ."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from compiler.ir.graph import GlobalAverage
from compiler.isa.program import EngineSpec
from compiler.isa.table import VREQ_ENTRY_BYTES, Flag, Space
from compiler.ops.base import COUNT_LIMIT, Proto, Step, Task, Tile, limits, unsigned_flag
from compiler.ops.blocks import uniform_makespan
from compiler.ops.boxes import align, box_sizes
from compiler.ops.conv_const import instruction_zero_point
from compiler.ops.dma import load, load_const, load_time, store
from compiler.plan.model import Box
from compiler.requant import RequantPlan, pack_vreq, requantise
from cost_models.primitives import ceil_div, vector_cycles

_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
_CHANNEL_BYTES = 4 + VREQ_ENTRY_BYTES


def input_box(node: GlobalAverage, box: Box) -> Box:
    return (*box[:4], 0, node.x_shape[2], 0, node.x_shape[3])


def pixels(node: GlobalAverage) -> int:
    return node.x_shape[2] * node.x_shape[3]


@lru_cache(maxsize=256)
def requant_plan(node: GlobalAverage, x_lo: int, x_hi: int, lo: int, hi: int) -> RequantPlan:
    """One channel's proved requantiser; all channels share it, so it takes no thresholds."""
    n = pixels(node)
    low, high = n * (x_lo - node.x_zero_point), n * (x_hi - node.x_zero_point)
    return requantise([low], [high], [node.scale], node.y_zero_point, lo, hi, threshold_limit_steps=0)


def choose_tile(node: GlobalAverage, box: Box, engine: EngineSpec) -> Tile | None:
    """{"ch": channels a tile, "p": pixels a step}."""
    n, channels = box_sizes(box)[:2]
    plane = pixels(node)
    most = min(channels, engine.tab_bytes // 2 // 64 * 64 // _CHANNEL_BYTES, engine.acc_bytes // 4, COUNT_LIMIT)
    slot = engine.act_bytes // 2 // 64 * 64
    best: tuple[int, Tile] | None = None
    if most < 1:
        return None
    for split in _SPLITS:
        ch = min(most, ceil_div(channels, min(channels, split)))
        room = (slot - align(ch)) // 64 * 64 // ch
        if room < 1:
            ch, room = 1, slot - 64
            if room < 1:
                return None
        p = min(plane, room)
        p = ceil_div(plane, ceil_div(plane, p))
        ld, bus = load_time(engine, (1, ch, p), (0, plane, 1), 1)
        cx = vector_cycles(ch * p, 1, engine.vector_lanes)
        bank = ceil_div(bus * engine.clock_khz * 1000, engine.bank_bytes_per_second)
        steps = n * ceil_div(channels, ch) * ceil_div(plane, p)
        cycles = uniform_makespan(steps, ld, cx + vector_cycles(ch, 1, engine.vector_lanes), 33, bank)
        if best is None or cycles < best[0]:
            best = (cycles, {"ch": ch, "p": p})
    return best[1] if best else None


def lower(task: Task) -> list[Step]:
    """Steps of a global-average slice."""
    node, engine, graph = task.node, task.engine, task.graph
    assert isinstance(node, GlobalAverage)
    x, y = task.view(node.x), task.view(node.y)
    ch, p, plane = task.tile["ch"], task.tile["p"], pixels(node)
    lo, hi = limits(graph, node.y)
    plan = requant_plan(node, *limits(graph, node.x), lo, hi)
    task.notes["requantiser"] = plan.proof()
    in_slot, out_slot = align(ch * p), align(ch)
    x_flag = unsigned_flag(graph, node.x, Flag.X_UNSIGNED)
    y_flag = unsigned_flag(graph, node.y, Flag.Y_UNSIGNED)
    steps: list[Step] = []
    table, loaded, packet, block = -1, 0, -1, -1
    for n in range(task.box[0], task.box[1]):
        for c in range(task.box[2], task.box[3], ch):
            size = min(ch, task.box[3] - c)
            packet += 1
            for first in range(0, plane, p):
                count = min(p, plane - first)
                step = Step()
                block += 1
                if size != loaded:
                    table, loaded = table + 1, size
                    data = np.full(size, -plane * node.x_zero_point, "<i4").tobytes() + pack_vreq(plan) * size
                    step.loads.append(
                        load_const(task, f"table{size}", len(data), lambda d=data: d, Space.TAB, 0, "table")  # type: ignore[misc]
                    )
                step.tab = table
                src = block % 2 * in_slot
                start = x.at(n, c, 0, 0) + first
                dims = [(size, x.strides[1], count), (count, 1, 1)]
                step.loads.extend(load(engine, x, start, Space.ACT, src, dims, "input"))
                flags = x_flag | (int(Flag.INIT | Flag.BIAS) if first == 0 else 0)
                fields = {"src_addr": src, "acc_addr": 0, "c": size, "count": count}
                if first == 0:
                    fields["tab_addr"] = 0
                cycles = vector_cycles(size * count, 1, engine.vector_lanes)
                step.cx.append(Proto("VSUM", fields, flags, cycles, role="compute"))
                if first + count == plane:
                    dst = 2 * in_slot + packet % 2 * out_slot
                    fields = {
                        "acc_addr": 0, "dst_addr": dst, "tab_addr": 4 * size, "m": size,
                        "zero_point": instruction_zero_point(plan, 0, 1), "lo": lo, "hi": hi, "count": 1,
                    }  # fmt: skip
                    cycles = vector_cycles(size, 1, engine.vector_lanes)
                    step.cx.append(Proto("VREQ", fields, y_flag, cycles, role="compute", result=True))
                    box = (n, n + 1, c, c + size, 0, 1, 0, 1)
                    at = y.at(n, c, 0, 0)
                    step.stores = store(engine, y, at, Space.ACT, dst, [(size, y.strides[1], 1)], box)
                steps.append(step)
    return steps
