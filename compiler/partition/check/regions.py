"""Regions by their definition, their bridges, and the tiled view of plan and graph that is left without them.

A region is layers that stream on one device, joined by streams, such that no way from one of them to another leads
through anything else. To all else it is one step that reads and makes whole tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.ir.graph import Graph, HostSegment, Step
from compiler.ops.region import Region
from compiler.plan.model import BridgePlan, ChannelPlan, HostSegmentPlan, Plan, RegionPlan
from device_db.model import Cluster, DieRef

FEWEST_SLOTS = 2  # one is filled while the other is read
STANDS = "streaming engines"


def results(step: Step) -> tuple[str, ...]:
    return step.outputs if isinstance(step, HostSegment) else (step.y,)


def regions_of(graph: Graph, devices: Mapping[str, int]) -> list[tuple[int, tuple[str, ...]]]:
    """(device, layers in the graph's order) by their first layers. devices: of the layers that stream.

    Two layers of a device are of one region if a stream joins them, over others if need be, and the most changes of
    place on any way to both are as many: a way that leaves the device and comes back makes them more."""
    maker = {graph.root(t): s.name for s in graph.steps for t in results(s)}
    changes: dict[str, int] = {}
    near: dict[str, set[str]] = {name: set() for name in devices}
    for step in graph.steps:
        before = {maker[graph.root(t)] for t in step.inputs if graph.root(t) in maker}
        here = devices.get(step.name)
        same = {p for p in before if here is not None and devices.get(p) == here}
        changes[step.name] = max((changes[p] + (p not in same) for p in before), default=0)
        for p in same:
            if changes[p] == changes[step.name]:
                near[p].add(step.name)
                near[step.name].add(p)
    out: list[tuple[int, tuple[str, ...]]] = []
    seen: set[str] = set()
    for first in (n.name for n in graph.nodes if n.name in devices):
        found, open_ = {first}, [first]
        while open_:
            for other in near[open_.pop()] - found:
                found.add(other)
                open_.append(other)
        if first not in seen:
            out.append((devices[first], tuple(n.name for n in graph.nodes if n.name in found)))
        seen |= found
    return out


def boundary(graph: Graph, layers: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Tensors that come into a region -> the first layer that reads them; those that leave it -> the layer that makes
    them."""
    own = [n for n in graph.nodes if n.name in layers]
    made = {n.y: n.name for n in own}
    taken: dict[str, str] = {}
    for n in own:
        for t in n.inputs:
            if t not in made and t not in graph.constants:
                taken.setdefault(t, n.name)
    outside = {graph.root(t) for t in graph.outputs}
    outside |= {graph.root(t) for s in graph.steps if s.name not in layers for t in s.inputs}
    return taken, {t: name for t, name in made.items() if t in outside}


def bridges_of(graph: Graph, r: RegionPlan, sent: Mapping[str, int]) -> tuple[BridgePlan, ...]:
    """Slots for as many frames as lie between sending and reading. sent: the earliest stage at which a tensor is."""
    taken, given = boundary(graph, r.layers)
    into = [BridgePlan(t, name, False, max(FEWEST_SLOTS, r.stage - sent[t] + 1)) for t, name in taken.items()]
    return (*into, *(BridgePlan(t, name, True, max(FEWEST_SLOTS, r.lag + 1)) for t, name in given.items()))


def inside(c: ChannelPlan, of: Mapping[str, str]) -> bool:
    """Whether a channel joins two engines of one region. of: engine -> region."""
    return c.source in of and of[c.source] == of.get(c.target)


def ends_of(plan: Plan) -> dict[str, str]:
    """Engine -> its region."""
    region = {name: r.name for r in plan.regions for name in r.layers}
    return {s.engine: region[x.name] for x in plan.layers if x.name in region for s in x.slices}


def without(plan: Plan, graph: Graph, cluster: Cluster) -> tuple[Plan, Graph]:
    """Plan and graph with every region as one step; predicted figures are left as they are."""
    view = replace(
        graph, steps=_steps(graph, {name: _step(graph, r, cluster) for r in plan.regions for name in r.layers})
    )
    of = ends_of(plan)
    layers = {x.name: x for x in plan.layers}
    hosts = {h.name: h for h in plan.host_segments}
    hosts |= {r.name: HostSegmentPlan(r.name, r.layers, STANDS, r.stage, r.order, 0) for r in plan.regions}
    streaming = {name for r in plan.regions for name in r.layers}
    options = dict(plan.options)
    options["host_ns"] = {**options.get("host_ns", {}), **{r.name: 0 for r in plan.regions}}
    options["anchors"] = [a for a in options.get("anchors", ()) if a[0] not in streaming]
    real = [c for c in plan.channels if not inside(c, of)]
    tiled = replace(
        plan,
        options=options,
        engines=tuple(e for e in plan.engines if e.style == "tiled"),
        layers=tuple(layers[n.name] for n in view.nodes),
        channels=tuple(replace(c, source=of.get(c.source, c.source), target=of.get(c.target, c.target)) for c in real),
        host_segments=tuple(hosts[s.name] for s in view.host_segments if s.name in hosts),
        regions=(),
    )
    return tiled, view


def _step(graph: Graph, r: RegionPlan, cluster: Cluster) -> Region:
    taken, given = boundary(graph, r.layers)
    device = [d.name for d in cluster.devices].index(r.device)
    die = [d.name for d in cluster.devices[device].board.dies].index(r.die)
    ref = DieRef(device, die)
    return Region(
        r.name, tuple(taken), tuple(given), r.layers, STANDS, b"", r.rank, ref, r.lag, r.pace_ps, r.latency_ps
    )


def _steps(graph: Graph, of: Mapping[str, Region]) -> tuple[Step, ...]:
    """Every step behind what it reads, else in the graph's order; regions in the place of their layers."""
    steps: list[Step] = []
    known: dict[str, Region] = {}
    for step in graph.steps:
        r = of.get(step.name)
        if r is None:
            steps.append(step)
        elif r.name not in known:
            known[r.name] = r
            steps.append(r)
    maker = {graph.root(t): s.name for s in steps for t in results(s)}
    out: list[Step] = []
    done: set[str] = set()
    while steps:
        for k, step in enumerate(steps):
            if {maker[graph.root(t)] for t in step.inputs if graph.root(t) in maker} <= done:
                out.append(steps.pop(k))
                done.add(step.name)
                break
        else:
            raise ValueError("regions that wait for one another")
    return tuple(out)
