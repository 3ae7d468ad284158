"""Rows that merged slots keep because a slot holds whole kernels: a slot of 2,406 DSPs holds one of 1,300, not 1.85.

Needs a JointCase. Each row is a type of resource made of another by a dual feasible function (Fekete and Schepers,
2001): steps, floor(m·a / (c + 1)) of an amount a, which no slot of capacity c holds more than m - 1 of; or halves,
where amounts above c - e count as the whole slot and those below e as nothing. A slot that keeps the type it is made of
keeps the row, so adding it changes no placement; of merged slots it says more than the sum of their capacities.
Guarantees that a plan or a proof of the case with these rows is one of the case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.floorplan.budget import Clock
from compiler.floorplan.ladder import Ladder, Ladders, merged_bound
from compiler.floorplan.problem import JointCase

MOST_STEPS = 20
CUTS = 50  # thresholds of the second kind that are tried, up to half of a slot
MOST_SIZES = 3  # capacities of one type that rows are made for, the largest first
ROUNDS = 6
ROUND_SECONDS = 1e-4  # deterministic price of one round, by kernel
LEAST_LIFT = 1.001  # of the merged die's load: less is not worth the rows
NEARLY_FULL = 0.97  # load from which rows may raise the bound
MOST_ROWS = 8
TINY = 1e-6
BOUNDLESS = 1 << 40


@dataclass(frozen=True, slots=True)
class Grain:
    """A row made of resource type `source`, for slots of `size`: in steps if `steps`, else by the threshold `least`."""

    source: int
    size: int
    steps: int = 0
    least: int = 0

    def amount(self, a: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the row, by amount of the type it is made of."""
        if self.steps:
            return self.steps * a // (self.size + 1)
        return np.where(a > self.size - self.least, self.size, np.where(a < self.least, 0, a))

    def held(self, capacity: int) -> int:
        """What a slot holds of it at most."""
        if self.steps:
            return self.steps * capacity // (self.size + 1)
        return self.size if capacity <= self.size else BOUNDLESS


def with_grains(case: JointCase, grains: tuple[Grain, ...]) -> JointCase:
    """The case with these rows as further types of resource."""
    if not grains:
        return case
    names = (f"{case.resources[g.source]} in {g.steps or 'halves'}" for g in grains)

    def more(amounts: tuple[int, ...]) -> tuple[int, ...]:
        return (*amounts, *(int(g.amount(np.array(amounts[g.source]))) for g in grains))

    return replace(
        case,
        resources=(*case.resources, *names),
        versions=tuple(tuple(more(a) for a in own) for own in case.versions),
        capacity=tuple((*c, *(g.held(c[g.source]) for g in grains)) for c in case.capacity),
    )


def _offered(case: JointCase) -> Iterator[Grain]:
    for r in range(len(case.resources)):
        for size in sorted({c[r] for c in case.capacity if c[r] > 0}, reverse=True)[:MOST_SIZES]:
            yield from (Grain(r, size, steps=m) for m in range(2, MOST_STEPS + 1))
            yield from (Grain(r, size, least=e) for e in sorted({size * i // CUTS for i in range(1, CUTS // 2 + 1)}))


def grains_at(case: JointCase, options: Ladder, clock: Clock) -> tuple[tuple[Grain, ...], float, float]:
    """The rows that weigh most on the merged die at the ladder's T, and the load of its fullest row, of fractional
    choices, without them and with them."""
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    fullest = solver.NumVar(0, solver.infinity(), "")
    share = [[solver.NumVar(0, 1, "") for _ in own] for own in options.versions]
    for choice in share:
        one = solver.Constraint(1, 1)
        for x in choice:
            one.SetCoefficient(x, 1)
    most = options.amounts.shape[1]

    def add(load: NDArray[np.float64]) -> Any:
        row = solver.Constraint(-solver.infinity(), 0)
        row.SetCoefficient(fullest, -1)
        for v, choice in enumerate(share):
            for i, x in enumerate(choice):
                row.SetCoefficient(x, float(load[v, i]))
        return row

    for r in range(len(case.resources)):
        total = sum(c[r] for c in case.capacity)
        add(np.where(np.isinf(options.amounts[:, :, r]), 0, options.amounts[:, :, r]) / max(1, total))
    goal = solver.Objective()
    goal.SetCoefficient(fullest, 1)
    goal.SetMinimization()
    loads = {g: load for g in _offered(case) if (load := _load(case, options, g)) is not None}
    rows: dict[Grain, Any] = {}
    before = 0.0
    for turn in range(ROUNDS + 1):
        clock.charge(ROUND_SECONDS * len(share))
        if solver.Solve() != pywraplp.Solver.OPTIMAL:
            return (), 1.0, 1.0
        now = fullest.solution_value()
        before = now if turn == 0 else before
        x = np.zeros((len(share), most))
        for v, choice in enumerate(share):
            x[v, : len(choice)] = [literal.solution_value() for literal in choice]
        best: dict[int, tuple[float, Grain]] = {}
        for g, load in loads.items():
            amount = float((load * x).sum())
            if g not in rows and amount > max(now + TINY, best.get(g.source, (0.0, g))[0]):
                best[g.source] = (amount, g)
        if not best or turn == ROUNDS:
            break
        for _, g in best.values():
            rows[g] = add(loads[g])
    heavy = tuple(g for g, row in rows.items() if row.dual_value() < -TINY)
    return heavy, before, fullest.solution_value()


def _load(case: JointCase, options: Ladder, g: Grain) -> NDArray[np.float64] | None:
    """Each option's share of what all slots hold of the row; None where the row says nothing."""
    total = sum(g.held(c[g.source]) for c in case.capacity)
    if not 0 < total < BOUNDLESS:
        return None
    amounts = options.amounts[:, :, g.source]
    return np.where(np.isinf(amounts), 0, g.amount(np.where(np.isinf(amounts), 0, amounts).astype(np.int64))) / total


def grained_bound(ladders: Ladders, values: Sequence[int], low: int, clock: Clock) -> tuple[Ladders, int | None]:
    """The ladders of the case with rows that raise the bound, and the index of the raised one, None if no interval
    keeps them all: `values[low]` is where the merged die without them stands."""
    case = ladders.case
    grains, without, load = grains_at(case, ladders.at(values[low]), clock)
    if load < NEARLY_FULL or load < without * LEAST_LIFT:
        return ladders, low
    grown = Ladders(with_grains(case, grains))
    while True:
        bound = merged_bound(grown, list(values[low:]), clock)
        if bound is None:
            return grown, None
        low = values.index(bound)
        more, *_ = grains_at(case, ladders.at(bound), clock)
        fresh = tuple(g for g in more if g not in grains)
        if not fresh or len(grains) + len(fresh) > MOST_ROWS:
            return grown, low
        grains += fresh
        grown = Ladders(with_grains(case, grains))
