"""One case to one judged answer, whatever its kind; the page to read first.

Needs a Case and Settings; guarantees that an answer with an assignment has passed check.py (a failure is a defect,
FVC253), that `bound` is proved and that the same settings give the same answer with one worker.
"""

from __future__ import annotations

from typing import Any

from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.check import check, crossing_bits
from compiler.floorplan.fixed import solve_fixed
from compiler.floorplan.joint import start
from compiler.floorplan.problem import Answer, Case, FixedCase, JointCase
from device_db.errors import FvcError

SCHEMA = "fvc.floorplan/1"


def solve(case: Case, settings: Settings) -> Answer:
    """The answer of one case, judged."""
    clock = Clock(settings)
    answer = _fixed(case, clock) if isinstance(case, FixedCase) else _joint(case, clock)
    found = check(case, answer)
    if found:
        raise FvcError(
            "FVC253",
            f"the answer to '{case.name}' did not pass the checker",
            where=tuple(str(v) for v in found[:5]),
            help=("this is a defect of fvc; please report the command line and the problem",),
            exit_code=70,
        )
    return answer


def _fixed(case: FixedCase, clock: Clock) -> Answer:
    scope = ("every version of every kernel", "every slot its anchors allow", "one direct connection an edge")
    if not all(case.allowed):
        return Answer(case.name, "INFEASIBLE", None, None, (), "anchors", scope)
    r = solve_fixed(case, clock)
    bound = None if r.status == "INFEASIBLE" else r.bound
    return Answer(case.name, r.status, r.cost, bound, r.plan or (), r.proved_by, scope)


def _joint(case: JointCase, clock: Clock) -> Answer:
    scope = (
        "every version of every kernel",
        "every slot its anchors allow",
        "transit charged on every boundary crossed",
    )
    search = start(case, clock) if all(case.allowed) else None
    if search is None:
        return Answer(case.name, "INFEASIBLE", None, None, (), "merged die", scope)
    search.run()
    bound = search.values[search.low]
    if search.best is None or search.plan is None:
        if search.refuted:
            return Answer(case.name, "INFEASIBLE", None, None, (), search.proved_by, scope)
        return Answer(case.name, "UNKNOWN", None, bound, (), search.proved_by, scope)
    bound = min(bound, search.best)
    details = (
        ("crossing_bits", crossing_bits(case, search.plan)),
        ("bounds", {"fastest_versions": search.values[0], "merged_die": search.merged, "proved": bound}),
    )
    status = "OPTIMAL" if search.best == bound else "FEASIBLE"
    return Answer(case.name, status, search.best, bound, search.plan, search.proved_by, scope, details)


def as_json(case: Case, answer: Answer, settings: Settings) -> dict[str, Any]:
    """The answer as it stands in a file: [slot id, version] by kernel id, costs in the problem's own unit."""
    scale = case.cost_scale if isinstance(case, FixedCase) else 1

    def cost(value: int | None) -> int | float | None:
        return value if value is None or scale == 1 else value // scale if value % scale == 0 else value / scale

    return {
        "name": case.name,
        "kind": "floorplan" if isinstance(case, FixedCase) else "joint",
        "status": answer.status,
        "objective": cost(answer.objective),
        "bound": cost(answer.bound),
        "gap": answer.gap,
        "assignment": [[case.slot_ids[s], k] for s, k in answer.assignment],
        "proved_by": answer.proved_by,
        "proved_scope": list(answer.proved_scope),
        "solver": {
            "time_limit": settings.limit,
            "seed": settings.seed,
            "workers": settings.workers,
            "deterministic": settings.workers == 1,
        },
        **dict(answer.details),
    }
