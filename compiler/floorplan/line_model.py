"""A stretch of the line of slots as one CP-SAT model: kernels onto consecutive groups of merged slots at a given T.

Needs a JointCase, its ladder, the kernels of the stretch, and for every edge that leaves the stretch the side it leaves
to. Groups of one slot make the model exact; larger ones relax what is inside them. Every boundary between groups is
charged with what crosses it, edges that come from or go beyond the stretch included: transit is never forgotten. With
`overflow` slots, with `crowding` boundaries may be over their limit, and by how much in all is what is minimised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.floorplan.budget import Clock
from compiler.floorplan.ladder import Ladder
from compiler.floorplan.problem import JointCase
from compiler.partition.constraints.rows import link_bits, resources

KILO = 1024
PARTS = 10_000


class LineModel:
    """groups: half-open ranges of slots, one after the other; fixed: kernel -> slot of those outside the stretch."""

    def __init__(
        self,
        case: JointCase,
        options: Ladder,
        kernels: Sequence[int],
        groups: Sequence[tuple[int, int]],
        fixed: Mapping[int, int],
        *,
        slots_of: Mapping[int, frozenset[int]] | None = None,
        slack: float = 0.0,
        load: float = 1.0,
        overflow: bool = False,
        crowding: bool = False,
    ) -> None:
        from ortools.sat.python import cp_model

        self.case, self.options, self.kernels, self.groups, self.fixed = case, options, kernels, groups, fixed
        self.over: list[Any] = []
        self.slots_of, self.load = slots_of, load
        self.m: Any = cp_model.CpModel()
        self.pick: dict[tuple[int, int, int], Any] = {}  # kernel, group, option
        self.right: dict[tuple[int, int], Any] = {}  # kernel stands right of boundary b between groups b and b+1
        self.cut: list[Any] = []
        for v in kernels:
            self._place(v)
        for g, (first, last) in enumerate(groups):
            capacity = [
                int(sum(case.capacity[s][r] for s in range(first, last)) * (1 - slack))
                for r in range(len(case.resources))
            ]
            self._fill(g, capacity, overflow)
        for b in range(len(groups) - 1):
            self._boundary(b, crowding)

    def _fill(self, g: int, capacity: list[int], overflow: bool) -> None:
        """Resources of a group; with `overflow` what is beyond costs, in ten-thousandths of the capacity, instead."""
        first, last = self.groups[g]
        offered = [[self.case.versions[v][k] for k in self.options.versions[v]] for v in self.kernels]
        for row in resources(offered, capacity, self.case.resources, f"slots {first}..{last - 1}"):
            use = row.expression(lambda i, k: self.pick.get((self.kernels[i], g, k), 0))
            self._limit(use, row.bound, overflow)

    def _place(self, v: int) -> None:
        m = self.m
        chosen = []
        at: list[Any] = []
        for g, (first, last) in enumerate(self.groups):
            allowed = self.case.allowed[v] if self.slots_of is None else self.case.allowed[v] & self.slots_of[v]
            if not any(s in allowed for s in range(first, last)):
                at.append(0)
                continue
            literals = [m.new_bool_var(f"z{v}.{g}.{k}") for k in range(len(self.options.versions[v]))]
            for k, z in enumerate(literals):
                self.pick[v, g, k] = z
            chosen += literals
            at.append(sum(literals))
        m.add_exactly_one(chosen)
        for b in range(len(self.groups) - 1):
            r = m.new_bool_var(f"r{v}.{b}")
            self.right[v, b] = r
            m.add(sum(at[b + 1 :]) == r)

    def _side(self, v: int, b: int) -> Any:
        """Whether kernel v stands right of boundary b: a literal, or 0/1 for a kernel outside the stretch."""
        if (v, b) in self.right:
            return self.right[v, b]
        return int(self.fixed[v] >= self.groups[b][1])

    def _boundary(self, b: int, crowding: bool) -> None:
        m, case, options = self.m, self.case, self.options
        wires: list[Any] = []
        bits: list[Any] = []
        inside = set(self.kernels)
        for i, (src, dst) in enumerate(case.edges):
            here = (src in inside, dst in inside)
            if src == dst or not any(here):
                if (
                    not any(here)
                    and src in self.fixed
                    and dst in self.fixed
                    and self._side(src, b) != self._side(dst, b)
                ):
                    wires.append(options.wires[i])
                    bits.append(options.bits[i])
                continue
            if (not here[0] and src not in self.fixed) or (not here[1] and dst not in self.fixed):
                continue
            one, two = self._side(src, b), self._side(dst, b)
            if isinstance(one, int) or isinstance(two, int):
                known, free = (one, two) if isinstance(one, int) else (two, one)
                crossed = 1 - free if known else free
            else:
                crossed = m.new_bool_var(f"c{i}.{b}")
                m.add(crossed >= one - two)
                m.add(crossed >= two - one)
            wires.append(options.wires[i] * crossed)
            bits.append(options.bits[i] * crossed)
            self.cut.append(-(-options.bits[i] // KILO) * crossed)
        boundary = case.boundaries[self.groups[b][1] - 1]
        if boundary.wires is not None:
            self._limit(sum(wires), int(boundary.wires * self.load), crowding)
        elif boundary.bits_per_cycle is not None:
            limit = link_bits(boundary.bits_per_cycle, options.interval)
            self._limit(sum(bits), int(limit * self.load), crowding)
        elif crowding:
            self.over += [PARTS * (w > 0) if isinstance(w, int) else w * PARTS for w in wires]
        else:
            for w in wires:
                m.add(w == 0)

    def _limit(self, amount: Any, bound: int, soft: bool) -> None:
        """amount <= bound; where `soft`, what is beyond costs, in ten-thousandths of the bound, instead."""
        if not soft:
            self.m.add(amount <= bound)
            return
        beyond = self.m.new_int_var(0, PARTS * 4, "")
        self.over.append(beyond)
        self.m.add(amount * PARTS <= bound * PARTS + beyond * max(1, bound))

    def hint(self, group_of: Mapping[int, int]) -> None:
        """A guess which group each kernel goes to."""
        for v in self.kernels:
            for b in range(len(self.groups) - 1):
                self.m.add_hint(self.right[v, b], group_of[v] > b)

    def hint_plan(self, plan: Sequence[tuple[int, int]]) -> None:
        """A whole placement by (slot, version), where groups are single slots."""
        self.hint({v: plan[v][0] - self.groups[0][0] for v in self.kernels})
        for (v, g, k), z in self.pick.items():
            slot, version = plan[v]
            self.m.add_hint(z, (self.groups[g][0], self.options.versions[v][k]) == (slot, version))

    def solve(
        self, clock: Clock, seconds: float, *, least_cut: bool, **parameters: Any
    ) -> tuple[str, dict[int, tuple[int, int]] | None]:
        """(status, kernel -> (group, version)). Minimises overflow, or with least_cut kilobits across boundaries."""
        if self.over:
            self.m.minimize(sum(self.over))
        elif least_cut and self.cut:
            self.m.minimize(sum(self.cut))
        status, solver = clock.solve(self.m, seconds, **parameters)
        if status not in ("OPTIMAL", "FEASIBLE"):
            return status, None
        return status, {v: (g, self.options.versions[v][k]) for (v, g, k), z in self.pick.items() if solver.value(z)}
