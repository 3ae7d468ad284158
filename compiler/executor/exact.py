"""Exact float32 arithmetic in NumPy: a fused multiply-add that rounds once, and the 65,536-pair tables of VBIN.

fma(a, b, c) with an integer |a| < 2^29 and float32 b, c: a*b is exact in float64 (29 + 24 bits). The sum a*b + c is
rounded to odd in float64 (TwoSum gives the error) and then to float32; since 53 >= 24 + 2 this equals one rounding
(Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.faults import ILLEGAL, Fault
from compiler.isa.table import KIND_ADD, MODE_FIXED, MODE_FP32

VBIN_ENTRY = np.dtype(
    [
        ("mode", "u1"),
        ("shift", "u1"),
        ("za", "<i2"),
        ("zb", "<i2"),
        ("zy", "<i2"),
        ("ma", "<i4"),
        ("mb", "<i4"),
        ("add", "<i8"),
        ("zero", "S8"),
    ]
)


def fma32(
    a: NDArray[Any], b: np.float32 | NDArray[np.float32], c: np.float32 | NDArray[np.float32]
) -> NDArray[np.float32]:
    """float32(a*b + c) rounded once; a holds integers below 2^29 in magnitude."""
    p = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    q = np.broadcast_to(np.asarray(c, np.float64), np.broadcast_shapes(p.shape, np.shape(c)))
    s = np.asarray(p + q)
    t = s - p
    error = (p - (s - t)) + (q - t)
    even = (s.view(np.int64) & 1) == 0
    odd = np.nextafter(s, np.where(error > 0, np.inf, -np.inf))
    out: NDArray[np.float32] = np.where((error != 0) & even, odd, s).astype(np.float32)
    return out


def to_bytes(values: NDArray[Any], lo: int, hi: int) -> NDArray[np.uint8]:
    """clamp(values, lo, hi) as raw bytes; values are integers or integral floats."""
    clamped: NDArray[np.int16] = np.clip(values, lo, hi).astype(np.int16)
    return clamped.astype(np.uint8)


@lru_cache(maxsize=512)
def binary_table(kind: int, entry: bytes, a_unsigned: bool, b_unsigned: bool, lo: int, hi: int) -> NDArray[np.uint8]:
    """Result bytes of VBIN for every pair, at index (raw a) * 256 + raw b. Raises Fault on an unknown mode or a NaN."""
    e = np.frombuffer(entry, VBIN_ENTRY)[0]
    raw = np.arange(256)
    plain = np.where(raw < 128, raw, raw - 256)
    a = (raw if a_unsigned else plain).astype(np.int64)[:, None]
    b = (raw if b_unsigned else plain).astype(np.int64)[None, :]
    mode, shift = int(e["mode"]), int(e["shift"])
    if mode == MODE_FIXED:
        if shift > 63:
            raise Fault(ILLEGAL, f"has a requantiser shift of {shift}")
        ma, mb, add = np.int64(e["ma"]), np.int64(e["mb"]), np.int64(e["add"])
        acc = a * ma + b * mb if kind == KIND_ADD else (a - int(e["za"])) * (b - int(e["zb"])) * ma
        return np.ravel(to_bytes((acc + add) >> shift, lo, hi))
    if mode != MODE_FP32:
        raise Fault(ILLEGAL, f"has requantiser mode {mode}")
    ra, rb = np.frombuffer(entry, "<f4", 2, 8)
    c = np.frombuffer(entry, "<f4", 1, 16)[0]
    with np.errstate(all="ignore"):
        if kind == KIND_ADD:
            y = np.rint(fma32(a, ra, fma32(b, rb, c)))
        else:
            p = ((a - int(e["za"])) * (b - int(e["zb"]))).astype(np.float32)
            y = np.rint((p * ra).astype(np.float32) + np.float32(int(e["zy"])))
    if np.isnan(y).any():
        raise Fault(ILLEGAL, "has a float requantiser that gives NaN")
    return np.ravel(to_bytes(y, lo, hi))
