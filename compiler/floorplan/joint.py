"""Fold and place: the least interval T, between the bound of merged slots and a first plan, by swaps and probes of T.

Needs a JointCase; guarantees a placement whose every boundary is charged at the T it really has, and a bound that is
proved by the merged die or by a flat model that is infeasible. A probe that finds nothing proves nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from compiler.floorplan.budget import Clock
from compiler.floorplan.check import check, crossing_bits
from compiler.floorplan.grains import grained_bound
from compiler.floorplan.halve import Effort, Halving
from compiler.floorplan.ladder import Ladder, Ladders, merged_bound
from compiler.floorplan.line_model import LineModel
from compiler.floorplan.polish import polish
from compiler.floorplan.problem import Answer, JointCase
from compiler.floorplan.repair import repair
from compiler.floorplan.swaps import Swaps
from compiler.floorplan.versions import Placement, quicker, slower

FLAT_MOST = 1000  # kernels x slots up to which the flat model is worth while
FLAT_SECONDS = 6.0
PROBES = (0.1, 0.045)  # shares above the bound of a large problem's plans from scratch
GOOD_SHARE, GOOD_SPENT = 0.01, 0.4  # within this of the bound, a search that spent this share of its time ends
SMALL_PROBES = (0.25, 0.1, 0.05, 0.02, 0.01, 0.0)  # far above the bound a plan is found at once, near it hardly ever
SWAP_MOST = 100  # kernels up to which swaps bridge any distance to the bound
SWAP_SHARE = 0.1  # above the bound, from which they do of more
SWAP_SECONDS = 0.6  # of one interval
SWAP_TRIES = 4  # seeds at an interval where the best plan does not come down at once
SMALL = 200  # kernels up to which a probe is quick
ROUNDS, FEW_ROUNDS = 200, 60
# Deterministic seconds for the second objective: at most, of them by kernel, and the share of the limit.
POLISH_SECONDS, POLISH_LEAST, POLISH_KERNEL, POLISH_SHARE = 6.0, 1.2, 0.015, 0.12


@dataclass(slots=True)
class Search:
    """State of one case: index of the proved bound in `values`, the best placement and its interval."""

    ladders: Ladders
    clock: Clock
    values: list[int]
    low: int
    merged: int
    best: int | None = None
    plan: Placement | None = None
    proved_by: str = "merged die (prices, CP-SAT)"
    swaps: int = 0  # searches so far, each with a seed of its own
    refuted: bool = False  # no interval at all: proved

    @property
    def case(self) -> JointCase:
        return self.ladders.case

    def run(self) -> None:
        """Few kernels: swaps, then the flat model from the bound upward; then plans from scratch nearer and nearer to
        the bound, and from the best one downward. The last share of the time is for crossings."""
        wanted = POLISH_LEAST + POLISH_KERNEL * len(self.case.versions)
        last = min(POLISH_SECONDS, wanted, POLISH_SHARE * self.clock.left)
        self.clock.left -= last
        if len(self.case.versions) <= SWAP_MOST:
            self._any_plan(SMALL_PROBES[0])
            self._swap_down()
        if self._open and len(self.case.versions) * len(self.case.slot_ids) <= FLAT_MOST:
            self._flat_upward()
        if self._open:
            self._nearer() if self._few else self._near()
        if self._open:
            self._descend()
        self.clock.left += last
        self._polish(last)

    @property
    def _few(self) -> bool:
        return len(self.case.versions) <= SMALL

    @property
    def _open(self) -> bool:
        """Whether the bound is not met yet."""
        return not self.refuted and (self.best is None or self.best > self.values[self.low])

    def _any_plan(self, share: float) -> None:
        """A first plan, this share above the bound or further."""
        while self.best is None and self.clock.left > 0:
            index = self._index(share)
            if not self._place(index) and index == len(self.values) - 1:
                break
            share = share * 2 + 0.01

    def _swap_down(self) -> None:
        """Swaps at the bound itself, and where they fail between it and the best plan."""
        index: int | None = self.low if self.best is not None and self._open else None
        failed = self.low - 1
        while index is not None and self.clock.left > 0:
            if not self._swap(index):
                failed = index
            index = self._between(failed)

    def _nearer(self) -> None:
        """Of few kernels: from far above the bound downward, each at once or not at all, and swaps down from each."""
        for share in SMALL_PROBES:
            index = self._index(share)
            if self.best is None or self.values[index] < self.best:
                if not self._place(index):
                    break
                if share <= SWAP_SHARE and len(self.case.versions) > SWAP_MOST:
                    self._swap_down()
        self._any_plan(2 * SMALL_PROBES[0])

    def _near(self) -> None:
        """Of many kernels: from near the bound upward until one is found, then nearer still."""
        self._any_plan(PROBES[0])
        for share in PROBES[1:]:
            index = self._index(share)
            if self.best is not None and self.values[index] < self.best and not self._good():
                self._place(index)

    def _between(self, failed: int) -> int | None:
        """The index of an interval halfway from one that failed to the best plan; None where there is none."""
        assert self.best is not None
        top = bisect_left(self.values, self.best)
        aim = bisect_left(self.values, (self.values[max(failed, self.low)] + self.best) // 2)
        middle = min(top - 1, max(failed + 1, aim))
        return middle if failed < middle and self.low <= middle else None

    def _swap(self, index: int) -> bool:
        """The best plan at a smaller interval: what is over in quicker versions is moved and swapped away."""
        assert self.plan is not None
        options = self.ladders.at(self.values[index])
        begin = quicker(self.case, options, self.plan)
        self.swaps += 1
        plan = Swaps(self.case, options, begin, self.clock.settings.seed + self.swaps).run(self.clock, SWAP_SECONDS)
        return plan is not None and self._take(plan, self.values[index])

    def _polish(self, seconds: float) -> None:
        """Fewer bits across at the interval that was found."""
        if self.plan is None or self.best is None or self.clock.left <= 0:
            return
        options = self.ladders.at(self.best)
        better = polish(self.case, options, self.plan, self.clock, min(seconds, self.clock.left))
        if crossing_bits(self.case, better) < crossing_bits(self.case, self.plan):
            self._take(better, self.best)

    def _flat_upward(self) -> None:
        seconds = min(FLAT_SECONDS, self.clock.settings.limit / 4)
        while self.low < len(self.values) and self.clock.left > 0:
            status, plan = self._flat(self.ladders.at(self.values[self.low]), seconds)
            if plan is not None and self._take(plan, self.values[self.low]):
                return
            if status != "INFEASIBLE":
                return
            self.low += 1
            self.proved_by = "flat CP-SAT model, infeasible below the bound"
            if self.low >= len(self.values):
                self.refuted = True
                self.low = len(self.values) - 1
                return

    def _flat(self, options: Ladder, seconds: float) -> tuple[str, Placement | None]:
        model = LineModel(self.case, options, list(self.case.nodes), [(s, s + 1) for s in self.case.slots], {})
        status, found = model.solve(self.clock, seconds, least_cut=False, linearization_level=2)
        return status, None if found is None else tuple(found[v] for v in self.case.nodes)

    def _descend(self) -> None:
        """From the best plan towards the bound: halfway, and half of that where it fails."""
        failed = self.low - 1
        while self.best is not None and self.clock.left > 0 and self.best > self.values[self.low] and not self._good():
            middle = self._between(failed)
            if middle is None:
                break
            found = self._few and any(self._swap(middle) for _ in range(SWAP_TRIES))
            if not (found or self._tighten(middle) or (self._few and self._place(middle))):
                failed = middle

    def _tighten(self, index: int) -> bool:
        """The best plan at a smaller interval: kernels that are too slow take what overloads their slot least, and what
        is over then is repaired."""
        assert self.plan is not None
        options = self.ladders.at(self.values[index])
        plan = repair(self.case, options, quicker(self.case, options, self.plan), self.clock, ROUNDS, 0.6)
        return plan is not None and self._take(plan, self.values[index])

    def _good(self) -> bool:
        """A larger problem near its bound, late: what is left would buy little."""
        near = self.best is not None and self.best <= self.values[self.low] * (1 + GOOD_SHARE)
        return (
            near and len(self.case.versions) > SWAP_MOST and self.clock.spent > GOOD_SPENT * self.clock.settings.limit
        )

    def _index(self, share: float) -> int:
        """The position of the largest T not more than `share` above the bound."""
        limit = self.values[self.low] * (1 + share)
        return max(self.low, min(len(self.values) - 1, bisect_left(self.values, int(limit) + 1) - 1))

    def _place(self, index: int) -> bool:
        options = self.ladders.at(self.values[index])
        plan = Halving(self.case, options, self.clock, Effort(), self.plan).place()
        if plan is not None:
            rounds = FEW_ROUNDS if self._few else ROUNDS
            plan = repair(self.case, options, plan, self.clock, rounds, 0.6)
        if plan is None and len(self.case.versions) * len(self.case.slot_ids) <= FLAT_MOST:
            _, plan = self._flat(options, FLAT_SECONDS)
        return plan is not None and self._take(plan, self.values[index])

    def _take(self, plan: Placement, interval: int) -> bool:
        """Keeps a plan for the interval it really has: its slowest version, with wires and bits charged at that."""
        for candidate in (plan, slower(self.case, plan, interval)):
            if candidate is None:
                continue
            real = max(self.case.cycles[v][k] for v, (_, k) in enumerate(candidate))
            if not check(self.case, Answer("", "FEASIBLE", real, None, candidate, "", ())):
                if self.best is None or (real, crossing_bits(self.case, candidate)) < (self.best, self._across()):
                    self.best, self.plan = real, candidate
                return True
        return False

    def _across(self) -> int:
        return 0 if self.plan is None else crossing_bits(self.case, self.plan)


def start(case: JointCase, clock: Clock) -> Search | None:
    """The search with its merged-die bound; None where no interval passes the merged die: infeasible, proved."""
    ladders = Ladders(case)
    values = ladders.intervals()
    if not values:
        return None
    bound = merged_bound(ladders, values, clock)
    if bound is None:
        return None
    ladders, low = grained_bound(ladders, values, values.index(bound), clock)
    if low is None:
        return None
    return Search(ladders, clock, values, low, values[low])
