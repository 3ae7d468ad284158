"""Steps of the float32 requantiser: needs accumulator ranges, gives the exact integer at which each output begins.

The requantiser of ONNX Runtime, y(acc) = sat(rint(f32(acc) * scale) + zero_point) in float32, never decreases with
acc when scale >= 0 (the conversion, the product with a non-negative number, rint and the clamp are all monotone).
It is therefore described completely by its *steps*: t[v], the least accumulator whose output is at least v.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


def float_requantise(acc: NDArray[np.integer], scale: F32, zero_point: int, lo: int, hi: int) -> I32:
    """ONNX Runtime's formula, clamp(rint(f32(acc) * scale) + zero_point, lo, hi), broadcasting `scale` over `acc`."""
    with np.errstate(over="ignore", invalid="ignore"):
        y = acc.astype(np.float32)
        y *= scale
        np.rint(y, out=y)
        y += np.float32(zero_point)
    np.clip(y, np.float32(lo), np.float32(hi), out=y)
    return y.astype(np.int32)


def _boundaries(zero_point: int, lo: int, hi: int) -> NDArray[np.float64]:
    """For v = lo .. hi: the exact product above (or at) which the float32 product rounds to v - zero_point or more.

    rint(p) >= k begins at p = k - 1/2 for even k and just above it for odd k; a product rounds to that float32 from
    half an ulp below (above) on. These midpoints have 25 significant bits, exact in float64.
    """
    k = np.arange(lo, hi + 1, dtype=np.int64) - zero_point
    half = (k - 0.5).astype(np.float32)
    towards = np.where(k % 2 == 0, np.float32(-np.inf), np.float32(np.inf)).astype(np.float32)
    neighbour = np.nextafter(half, towards)
    result: NDArray[np.float64] = (half.astype(np.float64) + neighbour.astype(np.float64)) / 2
    return result


def find_steps(
    acc_lo: I64, acc_hi: I64, scale: F32, zero_point: int, lo: int, hi: int, first: I32, last: I32, width: int
) -> I64:
    """t[c, j]: the least accumulator in (acc_lo[c], acc_hi[c]] whose output is at least first[c] + 1 + j.

    first, last: outputs at the two ends of the range. Row c holds last[c] - first[c] steps, padded to `width` columns
    by repeating its last one; every row has at least one. A closed guess is checked against the float32 function on
    both sides of the step; the few that fail (products beyond 2^24, where f32(acc) itself rounds) are bisected.
    """
    column = np.arange(width, dtype=np.int32)[None, :]
    v = np.minimum(first[:, None] + 1 + column, last[:, None])
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        guess = _boundaries(zero_point, lo, hi)[v - lo]
        guess /= scale.astype(np.float64)[:, None]
        np.ceil(guess, out=guess)
    np.clip(guess, (acc_lo + 1)[:, None], acc_hi[:, None], out=guess)
    t = guess.astype(np.int32)
    s = scale[:, None]
    wrong = (float_requantise(t, s, zero_point, lo, hi) < v) | (float_requantise(t - 1, s, zero_point, lo, hi) >= v)
    steps: I64 = t.astype(np.int64)
    if wrong.any():
        rows, columns = np.nonzero(wrong)
        below, above = acc_lo[rows].copy(), acc_hi[rows].copy()  # output(below) < v <= output(above)
        wanted, row_scale = v[rows, columns], scale[rows]
        while (above - below > 1).any():
            middle = (below + above) >> 1
            reached = float_requantise(middle, row_scale, zero_point, lo, hi) >= wanted
            above = np.where(reached, middle, above)
            below = np.where(reached, below, middle)
        steps[rows, columns] = above
    return steps
