"""Which way a problem is solved: elimination where its tables are small, else bound, improvement, programmes.

Guarantees an Answer whose bound is proven, the same for the same problem and effort.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.partition.pairwise.ascent import ascend, read_off
from compiler.partition.pairwise.eliminate import Eliminated, Order, eliminate, exact, order_of
from compiler.partition.pairwise.improve import improve
from compiler.partition.pairwise.integer import programme
from compiler.partition.pairwise.problem import FORBIDDEN, Answer, Costs, Pairwise
from compiler.partition.pairwise.relaxed import relaxed

ASCENT = "dual ascent, a certificate in integers"
LINEAR = "duals of the edge marginals (GLOP), a certificate in integers"
STARTS = 2  # choices that are improved


@dataclass(frozen=True, slots=True)
class Effort:
    """table: entries of the largest table of elimination. sweeps, rounds: of the dual ascent and of improvement.
    seconds: deterministic ones of each programme, linear and integer. pairs: variables of edges that they may have."""

    table: int = 1 << 21
    sweeps: int = 150
    rounds: int = 8
    seconds: float = 8.0
    pairs: int = 150_000
    seed: int = 0
    workers: int = 1


def solve(problem: Pairwise, effort: Effort | None = None) -> Answer:
    """The best choice found, and what it is proven to be worth."""
    effort = effort or Effort()
    if not problem.costs:
        return Answer((), 0, 0, "nothing to choose")
    got = exact(problem, effort.table)
    if got is not None:
        chosen, value, width = got
        proof = f"elimination, tables of {width} neighbours"
        return Answer((), 0, FORBIDDEN, proof) if value >= FORBIDDEN else Answer(chosen, value, value, proof)
    return knotted(problem, effort)


def knotted(problem: Pairwise, effort: Effort) -> Answer:
    """Where elimination would need larger tables: it takes what has two neighbours or fewer (which leaves lists and
    matrices), the rest is bounded, improved and given to the programmes."""
    order = order_of([c.size for c in problem.costs], [(e.a, e.b) for e in problem.edges], effort.table, degree=2)
    if not order.left:
        order = Order((), tuple(range(len(problem.costs))))
    part = eliminate(problem, order)
    core = core_of(problem, part, order.left)
    inner = _core(core, effort)
    bound = min(FORBIDDEN, part.constant + inner.bound)
    if not inner.chosen:
        return Answer((), 0, bound, inner.proved_by)
    found = part.extend(dict(zip(order.left, inner.chosen, strict=True)))
    chosen = tuple(found[v] for v in range(len(problem.costs)))
    value = problem.value(chosen)
    if value >= FORBIDDEN:  # what was taken out before may have no choice that is allowed, whatever is left
        return Answer((), 0, bound, inner.proved_by)
    return Answer(chosen, value, bound, inner.proved_by)


def core_of(problem: Pairwise, part: Eliminated, left: tuple[int, ...]) -> Pairwise:
    """What is left as a problem of its own, nodes numbered anew."""
    number = {v: k for k, v in enumerate(left)}
    own = [np.zeros(problem.costs[v].size, np.int64) for v in left]
    edges: list[tuple[int, int, Costs]] = []
    for scope, table in part.tables.items():
        if len(scope) == 1:
            own[number[scope[0]]] = np.minimum(own[number[scope[0]]] + table, FORBIDDEN)
        else:
            edges.append((number[scope[0]], number[scope[1]], table))
    return Pairwise.of(own, edges)


def _core(core: Pairwise, effort: Effort) -> Answer:
    """Bound and choices by dual ascent, the best ones improved, then the programmes on what may still cost less."""
    certificate, found = ascend(core, effort.sweeps)
    bound, proof = max(0, certificate.bound), ASCENT
    best = min(found, key=core.value)
    if bound < core.value(best) and bound < FORBIDDEN:
        starts = sorted(found, key=core.value)[:STARTS]
        better = [improve(core, c, effort.table >> 3, effort.rounds, effort.seed) for c in starts]
        best = min(better, key=core.value)
    value = min(core.value(best), FORBIDDEN)
    open_to = certificate.open(value - 1)
    for way in (_linear, _integer):
        if bound >= value or not all(open_to):
            break
        if sum(len(open_to[e.a]) * len(open_to[e.b]) for e in core.edges) > effort.pairs:
            break
        # Restricted to strategies that may cost less: a bound of the rest bounds all that does.
        part = restricted(core, open_to)
        got, still = way(part, effort, value)
        if got.chosen and got.objective < value:
            value, best = got.objective, tuple(own[s] for own, s in zip(open_to, got.chosen, strict=True))
        if min(got.bound, value) > bound:
            bound, proof = min(got.bound, value), got.proved_by
        open_to = [[own[s] for s in kept] for own, kept in zip(open_to, still, strict=True)]
    if not all(open_to):
        bound = value
    if bound >= value:
        return Answer(best, value, value, proof) if value < FORBIDDEN else Answer((), 0, FORBIDDEN, proof)
    return Answer(best, value, bound, proof) if value < FORBIDDEN else Answer((), 0, bound, proof)


def restricted(problem: Pairwise, open_to: Sequence[Sequence[int]]) -> Pairwise:
    """The problem with these strategies only."""
    costs = [c[list(own)] for c, own in zip(problem.costs, open_to, strict=True)]
    return Pairwise.of(costs, [(e.a, e.b, e.cost[np.ix_(open_to[e.a], open_to[e.b])]) for e in problem.edges])


def _linear(part: Pairwise, effort: Effort, value: int) -> tuple[Answer, list[list[int]]]:
    """(bound and a choice read off the duals, strategies that may still cost less than `value`)."""
    certificate = relaxed(part, effort.seconds)
    if certificate is None:
        return Answer((), 0, 0, LINEAR), [list(range(c.size)) for c in part.costs]
    chosen = improve(part, read_off(certificate, range(len(part.costs))), effort.table >> 3, 1, effort.seed)
    least = part.value(chosen)
    answer = Answer(chosen, least, max(0, certificate.bound), LINEAR)
    return answer, certificate.open(min(value, least) - 1)


def _integer(part: Pairwise, effort: Effort, value: int) -> tuple[Answer, list[list[int]]]:
    everything = [list(range(c.size)) for c in part.costs]
    return programme(part, effort.seconds, effort.seed, effort.workers), everything
