"""The tile of a convolution task: a closed search over channel, depth and row blocks and the loop order.

Candidates are ranked by a closed estimate (the busiest of LD, CX, ST and the bank, plus filling and draining); the
best few are then timed exactly by the pipeline recurrence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.isa.program import EngineSpec
from compiler.ops.base import COUNT_LIMIT, Tile
from compiler.ops.boxes import align
from compiler.ops.conv_geometry import (
    CHANNELS_OUTER,
    ROWS_OUTER,
    Geometry,
    balanced,
    encodable,
    fits,
    input_shareable,
    m_quantum,
    mac_mode,
    shareable,
    slots,
    turned,
)
from compiler.ops.conv_time import timeline
from compiler.ops.dma import load_time, store_time
from cost_models.pipeline import pipeline_makespan
from cost_models.primitives import ceil_div, vector_cycles

EXACT_CANDIDATES = 3
CHANNEL_STEP = 8  # to which the sizes of slices that share an input are rounded up
MOST_TILES = 48  # beyond so many tiles finer ones only cost set-up time
_M_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 256)
_ROW_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a candidate takes in all: cycles of each queue, bank bytes, the first step and the last."""

    ld: int
    cx: int
    st: int
    bus: int
    first_ld: int
    step_cx: int
    last_st: int

    def makespan(self, bank_cycles: int) -> int:
        """The queue that is always busy, with what must come before its first and after its last piece of work."""
        return max(
            max(self.ld, bank_cycles) + self.step_cx + self.last_st,
            self.first_ld + self.cx + self.last_st,
            self.first_ld + self.step_cx + self.st,
        )


def choose(g: Geometry, engine: EngineSpec, wgt_ring_bytes: int) -> Tile | None:
    """The quickest tile that fits the scratchpads, or None. wgt_ring_bytes: both weight slots together."""
    if g.input_share[1] == 1:
        return _quickest(g, engine, wgt_ring_bytes)
    if g.groups > 1:
        return None
    tile = _quickest(replace(g, m1=g.m0 + even_share(g)), engine, wgt_ring_bytes)
    return None if tile is None else {**tile, "m": min(tile["m"], total_m(g))}


def _quickest(g: Geometry, engine: EngineSpec, wgt_ring_bytes: int) -> Tile | None:
    partial = g.elem == 4
    ranked: list[tuple[int, int, Tile]] = []
    for tile in candidates(g, engine, wgt_ring_bytes, partial):
        if g.share[1] > 1 and not shareable(g, tile):
            continue
        if g.input_share[1] > 1 and not input_shareable(g, tile):
            continue
        e = estimate(g, tile, engine)
        bank = ceil_div(e.bus * engine.clock_khz * 1000, engine.bank_bytes_per_second)
        ranked.append((e.makespan(bank), len(ranked), tile))
    ranked.sort(key=lambda r: r[:2])
    best: tuple[int, Tile] | None = None
    for _, _, tile in ranked[:EXACT_CANDIDATES]:
        cycles = pipeline_makespan(timeline(g, tile, engine))
        if best is None or cycles < best[0]:
            best = (cycles, tile)
    return best[1] if best else None


def candidates(g: Geometry, engine: EngineSpec, ring: int, partial: bool) -> list[Tile]:
    """Fitting tiles, each once, in a fixed order."""
    total, taps = g.m1 - g.m0, g.kh * g.kw
    depth = g.k1 - g.k0
    quantum = m_quantum(g, engine.tm)
    found: dict[tuple[int, ...], Tile] = {}
    for split in _M_SPLITS:
        m = min(total, align(ceil_div(total, split), quantum))
        if g.groups > 1 and split >= _M_SPLITS[-1] and g.group_m > engine.tm:
            m = min(m, align(ceil_div(g.group_m, split), engine.tm))
        room = depth if g.resident else min(depth, COUNT_LIMIT, ring // 2 // 64 * 64 // (m * taps))
        if room < 1:
            continue
        n = depth if g.resident else balanced(depth, room, engine.tn)
        for depth_block in {n: None, balanced(depth, max(1, n // 4), engine.tn): None}:
            if g.resident and depth_block != depth:
                continue
            _add_rows(found, g, engine, ring, partial, m, depth_block)
        if found and (m <= quantum or ceil_div(total, m) > MOST_TILES):
            break
    if (not found and g.groups == 1) or (not found and g.group_m > 1):
        for m in (min(total, g.group_m, engine.tm), 1):
            room = depth if g.resident else min(depth, COUNT_LIMIT, ring // 2 // 64 * 64 // (m * taps))
            for n in (room, min(room, engine.tn), 1):
                if n >= 1 and not (g.resident and n != depth):
                    _add_rows(found, g, engine, ring, partial, m, n)
    return list(found.values())


def _add_rows(
    found: dict[tuple[int, ...], Tile], g: Geometry, engine: EngineSpec, ring: int, partial: bool, m: int, n: int
) -> None:
    height, width = g.h1 - g.h0, g.w1 - g.w0
    if g.groups > 1 and m > g.group_m and n < g.k1 - g.k0:
        return  # channels of several groups, each cut short, would not lie together

    def fit(r: int, c: int) -> bool:
        tile = {"m": m, "n": n, "r": r, "c": c, "order": 0}
        return encodable(g, tile) and fits(slots(g, tile), engine, ring, partial)

    c = width
    while c > 1 and not fit(1, c):
        c = ceil_div(c, 2)
    if not fit(1, c):
        return
    lo, hi = 1, height
    while lo < hi:
        mid = (lo + hi + 1) // 2
        lo, hi = (mid, hi) if fit(mid, c) else (lo, mid - 1)
    fewest = ceil_div(height, lo)
    seen: set[int] = set()
    for more in _ROW_SPLITS:
        if height > 1:
            r, cc = ceil_div(height, min(height, fewest * more)), c
        else:
            r, cc = 1, ceil_div(c, min(c, more))
        if r * width + cc in seen:
            continue
        seen.add(r * width + cc)
        for order in (ROWS_OUTER, CHANNELS_OUTER):
            found.setdefault((m, n, r, cc, order), {"m": m, "n": n, "r": r, "c": cc, "order": order})
        if ceil_div(total_m(g), m) * ceil_div(height, r) * ceil_div(width, cc) > MOST_TILES:
            break


def total_m(g: Geometry) -> int:
    return g.m1 - g.m0


def even_share(g: Geometry) -> int:
    """Output channels of the largest slice beside this one, as the even cut of a layer has them, or a few more: tasks
    that share their input choose one tile for it, whatever their own share of the channels."""
    own = total_m(g)
    slices = (2 * g.group_m + own) // (2 * own)
    return max(own, align(ceil_div(g.group_m, slices), CHANNEL_STEP))


def estimate(g: Geometry, tile: Tile, engine: EngineSpec) -> Estimate:
    """Closed totals with every tile taken as an inner one of average size."""
    total, depth = g.m1 - g.m0, g.k1 - g.k0
    height, width, batch = g.h1 - g.h0, g.w1 - g.w0, g.b1 - g.b0
    m, n, r, c = min(tile["m"], total), min(tile["n"], depth), tile["r"], tile["c"]
    groups = 1 if g.groups == 1 else max(1, m // g.group_m)
    n_m, n_k, n_r, n_c = ceil_div(total, m), ceil_div(depth, n), ceil_div(height, r), ceil_div(width, c)
    places = batch * n_r * n_c
    steps = places * n_m * n_k
    if tile["order"] == ROWS_OUTER:
        acts = places if n_k == 1 and g.groups == 1 else steps
        wgts = 1 if n_m * n_k == 1 else steps
        tabs = 1 if n_m == 1 else places * n_m
    else:
        acts = places if n_m * n_k == 1 else steps
        wgts = n_m if n_k == 1 else steps
        tabs = n_m
    rows = min(g.in_h, g.height(r)) if r < height else min(g.in_h, g.height(height))
    cols = min(g.in_w, g.width(c))
    part = g.input_share[1]
    if g.last:
        cut = (ceil_div(r, part), c) if r > 1 else (r, ceil_div(c, part))
        counts, strides = (*cut, n), (g.x_strides[2], g.x_strides[3], g.x_strides[1])
    else:
        counts, strides = (ceil_div(groups * n, part), rows, cols), (g.x_strides[1], g.x_strides[2], g.x_strides[3])
    act_c, act_b = load_time(engine, counts, strides, 1)
    wgt_c, wgt_b = (0, 0) if g.resident else load_time(engine, (1, 1, g.loaded(m * n * g.kh * g.kw)), (0, 0, 1), 1)
    tab_c, tab_b = load_time(engine, (1, 1, m * g.tab_channel_bytes), (0, 0, 1), 1)
    if turned(g):
        oc, os_ = (r, c, m), (g.y_strides[2], g.y_strides[3], g.y_strides[1])
    else:
        oc, os_ = (m, r, c), (g.y_strides[1], g.y_strides[2], g.y_strides[3])
    out_c, out_b = store_time(engine, oc, os_, g.elem)
    if g.resident:
        wgts = 0
    packets = places * n_m
    mac = mac_mode(g.last, m, n, groups, g.kh, g.kw, r, c, engine.tm, engine.tn)[1]
    vec = vector_cycles(m * r * c, 1, engine.vector_lanes) * (2 if turned(g) else 1) if g.elem == 1 else 0
    # the last blocks are smaller: scale whole-block times by the share that exists (at least one each)
    share = height * width * total / (n_r * r * n_c * c * n_m * m) if m % engine.tm == 0 else 1.0
    return Estimate(
        acts * act_c + wgts * wgt_c + tabs * tab_c,
        int((steps * mac + packets * vec) * share),
        packets * out_c,
        acts * act_b + wgts * wgt_b + tabs * tab_b + packets * out_b,
        act_c + (0 if g.resident else wgt_c) + tab_c,
        mac + vec,
        out_c,
    )
