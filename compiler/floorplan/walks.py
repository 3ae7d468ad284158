"""Walks of the backbone over the slots, by cost: refuted by merged capacity, or decided by a windowed CP-SAT each.

Needs a FixedCase with a backbone of kernels (a longest path of edges) and no free connection. Whatever the placement,
the backbone walks over the connections, one run of kernels a step, and the other edges only add cost; so trying walks
in order of cost meets the optimum, and every walk dearer than the best plan is refuted by its cost alone. For a walk,
what merged slots can hold gives each step's first kernel a window; an empty window refutes the walk, else WalkModel
decides. Edges off the backbone are counted where parity forces them across a bridge. Guarantees that `bound` is proved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from compiler.floorplan.budget import Clock
from compiler.floorplan.fill import Filler
from compiler.floorplan.fit import Fit
from compiler.floorplan.problem import FixedCase
from compiler.floorplan.reach import within
from compiler.floorplan.tours import tours
from compiler.floorplan.walk_model import Plan, Spine, WalkModel

SHORT_SECONDS = 0.4
LONG_SECONDS = (3.0, 30.0)
AGAIN = 4  # open walks of a level that get a longer solve before the next level
FIND_RESERVE = 0.5  # share of the time kept for proofs
SWAY = 2  # kernels by which a filled walk's steps may shift
TOUR_AFTER = 0.1  # of the time, walks by cost: then those that see every slot
TOUR_PERCENT = (100, 85, 70)
TOUR_SWAY = 10
TOUR_SECONDS = 2.0
FILLS = 500  # walks of one level that are filled one step after the other
STEP_SECONDS = 5e-5  # deterministic price of looking at one walk
MOST_POINTS = 20_000  # combinations of points at which the backbone crosses a bridge
LEAST_SHARE = 0.6  # of the kernels on the backbone, for walks to say much


@dataclass(frozen=True, slots=True)
class WalkResult:
    """plan is None without one; exhausted: every walk there is was refuted, so no plan exists."""

    cost: int | None
    bound: int
    plan: Plan | None
    exhausted: bool


@dataclass(slots=True)
class _Open:
    """A walk that no solve has decided, and the least that a plan on it may cost."""

    walk: tuple[int, ...]
    cost: int
    bound: int
    seconds: float = 0.0  # of the longest solve so far


def spine_of(case: FixedCase, path: list[int]) -> Spine | None:
    """The backbone along `path` (edge indices), or None where walks would not help."""
    kernels = (case.edges[path[0]].src, *(case.edges[i].dst for i in path)) if path else (0,)
    if len(kernels) < LEAST_SHARE * len(case.versions) or any(c.cost == 0 for c in case.connections):
        return None
    if not _connected(case):
        return None
    others = tuple(i for i in range(len(case.edges)) if i not in set(path))
    return Spine(kernels, tuple(path), others)


def _connected(case: FixedCase) -> bool:
    group = list(case.nodes)

    def root(v: int) -> int:
        while group[v] != v:
            group[v] = group[group[v]]
            v = group[v]
        return v

    for e in case.edges:
        group[root(e.src)] = root(e.dst)
    return len({root(v) for v in case.nodes}) == 1


def _promise(item: tuple[list[tuple[int, int]], tuple[int, ...]]) -> tuple[int, int]:
    """Sort key: few returns to a slot first, then wide windows; walks to and fro are legal but seldom worth while."""
    windows, walk = item
    return len(walk) - len(set(walk)), -sum(high - low for low, high in windows)


class Walks:
    """The search of one case."""

    def __init__(self, case: FixedCase, spine: Spine, clock: Clock, floor: int = 0) -> None:
        """floor: no walk of the backbone that all of it fits costs less."""
        self.case, self.spine, self.clock, self.floor = case, spine, clock, floor
        self.fit = Fit(case, [(v,) for v in spine.kernels], clock)
        self.whole = (
            self.fit if len(spine.kernels) == len(case.versions) else Fit(case, [(v,) for v in case.nodes], clock)
        )
        self.n = len(spine.kernels)
        self.steps = {s: sorted((c.cost, c.dst) for c in case.connections if c.src == s) for s in case.slots}
        self.near = {s: within(self.steps, s) for s in case.slots}
        self.beside = {
            s: within({t: [(1, x) for _, x in out] for t, out in self._both().items()}, s) for s in case.slots
        }
        self.filler = Filler(case, spine, clock)
        self.beyond = self._spanning()
        self.bridges = self._bridges()
        self.fewest: dict[tuple[tuple[int, int], ...], int] = {}
        self.next_cost: int | None = None
        self.best: int | None = None
        self.plan: Plan | None = None
        self.open: list[_Open] = []

    def _both(self) -> dict[int, list[tuple[int, int]]]:
        out: dict[int, list[tuple[int, int]]] = {s: [] for s in self.case.slots}
        for c in self.case.connections:
            out[c.src].append((c.cost, c.dst))
            out[c.dst].append((c.cost, c.src))
        return out

    def _spanning(self) -> list[int]:
        """[i]: the other edges, a bit each, that pass from before kernel i of the backbone to it or beyond, or back."""
        at = {v: i for i, v in enumerate(self.spine.kernels)}
        out = [0] * (self.n + 1)
        for bit, k in enumerate(self.spine.others):
            e = self.case.edges[k]
            if e.src in at and e.dst in at:
                low, high = sorted((at[e.src], at[e.dst]))
                for i in range(low + 1, high + 1):
                    out[i] |= 1 << bit
        return out

    def _bridges(self) -> dict[frozenset[int], int]:
        """Pairs of slots without any other way between their sides, and the least cost of an edge between them."""
        pairs: dict[frozenset[int], int] = {}
        for c in self.case.connections:
            key = frozenset((c.src, c.dst))
            pairs[key] = min(c.cost, pairs.get(key, c.cost))
        out = {}
        for key, cost in pairs.items():
            a, b = sorted(key)
            reached, todo = {a}, [a]
            while todo:
                s = todo.pop()
                for other in pairs:
                    if s in other and other != key:
                        todo += [t for t in other if t not in reached]
                        reached |= other
            if b not in reached:
                out[key] = cost
        return out

    def _least_others(self, walk: tuple[int, ...], windows: list[tuple[int, int]]) -> int:
        """What edges off the backbone cost at least: an edge that passes an odd number of the points where the backbone
        crosses a bridge has its ends on either side of it."""
        crossed: dict[frozenset[int], list[tuple[int, int]]] = {}
        for j in range(1, len(walk)):
            crossed.setdefault(frozenset(walk[j - 1 : j + 1]), []).append(windows[j])
        return sum(self.bridges[key] * self._fewest(tuple(at)) for key, at in crossed.items() if key in self.bridges)

    def _fewest(self, windows: tuple[tuple[int, int], ...]) -> int:
        """The fewest edges that pass an odd number of points, one point a window; 0 where that is too many to try."""
        if windows not in self.fewest:
            ranges = [sorted(set(self.beyond[low : high + 1])) for low, high in windows]
            if prod(len(r) for r in ranges) > MOST_POINTS:
                self.fewest[windows] = 0
            else:
                masks = {0}
                for r in ranges:
                    masks = {m ^ other for m in masks for other in r}
                self.fewest[windows] = min(m.bit_count() for m in masks)
        return self.fewest[windows]

    def solve(self, reserve: float = 0.0) -> WalkResult:
        """The cheapest plan; stops with what is proved when the clock has `reserve` left.

        First some plan by filling walks, which is quick; then every walk below that plan, level by level.
        """
        self._find(reserve + FIND_RESERVE * (self.clock.left - reserve))
        exhausted, reached = self._prove(reserve)
        for seconds in LONG_SECONDS:
            self._again(seconds, reserve)
        bounds = [o.bound for o in self.open]
        if self.best is None:
            return WalkResult(None, min([reached, *bounds]), None, exhausted and not self.open)
        return WalkResult(self.best, min([self.best, reached, *bounds]), self.plan, False)

    def _find(self, reserve: float) -> None:
        """A first plan: walks by cost, filled step after step; where that takes long, walks that see every slot."""
        tour = max(reserve, (1 - TOUR_AFTER) * self.clock.left)
        level: int | None = self.floor
        while level is not None and self.best is None and self.clock.left > reserve:
            if self.clock.left <= tour:
                tour = reserve
                self._tour(reserve)
                continue
            for walk in self._level(level, strict=True)[:FILLS]:
                if self._fill(walk, level) or self.clock.left <= reserve:
                    break
            level = self.next_cost

    def _tour(self, reserve: float) -> None:
        """A plan along a walk that sees every slot as far as it takes; steps may shift by a good part of a slot, as
        edges off the backbone have a say in where it can be cut."""
        starts = self.case.allowed[self.spine.kernels[0]]
        for percent in TOUR_PERCENT:
            for whole in tours(self.case, starts):
                for late in (True, False):
                    found = self.filler.along(whole, late, percent)
                    if found is None or self.clock.left <= reserve:
                        continue
                    walk, firsts = found
                    cost = sum(self.case.link[ends].cost for ends in pairwise(walk))
                    if self._near_to(walk, firsts, cost, TOUR_SWAY, TOUR_SECONDS):
                        return

    def _prove(self, reserve: float) -> tuple[bool, int]:
        """Looks at every walk below the best plan. Returns (no walk is left, a cost below which none is left)."""
        level: int | None = self.floor
        while level is not None and (self.best is None or level < self.best):
            for walk in self._level(level, strict=False):
                if self.clock.left <= reserve:
                    return False, level
                if self.best is None or level < self.best:
                    self._try(_Open(walk, level, level), SHORT_SECONDS)
            if self.clock.left <= reserve:
                return False, level
            dearer = self.next_cost
            self._again(LONG_SECONDS[0], reserve, AGAIN)  # dearer levels have more walks and less to say
            level = dearer
        return level is None, self.best if self.best is not None else 1 << 60

    def _level(self, cost: int, *, strict: bool) -> list[tuple[int, ...]]:
        """The walks of this cost that are not refuted, the most promising first; sets next_cost."""
        self.next_cost = None
        found = [(w, walk) for walk in self._walks(cost, strict) if (w := self._windows(walk)) is not None]
        return [walk for _, walk in sorted(found, key=_promise)]

    def _again(self, seconds: float, reserve: float, most: int | None = None) -> None:
        """Longer solves for the walks that are still open and might beat the best plan, at most so many of them."""
        waiting, self.open = sorted(self.open, key=lambda o: (o.seconds >= seconds, o.bound)), []
        for turn, o in enumerate(waiting):
            if self.best is not None and o.bound >= self.best:
                continue
            if self.clock.left <= reserve or o.seconds >= seconds or (most is not None and turn >= most):
                self.open.append(o)
            else:
                self._try(o, seconds)

    def _fill(self, walk: tuple[int, ...], level: int) -> bool:
        """Whether filling the steps one after the other gives a plan that costs no more than the walk."""
        starts = self.filler.fill(walk)
        if starts is None:
            return False
        self._near_to(walk, starts, level, SWAY, SHORT_SECONDS)
        return self.best == level

    def _near_to(self, walk: tuple[int, ...], starts: list[int], cost: int, sway: int, seconds: float) -> bool:
        """Whether there is a plan whose steps start within `sway` kernels of these; the best one is kept."""
        windows = [
            (max(j, c - sway), min(self.n - len(walk) + j, c + sway)) if j else (0, 0) for j, c in enumerate(starts)
        ]
        verdict = WalkModel(self.case, self.spine, walk, windows).solve(self.clock, seconds, None)
        if verdict.plan is not None and (self.best is None or cost + verdict.cost < self.best):
            self.best, self.plan = cost + verdict.cost, verdict.plan
        return verdict.plan is not None

    def _try(self, o: _Open, seconds: float) -> None:
        windows = self._windows(o.walk)
        if windows is None:
            return
        o.bound = max(o.bound, o.cost + self._least_others(o.walk, windows))
        if self.best is not None and o.bound >= self.best:
            return
        spare = None if self.best is None else self.best - 1 - o.cost
        linear = 1 if seconds <= SHORT_SECONDS else 2  # the second look is another one
        verdict = WalkModel(self.case, self.spine, o.walk, windows).solve(self.clock, seconds, spare, linear)
        if verdict.plan is not None and (self.best is None or o.cost + verdict.cost < self.best):
            self.best, self.plan = o.cost + verdict.cost, verdict.plan
        o.seconds = seconds
        if not verdict.decided:
            o.bound = max(o.bound, o.cost + verdict.bound)
            if self.best is None or o.bound < self.best:
                self.open.append(o)

    def _holds(self, slots: frozenset[int], cost: int, strict: bool) -> bool:
        """Whether the kernels may fit while the backbone stays on `slots`; off it, others cost what is left."""
        if not self.fit.fits(slots, (0, self.n)):
            return False
        if self.whole is self.fit:
            return True
        if not strict:
            spare = len(self.case.slots) if self.best is None else self.best - 1 - cost
            slots = frozenset(t for s in slots for t, d in self.beside[s].items() if d <= max(0, spare))
        return self.whole.fits(slots, (0, len(self.case.versions)))

    def _walks(self, cost: int, strict: bool) -> Iterator[tuple[int, ...]]:
        """Walks of exactly this cost that the merged capacities do not refute, depth first; sets next_cost."""

        def dearer(beyond: int) -> None:
            if self.next_cost is None or cost + beyond < self.next_cost:
                self.next_cost = cost + beyond

        def extend(walk: list[int], seen: frozenset[int], high: list[int], left: int) -> Iterator[tuple[int, ...]]:
            self.clock.charge(STEP_SECONDS)
            if self.clock.left <= 0 or (len(walk) >= self.n and left > 0):
                return
            hope = seen | {t for t, d in self.near[walk[-1]].items() if d <= left}
            if not self._holds(hope, cost, strict):
                farther = [d for d in self.near[walk[-1]].values() if d > left]
                if farther:
                    dearer(min(farther) - left)
                return
            if left == 0 and high[-1] >= self.n:
                yield tuple(walk)
            for c, t in self.steps[walk[-1]]:
                if c > left:
                    dearer(c - left)
                    continue
                reached = self._advance([*walk, t], high)
                if reached is not None:
                    yield from extend([*walk, t], seen | {t}, [*high, reached], left - c)

        for start in sorted(self.case.allowed[self.spine.kernels[0]]):
            first = self._advance([start], [0])
            if first is not None:
                yield from extend([start], frozenset({start}), [0, first], cost)

    def _advance(self, walk: list[int], high: list[int]) -> int | None:
        """Where the last step ends at the latest; None where that leaves too few kernels for the steps so far.

        high[j] is the latest first kernel of step j: from there on, what an earlier step of the same slot and all
        between hold together limits this one too.
        """
        j = len(walk) - 1
        reach = self.fit.farthest(frozenset({walk[j]}), high[j])
        for a in range(j - 1, -1, -1):
            if walk[a] == walk[j]:
                reach = min(reach, self.fit.farthest(frozenset(walk[a : j + 1]), high[a]))
        return reach if reach > j else None

    def _windows(self, walk: tuple[int, ...]) -> list[tuple[int, int]] | None:
        """First kernel of every step: (earliest, latest); None where some window is empty."""
        m, n, fit = len(walk), self.n, self.fit
        high = [0]
        for j in range(m):
            reach = self._advance(list(walk[: j + 1]), high)
            if reach is None:
                return None
            high.append(reach)
        low = [0] * m + [n]
        for j in range(m - 1, -1, -1):
            low[j] = fit.nearest(frozenset({walk[j]}), low[j + 1])
            for b in range(j + 1, m):
                if walk[b] == walk[j]:
                    low[j] = max(low[j], fit.nearest(frozenset(walk[j : b + 1]), low[b + 1]))
        if high[m] < n or low[0] > 0:
            return None
        for j in range(1, m):  # whatever comes before a step stands on slots seen before it, what comes after, after
            high[j] = min(high[j], fit.farthest(frozenset(walk[:j]), 0))
            low[j] = max(low[j], fit.nearest(frozenset(walk[j:]), n))
        windows = [(max(low[j], j), min(high[j], n - (m - j))) for j in range(m)]
        return None if any(low > high for low, high in windows) else windows
