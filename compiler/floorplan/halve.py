"""Placing at a given T by halving the line: kernels left or right, then each half alike, single devices exactly.

Needs a JointCase and its ladder; guarantees that what it returns was placed with transit charged on every boundary
(check.py judges it again), though slots may be over their capacity, and boundaries where nothing else was found; a
failure is no proof. Halves are merged slots with a little slack kept back, so that what is left of it is there to use
further down; a part that fails asks its parent for a roomier share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from compiler.floorplan.budget import Clock
from compiler.floorplan.ladder import Ladder
from compiler.floorplan.line_model import LineModel
from compiler.floorplan.prices import decide, least_load
from compiler.floorplan.problem import JointCase
from compiler.floorplan.relaxed import sides

LEAF_SLOTS = 3
FREE = 8  # of so many kernels that a linear program places whole, one may still move
MANY = 60  # kernels from which a linear program is asked first
TRIES = ((0.5, 0.5), (0.3, 0.8), (0.0, 1.0))  # share of the slack kept back, of the boundary's limit used, in a split


@dataclass(frozen=True, slots=True)
class Effort:
    """Deterministic seconds of one split and of one leaf."""

    split: float = 2.5
    rounding: float = 0.6
    leaf: float = 0.8


class Halving:
    """Places all kernels at the ladder's T."""

    def __init__(
        self,
        case: JointCase,
        options: Ladder,
        clock: Clock,
        effort: Effort,
        guess: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.case, self.options, self.clock, self.effort = case, options, clock, effort
        self.guess = guess  # a placement at a larger T: where each split starts from
        self.loose = False  # splits may overload a half or the boundary: the repair moves what is over

    def place(self) -> tuple[tuple[int, int], ...] | None:
        """(slot, version) a kernel, or None where no placement was found."""
        everything = list(self.case.nodes)
        found = self._range(everything, 0, len(self.case.slot_ids), {})
        if found is None and self.guess is None:
            self.loose = True
            found = self._range(everything, 0, len(self.case.slot_ids), {})
        return None if found is None else tuple(found[v] for v in self.case.nodes)

    def slack(self, kernels: Sequence[int], first: int, last: int) -> float | None:
        """Share of the merged capacity of slots [first, last) that the kernels can leave free; None: none fits."""
        if not kernels:
            return 1.0
        bounds = np.array(
            [float(sum(self.case.capacity[s][r] for s in range(first, last))) for r in range(len(self.case.resources))]
        )
        amounts = self.options.amounts[list(kernels)]
        self.clock.charge(1e-4 * len(kernels))
        if decide(amounts, bounds, rounds=100) is False:
            return None
        return max(0.0, 1.0 - least_load(amounts, bounds))

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
        if room is None and not self.loose:
            return None
        middle = self._middle(first, last)
        for side in self._splits(kernels, first, middle, last, fixed, room or 0.0):
            left = [v for v in kernels if side[v] == 0]
            right = [v for v in kernels if side[v] == 1]
            one = self._range(left, first, middle, fixed | dict.fromkeys(right, middle))
            if one is None:
                continue
            two = self._range(right, middle, last, fixed | {v: s for v, (s, _) in one.items()})
            if two is not None:
                return one | two
        return None

    def _splits(
        self, kernels: list[int], first: int, middle: int, last: int, fixed: dict[int, int], room: float
    ) -> Iterator[dict[int, int]]:
        """kernel -> 0 (left) or 1 (right), the first to be tried first."""
        parts = [(first, middle), (middle, last)]
        for keep, load in TRIES:
            if len(kernels) >= MANY:
                self.clock.charge(1e-4 * len(kernels))
                share = sides(self.case, self.options, kernels, parts, room * keep)
                found = None if share is None else self._rounded(share, kernels, parts, fixed, load)
                if found is not None:
                    yield found
        for attempt, (keep, load) in enumerate(TRIES[-1:] if self.loose else TRIES):
            model = LineModel(self.case, self.options, kernels, parts, fixed, slack=room * keep, load=load)
            model.hint(self._in_order(kernels, first, middle, last))
            seed = self.clock.settings.seed + attempt
            _, placed = model.solve(
                self.clock, self.effort.split, least_cut=False, linearization_level=2, random_seed=seed
            )
            if placed is not None:
                yield {v: g for v, (g, _) in placed.items()}
        if self.loose:
            model = LineModel(self.case, self.options, kernels, parts, fixed, overflow=True, crowding=True)
            model.hint(self._in_order(kernels, first, middle, last))
            _, placed = model.solve(self.clock, self.effort.split, least_cut=False, linearization_level=2)
            if placed is not None:
                yield {v: g for v, (g, _) in placed.items()}

    def _rounded(
        self,
        share: dict[int, float],
        kernels: list[int],
        parts: list[tuple[int, int]],
        fixed: dict[int, int],
        load: float,
    ) -> dict[int, int] | None:
        """Whole kernels from shares: the split ones and every few others are free to choose again."""
        whole = {v: round(x) for v, x in share.items() if min(x, 1 - x) < 1e-6}
        stay = {v: g for i, (v, g) in enumerate(sorted(whole.items())) if i % FREE}
        slots = [frozenset(range(first, last)) for first, last in parts]
        both = slots[0] | slots[1]
        offered = {v: slots[stay[v]] if v in stay else both for v in kernels}
        model = LineModel(self.case, self.options, kernels, parts, fixed, slots_of=offered, load=load)
        _, placed = model.solve(self.clock, self.effort.rounding, least_cut=False, linearization_level=2)
        return None if placed is None else {v: g for v, (g, _) in placed.items()}

    def _leaf(
        self, kernels: list[int], first: int, last: int, fixed: dict[int, int]
    ) -> dict[int, tuple[int, int]] | None:
        groups = [(s, s + 1) for s in range(first, last)]
        tries = [(False, False), (True, False)] + [(True, True)] * self.loose  # what does not fit is left to the repair
        for overflow, crowding in tries:
            model = LineModel(self.case, self.options, kernels, groups, fixed, overflow=overflow, crowding=crowding)
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
        """Where kernels may go: as in the guess, or in order of id, as many to the left as its share of the slots."""
        if self.guess is not None:
            return {v: int(self.guess[v][0] >= middle) for v in kernels}
        weight = np.where(np.isinf(self.options.amounts), 0, self.options.amounts)[kernels].min(axis=1)
        scale = np.array(
            [max(1, sum(self.case.capacity[s][r] for s in range(first, last))) for r in range(weight.shape[1])]
        )
        load = np.cumsum((weight / scale).max(axis=1) + 1e-9)
        share = load / load[-1] * (last - first)
        return {v: int(share[i] > middle - first) for i, v in enumerate(kernels)}
