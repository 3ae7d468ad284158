"""Judges of the requantiser: float32 formulas written out plainly, and TAB entries read as docs/machine.md says."""

from __future__ import annotations

import struct

import numpy as np


def float32_vreq(acc: np.ndarray, scale: np.float32, zero_point: int, lo: int, hi: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        product = acc.astype(np.float32) * np.float32(scale)
    return np.clip(np.rint(product) + np.float32(zero_point), lo, hi).astype(np.int64)


def machine_vreq(image: bytes, channel: int, acc: np.ndarray, zero_point: int, lo: int, hi: int) -> np.ndarray:
    """Evaluates one packed entry: docs/machine.md, row VREQ; layout of compiler/isa/table.py."""
    at = 16 * channel
    shift, mode = image[at + 4], image[at + 5]
    (steps,) = struct.unpack_from("<H", image, at + 6)
    (word,) = struct.unpack_from("<i", image, at)
    (add,) = struct.unpack_from("<q", image, at + 8)
    if mode == 0:
        assert steps == 0
        big = acc.astype(object) * word + add  # Python integers: 64-bit overflow would show
        assert min(big[0], big[-1]) >= -(2**63) and max(big[0], big[-1]) < 2**63
        return np.clip((acc * word + add) >> shift, lo, hi)
    if mode == 1:
        t = np.frombuffer(image, "<i4", steps, add)
        assert np.all(np.diff(t) >= 0)
        return np.clip(word + np.searchsorted(t, acc, side="right"), lo, hi)
    (scale,) = struct.unpack_from("<f", image, at)
    return float32_vreq(acc, np.float32(scale), zero_point, lo, hi)
