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
from compiler.partition.pieces import Decision, Piece, Slot
from compiler.partition.problem import Allocation, Problem, load_of
from compiler.partition.sharing import Sharing
from compiler.partition.solve.anneal import anneal, settle
from compiler.partition.solve.contiguous import contiguous
from compiler.partition.solve.flat import Budget, balance, exact, profile
from compiler.partition.solve.held import keep_weights
from compiler.partition.solve.priced import priced
from compiler.partition.tabulate import Tabulator, placement_problem
from compiler.partition.uniform import uniform_engines
from compiler.partition.xfer import settle_styles
from device_db.model import Cluster
from device_db.topology import link_specs

STEPS_PER_SECOND = 40_000  # random moves counted as one second of the time limit
BALANCE_ROUNDS = 96  # solves of a few engines at a time
CLOSE_PERMILLE = 5  # a gap below this is not worked on any further
WORTH_WIDENING = 1002  # permille: less is not worth another plan


@dataclass(slots=True)
class Placed:
    """What one replica's search gives: the decision and how good it is proved to be (ticks of the reference clock)."""

    slots: list[Slot]
    decisions: list[Decision]  # the best first; the others are nearly as good and may suit the queues better
    wider: list[Decision]  # with more ways to cut a layer; of a lower interval, so there may be none
    problem: Problem
    interval: int  # that engines, links and banks alone would allow
    wider_interval: int
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


def chosen_engines(
    graph: Graph, cluster: Cluster, place_list: Sequence[Place], options: PartitionOptions, book: CostBook
) -> dict[int, Candidate]:
    """Pool -> engine of these places. FVC202 or FVC203 where there is none that holds every layer."""
    choice = EngineChoice(graph, cluster, place_list, book, reference_khz(cluster), options.memory)
    engines = (
        uniform_engines(choice, cluster, place_list) if options.uniform else choice.best(options.objective == "latency")
    )
    if engines is None:
        if not all(choice.offered.values()):
            raise no_engine(cluster, place_list, choice)
        raise no_layer_fit(graph, cluster, choice)
    return engines


def place_replica(
    graph: Graph,
    cluster: Cluster,
    place_list: Sequence[Place],
    options: PartitionOptions,
    book: CostBook,
    replica: int,
    first_rank: int,
    engines: dict[int, Candidate],
) -> Placed:
    """Everything for one copy of the pipeline on these places, with these engines by pool."""
    ref_khz = reference_khz(cluster)
    slots = make_slots(cluster, place_list, engines, replica, first_rank)
    tab = Tabulator(graph, slots, book, book.ops, ref_khz, options)
    if options.objective == "latency" and options.xfer != "never":
        tab.sharing = Sharing(graph, slots, cluster, ref_khz, always=options.xfer == "always")
    tab.whole()
    tab.slices()
    if tab.sharing is not None and tab.sharing.always:
        tab.sharing.apply(tab.table)
        tab.sharing = None
    problem = placement_problem(tab, cluster, ClusterRoutes(cluster), options, range(len(slots)))
    proof = pipeline_bound(problem)
    bound = proof.bound
    found: list[Allocation]
    wider: list[Allocation] = []
    notes: tuple[str, ...] = ()
    if options.objective == "latency":
        from compiler.partition.solve.latency import fastest, promising

        passing = message_latency(problem, cluster)
        got = fastest(problem, graph, options, passing)
        found = got.allocations
        # More ways to cut never lose a plan: what was found stays. Shares come first, as the additive model sees more
        # gain in the other grids than there is, and would then see none in shares.
        for offered in (tab.shares, tab.more):
            if not offered():
                continue
            wide = placement_problem(tab, cluster, ClusterRoutes(cluster), options, range(len(slots)))
            if tab.forced() or promising(wide, options, passing, got.additive):
                problem, got = wide, fastest(wide, graph, options, passing)
                found = [*got.allocations, *(a for a in found if a not in got.allocations)]
        bound, proved, notes = got.bound, got.proved_by, got.notes
        scope = scope_of(slots, options, got.scope)
    else:
        scope = scope_of(slots, options, INTERVAL_SCOPE)
        host_ns = sum(host_time_ns(s.name, options) for s in graph.host_segments)
        host = host_ns * ref_khz // 1_000_000
        narrow = by_channels(problem)
        own = proof if narrow.splits == problem.splits else pipeline_bound(narrow)
        found = throughput(narrow, options, own, host)
        if found:
            wider, bound, proved = widened(problem, found[0], options, proof, host)
        problem = narrow
    if not found:
        raise no_placement(problem, cluster, options)
    kept = [keep_weights(problem, a) for a in found]
    decisions = [decision_of(graph, slots, problem, a, book) for a in kept]
    interval = load_of(problem, kept[0]).interval
    richer = [keep_weights(problem, a) for a in wider]
    more = [decision_of(graph, slots, problem, a, book) for a in richer]
    less = load_of(problem, richer[0]).interval if richer else interval
    return Placed(slots, decisions, more, problem, interval, less, bound, proved, scope, (*tab.notes, *notes))


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
    return lower_bound(problem.options(), listed, len(problem.table.layers))


def by_channels(problem: Problem) -> Problem:
    """The problem with cuts of output channels only, of input channels where there are no others."""
    cuts = [
        tuple(r for r in own if r.factor == "Pm") or tuple(r for r in own if r.factor == "Pn") for own in problem.splits
    ]
    return replace(problem, splits=cuts)


def throughput(problem: Problem, options: PartitionOptions, proof: Certificate, host: int) -> list[Allocation]:
    """Allocations, the best first: sweeps, then annealing, evened out, and with the least traffic at that interval.

    host: ticks a frame that the host takes in any case; engines that keep up with it are not searched for better ones.
    """
    goal = max(proof.bound, options.interval or 0)
    best = contiguous(problem, goal)
    if best is None or problem.slots == 1:
        return [] if best is None else [best]
    price = {k: float(x) for k, x in zip(sorted(set(problem.kind_of)), proof.time_prices, strict=True)}
    free = priced(problem, goal, load_of(problem, best).interval, price)
    if free is not None and profile(load_of(problem, free)) < profile(load_of(problem, best)):
        best = free
    close = max(goal + goal * CLOSE_PERMILLE // 1000, host)
    steps = int(options.time_limit_s * STEPS_PER_SECOND)
    best = anneal(problem, best, close, steps * 4 // 5, options.seed)
    best = balance(problem, best, close, BALANCE_ROUNDS, budget_of(options))
    if load_of(problem, best).interval > max(goal, host):
        best, _ = exact(problem, best, budget_of(options))
    return settled(problem, best, options, steps // 5)


def budget_of(options: PartitionOptions) -> Budget:
    """What one of the CP-SAT models may take."""
    return Budget(options.time_limit_s * 2 / 5, options.seed, options.workers)


def settled(problem: Problem, best: Allocation, options: PartitionOptions, steps: int) -> list[Allocation]:
    """The allocation with less traffic where there is one, then itself."""
    calm = settle(problem, best, steps, options.seed)
    return [calm] if calm == best else [calm, best]


def widened(
    problem: Problem, start: Allocation, options: PartitionOptions, proof: Certificate, host: int
) -> tuple[list[Allocation], int, str]:
    """(better allocations than `start`, the best first; bound; what proves it): cuts of rows, columns and batch for the
    layers that are not cut by channels already. It goes on from where the search without them ended, so that more ways
    to cut a layer never make a plan worse.
    """
    bound, proved = proof.bound, "prices on the merged machine, checked in integers (column generation, GLOP)"
    goal = max(bound, options.interval or 0)
    before = load_of(problem, start).interval
    if problem.slots == 1 or before <= max(goal, host):
        return [], bound, proved
    best, steps = start, int(options.time_limit_s * STEPS_PER_SECOND) // 4
    close = max(goal + goal * CLOSE_PERMILLE // 1000, host)
    if before > close:
        cuts = [own[-1:] if len(start[x]) == 1 else own[:1] for x, own in enumerate(problem.splits)]
        best = anneal(replace(problem, splits=cuts), start, close, steps, options.seed)
    best, flat = exact(problem, best, budget_of(options))
    if flat > bound:
        bound, proved = flat, "CP-SAT on the flat model of all layers and engines"
    better = load_of(problem, best).interval * WORTH_WIDENING < before * 1000
    return settled(as_cut(problem, best), best, options, steps // 2) if better else [], bound, proved


def as_cut(problem: Problem, allocation: Allocation) -> Problem:
    """The problem with one way to cut each layer, the one it is cut by: annealing moves units of one factor only."""
    cuts = [
        tuple(r for r in own if r.factor == allocation[x][0].split) or own[:1] for x, own in enumerate(problem.splits)
    ]
    return replace(problem, splits=cuts)


def calmer(
    placed: Placed, graph: Graph, options: PartitionOptions, book: CostBook, locality: float | None, seed: int
) -> Decision:
    """A decision with fewer messages: annealed from the contiguous sweep at this price of traffic; None: the sweep."""
    problem = placed.problem
    best = contiguous(problem, placed.bound)
    assert best is not None, "the first search began with it"
    if locality is not None:
        steps = int(options.time_limit_s * STEPS_PER_SECOND) // 4
        best = anneal(problem, best, placed.interval, steps, options.seed + seed, locality)
    return decision_of(graph, placed.slots, problem, keep_weights(problem, best), book)


def decision_of(
    graph: Graph, slots: Sequence[Slot], problem: Problem, allocation: Allocation, book: CostBook
) -> Decision:
    """Boxes of the allocation's shares, each costed as it really is."""
    pieces: dict[str, tuple[Piece, ...]] = {}
    for layer in problem.table.layers:
        node = graph.nodes[layer.index]
        made: list[Piece] = []
        shares = allocation[layer.index]
        work = {problem.boxes.task(layer.index, s.key)[1:] for s in shares if s.option.role == "partial"}
        for s in shares:
            box, lo, hi = problem.boxes.task(layer.index, s.key)
            slot = slots[s.slot]
            partials = max(2, len(work))
            n = book.cost(node, s.option.role, box, (lo, hi), slot.spec, s.option.memory, partials)
            if n is None:
                raise AssertionError(f"{layer.name}: the engine holds the slice's twin but not the slice {box}")
            made.append(Piece(s.option.role, slot.index, box, lo, hi, s.option.memory, n.cycles, n.tile))
        for i, style in enumerate(settle_styles(graph, node, made)):
            p = made[i]
            if style != p.memory:  # unlike engines chose unlike tiles: every one loads all of it itself
                n = book.cost(node, p.role, p.box, (p.reduce_from, p.reduce_to), slots[shares[i].slot].spec, style)
                assert n is not None, "the plain slice was tabulated with the shared one"
                made[i] = replace(p, memory=style, cycles=n.cycles, tile=n.tile)
        pieces[layer.name] = tuple(made)
    return Decision(pieces)


INTERVAL_SCOPE = (
    "slices: whole layers, and the tabulated slices of the larger ones, over any engines, in any order",
    "links and banks: not in the bound (left out, so it holds with them)",
)


def scope_of(slots: Sequence[Slot], options: PartitionOptions, own: tuple[str, str]) -> tuple[str, ...]:
    """Over what the bound holds, in words; own: what the objective's bound says of slices and of messages."""
    folds = ", ".join(dict.fromkeys(f"{s.spec.tm}x{s.spec.tn}" for s in slots))
    return (
        f"engines: the chosen ones ({folds}), one a place",
        own[0],
        f"replicas: {options.replicas or 'as chosen'}",
        "memory: weights streamed; whole layers also resident",
        "costs: tile timelines, own bank alone; layers of a core do not overlap but for their first weights",
        own[1],
    )
