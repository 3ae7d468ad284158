"""Index maps as affine runs: whatever the map, the copies reproduce it, each byte written once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.frontend.read_moves import mapped, runs_of
from compiler.ir.graph import Copy


def replay(copies: tuple[Copy, ...], x: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Element by element, as the definition of Copy has it."""
    y = np.full(size, -1, np.int64)
    for c in copies:
        for i in np.ndindex(*c.dims):
            at = c.dst_offset + sum(a * b for a, b in zip(i, c.dst_strides, strict=True))
            assert y[at] == -1, "written twice"
            y[at] = x[c.src_offset + sum(a * b for a, b in zip(i, c.src_strides, strict=True))]
    return y


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(st.integers(-1, 9), min_size=1, max_size=24))
def test_any_map(m: list[int]) -> None:
    x = np.arange(100, 110)
    y = replay(mapped((10,), (len(m),), [np.asarray(m)]), x, len(m))
    np.testing.assert_array_equal(y, [x[k] if k >= 0 else -1 for k in m])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.lists(st.integers(-1, 4), min_size=1, max_size=8))
def test_two_axes(rows: list[int], columns: list[int]) -> None:
    x = np.arange(20).reshape(4, 5)
    y = replay(
        mapped((4, 5), (len(rows), len(columns)), [np.asarray(rows), np.asarray(columns)]),
        x.reshape(-1),
        len(rows) * len(columns),
    )
    want = [[x[r, c] if c >= 0 else -1 for c in columns] for r in rows]
    np.testing.assert_array_equal(y.reshape(len(rows), len(columns)), want)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_repetition_is_one_copy(factor: int) -> None:
    assert len(runs_of(np.repeat(np.arange(30), factor))) == 1
    assert len(runs_of(np.tile(np.arange(30), factor))) == 1
    assert len(runs_of(np.arange(30)[::-1])) == 1
    assert len(runs_of(np.arange(0, 30, factor))) == 1
