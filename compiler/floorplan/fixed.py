"""Fixed kernels: walks of the backbone, parts freed in turn, one model of everything, each from what is known so far.

Needs a FixedCase; guarantees the best plan found and a proved bound on its cost.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.floorplan.budget import Clock
from compiler.floorplan.improve import first, improve
from compiler.floorplan.least import least
from compiler.floorplan.problem import FixedCase
from compiler.floorplan.tree import backbone, build, cost_of, slot_tree
from compiler.floorplan.walk_model import Plan
from compiler.floorplan.walks import Walks, spine_of

WALK_SHARES, WALK_SECONDS = (0.6, 0.2), 24.0  # of the time for walks: the first, or less, if the others are
PARTS_SHARE = 0.1  # of the time, for parts
EVERYTHING_SHARE = 0.2  # of what is left: a deterministic second of so large a model takes several of a processor


@dataclass(frozen=True, slots=True)
class FixedResult:
    """status OPTIMAL, FEASIBLE, INFEASIBLE (proved) or UNKNOWN; cost and plan where there is one."""

    status: str
    cost: int | None
    bound: int
    plan: Plan | None
    proved_by: str


def _walking(left: float) -> float:
    """Deterministic seconds for walks, of those that are left."""
    most, large = WALK_SHARES
    return min(most * left, max(WALK_SECONDS, large * left))


def solve_fixed(case: FixedCase, clock: Clock) -> FixedResult:
    """The cheapest plan within the clock's time."""
    bound, best, plan = least(case, clock), None, None
    proved_by = "slots that the kernels take" if bound else ""
    path = backbone(case)
    spine = spine_of(case, path)
    if spine is not None:
        found = Walks(case, spine, clock, least(case, clock, spine.kernels)).solve(clock.left - _walking(clock.left))
        if found.exhausted:
            return FixedResult("INFEASIBLE", None, found.bound, None, "every walk of the backbone refuted")
        best, plan = found.cost, found.plan
        if found.bound > bound or not bound:
            bound, proved_by = found.bound, "walks by cost, merged capacities and CP-SAT"
        if best is not None and best <= bound:
            return FixedResult("OPTIMAL", best, best, plan, proved_by)
    started = plan if plan is not None else first(case, clock)
    if started is not None:
        plan = improve(case, started, clock, PARTS_SHARE * clock.settings.limit, bound)
        best = cost_of(case, plan)
        if best <= bound:
            return FixedResult("OPTIMAL", best, best, plan, proved_by or "no cost is below 0")
    name = "CP-SAT, tree of slots" if slot_tree(case) is not None else "CP-SAT, graph of slots"
    status, own, better = build(case).solve(clock, EVERYTHING_SHARE * clock.left, floor=bound, below=best, hint=plan)
    if better is not None:
        best, plan = cost_of(case, better), better
    if status == "INFEASIBLE":
        if plan is None:
            return FixedResult("INFEASIBLE", None, bound, None, name)
        return FixedResult("OPTIMAL", best, best if best is not None else bound, plan, name)
    if own > bound:
        bound, proved_by = own, name
    if plan is None or best is None:
        return FixedResult("UNKNOWN", None, bound, None, proved_by or name)
    if status == "OPTIMAL" or best <= bound:
        return FixedResult("OPTIMAL", best, best, plan, name if status == "OPTIMAL" else proved_by)
    return FixedResult("FEASIBLE", best, min(bound, best), plan, proved_by or name)
