"""Shared arrays of counts against numpy's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.isa.stream.counts import count, firsts, index, is_count, same, times


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_the_first_index_that_reaches_a_count(steps: list[int]) -> None:
    ascending = np.cumsum(steps)
    wanted = np.searchsorted(ascending, np.arange(1, ascending[-1] + 1), side="left")
    assert firsts(ascending).tolist() == wanted.tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 65535, 65536, 65537, 200_000])
def test_numbers_one_after_the_other(n: int) -> None:
    assert np.array_equal(count(n), np.arange(1, n + 1)) and np.array_equal(index(n), np.arange(n))
    assert is_count(np.arange(1, n + 1)) == (n > 0)


def test_what_begins_and_ends_like_a_count_may_be_none() -> None:
    assert not is_count(np.array([1, 1, 3])) and not is_count(np.array([1, 3, 3])) and not is_count(np.array([2, 3]))


def test_one_value_n_times() -> None:
    assert same(3, 7).tolist() == [7, 7, 7] and times(same(3, 7), 2).tolist() == [14, 14, 14]
    assert times(same(3, 7), 2).strides == (0,) and times(np.array([1, 2]), 3).tolist() == [3, 6]
    with pytest.raises(ValueError, match="read-only"):
        count(4)[0] = 5
