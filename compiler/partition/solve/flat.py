"""The flat model by CP-SAT: every layer on every engine, for problems small enough to be solved to a proof.

Needs a Problem and an Allocation; guarantees an Allocation that is not worse and a proven bound, deterministic for a
seed and one worker (deterministic time). Links and banks are not in the model, so its bound holds with them; they are
judged on the whole allocation afterwards. `balance` solves it for a few engines at a time, changing little: alone and
without that limit it was blind to traffic and undid what annealing keeps together (docs/decisions.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from compiler.partition.options_table import Option
from compiler.partition.problem import HOST_SLOT, Allocation, Load, Problem, Share, load_of, ticks_of_bits

MOVE_SHARE = 2000  # a moved layer must save this part of the interval
TRAFFIC_WEIGHT = 20  # ticks of traffic on links that count as one of an engine
MORE_TRAFFIC = 130  # per cent of the traffic at the start that evening out may leave
GROUPS = (3, 4)  # engines that are evened out together, in turn
BUSIEST = 4  # two rounds of three begin with one of so many of the busiest engines, the third with the busiest
EXACT_SIZE = 240  # layers x engines up to which it is solved


@dataclass(frozen=True, slots=True)
class Budget:
    """Deterministic seconds, seed and workers of one solve."""

    seconds: float
    seed: int
    workers: int


def profile(load: Load) -> tuple[int, ...]:
    """What is to be small, lexicographically: the interval, then the engines from the busiest down."""
    return (load.interval, *sorted(load.engine, reverse=True))


@dataclass(slots=True)
class Model:
    """Layers that stand wholly on `slots` and are free to move; everything else is a base load."""

    cp: Any
    model: Any
    interval: Any
    load: dict[int, list[Any]]
    placed: dict[int, dict[tuple[int, str, int], tuple[Any, Option]]]

    @classmethod
    def of(
        cls, problem: Problem, allocation: Allocation, engine: tuple[int, ...], slots: list[int], *, least: bool = False
    ) -> Model:
        """least: no engine is charged more than its options must cost (weights on chip wherever one fits alone, no
        messages, no layers that may not move), so that what the solver proves holds for every plan."""
        from ortools.sat.python import cp_model

        inside = set(slots)
        pinned = {x for g in problem.stuck for x in g} | set(problem.forced)
        free = [x for x, shares in allocation.items() if x not in pinned and all(s.slot in inside for s in shares)]
        free = [x for x in free if all(s.option.role == "full" for s in allocation[x])]
        base = {e: 0 if least else engine[e] for e in slots}
        for x in () if least else free:
            for s in allocation[x]:
                base[s.slot] -= s.option.ticks
        m = cp_model.CpModel()
        interval = m.new_int_var(max(base.values()), max(engine[e] for e in slots), "T")
        load: dict[int, list[Any]] = {e: [] for e in slots}
        placed = {x: _choose(m, problem, x, slots, allocation[x], load, least) for x in free}
        for e in slots:
            m.add(sum(load[e]) + base[e] <= interval)
        return cls(cp_model, m, interval, load, placed)

    def solve(self, problem: Problem, allocation: Allocation, budget: Budget) -> tuple[Allocation | None, Any]:
        """(the allocation with the free layers as solved, or None; the solver)."""
        solver = self.cp.CpSolver()
        q = solver.parameters
        q.random_seed, q.num_workers, q.max_deterministic_time = budget.seed, budget.workers, budget.seconds
        q.catch_sigint_signal = False
        status = solver.solve(self.model)
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return None, solver
        out = dict(allocation)
        for x, choice in self.placed.items():
            shares: list[Share] = []
            first = 0
            for e in problem.order:
                for (slot, split, k), (b, o) in choice.items():
                    if slot == e and solver.value(b):
                        shares.append(Share(e, split, first, k, o))
                        first += k
            out[x] = tuple(shares)
        return out, solver


def exact(problem: Problem, start: Allocation, budget: Budget) -> tuple[Allocation, int]:
    """(the best allocation found, a proven bound in ticks or 0): the flat model of all layers and engines.

    Only for small problems whose table has no Pn slices; (start, 0) otherwise.
    """
    table = problem.table
    if len(table.layers) * problem.slots > EXACT_SIZE or any(o.role == "partial" for o in table.options):
        return start, 0
    load = load_of(problem, start)
    model = Model.of(problem, start, load.engine, list(range(problem.slots)), least=True)
    model.model.minimize(model.interval)
    got, solver = model.solve(problem, start, budget)
    if got is None:
        return start, 0
    bound = round(solver.best_objective_bound)
    return (got if load_of(problem, got).interval <= load.interval else start), bound


def _least(problem: Problem, option: Option) -> int:
    """Ticks that no choice of buffers and resident weights goes below."""
    if option.split:
        return option.least_ticks
    return min(o.least_ticks for o in problem.table.of(option.layer, option.kind) if not o.split)


def _choose(
    m: Any,
    problem: Problem,
    layer: int,
    slots: list[int],
    now: tuple[Share, ...],
    load: dict[int, list[Any]],
    least: bool,
) -> dict[tuple[int, str, int], tuple[Any, Option]]:
    """One layer's booleans: whole on an engine, or slices that add up to all its units."""
    out: dict[tuple[int, str, int], tuple[Any, Option]] = {}
    begun = {(s.slot, s.split, s.units) for s in now}
    here = [e for e in slots if e in problem.slots_of(layer)]
    modes: list[Any] = []
    for e in here:
        o = problem.table.whole(layer, problem.kind_of[e])
        if o is not None:
            b = m.new_bool_var("")
            out[(e, "", 1)] = (b, o)
            modes.append(b)
    for split in problem.splits[layer]:
        if split.factor == "Pn":
            continue
        mine: dict[int, list[tuple[int, Any]]] = {}
        for e in here:
            for k in range(1, split.units):
                o = problem.table.slice(layer, problem.kind_of[e], split.factor, k)
                if o is not None:
                    b = m.new_bool_var("")
                    out[(e, split.factor, k)] = (b, o)
                    mine.setdefault(e, []).append((k, b))
        used = m.new_bool_var("")
        modes.append(used)
        for items in mine.values():
            m.add(sum(b for _, b in items) <= used)
        every = [(k, b) for items in mine.values() for k, b in items]
        m.add(sum(k * b for k, b in every) == split.units * used)
    m.add_exactly_one(modes)
    for key, (b, o) in out.items():
        load[key[0]].append((_least(problem, o) if least else o.ticks) * b)
        m.add_hint(b, key in begun)
    return out


def balance(problem: Problem, start: Allocation, goal: int, rounds: int, budget: Budget) -> Allocation:
    """Evens out a few engines at a time: one of the busiest with some drawn at random, moving few layers.

    A round is kept if the interval and the loads below it fall, or else their sum, as long as traffic stays near what
    it was at the start.
    """
    best, load = start, load_of(problem, start)
    most = max(sum(load.link), load.interval)
    draw = Random(budget.seed)
    for k in range(rounds):
        if load.interval <= goal or problem.slots < 5:
            break
        by_load = sorted(range(problem.slots), key=lambda e: (-load.engine[e], e))
        busy = by_load.pop(k % BUSIEST if k % 3 else 0)
        slots = sorted([busy, *draw.sample(by_load, GROUPS[k % len(GROUPS)] - 1)])
        model = Model.of(problem, best, load.engine, slots)
        moved = [b for x, choice in model.placed.items() for key, (b, _) in choice.items() if key not in _now(best[x])]
        # The interval first; but what slicing wastes on these engines is room that others will need.
        spent = sum(ticks for e in slots for ticks in model.load[e])
        change = max(1, load.interval // MOVE_SHARE) * sum(moved)
        sent = sum(
            _messages(problem, best, x, slot, o) * b
            for x, choice in model.placed.items()
            for (slot, _, _), (b, o) in choice.items()
        )
        model.model.minimize(TRAFFIC_WEIGHT * (2 * len(slots) * model.interval + spent + change) + sent)
        got, _ = model.solve(problem, best, Budget(budget.seconds / rounds, budget.seed, budget.workers))
        if got is None:
            continue
        then = load_of(problem, got)
        better = profile(then) < profile(load) or (
            then.interval <= load.interval and sum(then.engine) < sum(load.engine)
        )
        if better and sum(then.link) * 100 <= most * MORE_TRAFFIC:
            best, load = got, then
    return best


def _messages(problem: Problem, allocation: Allocation, layer: int, slot: int, option: Option) -> int:
    """Ticks on links of what a layer (or its share) on a slot sends and gets, its neighbours where they stand."""
    done, units = option.share

    def ticks(i: int, j: int, bits: int) -> int:
        links = () if i == j else problem.route[(i, j)]
        return sum(ticks_of_bits(bits, problem.links[k].bits_per_second, problem.ref_khz) for k in links)

    total = 0
    for f in problem.flows:
        if f.producer == layer:
            targets = {s.slot for c in f.consumers for s in allocation[c]} | ({HOST_SLOT} if f.to_host else set())
            total += sum(ticks(slot, j, f.bits * done // units) for j in sorted(targets))
        elif layer in f.consumers:
            if f.producer == HOST_SLOT:
                total += ticks(HOST_SLOT, slot, f.bits)
            else:
                makers = [s for s in allocation[f.producer] if s.option.role != "partial"]
                whole = sum(s.units for s in makers) or 1
                total += sum(ticks(s.slot, slot, f.bits * s.units // whole) for s in makers)
    return total


def _now(shares: tuple[Share, ...]) -> set[tuple[int, str, int]]:
    """The choices of a layer as it stands."""
    return {(s.slot, s.split, s.units) for s in shares}
