"""Fixed-point forms that round halves to even, for step functions that meet exact halves: needs steps, gives (M, S, C).

y = v >> S with v = x*M + C, one less where v is a multiple of 2^S and y is odd: the nearest whole number to
(x*M + C - 2^(S-1)) / 2^S, halves to the even one, as rint does. Where a model's scales are powers of two, its halves
are accumulators, and then no form that always rounds up (`fixed`) gives both the even and the odd ones of them.
"""

from __future__ import annotations

import numpy as np

from compiler.requant.fixed import (
    I64,
    MAX_MULTIPLIER,
    MAX_SHIFT,
    Bools,
    FixedForms,
    Steps,
    relative_ends,
    within_64_bits,
)


def even_form(x: I64, multiplier: I64, shift: I64, add: I64, lo: int, hi: int) -> I64:
    """The form on int64 arrays that broadcast."""
    v = x * multiplier + add
    y: I64 = v >> shift
    half = (v & ((np.int64(1) << shift) - 1)) == 0
    rounded: I64 = np.clip(y - (half & (y & 1 == 1)), lo, hi)
    return rounded


def find_even(steps: Steps, lo: int, hi: int) -> FixedForms:
    """For each row the one form whose halves lie where the steps' do, proved on both sides of every step.

    lo, hi: the clamp, within int16. Demands of halves leave a single slope, which is both ends of the interval of
    `find_fixed`."""
    m = len(steps.v0)
    multiplier, shift, add = np.zeros(m, np.int64), np.zeros(m, np.int64), np.zeros(m, np.int64)
    a, b, c, d, alive = relative_ends(steps)
    p, q = a.astype(np.int64), b.astype(np.int64)
    whole = np.gcd(np.maximum(p, 1), np.maximum(q, 1))
    p, q = p // whole, q // whole
    power = (p > 1) & (p & (p - 1) == 0) & (p <= 1 << MAX_SHIFT)
    rows = np.flatnonzero(alive & (a * d == c * b) & power & (q <= MAX_MULTIPLIER))
    exists: Bools = np.zeros(m, np.bool_)
    if len(rows):
        part = steps.rows(rows)
        mm, ss = q[rows], np.rint(np.log2(p[rows].astype(np.float64))).astype(np.int64)
        v = part.v0[:, None] + np.minimum(np.arange(part.t.shape[1])[None, :], part.count[:, None] - 1)
        add[rows] = ((v << ss[:, None]) - part.t * mm[:, None]).max(axis=1)
        multiplier[rows], shift[rows] = mm, ss
        exists[rows] = verify_even(part, mm, ss, add[rows], lo, hi)
    for values in (multiplier, shift, add):
        values[~exists] = 0
    return FixedForms(exists, multiplier, shift, add)


def verify_even(steps: Steps, multiplier: I64, shift: I64, add: I64, lo: int, hi: int) -> Bools:
    """The proof, as `fixed.verify_fixed` gives it: the form is monotone, so both sides of every step are enough."""
    ok = within_64_bits(steps, multiplier, add)
    m, s, c = multiplier[:, None], shift[:, None], add[:, None]
    v = steps.v0[:, None] + np.minimum(np.arange(steps.t.shape[1])[None, :], steps.count[:, None] - 1)
    ok &= (even_form(steps.t, m, s, c, lo, hi) >= v).all(axis=1) & (even_form(steps.u, m, s, c, lo, hi) < v).all(axis=1)
    ok &= even_form(steps.floor_x[:, None], m, s, c, lo, hi)[:, 0] == steps.v0 - 1
    ok &= even_form(steps.ceil_x[:, None], m, s, c, lo, hi)[:, 0] == steps.v0 + steps.count - 1
    return ok
