"""What every placement costs at least, where the slots form a tree: from how many slots the kernels take.

Needs a FixedCase; `least` is proved. Connected kernels that stand on slots S cross every tree edge inside the subtree
that S spans: an edge of the backbone's way from its first to its last slot once, others twice (the backbone comes back;
what is off it hangs on two edges, or this is not counted). So a network on a subtree costs at least twice its edges
less that way. A table of the least cost by numbers of slots of each kind, slots alike in budget and capacity, is made
for every network and added up over the networks, which may share slots; the cheapest numbers that hold all kernels are
the bound. Merged slots hold more than slots do, so this relaxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from compiler.floorplan.budget import Clock
from compiler.floorplan.fit import Fit
from compiler.floorplan.improve import components
from compiler.floorplan.problem import FixedCase
from compiler.floorplan.tree import SlotTree, backbone, slot_tree

Counts = tuple[int, ...]  # slots by kind
Table = dict[Counts, int]  # the least cost of a subtree with so many slots
MOST_STATES = 6000  # of a table; kinds are taken as one where there would be more
STATE_SECONDS = 2e-6  # deterministic price of joining two entries
NONE = 1 << 60


def least(case: FixedCase, clock: Clock, kernels: Sequence[int] | None = None) -> int:
    """A cost below which there is no placement, or none of these kernels alone, which edges must join; 0 where nothing
    is known."""
    if kernels is not None:
        case = part_of(case, sorted(kernels))
    tree = slot_tree(case)
    if tree is None or not case.edges:
        return 0
    kind = _kinds(case)
    total = _totals(kind)
    if prod(t + 1 for t in total) > MOST_STATES:
        case = _alike(case)
        kind = [0] * len(kind)
        total = _totals(kind)
    free = replace(case, allowed=tuple(frozenset(case.slots) for _ in case.nodes))
    joined: Table = {tuple(0 for _ in total): 0}
    for own in components(case):
        holds = _Holds(free, own, kind, clock)
        table = {c: cost for c, cost in _network(case, own, tree, kind, len(total), clock).items() if cost < NONE}
        kept = {c: cost for c, cost in table.items() if holds.fit(c)}
        joined = _added(joined, kept, total, clock)
    every = _Holds(free, list(case.nodes), kind, clock)
    for cost, counts in sorted((cost, c) for c, cost in joined.items()):
        if every.fit(counts):
            return cost
    return 0


class _Holds:
    """Whether kernels fit so many slots of each kind taken as one."""

    def __init__(self, case: FixedCase, kernels: list[int], kind: list[int], clock: Clock) -> None:
        self.test = Fit(case, [tuple(kernels)], clock)
        self.slots = [[s for s in case.slots if kind[s] == k] for k in range(max(kind) + 1)]

    def fit(self, counts: Counts) -> bool:
        chosen = [s for own, c in zip(self.slots, counts, strict=True) for s in own[:c]]
        return bool(chosen) and self.test.fits(frozenset(chosen), (0, 1))


def _kinds(case: FixedCase) -> list[int]:
    """A number for what a slot offers; by slot."""
    known: dict[object, int] = {}
    return [known.setdefault((case.budget[s], case.capacity[s]), len(known)) for s in case.slots]


def _totals(kind: list[int]) -> Counts:
    return tuple(kind.count(k) for k in range(max(kind) + 1))


def _alike(case: FixedCase) -> FixedCase:
    """The case with slots that all offer the most that any does."""
    budget = tuple(map(max, zip(*case.budget, strict=True)))
    capacity = tuple(map(max, zip(*case.capacity, strict=True)))
    return replace(case, budget=tuple(budget for _ in case.slots), capacity=tuple(capacity for _ in case.slots))


def _added(a: Table, b: Table, most: Counts, clock: Clock) -> Table:
    """Two networks beside each other: slots add up, as far as there are any."""
    out: Table = {}
    clock.charge(STATE_SECONDS * len(a) * len(b))
    for x, p in a.items():
        for y, q in b.items():
            key = tuple(min(i + j, m) for i, j, m in zip(x, y, most, strict=True))
            if p + q < out.get(key, NONE):
                out[key] = p + q
    return out


def _network(case: FixedCase, own: list[int], tree: SlotTree, kind: list[int], kinds: int, clock: Clock) -> Table:
    """The least cost of a connected network on subtrees, by numbers of slots.

    By state of the backbone's ends: bit 0 its first kernel, bit 1 its last one stands in the part of the subtree below.
    """
    line = _line(case, own)
    twice = not _hanging(case, own, line)
    starts = case.allowed[line[0]] if line and twice else frozenset(case.slots)
    ends = case.allowed[line[-1]] if line and twice else frozenset(case.slots)
    below: dict[int, dict[tuple[Counts, int], int]] = {}
    out: Table = {}
    for v in reversed(tree.order):
        unit = tuple(int(kind[v] == k) for k in range(kinds))
        table = {(unit, 0): 0}
        if v in starts:
            table[unit, 1] = 0
        if v in ends:
            table[unit, 2] = 0
        if v in starts and v in ends:
            table[unit, 3] = 0
        for t in tree.children[v]:
            weight = _weight(case, v, t)
            if weight is None:
                continue
            more = dict(table)
            clock.charge(STATE_SECONDS * len(table) * len(below[t]))
            for (c, held), cost in table.items():
                for (d, state), cost_below in below[t].items():
                    if held & state:
                        continue
                    times = 2 if twice and state in (0, 3) else 1
                    key = (tuple(map(int.__add__, c, d)), held | state)
                    whole = cost + cost_below + times * weight
                    if whole < more.get(key, NONE):
                        more[key] = whole
            table = more
        below[v] = table
        for (c, state), cost in table.items():
            if state == 3 and cost < out.get(c, NONE):
                out[c] = cost
    return out


def _weight(case: FixedCase, a: int, b: int) -> int | None:
    """Of the cheaper direction; None where there is no connection."""
    found = [case.link[way].cost for way in ((a, b), (b, a)) if way in case.link]
    return min(found, default=None)


def part_of(case: FixedCase, kernels: Sequence[int]) -> FixedCase:
    """The case with these kernels alone, and the edges between them."""
    inside = {v: i for i, v in enumerate(kernels)}
    return replace(
        case,
        node_names=tuple(case.node_names[v] for v in kernels),
        versions=tuple(case.versions[v] for v in kernels),
        edges=tuple(
            replace(e, src=inside[e.src], dst=inside[e.dst]) for e in case.edges if e.src in inside and e.dst in inside
        ),
        allowed=tuple(case.allowed[v] for v in kernels),
        together=tuple(g for group in case.together if len(g := tuple(inside[v] for v in group if v in inside)) > 1),
    )


def _line(case: FixedCase, own: list[int]) -> list[int]:
    """The kernels of a longest path through a network; empty where it has a circle."""
    part = part_of(case, own)
    path = backbone(part)
    return [own[part.edges[path[0]].src], *(own[part.edges[i].dst] for i in path)] if path else []


def _hanging(case: FixedCase, own: list[int], line: list[int]) -> bool:
    """Whether some kernels off the line hang on a single edge, or by a shared slot."""
    if not line:
        return True
    trunk = set(line)
    if any(v in trunk and w not in trunk for g in case.together for v in g for w in g):
        return True
    off = [e for e in case.edges if e.src in own and e.src != e.dst and not {e.src, e.dst} <= trunk]
    for cut in range(len(off)):
        reached = set(trunk)
        grows = True
        while grows:
            grows = False
            for i, e in enumerate(off):
                if i != cut and (e.src in reached) != (e.dst in reached):
                    reached |= {e.src, e.dst}
                    grows = True
        if not reached >= set(own):
            return True
    return False
