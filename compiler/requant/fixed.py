"""Fixed-point forms of step functions: needs steps, gives (M, S, C) with the least S, or says that none exists.

y = (x*M + C) >> S is at least v exactly where x*M + C >= v*2^S. A list of demands
  lower (t, v): y(t) >= v,   upper (u, w): y(u) < w
is met for some integer C if and only if  max(v*2^S - t*M) < min(w*2^S - u*M), which depends on r = 2^S/M alone:
  g(r) = min(w*r - u) - max(v*r - t) > 0.
g is concave and piecewise linear, so the solutions are one open interval with rational ends. Newton's method (each
iterate is the root of the tightest pair of demands) reaches both ends in a few rounds and in exact arithmetic: all
numbers stay below 2^53 in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_SHIFT = 54  # 256 * 2^54 is the largest output boundary that 64 bits hold with room for the product
MAX_MULTIPLIER = 2**31 - 1
_ROUNDS = 64
_FAR = float(2**34)  # an r above every bound that 32-bit steps can give
_HEADROOM = float(2**63) * (1 - 2.0**-20)


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Demands of many step functions (rows): t[c, j] lower and u[c, j] upper demand for output v0[c] + j.

    Rows are padded to one width by repeating their last column (`count` says how many are real, at least one).
    floor_x / ceil_x are the ends of the range; `floor_open` (`ceil_open`) says that the output there is not at the
    clamp, so that it must not fall below v0 - 1 (not rise above v0 + count - 1).
    """

    t: I64
    u: I64
    v0: I64
    count: I64
    floor_x: I64
    ceil_x: I64
    floor_open: Bools
    ceil_open: Bools

    def rows(self, pick: I64) -> Steps:
        return Steps(
            self.t[pick],
            self.u[pick],
            self.v0[pick],
            self.count[pick],
            self.floor_x[pick],
            self.ceil_x[pick],
            self.floor_open[pick],
            self.ceil_open[pick],
        )


@dataclass(frozen=True, slots=True, eq=False)
class FixedForms:
    """Row by row: whether a proved form exists, and its numbers (0 where it does not)."""

    exists: Bools
    multiplier: I64
    shift: I64
    add: I64


class _Relative:
    """The demands shifted by each row's first step, as float64 (exact: below 2^33)."""

    def __init__(self, s: Steps) -> None:
        origin = s.t[:, :1]
        self.t = (s.t - origin).astype(np.float64)
        self.u = (s.u - origin).astype(np.float64)
        index = np.arange(s.t.shape[1], dtype=np.float64)[None, :]
        self.j = np.minimum(index, (s.count[:, None] - 1).astype(np.float64))
        self.floor = (s.floor_x - origin[:, 0]).astype(np.float64)
        self.ceil = (s.ceil_x - origin[:, 0]).astype(np.float64)
        self.floor_open, self.ceil_open = s.floor_open, s.ceil_open
        self.last = (s.count - 1).astype(np.float64)

    def tightest(self, rows: I64, a: F64, b: F64) -> tuple[F64, F64, F64]:
        """At r = a/b: sign of g, and the line (dw, du) of the pair that gives it: g = dw*r - du, scaled by b."""
        j, t, u = self.j[rows], self.t[rows], self.u[rows]
        scaled = j * a[:, None]
        low = scaled - t * b[:, None]
        i = low.argmax(axis=1)
        pick = np.arange(len(rows))
        most, v, tv = low[pick, i], j[pick, i], t[pick, i]
        extra = np.where(self.floor_open[rows], -a - self.floor[rows] * b, -np.inf)
        use = extra > most
        most, v, tv = np.where(use, extra, most), np.where(use, -1.0, v), np.where(use, self.floor[rows], tv)
        high = scaled - u * b[:, None]
        i = high.argmin(axis=1)
        least, w, uw = high[pick, i], j[pick, i], u[pick, i]
        end = self.last[rows] + 1
        extra = np.where(self.ceil_open[rows], end * a - self.ceil[rows] * b, np.inf)
        use = extra < least
        least, w, uw = np.where(use, extra, least), np.where(use, end, w), np.where(use, self.ceil[rows], uw)
        return least - most, w - v, uw - tv

    def interval(self) -> tuple[F64, F64, F64, F64, Bools]:
        """Ends a/b (lower), c/d (upper) of the open interval of r = 2^S/M, and whether it is not empty."""
        a, b, c, d, alive = self.ends()
        return a, b, c, d, alive & (a * d < c * b)

    def ends(self) -> tuple[F64, F64, F64, F64, Bools]:
        """Least and greatest r with g(r) >= 0, and whether there is any."""
        m = len(self.last)
        a, b = np.zeros(m), np.ones(m)
        single = self.last == 0
        d = np.where(single, 1.0, self.last)
        c = np.where(single, _FAR, self.t[:, -1] - self.u[:, 0])
        alive = np.ones(m, dtype=np.bool_)
        for numerator, denominator, side in ((a, b, 1.0), (c, d, -1.0)):
            rows = np.flatnonzero(alive)
            for _ in range(_ROUNDS):
                if not len(rows):
                    break
                g, dw, du = self.tightest(rows, numerator[rows], denominator[rows])
                moving = (g < 0) & (dw * side > 0)
                alive[rows[(g < 0) & ~moving]] = False
                rows, dw, du = rows[moving], dw[moving], du[moving]
                numerator[rows], denominator[rows] = du * np.sign(dw), np.abs(dw)
            alive[rows] = False
        return a, b, c, d, alive


def find_fixed(steps: Steps, lo: int, hi: int) -> FixedForms:
    """For each row the form with the least shift, proved by evaluating it on both sides of every step.

    lo, hi: the clamp after the shift, within int16."""
    m = len(steps.v0)
    multiplier, shift, add = np.zeros(m, np.int64), np.zeros(m, np.int64), np.zeros(m, np.int64)
    a, b, c, d, open_ = _Relative(steps).interval()
    p1, q1, p2, q2 = (x.astype(np.int64) for x in (a, b, c, d))
    rows = np.flatnonzero(open_)
    for s in range(MAX_SHIFT + 1):
        if not len(rows):
            break
        power = np.int64(1) << np.int64(s)
        least = power * q2[rows] // p2[rows] + 1  # 2^S/M < p2/q2
        bound = np.where(p1[rows] > 0, p1[rows], 1)
        most = np.where(p1[rows] > 0, -(-power * q1[rows] // bound) - 1, MAX_MULTIPLIER)  # 2^S/M > p1/q1
        found = (least <= most) & (least <= MAX_MULTIPLIER)
        multiplier[rows[found]], shift[rows[found]] = least[found], s
        rows = rows[~found & (least <= MAX_MULTIPLIER)]
    rows = np.flatnonzero(multiplier > 0)
    exists = np.zeros(m, dtype=np.bool_)
    if len(rows):
        part = steps.rows(rows)
        mm, ss = multiplier[rows], shift[rows]
        v = part.v0[:, None] + np.minimum(np.arange(part.t.shape[1])[None, :], part.count[:, None] - 1)
        least_add = ((v << ss[:, None]) - part.t * mm[:, None]).max(axis=1)
        floor_add = ((part.v0 - 1) << ss) - part.floor_x * mm
        add[rows] = np.where(part.floor_open, np.maximum(least_add, floor_add), least_add)
        exists[rows] = verify_fixed(part, mm, ss, add[rows], lo, hi)
    for values in (multiplier, shift, add):
        values[~exists] = 0
    return FixedForms(exists, multiplier, shift, add)


def relative_ends(steps: Steps) -> tuple[F64, F64, F64, F64, Bools]:
    """Ends a/b and c/d of the slopes r = 2^S/M that meet all demands but for equality, and which rows have any."""
    return _Relative(steps).ends()


def within_64_bits(steps: Steps, multiplier: I64, add: I64) -> Bools:
    """Whether x*M + C stays in 64 bits over the range of each row."""
    reach = np.maximum(np.abs(steps.floor_x), np.abs(steps.ceil_x)).astype(np.float64)
    ok: Bools = reach * multiplier + np.abs(add.astype(np.float64)) < _HEADROOM
    return ok


def verify_fixed(steps: Steps, multiplier: I64, shift: I64, add: I64, lo: int, hi: int) -> Bools:
    """The proof: no 64-bit overflow over the range, both ends and both sides of every step as demanded.

    The form is monotone (M > 0), so agreement at every step is agreement at every accumulator."""
    ok = within_64_bits(steps, multiplier, add)
    m, s, c = multiplier[:, None], shift[:, None], add[:, None]
    v = steps.v0[:, None] + np.minimum(np.arange(steps.t.shape[1])[None, :], steps.count[:, None] - 1)

    def form(x: I64) -> I64:
        y: I64 = x * m
        y += c
        y >>= s
        np.clip(y, lo, hi, out=y)
        return y

    ok &= (form(steps.t) >= v).all(axis=1) & (form(steps.u) < v).all(axis=1)
    ok &= form(steps.floor_x[:, None])[:, 0] == steps.v0 - 1
    ok &= form(steps.ceil_x[:, None])[:, 0] == steps.v0 + steps.count - 1
    return ok
