"""Whole functions compared with the model's: every requantiser over every accumulator that can reach it, every
operation on pairs over all 65,536 of them, every table over its 256 entries.

The result sat(rint(f32(acc) * scale) + zero) never falls as acc rises, nor does any form of VREQ change direction. So
the two are equal over a range exactly if they are equal at its ends and on both sides of every step of the model's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.levels import Scaling
from compiler.executor.makers import Requantisers
from compiler.isa.table import MODE_FIXED, MODE_FP32, MODE_THRESHOLD

Array = NDArray[Any]
I64 = NDArray[np.int64]
_CHUNK = 256  # channels at a time: a few MB of temporaries


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two functions differ: a channel, an operand, and what the machine and the model make of it."""

    channel: int
    operand: int | tuple[int, ...]
    got: int
    wanted: int

    def __str__(self) -> str:
        return f"channel {self.channel}: {self.got} for {self.operand}, the model has {self.wanted}"


class _Forms:
    """Entries of one mode and clamp as columns, evaluated at (entries, k) accumulators."""

    def __init__(self, maker: Requantisers, rows: NDArray[np.intp]) -> None:
        self.entries = maker.entries[rows]
        self.maker, self.rows = maker, rows

    def __call__(self, acc: I64) -> I64:
        """The result values, before they become bytes."""
        e, m = self.entries, self.maker
        out = np.zeros(acc.shape, np.int64)
        for mode in np.unique(e["mode"]).tolist():
            of = np.flatnonzero(e["mode"] == mode)
            a = acc[of]
            if mode == MODE_FIXED:
                product = a * e["scale"][of].astype(np.int64)[:, None] + e["add"][of][:, None]
                out[of] = product >> e["shift"][of].astype(np.int64)[:, None]
            elif mode == MODE_FP32:
                scale = np.ascontiguousarray(e["scale"][of]).view(np.float32)[:, None]
                with np.errstate(over="ignore"):
                    real = np.rint(a.astype(np.float32) * scale)
                out[of] = np.clip(real, m.lo - m.zero_point, m.hi - m.zero_point).astype(np.int64) + m.zero_point
            elif mode == MODE_THRESHOLD:
                for k in of.tolist():
                    steps = m.steps[int(self.rows[k])]
                    out[k] = int(e["scale"][k]) + np.searchsorted(steps, acc[k], side="right")
        return np.clip(out, m.lo, m.hi)


def compare_requantisers(maker: Requantisers, rows: Array, channels: Array, model: Scaling) -> Difference | None:
    """The first difference between rows of a VREQ and the channels of the model that they requantise, or None."""
    e = maker.entries[rows]
    same = (e["mode"] == MODE_FP32) & (e["scale"].copy().view(np.float32) == model.scale[channels])
    if (maker.lo, maker.hi, maker.zero_point) == (model.least, model.most, model.zero):
        rows, channels = rows[~same], channels[~same]  # the very formula of the model
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        found = _compare(_Forms(maker, rows[part]), channels[part], model.of(channels[part]))
        if found is not None:
            return found
    return None


def _compare(machine: _Forms, channels: Array, model: Scaling) -> Difference | None:
    low, high = model.low[:, None], model.high[:, None]
    first, last = model(low), model(high)
    v = np.arange(model.least + 1, model.most + 1)[None, :]
    active = (v > first) & (v <= last)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        real = np.ceil((v - 0.5 - model.zero) / model.scale.astype(np.float64)[:, None])
    near = np.clip(np.nan_to_num(real), low, high).astype(np.int64)
    below, above = np.maximum(near - 1, low), np.minimum(near + 1, high)
    loose = active & ((model(below) >= v) | (model(above) < v))
    if loose.any():  # float32 moved the step by more than one
        below, near, above = below.copy(), near.copy(), above.copy()
        row, column = np.nonzero(loose)
        step = _step(model.of(row), v[0, column])
        below[row, column], near[row, column], above[row, column] = step - 1, step, step
    for at in (low, high, below, near, above):
        at = np.where(active, at, low) if at.shape == active.shape else at
        got, wanted = machine(at), model(at)
        wrong = (got ^ wanted) & 0xFF != 0
        if wrong.any():
            k, j = (int(i[0]) for i in np.nonzero(wrong))
            return Difference(int(channels[k]), int(at[k, j]), int(got[k, j]), int(wanted[k, j]))
    return None


def _step(model: Scaling, v: I64) -> I64:
    """The least accumulator whose result is at least v; model: one row for each v."""
    low, high = model.low.copy(), model.high.copy()
    while (low < high).any():
        middle = (low + high) >> 1
        reached = model(middle[:, None])[:, 0] >= v
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle + 1)
    return low


def compare_table(got: Array, wanted: Array, channel: int, used: Array) -> Difference | None:
    """The first entry, of those `used`, in which two tables of result bytes differ, indexed by one byte or by two."""
    wrong = np.flatnonzero((got != wanted) & used)
    if not len(wrong):
        return None
    at = int(wrong[0])
    operand = at if len(got) == 256 else (at >> 8, at & 255)
    return Difference(channel, operand, int(got[at]), int(wanted[at]))
