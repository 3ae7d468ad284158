"""Does a run of kernels fit a set of merged slots, versions free? Exact, memoised; prices first, CP-SAT for the rest.

Needs a FixedCase; merging slots only relaxes (budgets added, the largest capacity for averages), and is exact for one
slot. Prices refute with a weighted sum of rows that no choice of versions meets, and accept with a choice that meets
every row; what neither decides goes to a CP-SAT of version booleans. An undecided run (limit reached) counts as fitting
in a bound and as not fitting in a plan, so both stay sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from compiler.floorplan.budget import Clock
from compiler.floorplan.prices import decide
from compiler.floorplan.problem import FixedCase
from compiler.partition.constraints.rows import Row, average, resources

DECISION_SECONDS = 3e-4  # deterministic price of a decision by prices
SOLVE_SECONDS = 0.006  # and of a model, to write and to simplify


def slot_rows(case: FixedCase, slots: frozenset[int]) -> list[Row]:
    """The rows of these slots as one: what every placement on them meets together."""
    members = sorted(slots)
    where = "+".join(str(case.slot_ids[s]) for s in members)
    budget = [sum(case.budget[s][r] for s in members) for r in range(len(case.resources))]
    rows = resources(case.versions, budget, case.resources, f"slot {where}")
    for a in case.averages:
        capacity = [max(case.capacity[s][r] for s in members) for r in range(len(case.resources))]
        row = average(case.versions, capacity, a.listed, a.limit, case.resources, f"slot {where}")
        rows.append(Row(row.family, row.where, row.unit, row.bound * len(members), row.terms, row.exact))
    return rows


Runs = tuple[tuple[int, int], ...]


class Fit:
    """Answers `fits` and `farthest` for runs groups[i:e] of kernels; deterministic."""

    def __init__(self, case: FixedCase, groups: Sequence[tuple[int, ...]], clock: Clock) -> None:
        self.case, self.clock, self.size = case, clock, len(groups)
        self._flat = [v for group in groups for v in group]
        self._start = [0]
        for group in groups:
            self._start.append(self._start[-1] + len(group))
        self._tables: dict[frozenset[int], tuple[NDArray[np.float64], NDArray[np.float64], list[Row]]] = {}
        self._known: dict[tuple[frozenset[int], Runs], bool] = {}
        self._far: dict[tuple[frozenset[int], int], int] = {}
        self._near: dict[tuple[frozenset[int], int], int] = {}

    def _table(self, slots: frozenset[int]) -> tuple[NDArray[np.float64], NDArray[np.float64], list[Row]]:
        if slots not in self._tables:
            rows = slot_rows(self.case, slots)
            most = max(len(v) for v in self.case.versions)
            amounts = np.full((len(self.case.versions), most, len(rows)), np.inf)
            for r, row in enumerate(rows):
                for (n, k), a in row.terms.items():
                    amounts[n, k, r] = a
            bounds = np.array([float(row.bound) for row in rows])
            self._tables[slots] = (amounts[self._flat], bounds, rows)
        return self._tables[slots]

    def fits(self, slots: frozenset[int], *runs: tuple[int, int]) -> bool:
        """Whether the kernels of these runs fit the merged slots, anchors included; an undecided set counts as so."""
        key = (slots, tuple(r for r in runs if r[0] < r[1]))
        if not key[1]:
            return True
        if key not in self._known:
            self.clock.charge(DECISION_SECONDS)
            self._known[key] = self._decide(slots, key[1])
        return self._known[key]

    def _decide(self, slots: frozenset[int], runs: Runs) -> bool:
        at = [k for i, e in runs for k in range(self._start[i], self._start[e])]
        if any(not (self.case.allowed[self._flat[k]] & slots) for k in at):
            return False
        amounts, bounds, rows = self._table(slots)
        known = decide(amounts[at], bounds)
        return known if known is not None else self._solve(rows, [self._flat[k] for k in at])

    def _solve(self, rows: list[Row], kernels: list[int]) -> bool:
        from ortools.sat.python import cp_model

        self.clock.charge(SOLVE_SECONDS)
        model = cp_model.CpModel()
        pick = {n: [model.new_bool_var("") for _ in self.case.versions[n]] for n in kernels}
        for literals in pick.values():
            model.add_exactly_one(literals)
        for row in rows:
            use = [row.terms[n, k] * x for n, literals in pick.items() for k, x in enumerate(literals)]
            model.add(sum(use) <= row.bound)
        return self.clock.solve(model, 2.0)[0] != "INFEASIBLE"

    def farthest(self, slots: frozenset[int], i: int) -> int:
        """The largest e such that groups[i:e] fit; i where not even one does."""
        key = (slots, i)
        if key not in self._far:
            low = max(i, self._far.get((slots, i - 1), i))  # a later start reaches at least as far
            self._far[key] = _gallop(lambda e: self.fits(slots, (i, e)), low, self.size)
        return self._far[key]

    def nearest(self, slots: frozenset[int], e: int) -> int:
        """The smallest i such that groups[i:e] fit."""
        key = (slots, e)
        if key not in self._near:
            low = e - min(e, self._near.get((slots, e + 1), e))
            self._near[key] = e - _gallop(lambda k: self.fits(slots, (e - k, e)), low, e)
        return self._near[key]

    def farthest_beside(self, slots: frozenset[int], runs: Runs, i: int) -> int:
        """The largest e such that groups[i:e] fit beside `runs`, which fit."""
        return _gallop(lambda e: self.fits(slots, *runs, (i, e)), i, self.size)


def _gallop(holds: Callable[[int], bool], low: int, top: int) -> int:
    """The largest x in low..top that holds, for a monotone predicate that holds at `low`."""
    step, good = 1, low
    while good + step <= top and holds(good + step):
        good += step
        step *= 2
    bad = min(top + 1, good + step)
    while bad - good > 1:
        middle = (good + bad) // 2
        if holds(middle):
            good = middle
        else:
            bad = middle
    return good
