"""`--style auto` on one page: graph + cluster + options -> Plan.

The tiled planner and the streaming planner each solve the whole net, as if asked for by name; the better plan is taken
(`figures.order`), so that it is never worse than either. What one style cannot do is a reason and no error, while
the other has a plan. The bound is the lower one of those that were proved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from compiler.ir.graph import Graph
from compiler.partition.auto.figures import Tried, order, with_styles
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan, SolverPlan
from device_db.errors import FvcError
from device_db.model import Cluster


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
    if why:
        tried["streaming"] = Tried(reason=why)
    else:
        asked = replace(options, style="streaming")
        tried["streaming"] = attempt(lambda: partition_streaming(graph, cluster, asked))
    found = {style: t.plan for style, t in tried.items() if t.plan is not None}
    if not found:
        raise refused(tried, lambda: partition_tiled(graph, cluster, one_style))
    taken = min(found, key=lambda style: order(found[style], cluster, options))
    plan = found[taken]
    return replace(
        plan,
        options=options.as_json(),
        predicted=with_styles(plan.predicted, tried, taken),
        solver=proved(plan, found),
    )


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


def proved(plan: Plan, found: dict[str, Plan]) -> SolverPlan:
    """What is proved of the best plan: the lower bound of the styles that were solved."""
    solver = plan.solver
    least = min(found, key=lambda style: found[style].solver.bound)
    bound = min(solver.objective, found[least].solver.bound)
    scope = tuple(f"{style}: {text}" for style in found for text in found[style].solver.proved_scope)
    by = "; ".join(f"{style}: {p.solver.proved_by}" for style, p in found.items())
    return replace(
        solver,
        status="OPTIMAL" if bound == solver.objective else "FEASIBLE",
        bound=bound,
        gap=round((solver.objective - bound) / solver.objective, 6) if solver.objective else 0.0,
        proved_by=by,
        proved_scope=("one style for all dies", *scope),
    )
