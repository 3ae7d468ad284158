"""Placing at a given T by halving the line: kernels left or right, then each half alike, single devices exactly.

Needs a JointCase and its ladder; guarantees that what it returns was placed with transit charged on every boundary
(check.py judges it again), though slots may be over their capacity; a failure is no proof. Halves are merged slots with
a little slack kept back, so that what is left of it is there to use further down; a part that fails asks its parent for
a roomier share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.floorplan.budget import Clock
from compiler.floorplan.ladder import Ladder
from compiler.floorplan.line_model import LineModel
from compiler.floorplan.prices import decide
from compiler.floorplan.problem import JointCase

LEAF_SLOTS = 3
TRIES = ((0.75, 0.4), (0.5, 0.7), (0.25, 1.0))  # share of the slack kept back, of the boundary's limit used, in a split


@dataclass(frozen=True, slots=True)
class Effort:
    """Deterministic seconds of one split and of one leaf."""

    split: float = 3.0
    leaf: float = 2.0


class Halving:
    """Places all kernels at the ladder's T."""

    def __init__(self, case: JointCase, options: Ladder, clock: Clock, effort: Effort) -> None:
        self.case, self.options, self.clock, self.effort = case, options, clock, effort

    def place(self) -> tuple[tuple[int, int], ...] | None:
        """(slot, version) a kernel, or None where no placement was found."""
        found = self._range(list(self.case.nodes), 0, len(self.case.slot_ids), {})
        return None if found is None else tuple(found[v] for v in self.case.nodes)

    def slack(self, kernels: Sequence[int], first: int, last: int) -> float | None:
        """Share of the merged capacity of slots [first, last) that the kernels can leave free; None: none fits."""
        bounds = np.array(
            [float(sum(self.case.capacity[s][r] for s in range(first, last))) for r in range(len(self.case.resources))]
        )
        amounts = self.options.amounts[list(kernels)]
        self.clock.charge(1e-4 * len(kernels))
        if decide(amounts, bounds, rounds=100) is False:
            return None
        low, high = 0.0, 1.0
        for _ in range(9):
            middle = (low + high) / 2
            if decide(amounts, bounds * (1 - middle), rounds=60):
                low = middle
            else:
                high = middle
        return low

    def _range(
        self, kernels: list[int], first: int, last: int, fixed: dict[int, int]
    ) -> dict[int, tuple[int, int]] | None:
        if not kernels:
            return {}
        if self.clock.left <= 0:
            return None
        if last - first <= LEAF_SLOTS:
            return self._leaf(kernels, first, last, fixed)
        room = self.slack(kernels, first, last)
        if room is None:
            return None
        middle = self._middle(first, last)
        for attempt, (keep, load) in enumerate(TRIES):
            groups = [(first, middle), (middle, last)]
            model = LineModel(self.case, self.options, kernels, groups, fixed, slack=room * keep, load=load)
            model.hint(self._in_order(kernels, first, middle, last))
            _, sides = model.solve(
                self.clock,
                self.effort.split,
                least_cut=False,
                linearization_level=2,
                random_seed=self.clock.settings.seed + attempt,
            )
            if sides is None:
                continue
            left = [v for v in kernels if sides[v][0] == 0]
            right = [v for v in kernels if sides[v][0] == 1]
            one = self._range(left, first, middle, fixed | dict.fromkeys(right, middle))
            if one is None:
                continue
            two = self._range(right, middle, last, fixed | {v: s for v, (s, _) in one.items()})
            if two is not None:
                return one | two
        return None

    def _leaf(
        self, kernels: list[int], first: int, last: int, fixed: dict[int, int]
    ) -> dict[int, tuple[int, int]] | None:
        groups = [(s, s + 1) for s in range(first, last)]
        for overflow in (False, True):  # what does not fit is left to the repair
            model = LineModel(self.case, self.options, kernels, groups, fixed, overflow=overflow)
            _, found = model.solve(self.clock, self.effort.leaf, least_cut=False, linearization_level=2)
            if found is not None:
                return {v: (first + g, k) for v, (g, k) in found.items()}
        return None

    def _middle(self, first: int, last: int) -> int:
        """The boundary to split at: between devices where there is one, nearest to the middle."""
        devices = self.case.devices
        between = [s for s in range(first + 1, last) if devices[s] != devices[s - 1]]
        return min(between or range(first + 1, last), key=lambda s: (abs(2 * s - first - last), s))

    def _in_order(self, kernels: list[int], first: int, middle: int, last: int) -> dict[int, int]:
        """A guess: kernels in order of id, as many to the left as its share of the slots."""
        weight = np.where(np.isinf(self.options.amounts), 0, self.options.amounts)[kernels].min(axis=1)
        scale = np.array(
            [max(1, sum(self.case.capacity[s][r] for s in range(first, last))) for r in range(weight.shape[1])]
        )
        load = np.cumsum((weight / scale).max(axis=1) + 1e-9)
        share = load / load[-1] * (last - first)
        return {v: int(share[i] > middle - first) for i, v in enumerate(kernels)}
