"""Steps that floats do not decide, put where a multiplication and a shift have them: needs thresholds and their slack.

More thresholds than memories hold are no use to an engine; a requantiser by multiplication and shift takes a constant
for each channel instead. Where an accumulator is so wide that float32 does not hold it, the model says where a step is
only to within that rounding, and a line through all of these windows is as good an answer as any other.
"""

from __future__ import annotations

import numpy as np

from compiler.requant.even import find_even
from compiler.requant.fixed import I64, Bools, FixedForms, Steps, find_fixed

_ENTRIES = 1 << 20  # steps at a time
_ROUNDINGS = (1, 2, 4, 8)  # float32 operations of a chain that may each be half a unit in the last place off


def by_shifts(values: I64, inner: Bools, slack: I64, lo: int, start: I64, stop: I64) -> I64 | None:
    """Thresholds (channels, steps) of forms by multiplication and shift near those given.

    values: ascending, step k of a row gives lo + k + 1; inner: those within start..stop, one run a row; others stay.
    They differ by as few units of float32 rounding at their own size as does it, by the channel's `slack` at most.
    None where a channel has no such form."""
    count = values.shape[1]
    first, steps = inner.argmax(axis=1), inner.sum(axis=1).astype(np.int64)
    out = values.copy()
    rows = np.flatnonzero(steps)
    chunk = max(1, _ENTRIES // count)
    for at in range(0, len(rows), chunk):
        own = rows[at : at + chunk]
        for roundings in _ROUNDINGS:
            k = np.minimum(np.arange(int(steps[own].max()))[None, :], steps[own, None] - 1) + first[own, None]
            here = values[own[:, None], k]
            off = np.minimum((np.abs(here) * roundings) >> 24, slack[own, None])
            ends = start[own, None], stop[own, None]
            t, u = np.clip(here + off, *ends), np.clip(here - off - 1, *ends)
            open_ = first[own] > 0, first[own] + steps[own] < count
            v0 = lo + 1 + first[own].astype(np.int64)
            demands = Steps(t, u, v0, steps[own], start[own], stop[own], *open_)
            for find, even in ((find_fixed, 0), (find_even, 1)):
                forms = find(demands, lo, lo + count)
                done = np.flatnonzero(forms.exists)
                out[own[done][:, None], k[done]] = _thresholds(forms, done, lo + 1 + k[done], even)
                left = np.flatnonzero(~forms.exists)
                own, k, demands = own[left], k[left], demands.rows(left)
                if not len(own):
                    break
            if not len(own):
                break
        if len(own):
            return None
    return out


def _thresholds(forms: FixedForms, rows: I64, level: I64, even: int) -> I64:
    """The least accumulator of each level: with halves to even (`even` 1), an odd one begins beyond the half."""
    m, s, c = (v[rows, None] for v in (forms.multiplier, forms.shift, forms.add))
    found: I64 = -((c - (level << s) - (level & even)) // m)
    return found


__all__ = ["by_shifts"]
