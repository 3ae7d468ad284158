"""The linear programme of the edge marginals, by GLOP: the best bound that moving costs between nodes and edges proves.

Needs a Pairwise; guarantees a certificate: the duals, rounded to whole parts of FINE, are what is moved, so the bound
is exact whatever the solver's tolerances are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.partition.pairwise.ascent import FINE, Certificate
from compiler.partition.pairwise.problem import FORBIDDEN, Pairwise


def relaxed(problem: Pairwise, seconds: float) -> Certificate | None:
    """None where GLOP does not end within these deterministic seconds."""
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    solver.SetSolverSpecificParametersAsString(f"max_deterministic_time: {seconds}")
    infinity, objective = solver.infinity(), solver.Objective()
    objective.SetMinimization()
    picks: list[list[Any]] = []
    for own in problem.costs:
        one = solver.Constraint(1, 1)
        picks.append([])
        for cost in own.tolist():
            x = solver.NumVar(0, 0 if cost >= FORBIDDEN else infinity, "")
            one.SetCoefficient(x, 1)
            objective.SetCoefficient(x, cost if cost < FORBIDDEN else 0)
            picks[-1].append(x)
    rows: list[tuple[list[Any], list[Any]]] = []
    for e in problem.edges:
        ends = ([solver.Constraint(0, 0) for _ in picks[e.a]], [solver.Constraint(0, 0) for _ in picks[e.b]])
        for v, marginals in zip((e.a, e.b), ends, strict=True):
            for row, x in zip(marginals, picks[v], strict=True):
                row.SetCoefficient(x, -1)
        for row, costs in zip(ends[0], e.cost.tolist(), strict=True):
            for column, cost in zip(ends[1], costs, strict=True):
                if cost < FORBIDDEN:
                    y = solver.NumVar(0, infinity, "")
                    objective.SetCoefficient(y, cost)
                    row.SetCoefficient(y, 1)
                    column.SetCoefficient(y, 1)
        rows.append(ends)
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return None
    c = Certificate.of(problem)
    for k, (e, ends) in enumerate(zip(problem.edges, rows, strict=True)):
        a, b = (np.array([round(r.dual_value() * FINE) for r in side], np.int64) for side in ends)
        c.own[e.a] = c.own[e.a] + a
        c.own[e.b] = c.own[e.b] + b
        c.pair[k] = c.pair[k] - a[:, None] - b[None, :]
    return c
