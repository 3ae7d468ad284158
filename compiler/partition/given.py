"""A folding and floorplan that someone brings: judged as they stand, then improved.

Needs what was asked for without the given folds and dies, and with them. The given plan is solved with every named fold
and die fixed, and judged like any other; then the search runs free. The better plan of the two is taken (interval, then
latency; the given one on a tie), so what comes out is never worse than what was brought. `Plan.predicted["given"]` says
what the given one does, or why it cannot be built, and `Plan.predicted["found"]` what the search found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from compiler.ir.graph import Graph
from compiler.ops.stream.lower import excess, ladder, price
from compiler.ops.stream.programs import fabric_dies
from compiler.partition.measured import first_fold
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db.errors import FvcError
from device_db.model import RESOURCE_TYPES, Cluster, Resources

_FIGURES = ("interval_ns", "interval_cycles", "latency_ns", "fps")


def improved(given: Callable[[], Plan], free: Callable[[], Plan], sketch: Callable[[], dict[str, Any]] = dict) -> Plan:
    """The better of both plans. Raises the free search's FvcError if neither can be built.

    sketch: what is known of a given plan that cannot be built (`sketched`)."""
    theirs, refusal = _try(given)
    ours, problem = _try(free)
    if theirs is None and ours is None:
        assert problem is not None
        raise problem
    facts = {"given": _facts(theirs, refusal), "found": _facts(ours, problem)}
    if theirs is None:
        facts["given"] |= sketch()
    if ours is None or (theirs is not None and theirs.engines != ours.engines and _order(theirs) <= _order(ours)):
        assert theirs is not None
        chosen = theirs if ours is None else _with_bound(theirs, ours)
        facts["taken"] = {"plan": "given"}
    else:
        chosen = ours
        facts["taken"] = {"plan": "found"}
    return replace(
        chosen, predicted=chosen.predicted | facts, fallbacks=(*chosen.fallbacks, *_told(theirs, refusal, ours))
    )


def _try(make: Callable[[], Plan]) -> tuple[Plan | None, FvcError | None]:
    try:
        return make(), None
    except FvcError as problem:
        if problem.exit_code != 1:
            raise
        return None, problem


def _order(plan: Plan) -> tuple[int, int]:
    order = plan.predicted["interval_ns"], plan.predicted["latency_ns"]
    return order if plan.options.get("objective") != "latency" else order[::-1]


def _facts(plan: Plan | None, problem: FvcError | None) -> dict[str, Any]:
    if plan is None:
        assert problem is not None
        return {"fits": False, "code": problem.code, "why": problem.what, "where": list(problem.where)}
    resources = {t: sum(getattr(e.resources, t) for e in plan.engines) for t in RESOURCE_TYPES}
    figures = {k: plan.predicted[k] for k in _FIGURES}
    return {"fits": True, **figures, "resources": resources, "devices": len({e.device for e in plan.engines})}


def sketched(graph: Graph, cluster: Cluster, options: PartitionOptions) -> dict[str, Any]:
    """What the given folds take and do, whether they fit or not: cycles of the slowest, resources, and where a die has
    less, or all dies together. Layers without a given fold are counted at their smallest; nothing if none has one."""
    folds = {f[0]: f for f in options.folds}
    if not folds:
        return {}
    family = cluster.devices[0].board.family
    dies = {f"{dev.name}/{d.name}": d for k, dev in enumerate(cluster.devices) for d in fabric_dies(cluster, k)}
    place = dict(options.anchors)
    total, on_die = Resources(), {name: Resources() for name in dies}
    cycles = 0
    for n in graph.nodes:
        if n.name in folds:
            fold = first_fold(graph, n, folds[n.name])
            option = price(graph, n, fold, family)
            need = option.resources + excess(graph, n, fold, family, options.measured)
            cycles = max(cycles, option.cycles)
        else:
            need = min((o.resources for o in ladder(graph, n, family, True)), key=lambda r: r.lut)
        total = total + need
        if place.get(n.name) in on_die:
            on_die[place[n.name]] = on_die[place[n.name]] + need
    have = {name: {t: getattr(d, t) for t in RESOURCE_TYPES} for name, d in dies.items()}
    have["all dies"] = {t: sum(row[t] for row in have.values()) for t in RESOURCE_TYPES}
    needs = {**on_die, "all dies": total}
    over = [
        {"die": name, "resource": t, "needed": getattr(needs[name], t), "usable": have[name][t]}
        for name in have
        for t in RESOURCE_TYPES
        if getattr(needs[name], t) > have[name][t]
    ]
    return {"interval_cycles": cycles, "resources": {t: getattr(total, t) for t in RESOURCE_TYPES}, "over": over}


def _with_bound(plan: Plan, free: Plan) -> Plan:
    """The given plan with the bound of the free problem, of which its own is a part."""
    bound = min(free.solver.bound, plan.solver.objective)
    objective = plan.solver.objective
    gap = round((objective - bound) / objective, 6) if objective else 0.0
    return replace(
        plan,
        solver=replace(
            plan.solver,
            status="OPTIMAL" if objective <= bound else "FEASIBLE",
            bound=bound,
            gap=gap,
            proved_by=free.solver.proved_by,
            proved_scope=free.solver.proved_scope,
        ),
    )


def _told(theirs: Plan | None, refusal: FvcError | None, ours: Plan | None) -> list[str]:
    """A given plan that cannot be built is no error: it is told, and the one that was found is taken."""
    if theirs is None:
        assert refusal is not None
        return [f"what the files give cannot be built ({refusal.code}: {refusal.what}); the plan is fvc's own"]
    if ours is None:
        return ["the search found no plan of its own; the plan is the given one"]
    return []


def lines(predicted: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, one line) of the given and the found plan, for a person."""
    out = []
    for what in ("given", "found"):
        facts = predicted.get(what)
        if not isinstance(facts, dict):
            continue
        if not facts["fits"]:
            told = (
                f"; its slowest layer takes {facts['interval_cycles']:,} cycles" if "interval_cycles" in facts else ""
            )
            out.append((what, f"cannot be built: {facts['why']}{told}"))
            out += [
                (what, f"{o['die']}: {o['needed']:,} {o['resource'].upper()} needed, {o['usable']:,} usable")
                for o in facts.get("over", ())
            ]
            continue
        r = facts["resources"]
        amounts = ", ".join(f"{r[t]:,} {t.upper()}" for t in RESOURCE_TYPES)
        taken = " (taken)" if predicted.get("taken", {}).get("plan") == what else ""
        times = f"interval {facts['interval_ns']:,} ns, latency {facts['latency_ns']:,} ns"
        out.append((what, f"{times}, {amounts}{taken}"))
    return out
