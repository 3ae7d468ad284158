"""Who makes which piece of a tensor, who needs it, and what must therefore move between cores and the host.

Needs a plan and its graph; guarantees that every needed element has exactly one source, that each core receives a
piece once however many of its tasks read it, and one global order of transfers that every queue obeys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.ir.graph import Graph, Node, storage4
from compiler.isa.table import HOST_RANK
from compiler.ops import input_boxes, partial_name
from compiler.ops.boxes import bounding, box_elements, intersect, whole_box
from compiler.ops.region import Region
from compiler.plan.model import Box, Plan, SlicePlan
from device_db.errors import FvcError

BEFORE_ALL = -1  # order of the graph inputs
Key = tuple[int, int, str]  # order in the plan, stage, task: the place of a producer in the one global order


@dataclass(frozen=True, slots=True)
class TaskRef:
    """One slice with its node, its rank and the boxes it reads (constants excluded)."""

    slice: SlicePlan
    node: Node
    rank: int
    output: str
    reads: tuple[tuple[str, Box], ...]
    partials: tuple[str, ...]  # for a partial slice its own tensor, for a reduce slice those it adds


@dataclass(frozen=True, slots=True)
class Piece:
    """A box of a tensor and where it is made: rank, stage, place in the global order; task is None on the host."""

    tensor: str
    box: Box
    rank: int
    stage: int
    order: int
    task: str | None
    region: str = ""  # of streaming engines that makes it

    @property
    def key(self) -> Key:
        return (self.order, self.stage, self.task or "")


@dataclass(slots=True)
class Transfer:
    """A part of a piece that one other rank receives once a frame; readers are (task or None, stage) there."""

    piece: Piece
    box: Box
    target: int
    readers: list[tuple[str | None, int]] = field(default_factory=list)
    region: str = ""  # of streaming engines that receives it

    @property
    def key(self) -> tuple[Key, str, int, Box, str]:
        return (self.piece.key, self.piece.tensor, self.target, self.box, self.region)


@dataclass(slots=True)
class Flow:
    """One replica: tasks by rank in plan order, pieces by tensor, transfers in the global order."""

    replica: int
    tasks: dict[int, list[TaskRef]]
    pieces: dict[str, list[Piece]]
    transfers: list[Transfer]


def build_flow(graph: Graph, plan: Plan, replica: int) -> Flow:
    """The data flow of one replica. Raises FvcError (FVC900) if a plan leaves an element without a source."""
    ranks = {e.id: e.rank for e in plan.engines}
    nodes = {n.name: n for n in graph.nodes}
    pieces: dict[str, list[Piece]] = {}
    for name in graph.inputs:
        root = graph.root(name)
        if root in graph.tensors:
            box = whole_box(storage4(graph.tensors[root].shape))
            pieces[root] = [Piece(root, box, HOST_RANK, 0, BEFORE_ALL, None)]
    host_plans = {h.name: h for h in plan.host_segments}
    for segment in graph.host_segments:
        placed = host_plans[segment.name]
        for name in segment.outputs:
            root = graph.root(name)
            if root in graph.tensors:
                box = whole_box(storage4(graph.tensors[root].shape))
                if isinstance(segment, Region):
                    made = placed.stage + segment.lag
                    pieces[root] = [Piece(root, box, segment.rank, made, placed.order, None, segment.name)]
                else:
                    pieces[root] = [Piece(root, box, HOST_RANK, placed.stage, placed.order, None)]
    found: list[TaskRef] = []
    for layer in plan.layers:
        node = nodes[layer.name]
        own = [s for s in layer.slices if s.replica == replica]
        names = {s.task: partial_name(layer.name, k) for k, s in enumerate(own)}
        for s in own:
            rank = ranks[s.engine]
            partials: tuple[str, ...] = ()
            output = node.y
            if s.role == "partial":
                output, partials = names[s.task], (names[s.task],)
            pieces.setdefault(output, []).append(Piece(output, s.box, rank, s.stage, s.order, s.task))
            if s.role == "reduce":
                added = [
                    (names[p.task], common)
                    for p in own
                    if p.role == "partial" and (common := intersect(p.box, s.box)) is not None
                ]
                reads, partials = tuple(added), tuple(name for name, _ in added)
            else:
                reads = tuple(input_boxes(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to)).items())
            found.append(TaskRef(s, node, rank, output, reads, partials))
    found.sort(key=lambda t: (t.slice.order, t.slice.task))
    tasks: dict[int, list[TaskRef]] = {e.rank: [] for e in plan.engines if e.replica == replica}
    for t in found:
        tasks.setdefault(t.rank, []).append(t)
    return Flow(replica, tasks, pieces, _transfers(graph, plan, found, pieces))


def _transfers(graph: Graph, plan: Plan, tasks: list[TaskRef], pieces: dict[str, list[Piece]]) -> list[Transfer]:
    out: dict[tuple[str, int, int, str], Transfer] = {}

    def need(tensor: str, box: Box, rank: int, task: str | None, stage: int, region: str = "") -> None:
        covered = 0
        for k, piece in enumerate(pieces.get(tensor, [])):
            common = intersect(piece.box, box)
            if common is None:
                continue
            covered += box_elements(common)
            if piece.rank == rank and not region:  # regions of one device send each other messages, too
                continue
            key = (tensor, rank, k, region)
            t = out.get(key)
            if t is None:
                t = out[key] = Transfer(piece, common, rank, region=region)
            t.box = bounding(t.box, common)
            t.readers.append((task, stage))
        if covered != box_elements(box):
            raise FvcError(
                "FVC900",
                f"the plan makes {covered} of {box_elements(box)} elements of {tensor} that {task or 'the host'} needs",
                exit_code=70,
            )

    for t in tasks:
        for tensor, box in t.reads:
            need(tensor, box, t.rank, t.slice.task, t.slice.stage)
    stages = {h.name: h.stage for h in plan.host_segments}
    for r in (s for s in graph.host_segments if isinstance(s, Region)):
        for root in dict.fromkeys(map(graph.root, r.inputs)):
            need(root, whole_box(storage4(graph.tensors[root].shape)), r.rank, None, stages[r.name], r.name)
    hosts = [s for s in graph.host_segments if not isinstance(s, Region)]
    host_reads = [(name, stages[s.name]) for s in hosts for name in s.inputs]
    host_reads += [(name, -1) for name in graph.outputs]
    for name, stage in host_reads:
        root = graph.root(name)
        if root not in graph.tensors or all(p.rank == HOST_RANK for p in pieces.get(root, [])):
            continue
        own = max(p.stage for p in pieces[root]) if stage < 0 else stage
        need(root, whole_box(storage4(graph.tensors[root].shape)), HOST_RANK, None, own)
    return sorted(out.values(), key=lambda t: t.key)
