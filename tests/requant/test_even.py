"""Fixed-point forms with halves to even: found where a step function meets exact halves, and proved."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ir.graph import Thresholds
from compiler.isa.table import MODE_EVEN, MODE_FIXED
from compiler.requant import fixed_plan
from compiler.requant.even import even_form


def steps_of(lo: int, hi: int, least: int, most: int, of: object) -> Thresholds:
    """The thresholds of a rising function of whole numbers, by trying each of lo..hi."""
    x = np.arange(lo, hi + 1)
    y = np.clip(of(x), least, most).astype(np.int64)  # type: ignore[operator]
    return Thresholds(least, 1, x[np.searchsorted(y, np.arange(least + 1, most + 1))][None].astype(np.int32))


@pytest.mark.parametrize("shift, factor", [(1, 1), (4, 1), (5, 3), (7, 5)])
def test_rint_of_a_power_of_two_is_even(shift: int, factor: int) -> None:
    lo, hi = -(600 << shift), 600 << shift
    steps = steps_of(lo, hi, -300, 300, lambda x: np.rint(x * factor / 2.0**shift))
    plan = fixed_plan(steps, np.asarray([lo]), np.asarray([hi]))
    assert plan is not None and plan.mode.tolist() == [MODE_EVEN]
    x = np.arange(lo, hi + 1)
    y = even_form(x, plan.multiplier, plan.shift, plan.add, plan.lo, plan.hi)
    np.testing.assert_array_equal(y, np.clip(np.rint(x * factor / 2.0**shift), -300, 300))
    assert plan.proof()["modes"] == {"fixed": 0, "threshold": 0, "fp32": 0, "even": 1}


def test_halves_that_always_go_up_need_no_even_form() -> None:
    steps = steps_of(-6000, 6000, -300, 300, lambda x: np.floor(x / 16 + 0.5))
    plan = fixed_plan(steps, np.asarray([-6000]), np.asarray([6000]))
    assert plan is not None and plan.mode.tolist() == [MODE_FIXED]


def test_steps_of_no_line_have_no_form() -> None:
    steps = steps_of(0, 90000, 0, 300, lambda x: np.floor(np.sqrt(x)))
    assert fixed_plan(steps, np.asarray([0]), np.asarray([90000])) is None


def test_one_channel_without_a_form_is_enough() -> None:
    line = steps_of(0, 90000, 0, 300, lambda x: np.floor(x / 300)).values
    curve = steps_of(0, 90000, 0, 300, lambda x: np.floor(np.sqrt(x))).values
    ends = np.zeros(2, np.int64), np.full(2, 90000)
    assert fixed_plan(Thresholds(0, 1, np.concatenate([line, line])), *ends) is not None
    assert fixed_plan(Thresholds(0, 1, np.concatenate([line, curve])), *ends) is None
