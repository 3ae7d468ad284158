"""What both sides of a split would take, cheaply: which run of layers could stream on which dies, and at what interval.

Needs every layer's streaming options and its time on tiled engines; gives for each run of neighbouring dies the run of
layers with which the slower side is quickest. An estimate: the streaming side is taken as one die that is filled to a
share, options are chosen by prices of resources (a grid of them, the best counts), the tiled side as evenly loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Graph, HostSegment
from compiler.ops.stream.lower import Option, undominated
from compiler.partition.mixed.part import Offers
from compiler.partition.stream.problem import TYPES, amounts

PRICE_STEPS = 4  # of the grid: shares of a quarter each to LUT, BRAM, URAM and DSP
FRAMES = 3  # slots of a bridge, usually
URAM_BYTES, BRAM18_BYTES = 36864, 2304
MOST_CUTS = 64  # places at which a run of layers may begin or end
ROUNDS = 9  # of bisection
UNEVEN = 1.1  # of an even share: so full a group may be for less between groups
PRICED = ("lut", "bram18", "uram", "dsp")

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring dies that stream, `first` to `last` of the line of all; layers that must and must not be there."""

    first: int
    last: int
    must: frozenset[int] = frozenset()
    never: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """Layers that stream (by number, without gaps but for those that cannot) on a run of dies, and the interval that
    this would allow."""

    run: Run
    first: int
    last: int
    layers: tuple[int, ...]
    interval_ps: float
    crossing_bytes: int


def held(options: Sequence[Option], budgets: Sequence[Sequence[int]]) -> tuple[Option, ...]:
    """The options that one of the dies holds."""
    return tuple(
        o for o in options if any(all(a <= b for a, b in zip(amounts(o), have, strict=True)) for have in budgets)
    )


class Sides:
    """The estimate for one graph and cluster. budgets: by die of the line; speed: of a tiled engine on each die, its
    mean 1; tiled_ps: of each layer on an engine of speed 1."""

    def __init__(
        self,
        graph: Graph,
        offers: Offers,
        cycle_ps: int,
        budgets: Sequence[Sequence[int]],
        speed: Sequence[float],
        tiled_ps: Sequence[float],
    ) -> None:
        self.graph, self.cycle_ps = graph, cycle_ps
        self.budgets, self.speed = np.array(budgets, np.float64), np.array(speed, np.float64)
        self.tiled_ps = np.array(tiled_ps, np.float64)
        self.cycles: list[NDArray[np.int64]] = []
        self.amounts: list[Numbers] = []
        for n in graph.nodes:
            own = held(undominated(offers[n.name] or ()), budgets)
            self.cycles.append(np.array([o.cycles for o in own], np.int64))
            self.amounts.append(np.array([amounts(o) for o in own], np.float64).reshape(len(own), len(TYPES)))
        total = np.maximum(self.budgets.sum(axis=0), 1)
        shares = [s for s in product(range(PRICE_STEPS + 1), repeat=len(PRICED)) if sum(s) == PRICE_STEPS]
        grid = np.full((len(shares), len(TYPES)), 0.01)
        for k, t in enumerate(PRICED):
            grid[:, TYPES.index(t)] += np.array([s[k] for s in shares]) / PRICE_STEPS
        self.prices: Numbers = grid / total
        self._known: dict[int, tuple[Numbers, NDArray[np.bool_]]] = {}

    def elsewhere_ps(self, candidate: Candidate) -> float:
        """What the tiled dies take for the layers that do not stream."""
        others = [s for d, s in enumerate(self.speed) if not candidate.run.first <= d <= candidate.run.last]
        inside = self.tiled_ps[list(candidate.layers)].sum()
        return float((self.tiled_ps.sum() - inside) / sum(others))

    def dealt(self, candidate: Candidate, groups: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
        """The layers in their order over groups of dies, one group after the other: evenly full, and of such ways the
        one with least between groups; nothing where there are fewer layers than groups."""
        use, _ = self.at(int(candidate.interval_ps))
        rooms = [np.maximum(self.budgets[list(g)].sum(axis=0), 1) for g in groups]
        room, layers = np.sum(rooms, axis=0), candidate.layers
        own = np.diff(use, axis=1)[:, list(layers)]
        price = int((own.sum(axis=1) / room).max(axis=1).argmin())
        sums = np.concatenate([np.zeros((1, len(TYPES))), own[price].cumsum(axis=0)])
        even = float((sums[-1] / room).max())
        cut = [self.crossing(set(layers[:k])) for k in range(len(layers) + 1)]
        # By layers dealt out so far: (worst share, bytes between groups, where each group began).
        ways: dict[int, tuple[float, int, tuple[int, ...]]] = {0: (0.0, 0, ())}
        for g, have in enumerate(rooms):
            ends = [len(layers)] if g == len(rooms) - 1 else range(1, len(layers))
            found: dict[int, tuple[float, int, tuple[int, ...]]] = {}
            for start, (share, crossing, begins) in ways.items():
                for end in ends:
                    if end <= start:
                        continue
                    full = float(((sums[end] - sums[start]) / have).max())
                    between = crossing + (cut[end] if end < len(layers) else 0)
                    way = (max(share, full, even * UNEVEN), between, (*begins, start))
                    if end not in found or way < found[end]:
                        found[end] = way
            ways = found
        if len(layers) not in ways:
            return []
        begins = (*ways[len(layers)][2], len(layers))
        return [tuple(layers[a:b]) for a, b in pairwise(begins)]

    @cached_property
    def streamable(self) -> NDArray[np.bool_]:
        """Layers that some streaming engine has."""
        return np.array([len(c) > 0 for c in self.cycles])

    @cached_property
    def edges(self) -> list[tuple[int, tuple[int, ...], int]]:
        """(maker, readers, bytes) of every tensor that layers read or the host takes; -1: the host."""
        number = {n.y: k for k, n in enumerate(self.graph.nodes)}
        readers: dict[str, list[int]] = {}
        for k, n in enumerate(self.graph.nodes):
            for t in dict.fromkeys(map(self.graph.root, n.inputs)):
                if t not in self.graph.constants:
                    readers.setdefault(t, []).append(k)
        for name in self.graph.outputs:
            readers.setdefault(self.graph.root(name), []).append(-1)
        for s in self.graph.steps:
            if isinstance(s, HostSegment):
                for t in map(self.graph.root, s.inputs):
                    readers.setdefault(t, []).append(-1)
        return [
            (number.get(t, -1), tuple(own), self.graph.tensors[t].bytes)
            for t, own in readers.items()
            if t in self.graph.tensors
        ]

    def crossing(self, streams: set[int]) -> int:
        """Bytes a frame that bridges pass."""
        total = 0
        for maker, own, size in self.edges:
            inside = maker in streams
            outside = [r not in streams for r in own]
            total += size * ((inside and any(outside)) or (not inside and not all(outside)))
        return total

    @cached_property
    def cuts(self) -> list[int]:
        """Where a run of layers may begin or end: where least crosses."""
        count = len(self.graph.nodes)
        inner = sorted(range(1, count), key=lambda k: (self.crossing(set(range(k))), k))
        return sorted({0, count, *inner[: MOST_CUTS - 2]})

    @cached_property
    def windows(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Begin and end of every run of layers, and what its bridges pass."""
        pairs = [(a, b) for a in self.cuts for b in self.cuts if a < b and self.streamable[a:b].any()]
        ends = np.array(pairs, np.int64).reshape(len(pairs), 2)
        able = self.streamable
        size = [self.crossing({k for k in range(a, b) if able[k]}) for a, b in pairs]
        return ends[:, 0], ends[:, 1], np.array(size, np.int64)

    def at(self, interval_ps: int) -> tuple[Numbers, NDArray[np.bool_]]:
        """At an interval: amounts of all layers before each one, by prices; and which layers can keep it."""
        if interval_ps not in self._known:
            count = len(self.cycles)
            use = np.zeros((len(self.prices), count + 1, len(TYPES)))
            able = np.zeros(count, np.bool_)
            for k, (cycles, rows) in enumerate(zip(self.cycles, self.amounts, strict=True)):
                quick = int(np.searchsorted(cycles, interval_ps // self.cycle_ps, side="right"))
                if quick:
                    able[k] = True
                    use[:, k + 1] = rows[:quick][(self.prices @ rows[:quick].T).argmin(axis=1)]
            self._known[interval_ps] = use.cumsum(axis=1), able
        return self._known[interval_ps]

    def fits(self, run: Run, fill: float, interval_ps: int, keep_up: bool = True) -> NDArray[np.bool_]:
        """Windows whose layers stream on the run at the interval while the rest keeps up elsewhere, if it is to."""
        use, able = self.at(interval_ps)
        begin, end, crossing = self.windows
        here = np.arange(len(self.budgets))
        inside = (here >= run.first) & (here <= run.last)
        room = self.budgets[inside].sum(axis=0) * fill
        need = use[:, end] - use[:, begin]
        uram = TYPES.index("uram")
        block, size = (uram, URAM_BYTES) if room[uram] > 0 else (TYPES.index("bram18"), BRAM18_BYTES)
        need[:, :, block] += FRAMES * crossing / size
        fine = (need <= room).all(axis=2).any(axis=0)
        own = np.concatenate([[0.0], np.where(able, self.tiled_ps, 0.0).cumsum()])
        left = self.tiled_ps.sum() - (own[end] - own[begin])
        some = np.concatenate([[0], able.cumsum()])
        for k in run.must:
            fine &= bool(able[k]) & (begin <= k) & (k < end)
        for k in run.never:
            fine &= (k < begin) | (end <= k) | (not able[k])
        if keep_up:
            fine &= left <= interval_ps * self.speed[~inside].sum()
        fine &= some[end] > some[begin]
        fine &= some[end] - some[begin] < len(able)  # with all layers it is a streaming plan
        return np.asarray(fine, np.bool_)

    def best(self, run: Run, fill: float, below_ps: float) -> Candidate | None:
        """The best run of layers for these dies; None where none is below."""
        low, high = below_ps / 64, below_ps
        if not self.fits(run, fill, int(high)).any():
            return None
        for _ in range(ROUNDS):
            middle = (low * high) ** 0.5
            if self.fits(run, fill, int(middle)).any():
                high = middle
            else:
                low = middle
        fine = np.flatnonzero(self.fits(run, fill, int(high)))
        begin, end, crossing = self.windows
        k = min(fine, key=lambda k: (crossing[k], k))
        _, able = self.at(int(high))
        a, b = int(begin[k]), int(end[k])
        layers = tuple(x for x in range(a, b) if able[x])
        return Candidate(run, a, b, layers, high, self.crossing(set(layers)))


def runs_of(dies: int) -> list[Run]:
    """Every run of neighbouring dies but all of them."""
    return [Run(a, b) for a in range(dies) for b in range(a, dies) if b - a + 1 < dies]
