"""VBIN entries against the float32 formulas over every operand pair, judged with exact rational arithmetic."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.requant import binary_entry
from compiler.requant.binary import fma32

U8, S8 = range(256), range(-128, 128)


def round_to_float32(x: Fraction) -> Fraction:
    """Correct rounding by definition: the nearest float32, ties to an even significand."""
    if x == 0:
        return x
    exponent = max(np.frexp(abs(float(x)))[1], -125) - 24
    unit = Fraction(2) ** int(exponent)
    return round(x / unit) * unit  # Python rounds half to even


def evaluate(data: bytes, kind: str, a: np.ndarray, b: np.ndarray, lo: int, hi: int) -> np.ndarray:
    """docs/machine.md, row VBIN, over the grid a x b."""
    mode, shift, za, zb, zy, wa, wb, add = struct.unpack("<BBhhhiiq8x", data)
    fa, fb, fc = struct.unpack_from("<ff", data, 8) + struct.unpack_from("<f", data, 16)
    a, b = a[:, None].astype(np.int64), b[None, :].astype(np.int64)
    if mode == 0 and kind == "add":
        return np.clip((a * wa + b * wb + add) >> shift, lo, hi)
    if mode == 0:
        return np.clip(((a - za) * (b - zb) * wa + add) >> shift, lo, hi)
    assert mode == 2
    if kind == "mul":
        product = ((a - za) * (b - zb)).astype(np.float32) * np.float32(fa)
        return np.clip(np.rint(product + np.float32(zy)), lo, hi).astype(np.int64)
    inner = [round_to_float32(Fraction(int(v)) * Fraction(fb) + Fraction(fc)) for v in b[0]]
    y = [[round(round_to_float32(Fraction(int(u)) * Fraction(fa) + w)) for w in inner] for u in a[:, 0]]
    return np.clip(np.array(y), lo, hi)


def reference_add(a: np.ndarray, b: np.ndarray, ra: float, rb: float, c: float, lo: int, hi: int) -> np.ndarray:
    inner = [round_to_float32(Fraction(int(v)) * Fraction(float(rb)) + Fraction(float(c))) for v in b]
    return np.array(
        [
            [min(max(round(round_to_float32(Fraction(int(u)) * Fraction(float(ra)) + w)), lo), hi) for w in inner]
            for u in a
        ]
    )


@pytest.mark.parametrize("seed", range(6))
def test_add_equals_the_fused_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sa, sb = np.exp(rng.uniform(-4, -2, 2)).astype(np.float32)
    sc = np.float32((sa + sb) * rng.uniform(0.4, 1.1))
    values, lo, hi = (U8, 0, 255) if seed % 2 else (S8, -128, 127)
    ra, rb, c = np.float32(sa / sc), np.float32(sb / sc), np.float32(rng.uniform(lo, hi))
    sample = np.array(values)[:: 5 if seed else 1]  # all 65,536 pairs once, thinner grids after that
    entry = binary_entry("add", {"ra": ra, "rb": rb, "c": c}, 0, 0, 0, lo, hi, a_values=values, b_values=values)
    assert len(entry.data) == 32 and entry.mode == entry.data[0]
    want = reference_add(sample, sample, ra, rb, c, lo, hi)
    assert np.array_equal(want, evaluate(entry.data, "add", sample, sample, lo, hi))


def test_add_with_exact_ties_keeps_float() -> None:
    """(a + b)/2 rounds half to even, which no plane does."""
    entry = binary_entry("add", {"ra": 0.5, "rb": 0.5, "c": 0.0}, 0, 0, 0, 0, 255, a_values=U8, b_values=U8)
    assert entry.mode == 2 and entry.proof["mode"] == "fp32"
    grid = np.arange(0, 256, 3)
    want = reference_add(grid, grid, 0.5, 0.5, 0.0, 0, 255)
    assert np.array_equal(want, evaluate(entry.data, "add", grid, grid, 0, 255))


def test_add_of_equal_scales_is_a_plain_sum() -> None:
    entry = binary_entry("add", {"ra": 1.0, "rb": 1.0, "c": -100.0}, 0, 0, 0, 0, 255, a_values=U8, b_values=U8)
    grid = np.arange(256)
    want = np.clip(grid[:, None] + grid[None, :] - 100, 0, 255)
    assert entry.mode == 0 and np.array_equal(want, evaluate(entry.data, "add", grid, grid, 0, 255))


def test_a_constant_operand_frees_the_form() -> None:
    """With b only ever 0, half of a has no fixed form, but a alone has one."""
    entry = binary_entry("add", {"ra": 1.0, "rb": 0.5, "c": 0.0}, 0, 0, 0, 0, 255, a_values=U8, b_values=np.array([0]))
    assert entry.mode == 0
    both = binary_entry("add", {"ra": 1.0, "rb": 0.5, "c": 0.0}, 0, 0, 0, 0, 255, a_values=U8, b_values=U8)
    assert both.mode == 2


@settings(max_examples=40, deadline=None)
@given(
    s=st.floats(2.0**-14, 2.0),
    za=st.integers(0, 255),
    zb=st.integers(0, 255),
    zy=st.integers(0, 255),
    clamp=st.sampled_from([(0, 255), (0, 6), (40, 200)]),
)
def test_mul_equals_float32(s: float, za: int, zb: int, zy: int, clamp: tuple[int, int]) -> None:
    scale = np.float32(s)
    entry = binary_entry("mul", {"s": scale}, za, zb, zy, *clamp, a_values=U8, b_values=U8)
    grid = np.arange(256)
    product = ((grid[:, None] - za) * (grid[None, :] - zb)).astype(np.float32) * scale
    want = np.clip(np.rint(product + np.float32(zy)), *clamp)
    assert np.array_equal(want, evaluate(entry.data, "mul", grid, grid, *clamp))


@settings(max_examples=300, deadline=None)
@given(
    x=st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**60), max_value=2.0**60),
    y=st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**40), max_value=2.0**40),
    z=st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**90), max_value=2.0**90),
)
def test_fma_rounds_once(x: float, y: float, z: float) -> None:
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    got = fma32(np.array([x], np.float32), np.float32(y), np.float32(z))[0]
    if abs(exact) > Fraction(1, 2**100):
        assert Fraction(float(got)) == round_to_float32(exact)


def test_fma_where_rounding_twice_goes_wrong() -> None:
    """1 + 2^-24 + 2^-60: float64 drops the last bit and then ties down to 1; one rounding goes up."""
    x, y, z = np.float32(2.0**-30), np.float32(2.0**-30), np.float32(1 + 0)
    tie = np.float32(2.0**-24)
    once = fma32(np.array([tie], np.float32), np.float32(1 + 2.0**-23), z)[0]
    assert once == np.float32(1 + 2.0**-23)
    assert fma32(np.array([x], np.float32), y, z)[0] == np.float32(1)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError):
        binary_entry("sub", {}, 0, 0, 0, 0, 255, a_values=U8, b_values=U8)
