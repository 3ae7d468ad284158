"""Regions: the streaming parts of a graph that has tiled parts too, and the two views of it.

Streaming layers on one device form regions: joined by streams, and such that no way from one layer of a region to
another leads through anything else. In the *tiled view* of a graph each region is one step, like a host segment, that
reads and makes whole tensors; the *view of a region* is a graph of its layers alone. What crosses goes through bridges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.ir.graph import Graph, HostSegment, Node, Step
from compiler.isa.program import DeviceProgram
from compiler.ops.boxes import whole_box
from compiler.ops.region import Region
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.netlists import Assembly, Bridging, Net, Seat, Wire
from compiler.ops.stream.parts import stream_inputs, view
from compiler.ops.stream.programs import programs_of
from compiler.plan.model import Box, BridgePlan, Plan, RegionPlan
from device_db.model import Cluster, DieRef

LEAST_FRAMES = 2  # slots of a bridge: one is filled while the other is read


def groups(graph: Graph, devices: Mapping[str, int]) -> list[tuple[int, tuple[str, ...]]]:
    """(device, layers in the graph's order) of every region. devices: of the streaming layers."""
    maker: dict[str, str] = {}
    level: dict[str, int] = {}
    joined: dict[str, str] = {}  # a streaming layer -> another of its region, or itself

    def first(layer: str) -> str:
        while joined[layer] != layer:
            layer = joined[layer]
        return layer

    for step in graph.steps:
        here = devices.get(step.name, -2) if not isinstance(step, HostSegment) else -1
        before = [maker[r] for r in map(graph.root, step.inputs) if r in maker]
        ways = [level[p] + (0 if here >= 0 and devices.get(p, -2) == here else 1) for p in before]
        level[step.name] = max(ways, default=0)
        if here >= 0:
            joined[step.name] = step.name
            for p in before:
                if devices.get(p, -2) == here and level[p] == level[step.name]:
                    a, b = first(p), first(step.name)
                    joined[max(a, b)] = min(a, b)
        outputs = step.outputs if isinstance(step, HostSegment) else (step.y,)
        maker |= {graph.root(name): step.name for name in outputs}
    found: dict[str, list[str]] = {}
    for n in graph.nodes:
        if n.name in joined:
            found.setdefault(first(n.name), []).append(n.name)
    return [(devices[own[0]], tuple(own)) for own in found.values()]


def boundary(graph: Graph, layers: Sequence[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What a region takes and what it gives: (tensor, its first reader there) and (tensor, its maker)."""
    inside = set(layers)
    own = [n for n in graph.nodes if n.name in inside]
    made = {n.y: n.name for n in own}
    taken: dict[str, str] = {}
    for n in own:
        for tensor in stream_inputs(graph, n):
            if tensor not in made:
                taken.setdefault(tensor, n.name)
    wanted = {graph.root(name) for name in graph.outputs}
    for step in graph.steps:
        if step.name not in inside:
            wanted |= {graph.root(name) for name in step.inputs}
    return list(taken.items()), [(t, n) for t, n in made.items() if t in wanted]


def bridges(
    graph: Graph, layers: Sequence[str], stage: int, lag: int, sources: Mapping[str, int]
) -> tuple[BridgePlan, ...]:
    """The bridges of a region with the slots that they need. sources: the earliest stage at which a tensor is sent."""
    taken, given = boundary(graph, layers)
    into = [BridgePlan(t, n, False, max(LEAST_FRAMES, stage - sources[t] + 1)) for t, n in taken]
    return (*into, *(BridgePlan(t, n, True, max(LEAST_FRAMES, lag + 1)) for t, n in given))


def region_view(graph: Graph, layers: Sequence[str]) -> Graph:
    """The graph of a region's layers alone: what it takes are inputs, what it gives are outputs."""
    inside = set(layers)
    taken, given = boundary(graph, layers)
    steps: tuple[Step, ...] = tuple(n for n in graph.nodes if n.name in inside)
    inputs, outputs = tuple(t for t, _ in taken), tuple(t for t, _ in given)
    return replace(graph, steps=steps, inputs=inputs, outputs=outputs, aliases={}, fallbacks=())


def as_step(graph: Graph, r: RegionPlan, cluster: Cluster) -> Region:
    """A planned region as a step of the tiled view."""
    taken, given = boundary(graph, r.layers)
    device = next(k for k, d in enumerate(cluster.devices) if d.name == r.device)
    die = next(k for k, d in enumerate(cluster.devices[device].board.dies) if d.name == r.die)
    return Region(
        r.name, tuple(t for t, _ in taken), tuple(t for t, _ in given), r.layers, "streaming engines", b"",
        r.rank, DieRef(device, die), r.lag, r.pace_ps, r.latency_ps,
    )  # fmt: skip


def tiled_view(graph: Graph, regions: Sequence[Region]) -> Graph:
    """The graph with each region as one step, in an order in which everything follows what it reads."""
    of = {name: r for r in regions for name in r.nodes}
    waiting: list[Step] = []
    for step in graph.steps:
        r = of.get(step.name) if not isinstance(step, HostSegment) else None
        if r is None:
            waiting.append(step)
        elif r not in waiting:
            waiting.append(r)
    made = {graph.root(n) for n in graph.inputs}
    makers = {graph.root(t) for s in waiting for t in _outputs(s)}
    out: list[Step] = []
    while waiting:
        ready = next(s for s in waiting if all(graph.root(n) in made or graph.root(n) not in makers for n in s.inputs))
        waiting.remove(ready)
        out.append(ready)
        made |= {graph.root(t) for t in _outputs(ready)}
    return replace(graph, steps=tuple(out))


def _outputs(step: Step) -> tuple[str, ...]:
    return step.outputs if isinstance(step, HostSegment) else (step.y,)


def joined(
    graph: Graph, cluster: Cluster, regions: Sequence[RegionPlan], seats: Mapping[str, Seat],
    measured: Sequence[Sequence[object]] = (),
) -> Assembly:  # fmt: skip
    """The netlists of all regions, one a device: region after region, each in the order of `assemble`."""
    out = Assembly([], [])
    for device in dict.fromkeys(r.device for r in regions):
        own = [r for r in regions if r.device == device]
        at = next(k for k, d in enumerate(cluster.devices) if d.name == device)
        net = Net(at, own[0].rank)
        for r in own:
            part = assembly_of(graph, cluster, r, {n: seats[n] for n in r.layers}, measured)
            _append(net, part.nets[0])
            out.excess |= part.excess
            out.dies |= part.dies
        out.nets.append(net)
    return out


def assembly_of(
    graph: Graph, cluster: Cluster, r: RegionPlan, seats: Mapping[str, Seat], measured: Sequence[Sequence[object]] = ()
) -> Assembly:
    """The netlist of one region, its bridges as planned."""
    device = next(d for d in cluster.devices if d.name == r.device)
    die = next(k for k, d in enumerate(device.board.dies) if d.name == r.die)
    frames = {(b.tensor, b.out): b.frames for b in r.bridges}
    bridging = Bridging(die, r.stage, r.lag, frames)
    return assemble(region_view(graph, r.layers), cluster, seats, measured, graph, bridging)


def _append(net: Net, more: Net) -> None:
    """The units and streams of another netlist behind those of this one."""
    base = len(net.drafts)
    net.drafts += more.drafts
    net.dies += more.dies
    net.owners += more.owners
    net.rows += more.rows
    for w in more.wires:
        a, b = (base + w.source[0], w.source[1]), (base + w.target[0], w.target[1])
        net.wires.append(Wire(a, b, w.owner, w.port, w.hops, w.joins, w.tensor))


def fabrics(
    graph: Graph,
    cluster: Cluster,
    assembly: Assembly,
    depths: Mapping[str, list[int]],
    memories: Mapping[str, list[int]],
) -> list[DeviceProgram]:
    """The devices' netlists without constants, messages and channels."""
    return programs_of(graph, cluster, assembly, 1, depths, memories)


def whole(graph: Graph, tensor: str) -> Box:
    """The box of all of a tensor."""
    return whole_box(view(graph, tensor))


def streaming_layers(plan: Plan) -> set[str]:
    """The layers that stand on streaming engines."""
    style = {e.id: e.style for e in plan.engines}
    return {x.name for x in plan.layers if x.slices and style.get(x.slices[0].engine) == "streaming"}


__all__ = [
    "Node", "Region", "as_step", "assembly_of", "boundary", "bridges", "fabrics", "groups", "joined",
    "region_view", "streaming_layers", "tiled_view", "whole",
]  # fmt: skip
