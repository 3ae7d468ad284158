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
from compiler.ops.stream.joins import unread
from compiler.ops.stream.lower import Option, priced, undominated
from compiler.ops.stream.measure import busy_ps, die_use, latency_ps
from compiler.ops.stream.netlists import Assembly, Seat
from compiler.ops.stream.programs import fabric_dies
from compiler.ops.stream.regions import bridges, fabrics, groups, joined, region_view
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.depths import Depths, derive
from compiler.partition.stream.job import NETLISTS, ROUNDS
from compiler.partition.stream.joint import choose
from compiler.partition.stream.over import hold_back, left, over_budget
from compiler.partition.stream.problem import TYPES, Problem, dies_at, edges_of, in_memory, link_rate
from compiler.partition.stream.quicken import Bare, Quickening
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
    """The streaming side of a split. The regions' stages are still open, before `timed` their pace and latency, too."""

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
    read = {name for step in graph.steps for name in step.inputs} | set(graph.outputs)
    ends = set(unread(graph, {graph.root(name) for name in read}))  # no bridge takes what nobody reads
    out: Offers = {}
    for n in graph.nodes:
        if n.y in ends:
            out[n.name] = None
            continue
        try:
            whole = priced(graph, n, family, uram, (), 1)
        except FvcError as problem:
            if problem.code != "FVC214":
                raise
            out[n.name] = None
            continue
        out[n.name] = in_memory(whole, options.memory)
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
    free: bool = False,
) -> Solved | None:
    """The parts' engines at an interval of `floor_ps` or as near as they come; None where they do not fit.

    reserved: (device, die) -> wires to the next die that others take. free: layers may stand on any part's dies."""
    problems = [_problem(graph, cluster, options, own, offers, reserved) for own in ([parts] if free else zip(parts))]
    seats: dict[str, Seat] = {}
    for p in problems:
        found = choose(p, p.budgets, floor_ps)
        if found is None:
            return None
        seats |= found.seats
    held = [[[0] * len(TYPES) for _ in p.refs] for p in problems]
    for turn in range(ROUNDS):
        regions = regions_of(graph, cluster, parts, seats, first_rank)
        solved = _netlists(graph, cluster, regions, seats, reserved)
        over = over_budget(cluster, list(solved.programs))
        if not over:
            solved = timed(graph, cluster, solved)
            return quicker(graph, cluster, problems, solved, reserved) if options.objective == "latency" else solved
        for p, h in zip(problems, held, strict=True):
            here = {p.devices[r.device] for r in p.refs}
            own = [x for x in over if x.device in here]
            if not own:
                continue
            hold_back(p, seats, [q for q in solved.programs if q.name in here], own, h, turn)
            found = choose(p, left(p, h), floor_ps)
            if found is None:
                return None
            seats |= found.seats
    return None


def quicker(
    graph: Graph, cluster: Cluster, problems: Sequence[Problem], solved: Solved, reserved: Mapping[tuple[int, int], int]
) -> Solved:
    """The same seats with quicker folds where a frame waits for them, region by region, the slowest first, for all that
    is left of the dies; no region gets slower, alone or in the steady state."""
    for r in sorted(solved.regions, key=lambda r: -r.latency_ps):
        p = next(p for p in problems if r.layers[0] in p.names)

        def bare(seats: Mapping[str, Seat], r: RegionPlan = r) -> Bare:
            own = joined(graph, cluster, [r], seats)
            return own, with_wires(cluster, fabrics(graph, cluster, own, {}, {}), reserved)

        seats = {n: solved.seats[n] for n in r.layers}
        assembly = joined(graph, cluster, [r], seats)
        alone = fabrics(graph, cluster, assembly, solved.depths.words, solved.depths.memory)
        most = _room(p, solved.programs, with_wires(cluster, alone, reserved))
        steps = Quickening(cluster, p, bare, (), solved.pace_ps).steps(seats, alone, most)
        for step in steps[:0:-1][:NETLISTS]:
            other = _netlists(graph, cluster, solved.regions, solved.seats | step.seats, reserved)
            unproved = solved.depths.steady and not other.depths.steady
            slower = max(busy_ps(other.programs).values()) > solved.pace_ps
            if not slower and not unproved and not over_budget(cluster, list(other.programs)):
                solved = timed(graph, cluster, other)
                break
    return solved


def _room(p: Problem, every: Sequence[DeviceProgram], alone: Sequence[DeviceProgram]) -> list[list[int]]:
    """The budgets of the dies less what all netlists but one take of them."""
    number = {(p.devices[r.device], d.name): k for k, (r, d) in enumerate(zip(p.refs, p.dies, strict=True))}
    room = [list(b) for b in p.budgets]
    for programs, sign in ((every, -1), (alone, 1)):
        for program in programs:
            assert program.fabric is not None
            for die, used in zip(program.fabric.dies, die_use(program), strict=True):
                if (program.name, die.name) in number:
                    row = room[number[program.name, die.name]]
                    row[:] = [x + sign * getattr(used, t) for x, t in zip(row, TYPES, strict=True)]
    return room


def regions_of(
    graph: Graph, cluster: Cluster, parts: Sequence[Part], seats: Mapping[str, Seat], first_rank: int
) -> list[RegionPlan]:
    """The regions of these seats, without stages, pace and latency. A device's bridges stand on one of the dies with
    layers: next to dies that do not stream, else where the host's port is nearest."""
    devices = {name: seat.ref.device for name, seat in seats.items()}
    rank = {d: first_rank + k for k, d in enumerate(sorted(set(devices.values())))}
    die = {}
    for device in rank:
        board = cluster.devices[device].board
        streams = {d for p in parts if p.device == device for d in p.dies}
        others = [d for d in range(len(board.dies)) if d not in streams] or [board.pcie_die]
        used = {seat.ref.die for seat in seats.values() if seat.ref.device == device}
        die[device] = min(used, key=lambda d: (min(abs(d - o) for o in others), abs(d - board.pcie_die), d))
    return [
        RegionPlan(
            f"region{k}", cluster.devices[device].name, cluster.devices[device].board.dies[die[device]].name,
            rank[device], layers, 1, 0, 0, 1, 1, bridges(graph, layers, 1, 0, defaultdict(int)),
        )
        for k, (device, layers) in enumerate(groups(graph, devices))
    ]  # fmt: skip


def _problem(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    parts: Sequence[Part],
    offers: Offers,
    reserved: Mapping[tuple[int, int], int],
) -> Problem:
    """Folds and dies of the layers of these parts, any layer on any of their dies."""
    inside = {name for p in parts for name in p.layers}
    nodes: tuple[Node, ...] = tuple(n for n in graph.nodes if n.name in inside)
    number = {n.name: k for k, n in enumerate(nodes)}
    every = [offers[n.name] or () for n in nodes]
    refs = sorted((DieRef(p.device, d) for p in parts for d in p.dies), key=lambda r: (r.device, r.die))
    stands = [fabric_dies(cluster, r.device)[r.die] for r in refs]
    anchors = {number[layer]: dies_at(cluster, refs, place) for layer, place in options.anchors if layer in number}
    return Problem(
        region_view(graph, [n.name for n in nodes]), nodes, every, [undominated(own) for own in every],
        [d.name for d in cluster.devices], refs, stands,
        [tuple(getattr(die, t) for t in TYPES) for die in stands],
        [max(0, die.wires - reserved.get((r.device, r.die), 0)) for r, die in zip(refs, stands, strict=True)],
        edges_of(graph, nodes), anchors,
        [(number[a], number[b]) for a, b in options.forbidden_cuts if a in number and b in number],
        [link_rate(cluster, d) for d in range(len(cluster.devices))],
        [graph.tensors[n.y].bytes * 8 for n in nodes],
        options.time_limit_s, options.seed, options.workers,
    )  # fmt: skip


def _netlists(
    graph: Graph,
    cluster: Cluster,
    regions: Sequence[RegionPlan],
    seats: Mapping[str, Seat],
    reserved: Mapping[tuple[int, int], int],
) -> Solved:
    """All regions' netlists with their FIFOs."""
    assembly = joined(graph, cluster, regions, seats)
    bare = fabrics(graph, cluster, assembly, {}, {})
    depths = derive(graph, cluster, assembly, max(busy_ps(bare).values()), ())
    programs = with_wires(cluster, fabrics(graph, cluster, assembly, depths.words, depths.memory), reserved)
    return Solved(tuple(regions), dict(seats), assembly, depths, tuple(programs))


def timed(graph: Graph, cluster: Cluster, solved: Solved) -> Solved:
    """The regions with their pace and latency, for which each plays a frame: of netlists that fit."""
    regions = []
    for r in solved.regions:
        pace, latency = figures(graph, cluster, r, solved.seats)
        regions.append(replace(r, pace_ps=pace, latency_ps=latency))
    return replace(solved, regions=tuple(regions))


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
    return max(busy_ps(programs).values()), latency_ps(programs, ())


def message_wires(cluster: Cluster) -> dict[tuple[int, int], int]:
    """The stream of messages between dies, which cores and bridges share."""
    return {(d, k): SLL_STREAM_WIRES for d, dev in enumerate(cluster.devices) for k in range(len(dev.board.sll_wires))}


def lag_of(latency_ps: int, frame_ps: int) -> int:
    """Frames that a region may take for one: as many as it needs at this pace."""
    return ceil_div(latency_ps, max(1, frame_ps))
