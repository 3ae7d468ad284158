"""Fold and place: the least interval T, by probing T between the merged-die bound and a first plan.

Needs a JointCase; guarantees a placement whose every boundary is charged at the T it really has, and a bound that is
proved by the merged die or by a flat model that is infeasible. A probe that finds nothing proves nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from compiler.floorplan.budget import Clock
from compiler.floorplan.check import check, crossing_bits
from compiler.floorplan.halve import Effort, Halving
from compiler.floorplan.ladder import Ladder, Ladders, merged_bound
from compiler.floorplan.line_model import LineModel
from compiler.floorplan.polish import polish
from compiler.floorplan.problem import Answer, JointCase
from compiler.floorplan.repair import Placement, repair

FLAT_MOST = 1000  # kernels x slots up to which the flat model is worth while
FLAT_SECONDS = 6.0
PROBES = (0.1, 0.045)  # shares above the bound of a large problem's plans from scratch
GOOD_SHARE, GOOD_SPENT = 0.01, 0.4  # within this of the bound, a search that spent this share of its time ends
SMALL_PROBES = (0.25, 0.1, 0.05, 0.02, 0.01, 0.0)  # far above the bound a plan is found at once, near it hardly ever
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
    refuted: bool = False  # no interval at all: proved

    @property
    def case(self) -> JointCase:
        return self.ladders.case

    def run(self) -> None:
        """Flat model from the bound upward for small cases, then probes; the last share of the time for crossings."""
        wanted = POLISH_LEAST + POLISH_KERNEL * len(self.case.versions)
        last = min(POLISH_SECONDS, wanted, POLISH_SHARE * self.clock.left)
        self.clock.left -= last
        if len(self.case.versions) * len(self.case.slot_ids) <= FLAT_MOST:
            self._flat_upward()
        if self.best is None or self.best > self.values[self.low]:
            self._probe()
        self.clock.left += last
        self._polish(last)

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

    def _probe(self) -> None:
        """A plan first: of few kernels from far above the bound downward, each at once or not at all; of many from near
        it upward until one is found. Then as near to the bound as the time allows."""
        if self.refuted:
            return
        small = len(self.case.versions) <= SMALL
        for share in SMALL_PROBES if small else ():
            index = self._index(share)
            if (self.best is None or self.values[index] < self.best) and not self._place(index):
                break
        share = 2 * SMALL_PROBES[0] if small else PROBES[0]
        while self.best is None and self.clock.left > 0:
            index = self._index(share)
            if not self._place(index) and index == len(self.values) - 1:
                break
            share = share * 2 + 0.01
        for share in () if small else PROBES[1:]:
            index = self._index(share)
            if self.best is not None and self.values[index] < self.best and not self._good():
                self._place(index)
        self._descend()

    def _descend(self) -> None:
        """From the best plan towards the bound: halfway, and half of that where it fails."""
        failed = self.low - 1
        while self.best is not None and self.clock.left > 0 and self.best > self.values[self.low] and not self._good():
            top = bisect_left(self.values, self.best)
            aim = bisect_left(self.values, (self.values[max(failed, self.low)] + self.best) // 2)
            middle = min(top - 1, max(failed + 1, aim))
            if middle <= failed:
                break
            if not self._tighten(middle) and not (len(self.case.versions) <= SMALL and self._place(middle)):
                failed = middle

    def _tighten(self, index: int) -> bool:
        """The best plan at a smaller interval: kernels that are too slow take what overloads their slot least, and what
        is over then is repaired."""
        options = self.ladders.at(self.values[index])
        plan = repair(self.case, options, self._quicker(options), self.clock, ROUNDS, 0.6)
        return plan is not None and self._take(plan, self.values[index])

    def _quicker(self, options: Ladder) -> Placement:
        assert self.plan is not None
        use = [[0] * len(self.case.resources) for _ in self.case.slots]
        for v, (s, k) in enumerate(self.plan):
            for r, amount in enumerate(self.case.versions[v][k]):
                use[s][r] += amount
        out = list(self.plan)
        for v, (s, k) in enumerate(self.plan):
            if self.case.cycles[v][k] <= options.interval:
                continue
            old, held = self.case.versions[v][k], self.case.capacity[s]
            rest = [u - a for u, a in zip(use[s], old, strict=True)]

            def load(other: int, v: int = v, rest: list[int] = rest, held: tuple[int, ...] = held) -> float:
                new = self.case.versions[v][other]
                return max((u + a) / max(1, c) for u, a, c in zip(rest, new, held, strict=True))

            best = min(options.versions[v], key=lambda other: (load(other), other))
            use[s] = [u + a for u, a in zip(rest, self.case.versions[v][best], strict=True)]
            out[v] = (s, best)
        return tuple(out)

    def _good(self) -> bool:
        """A large problem near its bound, late: what is left would buy little."""
        near = self.best is not None and self.best <= self.values[self.low] * (1 + GOOD_SHARE)
        return near and len(self.case.versions) > SMALL and self.clock.spent > GOOD_SPENT * self.clock.settings.limit

    def _index(self, share: float) -> int:
        """The position of the largest T not more than `share` above the bound."""
        limit = self.values[self.low] * (1 + share)
        return max(self.low, min(len(self.values) - 1, bisect_left(self.values, int(limit) + 1) - 1))

    def _place(self, index: int) -> bool:
        options = self.ladders.at(self.values[index])
        plan = Halving(self.case, options, self.clock, Effort(), self.plan).place()
        if plan is not None:
            rounds = FEW_ROUNDS if len(self.case.versions) <= SMALL else ROUNDS
            plan = repair(self.case, options, plan, self.clock, rounds, 0.6)
        if plan is None and len(self.case.versions) * len(self.case.slot_ids) <= FLAT_MOST:
            _, plan = self._flat(options, FLAT_SECONDS)
        return plan is not None and self._take(plan, self.values[index])

    def _take(self, plan: Placement, interval: int) -> bool:
        """Keeps a plan for the interval it really has: its slowest version, with wires and bits charged at that."""
        for candidate in (plan, self._slower(plan, interval)):
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

    def _slower(self, plan: Placement, interval: int) -> Placement | None:
        """The plan with one kernel at a version of exactly `interval` cycles, where its slot still holds it."""
        use = [[0] * len(self.case.resources) for _ in self.case.slots]
        for v, (s, k) in enumerate(plan):
            for r, amount in enumerate(self.case.versions[v][k]):
                use[s][r] += amount
        for v, (s, k) in enumerate(plan):
            for other, cycles in enumerate(self.case.cycles[v]):
                new, old = self.case.versions[v][other], self.case.versions[v][k]
                if cycles == interval and all(
                    u + a - b <= c for u, a, b, c in zip(use[s], new, old, self.case.capacity[s], strict=True)
                ):
                    return (*plan[:v], (s, other), *plan[v + 1 :])
        return None


def start(case: JointCase, clock: Clock) -> Search | None:
    """The search with its merged-die bound; None where no interval passes the merged die: infeasible, proved."""
    ladders = Ladders(case)
    values = ladders.intervals()
    if not values:
        return None
    bound = merged_bound(ladders, values, clock)
    if bound is None:
        return None
    low = values.index(bound)
    return Search(ladders, clock, values, low, bound)
