"""Whether steps of a layer's results are a multiplication and a shift: an answer of `compiler.requant`, tested here.

The planner takes its forms from the same place, so none is believed: each is worked out on both sides of every step.
Both are ascending, and the steps do not change between two of them, so a form that agrees there agrees everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Thresholds
from compiler.isa.table import MODE_EVEN, MODE_FIXED
from compiler.requant import RequantPlan, fixed_plan

Ints = NDArray[np.int64]


def are_shifts(steps: Thresholds, least: Ints, most: Ints) -> bool:
    """For every channel and all sums from its `least` to its `most`."""
    form = fixed_plan(steps, least, most)
    return form is not None and all(
        _agrees(form, steps, c, int(lo), int(hi)) for c, (lo, hi) in enumerate(zip(least, most, strict=True))
    )


def _agrees(form: RequantPlan, steps: Thresholds, c: int, least: int, most: int) -> bool:
    """Whether a channel's form gives its steps for every sum from `least` to `most`."""
    multiplier, shift, add = int(form.multiplier[c]), int(form.shift[c]), int(form.add[c])
    reach = max(abs(least), abs(most)) * multiplier + abs(add)
    if form.mode[c] not in (MODE_FIXED, MODE_EVEN) or multiplier < 0 or not 0 <= shift < 63 or reach >= 1 << 63:
        return False
    at = np.sort(steps.values[c].astype(np.int64))
    x = np.unique(np.clip(np.concatenate([at - 1, at, [least, most]]), least, most))
    levels = steps.levels
    wanted = levels.lo + levels.step * np.searchsorted(at, x, side="right")
    product = x * multiplier + add
    found = product >> shift
    if form.mode[c] == MODE_EVEN:
        found -= (product == found << shift) & (found % 2 == 1)
    return bool((np.clip(found, levels.lo, levels.hi) == wanted).all())
