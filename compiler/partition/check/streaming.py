"""Judges a streaming plan: legal folds on real dies, resources and figures as the netlists of plan and graph give them.

Assembles the netlists anew from the plan's folds, dies and FIFO depths; imports no solver and none of the partitioner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.ir.graph import Conv, Graph, HostSegment, Node
from compiler.isa.check.findings import Findings
from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work
from compiler.isa.stream.table import DRAM, MEMORIES, VARIANTS
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.lower import legal, price
from compiler.ops.stream.measure import channels
from compiler.ops.stream.netlists import Assembly, engine_id, own_name
from compiler.ops.stream.planned import depths_of, engines_of, expanded, fold_of, seats_of, slices_of
from compiler.ops.stream.programs import programs_of
from compiler.ops.stream.sliced import Join, layer_of, role_of, task_of
from compiler.partition.check.fabric import TYPES, budget, busiest_link_ps, play, sums
from compiler.partition.check.hardware import check_cluster
from compiler.partition.check.loads import link_bits
from compiler.partition.check.numbers import check_limiting, check_times
from compiler.partition.check.options import HOST_SEGMENT_NS
from compiler.plan.model import SCHEMA, EnginePlan, Plan, SlicePlan
from cost_models.primitives import PS_PER_SECOND, ceil_div, ps_cycles
from device_db.errors import FvcError
from device_db.model import Cluster, DieRef, Resources

DEEPEST_FIFO = 1 << 24
MOST_COPIES = 64
_PARAMETERS = {"clock_khz", "variant", "memory", "fifo_depths", "fifo_memories"}


def check_streaming(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> None:
    """FVC203 resources, FVC209 wires, FVC220 everything else."""
    base = graph
    try:
        graph = expanded(base, plan)
    except ValueError as problem:
        found.add("FVC220", f"no such slices: {problem}", "layers")
        return
    if not _engines(plan, base, graph, cluster, found):
        return
    try:
        seats = seats_of(plan, cluster)
        assembly = assemble(graph, cluster, seats, plan.options.get("measured", ()))
    except (FvcError, TypeError, ValueError) as problem:
        found.add("FVC220", f"no netlist can be made of this plan: {problem}", "layers")
        return
    if not check_fifos(engines_of(plan), assembly, found):
        return
    words, memory = depths_of(plan)
    pace = plan.predicted.get("pace_ps")
    if not isinstance(pace, int) or pace < 1:
        found.add("FVC220", f"predicted.pace_ps is {pace!r}", "predicted")
        return
    programs = programs_of(graph, cluster, assembly, pace, words, memory)
    crossings = check_budgets(plan, cluster, programs, assembly, {}, found)
    want = channels(graph, cluster, assembly, seats)
    if list(plan.channels) != want:
        wrong = next((c for c, w in zip(plan.channels, want, strict=False) if c != w), None)
        where = f"channel of {wrong.tensor} to {wrong.target}" if wrong else "channels"
        found.add("FVC220", f"{len(plan.channels)} channels that are not the {len(want)} of the netlists", where)
    _numbers(plan, graph, cluster, programs, crossings, found)
    if check_times(plan, cluster, found):
        _options(plan, graph, found)
    _places(plan, programs, found)


def _places(plan: Plan, programs: list[DeviceProgram], found: Findings) -> None:
    """What is told of dies, links, banks and host is of those that the plan uses, and counts what stands and passes
    there."""
    engines: dict[str, int] = {}
    for e in plan.engines:
        engines[f"{e.device}/{e.die}"] = engines.get(f"{e.device}/{e.die}", 0) + 1
    # SLLs stand in `crossings`: wires, not bits.
    bits = {k: ceil_div(b, plan.replicas) for k, b in link_bits(plan).items() if "/" not in k}
    read: dict[str, int] = {}
    for p in programs:
        assert p.fabric is not None
        for u in (u.fields for u in p.fabric.units() if u.op == "MEM"):
            name = f"{p.name}/{p.fabric.banks[u['bank']].name}"
            read[name] = read.get(name, 0) + u["turns"] * u["words"] * ceil_div(u["pe"] * u["x_bits"], 8)
    read = {k: ceil_div(b, plan.replicas) for k, b in read.items()}
    for key, unit, want in (
        ("dies", "engines", engines),
        ("links", "bits_per_frame", bits),
        ("banks", "bytes_per_frame", read),
    ):
        told = plan.predicted.get(key)
        have = {k: v.get(unit) for k, v in told.items() if isinstance(v, dict)} if isinstance(told, dict) else told
        if have != want:
            found.add("FVC220", f"{unit} are {have}, the plan has {want}", f"predicted.{key}")
    host = plan.predicted.get("host")
    if not isinstance(host, dict) or host.get("segments") != len(plan.host_segments):
        found.add("FVC220", f"{host}, the plan has {len(plan.host_segments)} segments", "predicted.host")
    for key in ("dies", "links", "banks"):
        if not isinstance(plan.predicted.get(key), dict):
            return
    check_limiting(plan, found)


def _engines(plan: Plan, base: Graph, graph: Graph, cluster: Cluster, found: Findings) -> bool:
    """Names, dies, folds, layers; False if later rules have nothing to stand on."""
    before = len(found.kept)
    if plan.schema != SCHEMA or not 1 <= plan.replicas <= MOST_COPIES:
        found.add("FVC220", f"schema '{plan.schema}', {plan.replicas} replicas", "schema")
    check_cluster(plan, cluster, found)
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    if [(x.name, x.op) for x in plan.layers] != [(n.name, n.op) for n in base.nodes]:
        found.add("FVC220", "the layers are not those of the graph in its order", "layers")
        return False
    slices = [s for c in range(plan.replicas) for s in slices_of(plan, c).values()]
    count = len(graph.nodes) * plan.replicas
    if not len(plan.engines) == len(slices) == sum(len(x.slices) for x in plan.layers) == count:
        what = f"{len(plan.engines)} engines, {len(slices)} slices; {count} layers, parts and joins of all copies"
        found.add("FVC220", what, "engines")
        return False
    used = sorted({dies[d].device for e in plan.engines if (d := f"{e.device}/{e.die}") in dies})
    ranks = {device: rank for rank, device in enumerate(used)}
    order = {step.name: k for k, step in enumerate(graph.steps)}
    every = [(c, node) for c in range(plan.replicas) for node in graph.nodes]
    for e, (copy, node), s in zip(plan.engines, every, slices, strict=True):
        ref = dies.get(f"{e.device}/{e.die}")
        rank = -1 if ref is None else ranks[ref.device]
        check_engine(graph, cluster, node, e, s, Station(ref, rank, 0, order[node.name], copy), found)
    _segments(plan, graph, order, found)
    return len(found.kept) == before


@dataclass(frozen=True, slots=True)
class Station:
    """Where a layer's engine must stand and when it works: die (None: there is none), rank, stage, order, copy."""

    ref: DieRef | None
    rank: int
    stage: int
    order: int
    copy: int = 0


def check_engine(
    graph: Graph, cluster: Cluster, node: Node, e: EnginePlan, s: SlicePlan, at: Station, found: Findings
) -> None:
    """FVC220: one layer's engine and slice."""
    where = f"engine {e.id} of {node.name}"
    if at.ref is None:
        found.add("FVC220", f"the cluster has no die {e.device}/{e.die}", where)
        return
    if e.style != "streaming" or set(e.fold) != {"pe", "simd"} or set(e.parameters) != _PARAMETERS:
        found.add("FVC220", f"it is no streaming engine: style {e.style}, fold {e.fold}", where)
        return
    p = e.parameters
    if (e.id, e.rank, e.replica) != (engine_id(cluster, graph, node.name, at.ref, at.copy), at.rank, at.copy):
        found.add("FVC220", f"id, rank {e.rank} or replica {e.replica} are not those of its place", where)
    if p["clock_khz"] != cluster.die(at.ref).clock_khz:
        found.add("FVC220", f"clock {p['clock_khz']} kHz, the die has {cluster.die(at.ref).clock_khz}", where)
    if p["variant"] not in VARIANTS or p["memory"] not in MEMORIES:
        found.add("FVC220", f"variant {p['variant']!r}, memory {p['memory']!r}", where)
        return
    why = legal(graph, node, fold_of(e))
    if why:
        found.add("FVC220", why, where)
        return
    cycles = price(graph, node, fold_of(e), cluster.devices[at.ref.device].board.family).cycles
    role, box, reduce = role_of(graph, node)
    told = (s.task, s.engine, s.role, s.box, s.reduce_from, s.reduce_to, s.stage, s.order, s.memory, s.tile)
    meant: tuple[object, ...] = (
        task_of(node, at.copy), e.id, role, box, *reduce, at.stage, at.order, p["memory"], {},
    )  # fmt: skip
    if told != meant or s.cycles != cycles or s.replica != at.copy:
        found.add("FVC220", f"slice {told} with {s.cycles} cycles, {meant} with {cycles} expected", where)


def _segments(plan: Plan, graph: Graph, order: dict[str, int], found: Findings) -> None:
    measured = plan.options.get("host_ns", {})
    want = [
        (s.name, s.nodes, s.reason, 0, order[s.name], measured.get(s.name, HOST_SEGMENT_NS))
        for s in graph.steps
        if isinstance(s, HostSegment)
    ]
    have = [(h.name, tuple(h.nodes), h.reason, h.stage, h.order, h.time_ns) for h in plan.host_segments]
    if want != have:
        found.add("FVC220", "the host segments or their times are not those of the graph", "host_segments")


def check_fifos(engines: Mapping[str, EnginePlan], assembly: Assembly, found: Findings) -> bool:
    """A depth and a memory for every stream that a layer's engine reads. engines: by layer and copy."""
    before = len(found.kept)
    for name, e in engines.items():
        count = len(assembly.wires_of(name))
        depths, memories = e.parameters["fifo_depths"], e.parameters["fifo_memories"]
        whole = isinstance(depths, list | tuple) and isinstance(memories, list | tuple)
        whole = whole and len(depths) == len(memories) == count
        if not whole or not all(type(d) is int and 0 < d < DEEPEST_FIFO for d in depths):
            found.add("FVC220", f"{count} FIFOs, its depths are {depths!r}", f"engine {e.id}")
        elif not all(m in MEMORIES[:3] for m in memories):
            found.add("FVC220", f"FIFO memories {memories!r}", f"engine {e.id}")
    return len(found.kept) == before


def check_budgets(
    plan: Plan,
    cluster: Cluster,
    programs: list[DeviceProgram],
    assembly: Assembly,
    others: Mapping[tuple[str, int], int],
    found: Findings,
) -> dict[str, dict[str, int]]:
    """Judges resources and wires; gives the wires by boundary. others: (device, die) -> wires to the next die that
    tiled engines and messages take."""
    use = sums(programs)
    numbers = {d.name: k for k, d in enumerate(cluster.devices)}
    more: dict[tuple[str, int], Resources] = {}
    for name, engine in engines_of(plan).items():
        excess = assembly.excess.get(name, Resources())
        for t in TYPES:
            use.engines[engine.id][t] += getattr(excess, t)
        if name in assembly.dies:
            ref = assembly.dies[name]
            place = (cluster.devices[ref.device].name, ref.die)
            more[place] = more.get(place, Resources()) + excess
    for e in (e for e in plan.engines if e.style == "streaming"):
        told, meant = [getattr(e.resources, t) for t in TYPES], [use.engines[e.id][t] for t in TYPES]
        if told != meant:
            found.add("FVC220", f"resources {told}, its units and FIFOs take {meant}", f"engine {e.id}")
    for (device, die), took in use.dies.items():
        have, extra = budget(cluster, numbers[device], die), more.get((device, die), Resources())
        where = f"{device}/{cluster.devices[numbers[device]].board.dies[die].name}"
        for t in TYPES:
            need = took[t] + getattr(extra, t)
            if need > getattr(have, t):
                what = f"{t.upper()} over budget on {where}: {need:,} needed, {getattr(have, t):,} usable"
                found.add("FVC203", what, where)
    crossings: dict[str, dict[str, int]] = {}
    for (device, a, b), wires in use.wires.items():
        board = cluster.devices[numbers[device]].board
        name = f"{device}/{board.dies[a].name}>{board.dies[b].name}"
        crossings[name] = {"wires": wires}
        limit = board.sll_wires[min(a, b)] if min(a, b) < len(board.sll_wires) else 0
        limit -= others.get((device, min(a, b)), 0)
        if wires > limit:
            found.add("FVC209", f"SLL wires over budget on {name}: {wires:,} needed, {limit:,} there", name)
    return crossings


def _numbers(
    plan: Plan,
    graph: Graph,
    cluster: Cluster,
    programs: list[DeviceProgram],
    crossings: dict[str, dict[str, int]],
    found: Findings,
) -> None:
    """Interval, latency and what follows from them."""
    work = [
        Work(s.name, tuple(map(graph.root, s.inputs)), tuple(map(graph.root, s.outputs)), h.time_ns * 1000)
        for s, h in zip(graph.host_segments, plan.host_segments, strict=True)
    ]
    busy, latency = play(programs, work)
    host = plan.replicas * sum(w.time_ps for w in work)
    # A round is a frame of each copy.
    interval = ceil_div(max(busy, busiest_link_ps(cluster, plan.channels), host), plan.replicas)
    khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    want = {
        "interval_ns": ceil_div(interval, 1000),
        "latency_ns": ceil_div(latency, 1000),
        "interval_cycles": ps_cycles(interval, khz),
        "latency_cycles": ps_cycles(latency, khz),
        "fps": round(PS_PER_SECOND / interval, 3),
        "crossings": crossings,
    }
    for key, value in want.items():
        if plan.predicted.get(key) != value:
            found.add("FVC220", f"predicted.{key} is {plan.predicted.get(key)!r}, the netlists give {value!r}", key)
    s = plan.solver
    gap = round((s.objective - s.bound) / s.objective, 6) if s.objective else 0.0
    first = want["latency_cycles" if plan.options.get("objective") == "latency" else "interval_cycles"]
    if s.objective != first or not 0 <= s.bound <= s.objective or s.gap != gap:
        found.add("FVC220", f"objective {s.objective}, bound {s.bound}, gap {s.gap}", "solver")
    if (s.status == "OPTIMAL") != (s.bound == s.objective) or s.status not in ("OPTIMAL", "FEASIBLE"):
        found.add("FVC220", f"status {s.status} with bound {s.bound} and objective {s.objective}", "solver")


def _options(plan: Plan, graph: Graph, found: Findings) -> None:
    o = plan.options
    if plan.predicted["fps"] * 1000 < o.get("target_fps_milli", 0) - 1:
        found.add("FVC220", f"{plan.predicted['fps']} frames a second, more asked for", "options.target_fps_milli")
    if plan.predicted["latency_ms"] * 1000 > o.get("max_latency_ms_milli", float("inf")) + 1:
        found.add("FVC220", f"{plan.predicted['latency_ms']} ms, less asked for", "options.max_latency_ms_milli")
    if o.get("replicas", 1) not in (0, plan.replicas):
        found.add("FVC220", f"{plan.replicas} replicas, {o['replicas']} asked for", "options.replicas")
    wanted = {f: n for f, n in o.get("force_split", ()) if n > 1}
    if wanted and all(x.strategy == "whole" for x in plan.layers):
        found.add("FVC220", "no layer is cut, though --force-split asks for it", "options.force_split")
    engines = {e.id: e for e in plan.engines}
    given = {f[0] for f in o.get("folds", ())}
    if o.get("memory") == MEMORIES[DRAM]:
        weighted = [n for n in graph.nodes if isinstance(n, Conv) and not isinstance(n, Join)]
        free = {own_name(n.name, c) for n in weighted for c in range(plan.replicas) if layer_of(n) not in given}
        if any(fold_of(e).memory != DRAM for name, e in engines_of(plan).items() if name in free):
            found.add("FVC220", "weights on the chip, external asked for", "options.memory")
    for copy in range(plan.replicas):
        _wishes(o, {x.name: [engines[s.engine] for s in x.slices if s.replica == copy] for x in plan.layers}, found)


def _wishes(o: dict[str, Any], place: dict[str, list[EnginePlan]], found: Findings) -> None:
    """Anchors, given folds and forbidden cuts of one copy; place: its engines by layer."""
    for name, where in o.get("anchors", ()):
        if name not in place or any(where not in (e.device, f"{e.device}/{e.die}") for e in place[name]):
            found.add("FVC220", f"'{name}' does not stand on {where}", "options.anchors")
    for name, pe, simd, memory, variant in o.get("folds", ()):
        own = place.get(name, [])
        e = own[0] if len(own) == 1 else None
        have = None if e is None else (e.fold["pe"], e.fold["simd"], e.parameters["memory"], e.parameters["variant"])
        if have is None or have[:2] != (pe, simd) or memory not in ("", have[2]) or variant not in ("", have[3]):
            found.add("FVC220", f"'{name}' has not the fold PE={pe}, SIMD={simd} asked for", "options.folds")
    for a, b in o.get("forbidden_cuts", ()):
        ends = [f"{e.device}/{e.die}" for x in (a, b) for e in place.get(x, ())]
        if len(set(ends)) > 1:
            found.add("FVC220", f"'{a}' and '{b}' stand on different dies", "options.forbidden_cuts")
