"""Packed tables of step functions against the step function itself, on every reachable accumulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.graph import Thresholds
from compiler.requant import pack_vreq, step_plan
from tests.requant.reference import machine_vreq

NEVER, ALWAYS = np.iinfo(np.int32).max, np.iinfo(np.int32).min


def assert_equal_everywhere(t: Thresholds, low: np.ndarray, high: np.ndarray) -> None:
    plan = step_plan(t, low, high)
    image = pack_vreq(plan)
    for c, row in enumerate(t.values):
        acc = np.arange(low[c], high[c] + 1, dtype=np.int64)
        want = t.base + t.step * (row[None, :].astype(np.int64) <= acc[:, None]).sum(axis=1)
        np.testing.assert_array_equal(machine_vreq(image, c, acc, 0, t.levels.lo, t.levels.hi), want)


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_equals_the_step_function_on_the_whole_range(data: st.DataObject) -> None:
    m, count = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([1, 3, 7, 15, 40]))
    step = data.draw(st.sampled_from([1, 1, 2]))
    value = st.one_of(st.integers(-700, 700), st.sampled_from([NEVER, ALWAYS]))
    rows = [sorted(data.draw(st.lists(value, min_size=count, max_size=count))) for _ in range(m)]
    ends = [sorted(data.draw(st.tuples(st.integers(-600, 600), st.integers(-600, 600)))) for _ in range(m)]
    base = data.draw(st.integers(-40, 40))
    low, high = np.array(ends, np.int64).T
    assert_equal_everywhere(Thresholds(base, step, np.array(rows, np.int32)), low, high)


def test_a_sign_needs_no_table() -> None:
    """A jump by two between the clamps is a steep line: the fixed form, 16 bytes instead of two thresholds."""
    t = Thresholds(-1, 2, np.array([[5], [-31]], np.int32))
    plan = step_plan(t, np.array([-500, -500]), np.array([500, 500]))
    assert plan.mode_counts() == {"fixed": 2, "threshold": 0, "fp32": 0}
    assert_equal_everywhere(t, plan.acc_lo, plan.acc_hi)


def test_uneven_steps_are_searched() -> None:
    t = Thresholds(0, 1, np.array([[0, 1, 400]], np.int32))
    plan = step_plan(t, np.array([-500]), np.array([500]))
    assert plan.mode_counts() == {"fixed": 0, "threshold": 1, "fp32": 0}
    assert plan.cost.tolist() == [16 + 4 * 3]


@pytest.mark.parametrize("value, result", [(NEVER, 3), (ALWAYS, 4)])
def test_a_step_out_of_reach_takes_no_table(value: int, result: int) -> None:
    t = Thresholds(3, 1, np.array([[value]], np.int32))
    plan = step_plan(t, np.array([-50]), np.array([50]))
    assert plan.mode_counts()["fixed"] == 1 and int(plan.base[0]) == result
    assert_equal_everywhere(t, plan.acc_lo, plan.acc_hi)
