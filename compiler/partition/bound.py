"""Lower bound on the interval: every way of doing every layer on one merged machine, proved by prices.

Needs the option table and how many engines there are of each pool (engines that may hold the same kinds). The proof is
a list of prices; `certify` checks it in exact integer arithmetic and trusts no solver:

  Let lambda_p >= 0 be the price of a tick on an engine of pool p, and c_l the least price of doing layer l completely
  (whole, or any multiset of its slices that makes up all units, plus a reduce piece where slices are partial sums).
  Every plan pays at least sum c_l a frame, and n_p engines of pool p sell at most n_p * T ticks a frame each, so
      T >= sum c_l / sum n_p * lambda_p.
  Weights held on chip pay rent too: mu_p >= 0 for each resident byte, of which a pool's engines have m_p in all; c_l is
  then the least price of time and rent, and T >= (sum c_l - sum m_p * mu_p) / sum n_p * lambda_p.

The best prices are duals of a linear programme over patterns (complete ways), found by column generation. Fixed loads
that no choice changes (the host) are the caller's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.partition.options_table import Option

SCALE = 1_000_000
MOST_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class Pool:
    """Engines that hold the same kinds: `count` of them, with room for `resident_bytes` of weights on chip in all."""

    kinds: tuple[int, ...]
    count: int
    resident_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A proven bound in ticks and the prices (a pool each, in one scale) that prove it."""

    bound: int
    time_prices: tuple[int, ...]
    rents: tuple[int, ...] = ()


Column = tuple[tuple[tuple[int, int], ...], tuple[int, int]]  # ticks by pool; (pool, resident bytes)
NO_BYTES = (0, 0)


class Ways:
    """The complete ways of one layer: whole options, and unit counts that add up, by pool."""

    def __init__(self, options: Sequence[Option], pool_of: dict[int, int]) -> None:
        self.whole: list[tuple[int, int, int]] = []  # (pool, ticks, resident bytes)
        self.slices: dict[str, tuple[int, dict[tuple[int, int], int]]] = {}  # split -> units, (pool, units) -> ticks
        self.reduce: dict[int, int] = {}  # pool -> ticks
        for o in options:
            p = pool_of.get(o.kind)
            if p is None:
                continue
            if o.role == "reduce":
                self.reduce[p] = min(o.least_ticks, self.reduce.get(p, o.least_ticks))
            elif not o.split:
                self.whole.append((p, o.least_ticks, o.resident_bytes))
            else:
                table = self.slices.setdefault(o.split, (o.share[1], {}))[1]
                key = (p, o.share[0])
                table[key] = min(o.least_ticks, table.get(key, o.least_ticks))

    def cheapest(self, price: Sequence[int], rent: Sequence[int]) -> tuple[int, Column] | None:
        """(price, what it takes) of the cheapest complete way; None if there is none."""
        best: tuple[int, Column] | None = None
        for p, ticks, size in self.whole:
            cost = price[p] * ticks + rent[p] * size
            if best is None or cost < best[0]:
                best = (cost, (((p, ticks),), (p, size) if size else NO_BYTES))
        for split, (units, table) in self.slices.items():
            got = self._fill(units, table, price)
            if got is None:
                continue
            cost, used = got
            if split == "Pn":
                if not self.reduce:
                    continue
                p, ticks = min(self.reduce.items(), key=lambda x: (price[x[0]] * x[1], x[0]))
                cost += price[p] * ticks
                used = {**used, p: used.get(p, 0) + ticks}
            if best is None or cost < best[0]:
                best = (cost, (tuple(sorted(used.items())), NO_BYTES))
        return best

    def _fill(
        self, units: int, table: dict[tuple[int, int], int], price: Sequence[int]
    ) -> tuple[int, dict[int, int]] | None:
        """Cheapest multiset of slices of `units` units in all (dynamic programme over units)."""
        piece: dict[int, tuple[int, int, int]] = {}
        for (p, k), ticks in table.items():
            cost = price[p] * ticks
            if k not in piece or cost < piece[k][0]:
                piece[k] = (cost, p, ticks)
        least: list[tuple[int, int] | None] = [(0, 0)] + [None] * units
        for n in range(1, units + 1):
            for k, (cost, _, _) in piece.items():
                before = least[n - k] if k <= n else None
                now = least[n]
                if before is not None and (now is None or before[0] + cost < now[0]):
                    least[n] = (before[0] + cost, k)
        end = least[units]
        if end is None:
            return None
        used: dict[int, int] = {}
        n = units
        while n > 0:
            step = least[n]
            assert step is not None
            _, p, ticks = piece[step[1]]
            used[p] = used.get(p, 0) + ticks
            n -= step[1]
        return end[0], used


def certify(ways: Sequence[tuple[Ways, int]], pools: Sequence[Pool], price: Sequence[int], rent: Sequence[int]) -> int:
    """The bound in ticks that these prices prove, exact; any non-negative ones are legal. ways: with multiplicities."""
    paid = 0
    for w, many in ways:
        got = w.cheapest(price, rent)
        if got is None:
            return 0
        paid += many * got[0]
    paid -= sum(m * pool.resident_bytes for m, pool in zip(rent, pools, strict=True))
    sold = sum(x * pool.count for x, pool in zip(price, pools, strict=True))
    return max(0, -(-paid // sold)) if sold > 0 else 0


def lower_bound(
    options: Sequence[Option], pools: Sequence[Pool], layers: int, many: Sequence[int] | None = None
) -> Certificate:
    """The best bound that column generation finds prices for. many: how often each layer of the table occurs."""
    pool_of = {k: p for p, pool in enumerate(pools) for k in pool.kinds}
    by_layer: list[list[Option]] = [[] for _ in range(layers)]
    for o in options:
        by_layer[o.layer].append(o)
    times = list(many) if many is not None else [1] * layers
    merged: dict[tuple[object, ...], int] = {}
    ways: list[tuple[Ways, int]] = []
    for own, n in zip(by_layer, times, strict=True):
        key = tuple((o.kind, o.split, o.share, o.role, o.least_ticks, o.resident_bytes) for o in own)
        if key in merged:
            w, before = ways[merged[key]]
            ways[merged[key]] = (w, before + n)
        else:
            merged[key] = len(ways)
            ways.append((Ways(own, pool_of), n))
    price, rent = [SCALE] * len(pools), [0] * len(pools)
    best = Certificate(certify(ways, pools, price, rent), tuple(price), tuple(rent))
    # Begin with ways that hold nothing on chip, so that the first programme has an answer.
    free = [w.cheapest(price, [SCALE * SCALE] * len(pools)) for w, _ in ways]
    columns: list[list[Column]] = [[] if f is None else [f[1]] for f in free]
    for _ in range(MOST_ROUNDS):
        fresh = False
        for i, (w, _) in enumerate(ways):
            got = w.cheapest(price, rent)
            if got is None:
                return Certificate(0, tuple(price), tuple(rent))
            if got[1] not in columns[i]:
                columns[i].append(got[1])
                fresh = True
        if not fresh:
            break
        price, rent = _prices(columns, [n for _, n in ways], pools)
        value = certify(ways, pools, price, rent)
        if value > best.bound:
            best = Certificate(value, tuple(price), tuple(rent))
    return best


def _prices(columns: list[list[Column]], many: list[int], pools: Sequence[Pool]) -> tuple[list[int], list[int]]:
    """Duals of: least T such that convex mixes of the known ways fit n_p * T ticks and m_p bytes of every pool."""
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    inf = solver.infinity()
    scale = max((t for ways in columns for c in ways for _, t in c[0]), default=1) or 1
    size = max((c[1][1] for ways in columns for c in ways), default=1) or 1
    interval = solver.NumVar(0, inf, "T")
    busy, held = [], []
    for pool in pools:
        row = solver.Constraint(-inf, 0)
        row.SetCoefficient(interval, -pool.count)
        busy.append(row)
        held.append(solver.Constraint(-inf, pool.resident_bytes / size))
    for ways, n in zip(columns, many, strict=True):
        cover = solver.Constraint(n, n)
        for ticks, (p, resident) in ways:
            x = solver.NumVar(0, inf, "")
            cover.SetCoefficient(x, 1)
            for q, t in ticks:
                busy[q].SetCoefficient(x, t / scale)
            if resident:
                held[p].SetCoefficient(x, resident / size)
    solver.Objective().SetCoefficient(interval, 1)
    solver.Objective().SetMinimization()
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return [SCALE] * len(pools), [0] * len(pools)
    dual = [abs(row.dual_value()) for row in busy]
    top = max(dual, default=0.0) or 1.0
    rents = [abs(row.dual_value()) * scale / size for row in held]
    return [round(d / top * SCALE) for d in dual], [round(r / top * SCALE) for r in rents]
