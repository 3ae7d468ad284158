"""Several copies of the net: where they may stand, and how many give the most frames a second.

Needs a `problem.Problem`, whose layers are those of all copies. Copies share nothing but dies, boundaries, links and
the host, so one problem has them all. Where the devices fall into equal groups for the copies, the problem of one group
with its copies is tried first: what it gives stands in every group. Frames are dealt out in turn, so the slowest copy
sets the pace of all; they are asked for the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd

import numpy as np
from numpy.typing import NDArray

from compiler.floorplan.prices import decide
from compiler.ir.graph import Graph, Node
from compiler.ops.stream.netlists import Seat, own_name
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.joint import Bound, bound, choose
from compiler.partition.stream.problem import TYPES, Budgets, Placement, Problem, amounts, make_problem
from cost_models.primitives import ceil_div
from device_db.model import Cluster, DieRef

MOST_COPIES = 64
PRICE_ROUNDS = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """So many copies: no plan does a frame of each in less than `round_ps`."""

    copies: int
    round_ps: int

    @property
    def frame_ps(self) -> int:
        """Picoseconds between two of the user's frames."""
        return ceil_div(self.round_ps, self.copies)


class Arrangement:
    """The search for seats of all copies of one problem, as often as budgets change."""

    def __init__(
        self, graph: Graph, cluster: Cluster, options: PartitionOptions, devices: int, copies: int, floor_ps: int,
        home: Callable[[Node], Graph] | None = None, external: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.problem = make_problem(graph, cluster, options, devices, copies, home, external)
        self.floor_ps = floor_ps
        parts = gcd(devices, copies)
        boards = {cluster.devices[d].board.name for d in range(devices)}
        wishes = self.problem.anchors or self.problem.together
        self.parts = 1 if wishes or len(boards) > 1 else parts
        self.part = None
        if self.parts > 1:
            self.part = make_problem(
                graph, cluster, options, devices // self.parts, copies // self.parts, home, external
            )
        self.whole = self.part is None  # look for seats in one problem

    def first(self) -> tuple[Placement | None, Bound | None]:
        """Seats within the whole budgets, and the proved bound; None: no seats found, or proved that there are none."""
        p = self.problem
        if self.part is None:
            found = choose(p, p.budgets, self.floor_ps)
            return found, bound(p, p.budgets, self.floor_ps, found)
        found = self._parted(p.budgets)
        proved = bound(p, p.budgets, self.floor_ps, found)
        if proved is not None and (found is None or found.interval_ps > proved.interval_ps):
            other = choose(p, p.budgets, self.floor_ps)
            if other is not None and (found is None or other.interval_ps < found.interval_ps):
                found, self.whole = other, True
        return found, proved

    def again(self, budgets: Budgets) -> Placement | None:
        """Seats within other budgets."""
        return choose(self.problem, budgets, self.floor_ps) if self.whole else self._parted(budgets)

    def _parted(self, budgets: Budgets) -> Placement | None:
        """The seats of one group of devices in every group, within what each of them has."""
        p, part = self.problem, self.part
        assert part is not None
        size = len(part.refs)
        rows = [list(budgets[k * size : (k + 1) * size]) for k in range(self.parts)]
        least = [tuple(min(x) for x in zip(*(b[d] for b in rows), strict=True)) for d in range(size)]
        part.wires = [min(p.wires[k * size + d] for k in range(self.parts)) for d in range(size)]
        found = choose(part, least, self.floor_ps)
        if found is None:
            return None
        devices = len(part.devices)
        seats: dict[str, Seat] = {}
        for k in range(self.parts):
            for c in range(part.copies):
                for n in p.graph.nodes:
                    s = found.seats[own_name(n.name, c)]
                    here = DieRef(s.ref.device + k * devices, s.ref.die)
                    seats[own_name(n.name, k * part.copies + c)] = replace(s, ref=here)
        return Placement(seats, found.interval_ps, 0, False)


def rates(one: Problem, host_ps: int, most: int = MOST_COPIES) -> list[Rate]:
    """By number of copies: prices of resources on all dies as one (a bound of every plan), and the host. `one`: the
    problem of a single copy. Ends where not even the smallest engines of so many copies fit."""
    offers = _Offers(one)
    total = np.array([float(sum(b[r] for b in one.budgets)) for r in range(len(TYPES))])
    out: list[Rate] = []
    low = 0
    for copies in range(1, most + 1):
        found = offers.least(total / copies, low)
        if found is None:
            break
        low = found
        out.append(Rate(copies, max(offers.values[low] * one.cycle(), copies * host_ps)))
    return out


class _Offers:
    """The options of one copy that some die holds, and the intervals that they can have."""

    def __init__(self, one: Problem) -> None:
        most = [max(b[r] for b in one.budgets) for r in range(len(TYPES))]
        rows = [[o for o in own if all(a <= m for a, m in zip(amounts(o), most, strict=True))] for own in one.options]
        width = max(map(len, rows), default=0)
        self.amounts = np.full((len(rows), width, len(TYPES)), np.inf)
        self.cycles = np.full((len(rows), width), np.iinfo(np.int64).max)
        for v, own in enumerate(rows):
            for k, o in enumerate(own):
                self.amounts[v, k], self.cycles[v, k] = amounts(o), o.cycles
        slowest = max((min((o.cycles for o in own), default=0) for own in rows), default=0)
        every = {o.cycles for own in rows for o in own}
        self.values = sorted(c for c in every if c >= slowest) if all(rows) else []

    def least(self, each: NDArray[np.float64], low: int) -> int | None:
        """The least T, from `low` upward, at which prices do not refuse a copy with its part of all dies. Amounts and
        bounds of so many copies are so many times those of one, and so is a price's proof."""

        def fits(k: int) -> bool:
            there = (self.cycles <= self.values[k])[:, :, None]
            return decide(np.where(there, self.amounts, np.inf), each, PRICE_ROUNDS) is not False

        high = len(self.values) - 1
        if high < 0 or not fits(high):
            return None
        while low < high:
            middle = (low + high) // 2
            if fits(middle):
                high = middle
            else:
                low = middle + 1
        return low


def most_first(found: Sequence[Rate]) -> list[Rate]:
    """By frames a second that the bounds allow; of nearly equal ones those with fewer copies first."""
    best = min((r.frame_ps for r in found), default=0)
    near = [r for r in found if r.frame_ps * 1000 <= best * 1001]
    rest = [r for r in found if r.frame_ps * 1000 > best * 1001]
    return sorted(near, key=lambda r: r.copies) + sorted(rest, key=lambda r: (r.frame_ps, r.copies))
