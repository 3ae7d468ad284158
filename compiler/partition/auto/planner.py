"""`--style auto` on one page: graph + cluster + options -> Plan.

The tiled planner and the streaming planner each solve the whole net, as if asked for by name; then plans are looked for
in which some dies stream and the others are tiled (`search`). The best plan is taken (`figures.order`), so that it is
never worse than either style. What one cannot do is a reason and no error, while another has a plan. The bound is the
lowest of those that were proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from compiler.ir.graph import Conv, Graph
from compiler.isa.stream.network import cycle_ps
from compiler.ops.stream.lower import priced
from compiler.ops.stream.parts import stream_inputs, view
from compiler.partition.auto.figures import Tried, order, with_styles
from compiler.partition.auto.relaxed import relaxation
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.joint import Bound
from compiler.partition.stream.told import LATENCY_BY
from compiler.plan.model import Plan, SolverPlan
from cost_models.primitives import cycles_ps, ps_cycles
from device_db.errors import FvcError
from device_db.model import Cluster

BY_PRICES = "prices of resources and tiled time, over which dies stream"
SPLIT_SCOPE = (
    "each die streams or is tiled; layers whole, one copy, weights of those that stream on the chip",
    "every legal PE, SIMD, variant and memory style of each layer",
    "tiled engines: all of the table; of their time only the arithmetic is in the bound",
    "bridges, FIFOs beyond 32 words, wires, links and banks: not in the bound (left out, so it holds with them)",
)


def partition_auto(graph: Graph, cluster: Cluster, options: PartitionOptions) -> Plan:
    """The best plan of any style, judged before it is returned. FvcError FVC2xx when there is none."""
    from compiler.partition.planner import partition as partition_tiled
    from compiler.partition.stream.planner import partition_streaming

    one_style = replace(options, folds=(), measured=(), style="tiled")
    tried: dict[str, Tried] = {}
    if options.folds:
        tried["tiled"] = Tried(reason="the folds that are given are of streaming engines")
    else:
        tried["tiled"] = attempt(lambda: partition_tiled(graph, cluster, one_style, search_relief=False))
    why = no_streaming(options)
    why = why or out_of_reach(graph, cluster, options, tried["tiled"].plan)
    if why:
        tried["streaming"] = Tried(reason=why)
    else:
        asked = replace(options, style="streaming")
        tried["streaming"] = attempt(lambda: partition_streaming(graph, cluster, asked))
    tried["mixed"], bound = mixed(graph, cluster, options, tried)
    found = {style: t.plan for style, t in tried.items() if t.plan is not None}
    if not found:
        raise refused(tried, lambda: partition_tiled(graph, cluster, one_style))
    taken = min(found, key=lambda style: order(found[style], cluster, options))
    plan = found[taken]
    return replace(
        plan,
        options=options.as_json(),
        predicted=with_styles(plan.predicted, tried, taken),
        solver=proved(plan, found, bound),
    )


def mixed(
    graph: Graph, cluster: Cluster, options: PartitionOptions, tried: dict[str, Tried]
) -> tuple[Tried, Bound | None]:
    """The best plan with both styles, and what no such plan beats (None: none was looked for)."""
    from compiler.partition.auto.search import WORTH, Split, why_not
    from compiler.partition.mixed.part import offers_of
    from compiler.partition.stream.job import work_of

    pure = [t.plan for t in tried.values() if t.plan is not None]
    first = options.objective == "latency"
    key = "latency_ns" if first else "interval_ns"
    best = min((int(p.predicted[key]) * 1000 for p in pure), default=0)
    tiled = tried["tiled"].plan or _without_limits(graph, cluster, options, tried["tiled"])
    why = no_streaming(options) or why_not(graph, cluster, options, tiled)
    if not why and options.min_devices and any(len({e.device for e in p.engines}) < len(cluster.devices) for p in pure):
        why = "fewer devices hold a plan of one style"
    if why:
        return Tried(reason=why), None
    assert tiled is not None
    best = best or int(tiled.predicted[key]) * 1000
    if first:
        return _quickest(graph, cluster, options, tiled, best)
    ref_khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    floor = max(sum(w.time_ps for w in work_of(graph, options)), cycles_ps(options.interval or 0, ref_khz), 1)
    if floor >= best * WORTH:
        what = "--interval asks for no more" if options.interval else "the host's own time leaves nothing to gain"
        return Tried(reason=f"none was looked for: {what}"), None
    offers = offers_of(graph, cluster, options)
    if not any(offers.values()):
        return Tried(reason="no layer has a streaming engine"), None
    relaxed = relaxation(graph, cluster, offers, options.memory, whole=tried["streaming"].plan is None)
    if relaxed.refuted(int(best * WORTH)):
        told = f"no split is {round(100 - 100 * WORTH)} % quicker, proved"
        return Tried(reason=told), Bound(relaxed.bound_ps(floor, best), BY_PRICES)
    plan = Split(graph, cluster, options, offers, tiled, floor).best(best)
    if plan is None:
        return Tried(reason="none found that is quicker"), Bound(relaxed.bound_ps(floor, best), BY_PRICES)
    plan = with_workers(plan, options)
    reached = min(best, int(plan.predicted["interval_ns"]) * 1000)
    return judged(plan, graph, cluster, options), Bound(relaxed.bound_ps(floor, reached), BY_PRICES)


def _quickest(
    graph: Graph, cluster: Cluster, options: PartitionOptions, tiled: Plan, best_ps: int
) -> tuple[Tried, Bound | None]:
    """The plan with both styles whose frame is quickest. best_ps: the latency to beat."""
    from compiler.partition.auto.quickest import Quickest
    from compiler.partition.auto.search import WORTH, Split
    from compiler.partition.mixed.part import offers_of
    from compiler.partition.stream.job import work_of
    from compiler.partition.stream.least import least_latency_ps

    bound = Bound(least_latency_ps(graph, work_of(graph, options), cluster), LATENCY_BY)
    if bound.interval_ps >= best_ps * WORTH:
        return Tried(reason="none was looked for: the host and PCIe leave nothing to gain"), bound
    offers = offers_of(graph, cluster, options)
    if not any(offers.values()):
        return Tried(reason="no layer has a streaming engine"), None
    plan = Quickest(Split(graph, cluster, options, offers, tiled, 1)).best(best_ps)
    if plan is None:
        return Tried(reason="none found that is quicker"), bound
    return judged(with_workers(plan, options), graph, cluster, options), bound


def with_workers(plan: Plan, options: PartitionOptions) -> Plan:
    """The plan with the note that several workers ask for."""
    if options.workers < 2:
        return plan
    told = f"{options.workers} workers: the plan may differ from run to run"
    return replace(plan, solver=replace(plan.solver, notes=(*plan.solver.notes, told)))


def judged(plan: Plan, graph: Graph, cluster: Cluster, options: PartitionOptions) -> Tried:
    """The plan, if it is within the limits asked for and the independent checker accepts it."""
    from compiler.partition.check import check_plan
    from compiler.partition.infeasible import check_limits

    try:
        check_limits(plan, graph, cluster, options, search=False)
    except FvcError as refusal:
        return Tried(refusal=refusal)
    findings = check_plan(plan, graph, cluster)
    if findings:
        told = f"{findings[0].what} ({', '.join(findings[0].where)})"
        return Tried(refusal=FvcError(findings[0].code, f"the one found is not legal: {told}", exit_code=1))
    return Tried(plan)


def _without_limits(graph: Graph, cluster: Cluster, options: PartitionOptions, tiled: Tried) -> Plan | None:
    """The tiled plan that only misses a limit: what a split begins with."""
    from compiler.partition.planner import partition as partition_tiled

    if tiled.refusal is None or tiled.refusal.code not in ("FVC204", "FVC205"):
        return None
    free = replace(options, style="tiled", target_fps=None, max_latency_ms=None, min_devices=False, measured=())
    return attempt(lambda: partition_tiled(graph, cluster, free, search_relief=False)).plan


def attempt(make: Callable[[], Plan]) -> Tried:
    """A style's plan, or its refusal; defects stay errors."""
    try:
        return Tried(make())
    except FvcError as refusal:
        if refusal.exit_code not in (1, 2):
            raise
        return Tried(refusal=refusal)


def no_streaming(options: PartitionOptions) -> str:
    """Why nothing may stream, or ""."""
    if options.cores is not None:
        return "--cores counts tiled engines"
    if options.uniform:
        return "--uniform asks for one tiled engine"
    if options.xfer == "always":
        return "--xfer always is about tiled engines"
    return ""


def out_of_reach(graph: Graph, cluster: Cluster, options: PartitionOptions, tiled: Plan | None) -> str:
    """Why no streaming plan has as short an interval as the tiled one, or "": a search that takes minutes for large
    images then decides nothing. Where something else counts first, or copies share the frames, it may."""
    counts = options.objective == "latency" or options.interval or options.min_devices or options.replicas != 1
    if tiled is None or counts:
        return ""
    least = least_interval_ps(graph, cluster)
    if least <= int(tiled.predicted["interval_ns"]) * 1000:
        return ""
    return f"none was looked for: a frame takes {least / 1e6:,.1f} us at the very least, on tiled engines less"


def least_interval_ps(graph: Graph, cluster: Cluster) -> int:
    """No streaming plan of one copy has a shorter interval: a word of a stream holds elements of one position only,
    however layers are folded or cut, no stream passes more than a word a cycle, and layers without weights, which are
    never cut, take what their quickest fold takes."""
    cycle = min(cycle_ps(d.clock_khz) for dev in cluster.devices for d in dev.board.dies)
    passed = {graph.root(t) for n in graph.nodes for t in (*stream_inputs(graph, n), n.y)}
    shapes = [view(graph, t) for t in passed if t in graph.tensors]
    least = max((n * h * w for n, _, h, w in shapes), default=0)
    family = cluster.devices[0].board.family  # of cycles all are alike
    for node in graph.nodes:
        if not isinstance(node, Conv):
            try:
                least = max(least, min((o.cycles for o in priced(graph, node, family, False)), default=0))
            except FvcError:  # no streaming engine has it: the search says so
                continue
    return cycle * least


def refused(tried: dict[str, Tried], again: Callable[[], Plan]) -> FvcError:
    """The error where no style has a plan: the tiled planner's, with what would relieve it, and why nothing else fits.

    again: the tiled planner with its search for relief."""
    told = [f"{style}: {t.refusal.what if t.refusal else t.reason}" for style, t in tried.items() if style != "tiled"]
    first, other = tried["tiled"].refusal, tried["streaming"].refusal
    if first is None:
        assert other is not None
        return other
    if first.exit_code == 1:
        first = attempt(again).refusal or first
    return FvcError(first.code, first.what, where=(*first.where, *told), help=first.help, exit_code=first.exit_code)


def proved(plan: Plan, found: dict[str, Plan], split: Bound | None) -> SolverPlan:
    """What is proved of the best plan: the lowest bound of the styles that were solved. split: that of plans with both
    styles, None where none was looked for."""
    solver = plan.solver
    own = {style: p.solver for style, p in found.items() if style != "mixed"}
    bounds = {style: s.bound for style, s in own.items()}
    by = [f"{style}: {s.proved_by}" for style, s in own.items()]
    scope = [f"{style}: {text}" for style, s in own.items() for text in s.proved_scope]
    if split is None:
        scope.insert(0, "one style for all dies")
    else:
        bounds["mixed"] = ps_cycles(split.interval_ps, round(float(plan.predicted["clock_mhz"]) * 1000))
        by.append(f"mixed: {split.proved_by}")
        scope += [f"mixed: {text}" for text in SPLIT_SCOPE]
    bound = min(solver.objective, *bounds.values())
    return replace(
        solver,
        status="OPTIMAL" if bound == solver.objective else "FEASIBLE",
        bound=bound,
        gap=round((solver.objective - bound) / solver.objective, 6) if solver.objective else 0.0,
        proved_by="; ".join(by),
        proved_scope=tuple(scope),
    )
