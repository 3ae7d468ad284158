"""One walk of the backbone over the slots, decided: a CP-SAT over windows, everything else of the case free.

Needs a backbone (kernels joined one to the next), a walk (slots, one step after the other along connections) and a
window for the first kernel of every step. The model is exact for the walk: versions, capacities of revisited slots,
kernels off the backbone on any slot, every other edge with its cost, wires and bits a second of every connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compiler.floorplan.budget import Clock
from compiler.floorplan.fit import slot_rows
from compiler.floorplan.problem import FixedCase

Plan = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Spine:
    """kernels: the backbone in order; edges[i] joins kernels[i] to kernels[i+1]; others: the remaining edges."""

    kernels: tuple[int, ...]
    edges: tuple[int, ...]
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """status of the solve; cost: of the other edges in `plan`; bound: proved least cost of the other edges."""

    status: str
    cost: int
    bound: int
    plan: Plan | None

    @property
    def decided(self) -> bool:
        return self.status in ("OPTIMAL", "INFEASIBLE")


class WalkModel:
    """Builds and solves the model of one walk; `spare` is the most that the other edges may cost, None: anything."""

    def __init__(self, case: FixedCase, spine: Spine, walk: Sequence[int], windows: Sequence[tuple[int, int]]) -> None:
        from ortools.sat.python import cp_model

        self.case, self.spine, self.walk, self.windows = case, spine, walk, windows
        self.m: Any = cp_model.CpModel()
        self.one, self.zero = self.m.new_constant(1), self.m.new_constant(0)
        self.here: dict[tuple[int, int], Any] = {}  # (kernel, slot): expression, absent where it cannot be
        self.pick: dict[tuple[int, int, int], Any] = {}
        self.load: dict[tuple[int, int], list[tuple[int, Any]]] = {}  # connection -> (edge, literal or expression)
        self.cost: list[Any] = []
        self._steps()
        self._places()
        self._others()
        self._carry()

    def _steps(self) -> None:
        m, n, one, zero = self.m, len(self.spine.kernels), self.one, self.zero
        after: list[list[Any]] = []  # after[j][i]: kernel i of the backbone stands in step j or later
        for j, (low, high) in enumerate(self.windows):
            row = [zero if i < low else one if i >= high else m.new_bool_var(f"g{j}.{i}") for i in range(n)]
            for a, b in zip(row[low:high], row[low + 1 : high], strict=False):
                m.add_implication(a, b)
            after.append(row)
        after.append([zero] * n)
        for j in range(1, len(self.walk)):
            for i in range(n):  # every step has a kernel of its own
                before = after[j - 1][i - 1] if i else zero
                if before is not one and after[j][i] is not zero:
                    m.add_implication(after[j][i], before)
            low, high = self.windows[j]
            cuts = self.load.setdefault((self.walk[j - 1], self.walk[j]), [])
            for i in range(max(low, 1), min(high, n - 1) + 1):
                now, then = after[j][i], after[j][i - 1]
                if now is not zero and then is not one:
                    cuts.append((self.spine.edges[i - 1], now - then))
        steps: dict[int, list[int]] = {}
        for j, s in enumerate(self.walk):
            steps.setdefault(s, []).append(j)
        for s, visits in steps.items():
            for i, v in enumerate(self.spine.kernels):
                pairs = [(after[j][i], after[j + 1][i]) for j in visits]
                if any(a is not zero and b is not one for a, b in pairs):
                    self.here[v, s] = sum(a - b for a, b in pairs if a is not zero and b is not one)

    def _places(self) -> None:
        m, case = self.m, self.case
        on_spine = set(self.spine.kernels)
        for v in case.nodes:
            if v not in on_spine:
                for s in sorted(case.allowed[v]):
                    self.here[v, s] = m.new_bool_var(f"x{v}.{s}")
                m.add_exactly_one([self.here[v, s] for s in sorted(case.allowed[v])])
        for (v, s), there in self.here.items():
            if s not in case.allowed[v]:
                m.add(there == 0)
                continue
            literals = [m.new_bool_var(f"z{v}.{s}.{k}") for k in range(len(case.versions[v]))]
            for k, z in enumerate(literals):
                self.pick[v, s, k] = z
            m.add(sum(literals) == there)
        for group in case.together:
            for v in group[1:]:
                for s in case.slots:
                    m.add(self.here.get((group[0], s), 0) - self.here.get((v, s), 0) == 0)
        for s in case.slots:
            for row in slot_rows(case, frozenset({s})):
                use = [a * self.pick[v, s, k] for (v, k), a in row.terms.items() if a and (v, s, k) in self.pick]
                if use:
                    m.add(sum(use) <= row.bound)

    def _others(self) -> None:
        """Edges off the backbone: one boolean for every connection that their two ends may use."""
        m, case = self.m, self.case
        slots_of: dict[int, list[int]] = {}
        for v, s in self.here:
            slots_of.setdefault(v, []).append(s)
        for i in self.spine.others:
            e = case.edges[i]
            leaving: dict[int, list[Any]] = {}
            entering: dict[int, list[Any]] = {}
            for a in slots_of[e.src]:
                for b in slots_of[e.dst]:
                    c = case.link.get((a, b))
                    if c is None:
                        continue
                    x = m.new_bool_var(f"f{i}.{a}.{b}")
                    leaving.setdefault(a, []).append(x)
                    entering.setdefault(b, []).append(x)
                    self.load.setdefault((a, b), []).append((i, x))
                    self.cost.append(c.cost * x)
            for s in sorted({*slots_of[e.src], *slots_of[e.dst]}):
                source, target = self.here.get((e.src, s), 0), self.here.get((e.dst, s), 0)
                m.add(source - sum(leaving.get(s, [])) == target - sum(entering.get(s, [])))
                m.add(sum(leaving.get(s, [])) <= source)
                m.add(sum(entering.get(s, [])) <= target)

    def _carry(self) -> None:
        for ends, cuts in self.load.items():
            c, edges = self.case.link[ends], self.case.edges
            if cuts and c.max_wires is not None:
                self.m.add(sum(edges[i].wires * x for i, x in cuts) <= c.max_wires)
            if cuts and c.max_bps is not None:
                self.m.add(sum(edges[i].bps * x for i, x in cuts) <= c.max_bps)

    def solve(self, clock: Clock, seconds: float, spare: int | None, linear: int = 1) -> Verdict:
        """Least cost of the other edges within the time; `linear`: how much of the model its relaxation holds."""
        if self.cost:
            if spare is not None:
                self.m.add(sum(self.cost) <= spare)
            self.m.minimize(sum(self.cost))
        status, solver = clock.solve(self.m, seconds, linearization_level=linear)
        if status not in ("OPTIMAL", "FEASIBLE"):
            return Verdict(status, 0, 0, None)
        plan = [(-1, -1)] * len(self.case.versions)
        for (v, s, k), z in self.pick.items():
            if solver.value(z):
                plan[v] = (s, k)
        cost = round(solver.objective_value) if self.cost else 0
        bound = max(0, round(solver.best_objective_bound)) if self.cost else 0
        return Verdict("OPTIMAL" if not self.cost else status, cost, min(bound, cost), tuple(plan))
