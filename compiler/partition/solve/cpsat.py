"""Flat placement by CP-SAT: every layer, sliced or whole, on any engine of its window, with link and bank loads.

Needs a Problem and a first Allocation; guarantees an Allocation not worse in interval, deterministic for one worker
(fixed seed, deterministic time). Windows keep a layer within a few engines of where the sweep put it: they narrow
the search, never the bound, which comes from bound.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from compiler.partition.options_table import Option
from compiler.partition.problem import HOST_SLOT, Allocation, Problem, Share, load_of, ticks_of_bits

MAX_SIZES = 12
MAX_PIECES = 3


@dataclass(frozen=True, slots=True)
class Budget:
    """Deterministic seconds, seed and workers of one solve."""

    seconds: float
    seed: int
    workers: int


def _sizes(units: int) -> list[int]:
    """Unit counts offered for a slice: all when few, else evenly spaced ones closed under complement."""
    if units - 1 <= MAX_SIZES:
        return list(range(1, units))
    picked = {units * k // (MAX_SIZES + 1) for k in range(1, MAX_SIZES + 1)}
    return sorted({k for k in picked | {units - k for k in picked} if 0 < k < units})


class Model:
    """The CP-SAT model: build once, minimise the interval, then crossings at that interval."""

    def __init__(self, problem: Problem, start: Allocation, window: int, floor: int, ceiling: int) -> None:
        from ortools.sat.python import cp_model

        self.cp: Any = cp_model
        self.p = problem
        self.m = cp_model.CpModel()
        self.interval = self.m.new_int_var(floor, ceiling, "T")
        self.place: dict[int, dict[tuple[int, str, int], tuple[Any, Option]]] = {}
        self.present: dict[int, dict[int, Any]] = {}
        self.reduce: dict[int, dict[int, tuple[Any, Option]]] = {}
        self.load: list[list[Any]] = [[] for _ in range(problem.slots)]
        self.bank: list[list[Any]] = [[] for _ in problem.bank_rate]
        self.pairs: list[tuple[Any, int]] = []
        position = {slot: k for k, slot in enumerate(problem.order)}
        for layer in problem.table.layers:
            near = {position[s.slot] for s in start[layer.index]}
            lo, hi = min(near) - window, max(near) + window
            slots = [e for e in problem.order if lo <= position[e] <= hi and e in problem.slots_of(layer.index)]
            self._layer(layer.index, slots, start[layer.index])
        for group in problem.stuck:
            for e in range(problem.slots):
                literals = [self.place[x][(e, "", 1)][0] for x in group if (e, "", 1) in self.place[x]]
                if len(literals) == len(group):
                    for other in literals[1:]:
                        self.m.add(literals[0] == other)
                else:
                    for one in literals:
                        self.m.add(one == 0)
        for e in range(problem.slots):
            self.m.add(sum(self.load[e]) <= self.interval)
        self._traffic()

    def _layer(self, layer: int, slots: list[int], start: tuple[Share, ...]) -> None:
        m, p = self.m, self.p
        place: dict[tuple[int, str, int], tuple[Any, Option]] = {}
        begun = {(s.slot, s.split, s.units if s.split else 1) for s in start}
        modes: list[Any] = []
        forced = p.forced.get(layer)
        stuck = any(layer in g for g in p.stuck)
        for e in slots:
            whole = p.table.whole(layer, p.kind_of[e])
            if whole is not None and forced is None:
                place[(e, "", 1)] = (m.new_bool_var(f"w{layer}.{e}"), whole)
                modes.append(place[(e, "", 1)][0])
        for split in p.table.layers[layer].splits:
            if stuck or (forced is not None and forced[0] != split.factor):
                continue
            here: dict[int, list[tuple[int, Any]]] = {}
            for e in slots:
                for k in sorted({*_sizes(split.units), *(s.units for s in start if s.split == split.factor)}):
                    o = p.table.slice(layer, p.kind_of[e], split.factor, k)
                    if o is not None and 0 < k < split.units:
                        b = m.new_bool_var(f"{split.factor}{layer}.{e}.{k}")
                        place[(e, split.factor, k)] = (b, o)
                        here.setdefault(e, []).append((k, b))
            if len(here) < 2:
                for e, items in here.items():
                    for k, _ in items:
                        del place[(e, split.factor, k)]
                continue
            used = m.new_bool_var(f"{split.factor}{layer}")
            modes.append(used)
            for items in here.values():
                m.add(sum(b for _, b in items) <= used)
            every = [b for items in here.values() for _, b in items]
            m.add(sum(k * b for items in here.values() for k, b in items) == split.units * used)
            pieces = forced[1] if forced is not None else max(MAX_PIECES, len(start))
            m.add(sum(every) <= pieces)
            if forced is not None:
                m.add(sum(every) == pieces)
            m.add_hint(used, any(s.split == split.factor for s in start))
            if split.factor == "Pn":
                at: dict[int, tuple[Any, Option]] = {}
                for e, items in here.items():
                    for o in p.table.of(layer, p.kind_of[e]):
                        if o.role == "reduce":
                            b = m.new_bool_var(f"r{layer}.{e}")
                            m.add(b <= sum(x for _, x in items))
                            at[e] = (b, o)
                            break
                m.add(sum(b for b, _ in at.values()) == used)
                self.reduce[layer] = at
                for e, (b, o) in at.items():
                    self.load[e].append(o.ticks * b)
                    self.bank[p.bank_of[e]].append((o.read_bytes + o.write_bytes) * b)
                    m.add_hint(b, any(s.split == "reduce" and s.slot == e for s in start))
        m.add_exactly_one(modes)
        for (e, split_name, k), (b, o) in place.items():
            self.load[e].append(o.ticks * b)
            self.bank[p.bank_of[e]].append((o.read_bytes + o.write_bytes) * b)
            m.add_hint(b, (e, split_name, k) in begun)
        self.place[layer] = place
        self.present[layer] = {}
        for e in slots:
            mine = [b for (slot, _, _), (b, _) in place.items() if slot == e]
            if len(mine) == 1:
                self.present[layer][e] = mine[0]
            elif mine:
                there = m.new_bool_var(f"on{layer}.{e}")
                m.add(sum(mine) == there)
                self.present[layer][e] = there

    def _maker(self, layer: int, e: int, bits: int) -> Any:
        """Kilobits of the layer's output that slot e makes, as a linear expression."""
        parts = []
        for (slot, split, k), (b, o) in self.place[layer].items():
            if slot == e and split != "Pn":
                parts.append(-(-bits * (k if split else 1) // ((o.share[1] if split else 1) * 1024)) * b)
        for slot, (b, _) in self.reduce.get(layer, {}).items():
            if slot == e:
                parts.append(-(-bits // 1024) * b)
        return sum(parts) if parts else None

    def _traffic(self) -> None:
        m, p = self.m, self.p
        link: list[list[Any]] = [[] for _ in p.links]

        def moved(i: int, j: int, amount: Any) -> None:
            for k in p.route[(i, j)]:
                link[k].append(amount)
            for end in (i, j):
                if end != HOST_SLOT:
                    self.bank[p.bank_of[end]].append(128 * amount)
            self.pairs.append((amount, 1))

        for f in p.flows:
            kbits = -(-f.bits // 1024)
            need: dict[int, Any] = {}
            for e in range(p.slots):
                there = [self.present[c][e] for c in f.consumers if e in self.present[c]]
                if len(there) == 1:
                    need[e] = there[0]
                elif there:
                    need[e] = m.new_bool_var("")
                    m.add_max_equality(need[e], there)
            if f.producer == HOST_SLOT:
                for e, b in need.items():
                    moved(HOST_SLOT, e, kbits * b)
                continue
            for i in self.present[f.producer]:
                made = self._maker(f.producer, i, f.bits)
                if made is None:
                    continue
                if f.to_host:
                    moved(i, HOST_SLOT, made)
                for j, b in need.items():
                    if i != j:
                        flow = m.new_int_var(0, kbits + 64, "")
                        m.add(flow >= made - (kbits + 64) * (1 - b))
                        moved(i, j, flow)
        for layer, at in self.reduce.items():
            words = -(-p.table.layers[layer].output_bits * 4 // 1024)
            for (i, split, _), (b, _) in self.place[layer].items():
                if split != "Pn":
                    continue
                for j, (r, _) in at.items():
                    if i != j:
                        both = m.new_bool_var("")
                        m.add(both >= b + r - 1)
                        moved(i, j, words * both)
        for amounts, shared in zip(link, p.links, strict=True):
            if amounts:
                rate = ticks_of_bits(1024 * 1024, shared.bits_per_second, p.ref_khz)
                m.add(rate * sum(amounts) <= 1024 * self.interval)
        for amounts, per_second in zip(self.bank, p.bank_rate, strict=True):
            if amounts:
                rate = ticks_of_bits(8 * 1024, per_second * 8, p.ref_khz)
                m.add(rate * sum(amounts) <= 1024 * self.interval)

    def solve(self, budget: Budget, stop: Callable[[int], bool] | None = None) -> tuple[str, Allocation | None]:
        """Minimises what the model's objective says; (solver status, allocation)."""
        solver = self.cp.CpSolver()
        q = solver.parameters
        q.random_seed = budget.seed
        q.num_workers = budget.workers
        q.max_deterministic_time = budget.seconds
        q.catch_sigint_signal = False
        q.symmetry_level = 0
        status = solver.solve(self.m)
        name = str(solver.status_name(status))
        if name not in ("OPTIMAL", "FEASIBLE"):
            return name, None
        out: Allocation = {}
        for layer, place in self.place.items():
            shares: list[Share] = []
            first: dict[str, int] = {}
            for e in self.p.order:
                for (slot, split, k), (b, o) in sorted(place.items(), key=lambda x: x[0]):
                    if slot == e and solver.value(b):
                        start = first.get(split, 0)
                        shares.append(Share(e, split, start, k if split else 1, o))
                        first[split] = start + k
            for e, (b, o) in self.reduce.get(layer, {}).items():
                if solver.value(b):
                    shares.append(Share(e, "reduce", 0, shares[0].option.share[1], o))
            out[layer] = tuple(shares)
        return name, out


def improve(problem: Problem, start: Allocation, floor: int, window: int, budget: Budget) -> tuple[str, Allocation]:
    """The best interval found within the budget, at least as good as `start`."""
    ceiling = load_of(problem, start).interval
    if ceiling <= floor:
        return "OPTIMAL", start
    model = Model(problem, start, window, floor, ceiling)
    model.m.minimize(model.interval)
    status, got = model.solve(budget)
    if got is None or load_of(problem, got).interval >= ceiling:
        return status, start
    return status, got


def fewest_crossings(problem: Problem, start: Allocation, window: int, budget: Budget) -> Allocation:
    """At the interval of `start`, less traffic between engines and fewer slices (the tie-break)."""
    ceiling = load_of(problem, start).interval
    model = Model(problem, start, window, 0, ceiling)
    pieces = [b for place in model.place.values() for b, _ in place.values()]
    model.m.minimize(sum(a for a, _ in model.pairs) + 64 * sum(pieces))
    _, got = model.solve(budget)
    if got is None or load_of(problem, got).interval > ceiling:
        return start
    return got
