"""Integer thresholds of a chain: the least accumulator at which each output begins, exact for every accumulator.

The chain is evaluated on float32(acc * scale), the product taken exactly: where the model's scales are powers of two
this is what its own float sums give. It is a proof, not a fit: a chain that is monotone by its form is bisected to both
sides of every step; any other is evaluated at every accumulator there is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend.integer import Unfit
from compiler.frontend.lowbit.chain import Chain
from compiler.frontend.lowbit.grid import Array, Grid
from compiler.frontend.lowbit.shifts import by_shifts
from compiler.frontend.onnxgraph import OnnxGraph
from compiler.ir.graph import Thresholds
from compiler.requant import fixed_plan

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
MOST_EVALUATED = 1 << 22  # accumulators tried one by one where the chain's form proves nothing
WIDE_STEPS = 15
MOST_STEPS = 255  # of a result of 8 bits
MOST_WIDE_STEPS = (1 << 16) - 1
MOST_ENTRIES = 1 << 23  # thresholds of a layer
MOST_STORED = 1 << 18  # of one whose engine would have to store them
_SAMPLES = 4096  # accumulators from which a search of many steps starts
_COLUMNS = 4096  # of steps at a time
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
NEAR = 2.0**-21  # four units in the last place of float32
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """values (M, T) of sign * acc by channel, int32, or int64 where accumulators go beyond; y = lo + step * count.

    near: steps that float32 rounding could move; moved: those of them that stand where a shift has them."""

    values: NDArray[np.signedinteger[Any]]
    sign: I64
    lo: int
    step: int
    near: int
    moved: int = 0

    @property
    def hi(self) -> int:
        return self.lo + self.step * int(self.values.shape[1])


def step_table(
    graph: OnnxGraph, chain: Chain, grid: Grid, acc_lo: I64, acc_hi: I64, scale: Array, most: int = MOST_STEPS
) -> StepTable:
    """The thresholds of every channel over [acc_lo, acc_hi]; scale: float64, the real value of one accumulator unit.

    Raises Unfit where the chain is no step function that rises or falls, or has more than `most` steps."""

    def outputs(acc: Array, off: Array | float = 0.0) -> Array:
        value = ((acc.astype(np.float64) + off) * scale[:, None]).astype(np.float32)
        return chain.integers(graph, value, acc.shape[1])

    ends = np.stack([acc_lo, acc_hi], axis=1)
    at_lo, at_hi = outputs(ends).T
    if not chain.monotone:
        return _exhaustive(outputs, grid, acc_lo, acc_hi, most)
    sign = np.where(at_hi < at_lo, -1, 1).astype(np.int64)
    low, high = np.minimum(at_lo, at_hi), np.maximum(at_lo, at_hi)
    lo, step, count = _levels(grid, int(low.min()), int(high.max()), most)
    if count * len(sign) > MOST_ENTRIES:
        raise Unfit(f"its step function has {count * len(sign):,} thresholds, more than {MOST_ENTRIES:,}")
    start, stop = np.minimum(acc_lo * sign, acc_hi * sign), np.maximum(acc_lo * sign, acc_hi * sign)
    wanted = lo + step * np.arange(1, count + 1, dtype=np.int64)[None, :]

    every = np.broadcast_to(wanted, (len(sign), count))

    def search(off: Array | float) -> I64:
        if count > MOST_STEPS:
            return _search_many(lambda acc: outputs(acc * sign[:, None], off), start, stop, every)
        below = np.repeat(start[:, None] - 1, count, axis=1)  # output there is below what is wanted
        above = np.repeat(stop[:, None], count, axis=1)  # output there is not
        while (above - below > 1).any():
            middle = (below + above) >> 1
            reached = outputs(middle * sign[:, None], off) >= wanted
            above, below = np.where(reached, middle, above), np.where(reached, below, middle)
        return above

    values = search(0.0)
    never = wanted > high[:, None]
    always = wanted <= low[:, None]
    kind = _kind(acc_lo, acc_hi)
    table = np.where(never, np.iinfo(kind).max, np.where(always, np.iinfo(kind).min, values))
    near, moved, inner = 0, 0, ~never & ~always
    slack = np.zeros(len(sign), np.int64)
    if not _exact(scale, acc_lo, acc_hi):
        # a float sum is off by a share of its terms, not of its own value, which may cancel to nothing
        off = NEAR * np.maximum(np.abs(acc_lo), np.abs(acc_hi)).astype(np.float64)[:, None]
        slack = off[:, 0].astype(np.int64)
        if (slack > 0).all():  # a whole accumulator unit moves every step
            near = int(inner.sum())
        else:
            near = int(((search(off) != values) | (search(-off) != values))[inner].sum())
    if table.size > MOST_STORED:
        held = StepTable(table.astype(kind), sign, lo, step, near)
        plan = fixed_plan(Thresholds(lo, step, held.values), start, stop)
        if plan is None:
            found = by_shifts(table, inner, slack, lo, start, stop) if step == 1 else None
            if found is None:
                raise Unfit(f"its {table.size:,} thresholds are no multiplication and shift, and too many to store")
            moved = int((found != table).sum())
            table = found
    return StepTable(table.astype(kind), sign, lo, step, near, moved)


def _kind(acc_lo: I64, acc_hi: I64) -> type[np.signedinteger[Any]]:
    """The type of thresholds: one that has room beside every accumulator of either sign."""
    return np.int32 if max(-int(acc_lo.min()), int(acc_hi.max())) < 2**31 - 1 else np.int64


def _search_many(reads: Callable[[I64], I64], start: I64, stop: I64, wanted: I64) -> I64:
    """Least accumulator (channels, steps) in start..stop (stop where there is none) whose output is `wanted` or more.

    Brackets from samples of the rising function, then where the line between a bracket's ends would have the step, with
    a halving after every two such tries; columns in runs, so that temporaries stay small."""
    spread = np.linspace(0.0, 1.0, _SAMPLES)[None, :]
    points = start[:, None] + np.rint((stop - start)[:, None] * spread).astype(np.int64)
    found = reads(points)
    out = np.empty_like(wanted)
    rows = np.arange(len(start))[:, None]
    for first in range(0, wanted.shape[1], _COLUMNS):
        w = wanted[:, first : first + _COLUMNS]
        at = np.stack([np.searchsorted(f, v) for f, v in zip(found, w, strict=True)])  # first sample that is not below
        inside = at < _SAMPLES
        last = np.minimum(at, _SAMPLES - 1)
        above, high = points[rows, last], found[rows, last]
        before = np.maximum(at - 1, 0)
        below = np.where(at > 0, points[rows, before], start[:, None] - 1)
        low = np.where(at > 0, found[rows, before], found[:, :1] - 1)
        below = np.where(inside, below, above - 1)
        turn = 0
        while (above - below > 1).any():
            share = (w - 0.5 - low) / np.maximum(high - low, 1)
            guess = below + np.rint((above - below) * share).astype(np.int64)
            middle = (below + above) >> 1 if turn % 3 == 2 else guess - (turn % 3 == 0)
            middle = np.clip(middle, below + 1, np.maximum(above - 1, below + 1))
            middle = np.minimum(middle, above)
            got = reads(middle)
            reached = got >= w
            above, high = np.where(reached, middle, above), np.where(reached, got, high)
            below, low = np.where(reached, below, middle), np.where(reached, low, got)
            below = np.minimum(below, above - 1)
            turn += 1
        out[:, first : first + _COLUMNS] = above
    return out


def _levels(grid: Grid, low: int, high: int, most: int) -> tuple[int, int, int]:
    """(least level, step, steps): all that the quantiser has if they are few, else what can be reached."""
    step = grid.step
    if grid.lo is not None and grid.hi is not None:
        low, high = max(low, grid.lo), min(high, grid.hi)
        if (grid.hi - grid.lo) // step <= WIDE_STEPS:
            return grid.lo, step, (grid.hi - grid.lo) // step
        low = grid.lo + (low - grid.lo) // step * step
    count = max(1, -(-(high - low) // step))
    if count > most:
        raise Unfit(f"its result has {count + 1} levels, more than {most.bit_length()} bits")
    return low, step, count


def _exact(scale: Array, acc_lo: I64, acc_hi: I64) -> bool:
    """Whether every sum of the float model is exact: scales with so short a significand that nothing is rounded."""
    mantissa, _ = np.frexp(scale)
    odd = mantissa * 2.0**30
    short = np.gcd(odd.astype(np.int64), 1 << 30) if (odd == np.rint(odd)).all() else np.ones(len(scale), np.int64)
    bits = 30 - np.log2(short.astype(np.float64))
    most = np.maximum(np.abs(acc_lo), np.abs(acc_hi)).astype(np.float64)
    return bool((np.log2(np.maximum(most, 1)) + bits <= 24).all())


def _exhaustive(outputs: object, grid: Grid, acc_lo: I64, acc_hi: I64, most: int) -> StepTable:
    """Every accumulator of every channel evaluated; the outputs must rise or fall."""
    m, width = len(acc_lo), int((acc_hi - acc_lo).max()) + 1
    if m * width > MOST_EVALUATED:
        raise Unfit("its activation is not monotone by its form, and has too many accumulators to try each")
    acc = np.minimum(acc_lo[:, None] + np.arange(width)[None, :], acc_hi[:, None])
    y = outputs(acc)  # type: ignore[operator]
    rise, fall = (np.diff(y, axis=1) >= 0).all(axis=1), (np.diff(y, axis=1) <= 0).all(axis=1)
    if not (rise | fall).all():
        raise Unfit("its activation rises and falls: it has no thresholds")
    sign = np.where(rise, 1, -1).astype(np.int64)
    lo, step, count = _levels(grid, int(y.min()), int(y.max()), most)
    table = np.full((m, count), INT32_MAX, np.int64)
    steps = lo + step * np.arange(1, count + 1)
    for c in range(m):  # rising, or falling read backwards: each step's place in sorted outputs
        rising = y[c] if sign[c] > 0 else y[c, ::-1]
        at = np.searchsorted(rising, steps)
        there = np.flatnonzero(at < width)
        value = acc[c, at[there]] if sign[c] > 0 else -acc[c, width - 1 - at[there]]
        table[c, there] = np.where(at[there] == 0, INT32_MIN, value)
    return StepTable(table.astype(np.int32), sign, lo, step, 0)
