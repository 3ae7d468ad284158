"""Durations of a convolution task, step by step, as its lowered instructions take them; numbers only.

Tiles fall into few classes (inner, edge, last block), so each class is timed once and the walk only looks it up.
"""

from __future__ import annotations

from compiler.isa.program import EngineSpec
from compiler.ops.base import TaskTimeline, Tile
from compiler.ops.conv_geometry import (
    ROWS_OUTER,
    Geometry,
    MBlock,
    Visit,
    act_bytes_of,
    input_units,
    last_dims,
    m_blocks,
    mac_mode,
    out_dims,
    spans,
    turned,
    void,
)
from compiler.ops.dma import load_time, store_time
from cost_models.primitives import OTHER_CYCLES, vector_cycles

NEW_ACT, NEW_WGT, NEW_TAB, FIRST, FINAL = 1, 2, 4, 8, 16
Times = tuple[int, int, int, int, int, int, int]  # the fields of a TaskTimeline, one step


def timeline(g: Geometry, tile: Tile, engine: EngineSpec) -> TaskTimeline:
    """Durations of every step in the order of `conv_geometry.walk`."""
    places: list[tuple[int, int, int, int, int]] = []  # class of the place, then h, rows, w, cols
    classes: dict[tuple[int, ...], int] = {}
    for _ in range(g.b0, g.b1):
        for h, rows in spans(g.h0, g.h1, tile["r"]):
            for w, cols in spans(g.w0, g.w1, tile["c"]):
                form = (rows, cols, g.rows_of(h, rows)[1], g.cols_of(w, cols)[1])
                places.append((classes.setdefault(form, len(classes)), h, rows, w, cols))
    channels = m_blocks(g, tile["m"])
    depths = spans(g.k0, g.k1, tile["n"])
    last_depth = len(depths) - 1
    known: dict[tuple[int, int, int, int, int], Times] = {}
    steps: list[Times] = []
    old_place = old_group = old_k = old_m = -1

    def add(place: int, m: MBlock) -> None:
        nonlocal old_place, old_group, old_k, old_m
        kind, h, rows, w, cols = places[place]
        for i, (k, depth) in enumerate(depths):
            flags = (FIRST if i == 0 else 0) | (FINAL if i == last_depth else 0)
            if place != old_place or m.group != old_group or k != old_k:
                flags |= NEW_ACT
            if m.start != old_m:
                flags |= NEW_WGT | NEW_TAB
            elif k != old_k:
                flags |= NEW_WGT
            key = (kind, m.size, m.groups, depth, flags)
            times = known.get(key)
            if times is None:
                v = Visit(
                    0, h, rows, w, cols, m, k, depth, bool(flags & NEW_ACT), bool(flags & NEW_WGT),
                    bool(flags & NEW_TAB), i == 0, i == last_depth,
                )  # fmt: skip
                times = known[key] = step_times(g, v, engine)
            steps.append(times)
            old_place, old_group, old_k, old_m = place, m.group, k, m.start

    if tile["order"] == ROWS_OUTER:
        for place in range(len(places)):
            for m in channels:
                add(place, m)
    else:
        for m in channels:
            for place in range(len(places)):
                add(place, m)
    columns = [list(c) for c in zip(*steps, strict=True)]
    if g.resident:
        columns[0][0] += OTHER_CYCLES  # the load that has its effect only once
    return TaskTimeline(*(tuple(c) for c in columns))


def step_times(g: Geometry, v: Visit, engine: EngineSpec) -> Times:
    """(loads ahead, loads, CX before and from the result slot, stores, bank bytes loaded, stored) of one step."""
    ahead = main = loaded = 0
    if v.new_wgt and not g.resident:
        ahead, loaded = _burst(engine, g.loaded(v.m.size * v.depth * g.kh * g.kw))
    if v.new_tab:
        cycles, size = _burst(engine, v.m.size * g.tab_channel_bytes)
        ahead, loaded = ahead + cycles, loaded + size
    fill = 0
    head = mac_mode(g.last, v.m.size, v.depth, v.m.groups, g.kh, g.kw, v.rows, v.cols, engine.tm, engine.tn)[1]
    if v.new_act:
        main, size = input_time(g, v, engine)
        loaded += size
        if void(g, v):
            size = act_bytes_of(g, v.m, 0, v.depth, v.rows, v.cols)
            fill = vector_cycles(size, 1, engine.vector_lanes)
    tail = store = stored = 0
    if v.final:
        store, stored = result_time(g, v, engine)
        if g.elem == 1:
            tail = vector_cycles(v.m.size * v.rows * v.cols, 1, engine.vector_lanes)
            if turned(g):
                head += tail  # the requantiser writes the transposition area, the result slot is written after it
    if g.elem == 4 and v.first:  # a partial's first MAC writes the slot that is stored
        head, tail = 0, head
    return ahead, main, fill + head, tail, store, loaded, stored


def _burst(engine: EngineSpec, size: int) -> tuple[int, int]:
    return load_time(engine, (1, 1, size), (0, 0, 1), 1)


def input_time(g: Geometry, v: Visit, engine: EngineSpec) -> tuple[int, int]:
    """(cycles, bank bytes) of the loads of an input tile."""
    if g.last:
        dims = last_dims(g, v)
        return load_time(engine, tuple(d[0] for d in dims), tuple(d[1] for d in dims), 1)
    if void(g, v):
        return OTHER_CYCLES, 0
    rows, cols = g.rows_of(v.h, v.rows)[1], g.cols_of(v.w, v.cols)[1]
    lo, hi = input_units(g, v)
    return load_time(engine, (hi - lo, rows, cols), g.x_strides[1:], 1)


def result_time(g: Geometry, v: Visit, engine: EngineSpec) -> tuple[int, int]:
    """(cycles, bank bytes) of the store of a result tile."""
    dims = out_dims(g, v)
    return store_time(engine, tuple(d[0] for d in dims), tuple(d[1] for d in dims), g.elem)
