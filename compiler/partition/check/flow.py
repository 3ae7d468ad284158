"""Judges order, stages and channels: that data reaches every reader in time, exactly once, over a real route."""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir.graph import Graph, HostSegment, Node
from compiler.isa.check.findings import Findings
from compiler.ops import input_boxes, partial_name
from compiler.ops.region import Region, is_region
from compiler.partition.check.layers import common, count, whole
from compiler.partition.check.xfer import check_xfer
from compiler.plan.model import Box, ChannelPlan, LayerPlan, Plan, SlicePlan
from device_db.model import Cluster, DieRef
from device_db.topology import route

HOST = "host"
DEEPEST_STAGE = 0xFFFF


@dataclass(frozen=True, slots=True)
class _Made:
    """A box of a tensor where it is made."""

    box: Box
    engine: str
    stage: int
    order: int  # -1: a graph input, there before everything
    task: str


@dataclass(slots=True)
class _Flow:
    """One replica's data: who makes what, who needs which boxes where."""

    made: dict[str, list[_Made]] = field(default_factory=dict)
    needed: dict[tuple[str, str], list[tuple[Box, int]]] = field(default_factory=dict)  # (tensor, engine)


def check_flow(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> bool:
    """Order, stages, channels of every replica; False if channels cannot be added up."""
    before = len(found.kept)
    _orders(plan, found)
    objective = plan.options.get("objective")
    if objective not in ("throughput", "latency"):
        found.add("FVC220", f"objective {objective!r} is neither throughput nor latency", "options.objective")
        return False
    routes = _Routes(plan, cluster, graph)
    left = list(enumerate(plan.channels))
    for replica in range(plan.replicas):
        flow = _walk(plan, graph, replica, objective == "latency", found)
        _channels(plan, graph, replica, flow, routes, left, found)
    check_xfer(plan, graph, routes.between, found)
    for k, c in left:
        found.add("FVC220", f"nothing needs the channel of '{c.tensor}' {c.source} -> {c.target}", f"channels[{k}]")
    return len(found.kept) == before


class _Routes:
    """Dies of the engines, and routes between them."""

    def __init__(self, plan: Plan, cluster: Cluster, graph: Graph) -> None:
        self.cluster = cluster
        self.at: dict[str, DieRef | None] = {HOST: None}
        self.at |= {s.name: s.ref for s in graph.steps if isinstance(s, Region)}
        for e in plan.engines:
            d = next(i for i, x in enumerate(cluster.devices) if x.name == e.device)
            die = next(i for i, x in enumerate(cluster.devices[d].board.dies) if x.name == e.die)
            self.at[e.id] = DieRef(d, die)

    def between(self, a: str, b: str) -> tuple[str, ...]:
        return route(self.cluster, self.at[a], self.at[b])


def _orders(plan: Plan, found: Findings) -> None:
    things = [(h.order, f"host segment {h.name}") for h in plan.host_segments]
    things += [(s.order, s.task) for layer in plan.layers for s in layer.slices]
    for want, (order, name) in enumerate(sorted(things)):
        if order != want:
            found.add("FVC220", f"order {order}: orders count from 0 without gap, {want} is wanted here", name)


def _walk(plan: Plan, graph: Graph, replica: int, flat: bool, found: Findings) -> _Flow:
    """Plays the steps in the graph's order and judges each reader against its producers."""
    flow = _Flow()
    layers: dict[str, LayerPlan] = {x.name: x for x in plan.layers}
    segments = {h.name: h for h in plan.host_segments}
    for name in graph.inputs:
        root = graph.root(name)
        flow.made[root] = [_Made(whole(graph, root), HOST, 0, -1, f"input {name}")]
    for step in graph.steps:
        if isinstance(step, HostSegment):
            h = segments[step.name]
            end, lag = (step.name, step.lag) if isinstance(step, Region) else (HOST, 0)
            for name in step.inputs:
                root = graph.root(name)
                _reader(flow, root, whole(graph, root), end, h.stage, h.order, f"host segment {h.name}", flat, found)
                if root in graph.tensors:
                    flow.needed.setdefault((root, end), []).append((whole(graph, root), h.stage))
            reads = [(graph.root(name), whole(graph, graph.root(name))) for name in step.inputs]
            if h.stage < 0 or (flat and h.stage != _earliest(flow, reads, end, flat)):
                found.add("FVC220", f"stage {h.stage}", f"host segment {h.name}")
            for name in step.outputs:
                root = graph.root(name)
                if root in graph.tensors or root in graph.host_tensors:
                    made = _Made(whole(graph, root), end, h.stage + lag, h.order, f"host segment {h.name}")
                    flow.made[root] = [made]
        else:
            own = [s for s in layers[step.name].slices if s.replica == replica]
            _layer(flow, graph, step, own, flat, found)
    for name in dict.fromkeys(graph.root(o) for o in graph.outputs):
        if name in graph.tensors:
            last = _earliest(flow, [(name, whole(graph, name))], HOST, flat)
            flow.needed.setdefault((name, HOST), []).append((whole(graph, name), last))
    return flow


def _layer(flow: _Flow, graph: Graph, node: Node, own: list[SlicePlan], flat: bool, found: Findings) -> None:
    output: list[_Made] = []
    for k, s in enumerate(own):
        if s.role == "reduce":
            reads = [
                (partial_name(node.name, j), c)
                for j, p in enumerate(own)
                if p.role == "partial" and (c := common(p.box, s.box)) is not None
            ]
        else:
            reads = list(input_boxes(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to)).items())
        if not 0 <= s.stage <= DEEPEST_STAGE or (flat and s.stage != _earliest(flow, reads, s.engine, flat)):
            found.add("FVC220", f"stage {s.stage}", s.task)
        for tensor, box in reads:
            _reader(flow, tensor, box, s.engine, s.stage, s.order, s.task, flat, found)
            flow.needed.setdefault((tensor, s.engine), []).append((box, s.stage))
        made = _Made(s.box, s.engine, s.stage, s.order, s.task)
        if s.role == "partial":
            flow.made[partial_name(node.name, k)] = [made]
        else:
            output.append(made)
    flow.made[node.y] = output


def _least(m: _Made, engine: str, flat: bool) -> int:
    """The least stage of a reader: of a throughput plan one more on another engine, of a latency plan (flat) one more
    only where a region gives or takes whole frames."""
    if m.engine == engine:
        return m.stage
    return m.stage + (1 if not flat or is_region(m.engine) or is_region(engine) else 0)


def _earliest(flow: _Flow, reads: list[tuple[str, Box]], engine: str, flat: bool) -> int:
    """The least stage at which all of these are there."""
    made = [m for tensor, box in reads for m in flow.made.get(tensor, []) if common(m.box, box) is not None]
    return max((_least(m, engine, flat) for m in made), default=0)


def _reader(
    flow: _Flow, tensor: str, box: Box, engine: str, stage: int, order: int, name: str, flat: bool, found: Findings
) -> None:
    """A reader comes after its producers: at a later stage where it must, else in a later order of the same one."""
    for m in flow.made.get(tensor, []):
        if common(m.box, box) is None:
            continue
        least = _least(m, engine, flat)
        if stage < least:
            found.add("FVC220", f"stage {stage}, its input '{tensor}' of {m.task} allows {least} at the earliest", name)
        elif stage == m.stage and order <= m.order:
            found.add("FVC220", f"order {order} is not behind {m.order} of {m.task}, which makes its input", name)


def _channels(
    plan: Plan,
    graph: Graph,
    replica: int,
    flow: _Flow,
    routes: _Routes,
    left: list[tuple[int, ChannelPlan]],
    found: Findings,
) -> None:
    """Every needed piece from elsewhere has exactly its channel; takes those found out of `left`."""
    for (tensor, target), wanted in flow.needed.items():
        for m in flow.made.get(tensor, []):
            if m.engine == target:
                continue
            parts = [(c, stage) for box, stage in wanted if (c := common(m.box, box)) is not None]
            if not parts:
                continue
            box = tuple((min if i % 2 == 0 else max)(part[i] for part, _ in parts) for i in range(8))
            known = graph.tensors.get(tensor)
            bits = count(box) * (known.dtype.size_bytes if known is not None else 4) * 8  # type: ignore[arg-type]
            want = ChannelPlan(
                tensor, box, m.engine, target, bits, routes.between(m.engine, target), m.stage,  # type: ignore[arg-type]
                min(stage for _, stage in parts), replica,
            )  # fmt: skip
            at = next((i for i, (_, c) in enumerate(left) if _same(c, want)), -1)
            if at < 0:
                near = next((f"; there is {c}" for _, c in left if (c.tensor, c.target) == (tensor, target)), "")
                found.add("FVC220", f"no channel {want}{near}", f"{tensor}: {m.engine} -> {target}")
            else:
                del left[at]


def _same(a: ChannelPlan, b: ChannelPlan) -> bool:
    return (
        (a.tensor, a.source, a.target, a.bits_per_frame, a.source_stage, a.target_stage, a.replica)
        == (b.tensor, b.source, b.target, b.bits_per_frame, b.source_stage, b.target_stage, b.replica)
        and tuple(a.box) == tuple(b.box)
        and tuple(a.route) == tuple(b.route)
    )
