"""A mixed plan out of its two sides: the streaming part solved, the tiled planner run on the view around it.

Needs a solved streaming side and the dies left to tiled engines; gives a whole plan with its prediction, or nothing
where the bridges with their slots do not fit. Decides nothing beyond what the two sides decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from compiler.ir.graph import Graph
from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.ops.region import is_region
from compiler.ops.stream.lower import price
from compiler.ops.stream.measure import busy_ps, channels, crossing_wires, engine_use
from compiler.ops.stream.netlists import Seat, engine_id
from compiler.ops.stream.programs import fabric_dies
from compiler.ops.stream.regions import as_step, bridges, fabrics, joined, tiled_view
from compiler.ops.stream.regions import whole as whole_of
from compiler.partition.costs import CostBook
from compiler.partition.defaults import RealOps
from compiler.partition.layout import Place, places
from compiler.partition.mixed.part import (
    Offers,
    Part,
    Solved,
    lag_of,
    message_wires,
    offers_of,
    solve,
    with_wires,
)
from compiler.partition.options import PartitionOptions
from compiler.partition.planner import plan_on
from compiler.partition.prediction.predict import number
from compiler.partition.stream.over import over_budget
from compiler.plan.model import (
    ChannelPlan,
    EnginePlan,
    LayerPlan,
    Plan,
    RegionPlan,
    ResourcePlan,
    SlicePlan,
)
from cost_models.primitives import ceil_div
from device_db.model import Cluster
from device_db.topology import memory_wires


def port_wires(cluster: Cluster, here: Sequence[Place]) -> dict[tuple[int, int], int]:
    """(device, die) -> wires to the next die that messages and the memory ports of these places take."""
    out = message_wires(cluster)
    for p in here:
        board = cluster.devices[p.ref.device].board
        a, b = sorted((p.ref.die, board.banks[p.port.bank].die))
        for k in range(a, b):
            out[(p.ref.device, k)] += memory_wires(p.port.bits)
    return out


def compose(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    book: CostBook,
    here: Sequence[Place],
    streaming: Solved,
    frame_ps: int,
) -> Plan | None:
    """The plan with tiled engines on `here`. frame_ps: the interval by which regions' lags are counted."""
    regions = [
        replace(r, lag=lag_of(r.latency_ps, max(frame_ps, streaming.pace_ps)), rank=len(here) + k)
        for r, k in zip(streaming.regions, _device_numbers(streaming.regions), strict=True)
    ]
    view = tiled_view(graph, [as_step(graph, r, cluster) for r in regions])
    host_ns = {**options.host_ns, **{r.name: 0 for r in regions}}
    layers = {n for r in regions for n in r.layers}
    own = replace(options, host_ns=host_ns, anchors=tuple(a for a in options.anchors if a[0] not in layers))
    tiled = plan_on(view, cluster, own, book, list(here))
    placed = {h.name: h for h in tiled.host_segments}
    sent: dict[tuple[str, str], int] = {}
    for c in tiled.channels:
        if is_region(c.target):
            key = (c.target, c.tensor)
            sent[key] = min(sent.get(key, c.source_stage), c.source_stage)
    regions = [
        replace(
            r,
            stage=placed[r.name].stage,
            order=placed[r.name].order,
            bridges=bridges(
                graph, r.layers, placed[r.name].stage, r.lag,
                {t: stage for (name, t), stage in sent.items() if name == r.name},
            ),
        )
        for r in regions
    ]  # fmt: skip
    return _whole(graph, cluster, options, tiled, regions, streaming, port_wires(cluster, here))


def _device_numbers(regions: Sequence[RegionPlan]) -> list[int]:
    names = sorted({r.device for r in regions}, key=[r.device for r in regions].index)
    by_rank = sorted(names, key=lambda d: next(r.rank for r in regions if r.device == d))
    return [by_rank.index(r.device) for r in regions]


def _whole(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    tiled: Plan,
    regions: Sequence[RegionPlan],
    streaming: Solved,
    reserved: Mapping[tuple[int, int], int],
) -> Plan | None:
    """The tiled side's plan with the regions in it."""
    seats, depths = streaming.seats, streaming.depths
    assembly = joined(graph, cluster, regions, seats)
    programs = with_wires(cluster, fabrics(graph, cluster, assembly, depths.words, depths.memory), reserved)
    if over_budget(cluster, programs):
        return None
    use = {k: v for p in programs for k, v in engine_use(p).items()}
    engines: list[EnginePlan] = []
    layers = {x.name: x for x in tiled.layers}
    of = {name: r for r in regions for name in r.layers}
    for node in graph.nodes:
        if node.name not in of:
            continue
        r, seat = of[node.name], seats[node.name]
        name = engine_id(cluster, graph, node.name, seat.ref)
        die, took = cluster.die(seat.ref), use[name]
        parameters: dict[str, Any] = {
            "clock_khz": die.clock_khz,
            "variant": VARIANTS[seat.fold.variant],
            "memory": MEMORIES[seat.fold.memory],
            "fifo_depths": depths.words.get(node.name, []),
            "fifo_memories": [MEMORIES[m] for m in depths.memory.get(node.name, [])],
        }
        resources = ResourcePlan(took.lut, took.ff, took.bram18, took.uram, took.dsp)
        fold = {"pe": seat.fold.pe, "simd": seat.fold.simd}
        engines.append(EnginePlan(name, r.rank, r.device, die.name, "streaming", fold, parameters, resources))
        family = fabric_dies(cluster, seat.ref.device)[0].family
        box = whole_of(graph, node.y)
        part = SlicePlan(
            f"{node.name}#0", name, "full", box, 0, 0, r.stage, r.order, MEMORIES[seat.fold.memory], {},
            price(graph, node, seat.fold, family).cycles,
        )  # fmt: skip
        layers[node.name] = LayerPlan(node.name, node.op, "whole", (part,))
    every = (*tiled.engines, *engines)
    names = {r.name for r in regions}
    plan = replace(
        tiled,
        options=options.as_json(),
        engines=every,
        layers=tuple(layers[n.name] for n in graph.nodes),
        channels=(
            *(_ended(c, graph, cluster, regions, seats) for c in tiled.channels),
            *channels(graph, cluster, assembly, seats),
        ),
        host_segments=tuple(h for h in tiled.host_segments if h.name not in names),
        regions=tuple(regions),
        fallbacks=tuple(graph.fallbacks),
    )
    return replace(plan, predicted=merged(plan, cluster, tiled.predicted, busy_ps(programs), crossing_wires(programs)))


def _ended(
    c: ChannelPlan, graph: Graph, cluster: Cluster, regions: Sequence[RegionPlan], seats: Mapping[str, Seat]
) -> ChannelPlan:
    """A message's channel with the engines to which the bridges at its ends belong."""

    def end(name: str, out: bool) -> str:
        if not is_region(name):
            return name
        r = next(r for r in regions if r.name == name)
        layer = next(b.layer for b in r.bridges if (b.tensor, b.out) == (c.tensor, out))
        return engine_id(cluster, graph, layer, seats[layer].ref)

    return replace(c, source=end(c.source, True), target=end(c.target, False))


def merged(
    plan: Plan, cluster: Cluster, tiled: Mapping[str, Any], busy: Mapping[str, int], wires: Mapping[str, int]
) -> dict[str, Any]:
    """`Plan.predicted` of both sides. busy: picoseconds a frame of each streaming engine; wires: by crossing."""
    out = dict(tiled)
    frame_ps = int(out["interval_ns"]) * 1000
    dies = dict(out["dies"])
    for e in plan.engines:
        if e.style == "streaming":
            row = dies.setdefault(f"{e.device}/{e.die}", {"busy_permille": 0, "engines": 0})
            row["busy_permille"] = max(row["busy_permille"], min(1000, ceil_div(busy[e.id] * 1000, frame_ps)))
            row["engines"] += 1
    out["dies"] = dict(sorted(dies.items()))
    out["crossings"] = {k: {"wires": w} for k, w in wires.items()}
    out["host"] = {**out["host"], "segments": len(plan.host_segments)}
    used = {e.device for e in plan.engines}
    watts = sum(d.board.power_w for d in cluster.devices if d.name in used)
    out["energy_mj"] = number(round(watts * out["interval_ns"] / 1e6, 3))
    slowest = max(busy, key=lambda e: (busy[e], e))
    if busy[slowest] * 100 >= frame_ps * 90 and busy[slowest] >= _tiled_ps(tiled, frame_ps):
        layer = next(x.name for x in plan.layers if any(s.engine == slowest for s in x.slices))
        share = min(100, busy[slowest] * 100 // frame_ps)
        out["limiting"] = {
            "kind": "engine",
            "where": slowest,
            "text": f"layer {layer}, which streams, takes {share} % of the interval",
            "relief": ["add a device, or a larger board: layers can be unfolded further", "a higher --clock"],
        }
    return out


def _tiled_ps(tiled: Mapping[str, Any], frame_ps: int) -> int:
    """How long the busiest die of tiled engines works a frame."""
    return max((frame_ps * row["busy_permille"] // 1000 for row in tiled["dies"].values()), default=0)


def plan_split(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    parts: Sequence[Part],
    offers: Offers | None = None,
    book: CostBook | None = None,
    floor_ps: int = 1,
    free: bool = False,
) -> Plan | None:
    """The plan in which these parts stream and all else is tiled, not judged; None where it does not fit.

    floor_ps: no shorter interval is looked for. free: the layers of all parts may stand on the dies of any."""
    taken = {(p.device, d) for p in parts for d in p.dies}
    here = [p for p in places(cluster, None) if (p.ref.device, p.ref.die) not in taken]
    if not here:
        return None
    offers = offers_of(graph, cluster, options) if offers is None else offers
    found = solve(graph, cluster, options, parts, offers, floor_ps, len(here), port_wires(cluster, here), free)
    if found is None:
        return None
    book = CostBook(graph, RealOps()) if book is None else book
    return compose(graph, cluster, options, book, here, found, max(floor_ps, found.pace_ps))
