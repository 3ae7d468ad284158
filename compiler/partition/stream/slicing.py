"""Which layers are worth cutting, into how many parts, and the bound that is true with all cuts that were offered.

Needs a graph, dies and options; proposes cuts for a target interval: a layer of which no option that keeps the target
fits one die (or half a die, where layers do not pack) is cut into as few parts as then fit; so is one whose weights
come out of DRAM too slowly, as its parts read from banks of their own. The bound takes all dies as one, and all banks,
and lets every layer be whole or cut in any way that was proposed; an option that no single die holds is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Graph, Node
from compiler.isa.stream.table import DRAM
from compiler.ops.stream.joins import readers
from compiler.ops.stream.lower import Option
from compiler.ops.stream.sliced import MOST_PARTS, Cut, Cuts, Join, Part, as_cuts, expand, layer_of, legal, most
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.forced import kept_whole
from compiler.partition.stream.problem import TYPES, Problem, amounts, make_problem
from compiler.partition.stream.reading import SHARES_BITS, rate_of, read_bytes
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster

SCALE = 1 << 30  # what all dies together cost
ROUNDS = 40  # of prices
STEP = 2.0
TARGETS = (1.0, 1.3, 1.8, 3.0, 8.0)  # times the interval that all dies as one would allow
FILLS = (0.9, 0.45)  # of a die: what joins layers needs room too; two halves pack where one whole does not
EXACT = 400  # parts of an interval: to one of them a bound by reading is known
WORTH = 1.03  # a plan this near to what all dies as one would allow is left as it is

Amounts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Offer:
    """The options of one engine, and the bytes of weights that it reads a frame where they stand in DRAM."""

    options: tuple[Option, ...]
    read_bytes: int = 0


Way = list[Offer]  # the engines of one way to build a layer


def homes(base: Graph, cuts: Cuts) -> Callable[[Node], Graph]:
    """Where a node of the expanded graph is priced: a graph that is shared by all cuts of other layers, so that the
    price is looked up and not made again."""
    wanted, graph = dict(cuts), expand(base, cuts)
    before, after = readers(base), readers(graph)

    def home(node: Node) -> Graph:
        if isinstance(node, Part | Join):
            return expand(base, ((node.layer, wanted[node.layer]),))
        return base if before.get(node.y) == after.get(node.y) else graph

    return home


@dataclass(slots=True)
class Menu:
    """The layers of a problem with all ways to build each that are on offer."""

    base: Graph
    cluster: Cluster
    options: PartitionOptions
    whole: Problem
    kept: frozenset[str]
    external: frozenset[str] = frozenset()  # layers whose weights may stand in DRAM
    tried: dict[str, dict[Cut, Way]] = field(default_factory=dict)
    _ways: dict[tuple[str, Cut], Way] = field(default_factory=dict)

    def largest(self, k: int) -> list[tuple[int, ...]]:
        """Budgets of the dies that layer k may stand on."""
        return [b for d, b in enumerate(self.whole.budgets) if d in self.whole.anchors.get(k, {d})]

    def fits(self, k: int, options: Sequence[Option], t_ps: int, fill: float) -> bool:
        """Whether an option that keeps T takes no more than a share of some die."""
        cycle = self.whole.cycle()
        sizes = [[x * fill for x in b] for b in self.largest(k)]
        return any(
            o.cycles * cycle <= t_ps and any(all(a <= s for a, s in zip(amounts(o), b, strict=True)) for b in sizes)
            for o in options
        )

    def must(self) -> bool:
        """Whether some layer fits no die as a whole."""
        return any(not self.fits(k, own, 1 << 62, 1.0) for k, own in enumerate(self.whole.options))

    def way(self, layer: str, cut: Cut) -> Way:
        """The options of the parts and of the join of a cut."""
        if (layer, cut) not in self._ways:
            cuts = ((layer, cut),)
            graph, devices = expand(self.base, cuts), len(self.whole.devices)
            home = homes(self.base, cuts)
            p = make_problem(graph, self.cluster, self.options, devices, home=home, external=self.external)
            own = [(n, o) for n, o in zip(p.nodes, p.options, strict=True) if layer_of(n) == layer]
            self._ways[(layer, cut)] = [Offer(o, read_bytes(n)) for n, o in own]
        return self._ways[(layer, cut)]

    def cuts(self, t_ps: int, fill: float) -> Cuts | None:
        """Cuts with which every layer keeps T in shares of a die; None where a layer cannot."""
        found = {}
        for k, (node, own) in enumerate(zip(self.whole.nodes, self.whole.options, strict=True)):
            if self.fits(k, own, t_ps, fill):
                continue
            cut = None if node.name in self.kept else self._cut(k, node, t_ps, fill)
            if cut is None:
                if self.fits(k, own, t_ps, 1.0):
                    continue
                return None
            found[node.name] = cut
        return as_cuts(found)

    def _cut(self, k: int, node: Node, t_ps: int, fill: float) -> Cut | None:
        """The fewest parts that fit; of equally many, rows or columns by what they take."""
        limit = most(node)
        start = self._least_parts(k, t_ps, fill)
        for parts in range(start, min(MOST_PARTS, max(limit.rows, limit.columns), 3 * start + 2) + 1):
            best: tuple[float, Cut] | None = None
            for cut in (Cut(parts, 1), Cut(1, parts)):
                if not legal(node, cut) or not self._even(limit, cut, start):
                    continue
                way = self.way(node.name, cut)
                if all(self.fits(k, own.options, t_ps, fill) for own in way):
                    load = sum(self._load(own.options, t_ps) for own in way)
                    if best is None or load < best[0] * 0.98:
                        best = (load, cut)
            if best is not None:
                return best[1]
        return None

    @staticmethod
    def _even(limit: Cut, cut: Cut, start: int) -> bool:
        """Uneven cuts only at the least number: what they take is all but the same, and they fold worse."""
        extent, parts = (limit.rows, cut.rows) if cut.rows > 1 else (limit.columns, cut.columns)
        return extent % parts == 0 or parts == start or extent < 2 * parts

    def _least_parts(self, k: int, t_ps: int, fill: float) -> int:
        """As many parts as one resource alone asks for, or the reading of weights out of one bank."""
        cycle, own = self.whole.cycle(), self.whole.options[k]
        if all(o.cycles * cycle > t_ps for o in own):  # a part takes at least its share of the least time
            return max(2, ceil_div(min(o.cycles for o in own) * cycle, t_ps))
        quick = [amounts(o) for o in own if o.cycles * cycle <= t_ps]
        most_of = [max(b[r] for b in self.largest(k)) for r in range(len(TYPES))]
        need = min(max(a / max(1, fill * m) for a, m in zip(amount, most_of, strict=True) if a) for amount in quick)
        return max(2, int(need * 0.7))

    def _load(self, own: Sequence[Option], t_ps: int) -> float:
        total = [max(1, sum(b[r] for b in self.whole.budgets)) for r in range(len(TYPES))]
        quick = [amounts(o) for o in own if o.cycles * self.whole.cycle() <= t_ps]
        return min(max(a / t for a, t in zip(amount, total, strict=True)) for amount in quick)

    def proposals(self, floor_ps: int, known_ps: Callable[[], int | None]) -> Iterator[Cuts]:
        """Cuts to try, the most ambitious first, while they may beat what is
        known; each goes on the menu when it is taken."""
        ideal = self.bound_ps(floor_ps, held=False)
        if ideal is None:
            return
        seen: set[Cuts] = {()}
        for times in TARGETS:
            for fill in FILLS:
                target, known = int(ideal * times), known_ps()
                if known is not None and known <= target * WORTH:
                    return
                cuts = self.cuts(target, fill)
                if cuts is None or cuts in seen:
                    continue
                seen.add(cuts)
                for layer, cut in cuts:
                    self.tried.setdefault(layer, {})[cut] = self.way(layer, cut)
                yield cuts

    def bound_ps(self, floor_ps: int, held: bool = True) -> int | None:
        """No plan of layers that are whole or cut in a way that was tried has a shorter interval; None: there is none.

        held: an option must fit a die by itself. Else this is no bound but what cuts may aim at."""
        cycle = self.whole.cycle()
        groups: list[list[Way]] = []
        for k, (node, own) in enumerate(zip(self.whole.nodes, self.whole.options, strict=True)):
            one = Offer(own, read_bytes(node))
            ways = [[one], *self.tried.get(node.name, {}).values()]
            groups.append([[self._held(k, o) for o in way] for way in ways] if held else [[self._from_all(one)]])
        values = sorted({o.cycles for ways in groups for way in ways for part in way for o in part.options})
        dies = [sum(b[r] for b in self.whole.budgets) for r in range(len(TYPES))]
        rate = rate_of(self.cluster, len(self.whole.devices)) if self.external else 0

        def nothing_fits(n: int, t_ps: int) -> bool:
            """With the options that take values[n] cycles at most, in an interval of t_ps."""
            if not rate:
                return refuted([[_at(way, values[n]) for way in ways] for ways in groups], np.array(dies, np.int64))
            room = rate * t_ps // PS_PER_SECOND
            unit = max(1, room >> SHARES_BITS)
            offers = [[_at(way, values[n], unit) for way in ways] for ways in groups]
            return refuted(offers, np.array([*dies, ceil_div(room, unit)], np.int64))

        ends = [*(v * cycle for v in values[1:]), 1 << 50]  # below these there are no other options
        low, high = 0, len(values)
        while low < high:
            middle = (low + high) // 2
            if nothing_fits(middle, ends[middle]):
                low = middle + 1
            else:
                high = middle
        if low == len(values):
            return None
        least, most = values[low] * cycle, ends[low]  # between them there is but more to read
        while rate and most - least > values[low] * cycle // EXACT:
            t_ps = (least + most) // 2
            least, most = (t_ps, most) if nothing_fits(low, t_ps) else (least, t_ps)
        return max(ceil_div(least, cycle), ceil_div(floor_ps, cycle)) * cycle

    def worth_cutting(self, floor_ps: int) -> bool:
        """Whether layers that are whole hold up what all dies as one would allow."""
        ideal, whole = self.bound_ps(floor_ps, held=False), self.bound_ps(floor_ps)
        return ideal is not None and (whole is None or whole > ideal * WORTH)

    def _from_all(self, offer: Offer) -> Offer:
        """An offer as if parts read its weights from all banks at once."""
        if not any(o.fold.memory == DRAM for o in offer.options):
            return offer
        devices = len(self.whole.devices)
        rate, cycle = rate_of(self.cluster, devices), self.whole.cycle()
        least = ceil_div(offer.read_bytes * PS_PER_SECOND, rate * cycle)
        most = sum(len(d.board.banks) for d in self.cluster.devices[:devices])
        own = [
            o if o.fold.memory != DRAM else replace(o, cycles=min(o.cycles, max(least, o.cycles // most)))
            for o in offer.options
        ]
        return replace(offer, options=tuple(sorted(own, key=lambda o: o.cycles)))

    def _held(self, k: int, offer: Offer) -> Offer:
        sizes = self.largest(k)
        fit = [o for o in offer.options if any(all(a <= s for a, s in zip(amounts(o), b, strict=True)) for b in sizes)]
        return replace(offer, options=tuple(fit))

    def notes(self, cuts: Cuts) -> list[str]:
        """Sentences: what is cut and why, and which cuts the bound is over."""
        out = []
        for name, cut in cuts:
            k = next(k for k, n in enumerate(self.whole.nodes) if n.name == name)
            held = bool(self._held(k, Offer(self.whole.options[k])).options)
            why = "whole it is slower, or leaves other layers no room" if held else "whole it fits no die"
            out.append(f"{name} is cut by {cut.name}: {why}")
        told = "; ".join(f"{n}: {', '.join(c.name for c in sorted(cuts))}" for n, cuts in sorted(self.tried.items()))
        return [*out, f"the bound is over these cuts, too: {told}"]


def make_menu(
    base: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    devices: int,
    external: frozenset[str] = frozenset(),
) -> Menu:
    """The layers of `base` as wholes; external: those whose weights may stand in DRAM. Raises FVC206, FVC208, FVC214,
    FVC218."""
    whole = make_problem(base, cluster, options, devices, external=external)
    return Menu(base, cluster, options, whole, frozenset(kept_whole(options)), external)


def _at(way: Way, cycles: int, unit: int = 0) -> list[Amounts] | None:
    """Amounts of each engine's options that take no longer; None where an engine has none. unit: bytes; what an option
    reads from DRAM is told in such units, too."""
    out = []
    for part in way:
        quick = tuple(o for o in part.options if o.cycles <= cycles)
        if not quick:
            return None
        rows = _rows(quick)
        if unit:
            outside = np.array([o.fold.memory == DRAM for o in quick], np.int64)
            rows = np.column_stack([rows, outside * (part.read_bytes // unit)])
        out.append(rows)
    return out


@lru_cache(maxsize=1 << 14)
def _rows(options: tuple[Option, ...]) -> Amounts:
    return np.array([amounts(o) for o in options], np.int64)


def refuted(groups: list[list[list[Amounts] | None]], total: Amounts) -> bool:
    """Whether it is proved that no choice of ways and options fits: by some whole prices the cheapest one is dearer
    than all there is."""
    choices = [[way for way in ways if way is not None] for ways in groups]
    if not all(choices):
        return True
    least = sum(np.min([sum(a.min(axis=0) for a in way) for way in ways], axis=0) for ways in choices)
    if (least > total).any():
        return True
    share = np.full(len(total), 1 / len(total))
    for _ in range(ROUNDS):
        prices = np.array([int(s * SCALE) // max(1, t) for s, t in zip(share, total, strict=True)], np.int64)
        cost, use = 0, np.zeros(len(total), np.int64)
        for ways in choices:
            best: tuple[int, list[Amounts]] | None = None
            for way in ways:
                picks = [a[int((a @ prices).argmin())] for a in way]
                own = sum(int(p @ prices) for p in picks)
                if best is None or own < best[0]:
                    best = (own, picks)
            assert best is not None
            cost += best[0]
            use = use + sum(best[1])
        if cost > sum(int(p) * int(t) for p, t in zip(prices, total, strict=True)):
            return True
        load = use / np.maximum(total, 1)
        if (load <= 1).all():
            return False
        share = share * np.exp(STEP * (load - load.max()))
        share = np.maximum(share / share.sum(), 1e-6)
    return False


__all__ = ["Menu", "homes", "make_menu", "refuted"]
