"""Exact by elimination: node after node, its best strategy for every choice of its neighbours (min-sum, Bertelè and
Brioschi 1972; on a chain this is Viterbi's recurrence).

Needs a Pairwise; guarantees the least cost and a choice that has it, or None where a table would be larger than
allowed. A residual network takes tables of two or three neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from math import prod

import numpy as np

from compiler.partition.pairwise.problem import FORBIDDEN, Costs, Pairwise

Scope = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """Nodes in the order in which they are eliminated, what each then meets, and nodes that no table could hold."""

    steps: tuple[tuple[int, Scope], ...]
    left: tuple[int, ...]

    @property
    def width(self) -> int:
        """The most neighbours that a node has when it is eliminated."""
        return max((len(scope) for _, scope in self.steps), default=0)


def order_of(
    sizes: Sequence[int], edges: Collection[tuple[int, int]], largest: int, degree: int | None = None
) -> Order:
    """The node with the smallest table first. largest: entries of a table; degree: neighbours at most (None: any)."""
    near: list[set[int]] = [set() for _ in sizes]
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)

    def size(v: int) -> int:
        return prod(sizes[w] for w in near[v])

    heap = [(size(v), v) for v in range(len(sizes))]
    heapify(heap)
    steps: list[tuple[int, Scope]] = []
    gone = [False] * len(sizes)
    while heap:
        entries, v = heappop(heap)
        if gone[v] or entries != size(v) or entries > largest or (degree is not None and len(near[v]) > degree):
            continue  # gone, or entered again when its neighbours changed
        gone[v] = True
        around = near[v]
        steps.append((v, tuple(sorted(around))))
        for w in around:
            near[w] |= around
            near[w] -= {v, w}
        for w in around:
            heappush(heap, (size(w), w))
    return Order(tuple(steps), tuple(v for v in range(len(sizes)) if not gone[v]))


@dataclass(slots=True)
class Eliminated:
    """What elimination left: the cost so far, tables over the nodes that remain, and how to choose for the others."""

    constant: int
    tables: dict[Scope, Costs]
    best: list[tuple[int, Scope, Costs]]

    def extend(self, chosen: dict[int, int]) -> dict[int, int]:
        """The best strategies of the eliminated nodes for these of the others."""
        for v, scope, arg in reversed(self.best):
            chosen[v] = int(arg[tuple(chosen[w] for w in scope)])
        return chosen


def eliminate(problem: Pairwise, order: Order, fixed: Mapping[int, int] | None = None) -> Eliminated:
    """Carries the order out. fixed: nodes whose strategy is given; they are in no step of the order."""
    kept = dict(fixed or {})
    tables: dict[int, tuple[Scope, Costs]] = {}
    of: dict[int, set[int]] = {}
    constant, numbers = 0, count()

    def add(scope: Scope, table: Costs) -> None:
        nonlocal constant
        free = tuple(v for v in scope if v not in kept)
        if len(free) < len(scope):
            table = table[tuple(kept.get(v, slice(None)) for v in scope)]
        if not free:
            constant += int(table)
            return
        serial = next(numbers)
        tables[serial] = (free, table)
        for v in free:
            of.setdefault(v, set()).add(serial)

    for v, c in enumerate(problem.costs):
        add((v,), c)
    for e in problem.edges:
        add((e.a, e.b), e.cost)
    best: list[tuple[int, Scope, Costs]] = []
    for v, scope in order.steps:
        mine = sorted(of.pop(v, ()))
        spread = []
        for serial in mine:
            where, table = tables.pop(serial)
            for w in where:
                if w != v:
                    of[w].discard(serial)
            spread.append(_spread(where, table, v, scope))
        least, arg = _least(spread, tuple(problem.costs[w].size for w in scope), problem.costs[v].size)
        best.append((v, scope, arg))
        add(scope, least)
    joined: dict[Scope, Costs] = {}
    for where, table in tables.values():
        joined[where] = np.minimum(joined[where] + table, FORBIDDEN) if where in joined else table
    return Eliminated(min(constant, FORBIDDEN), joined, best)


def _spread(where: Scope, table: Costs, v: int, scope: Scope) -> Costs:
    """The table with the strategies of v first and one axis a node of the scope, of length 1 where it says nothing."""
    axes = (v, *scope)
    turned = np.transpose(table, sorted(range(len(where)), key=lambda k: axes.index(where[k])))
    held = iter(turned.shape)
    return turned.reshape([next(held) if w in where else 1 for w in axes])


def _least(tables: Sequence[Costs], shape: tuple[int, ...], own: int) -> tuple[Costs, Costs]:
    """Element by element the least sum over the own strategies, and which it is: (values, indices)."""
    least = np.full(shape, 2 * FORBIDDEN, np.int64)
    arg = np.zeros(shape, np.int16 if own < 1 << 15 else np.int64)
    for s in range(own):
        total = np.zeros(shape, np.int64)
        for t in tables:
            total += t[s]
        better = total < least
        np.copyto(least, total, where=better)
        arg[better] = s
    return np.minimum(least, FORBIDDEN), arg


def exact(problem: Pairwise, largest: int) -> tuple[tuple[int, ...], int, int] | None:
    """(a best choice, its cost, neighbours at most), or None where a table would have more than `largest` entries."""
    order = order_of([c.size for c in problem.costs], [(e.a, e.b) for e in problem.edges], largest)
    if order.left:
        return None
    done = eliminate(problem, order)
    chosen = done.extend({})
    return tuple(chosen[v] for v in range(len(problem.costs))), done.constant, order.width
