"""The streaming side of a split: folds, dies and FIFO depths of the layers that stream, on the dies given to them.

Needs the layers of one device and its dies; gives regions with their netlists' pace and latency, or nothing where they
do not fit. The same steps as those of a plan that streams as a whole, with bridges at the boundary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Graph, Node
from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import build
from compiler.ops.stream.assemble import Assembly, Seat, fabric_dies, stream_inputs
from compiler.ops.stream.lower import Option, priced, undominated
from compiler.ops.stream.measure import busy_ps
from compiler.ops.stream.regions import bridges, fabrics, groups, joined, region_view
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.depths import Depths, derive
from compiler.partition.stream.joint import choose
from compiler.partition.stream.over import hold_back, over_budget
from compiler.partition.stream.place import TYPES, Problem
from compiler.partition.stream.planner import ROUNDS
from compiler.plan.model import RegionPlan
from cost_models.primitives import ceil_div
from device_db.errors import FvcError
from device_db.model import Cluster, DieRef
from device_db.topology import SLL_STREAM_WIRES

Offers = dict[str, tuple[Option, ...] | None]


@dataclass(frozen=True, slots=True)
class Part:
    """Layers that stream, on neighbouring dies of one device."""

    device: int
    dies: tuple[int, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Solved:
    """The streaming side of a split. The regions' stages are still open."""

    regions: tuple[RegionPlan, ...]
    seats: dict[str, Seat]
    assembly: Assembly
    depths: Depths
    programs: tuple[DeviceProgram, ...]

    @property
    def pace_ps(self) -> int:
        return max(r.pace_ps for r in self.regions)


def offers_of(graph: Graph, cluster: Cluster, options: PartitionOptions) -> Offers:
    """Every layer's folds with what they take; None for layers that no streaming engine has."""
    family = cluster.devices[0].board.family
    uram = any(die.raw.uram for d in cluster.devices for die in d.board.dies)
    wanted = {"bram": (0, 1), "uram": (0, 2)}.get(options.memory)
    out: Offers = {}
    for n in graph.nodes:
        try:
            whole = priced(graph, n, family, uram, (), 1)
        except FvcError as problem:
            if problem.code != "FVC214":
                raise
            out[n.name] = None
            continue
        out[n.name] = tuple(o for o in whole if wanted is None or o.fold.memory in wanted) or whole
    return out


def solve(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    parts: Sequence[Part],
    offers: Offers,
    floor_ps: int,
    first_rank: int,
    reserved: Mapping[tuple[int, int], int],
) -> Solved | None:
    """The parts' engines at an interval of `floor_ps` or as near as they come; None where they do not fit.

    reserved: (device, die) -> wires to the next die that others take."""
    devices = {name: p.device for p in parts for name in p.layers}
    used = sorted({p.device for p in parts})
    rank = {d: first_rank + k for k, d in enumerate(used)}
    grouped = groups(graph, devices)
    regions: list[RegionPlan] = []
    for k, (device, layers) in enumerate(grouped):
        part = next(p for p in parts if layers[0] in p.layers)
        die = cluster.devices[device].board.dies[_bridge_die(cluster, part)].name
        regions.append(
            RegionPlan(
                f"region{k}", cluster.devices[device].name, die, rank[device], layers, 1, 0, 0, 1, 1,
                bridges(graph, layers, 1, 0, defaultdict(int)),
            )
        )  # fmt: skip
    problems = [_problem(graph, cluster, options, p, offers, reserved) for p in parts]
    seats: dict[str, Seat] = {}
    for p in problems:
        found = choose(p, p.budgets, floor_ps)
        if found is None:
            return None
        seats |= found.seats
    held = [[[0] * len(TYPES) for _ in p.refs] for p in problems]
    for turn in range(ROUNDS):
        solved = _netlists(graph, cluster, regions, seats, reserved)
        over = over_budget(cluster, list(solved.programs))
        if not over:
            return solved
        for p, h in zip(problems, held, strict=True):
            own = [x for x in over if x.device == p.devices[p.refs[0].device]]
            if not own:
                continue
            mine = [q for q in solved.programs if q.name == own[0].device]
            hold_back(p, seats, mine, own, h, turn)
            budgets = [
                [a - b for a, b in zip(have, less, strict=True)] for have, less in zip(p.budgets, h, strict=True)
            ]
            found = choose(p, budgets, floor_ps)
            if found is None:
                return None
            seats |= found.seats
    return None


def _bridge_die(cluster: Cluster, part: Part) -> int:
    """Next to the dies that are not the part's, else where the host's port is nearest."""
    board = cluster.devices[part.device].board
    others = [d for d in range(len(board.dies)) if d not in part.dies] or [board.pcie_die]
    return min(part.dies, key=lambda d: (min(abs(d - o) for o in others), abs(d - board.pcie_die), d))


def _problem(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    part: Part,
    offers: Offers,
    reserved: Mapping[tuple[int, int], int],
) -> Problem:
    inside = set(part.layers)
    nodes: tuple[Node, ...] = tuple(n for n in graph.nodes if n.name in inside)
    number = {n.name: k for k, n in enumerate(nodes)}
    maker = {n.y: k for k, n in enumerate(nodes)}
    every = [offers[n.name] or () for n in nodes]
    stands = {k: die for k, die in enumerate(fabric_dies(cluster, part.device)) if k in part.dies}
    edges = [
        (maker[t], k, graph.tensors[t].bytes * 8)
        for k, n in enumerate(nodes)
        for t in dict.fromkeys(stream_inputs(graph, n))
        if t in maker
    ]
    device = cluster.devices[part.device].name
    anchors = {
        number[layer]: {
            k for k, d in enumerate(part.dies) if place in (device, cluster.die_name(DieRef(part.device, d)))
        }
        for layer, place in options.anchors
        if layer in number
    }
    return Problem(
        region_view(graph, part.layers), nodes, every, [undominated(own) for own in every],
        [d.name for d in cluster.devices], [DieRef(part.device, d) for d in part.dies], list(stands.values()),
        [tuple(getattr(die, t) for t in TYPES) for die in stands.values()],
        [max(0, die.wires - reserved.get((part.device, d), 0)) for d, die in stands.items()],
        edges, anchors,
        [(number[a], number[b]) for a, b in options.forbidden_cuts if a in number and b in number],
        [0] * len(cluster.devices), [graph.tensors[n.y].bytes * 8 for n in nodes],
        options.time_limit_s, options.seed, options.workers,
    )  # fmt: skip


def _netlists(
    graph: Graph,
    cluster: Cluster,
    regions: Sequence[RegionPlan],
    seats: Mapping[str, Seat],
    reserved: Mapping[tuple[int, int], int],
) -> Solved:
    """All regions' netlists with their FIFOs, pace and latency."""
    assembly = joined(graph, cluster, regions, seats)
    bare = fabrics(graph, cluster, assembly, {}, {})
    depths = derive(graph, cluster, assembly, max(busy_ps(bare).values()), ())
    programs = with_wires(cluster, fabrics(graph, cluster, assembly, depths.words, depths.memory), reserved)
    timed = []
    for r in regions:
        pace, latency = figures(graph, cluster, r, seats)
        timed.append(replace(r, pace_ps=pace, latency_ps=latency))
    return Solved(tuple(timed), dict(seats), assembly, depths, tuple(programs))


def with_wires(
    cluster: Cluster, programs: Sequence[DeviceProgram], reserved: Mapping[tuple[int, int], int]
) -> list[DeviceProgram]:
    """The netlists with what others leave of the wires between their dies."""
    number = {d.name: k for k, d in enumerate(cluster.devices)}
    for p in programs:
        assert p.fabric is not None
        p.fabric.dies = [
            replace(die, wires=max(0, die.wires - reserved.get((number[p.name], k), 0)))
            for k, die in enumerate(p.fabric.dies)
        ]
    return list(programs)


def figures(graph: Graph, cluster: Cluster, r: RegionPlan, seats: Mapping[str, Seat]) -> tuple[int, int]:
    """Picoseconds a frame of the region's busiest unit, and of one frame through it."""
    alone = joined(graph, cluster, [r], {n: seats[n] for n in r.layers})
    programs = fabrics(graph, cluster, alone, {}, {})
    fabric = programs[0].fabric
    assert fabric is not None
    timed = build(programs, (), {(0, k) for k in range(len(fabric.streams()))})
    timed.network.play(1)
    return max(busy_ps(programs).values()), max(timed.network.actors[k].end_ps for k in timed.sinks)


def message_wires(cluster: Cluster) -> dict[tuple[int, int], int]:
    """The stream of messages between dies, which cores and bridges share."""
    return {(d, k): SLL_STREAM_WIRES for d, dev in enumerate(cluster.devices) for k in range(len(dev.board.sll_wires))}


def lag_of(latency_ps: int, frame_ps: int) -> int:
    """Frames that a region may take for one: as many as it needs at this pace."""
    return ceil_div(latency_ps, max(1, frame_ps))
