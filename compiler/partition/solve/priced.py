"""Upper bound by prices: each layer to the pool of engines where it is cheapest, each pool filled in topological order.

Needs a Problem and the time price of each engine kind (duals of the merged machine); guarantees an Allocation that
covers every layer once, or None when the target cannot be met. Layers that suit different engines interleave freely,
which a contiguous sweep cannot do.
"""

from __future__ import annotations

from compiler.partition.options_table import Option
from compiler.partition.problem import Allocation, Problem, Share, load_of
from compiler.partition.solve.contiguous import preplace

NEAR_PERCENT = 4


class _Pools:
    """One pass at a target: for each kind, its engines in machine order and the one being filled."""

    def __init__(self, problem: Problem, target: int, price: dict[int, float]) -> None:
        self.p, self.target, self.price = problem, target, price
        self.load = [0] * problem.slots
        self.members: dict[int, list[int]] = {}
        for e in problem.order:
            self.members.setdefault(problem.kind_of[e], []).append(e)
        self.at = dict.fromkeys(self.members, 0)

    def progress(self, kind: int) -> float:
        members = self.members[kind]
        return sum(self.load[e] for e in members) / (len(members) * self.target)

    def kinds(self, layer: int) -> list[int]:
        """Kinds by price for the layer; among nearly equal ones the emptier first."""
        priced: list[tuple[float, int]] = []
        for kind in self.members:
            o = self.p.table.whole(layer, kind)
            if o is not None:
                priced.append((self.price[kind] * o.ticks, kind))
        if not priced:
            return []
        least = min(c for c, _ in priced)
        near = [k for c, k in priced if c * 100 <= least * (100 + NEAR_PERCENT)]
        far = [k for _, k in sorted(priced) if k not in near]
        return sorted(near, key=lambda k: (self.progress(k), k)) + far

    def put(self, layer: int) -> tuple[Share, ...] | None:
        kinds = self.kinds(layer)
        for kind in kinds:
            got = self._whole(layer, kind, near=True) or self._split(layer, kind)
            if got is not None:
                return got
        for kind in kinds:
            got = self._whole(layer, kind, near=False)
            if got is not None:
                return got
        return None

    def _whole(self, layer: int, kind: int, near: bool) -> tuple[Share, ...] | None:
        o = self.p.table.whole(layer, kind)
        if o is None:
            return None
        members = self.members[kind]
        start = self.at[kind]
        places = range(start, min(start + 1, len(members))) if near else range(len(members))
        for k in places:
            e = members[k]
            if self.load[e] + o.ticks <= self.target:
                self.load[e] += o.ticks
                return (Share(e, "", 0, 1, o),)
        return None

    def _split(self, layer: int, kind: int) -> tuple[Share, ...] | None:
        """Slices over the pool's engines from the current one on."""
        members = self.members[kind]
        for split in self.p.splits[layer]:
            if split.factor == "Pn":
                continue
            out: list[Share] = []
            left, first = split.units, 0
            for k in range(self.at[kind], len(members)):
                e = members[k]
                best: Option | None = None
                for units in range(min(left, split.units - 1), 0, -1):
                    o = self.p.table.slice(layer, kind, split.factor, units)
                    if o is not None and self.load[e] + o.ticks <= self.target:
                        best = o
                        break
                if best is not None:
                    units = best.share[0]
                    out.append(Share(e, split.factor, first, units, best))
                    left, first = left - units, first + units
                if left == 0:
                    break
            if left == 0:
                for s in out:
                    self.load[s.slot] += s.option.ticks
                self.at[kind] = max(self.at[kind], members.index(out[-1].slot))
                return tuple(out)
        nxt = self.at[kind] + 1
        o = self.p.table.whole(layer, kind)
        if nxt < len(members) and o is not None and self.load[members[nxt]] + o.ticks <= self.target:
            self.at[kind] = nxt
            self.load[members[nxt]] += o.ticks
            return (Share(members[nxt], "", 0, 1, o),)
        return None


def fill(problem: Problem, target: int, price: dict[int, float]) -> Allocation | None:
    """One pass; None when some layer finds no room."""
    pools = _Pools(problem, target, price)
    fixed = preplace(problem, pools.load)
    if fixed is None or max(pools.load) > target:
        return None
    out: Allocation = {}
    for layer in problem.table.layers:
        got = fixed.get(layer.index) or pools.put(layer.index)
        if got is None:
            return None
        out[layer.index] = got
    return out


def priced(problem: Problem, floor: int, ceiling: int, price: dict[int, float]) -> Allocation | None:
    """The best allocation between the bound and `ceiling` that bisection on the target finds."""
    best: Allocation | None = None
    low, high = max(1, floor) - 1, max(floor, ceiling)
    for _ in range(14):
        if high - low <= max(1, high // 2000):
            break
        middle = (low + high) // 2
        got = fill(problem, middle, price)
        if got is None:
            low = middle
        else:
            best, high = got, min(middle, max(load_of(problem, got).engine))
    return best
