"""Requantiser plans of step functions: needs integer thresholds by channel, gives the cheapest form equal to them.

A low-bit layer says by itself at which accumulator each output begins (`compiler.ir.graph.Thresholds`), so nothing has
to be searched: the steps inside the reachable range are taken as they are. The fixed form is taken where one is proved
equal and needs less table space, the thresholds otherwise; there is no float32 form.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from compiler.ir.graph import Conv, Thresholds
from compiler.isa.table import MODE_EVEN, MODE_FIXED, MODE_THRESHOLD
from compiler.requant.even import find_even
from compiler.requant.fixed import Steps, find_fixed
from compiler.requant.steps import I64
from compiler.requant.vreq import FIXED_COST, THRESHOLD_STEP_COST, RequantPlan, reachable_range

_CHUNK = 512  # rows at a time
_ENTRIES = 1 << 20  # steps at a time
MOST_STEPS = 255  # that stand as thresholds without a look at anything else


def step_plan(thresholds: Thresholds, acc_lo: I64, acc_hi: I64) -> RequantPlan:
    """The plan of one layer; acc_lo, acc_hi int64[m] within int32. Its clamp is the range of the levels."""
    plan = _plan(thresholds, acc_lo, acc_hi, False)
    assert plan is not None
    return plan


def fixed_plan(thresholds: Thresholds, acc_lo: I64, acc_hi: I64) -> RequantPlan | None:
    """As `step_plan`, for accumulators of any width, if every channel has a proved form by multiplication and shift,
    halves up or to even; else None."""
    return _plan(thresholds, acc_lo, acc_hi, True)


def _plan(thresholds: Thresholds, acc_lo: I64, acc_hi: I64, all_fixed: bool) -> RequantPlan | None:
    """None where `all_fixed` is asked for and a channel has no fixed form.

    A jump by more than one output (bipolar results, equal neighbours) is as many equal thresholds.
    """
    values = thresholds.values.astype(np.int64)
    m = len(values)
    levels = thresholds.levels
    first = levels.lo + levels.step * (values <= acc_lo[:, None]).sum(axis=1)
    inside = (values > acc_lo[:, None]) & (values <= acc_hi[:, None])
    count = levels.step * inside.sum(axis=1)
    steps = [np.repeat(values[c][inside[c]], levels.step) for c in range(m)]

    mode = np.full(m, MODE_THRESHOLD, np.uint8)
    multiplier, shift, add = np.zeros(m, np.int64), np.zeros(m, np.int64), np.zeros(m, np.int64)
    constant = count == 0
    mode[constant], add[constant] = MODE_FIXED, first[constant]
    order = np.argsort(count, kind="stable")
    order = order[count[order] > 0]
    chunk = max(1, min(_CHUNK, _ENTRIES // max(1, int(count.max(initial=1)))))
    for begin in range(0, len(order), chunk):
        rows = order[begin : begin + chunk]
        width = int(count[rows].max())
        t = np.stack([np.pad(steps[c], (0, width - len(steps[c])), mode="edge") for c in rows])
        n = count[rows].astype(np.int64)
        ends = (first[rows] > levels.lo, first[rows] + n < levels.hi)
        demands = Steps(t, t - 1, first[rows].astype(np.int64) + 1, n, acc_lo[rows], acc_hi[rows], *ends)
        forms = find_fixed(demands, levels.lo, levels.hi)
        fixed = rows[forms.exists]
        mode[fixed] = MODE_FIXED
        multiplier[rows], shift[rows], add[rows] = forms.multiplier, forms.shift, forms.add
        if all_fixed and not forms.exists.all():
            rest = np.flatnonzero(~forms.exists)
            halves, own = find_even(demands.rows(rest), levels.lo, levels.hi), rows[rest]
            if not halves.exists.all():
                return None
            mode[own] = MODE_EVEN
            multiplier[own], shift[own], add[own] = halves.multiplier, halves.shift, halves.add
    searched = mode == MODE_THRESHOLD
    lengths = np.where(searched, count, 0)
    kept = [steps[c] for c in np.flatnonzero(searched)]
    return RequantPlan(
        mode=mode,
        multiplier=multiplier,
        shift=shift,
        add=add,
        scale=np.ones(m, np.float32),
        base=first.astype(np.int32),
        step_count=count.astype(np.int32),
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        thresholds=(np.concatenate(kept) if kept else np.zeros(0, np.int64)).astype(np.int32),
        acc_lo=acc_lo.copy(),
        acc_hi=acc_hi.copy(),
        cost=FIXED_COST + THRESHOLD_STEP_COST * lengths,
        zero_point=0,
        lo=levels.lo,
        hi=levels.hi,
    )


@lru_cache(maxsize=1024)
def conv_step_plan(node: Conv) -> RequantPlan:
    """`step_plan` of a convolution over every value that its input type holds."""
    assert node.thresholds is not None
    x_lo, x_hi = (0, 255) if node.weight.dtype.kind == "u" else (-128, 127)
    low, high = reachable_range(node.weight, node.weight_zero_point, node.x_zero_point, x_lo, x_hi, node.bias)
    return step_plan(node.thresholds, low, high)


def entry_bytes(node: Conv) -> int:
    """The most bytes of TAB that a channel's entry and thresholds take."""
    return int(conv_step_plan(node).cost.max())
