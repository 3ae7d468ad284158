"""The analytical prediction of a plan: interval, latency, utilisation, what limits it and what would relieve it.

Needs a plan (also a hand-edited one), its graph and cluster; never looks at instructions or the simulator. Interval and
latency are those of docs/machine.md: the steady-state distance of two results with the input always waiting, and one
frame through the empty machine. With R replicas the interval is a replica's divided by R.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compiler.ir.graph import Graph, HostSegment, Node
from compiler.isa.program import EngineSpec
from compiler.isa.table import HOST_RANK
from compiler.ops import registry
from compiler.ops.base import TaskTimeline
from compiler.ops.boxes import bounding, burst_bytes, intersect
from compiler.ops.region import Region
from compiler.partition.pieces import HOST
from compiler.partition.prediction.credits import credits_ps, message_counts
from compiler.partition.prediction.loads import Loads, limiting
from compiler.partition.prediction.meeting import Times
from compiler.partition.prediction.passing import groups_of
from compiler.partition.prediction.recurrence import Steps
from compiler.partition.prediction.timing import Event, Machine
from compiler.partition.prediction.usage import Ends
from compiler.plan.model import Box, EnginePlan, LayerPlan, Plan, SlicePlan
from cost_models.primitives import PS_PER_SECOND, ceil_div, ps_cycles, transfer_ps
from device_db.model import Cluster
from device_db.topology import link_specs

SETTLED_FRAMES = 4
LONG_FRAMES = 36  # played where fewer, without stages, do not come to rest
PARTIAL_BYTES = 4


def engine_specs(plan: Plan) -> dict[str, EngineSpec]:
    """The specs that the plan's engines state."""
    return {e.id: EngineSpec(**e.parameters) for e in plan.engines}


def predict(plan: Plan, graph: Graph, cluster: Cluster) -> dict[str, Any]:
    """`Plan.predicted`: integers, and fps, latency_ms, energy_mj as rounded numbers; see interface.md."""
    specs = engine_specs(plan)
    timelines = timelines_of(plan, graph, specs)
    events = events_of(plan, graph)
    together = groups_of(plan, graph)
    links = link_specs(cluster)
    ends = message_bytes(plan, graph)
    loads = Loads.of(plan, cluster, timelines, ends)
    taken = bank_ends(ends, loads.bank_of, specs)
    # First the loads alone, then twice what they make of each other: banks and links that others use are slower.
    frame_ps = max(loads.longest_ps, loads.engine_ps(specs, timelines, plan))
    # While buffers fill, results come sooner; but neither a queue nor the tasks between barriers ever get shorter.
    least_ps = max(loads.longest_ps, loads.queue_ps(specs, timelines, plan), loads.barrier_ps(specs, timelines, plan))
    stored = stored_boxes(plan, {n.name: n for n in graph.nodes})
    least_ps = max(least_ps, credits_ps(plan, graph, links, stored, together))
    least_ps = max([least_ps, *(x.pace_ps for x in graph.steps if isinstance(x, Region))])
    frame_ps = max(frame_ps, least_ps) if any(isinstance(x, Region) for x in graph.steps) else frame_ps
    counts = message_counts(plan, graph, stored)
    staged = any(e.stage for e in events)
    beside: dict[str, float] | None = None
    for _ in range(2):
        before, beside = beside, loads.background(specs, frame_ps, messages=staged)
        if beside == before and not staged:  # nothing is slower than it was
            break
        steps = steps_of(plan, specs, timelines, beside)
        crowd = loads.crowd(plan, frame_ps) if staged else {}
        machine = Machine(plan, steps, events, links, crowd, taken, counts, together)
        frames = 2 * machine.deepest + SETTLED_FRAMES + 2
        times = machine.play(frames)
        if not machine.deepest and not settled(times):
            frames = LONG_FRAMES
            times = machine.play(frames)
        frame_ps = max(steady_ps(times, machine.deepest), least_ps)
    alone = Machine(plan, steps_of(plan, specs, timelines, {}), events, links, {}, taken, counts, together).play(1)
    latency_ps = max(alone.done_ps, default=0)
    interval_ps = ceil_div(frame_ps, plan.replicas)
    busy = {e: t // frames for e, t in times.engine_busy_ps.items()}
    out = headline(interval_ps, latency_ps, cluster, plan.engines)
    clock = {e: s.clock_khz for e, s in specs.items()}
    out["tasks"] = {
        t: {
            "latency_cycles": ps_cycles(alone.task_ps[t], clock[e]),
            "steady_cycles": ps_cycles(times.task_ps[t], clock[e]),
        }
        for t, e in sorted((s.task, s.engine) for layer in plan.layers for s in layer.slices)
    }
    steady = {t: row["steady_cycles"] for t, row in out["tasks"].items()}
    out.update(loads.utilisation(plan, out["interval_ns"] * 1000 * plan.replicas, steady))
    out["limiting"] = limiting(plan, loads, busy, frame_ps)
    return out


def latency_ps(plan: Plan, graph: Graph, cluster: Cluster) -> int:
    """The time of one frame through the empty machine as `predict` has it, and nothing else: a tenth of its work."""
    specs = engine_specs(plan)
    timelines = timelines_of(plan, graph, specs)
    ends = message_bytes(plan, graph)
    taken = bank_ends(ends, Loads.of(plan, cluster, timelines, ends).bank_of, specs)
    steps = steps_of(plan, specs, timelines, {})
    counts = message_counts(plan, graph, stored_boxes(plan, {n.name: n for n in graph.nodes}))
    links, groups = link_specs(cluster), groups_of(plan, graph)
    alone = Machine(plan, steps, events_of(plan, graph), links, {}, taken, counts, groups)
    return max(alone.play(1).done_ps, default=0)


def headline(interval_ps: int, latency_ps: int, cluster: Cluster, engines: Iterable[EnginePlan]) -> dict[str, Any]:
    """Interval and latency in every unit that a plan gives them in, with what follows: cycles are those of the quickest
    clock; the energy is that of one interval of all boards with an engine, at the power that their files state."""
    ref_khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    seconds = interval_ps / PS_PER_SECOND
    used = {e.device for e in engines}
    watts = sum(d.board.power_w for d in cluster.devices if d.name in used)
    return {
        "interval_ns": ceil_div(interval_ps, 1000),
        "latency_ns": ceil_div(latency_ps, 1000),
        "interval_cycles": ps_cycles(interval_ps, ref_khz),
        "latency_cycles": ps_cycles(latency_ps, ref_khz),
        "clock_mhz": number(ref_khz / 1000),
        "fps": number(round(1 / seconds, 3)),
        "latency_ms": number(round(latency_ps / 1e9, 6)),
        "energy_mj": number(round(watts * seconds * 1000, 3)),
    }


def number(value: float) -> float | int:
    """A whole float as an integer, so that it stands in JSON as one."""
    return int(value) if value == int(value) else value


def steady_ps(times: Times, deepest: int) -> int:
    """Steady-state distance of results: the mean over frames before which and after which every stage was busy; in a
    long run that between the means of two blocks of its last frames, since results may come in bursts."""
    done = times.done_ps
    if len(done) == LONG_FRAMES and not deepest:
        n = LONG_FRAMES // 3
        return max(1, ceil_div(sum(done[-n:]) - sum(done[-2 * n : -n]), n * n))
    last = len(done) - 1 - deepest
    return max(1, ceil_div(done[last] - done[last - SETTLED_FRAMES], SETTLED_FRAMES))


def settled(times: Times) -> bool:
    """The last frames of a play without stages followed one another evenly."""
    done = times.done_ps
    last, before = done[-1] - done[-3], done[-3] - done[-5]
    return abs(last - before) * 1000 <= last


def timelines_of(plan: Plan, graph: Graph, specs: dict[str, EngineSpec]) -> dict[str, TaskTimeline]:
    """The exact tile durations of every slice, on the buffers that its core has of what it reads and makes."""
    nodes: dict[str, Node] = {n.name: n for n in graph.nodes}
    stored = stored_boxes(plan, nodes)
    out: dict[str, TaskTimeline] = {}
    for layer in plan.layers:
        for s in layer.slices:
            out[s.task] = registry.task_timeline(
                graph, nodes[layer.name], s.role, s.box, (s.reduce_from, s.reduce_to), specs[s.engine], s.tile,
                s.memory, partials_of(layer, s), stored[s.engine],
            )  # fmt: skip
    return out


def stored_boxes(plan: Plan, nodes: Mapping[str, Node]) -> dict[str, dict[str, Box]]:
    """By engine and tensor: the bounding box of what is made there and what arrives there."""
    stored: dict[str, dict[str, Box]] = {e.id: {} for e in plan.engines}
    for layer in plan.layers:
        for k, s in numbered(layer):  # partial sums lie each in a buffer of its own
            made = registry.partial_name(layer.name, k) if s.role == "partial" else nodes[layer.name].y
            stored[s.engine][made] = bounding(stored[s.engine].get(made), s.box)
    for c in plan.channels:
        if c.target in stored:
            stored[c.target][c.tensor] = bounding(stored[c.target].get(c.tensor), c.box)
    return stored


def message_bytes(plan: Plan, graph: Graph) -> list[dict[str, int]]:
    """Of each channel: the bytes for which it keeps the bank of each engine at its ends busy, in whole bursts."""
    stored = stored_boxes(plan, {n.name: n for n in graph.nodes})
    out: list[dict[str, int]] = []
    for c in plan.channels:
        elem = graph.tensors[c.tensor].dtype.size_bytes if c.tensor in graph.tensors else PARTIAL_BYTES
        out.append({e: burst_bytes(stored[e][c.tensor], c.box, elem) for e in (c.source, c.target) if e in stored})
    return out


def bank_ends(ends: Sequence[Mapping[str, int]], bank_of: Mapping[str, str], specs: Mapping[str, EngineSpec]) -> Ends:
    """What messages take of the banks. ends: of each channel, bytes at each engine of its ends."""
    return Ends(
        bank_of,
        [{e: transfer_ps(size, specs[e].bank_bytes_per_second * 8) for e, size in at.items()} for at in ends],
        {bank: specs[e].bank_bytes_per_second for e, bank in bank_of.items()},
    )


def numbered(layer: LayerPlan) -> list[tuple[int, SlicePlan]]:
    """The slices of a layer, each with its number among those of its replica."""
    seen: dict[int, int] = {}
    out: list[tuple[int, SlicePlan]] = []
    for s in layer.slices:
        k = seen.get(s.replica, 0)
        seen[s.replica] = k + 1
        out.append((k, s))
    return out


def partials_of(layer: LayerPlan, s: SlicePlan) -> tuple[str, ...]:
    """The partial sums that a reduce slice adds: those of its replica that meet its box."""
    if s.role != "reduce":
        return ()
    return tuple(
        registry.partial_name(layer.name, k)
        for k, p in numbered(layer)
        if p.role == "partial" and p.replica == s.replica and intersect(p.box, s.box)
    )


def steps_of(
    plan: Plan, specs: dict[str, EngineSpec], timelines: dict[str, TaskTimeline], background: dict[str, float]
) -> dict[str, Steps]:
    """Step durations under the bank's contention; background: share of its bank that others take, by engine."""
    known: dict[tuple[TaskTimeline, float], Steps] = {}
    out: dict[str, Steps] = {}
    for layer in plan.layers:
        for s in layer.slices:
            spec = specs[s.engine]
            rate = spec.bank_bytes_per_second / (spec.clock_khz * 1000) * (1 - min(0.9, background.get(s.engine, 0.0)))
            key = (timelines[s.task], rate)
            if key not in known:
                known[key] = Steps.of(timelines[s.task], rate)
            out[s.task] = known[key]
    return out


def events_of(plan: Plan, graph: Graph) -> list[Event]:
    """Tasks and host segments with the channels that they wait for and complete."""
    nodes: dict[str, Node] = {n.name: n for n in graph.nodes}
    into: dict[tuple[str, str, int], list[int]] = {}
    for i, c in enumerate(plan.channels):
        into.setdefault((c.tensor, c.target, c.replica), []).append(i)
    events: list[Event] = []
    writers: dict[tuple[str, str, int], list[tuple[int, Event, Any]]] = {}
    for layer in plan.layers:
        node = nodes[layer.name]
        for k, s in numbered(layer):
            e = Event(s.order, s.stage, s.replica, s, None)
            events.append(e)
            if s.role == "reduce":
                for name in partials_of(layer, s):
                    for i in into.get((name, s.engine, s.replica), []):
                        if intersect(plan.channels[i].box, s.box):
                            e.inputs.append(i)
            else:
                needs = registry.input_boxes(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to))
                for tensor, box in needs.items():
                    for i in into.get((tensor, s.engine, s.replica), []):
                        if intersect(plan.channels[i].box, box):
                            e.inputs.append(i)
            made = registry.partial_name(layer.name, k) if s.role == "partial" else node.y
            writers.setdefault((made, s.engine, s.replica), []).append((s.order, e, s.box))
    for h in plan.host_segments:
        segment = next(x for x in graph.steps if isinstance(x, HostSegment) and x.name == h.name)
        region = segment if isinstance(segment, Region) else None
        end = HOST if region is None else region.name
        for replica in range(plan.replicas):
            e = Event(h.order, h.stage, replica, None, h, region=region)
            events.append(e)
            for t in segment.inputs:
                e.inputs += into.get((graph.root(t), end, replica), [])
                e.behind += [w[0] for w in writers.get((graph.root(t), HOST, replica), []) if end == HOST]
            for t in segment.outputs:
                writers.setdefault((graph.root(t), end, replica), []).append((h.order, e, None))
    for i, c in enumerate(plan.channels):
        own = [w for w in writers.get((c.tensor, c.source, c.replica), []) if w[2] is None or intersect(w[2], c.box)]
        if own:
            max(own, key=lambda w: w[0])[1].sends.append(i)
    rank = {e.id: e.rank for e in plan.engines} | {HOST: HOST_RANK}
    rank |= {x.name: x.rank for x in graph.steps if isinstance(x, Region)}
    for e in events:  # as the scheduler's queues have them
        e.sends.sort(key=lambda i: (plan.channels[i].tensor, rank[plan.channels[i].target], plan.channels[i].box))
    return events
