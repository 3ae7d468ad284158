"""A lower bound in integers where tables would be too large, and choices read off it.

Needs a Pairwise; guarantees a certificate: the costs moved between nodes and edges so that every choice costs what it
did before (a reparametrisation, the dual of the edge marginals' linear programme). Whatever was moved, the least costs
of all nodes and edges together are a bound. Sweeps in both directions move them block by block, as sequential message
passing does (Kolmogorov 2006); on a chain one sweep is Viterbi's recurrence and the bound exact but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.partition.pairwise.problem import Costs, Edge, Pairwise

FINE = 64  # costs are multiplied by this, so that shares of them stay whole
PATIENCE = 8  # sweeps over which the bound must have risen by a GAIN-th
GAIN = 20_000


@dataclass(slots=True)
class Certificate:
    """The same costs, moved, times FINE: own[v] of nodes, pair[e] of edges."""

    problem: Pairwise
    own: list[Costs]
    pair: list[Costs]

    @classmethod
    def of(cls, problem: Pairwise) -> Certificate:
        """Nothing moved yet."""
        return cls(problem, [c * FINE for c in problem.costs], [e.cost * FINE for e in problem.edges])

    @property
    def fine(self) -> int:
        """The bound times FINE."""
        return sum(int(t.min()) for t in self.own) + sum(int(t.min()) for t in self.pair)

    @property
    def bound(self) -> int:
        """No choice costs less."""
        return -(-self.fine // FINE)

    def open(self, limit: int) -> list[list[int]]:
        """By node: the strategies that a choice of cost `limit` or less may have."""
        room = limit * FINE - self.fine
        out: list[list[int]] = []
        least = [t - t.min() for t in self.own]
        for e, t in zip(self.problem.edges, self.pair, strict=True):
            spare = t - t.min()
            least[e.a] = least[e.a] + spare.min(axis=1)
            least[e.b] = least[e.b] + spare.min(axis=0)
        for t in least:
            out.append([int(s) for s in np.flatnonzero(t <= room)])
        return out


@dataclass(slots=True)
class Sweeps:
    """The edges of each node before and behind it in an order, and passes along it."""

    certificate: Certificate
    order: list[int]
    before: list[list[int]]
    behind: list[list[int]]

    @classmethod
    def of(cls, certificate: Certificate) -> Sweeps:
        """In the order of the nodes, which are layers in topological order."""
        count = len(certificate.own)
        before: list[list[int]] = [[] for _ in range(count)]
        behind: list[list[int]] = [[] for _ in range(count)]
        for k, e in enumerate(certificate.problem.edges):
            behind[e.a].append(k)
            before[e.b].append(k)
        return cls(certificate, list(range(count)), before, behind)

    def forward(self) -> None:
        self._pass(self.order, self.before, self.behind)

    def backward(self) -> None:
        self._pass(self.order[::-1], self.behind, self.before)

    def _pass(self, order: list[int], come: list[list[int]], go: list[list[int]]) -> None:
        """Every node hands what it costs to the edges ahead, and these to the nodes at their other ends."""
        c, edges = self.certificate, self.certificate.problem.edges
        for v in order:
            ahead = go[v]
            if not ahead:
                continue
            parts = max(len(ahead), len(come[v]))
            share = c.own[v] // parts
            for k in ahead:
                given = share
                if parts == len(ahead) and k == ahead[-1]:
                    given = c.own[v] - share * (parts - 1)
                self._move(k, edges[k], v, given)
            c.own[v] = np.zeros_like(share) if parts == len(ahead) else c.own[v] - share * len(ahead)

    def _move(self, k: int, e: Edge, v: int, given: Costs) -> None:
        """To the edge from its end v, and from it to the other end all that no strategy of v can save."""
        c = self.certificate
        if v == e.a:
            table = c.pair[k] + given[:, None]
            least = table.min(axis=0)
            table -= least[None, :]
            c.own[e.b] = c.own[e.b] + least
        else:
            table = c.pair[k] + given[None, :]
            least = table.min(axis=1)
            table -= least[:, None]
            c.own[e.a] = c.own[e.a] + least
        c.pair[k] = table


def ascend(problem: Pairwise, sweeps: int) -> tuple[Certificate, list[tuple[int, ...]]]:
    """(the best certificate, choices read off it on the way); `sweeps`: passes there and back at most."""
    c = Certificate.of(problem)
    moves = Sweeps.of(c)
    bounds = [c.fine]
    found: list[tuple[int, ...]] = []
    for turn in range(sweeps):
        moves.forward()
        found.append(read_off(c, range(len(c.own))))
        moves.backward()
        bounds.append(c.fine)
        found.append(read_off(c, range(len(c.own))))
        if turn >= PATIENCE and bounds[-1] - bounds[-1 - PATIENCE] <= abs(bounds[-1]) // GAIN:
            break
    return c, list(dict.fromkeys(found))


def read_off(c: Certificate, order: range) -> tuple[int, ...]:
    """Node after node the strategy that costs least beside those already chosen."""
    chosen: dict[int, int] = {}
    near: list[list[tuple[int, Costs]]] = [[] for _ in c.own]
    for e, t in zip(c.problem.edges, c.pair, strict=True):
        near[e.b].append((e.a, t))
    for v in order:
        total = c.own[v].copy()
        for w, t in near[v]:
            total += t[chosen[w]]
        chosen[v] = int(total.argmin())
    return tuple(chosen[v] for v in range(len(c.own)))
