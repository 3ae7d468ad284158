"""Turns a decision into a Plan: global order, stages, channels with routes, host segments. Decides nothing more.

Needs a Decision that covers every layer; guarantees the rules of docs/machine.md: one global order in which a task
follows every producer of its own stage; in a latency plan every stage is 0; in a throughput plan a consumer on another
engine lies `hop` stages later than its producers (two give messages a whole iteration more to pass the queues in, at
the cost of frame slots), behind the host one; a channel carries exactly the hull of what its target needs of one
producer slice.

The order of a throughput plan is that of the tasks' ends within an iteration when all engines start it together: queues
then meet their messages in the order in which they are ready, and none blocks those behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from compiler.ir.graph import Graph, HostSegment, Node, storage4
from compiler.ops.boxes import box_elements, hull, intersect, whole_box
from compiler.ops.region import Region
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.pieces import HOST, Decision, Slot, strategy_of
from compiler.partition.protocols import Ops, Routes
from compiler.partition.xfer import renamed, xfer_plans
from compiler.plan.model import (
    Box,
    ChannelPlan,
    EnginePlan,
    HostSegmentPlan,
    LayerPlan,
    ResourcePlan,
    SlicePlan,
    XferPlan,
)
from cost_models.primitives import cycles_ps
from device_db.model import DieRef


@dataclass(slots=True)
class Body:
    """The parts of a Plan that follow from the decision alone."""

    engines: list[EnginePlan]
    layers: list[LayerPlan]
    channels: list[ChannelPlan]
    host_segments: list[HostSegmentPlan]


@dataclass(frozen=True, slots=True)
class _Source:
    """Who holds a box of a tensor: an engine id (or host) at a stage."""

    box: Box
    engine: str
    stage: int


MOST_SLOTS = 255  # frame slots of a buffer (8 bits in the instruction)


def tensor_box(graph: Graph, name: str) -> Box:
    """The whole box of a root tensor; host-only tensors from their listed shape."""
    tensor = graph.tensors.get(name)
    shape = tensor.shape if tensor is not None else graph.host_tensors[name][1]
    return whole_box(storage4(shape))


def element_bits(graph: Graph, name: str) -> int:
    """Bits an element of a tensor takes on a channel."""
    return graph.tensors[name].dtype.size_bytes * 8


def engine_plan(slot: Slot) -> EnginePlan:
    """The plan's record of a slot."""
    s, r = slot.spec, slot.resources
    device = s.id.split("/")[0]
    return EnginePlan(
        id=s.id,
        rank=slot.index,
        device=device,
        die=s.die,
        style="tiled",
        fold={"tm": s.tm, "tn": s.tn},
        parameters=asdict(s),
        resources=ResourcePlan(r.lut, r.ff, r.bram18, r.uram, r.dsp),
        replica=slot.replica,
    )


class _Builder:
    """One replica's walk over the steps in topological order."""

    def __init__(
        self,
        graph: Graph,
        slots: Mapping[int, Slot],
        decision: Decision,
        ops: Ops,
        options: PartitionOptions,
        replica: int,
        host_floor: Mapping[str, int],
        routes: Routes,
        hop: int,
    ) -> None:
        self.graph, self.slots, self.decision, self.ops = graph, slots, decision, ops
        self.options, self.replica, self.host_floor = options, replica, host_floor
        self.pipelined = options.objective == "throughput"
        self.sources: dict[str, list[_Source]] = {}
        self.needs: dict[tuple[str, str], list[tuple[Box, int]]] = {}  # (tensor, target engine) -> needed boxes, stages
        self.partials: list[tuple[str, Box, _Source, str, int]] = []
        self.routes = routes
        self.by_id = {s.id: s for s in slots.values()}
        self.regions = {s.name: s for s in graph.steps if isinstance(s, Region)}
        self.ends: list[tuple[int, int]] = []  # (end within an iteration, serial) of tasks and segments
        self.clock = dict.fromkeys(slots, 0)
        self.hop = hop
        self.layers: list[LayerPlan] = []
        self.hosts: list[HostSegmentPlan] = []
        for name in graph.inputs:
            root = graph.root(name)
            if root in graph.tensors or root in graph.host_tensors:
                self.sources[root] = [_Source(tensor_box(graph, root), HOST, 0)]

    def route(self, a: str, b: str) -> tuple[str, ...]:
        return self.routes.route(self._ref(a), self._ref(b))

    def _ref(self, end: str) -> DieRef | None:
        if end == HOST:
            return None
        return self.regions[end].ref if end in self.regions else self.by_id[end].ref

    def _lag(self, source: _Source, engine: str) -> int:
        """The least stage of a reader on `engine`."""
        if source.engine == engine:
            return source.stage
        ends = {source.engine, engine}
        if not self.pipelined:
            return source.stage + (1 if ends & set(self.regions) else 0)
        return source.stage + (1 if ends & {HOST, *self.regions} else self.hop)

    def _reads(self, tensor: str, box: Box) -> list[_Source]:
        return [s for s in self.sources.get(tensor, []) if intersect(s.box, box) is not None]

    def step(self, step: Node | HostSegment) -> None:
        if isinstance(step, HostSegment):
            self._host(step)
        else:
            self._layer(step)

    def _host(self, seg: HostSegment) -> None:
        g = self.graph
        stage = self.host_floor.get(seg.name, 0)
        end, lag = (seg.name, seg.lag) if isinstance(seg, Region) else (HOST, 0)
        for name in seg.inputs:
            for s in self.sources.get(g.root(name), []):
                stage = max(stage, self._lag(s, end))
        for name in seg.inputs:
            root = g.root(name)
            if root in g.tensors:
                self.needs.setdefault((root, end), []).append((tensor_box(g, root), stage))
        for name in seg.outputs:
            root = g.root(name)
            if root in g.tensors or root in g.host_tensors:
                self.sources[root] = [_Source(tensor_box(g, root), end, stage + lag)]
        time_ns = host_time_ns(seg.name, self.options)
        self.hosts.append(
            HostSegmentPlan(
                seg.name, seg.nodes, seg.reason, stage, self._serial(max(self.clock.values(), default=0)), time_ns
            )
        )

    def _serial(self, end_ps: int) -> int:
        self.ends.append((end_ps, len(self.ends)))
        return len(self.ends) - 1

    def _layer(self, node: Node) -> None:
        pieces = self.decision.pieces[node.name]
        slices: list[SlicePlan] = []
        made: list[_Source] = []
        partial_sources: list[tuple[int, _Source]] = []
        for k, p in enumerate(pieces):
            engine = self.slots[p.slot].id
            start_ps = self.clock[p.slot]
            end_ps = start_ps + cycles_ps(p.cycles, self.slots[p.slot].spec.clock_khz)
            self.clock[p.slot] = end_ps
            reads: list[tuple[str, Box]] = []
            if p.role != "reduce":
                boxes = self.ops.input_boxes(self.graph, node, p.role, p.box, (p.reduce_from, p.reduce_to))
                reads = [(t, b) for t, b in sorted(boxes.items()) if t not in self.graph.constants]
            stage = 0
            for tensor, box in reads:
                stage = max([stage, *(self._lag(s, engine) for s in self._reads(tensor, box))])
            if p.role == "reduce":
                for _, src in partial_sources:
                    if intersect(src.box, p.box) is not None:
                        stage = max(stage, self._lag(src, engine))
            for tensor, box in reads:
                self.needs.setdefault((tensor, engine), []).append((box, stage))
            source = _Source(p.box, engine, stage)
            if p.role == "partial":
                partial_sources.append((k, source))
            else:
                made.append(source)
                if p.role == "reduce":
                    for j, src in partial_sources:
                        common = intersect(src.box, p.box)
                        if common is not None and src.engine != engine:
                            self.partials.append((f"{node.name}.partial{j}", common, src, engine, stage))
            slices.append(
                SlicePlan(
                    task=f"{node.name}#{k}",
                    engine=engine,
                    role=p.role,
                    box=p.box,
                    reduce_from=p.reduce_from,
                    reduce_to=p.reduce_to,
                    stage=stage,
                    order=self._serial(end_ps),
                    memory=p.memory,
                    tile=dict(sorted(p.tile)),
                    cycles=p.cycles,
                    replica=self.replica,
                )
            )
        self.sources[node.y] = made
        strategy = strategy_of(pieces, self.ops.splits(self.graph, node))
        xfer = xfer_plans(self.graph, node, slices, self.route)
        self.layers.append(LayerPlan(node.name, node.op, strategy, tuple(slices), xfer))

    def ranks(self) -> list[int]:
        """Position in the global order of each serial number; producers of the same stage come first."""
        if not self.pipelined:
            return list(range(len(self.ends)))
        out = [0] * len(self.ends)
        for position, (_, serial) in enumerate(sorted(self.ends)):
            out[serial] = position
        return out

    def channels(self) -> list[ChannelPlan]:
        g = self.graph
        for name in dict.fromkeys(g.root(o) for o in g.outputs):
            if name in g.tensors:
                stage = max((self._lag(s, HOST) for s in self.sources.get(name, [])), default=0)
                self.needs.setdefault((name, HOST), []).append((tensor_box(g, name), stage))
        out: list[ChannelPlan] = []
        for (tensor, target), wanted in self.needs.items():
            for s in self.sources.get(tensor, []):
                if s.engine == target:
                    continue
                parts = [(c, stage) for b, stage in wanted if (c := intersect(s.box, b)) is not None]
                if not parts:
                    continue
                box = hull(c for c, _ in parts)
                bits = box_elements(box) * element_bits(g, tensor)
                first = min(stage for _, stage in parts)
                way = self.route(s.engine, target)
                out.append(ChannelPlan(tensor, box, s.engine, target, bits, way, s.stage, first, self.replica))
        for name, box, s, target, stage in self.partials:
            bits = box_elements(box) * 32
            way = self.route(s.engine, target)
            out.append(ChannelPlan(name, box, s.engine, target, bits, way, s.stage, stage, self.replica))
        return out


def build(
    graph: Graph,
    slots: list[Slot],
    decisions: list[Decision],
    ops: Ops,
    routes: Routes,
    options: PartitionOptions,
    hop: int = 1,
) -> Body | None:
    """The plan's body for one decision a replica; slots carry the replica that they serve. None if a buffer would need
    more frame slots than an instruction can name."""
    body = _build(graph, slots, decisions, ops, routes, options, hop)
    return body if most_slots(graph, body) <= MOST_SLOTS else None


def most_slots(graph: Graph, body: Body) -> int:
    """Frame slots of the buffer that needs the most: stages from producer to last reader, and one."""
    first = {(c.tensor, c.target): c.source_stage for c in reversed(body.channels)}
    for layer, node in zip(body.layers, graph.nodes, strict=True):
        for s in layer.slices:
            first[(node.y, s.engine)] = min(s.stage, first.get((node.y, s.engine), s.stage))
    most = 0
    for layer, node in zip(body.layers, graph.nodes, strict=True):
        for s in layer.slices:
            for tensor in node.inputs:
                most = max(most, s.stage - first.get((tensor, s.engine), s.stage) + 1)
    return most


def _build(
    graph: Graph,
    slots: list[Slot],
    decisions: list[Decision],
    ops: Ops,
    routes: Routes,
    options: PartitionOptions,
    hop: int,
) -> Body:
    builders: list[_Builder] = []
    host_floor: dict[str, int] = {}
    while True:  # a host segment has one stage for all replicas: raise it until they agree
        builders = []
        for replica, decision in enumerate(decisions):
            mine = {s.index: s for s in slots if s.replica == replica}
            b = _Builder(graph, mine, decision, ops, options, replica, host_floor, routes, hop)
            for step in graph.steps:
                b.step(step)
            builders.append(b)
        deepest = {h.name: max(b.hosts[i].stage for b in builders) for i, h in enumerate(builders[0].hosts)}
        if all(h.stage == deepest[h.name] for b in builders for h in b.hosts):
            break
        host_floor = deepest
    count = len(builders)
    channels = [c for b in builders for c in b.channels()]
    ranks = [b.ranks() for b in builders]
    named = [ranks[0][h.order] * count for h in builders[0].hosts]
    named += [
        ranks[b.replica][s.order] * count + b.replica for b in builders for layer in b.layers for s in layer.slices
    ]
    dense = {order: k for k, order in enumerate(sorted(named))}
    hosts = [replace(h, order=dense[ranks[0][h.order] * count]) for h in builders[0].hosts]
    layers: list[LayerPlan] = []
    for i, first in enumerate(builders[0].layers):
        slices: list[SlicePlan] = []
        xfer: list[XferPlan] = []
        for b in builders:
            names: dict[str, str] = {}
            for s in b.layers[i].slices:
                task = names[s.task] = f"{first.name}#{len(slices)}"
                slices.append(replace(s, task=task, order=dense[ranks[b.replica][s.order] * count + b.replica]))
            xfer += renamed(b.layers[i].xfer, names)
        layers.append(LayerPlan(first.name, first.op, first.strategy, tuple(slices), tuple(xfer)))
    return Body([engine_plan(s) for s in slots], layers, channels, hosts)
