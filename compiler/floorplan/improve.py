"""Better plans of fixed kernels by freeing a few of them at a time, and a first plan by placing part after part.

Needs a FixedCase and a clock; guarantees plans that keep every limit (the model of a part counts all that stays where
it is) and never cost more than the one that came in; proves nothing. A part is a connected component of kernels over
all slots, those of neighbouring slots, or a stretch of kernels along the edges; it is placed at the least cost with
everything else as it stands. Deterministic for a seed.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from compiler.floorplan.budget import Clock
from compiler.floorplan.fit import slot_rows
from compiler.floorplan.problem import FixedCase
from compiler.floorplan.walk_model import Plan

PART_SECONDS = 0.25  # deterministic, of one part
BUILD_SECONDS = 1e-4  # deterministic price of a pick or crossing in a part's model: to write, read and simplify it
MOST_PICKS = 1500  # kernels x versions x slots of a part
STRETCH = 24  # kernels of a stretch
STALE = 2  # rounds of all parts without gain, after which it ends


class Parts:
    """The case with what does not change from part to part."""

    def __init__(self, case: FixedCase, clock: Clock) -> None:
        self.case, self.clock = case, clock
        self.rows = {s: slot_rows(case, frozenset({s})) for s in case.slots}
        self.edges_of: list[list[int]] = [[] for _ in case.nodes]
        for i, e in enumerate(case.edges):
            self.edges_of[e.src].append(i)
            if e.dst != e.src:
                self.edges_of[e.dst].append(i)
        self.near: dict[int, set[int]] = {s: set() for s in case.slots}
        for c in case.connections:
            self.near[c.src].add(c.dst)
            self.near[c.dst].add(c.src)
        self.groups = {v: set(group) for group in case.together for v in group}

    def place(
        self, free: Collection[int], plan: dict[int, tuple[int, int]], slots: Collection[int], seconds: float
    ) -> dict[int, tuple[int, int]] | None:
        """The cheapest places found of the kernels `free` on `slots`, beside those of `plan`, whose places stay;
        kernels in neither do not count. None without one."""
        from ortools.sat.python import cp_model

        case = self.case
        m: Any = cp_model.CpModel()
        inside = sorted(free)
        chosen = set(inside)
        fixed = {v: at for v, at in plan.items() if v not in chosen}
        at: dict[tuple[int, int], Any] = {}
        pick: dict[tuple[int, int, int], Any] = {}
        for v in inside:
            own = [s for s in sorted(slots) if s in case.allowed[v]]
            for s in own:
                literals = [m.new_bool_var("") for _ in case.versions[v]]
                pick.update({(v, s, k): z for k, z in enumerate(literals)})
                at[v, s] = literals[0] if len(literals) == 1 else m.new_bool_var("")
                if len(literals) > 1:
                    m.add(sum(literals) == at[v, s])
            if not own:
                return None
            m.add_exactly_one([at[v, s] for s in own])
        self._together(m, inside, fixed, at)
        for s in sorted(slots):
            for row in self.rows[s]:
                held = sum(row.terms.get((v, k), 0) for v, (t, k) in fixed.items() if t == s)
                use = [row.terms[v, k] * z for (v, t, k), z in pick.items() if t == s and row.terms.get((v, k), 0)]
                if use:
                    m.add(sum(use) <= row.bound - held)
        cost = self._traffic(m, inside, fixed, at)
        if cost is None:
            return None
        self.clock.charge(BUILD_SECONDS * (len(pick) + len(cost)))
        if cost:
            m.minimize(sum(cost))
        for (v, s, k), z in pick.items():
            if v in plan:
                m.add_hint(z, plan[v] == (s, k))
        status, solver = self.clock.solve(m, seconds)
        if status not in ("OPTIMAL", "FEASIBLE"):
            return None
        return {v: (s, k) for (v, s, k), z in pick.items() if solver.value(z)}

    def _together(self, m: Any, inside: Sequence[int], fixed: dict[int, tuple[int, int]], at: Any) -> None:
        for v in inside:
            for other in sorted(self.groups.get(v, ())):
                for s in self.case.slots:
                    if other in fixed:
                        if fixed[other][0] != s and (v, s) in at:
                            m.add(at[v, s] == 0)
                    elif other > v:
                        m.add(at.get((v, s), 0) == at.get((other, s), 0))

    def _traffic(
        self, m: Any, inside: Sequence[int], fixed: dict[int, tuple[int, int]], at: dict[tuple[int, int], Any]
    ) -> list[Any] | None:
        """Costs of the edges that a part has a say in; None where one of its kernels can stand nowhere."""
        case = self.case
        cost: list[Any] = []
        load: dict[tuple[int, int], list[tuple[int, Any]]] = {}
        slots_of: dict[int, list[int]] = {}
        for v, s in at:
            slots_of.setdefault(v, []).append(s)
        for i in sorted({i for v in inside for i in self.edges_of[v]}):
            e = case.edges[i]
            ends = (e.src in slots_of, e.dst in slots_of)
            if e.src == e.dst or not (ends[0] or e.src in fixed) or not (ends[1] or e.dst in fixed):
                continue
            if ends != (True, True):  # one end stays: where the other stands says what is crossed
                v, there = (e.src, fixed[e.dst][0]) if ends[0] else (e.dst, fixed[e.src][0])
                for s in slots_of[v]:
                    way = (s, there) if ends[0] else (there, s)
                    c = case.link.get(way)
                    if s == there:
                        continue
                    if c is None:
                        m.add(at[v, s] == 0)
                        continue
                    load.setdefault(way, []).append((i, at[v, s]))
                    cost.append(c.cost * at[v, s])
                continue
            leaving: dict[int, list[Any]] = {}
            entering: dict[int, list[Any]] = {}
            for a in slots_of[e.src]:
                for b in slots_of[e.dst]:
                    c = case.link.get((a, b))
                    if a != b and c is not None:
                        x = m.new_bool_var("")
                        leaving.setdefault(a, []).append(x)
                        entering.setdefault(b, []).append(x)
                        load.setdefault((a, b), []).append((i, x))
                        cost.append(c.cost * x)
            for s in sorted({*slots_of[e.src], *slots_of[e.dst]}):
                source, target = at.get((e.src, s), 0), at.get((e.dst, s), 0)
                m.add(source - sum(leaving.get(s, [])) == target - sum(entering.get(s, [])))
                m.add(sum(leaving.get(s, [])) <= source)
                m.add(sum(entering.get(s, [])) <= target)
        self._carry(m, fixed, load)
        return cost

    def _carry(
        self, m: Any, fixed: dict[int, tuple[int, int]], load: dict[tuple[int, int], list[tuple[int, Any]]]
    ) -> None:
        """Wires and bits a second of every connection, what stays on it included."""
        case = self.case
        held: dict[tuple[int, int], list[int]] = {}
        for e in case.edges:
            if e.src in fixed and e.dst in fixed and fixed[e.src][0] != fixed[e.dst][0]:
                own = held.setdefault((fixed[e.src][0], fixed[e.dst][0]), [0, 0])
                own[0] += e.wires
                own[1] += e.bps
        for way, cuts in load.items():
            c, (wires, bps) = case.link[way], held.get(way, (0, 0))
            if c.max_wires is not None:
                m.add(sum(case.edges[i].wires * x for i, x in cuts) <= c.max_wires - wires)
            if c.max_bps is not None:
                m.add(sum(case.edges[i].bps * x for i, x in cuts) <= c.max_bps - bps)


def components(case: FixedCase) -> list[list[int]]:
    """Kernels that edges or a shared slot join, the largest set first."""
    group = list(case.nodes)

    def root(v: int) -> int:
        while group[v] != v:
            group[v] = group[group[v]]
            v = group[v]
        return v

    for a, b in [(e.src, e.dst) for e in case.edges] + [(g[0], v) for g in case.together for v in g[1:]]:
        group[root(a)] = root(b)
    out: dict[int, list[int]] = {}
    for v in case.nodes:
        out.setdefault(root(v), []).append(v)
    return sorted(out.values(), key=lambda own: (-len(own), own))


def first(case: FixedCase, clock: Clock) -> Plan | None:
    """A plan by placing component after component, each at the least cost beside those before it; None where one finds
    no room."""
    parts = Parts(case, clock)
    plan: dict[int, tuple[int, int]] = {}
    for own in components(case):
        found = parts.place(own, plan, case.slots, 4 * PART_SECONDS)
        if found is None:
            return None
        plan.update(found)
    return tuple(plan[v] for v in case.nodes)


def improve(case: FixedCase, plan: Plan, clock: Clock, seconds: float, enough: int = 0) -> Plan:
    """The plan, or a cheaper one; so many deterministic seconds may be spent. enough: no plan costs less."""
    end = clock.left - seconds
    parts = Parts(case, clock)
    now = dict(enumerate(plan))
    best = _cost(case, now)
    lottery = random.Random(clock.settings.seed)
    stale = 0
    while best > enough and stale < STALE and clock.left > end:
        before = best
        for free, slots in _choices(parts, now, lottery):
            if clock.left <= end or best <= enough:
                break
            found = parts.place(free, now, slots, min(PART_SECONDS, clock.left - end))
            if found is not None:
                changed = now | found
                cost = _cost(case, changed)
                if cost <= best:  # as cheap but elsewhere: a way out of where nothing gets better
                    best, now = cost, changed
        stale = stale + 1 if best == before else 0
    return tuple(now[v] for v in case.nodes)


def _cost(case: FixedCase, plan: dict[int, tuple[int, int]]) -> int:
    return sum(case.link[plan[e.src][0], plan[e.dst][0]].cost for e in case.edges if plan[e.src][0] != plan[e.dst][0])


def _choices(
    parts: Parts, plan: dict[int, tuple[int, int]], lottery: random.Random
) -> Iterator[tuple[list[int], list[int]]]:
    """Kernels to free and the slots that they may go to, each small enough: neighbouring slots, one or two components,
    stretches along the edges. `plan` is read as it stands when a choice is drawn."""
    case = parts.case
    everywhere = list(case.slots)
    versions = max(len(v) for v in case.versions)

    def few(free: Sequence[int], slots: Sequence[int]) -> bool:
        return 0 < len(free) * len(slots) * versions <= MOST_PICKS

    sets: list[tuple[str, list[int]]] = [("slots", sorted((s, t))) for s in everywhere for t in parts.near[s] if t > s]
    sets += [("slots", sorted({s, t, u})) for t in everywhere for s in parts.near[t] for u in parts.near[t] if s < u]
    own = components(case)
    if len(own) > 1:
        sets += [("kernels", part) for part in own]
        sets += [("kernels", a + b) for i, a in enumerate(own) for b in own[i + 1 :]]
    lottery.shuffle(sets)
    for kind, members in sets:
        if kind == "slots":
            free = [v for v, (s, _) in plan.items() if s in members]
            if few(free, members):
                yield free, members
        elif few(members, everywhere):
            yield members, everywhere
    for _ in range(len(case.versions) // STRETCH + 1):
        free = _stretch(parts, lottery)
        slots = sorted({s for v in free for s in (plan[v][0], *parts.near[plan[v][0]])})
        if few(free, slots):
            yield free, slots


def _stretch(parts: Parts, lottery: random.Random) -> list[int]:
    """Kernels around one, along the edges."""
    todo = [lottery.randrange(len(parts.case.versions))]
    seen = set(todo)
    while todo and len(seen) < STRETCH:
        v = todo.pop(0)
        for i in parts.edges_of[v]:
            for t in (parts.case.edges[i].src, parts.case.edges[i].dst):
                if t not in seen and len(seen) < STRETCH:
                    seen.add(t)
                    todo.append(t)
    return sorted(seen)
