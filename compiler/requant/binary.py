"""Quantised add and multiply: needs float32 constants and operand ranges, gives one VBIN entry proved over all pairs.

QLinearAdd is sat(rint(fma(a, ra, fma(b, rb, c)))), QLinearMul sat(rint(f32(f32(p) * s) + f32(zy))) with
p = (a - za)(b - zb), all in float32. At most 65,536 operand pairs exist, so a fixed-point form is proved by comparing
every one of them; where none is found the entry keeps the float32 formula itself.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compiler.isa.table import MODE_FIXED, MODE_FP32, VBIN_ENTRY_BYTES
from compiler.requant.fixed import Steps, find_fixed

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

_NEAR = 2.0**-7  # pairs whose real value is farther than this from a rounding boundary cannot change sides below
_SHIFTS = range(8, 31)
_NEIGHBOURS = 2  # multipliers tried on each side of the rounded ones


class BinaryEntry(NamedTuple):
    """mode: MODE_FIXED | MODE_FP32; data: the 32 bytes of the TAB entry; proof: plain integers for the metadata."""

    mode: int
    data: bytes
    proof: dict[str, object]


def fma32(x: NDArray[np.float32], y: np.float32, z: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """float32 fused multiply-add, rounded once.

    x*y is exact in float64; the sum is rounded to odd there, after which rounding to float32 is innocuous
    (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
    """
    p = x.astype(np.float64) * np.float64(y)
    q = np.broadcast_to(np.asarray(z, dtype=np.float64), p.shape)
    s = p + q
    t = s - p
    error = (p - (s - t)) + (q - t)
    bits = s.view(np.int64)
    up = (error > 0) == (s > 0)  # away from zero
    odd = np.where((error != 0) & ((bits & 1) == 0), np.where(up, bits + 1, bits - 1), bits)
    result: NDArray[np.float32] = odd.view(np.float64).astype(np.float32)
    return result


def add_pairs(a: I64, b: I64, ra: float, rb: float, c: float, lo: int, hi: int) -> I64:
    """QLinearAdd over the grid: (len(a), len(b)) outputs clamped to [lo, hi]."""
    inner = fma32(b.astype(np.float32), np.float32(rb), np.float32(c))
    x = np.repeat(a.astype(np.float32)[:, None], len(b), axis=1)
    y = fma32(x, np.float32(ra), np.broadcast_to(inner, x.shape))
    clamped: I64 = np.clip(np.rint(y), lo, hi).astype(np.int64)
    return clamped


def mul_products(p: I64, s: float, y_zero_point: int, lo: int, hi: int) -> I64:
    """QLinearMul as a function of the product of the centred operands (below 2^17, exact in float32)."""
    y = p.astype(np.float32) * np.float32(s) + np.float32(y_zero_point)
    clamped: I64 = np.clip(np.rint(y), lo, hi).astype(np.int64)
    return clamped


def binary_entry(
    kind: str,
    params: dict[str, float],
    a_zero_point: int,
    b_zero_point: int,
    y_zero_point: int,
    lo: int,
    hi: int,
    *,
    a_values: NDArray[np.generic] | range,
    b_values: NDArray[np.generic] | range,
) -> BinaryEntry:
    """The VBIN entry of one QLinearAdd ("add": params ra, rb, c) or QLinearMul ("mul": params s).

    lo, hi: output clamp. a_values, b_values: every value that the operand can take, range(0, 256) or range(-128, 128),
    or the values of a constant operand; the fixed form is proved for every pair of them. The instruction carries lo and
    hi itself; the layout is the comment in compiler/isa/table.py, unused fields are zero.
    Raises ValueError on another kind or empty values.
    """
    a = np.unique(np.asarray(a_values, dtype=np.int64))
    b = np.unique(np.asarray(b_values, dtype=np.int64))
    if kind not in ("add", "mul") or not len(a) or not len(b):
        raise ValueError(f"binary_entry: kind {kind!r}, {len(a)} x {len(b)} operand values")
    proof: dict[str, object] = {"kind": kind, "pairs": len(a) * len(b)}
    if kind == "add":
        ra, rb, c = (np.float32(params[k]) for k in ("ra", "rb", "c"))
        form = _fixed_add(a, b, float(ra), float(rb), float(c), lo, hi)
        if form is not None:
            ma, mb, add, shift = form
            proof |= {"mode": "fixed", "multiplier_a": ma, "multiplier_b": mb, "shift": shift, "add": add}
            return BinaryEntry(MODE_FIXED, struct.pack("<BBhhhiiq8x", MODE_FIXED, shift, 0, 0, 0, ma, mb, add), proof)
        data = struct.pack("<BBhhhfff12x", MODE_FP32, 0, 0, 0, 0, ra, rb, c)
    else:
        s = np.float32(params["s"])
        product = _fixed_mul(a - a_zero_point, b - b_zero_point, float(s), y_zero_point, lo, hi)
        if product is not None:
            ma, add, shift = product
            proof |= {"mode": "fixed", "multiplier": ma, "shift": shift, "add": add}
            head = (MODE_FIXED, shift, a_zero_point, b_zero_point, 0, ma, 0, add)
            return BinaryEntry(MODE_FIXED, struct.pack("<BBhhhiiq8x", *head), proof)
        data = struct.pack("<BBhhhf20x", MODE_FP32, 0, a_zero_point, b_zero_point, y_zero_point, s)
    assert len(data) == VBIN_ENTRY_BYTES
    return BinaryEntry(MODE_FP32, data, proof | {"mode": "fp32"})


def _fixed_mul(a: I64, b: I64, s: float, y_zero_point: int, lo: int, hi: int) -> tuple[int, int, int] | None:
    """(M, C, S) with clamp((p*M + C) >> S) equal at every product of centred operands; complete: None proves none."""
    if not (np.isfinite(s) and s >= 0):
        return None
    p = np.unique(np.multiply.outer(a, b))
    y = mul_products(p, s, y_zero_point, lo, hi)
    first, last = int(y[0]), int(y[-1])
    if first == last:
        return 0, first, 0
    at = np.searchsorted(y, np.arange(first + 1, last + 1))  # first product of at least v
    steps = Steps(
        p[at][None],
        p[at - 1][None],
        np.array([first + 1]),
        np.array([last - first]),
        p[:1],
        p[-1:],
        np.array([first > lo]),
        np.array([last < hi]),
    )
    form = find_fixed(steps, lo, hi)
    if not form.exists[0]:
        return None
    return int(form.multiplier[0]), int(form.add[0]), int(form.shift[0])


def _fixed_add(a: I64, b: I64, ra: float, rb: float, c: float, lo: int, hi: int) -> tuple[int, int, int, int] | None:
    """(ma, mb, C, S) with clamp((a*ma + b*mb + C) >> S) equal at every pair, or None if none is found.

    For given ma, mb, S the fitting C are an interval read off the pairs. First the multipliers next to the float
    constants, from small shifts up. Only pairs near a rounding boundary can object to a small move of the constants;
    the winner is proved on all. (A search about the centre of the polyhedron of real solutions found nothing more in
    1,200 random cases: what fails here are exact ties, whose half-to-even no straight plane follows.)
    """
    if not np.isfinite([ra, rb, c]).all() or max(abs(ra), abs(rb)) >= 128:
        return None
    y = add_pairs(a, b, ra, rb, c, lo, hi)
    if y.min() == y.max():
        return 0, 0, int(y.flat[0]), 0
    real = a[:, None] * ra + (b * rb + (c + 0.5))
    fraction = real - np.floor(real)
    near = (np.minimum(fraction, 1 - fraction) < _NEAR) & (real > lo - 1) & (real < hi + 2)
    rows, columns = np.nonzero(near)
    na, nb, ny = a[rows], b[columns], y[rows, columns]
    for shift in _SHIFTS:
        found = _try(a, b, y, na, nb, ny, ra, rb, shift, lo, hi)
        if found is not None:
            return found
    return None


def _try(
    a: I64, b: I64, y: I64, na: I64, nb: I64, ny: I64, ra: float, rb: float, shift: int, lo: int, hi: int
) -> tuple[int, int, int, int] | None:
    """The first neighbour of (ra, rb) * 2^shift for which some C fits the near pairs and is then proved on all."""
    power = 1 << shift
    base_a, base_b = round(ra * power), round(rb * power)
    offsets = sorted(range(-_NEIGHBOURS, _NEIGHBOURS + 1), key=lambda k: (abs(k), k))
    moves = sorted(((i, j) for i in offsets for j in offsets), key=lambda m: (abs(m[0]) + abs(m[1]), m))
    ma = np.array([base_a + i for i, _ in moves])
    mb = np.array([base_b + j for _, j in moves])
    product = na[None, :] * ma[:, None] + nb[None, :] * mb[:, None]
    floor, ceiling = (ny << shift)[None, :] - product, ((ny + 1) << shift)[None, :] - 1 - product
    least = np.where(ny > lo, floor, -(2**62)).max(axis=1, initial=-(2**62))
    most = np.where(ny < hi, ceiling, 2**62).min(axis=1, initial=2**62)
    for k in np.flatnonzero(least <= most):
        for choice in (ma[k], mb[k]):
            if not -(2**31) <= choice < 2**31:
                return None
        # Any C of the near pairs' interval may still be refused by a far pair: take its own exact interval.
        full = a[:, None] * ma[k] + b[None, :] * mb[k]
        floors = ((y << shift) - full)[y > lo]
        ceilings = (((y + 1) << shift) - 1 - full)[y < hi]
        first = int(floors.max()) if floors.size else int(ceilings.min())
        if ceilings.size and first > int(ceilings.min()):
            continue
        if np.array_equal(np.clip((full + first) >> shift, lo, hi), y):
            return int(ma[k]), int(mb[k]), first, shift
    return None
