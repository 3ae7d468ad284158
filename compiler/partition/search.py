"""One placement from engines to decision: engines, option table, bound, contiguous sweep, CP-SAT.

Needs the places of one replica; guarantees a decision that covers every layer and a bound that is proved over the
options, slices and engines that its scope names, or an infeasibility report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Graph
from compiler.partition.bound import Certificate, Pool, lower_bound
from compiler.partition.costs import CostBook
from compiler.partition.defaults import ClusterRoutes
from compiler.partition.engines import EngineChoice
from compiler.partition.infeasible import no_engine, no_layer_fit, no_placement
from compiler.partition.kinds import Candidate
from compiler.partition.layout import Place
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.options_table import Option
from compiler.partition.pieces import Decision, Piece, Slot, cut
from compiler.partition.problem import Allocation, Problem, load_of
from compiler.partition.solve.anneal import anneal, settle
from compiler.partition.solve.contiguous import contiguous
from compiler.partition.solve.flat import Budget, balance, exact, profile
from compiler.partition.solve.priced import priced
from compiler.partition.tabulate import Tabulator, placement_problem, reduce_extent
from device_db.model import Cluster
from device_db.topology import link_specs

STEPS_PER_SECOND = 40_000  # random moves counted as one second of the time limit
BALANCE_ROUNDS = 48  # solves of a few engines at a time
CLOSE_PERMILLE = 5  # a gap below this is not worked on any further


@dataclass(slots=True)
class Placed:
    """What one replica's search gives: the decision and how good it is proved to be (ticks of the reference clock)."""

    slots: list[Slot]
    decisions: list[Decision]  # the best first; the others are nearly as good and may suit the queues better
    problem: Problem
    interval: int  # that engines, links and banks alone would allow
    bound: int
    proved_by: str
    scope: tuple[str, ...]
    notes: tuple[str, ...] = ()


def reference_khz(cluster: Cluster) -> int:
    """The plan's reference clock: the fastest die's."""
    return max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)


def make_slots(
    cluster: Cluster, place_list: Sequence[Place], engines: dict[int, Candidate], replica: int, first_rank: int
) -> list[Slot]:
    """Named engines on their places, ranks from `first_rank` on."""
    out: list[Slot] = []
    for k, p in enumerate(place_list):
        c = engines[p.pool]
        device = cluster.devices[p.ref.device]
        die = device.board.dies[p.ref.die].name
        bank = device.board.banks[p.port.bank].name
        spec = replace(c.spec, id=f"{device.name}/{die}/{p.number}", die=die, bank=bank)
        out.append(Slot(first_rank + k, p.ref, spec, c.resources, p.port.sharers, replica))
    return out


def place_replica(
    graph: Graph,
    cluster: Cluster,
    place_list: Sequence[Place],
    options: PartitionOptions,
    book: CostBook,
    replica: int,
    first_rank: int,
) -> Placed:
    """Everything for one copy of the pipeline on these places."""
    ref_khz = reference_khz(cluster)
    choice = EngineChoice(graph, cluster, place_list, book, ref_khz, options.memory)
    engines = choice.best(options.objective == "latency")
    if engines is None:
        if not all(choice.offered.values()):
            raise no_engine(cluster, place_list, choice)
        raise no_layer_fit(graph, cluster, choice)
    slots = make_slots(cluster, place_list, engines, replica, first_rank)
    tab = Tabulator(graph, slots, book, book.ops, ref_khz, options)
    tab.whole()
    tab.slices()
    problem = placement_problem(tab, cluster, ClusterRoutes(cluster), options, range(len(slots)))
    proof = pipeline_bound(problem)
    bound = proof.bound
    found: list[Allocation]
    if options.objective == "latency":
        from compiler.partition.solve.latency import fastest

        quickest, bound, proved = fastest(problem, graph, options, message_latency(problem, cluster))
        found = [] if quickest is None else [quickest]
    else:
        host_ns = sum(host_time_ns(s.name, options) for s in graph.host_segments)
        found, bound, proved = throughput(problem, options, proof, host_ns * ref_khz // 1_000_000)
    if not found:
        raise no_placement(problem, cluster, options)
    kept = [keep_weights(problem, a) for a in found]
    decisions = [decision_of(graph, slots, problem, a, book) for a in kept]
    interval = load_of(problem, kept[0]).interval
    notes = forced_notes(problem, options)
    return Placed(slots, decisions, problem, interval, bound, proved, scope_of(slots, options), notes)


def forced_notes(problem: Problem, options: PartitionOptions) -> tuple[str, ...]:
    """How many layers each forced split reaches: those that do not allow it are not cut silently."""
    layers = len(problem.table.layers)
    reached = {f: sum(1 for forced in problem.forced.values() if forced == f) for f in options.force_split if f[1] > 1}
    return tuple(
        f"--force-split {factor}={count}: {n} of {layers} layers are sliced so"
        + (", the others do not allow it" if n < layers else "")
        for (factor, count), n in reached.items()
    )


def message_latency(problem: Problem, cluster: Cluster) -> dict[tuple[int, int], int]:
    """Ticks of latency of each route."""
    specs = link_specs(cluster)
    return {
        pair: sum(specs[problem.links[k].id][1] for k in links) * problem.ref_khz // 1_000_000
        for pair, links in problem.route.items()
    }


def pipeline_bound(problem: Problem) -> Certificate:
    """Ticks that no plan over these options can beat: the merged machine, and host and link minima."""
    slots: dict[int, list[int]] = {}
    for slot, kind in enumerate(problem.kind_of):
        slots.setdefault(kind, []).append(problem.resident_bytes[slot])
    listed = [Pool((kind,), len(room), sum(room)) for kind, room in sorted(slots.items())]
    return lower_bound(problem.table.options, listed, len(problem.table.layers))


def throughput(
    problem: Problem, options: PartitionOptions, proof: Certificate, host: int
) -> tuple[list[Allocation], int, str]:
    """(allocations, the best first; bound; what proves it): sweeps, annealing, and a flat proof where small.

    host: ticks a frame that the host takes in any case; engines that keep up with it are not searched for better ones.
    """
    bound, proved = proof.bound, "prices on the merged machine, checked in integers (column generation, GLOP)"
    goal = max(bound, options.interval or 0)
    best = contiguous(problem, goal)
    if best is None or problem.slots == 1:
        return [] if best is None else [best], bound, proved
    price = {k: float(x) for k, x in zip(sorted(set(problem.kind_of)), proof.time_prices, strict=True)}
    free = priced(problem, goal, load_of(problem, best).interval, price)
    if free is not None and profile(load_of(problem, free)) < profile(load_of(problem, best)):
        best = free
    close = max(goal + goal * CLOSE_PERMILLE // 1000, host)
    steps = int(options.time_limit_s * STEPS_PER_SECOND)
    best = anneal(problem, best, close, steps * 4 // 5, options.seed)
    budget = Budget(options.time_limit_s * 2 / 5, options.seed, options.workers)
    best = balance(problem, best, close, BALANCE_ROUNDS, budget)
    if load_of(problem, best).interval > max(goal, host):
        best, flat = exact(problem, best, budget)
        if flat > bound:
            bound, proved = flat, "CP-SAT on the flat model of all layers and engines"
    settled = settle(problem, best, steps // 5, options.seed)
    return [settled] if settled == best else [settled, best], bound, proved


def calmer(placed: Placed, graph: Graph, options: PartitionOptions, book: CostBook, locality: float | None) -> Decision:
    """A decision with fewer messages: annealed from the contiguous sweep at this price of traffic; None: the sweep."""
    problem = placed.problem
    best = contiguous(problem, placed.bound)
    assert best is not None, "the first search began with it"
    if locality is not None:
        steps = int(options.time_limit_s * STEPS_PER_SECOND) // 4
        best = anneal(problem, best, placed.interval, steps, options.seed, locality)
    return decision_of(graph, placed.slots, problem, keep_weights(problem, best), book)


def keep_weights(problem: Problem, allocation: Allocation) -> Allocation:
    """Whole layers whose weights stay on chip: on each engine those that save most time a byte, while there is room."""
    room = list(problem.resident_bytes)
    offers: list[tuple[float, int, Option]] = []
    for x, shares in allocation.items():
        if len(shares) == 1 and shares[0].split == "":
            kept = problem.table.resident(x, problem.kind_of[shares[0].slot])
            if kept is not None and kept.ticks < shares[0].option.ticks:
                offers.append((-(shares[0].option.ticks - kept.ticks) / kept.resident_bytes, x, kept))
    out = dict(allocation)
    for _, x, kept in sorted(offers, key=lambda o: o[:2]):
        share = allocation[x][0]
        size = -(-kept.resident_bytes // 64) * 64
        if size <= room[share.slot]:
            room[share.slot] -= size
            out[x] = (replace(share, option=kept),)
    return out


def decision_of(
    graph: Graph, slots: Sequence[Slot], problem: Problem, allocation: Allocation, book: CostBook
) -> Decision:
    """Boxes of the allocation's shares, each costed as it really is."""
    pieces: dict[str, tuple[Piece, ...]] = {}
    for layer in problem.table.layers:
        node = graph.nodes[layer.index]
        extent = reduce_extent(node)
        ranges = {r.factor: r for r in layer.splits}
        made: list[Piece] = []
        partials = max(2, sum(1 for s in allocation[layer.index] if s.split == "Pn"))
        for s in allocation[layer.index]:
            box, lo, hi = layer.box, 0, extent
            if s.split == "Pm":
                r = ranges["Pm"]
                box = cut(layer.box, r.axis, *r.bounds(s.first, s.units))
            elif s.split == "Pn":
                lo, hi = ranges["Pn"].bounds(s.first, s.units)
            slot = slots[s.slot]
            n = book.cost(node, s.option.role, box, (lo, hi), slot.spec, s.option.memory, partials)
            if n is None:
                raise AssertionError(f"{layer.name}: the engine holds the slice's twin but not the slice {box}")
            made.append(Piece(s.option.role, slot.index, box, lo, hi, s.option.memory, n.cycles, n.tile))
        pieces[layer.name] = tuple(made)
    return Decision(pieces)


def scope_of(slots: Sequence[Slot], options: PartitionOptions) -> tuple[str, ...]:
    """Over what the bound holds, in words."""
    folds = ", ".join(dict.fromkeys(f"{s.spec.tm}x{s.spec.tn}" for s in slots))
    return (
        f"engines: the chosen ones ({folds}), one a place",
        "slices: whole layers, and the tabulated slices of the larger ones, over any engines, in any order",
        f"replicas: {options.replicas or 'as chosen'}",
        "memory: weights streamed; whole layers also resident",
        "costs: tile timelines, own bank alone; layers of a core do not overlap but for their first weights",
        "links and banks: not in the bound (left out, so it holds with them)",
    )
