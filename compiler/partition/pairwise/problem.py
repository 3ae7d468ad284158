"""The problem and its answer as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FORBIDDEN = 1 << 44  # a cost that no answer pays; the sum of all others must stay below it

Costs = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """cost[s, t]: what strategies s of node a and t of node b cost together."""

    a: int
    b: int
    cost: Costs


@dataclass(frozen=True, slots=True, eq=False)
class Pairwise:
    """costs[v]: a whole number, not negative, for each strategy of node v; FORBIDDEN for one that must not be."""

    costs: tuple[Costs, ...]
    edges: tuple[Edge, ...]

    @classmethod
    def of(cls, costs: Sequence[Costs], edges: Sequence[tuple[int, int, Costs]]) -> Pairwise:
        """Edges in any direction and number, loops too, brought to at most one between two nodes, a < b.

        ValueError: a node without strategies, a matrix of another shape, a negative cost, or finite costs too large.
        """
        own = [np.minimum(np.asarray(c, np.int64), FORBIDDEN) for c in costs]
        merged: dict[tuple[int, int], Costs] = {}
        for v, c in enumerate(own):
            if c.ndim != 1 or not c.size:
                raise ValueError(f"node {v} has no list of strategies")
        for a, b, cost in edges:
            table = np.minimum(np.asarray(cost, np.int64), FORBIDDEN)
            if table.shape != (own[a].size, own[b].size):
                raise ValueError(f"edge {a}-{b}: {table.shape} costs for {own[a].size} x {own[b].size} strategies")
            if a == b:
                own[a] = np.minimum(own[a] + np.diagonal(table), FORBIDDEN)
                continue
            key, table = ((a, b), table) if a < b else ((b, a), table.T)
            merged[key] = np.minimum(merged[key] + table, FORBIDDEN) if key in merged else table
        tables = [*own, *merged.values()]
        if any(int(t.min()) < 0 for t in tables):
            raise ValueError("costs must not be negative")
        if sum(int(t[t < FORBIDDEN].max(initial=0)) for t in tables) >= FORBIDDEN:
            raise ValueError("costs are too large")
        return cls(tuple(own), tuple(Edge(a, b, np.ascontiguousarray(t)) for (a, b), t in sorted(merged.items())))

    def value(self, chosen: Sequence[int]) -> int:
        """The cost of one strategy a node."""
        own = sum(int(c[s]) for c, s in zip(self.costs, chosen, strict=True))
        return own + sum(int(e.cost[chosen[e.a], chosen[e.b]]) for e in self.edges)


@dataclass(frozen=True, slots=True)
class Answer:
    """chosen: a strategy a node (empty: none is allowed, or none was found). bound: no choice costs less."""

    chosen: tuple[int, ...]
    objective: int
    bound: int
    proved_by: str

    @property
    def status(self) -> str:
        """OPTIMAL, FEASIBLE, INFEASIBLE (proven), UNKNOWN."""
        if self.chosen:
            return "OPTIMAL" if self.bound >= self.objective else "FEASIBLE"
        return "INFEASIBLE" if self.bound >= FORBIDDEN else "UNKNOWN"

    @property
    def gap(self) -> float:
        """(objective − bound) / objective."""
        return (self.objective - self.bound) / self.objective if self.chosen and self.objective else 0.0
