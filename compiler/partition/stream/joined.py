"""The bound with what joins layers: options as words in and out, a converter wherever two that meet differ.

Needs a `place.Problem`; guarantees that an interval it refutes is one of no plan whose FIFOs have LEAST_DEPTH words.
All dies are one, streams to and from the host cost nothing. Resources are weighed by prices, whole numbers: whatever
they are, no plan takes less than the cheapest choice of options by these prices (exact, `compiler.partition.pairwise`),
so a cheapest choice that is dearer than all dies together refutes the interval. Prices follow what that choice
overloads. On several devices a reader may get a tensor in any word, so converters are not counted there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.isa.stream.table import DRAM
from compiler.ops.stream.joins import converted
from compiler.ops.stream.lower import Option, undominated
from compiler.ops.stream.parts import stream_inputs
from compiler.partition.pairwise.problem import FORBIDDEN, Costs, Pairwise
from compiler.partition.pairwise.solve import Effort, solve
from compiler.partition.stream.problem import TYPES, Problem, amounts

PROVED_BY = "prices on the merged die, width converters counted"
SCALE = 1 << 30  # what all dies together cost
ROUNDS = 16  # of prices
STEP = 2.0
EFFORT = Effort(table=1 << 18, seconds=0.5)

Words = tuple[tuple[int, ...], int]  # elements a word of every stream in, and of the result


def raised(p: Problem, bound_ps: int, plan_ps: int) -> int:
    """The highest interval up to `plan_ps` below which nothing fits, as far as this can tell; at least `bound_ps`."""
    if len(p.devices) > 1:
        return bound_ps
    cycle = p.cycle()
    values = sorted({o.cycles * cycle for own in p.every for o in own if bound_ps <= o.cycles * cycle < plan_ps})
    low, high = 0, len(values)  # below values[low] nothing fits; at values[high] something may
    while low < high:
        middle = high - 1 if high == len(values) else (low + high) // 2  # that the plan is the best is likely
        if Merged(p, values[middle]).refuted():
            low = middle + 1
        else:
            high = middle
    return max(bound_ps, [*values, plan_ps][low]) if low else bound_ps


@dataclass(frozen=True, slots=True)
class Reading:
    """What options read from DRAM in an interval, as one more resource: what all banks give, and options' shares of it
    by layer and memory style."""

    room: int
    least: Sequence[int]  # of a layer, if its weights stand in DRAM

    def of(self, k: int, option: Option) -> int:
        return self.least[k] if option.fold.memory == DRAM else 0


class Merged:
    """All layers on one die at an interval: words by layer, amounts of the options by words, converters by stream."""

    def __init__(self, p: Problem, t_ps: int, reading: Reading | None = None) -> None:
        self.total = [sum(b[r] for b in p.budgets) for r in range(len(TYPES))]
        if reading is not None:
            self.total.append(reading.room)
        self.words: list[list[Words]] = []
        self.amounts: list[list[Costs]] = []  # layer, words: (option, type)
        for k, options in enumerate(p.every):
            own: dict[Words, list[Option]] = {}
            for o in options:
                if o.cycles * p.cycle() <= t_ps:
                    own.setdefault((o.reads, o.gives.pe), []).append(o)
            self.words.append(list(own))
            self.amounts.append([np.array(_rows(few, k, reading), np.int64) for few in own.values()])
        self.streams: list[tuple[int, int, Costs]] = []  # maker, reader, amounts by their words
        number = {n.y: k for k, n in enumerate(p.graph.nodes)}
        gives = [{o.gives.pe: o.gives for o in options} for options in p.every]
        for k, n in enumerate(p.nodes):
            for port, tensor in enumerate(stream_inputs(p.graph, n)):
                if tensor in number:
                    maker = k - k % len(number) + number[tensor]  # of the same copy
                    table = np.zeros((len(self.words[maker]), len(self.words[k]), len(self.total)), np.int64)
                    known: dict[tuple[int, int], tuple[int, ...]] = {}
                    for i, (_, have) in enumerate(self.words[maker]):
                        for j, (reads, _) in enumerate(self.words[k]):
                            key = (have, reads[port])
                            if key not in known:
                                more = converted(gives[maker][have], reads[port], p.dies[0].family)
                                known[key] = tuple(getattr(more, t) for t in TYPES)
                            table[i, j, : len(TYPES)] = known[key]
                    self.streams.append((maker, k, table))

    def refuted(self) -> bool:
        """Whether it is proved that no choice of options fits."""
        if not all(self.words):
            return True
        share = np.full(len(self.total), 1 / len(self.total))
        for _ in range(ROUNDS):
            prices = np.array([int(s * SCALE) // max(1, t) for s, t in zip(share, self.total, strict=True)], np.int64)
            bound, use = self._cheapest(prices)
            if bound > sum(int(a) * t for a, t in zip(prices, self.total, strict=True)):
                return True
            load = use / np.maximum(self.total, 1)
            if (load <= 1).all():
                return False
            share = share * np.exp(STEP * (load - load.max()))
            share = np.maximum(share / share.sum(), 1e-6)
        return False

    def _cheapest(self, prices: Costs) -> tuple[int, Costs]:
        """The least cost by these prices, proved, and what the choice that was found takes."""
        costs, taken = [], []
        for own in self.amounts:
            best = [a[(a @ prices).argmin()] for a in own]
            taken.append(np.array(best))
            costs.append(np.minimum(np.array([int(a @ prices) for a in best], np.int64), FORBIDDEN))
        problem = Pairwise.of(costs, [(a, b, table @ prices) for a, b, table in self.streams])
        answer = solve(problem, EFFORT)
        use = np.zeros(len(self.total), np.int64)
        if answer.chosen:
            use = sum((taken[k][w] for k, w in enumerate(answer.chosen)), use)
            use = sum((table[answer.chosen[a], answer.chosen[b]] for a, b, table in self.streams), use)
        return answer.bound, use


def _rows(options: Sequence[Option], k: int, reading: Reading | None) -> list[tuple[int, ...]]:
    """Amounts of the options of a layer that none beats; of those that read and those that do not, each."""
    if reading is None:
        return [amounts(o) for o in undominated(options)]
    kinds = [[o for o in options if (reading.of(k, o) > 0) == reads] for reads in (False, True)]
    return [(*amounts(o), reading.of(k, o)) for own in kinds for o in undominated(own)]
