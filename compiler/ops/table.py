"""Unary functions of 8 bits as 256-entry tables, per tensor or per channel: one VCOPY a tile."""

from __future__ import annotations

from math import prod

from compiler.ir.graph import Table
from compiler.isa.program import EngineSpec
from compiler.isa.table import Flag, Space
from compiler.ops.base import Proto, Step, Task, Tile
from compiler.ops.blocks import cut, cuts, extents, tiles_of, uniform_makespan
from compiler.ops.boxes import align, box_elements, box_sizes, dense_strides
from compiler.ops.dma import box_dims, box_time, load, load_const, load_time, store, store_time
from compiler.plan.model import Box
from cost_models.primitives import ceil_div, vector_cycles

ENTRY_BYTES = 256


def per_channel(node: Table) -> bool:
    return len(node.table) > 1


def choose_tile(node: Table, box: Box, engine: EngineSpec) -> Tile | None:
    """The cut with the least makespan of equal tiles; per-channel tables of a tile fit a TAB slot."""
    sizes = box_sizes(box)

    def fit(axis: int, size: int) -> bool:
        e = extents(sizes, axis, size)
        tables = e[1] if per_channel(node) else 1
        if per_channel(node) and axis == 0 and size > 1:
            return False
        return (
            4 * align(e[0] * e[1] * e[2] * e[3]) <= engine.act_bytes
            and 2 * tables * ENTRY_BYTES <= engine.tab_bytes // 128 * 128
        )

    best: tuple[int, int, int] | None = None
    for axis, size in cuts(box, fit):
        e = extents(sizes, axis, size)
        ld, a = box_time(load_time, engine, e, dense_strides(sizes))
        st, b = box_time(store_time, engine, e, dense_strides(sizes))
        bank = ceil_div((a + b) * engine.clock_khz * 1000, engine.bank_bytes_per_second)
        cx = vector_cycles(e[0] * e[1] * e[2] * e[3], 1, engine.vector_lanes)
        cycles = uniform_makespan(tiles_of(box, axis, size), ld, cx, st, bank)
        if best is None or cycles < best[0]:
            best = (cycles, axis, size)
    return None if best is None else {"axis": best[1], "size": best[2]}


def lower(task: Task) -> list[Step]:
    """Steps of a table slice: load, VCOPY through the table, store."""
    node, engine = task.node, task.engine
    assert isinstance(node, Table)
    x, y = task.view(node.x), task.view(node.y)
    axis, size = task.tile["axis"], task.tile["size"]
    slot = align(prod(extents(box_sizes(task.box), axis, size)))
    steps: list[Step] = []
    block, loaded = -1, (-1, -1)
    for i, box in enumerate(cut(task.box, axis, size)):
        step = Step()
        channels = (box[2], box[3]) if per_channel(node) else (0, 1)
        if channels != loaded:
            block, loaded = block + 1, channels
            data = node.table[channels[0] : channels[1]]
            step.loads.append(load_const(task, f"table{channels[0]}", data.size, data.tobytes, Space.TAB, 0, "table"))
        step.tab = block
        sizes = box_sizes(box)
        dense = dense_strides(sizes)
        src, dst = i % 2 * slot, (2 + i % 2) * slot
        start = (box[0], box[2], box[4], box[6])
        step.loads.extend(load(engine, x, x.at(*start), Space.ACT, src, box_dims(sizes, x.strides, dense), "input"))
        outer, plane = (sizes[1], sizes[0] * sizes[2] * sizes[3]) if per_channel(node) else (1, box_elements(box))
        fields = {
            "src_addr": src, "dst_addr": dst, "tab_addr": 0,
            "table_stride": ENTRY_BYTES if per_channel(node) else 0,
            "n3": outer, "n2": 1, "n1": 1, "n0": plane,
            "src_s3": plane, "src_s0": 1, "dst_s3": plane, "dst_s0": 1,
        }  # fmt: skip
        cycles = vector_cycles(box_elements(box), 1, engine.vector_lanes)
        step.cx.append(Proto("VCOPY", fields, int(Flag.TABLE), cycles, role="compute", result=True))
        step.stores = store(engine, y, y.at(*start), Space.ACT, dst, box_dims(sizes, y.strides, dense), box)
        steps.append(step)
    return steps
