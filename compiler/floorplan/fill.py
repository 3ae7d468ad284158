"""Filling a walk: each step takes kernels as far as its slot holds; of a slot's visits one is fat, the rest thin.

Needs a FixedCase, its backbone and a walk; guarantees nothing but speed: the starts it proposes are solved exactly by
WalkModel before they are believed. Kernels off the backbone ride with the backbone kernel they come after.
"""

from __future__ import annotations

from itertools import islice, product

from compiler.floorplan.budget import Clock
from compiler.floorplan.fit import Fit, Runs
from compiler.floorplan.problem import FixedCase
from compiler.floorplan.walk_model import Spine

THIN = 1  # kernels that a thin visit takes
MIXES = 16  # choices of fat visits that are tried for a walk
BACK = 6  # kernels that a step may end short of the farthest, for a cut that its connection carries


class Filler:
    """Proposes the first kernel of every step of a walk."""

    def __init__(self, case: FixedCase, spine: Spine, clock: Clock) -> None:
        self.case, self.spine = case, spine
        self.n = len(spine.kernels)
        self.fit = Fit(case, _groups(case, spine), clock)

    def fill(self, walk: tuple[int, ...]) -> list[int] | None:
        """Starts of the steps, or None where no mix of fat and thin visits reaches the last kernel."""
        visits: dict[int, list[int]] = {}
        for j, s in enumerate(walk):
            visits.setdefault(s, []).append(j)
        for fat in islice(product(*visits.values()), MIXES):
            starts = self._run(walk, frozenset(fat))
            if starts is not None:
                return starts
        return None

    def along(self, walk: tuple[int, ...], late: bool, percent: int) -> tuple[tuple[int, ...], list[int]] | None:
        """As much of a walk as the kernels need, and the starts of its steps; None where they need more. late: a slot
        is filled on its last visit, else on its first, so far that so many percent of what fits stand there."""
        inside: dict[int, Runs] = {}
        starts: list[int] = []
        i = 0
        for j, s in enumerate(walk):
            runs = inside.get(s, ())
            fat = s not in (walk[j + 1 :] if late else walk[:j])
            end = min(i + THIN, self.n)
            if fat:
                end = max(end, i + (self.fit.farthest_beside(frozenset({s}), runs, i) - i) * percent // 100)
            starts.append(i)
            if not self.fit.fits(frozenset({s}), *runs, (i, end)):
                return None
            inside[s] = (*runs, (i, end))
            i = end
            if i == self.n:
                return walk[: j + 1], starts
        return None

    def _run(self, walk: tuple[int, ...], fat: frozenset[int]) -> list[int] | None:
        inside: dict[int, Runs] = {}
        starts, i, last = [], 0, len(walk) - 1
        for j, s in enumerate(walk):
            runs = inside.get(s, ())
            top = self.n - (last - j)
            if j in fat:
                end = min(self.fit.farthest_beside(frozenset({s}), runs, i), top)
            else:
                end = min(i + THIN, top)
                if not self.fit.fits(frozenset({s}), *runs, (i, end)):
                    return None
            if j < last:
                short = end - BACK if j in fat else i
                while end > max(i, short) and not self._cut(end - 1, s, walk[j + 1]):
                    end -= 1
                if end <= max(i, short):
                    return None
            if end <= i:
                return None
            starts.append(i)
            inside[s] = (*runs, (i, end))
            i = end
        return starts if i == self.n else None

    def _cut(self, edge: int, a: int, b: int) -> bool:
        """Whether the connection carries this edge of the backbone."""
        c, e = self.case.link[a, b], self.case.edges[self.spine.edges[edge]]
        return (c.max_wires is None or e.wires <= c.max_wires) and (c.max_bps is None or e.bps <= c.max_bps)


def _groups(case: FixedCase, spine: Spine) -> list[tuple[int, ...]]:
    """Each backbone kernel with the others that come after it (or, failing that, before it)."""
    home = {v: i for i, v in enumerate(spine.kernels)}
    changed = True
    while changed:
        changed = False
        for e in case.edges:
            for a, b in ((e.src, e.dst), (e.dst, e.src)):
                if a in home and b not in home:
                    home[b] = home[a]
                    changed = True
    groups: list[list[int]] = [[] for _ in spine.kernels]
    for v in case.nodes:
        groups[home.get(v, 0)].append(v)
    return [tuple(g) for g in groups]
