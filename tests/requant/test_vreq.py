"""Packed requantiser tables against a direct float32 evaluation of every reachable accumulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.requant import RequantPlan, pack_vreq, packed_bytes, reachable_range, requantise
from tests.requant.reference import float32_vreq, machine_vreq

CLAMPS = [(0, 255), (-128, 127), (0, 15), (128, 255), (7, 7), (-3, 100)]


def assert_equal_everywhere(plan: RequantPlan, image: bytes | None = None) -> None:
    image = pack_vreq(plan) if image is None else image
    for c in range(plan.channels):
        low, high = int(plan.acc_lo[c]), int(plan.acc_hi[c])
        if high - low <= 200_000:
            acc = np.arange(low, high + 1, dtype=np.int64)
        else:  # every float32 step lies next to some accumulator where the output changes: find those, and sample
            acc = np.unique(
                np.clip(np.concatenate([wide_steps(plan, c), np.linspace(low, high, 5001).astype(np.int64)]), low, high)
            )
        want = float32_vreq(acc, plan.scale[c], plan.zero_point, plan.lo, plan.hi)
        got = machine_vreq(image, c, acc, plan.zero_point, plan.lo, plan.hi)
        wrong = np.flatnonzero(want != got)
        assert not len(wrong), (c, int(plan.mode[c]), int(acc[wrong[0]]), want[wrong[0]], got[wrong[0]])


def wide_steps(plan: RequantPlan, c: int) -> np.ndarray:
    """Accumulators on both sides of every step, by plain bisection in Python."""
    low, high = int(plan.acc_lo[c]), int(plan.acc_hi[c])

    def f(a: int) -> int:
        return int(float32_vreq(np.array([a]), plan.scale[c], plan.zero_point, plan.lo, plan.hi)[0])

    found = [low, high]
    for v in range(f(low) + 1, f(high) + 1):
        a, b = low, high
        while b - a > 1:
            middle = (a + b) // 2
            a, b = (a, middle) if f(middle) >= v else (middle, b)
        found += [a, b]
    return np.array(found, dtype=np.int64)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    clamp=st.sampled_from(CLAMPS),
    limit=st.sampled_from([0, 16, 300]),
)
def test_equals_float32_on_the_whole_range(data: st.DataObject, clamp: tuple[int, int], limit: int) -> None:
    m = data.draw(st.integers(1, 4))
    ends = [sorted(data.draw(st.tuples(st.integers(-90_000, 90_000), st.integers(-90_000, 90_000)))) for _ in range(m)]
    exponent = [data.draw(st.floats(-18, 3)) for _ in range(m)]
    scale = np.array([2.0**e for e in exponent], dtype=np.float32)
    zero_point = data.draw(st.integers(-128, 255))
    low, high = np.array([e[0] for e in ends]), np.array([e[1] for e in ends])
    plan = requantise(low, high, scale, zero_point, *clamp, threshold_limit_steps=limit)
    assert_equal_everywhere(plan)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25, 2.0, 1.5, 1 / 3, 1e-30, 1e-45, 0.0, 1e30, 3e38, 2.0**-24, 2.0**-20])
@pytest.mark.parametrize(
    "ends", [(-1000, 1000), (0, 0), (-5, -5), (-(2**31), 2**31 - 1), (2**30, 2**31 - 1), (-70000, 3)]
)
def test_awkward_scales(scale: float, ends: tuple[int, int]) -> None:
    assert_equal_everywhere(requantise([ends[0]], [ends[1]], np.float32(scale), 3, -128, 127))


@pytest.mark.parametrize("scale", [1e-7, 3.3e-8, 1.0001e-6, 5e-9])
def test_sums_beyond_float32_integers(scale: float) -> None:
    """|acc| > 2^24: the conversion itself rounds, so a step may lie many accumulators from the real quotient."""
    assert_equal_everywhere(requantise([-(2**31)], [2**31 - 1], np.float32(scale), -7, -128, 127))


def test_negative_and_infinite_scales_stay_in_float() -> None:
    plan = requantise([-500, -500], [500, 500], np.array([-0.1, np.inf], np.float32), 0, -128, 127)
    assert plan.mode_counts() == {"fixed": 0, "threshold": 0, "fp32": 2}


def test_power_of_two_scale_has_ties_to_even_and_no_fixed_form() -> None:
    """acc/2 rounds half to even: 1 -> 0, 3 -> 2, 5 -> 2, 7 -> 4: no straight line does that."""
    plan = requantise([-100], [100], np.float32(0.5), 0, -128, 127)
    assert plan.mode_counts()["fp32"] == 1
    assert_equal_everywhere(plan)


def test_known_fixed_form() -> None:
    """Scale 1: y = acc is (acc*1 + 0) >> 0, clamped; no shift is smaller."""
    plan = requantise([-1000], [1000], np.float32(1.0), 0, -128, 127)
    assert (plan.mode_counts()["fixed"], plan.multiplier[0], plan.shift[0], plan.add[0]) == (1, 1, 0, 0)


def test_few_steps_become_thresholds_when_no_line_fits() -> None:
    plan = requantise([-9], [9], np.float32(0.5), 0, -128, 127)
    assert plan.mode_counts()["threshold"] == 1 and plan.cost[0] == 16 + 4 * plan.step_count[0]
    assert plan.step_count[0] == 8  # -9/2 -> -4 ... 9/2 -> 4
    assert_equal_everywhere(plan)


def test_slices_stand_by_themselves() -> None:
    rng = np.random.default_rng(5)
    scale = np.where(rng.random(40) < 0.5, 0.5, rng.uniform(0.01, 0.3, 40)).astype(np.float32)
    plan = requantise(np.full(40, -12), rng.integers(3, 300, 40), scale, 1, 0, 255)
    assert min(plan.mode_counts().values()) > 0
    for start, stop in [(0, 40), (7, 8), (5, 31), (39, 40), (3, 3)]:
        image = pack_vreq(plan, start, stop)
        assert len(image) == packed_bytes(plan, start, stop)
        for c in range(start, stop):
            acc = np.arange(plan.acc_lo[c], plan.acc_hi[c] + 1)
            want = float32_vreq(acc, plan.scale[c], 1, 0, 255)
            assert np.array_equal(want, machine_vreq(image, c - start, acc, 1, 0, 255))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_reachable_range_by_brute_force(data: st.DataObject) -> None:
    w = np.array(data.draw(st.lists(st.integers(-4, 4), min_size=1, max_size=4)))[None, :]
    wz, xz, bias = data.draw(st.integers(-2, 2)), data.draw(st.integers(0, 3)), data.draw(st.integers(-9, 9))
    low, high = reachable_range(w, wz, xz, 0, 3, np.array([bias]))
    grids = np.meshgrid(*[np.arange(4)] * w.shape[1], indexing="ij")
    sums = bias + sum((g - xz) * (int(v) - wz) for g, v in zip(grids, w[0], strict=True))
    assert (low[0], high[0]) == (sums.min(), sums.max())


def test_a_sum_that_can_wrap_ranges_over_all_of_int32() -> None:
    low, high = reachable_range(np.full((1, 70_000), 127), 0, 0, 0, 255, np.array([0]))
    assert (low[0], high[0]) == (-(2**31), 2**31 - 1)


def test_same_plan_whatever_its_neighbours() -> None:
    """A channel's form does not depend on which channels are planned with it."""
    rng = np.random.default_rng(1)
    low, high = -rng.integers(1, 50_000, 700), rng.integers(1, 50_000, 700)
    scale = (2.0 ** rng.uniform(-12, -4, 700)).astype(np.float32)
    together = requantise(low, high, scale, 0, -128, 127)
    for c in (0, 13, 699):
        alone = requantise(low[c], high[c], scale[c], 0, -128, 127)
        assert pack_vreq(alone) == pack_vreq(together, c, c + 1)


def test_contradicting_arguments_are_refused() -> None:
    with pytest.raises(ValueError):
        requantise([1], [0], np.float32(1), 0, 0, 255)
    with pytest.raises(ValueError):
        requantise([0], [2**31], np.float32(1), 0, 0, 255)


def test_fixed_form_is_found_whenever_a_small_search_finds_one() -> None:
    """Exhaustive over M < 2^10, S < 12 and every C: the interval method misses none and never has a greater shift."""
    rng = np.random.default_rng(11)
    seen = 0
    for _ in range(60):
        low, high = -int(rng.integers(0, 60)), int(rng.integers(1, 60))
        scale = np.float32(rng.choice([0.5, 0.25, 0.75, rng.uniform(0.02, 0.9)]))
        plan = requantise([low], [high], scale, 0, -128, 127, threshold_limit_steps=0)
        acc = np.arange(low, high + 1, dtype=np.int64)
        y = float32_vreq(acc, scale, 0, -128, 127)
        best = None
        products = acc[:, None] * np.arange(1 << 10)  # every multiplier at once
        for s in range(12):
            # C must satisfy y*2^s <= acc*M + C < (y+1)*2^s for all acc (no clamp is active here)
            least = (y[:, None] * 2**s - products).max(axis=0)
            most = ((y[:, None] + 1) * 2**s - 1 - products).min(axis=0)
            if (least <= most).any():
                best = s
                break
        if best is not None:
            seen += 1
            assert plan.mode[0] == 0 and plan.shift[0] <= best, (low, high, float(scale), best)
    assert seen >= 15
