"""The second objective: fewer bits across boundaries at an interval that stays.

Needs a JointCase, its ladder at the plan's interval and a plan that keeps every limit; each round frees the kernels of
two or three neighbouring slots and places them again for the least bits across all boundaries. Guarantees a plan that
keeps every limit and crosses with no more bits than it came with. Deterministic for a seed.
"""

from __future__ import annotations

from compiler.floorplan.budget import Clock
from compiler.floorplan.check import crossing_bits
from compiler.floorplan.ladder import Ladder
from compiler.floorplan.line_model import LineModel
from compiler.floorplan.problem import JointCase
from compiler.floorplan.repair import MOST_KERNELS
from compiler.floorplan.versions import Placement

FLAT_MOST = 2000  # kernels x slots up to which all slots are freed at once, to begin with
FLAT_SHARE = 0.4  # of the seconds


def polish(case: JointCase, options: Ladder, plan: Placement, clock: Clock, seconds: float) -> Placement:
    """A plan of the same interval with fewer bits across; `seconds` deterministic ones may be spent."""
    end = clock.left - seconds
    cost = crossing_bits(case, plan)
    if len(case.versions) * len(case.slot_ids) <= FLAT_MOST:
        plan, cost, proved = _round(case, options, plan, cost, set(case.slots), clock, seconds * FLAT_SHARE)
        if proved:
            return plan
    width = min(2, len(case.slots))
    stale = 0
    while cost and clock.left > end and width <= 3:
        tried = False
        for first in range(len(case.slots) - width + 1):
            chosen = set(range(first, first + width))
            members = sum(s in chosen for s, _ in plan)
            if clock.left <= end or members > width * MOST_KERNELS or members == 0:
                continue
            tried = True
            before = cost
            plan, cost, _ = _round(case, options, plan, cost, chosen, clock, min(1.5, clock.left - end))
            stale = stale + 1 if cost == before else 0
        if stale >= len(case.slots) - width + 1 or not tried:  # too many kernels everywhere
            width, stale = width + 1, 0
            if width > len(case.slots):
                break
    return plan


def _round(
    case: JointCase, options: Ladder, plan: Placement, cost: int, chosen: set[int], clock: Clock, seconds: float
) -> tuple[Placement, int, bool]:
    """The plan, its bits across, and whether no other placement of these kernels has fewer (in whole kilobits)."""
    kernels = [v for v, (s, _) in enumerate(plan) if s in chosen]
    stay = {v: s for v, (s, _) in enumerate(plan) if s not in chosen}
    line = [(s, s + 1) for s in case.slots]
    model = LineModel(case, options, kernels, line, stay, slots_of=dict.fromkeys(kernels, frozenset(chosen)))
    model.hint_plan(plan)
    status, found = model.solve(clock, seconds, least_cut=True)
    if found is None:
        return plan, cost, False
    moved = tuple(found.get(v, plan[v]) for v in case.nodes)
    new = crossing_bits(case, moved)
    return (moved, new, status == "OPTIMAL") if new < cost else (plan, cost, status == "OPTIMAL")
