"""Splitting many kernels left and right of a boundary by a linear program and rounding.

Needs a JointCase, its ladder and a stretch of the line cut in two; of hundreds of kernels all but a few (no more than
there are rows) come out whole of a basic solution, so rounding moves the loads by little. The objective sends early
kernels left and late ones right, which keeps few edges across. Guarantees nothing: the caller checks the halves.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.floorplan.ladder import Ladder
from compiler.floorplan.problem import JointCase


def sides(
    case: JointCase, options: Ladder, kernels: Sequence[int], parts: Sequence[tuple[int, int]], slack: float
) -> dict[int, float] | None:
    """kernel -> share of it on the right, each half's merged capacity less `slack` kept; None: it cannot be."""
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    pick: dict[tuple[int, int, int], pywraplp.Variable] = {}
    goal = solver.Objective()
    for i, v in enumerate(kernels):
        one = solver.Constraint(1, 1)
        for g, (first, last) in enumerate(parts):
            if not any(s in case.allowed[v] for s in range(first, last)):
                continue
            for k in range(len(options.versions[v])):
                x = solver.NumVar(0, 1, "")
                pick[v, g, k] = x
                one.SetCoefficient(x, 1)
                goal.SetCoefficient(x, i if g == 0 else len(kernels) - i)
    for g, (first, last) in enumerate(parts):
        for r in range(len(case.resources)):
            row = solver.Constraint(0, sum(case.capacity[s][r] for s in range(first, last)) * (1 - slack))
            for v in kernels:
                for k, version in enumerate(options.versions[v]):
                    if (v, g, k) in pick:
                        row.SetCoefficient(pick[v, g, k], case.versions[v][version][r])
    goal.SetMinimization()
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return None
    share = dict.fromkeys(kernels, 0.0)
    for (v, g, _), x in pick.items():
        share[v] += x.solution_value() if g else 0.0
    return share
