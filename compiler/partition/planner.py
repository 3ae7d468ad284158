"""The partitioner on one page: graph + cluster + options -> Plan.

Needs a legal graph; guarantees a plan that check.py accepts, with a proven bound and its scope, or FvcError FVC2xx
with the unmet constraint, what contributes to it and the cheapest relaxation that makes it fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial

from compiler.ir.graph import Graph
from compiler.partition.build import Body, build
from compiler.partition.costs import CostBook
from compiler.partition.defaults import ClusterRoutes, RealOps
from compiler.partition.infeasible import check_limits, no_layer, refused, too_deep, too_wide
from compiler.partition.layout import Place, places
from compiler.partition.min_devices import on_devices
from compiler.partition.options import PartitionOptions
from compiler.partition.pieces import Decision, Slot
from compiler.partition.prediction.meeting import UNPLAYABLE
from compiler.partition.prediction.predict import latency_ps, number, predict
from compiler.partition.protocols import Ops
from compiler.partition.replicate import auto_replicas, groups
from compiler.partition.search import Placed, calmer, chosen_engines, place_replica, reference_khz
from compiler.plan.model import SCHEMA, Plan, SolverPlan
from device_db.errors import FvcError
from device_db.model import Cluster

GOOD_PERMILLE, FAIR_PERMILLE = 1002, 1025  # of the balanced load: tried no further; not worth another search
WORTH_PERMILLE = 998  # of the interval so far: a later plan with more stages or messages must save that much
# Prices of traffic (None: the contiguous sweep) and seeds: which messages wait for which is luck that no price tells.
CALMER = ((0.15, 0), (0.5, 0), (None, 0), (0.3, 1), (0.5, 2), (0.15, 3), (1.0, 4), (0.3, 5), (0.5, 6))


def partition(
    graph: Graph, cluster: Cluster, options: PartitionOptions, ops: Ops | None = None, *, search_relief: bool = True
) -> Plan:
    """The best plan found, judged by check.py before it is returned. FvcError FVC2xx when there is none.

    search_relief: where more devices may help, the error says how many, found by solving for them."""
    options.validate()
    if not graph.nodes:
        raise no_layer(graph)
    if graph.wide:
        raise too_wide(graph)
    book = CostBook(graph, ops or RealOps())
    everywhere = places(cluster, options.cores)

    def on_first(count: int) -> Plan:
        here = [p for p in everywhere if p.ref.device < count]
        return _judged(graph, cluster, options, book, here, search_relief and count == len(cluster.devices))

    return on_devices(on_first, cluster, options)


def _judged(
    graph: Graph, cluster: Cluster, options: PartitionOptions, book: CostBook, here: list[Place], search: bool
) -> Plan:
    """One plan on these places, within the limits asked for and accepted by the independent checker."""
    from compiler.partition.check import check_plan

    notes: list[str] = []
    auto, rates = auto_replicas(graph, cluster, options, book, here)
    replicas = options.replicas or auto
    plan = _plan(graph, cluster, options, book, here, replicas)
    # The estimate of another number of replicas is scaled by what this plan really gives.
    fps = float(plan.predicted["fps"])
    if auto != replicas and rates.get(replicas):
        fps = round(fps * rates[auto] / rates[replicas], 1)
        notes.append(f"--replicas auto would take {auto} and give about {number(fps)} frames a second")
    plan.predicted["replicas_auto"] = {"replicas": auto, "fps": number(fps)}
    if options.workers > 1:
        notes.append(f"{options.workers} workers: the plan may differ from run to run")
    plan = replace(plan, solver=replace(plan.solver, notes=(*plan.solver.notes, *notes)))
    check_limits(plan, graph, cluster, options, search)
    findings = check_plan(plan, graph, cluster)
    if findings:
        raise refused(findings, plan, graph, cluster, options, search)
    return plan


def plan_on(graph: Graph, cluster: Cluster, options: PartitionOptions, book: CostBook, here: list[Place]) -> Plan:
    """One copy of the pipeline on these places, not judged yet: the tiled side of a mixed plan."""
    return _plan(graph, cluster, options, book, here, 1)


def _plan(
    graph: Graph, cluster: Cluster, options: PartitionOptions, book: CostBook, here: list[Place], replicas: int
) -> Plan:
    """Places every replica, builds the body, predicts."""
    placed: list[Placed] = []
    rank = 0
    shared = chosen_engines(graph, cluster, here, options, book) if options.uniform else None
    for r, group in enumerate(groups(here, replicas)):
        engines = shared or chosen_engines(graph, cluster, group, options, book)
        placed.append(place_replica(graph, cluster, group, options, book, r, rank, engines))
        rank += len(group)
    slots = [s for p in placed for s in p.slots]
    if options.objective == "latency":
        return _quickest(graph, cluster, slots, placed, options, book, replicas)
    best: Plan | None = None
    refusal: FvcError | None = None
    for ticks, decisions, hop in _variants(placed, graph, options, book):
        if best is not None and best.solver.objective * replicas <= ticks:
            continue
        body = build(graph, slots, decisions(), book.ops, ClusterRoutes(cluster), options, hop)
        if body is None:
            continue
        plan = _assemble(graph, cluster, options, body, replicas)
        try:
            predicted = predict(plan, graph, cluster)
        except FvcError as error:
            refusal = _unplayable(error)
            continue
        plan = replace(plan, predicted=predicted, solver=_solver(plan, predicted, placed, options, cluster))
        if best is None or plan.solver.objective * 1000 < best.solver.objective * WORTH_PERMILLE:
            best = plan
        if best.solver.status == "OPTIMAL":
            break
    if best is None:
        raise refusal or too_deep(graph, cluster)
    return best


def _unplayable(error: FvcError) -> FvcError:
    """The error, if it says that engines of a plan would wait for each other for ever; any other is raised."""
    if error.code != UNPLAYABLE:
        raise error
    return error


def _quickest(
    graph: Graph,
    cluster: Cluster,
    slots: list[Slot],
    placed: list[Placed],
    options: PartitionOptions,
    book: CostBook,
    replicas: int,
) -> Plan:
    """The plan of the least predicted latency among all decisions found, with its prediction in full."""
    found: list[tuple[int, int, Plan]] = []
    refusal: FvcError | None = None
    for turn in range(min(len(p.decisions) for p in placed)):
        decisions = _turn([p.decisions for p in placed], turn)
        body = build(graph, slots, decisions, book.ops, ClusterRoutes(cluster), options)
        if body is None:
            continue
        plan = _assemble(graph, cluster, options, body, replicas)
        try:
            found.append((latency_ps(plan, graph, cluster), turn, plan))
        except FvcError as error:
            refusal = _unplayable(error)
    for _, _, plan in sorted(found, key=lambda x: x[:2]):
        try:
            predicted = predict(plan, graph, cluster)
        except FvcError as error:  # one frame may pass where several wait for each other
            refusal = _unplayable(error)
            continue
        return replace(plan, predicted=predicted, solver=_solver(plan, predicted, placed, options, cluster))
    raise refusal or too_deep(graph, cluster)


def _variants(
    placed: list[Placed], graph: Graph, options: PartitionOptions, book: CostBook
) -> Iterator[tuple[int, Callable[[], list[Decision]], int]]:
    """(interval at which it is not tried, a decision a replica, stages a hop), until messages no longer hold the
    engines up: one stage a hop, then two, then decisions that send less; then those with more ways to cut a layer."""
    load = max(p.interval for p in placed)
    for hop in (1, 2):
        for turn in range(min(len(p.decisions) for p in placed)):
            yield load * GOOD_PERMILLE // 1000, partial(_turn, [p.decisions for p in placed], turn), hop
    for locality, seed in CALMER:
        decisions = cache(partial(_calmer, placed, graph, options, book, locality, seed))
        for hop in (1, 2):
            yield load * FAIR_PERMILLE // 1000, decisions, hop
    wider = [p.wider or p.decisions for p in placed]
    load = max(p.wider_interval for p in placed)
    if any(p.wider for p in placed):
        for hop in (1, 2):
            for turn in range(min(len(w) for w in wider)):
                yield load * GOOD_PERMILLE // 1000, partial(_turn, wider, turn), hop


def _turn(found: list[list[Decision]], turn: int) -> list[Decision]:
    return [decisions[turn] for decisions in found]


def _calmer(
    placed: list[Placed], graph: Graph, options: PartitionOptions, book: CostBook, locality: float | None, seed: int
) -> list[Decision]:
    return [calmer(p, graph, options, book, locality, seed) for p in placed]


def _assemble(graph: Graph, cluster: Cluster, options: PartitionOptions, body: Body, replicas: int) -> Plan:
    """A plan without figures yet."""
    return Plan(
        schema=SCHEMA,
        model={"name": graph.name},
        cluster={"spec": cluster.name, "topology": cluster.topology, "devices": [d.name for d in cluster.devices]},
        options=options.as_json(),
        solver=SolverPlan("FEASIBLE", 0, 0, 0.0, "", (), options.seed, options.workers),
        engines=tuple(body.engines),
        layers=tuple(body.layers),
        channels=tuple(body.channels),
        host_segments=tuple(body.host_segments),
        predicted={},
        replicas=replicas,
        fallbacks=tuple(graph.fallbacks),
    )


def _solver(
    plan: Plan, predicted: dict[str, object], placed: list[Placed], options: PartitionOptions, cluster: Cluster
) -> SolverPlan:
    """Status, objective, bound and gap, in reference-clock cycles. OPTIMAL is said only where the bound is met."""
    key = "interval_cycles" if options.objective == "throughput" else "latency_cycles"
    objective = int(str(predicted[key]))
    ref_khz = reference_khz(cluster)
    proved = placed[0].proved_by
    if options.objective == "throughput":
        bound = -(-max(p.bound for p in placed) // plan.replicas)
        host = sum(h.time_ns for h in plan.host_segments) * ref_khz // 1_000_000
        if host > bound:  # the host runs its segments one after another, whatever the engines do
            bound, proved = host, "the host's own time a frame"
    else:
        bound = max(p.bound for p in placed)
    notes = tuple(n for p in placed for n in p.notes)
    if bound > objective:  # then it is no bound of what is predicted, and nothing is proved
        notes += (f"the search's bound {bound} is above the predicted {objective}: no bound is claimed",)
        bound, proved = 0, "nothing"
    gap = round((objective - bound) / objective, 6) if objective else 0.0
    status = "OPTIMAL" if objective == bound else "FEASIBLE"
    first = placed[0]
    return SolverPlan(
        status, objective, bound, gap, proved, first.scope, options.seed, options.workers, tuple(dict.fromkeys(notes))
    )
