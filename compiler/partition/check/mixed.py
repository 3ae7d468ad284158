"""Judges a plan with both styles: its regions, its netlists, and what it says of the whole.

The tiled side is judged by the rules of tiled plans, in the view in which a region is one step (`tiled_side`); here is
the rest: regions are those that follow from who stands where, folds and FIFOs are legal, dies hold one style each,
resources and wires are kept, bridges have their slots, pace and latency are those of the netlists.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from compiler.ir.graph import Graph
from compiler.isa.check.findings import Findings
from compiler.isa.stream import ports
from compiler.isa.stream.table import DRAM, MEMORIES
from compiler.ops.region import is_region
from compiler.partition.check.regions import bridges_of, ends_of, inside, regions_of, without
from compiler.partition.check.stream.budgets import channels_of, check_budgets, check_channels
from compiler.partition.check.stream.netlist import Boundary, Netlist, Own, Seat, netlist
from compiler.partition.check.stream.pieces import Model, model_of
from compiler.partition.check.stream.seats import Station, check_engine, check_fifos, seats_of
from compiler.partition.check.stream.sums import fifos_of, loads
from compiler.partition.check.stream.timing import latency_ps
from compiler.partition.check.stream.wishes import anchored
from compiler.partition.check.stream.words import Illegal
from compiler.plan.model import EnginePlan, Plan, RegionPlan
from cost_models.primitives import ceil_div
from device_db.model import Cluster, DieRef
from device_db.topology import SLL_STREAM_WIRES, memory_wires

Sent = dict[tuple[str, str], int]  # (region, tensor) -> the earliest stage at which it is sent there


def check_regions(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> bool:
    """FVC220: layers, dies, engines and regions by name; False if later rules have nothing to stand on."""
    before = len(found.kept)
    if [(x.name, x.op) for x in plan.layers] != [(n.name, n.op) for n in graph.nodes]:
        found.add("FVC220", "the layers are not those of the graph in its order", "layers")
        return False
    if plan.replicas != 1:
        found.add("FVC220", "regions in a plan with replicas", "regions")
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    style: dict[str, set[str]] = {}
    seen = Counter(e.id for e in plan.engines)
    for e in plan.engines:
        if f"{e.device}/{e.die}" not in dies:
            found.add("FVC220", f"the cluster has no die {e.device}/{e.die}", f"engine {e.id}")
        if e.style not in ("tiled", "streaming") or seen[e.id] > 1:
            found.add("FVC220", f"style '{e.style}', or an id that stands there twice", f"engine {e.id}")
        style.setdefault(f"{e.device}/{e.die}", set()).add(e.style)
    for die, styles in style.items():
        if len(styles) > 1:
            found.add("FVC220", "tiled and streaming engines on one die", die)
    engines = {e.id: e for e in plan.engines}
    if any(s.engine not in engines for x in plan.layers for s in x.slices) or any(not x.slices for x in plan.layers):
        found.add("FVC220", "a layer without a slice, or on an engine that is not there", "layers")
    known = {*engines, "host"}
    for c in plan.channels:
        if c.source not in known or c.target not in known:
            found.add("FVC220", f"a channel from {c.source} to {c.target}: no such engine", f"channel of {c.tensor}")
    if len(found.kept) > before:
        return False
    on = streaming(plan)
    if len(on) != sum(e.style == "streaming" for e in plan.engines):
        found.add("FVC220", "not one layer on each streaming engine", "engines")
        return False
    device = {d.name: k for k, d in enumerate(cluster.devices)}
    want = regions_of(graph, {name: device[e.device] for name, e in on.items()})
    cores = sum(e.style == "tiled" for e in plan.engines)
    used = sorted({d for d, _ in want})
    told = [(r.name, device.get(r.device, -1), tuple(r.layers), r.rank) for r in plan.regions]
    meant = [(f"region{k}", d, layers, cores + used.index(d)) for k, (d, layers) in enumerate(want)]
    if told != meant:
        found.add("FVC220", f"{len(told)} regions that are not the {len(meant)} of the layers and dies", "regions")
        return False
    for r in plan.regions:
        stand = {e.die for name, e in on.items() if e.device == r.device}
        same = {x.die for x in plan.regions if x.device == r.device}
        if r.die not in stand or len(same) > 1:
            found.add("FVC220", f"bridges on {', '.join(sorted(same))}", r.name)
        if r.stage < 1 or r.lag < 0 or r.order < 0 or min(r.pace_ps, r.latency_ps) < 1:
            found.add("FVC220", f"stage {r.stage}, lag {r.lag}, order {r.order}, pace or latency of nothing", r.name)
    region = {name: r for r in plan.regions for name in r.layers}
    model = whole_layers(graph)
    for layer, piece in zip(plan.layers, model.pieces, strict=True):
        if layer.name in on:
            e, r = on[layer.name], region[layer.name]
            at = Station(dies[f"{e.device}/{e.die}"], r.rank, r.stage, r.order)
            if len(layer.slices) != 1 or layer.strategy != "whole" or layer.xfer:
                found.add("FVC220", "a layer that streams beside tiled ones has one slice", layer.name)
            check_engine(model, cluster, piece, e, layer.slices[0], at, found)
    return len(found.kept) == before


def whole_layers(graph: Graph) -> Model:
    """Beside tiled engines no layer that streams is cut."""
    return model_of(graph, {n.name: "whole" for n in graph.nodes})


def streaming(plan: Plan) -> dict[str, EnginePlan]:
    """The engine of every layer that streams."""
    engines = {e.id: e for e in plan.engines}
    on = {x.name: engines[x.slices[0].engine] for x in plan.layers if x.slices}
    return {name: e for name, e in on.items() if e.style == "streaming"}


def tiled_side(plan: Plan, graph: Graph, cluster: Cluster) -> tuple[Plan, Graph]:
    """The plan and graph of the tiled view, its figures those of its own engines and segments."""
    tiled, view = without(plan, graph, cluster)
    p: dict[str, Any] = dict(plan.predicted)
    here = {f"{e.device}/{e.die}" for e in tiled.engines}
    every = {f"{e.device}/{e.die}" for e in plan.engines}
    if isinstance(p.get("dies"), dict):
        p["dies"] = {k: v for k, v in p["dies"].items() if k in here or k not in every}
    host = p.get("host")
    if isinstance(host, dict) and host.get("segments") == len(plan.host_segments):
        p["host"] = {**host, "segments": len(tiled.host_segments)}
    interval = p.get("interval_ns")
    if isinstance(interval, int):
        p["energy_mj"] = _energy(tiled.engines, cluster, interval)
    limiting = p.get("limiting")
    if isinstance(limiting, dict) and str(limiting.get("where")) in {
        e.id for e in plan.engines if e.style == "streaming"
    }:
        p["limiting"] = {**limiting, "where": tiled.engines[0].id} if tiled.engines else limiting
    return replace(tiled, predicted=p), view


def _energy(engines: tuple[EnginePlan, ...], cluster: Cluster, interval_ns: int) -> float:
    used = {e.device for e in engines}
    watts = sum(d.board.power_w for d in cluster.devices if d.name in used)
    return round(watts * interval_ns / 1e6, 3)


def check_netlists(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> None:
    """FVC203 resources, FVC209 wires, FVC220 bridges, FIFOs, channels and figures of the streaming side."""
    sent = _stages(plan, graph, cluster, found)
    if sent is None:
        return
    for r in plan.regions:
        mine = {t: stage for (name, t), stage in sent.items() if name == r.name}
        if r.stage != 1 + max(mine.values(), default=0):
            found.add("FVC220", f"stage {r.stage}, its input is sent at {sorted(mine.values())}", r.name)
        elif r.bridges != (want := bridges_of(graph, r, mine)):
            wrong = next((b for b, w in zip(r.bridges, want, strict=False) if b != w), None)
            found.add("FVC220", f"its bridges differ from what its stages need: {wrong or len(r.bridges)}", r.name)
    if found.kept:
        return
    engines: dict[Own, EnginePlan] = {(0, name): e for name, e in streaming(plan).items()}
    seats = seats_of(engines, cluster)
    if any(s.fold.memory == MEMORIES[DRAM] for s in seats.values()):
        found.add("FVC220", "beside tiled engines, whose the memory banks are, weights stand on the chip", "engines")
        return
    for name, where in plan.options.get("anchors", ()):
        if (0, name) in engines and not anchored([engines[(0, name)]], where):
            found.add("FVC220", f"'{name}' does not stand on {where}", "options.anchors")
    model = whole_layers(graph)
    net = Netlist()
    try:
        alone = [(r, _alone(r, model, cluster, seats)) for r in plan.regions]
        for _, own in alone:
            net.append(own)
        if not check_fifos(engines, net, found):
            return
        crossings = check_budgets(net, cluster, engines, fifos_of(engines), {}, _wires(plan, cluster), found)
        for r, own in alone:
            _region(r, own, cluster, plan, found)
    except (Illegal, ports.Illegal, ValueError) as problem:
        found.add("FVC220", f"no netlist can be made of this plan: {problem}", "regions")
        return
    of = ends_of(plan)
    check_channels([c for c in plan.channels if inside(c, of)], channels_of(net, model, cluster, seats), found)
    busy = {engines[own].id: ps for own, ps in loads(net, cluster).engines.items()}
    _numbers(plan, cluster, crossings, busy, found)


def _alone(r: RegionPlan, model: Model, cluster: Cluster, seats: dict[Own, Seat]) -> Netlist:
    """The netlist of one region between its bridges."""
    device = [d.name for d in cluster.devices].index(r.device)
    die = [d.name for d in cluster.devices[device].board.dies].index(r.die)
    at = Boundary(DieRef(device, die), r.stage, r.lag, {(b.tensor, b.out): b.frames for b in r.bridges})
    return netlist(model, cluster, seats, 1, r.layers, at)


def _stages(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> Sent | None:
    """When each region's input is sent; FVC220 where a message ends at another engine than its bridge's."""
    engine = {x.name: s.engine for x in plan.layers for s in x.slices[:1]}
    ends = {(r.name, b.tensor, b.out): engine.get(b.layer) for r in plan.regions for b in r.bridges}
    tiled, _ = without(plan, graph, cluster)
    of = ends_of(plan)
    real = [c for c in plan.channels if not inside(c, of)]
    sent: Sent = {}
    fine = True
    for c, seen in zip(real, tiled.channels, strict=True):
        for name, out, own in ((seen.source, True, c.source), (seen.target, False, c.target)):
            if is_region(name) and ends.get((name, c.tensor, out)) != own:
                found.add("FVC220", f"no bridge of {name} for {c.tensor} belongs to {own}", f"channel of {c.tensor}")
                fine = False
        if is_region(seen.target):
            key = (seen.target, c.tensor)
            sent[key] = min(sent.get(key, c.source_stage), c.source_stage)
    return sent if fine else None


def _wires(plan: Plan, cluster: Cluster) -> Counter[tuple[str, int]]:
    """(device, die) -> wires to the next die that ports of tiled engines and the stream of messages take."""
    out: Counter[tuple[str, int]] = Counter()
    for d in cluster.devices:
        at = {die.name: k for k, die in enumerate(d.board.dies)}
        bank = {b.name: b.die for b in d.board.banks}
        for k in range(len(d.board.sll_wires)):
            out[(d.name, k)] += SLL_STREAM_WIRES
        for e in plan.engines:
            if e.style == "tiled" and e.device == d.name and e.parameters.get("bank") in bank:
                a, b = sorted((at[e.die], bank[e.parameters["bank"]]))
                bits = 8 * max(e.parameters["ld_bytes_per_cycle"], e.parameters["st_bytes_per_cycle"])
                for k in range(a, b):
                    out[(d.name, k)] += memory_wires(bits)
    return out


def _region(r: RegionPlan, net: Netlist, cluster: Cluster, plan: Plan, found: Findings) -> None:
    """Pace and latency of one region, by the checker's own sums."""
    pace, latency = loads(net, cluster).slowest_ps, latency_ps(net, cluster, 1, ())
    if (r.pace_ps, r.latency_ps) != (pace, latency):
        what = f"pace {r.pace_ps} and latency {r.latency_ps} ps, its netlist gives {pace} and {latency}"
        found.add("FVC220", what, r.name)
    if plan.predicted.get("interval_ns", 0) * 1000 < pace:
        found.add("FVC220", f"an interval shorter than the pace of {r.name}, {pace} ps", "predicted.interval_ns")


def _numbers(
    plan: Plan, cluster: Cluster, crossings: dict[str, dict[str, int]], busy: dict[str, int], found: Findings
) -> None:
    """What the plan says of both sides together."""
    p = plan.predicted
    interval = p.get("interval_ns")
    if type(interval) is not int or interval <= 0:
        return  # the tiled side's rules say so
    used = {f"{e.device}/{e.die}" for e in plan.engines}
    dies: dict[str, dict[str, int]] = {}
    for e in plan.engines:
        if e.style == "streaming":
            row = dies.setdefault(f"{e.device}/{e.die}", {"busy_permille": 0, "engines": 0})
            share = min(1000, ceil_div(busy[e.id] * 1000, interval * 1000))
            row["busy_permille"], row["engines"] = max(row["busy_permille"], share), row["engines"] + 1
    have = p.get("dies", {})
    if set(have) != used or any(have.get(k) != row for k, row in dies.items()):
        found.add("FVC220", f"not the plan's dies, or not {dies} of those that stream", "predicted.dies")
    want = {
        "crossings": crossings,
        "energy_mj": _energy(plan.engines, cluster, interval),
    }
    for key, value in want.items():
        if p.get(key) != value:
            found.add("FVC220", f"{key} is {p.get(key)!r}, the plan makes it {value!r}", f"predicted.{key}")
    if p.get("host", {}).get("segments") != len(plan.host_segments):
        found.add("FVC220", f"{p.get('host')} for {len(plan.host_segments)} host segments", "predicted.host")
    slowest = max(busy, key=lambda e: (busy[e], e))
    where = str(p.get("limiting", {}).get("where"))
    if where in busy and where != slowest:
        found.add("FVC220", f"{where} is not the slowest engine that streams, {slowest}", "predicted.limiting")
