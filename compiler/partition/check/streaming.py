"""Judges a streaming plan: legal folds on real dies, resources and figures as its netlists give them.

The netlists are the checker's own (`compiler.partition.check.stream`), made from the plan's folds, dies and FIFO
depths; imports no solver, nothing of the partitioner and nothing of its assembly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compiler.ir.graph import Graph, HostSegment
from compiler.isa.check.findings import Findings
from compiler.isa.stream import ports
from compiler.isa.stream.network import Work
from compiler.partition.check.hardware import check_cluster
from compiler.partition.check.numbers import check_limiting, check_solver, check_times
from compiler.partition.check.options import HOST_SEGMENT_NS
from compiler.partition.check.stream.budgets import channels_of, check_budgets, check_channels
from compiler.partition.check.stream.netlist import Netlist, Own, netlist
from compiler.partition.check.stream.pieces import Model, model_of
from compiler.partition.check.stream.seats import Station, check_engine, check_fifos, seats_of, slices_of
from compiler.partition.check.stream.sums import Loads, fifos_of, loads, measured_excess
from compiler.partition.check.stream.timing import latency_ps
from compiler.partition.check.stream.wishes import check_wishes
from compiler.partition.check.stream.words import Illegal
from compiler.plan.model import SCHEMA, EnginePlan, Plan
from cost_models.primitives import PS_PER_SECOND, ceil_div, ps_cycles
from device_db.model import Cluster

MOST_COPIES = 64


def check_streaming(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> None:
    """FVC203 resources, FVC209 wires, FVC220 everything else."""
    model = _model(plan, graph, cluster, found)
    if model is None:
        return
    engines = _engines(plan, model, cluster, found)
    if engines is None:
        return
    seats = seats_of(engines, cluster)
    try:
        net = netlist(model, cluster, seats, plan.replicas)
        if not check_fifos(engines, net, found):
            return
        fifos = fifos_of(engines)
        excess = measured_excess(model, cluster, seats, plan.options.get("measured", ()))
        crossings = check_budgets(net, cluster, engines, fifos, excess, {}, found)
        check_channels(plan.channels, channels_of(net, model, cluster, seats), found)
        work = [
            Work(s.name, tuple(map(graph.root, s.inputs)), tuple(map(graph.root, s.outputs)), h.time_ns * 1000)
            for s, h in zip(graph.host_segments, plan.host_segments, strict=True)
        ]
        latency = latency_ps(net, cluster, plan.replicas, work, fifos)
    except (Illegal, ports.Illegal, TypeError, ValueError) as problem:
        found.add("FVC220", f"no netlist can be made of this plan: {problem}", "layers")
        return
    figures = _figures(plan, net, cluster, engines)
    _numbers(plan, cluster, figures, latency, crossings, found)
    if check_times(plan, cluster, found):
        check_solver(plan, found)
        check_wishes(plan, model, engines, found)
    _shares(plan, figures, found)


def _model(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> Model | None:
    """The layers with their cuts; None where they are not the graph's."""
    if plan.schema != SCHEMA or not 1 <= plan.replicas <= MOST_COPIES:
        found.add("FVC220", f"schema '{plan.schema}', {plan.replicas} replicas", "schema")
    check_cluster(plan, cluster, found)
    if [(x.name, x.op) for x in plan.layers] != [(n.name, n.op) for n in graph.nodes]:
        found.add("FVC220", "the layers are not those of the graph in its order", "layers")
        return None
    try:
        return model_of(graph, {x.name: x.strategy for x in plan.layers})
    except Illegal as problem:
        found.add("FVC220", f"no such slices: {problem}", "layers")
        return None


def _engines(plan: Plan, model: Model, cluster: Cluster, found: Findings) -> dict[Own, EnginePlan] | None:
    """The engine of every piece of every copy; None if later rules have nothing to stand on."""
    slices = slices_of(plan, model.pieces, plan.replicas)
    count = len(model.pieces) * plan.replicas
    if slices is None or not len(plan.engines) == sum(len(x.slices) for x in plan.layers) == count:
        what = f"{len(plan.engines)} engines; {count} layers, parts and joins of all copies, a slice each"
        found.add("FVC220", what, "engines")
        return None
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    used = sorted({dies[d].device for e in plan.engines if (d := f"{e.device}/{e.die}") in dies})
    pieces = {p.key: p for p in model.pieces}
    for e, ((copy, key), s) in zip(plan.engines, slices.items(), strict=True):
        ref = dies.get(f"{e.device}/{e.die}")
        rank = -1 if ref is None else used.index(ref.device)
        check_engine(model, cluster, pieces[key], e, s, Station(ref, rank, 0, model.order[key], copy), found)
    _segments(plan, model, found)
    return None if found.kept else dict(zip(slices, plan.engines, strict=True))


def _segments(plan: Plan, model: Model, found: Findings) -> None:
    measured = plan.options.get("host_ns", {})
    want = [
        (s.name, s.nodes, s.reason, 0, model.order[s.name], measured.get(s.name, HOST_SEGMENT_NS))
        for s in model.graph.steps
        if isinstance(s, HostSegment)
    ]
    have = [(h.name, tuple(h.nodes), h.reason, h.stage, h.order, h.time_ns) for h in plan.host_segments]
    if want != have:
        found.add("FVC220", "the host segments or their times are not those of the graph", "host_segments")


@dataclass(frozen=True, slots=True)
class Figures:
    """Busy times of a round, which is a frame of each copy, and the longest of them."""

    loads: Loads
    engines: dict[str, int]  # engine id -> picoseconds
    host_ps: int
    round_ps: int


def _figures(plan: Plan, net: Netlist, cluster: Cluster, engines: dict[Own, EnginePlan]) -> Figures:
    busy = loads(net, cluster)
    host = plan.replicas * sum(h.time_ns * 1000 for h in plan.host_segments)
    return Figures(busy, {engines[k].id: ps for k, ps in busy.engines.items()}, host, max(busy.slowest_ps, host))


def _numbers(
    plan: Plan, cluster: Cluster, f: Figures, latency: int, crossings: dict[str, dict[str, int]], found: Findings
) -> None:
    """Interval, latency, pace and what follows from them."""
    interval = ceil_div(f.round_ps, plan.replicas)
    khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    want = {
        "interval_ns": ceil_div(interval, 1000),
        "latency_ns": ceil_div(latency, 1000),
        "interval_cycles": ps_cycles(interval, khz),
        "latency_cycles": ps_cycles(latency, khz),
        "fps": round(PS_PER_SECOND / interval, 3),
        "pace_ps": f.round_ps,
        "crossings": crossings,
    }
    for key, value in want.items():
        if plan.predicted.get(key) != value:
            found.add(
                "FVC220", f"{key} is {plan.predicted.get(key)!r}, the netlists give {value!r}", f"predicted.{key}"
            )


def _shares(plan: Plan, f: Figures, found: Findings) -> None:
    """What is told of dies, links, banks and host: what stands and passes there, and its share of a round."""

    def share(ps: int) -> int:
        return min(1000, ceil_div(ps * 1000, f.round_ps))

    dies: dict[str, dict[str, int]] = {}
    for e in plan.engines:
        row = dies.setdefault(f"{e.device}/{e.die}", {"busy_permille": 0, "engines": 0})
        row["busy_permille"] = max(row["busy_permille"], share(f.engines[e.id]))
        row["engines"] += 1

    def rows(unit: str, amounts: dict[str, tuple[int, int]]) -> dict[str, dict[str, int]]:
        return {
            k: {unit: ceil_div(n, plan.replicas), "utilisation_permille": share(ps)} for k, (n, ps) in amounts.items()
        }

    want: dict[str, Any] = {
        "dies": dies,
        "links": rows("bits_per_frame", f.loads.links),
        "banks": rows("bytes_per_frame", {k: (size, ps) for k, (size, ps, _) in f.loads.banks.items()}),
        "host": {"segments": len(plan.host_segments), "busy_permille": share(f.host_ps)},
    }
    for key, value in want.items():
        if plan.predicted.get(key) != value:
            found.add("FVC220", f"{plan.predicted.get(key)}, the netlists give {value}", f"predicted.{key}")
            return
    before = len(found.kept)
    check_limiting(plan, found)
    if len(found.kept) == before:
        row = plan.predicted["limiting"]
        times = {("host", "host"): f.host_ps}
        times |= {("engine", k): ps for k, ps in f.engines.items()} | {
            ("link", k): b for k, (_, b) in f.loads.links.items()
        }
        times |= {("bank", k): slowest for k, (_, _, slowest) in f.loads.banks.items()}
        if times.get((row["kind"], row["where"])) != f.round_ps:
            found.add("FVC220", f"{row['where']} does not take the whole interval", "predicted.limiting")
