"""Lower bound on the interval: all options on one merged machine, proved by a price certificate.

Needs the option table and how many engines there are of each pool (engines of the same die type).
Guarantees: `certify` is exact rational arithmetic and needs no trust in the LP solver that proposed the prices:

  Let y_l >= 0 be the value of a whole layer and mu_p >= 0 the price of a resident byte in pool p. An option o of
  layer l on pool p that does a share s takes t_o ticks and b_o resident bytes. With
      lambda_p = max over o of (y_l * s - mu_p * b_o) / t_o
  an engine of pool p yields at most lambda_p * T + mu_p * cap_p value a frame, and a frame needs sum y_l, so
      T >= (sum y_l - sum_p n_p * mu_p * cap_p) / sum_p n_p * lambda_p.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from compiler.partition.options_table import Option


@dataclass(frozen=True, slots=True)
class Pool:
    """Engines that may hold the same kinds: `count` of them, each with `resident_bytes` of weight scratchpad to spare."""

    kinds: tuple[int, ...]
    count: int
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Certificate:
    """A proven bound and the prices that prove it (scaled to integers)."""

    bound: int  # ticks
    values: tuple[int, ...]  # y, a layer
    memory_prices: tuple[int, ...]  # mu, a pool, in the same scale per byte over SCALE


SCALE = 1_000_000


def certify(
    options: Sequence[Option], pools: Sequence[Pool], values: Sequence[int], memory_prices: Sequence[int]
) -> Fraction:
    """The bound that these prices prove, in ticks; any non-negative prices are legal. Zero when they prove nothing."""
    pool_of = {k: p for p, pool in enumerate(pools) for k in pool.kinds}
    rate = [Fraction(0)] * len(pools)
    for o in options:
        p = pool_of.get(o.kind)
        if p is None:
            continue
        gain = Fraction(values[o.layer] * o.share[0], o.share[1]) - Fraction(memory_prices[p] * o.resident_bytes, SCALE)
        if gain <= 0:
            continue
        if o.ticks <= 0:
            return Fraction(0)
        rate[p] = max(rate[p], gain / o.ticks)
    speed = sum((r * pool.count for r, pool in zip(rate, pools, strict=True)), Fraction(0))
    rent = sum(
        (Fraction(m * pool.resident_bytes * pool.count, SCALE) for m, pool in zip(memory_prices, pools, strict=True)),
        Fraction(0),
    )
    worth = sum(values) - rent
    return worth / speed if speed > 0 and worth > 0 else Fraction(0)


def lower_bound(options: Sequence[Option], pools: Sequence[Pool], layers: int) -> Certificate:
    """Best prices by linear programming (GLOP), then the exact bound they prove.

    The LP maximises the throughput S: u_o = S * x_o, every layer done S times a tick, each pool busy at most its count.
    """
    from ortools.linear_solver import pywraplp

    solver = pywraplp.Solver.CreateSolver("GLOP")
    inf = solver.infinity()
    scale = max((o.ticks for o in options), default=1) or 1
    throughput = solver.NumVar(0, inf, "S")
    cover = [solver.Constraint(0, 0) for _ in range(layers)]
    busy = [solver.Constraint(-inf, p.count) for p in pools]
    held = [solver.Constraint(-inf, 0) for _ in pools]
    byte_scale = max((o.resident_bytes for o in options), default=0) or 1
    pool_of = {k: p for p, pool in enumerate(pools) for k in pool.kinds}
    for row in cover:
        row.SetCoefficient(throughput, -1)
    for p, pool in enumerate(pools):
        held[p].SetCoefficient(throughput, -pool.count * pool.resident_bytes / byte_scale)
    for o in options:
        at = pool_of.get(o.kind)
        if at is None:
            continue
        u = solver.NumVar(0, inf, "")
        cover[o.layer].SetCoefficient(u, o.share[0] / o.share[1])
        busy[at].SetCoefficient(u, o.ticks / scale)
        if o.resident_bytes:
            held[at].SetCoefficient(u, o.resident_bytes / byte_scale)
    solver.Objective().SetCoefficient(throughput, 1)
    solver.Objective().SetMaximization()
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        values = [1] * layers
        prices = [0] * len(pools)
    else:
        dual = [abs(row.dual_value()) for row in cover]
        top = max(dual, default=0.0) or 1.0
        values = [round(d / top * SCALE) for d in dual]
        prices = [round(abs(row.dual_value()) / top * SCALE / byte_scale * SCALE) for row in held]
    proved = certify(options, pools, values, prices)
    plain = certify(options, pools, values, [0] * len(pools))
    if plain > proved:
        proved, prices = plain, [0] * len(pools)
    return Certificate(-(-proved.numerator // proved.denominator), tuple(values), tuple(prices))
