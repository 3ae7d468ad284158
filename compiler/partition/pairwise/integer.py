"""The integer programme with edge marginals, by CP-SAT: one of each node's strategies, one pair of them on each edge.

Needs a Pairwise, small enough to be written out; guarantees a proven bound, and a choice where one is found in time.
y[s, t] of an edge is 1 where its ends take s and t: sum over t of y = x[s], over s = x[t].
"""

from __future__ import annotations

from typing import Any

from compiler.partition.pairwise.problem import FORBIDDEN, Answer, Pairwise

NAME = "CP-SAT on edge marginals"


def programme(problem: Pairwise, seconds: float, seed: int = 0, workers: int = 1) -> Answer:
    """seconds: deterministic ones."""
    from ortools.sat.python import cp_model

    m = cp_model.CpModel()
    picks = [{s: m.new_bool_var("") for s in range(own.size)} for own in problem.costs]
    terms: list[tuple[int, Any]] = []
    for v, own in enumerate(picks):
        m.add_exactly_one(own.values())
        for s, x in own.items():
            cost = int(problem.costs[v][s])
            if cost >= FORBIDDEN:
                m.add(x == 0)
            elif cost:
                terms.append((cost, x))
    for e in problem.edges:
        rows: dict[int, list[Any]] = {s: [] for s in picks[e.a]}
        columns: dict[int, list[Any]] = {t: [] for t in picks[e.b]}
        for s in picks[e.a]:
            for t in picks[e.b]:
                cost = int(e.cost[s, t])
                if cost >= FORBIDDEN:
                    continue
                y = m.new_bool_var("")
                rows[s].append(y)
                columns[t].append(y)
                if cost:
                    terms.append((cost, y))
        for s, row in rows.items():
            m.add(sum(row) == picks[e.a][s])
        for t, column in columns.items():
            m.add(sum(column) == picks[e.b][t])
    m.minimize(sum(c * x for c, x in terms))
    solver = cp_model.CpSolver()
    q = solver.parameters
    q.random_seed, q.num_workers, q.max_deterministic_time = seed, workers, seconds
    q.linearization_level = 2
    q.catch_sigint_signal = False
    status = solver.solve(m)
    if status == cp_model.INFEASIBLE:
        return Answer((), 0, FORBIDDEN, NAME)
    bound = max(0, round(solver.best_objective_bound)) if terms else 0
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Answer((), 0, bound, NAME)
    chosen = tuple(next(s for s, x in own.items() if solver.value(x)) for own in picks)
    return Answer(chosen, problem.value(chosen), bound, NAME)
