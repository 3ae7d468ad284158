"""Shares of a bank: against sums by hand, and against a count of what every flow moves in small steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.partition.prediction.usage import Span, during, through


def test_nothing_beside_it_nothing_lost() -> None:
    assert through([], 10, 100, 1.0) == 110
    assert through([(0, 10, 1.0, 1.0), (110, 500, 1.0, 1.0)], 10, 100, 1.0) == 110
    assert through([(0, 500, 0.5, 1.0)], 10, 100, 0.5) == 110  # together no more than the bank


def test_equals_share_alike_and_short_runs_go_first() -> None:
    assert through([(0, 1000, 1.0, 1.0)], 0, 100, 1.0) == 200
    assert through([(0, 50, 1.0, 1.0)], 0, 100, 1.0) == 125  # half speed for 50
    assert through([(0, 1000, 0.25, 1.0)], 0, 75, 1.0) == 100  # the other wants less than half: it gets that
    assert through([(0, 66, 1.0, 64.0)], 0, 100, 1.0) == pytest.approx(100 + 66 - 1, abs=1)
    assert through([(0, 1000, 1.0, 1.0)], 0, 64, 1.0, 64.0) == 65


def test_who_moves_nothing_is_never_held_up() -> None:
    assert through([(0, 1000, 1.0, 32.0), (0, 1000, 0.01, 1.0)], 0, 100, 0.0) == 100


Raw = tuple[int, int, int, float]  # begin, length, tenths of the bank, weight
span = st.tuples(st.integers(0, 40), st.integers(1, 40), st.integers(1, 10), st.sampled_from([1.0, 4.0, 64.0]))


@given(st.lists(span, max_size=4), st.integers(0, 20), st.integers(1, 30), st.integers(1, 10))
def test_max_min_shares_step_by_step(
    raw: list[tuple[int, int, int, float]], begin: int, work: int, tenths: int
) -> None:
    """A level rises for all alike (in bytes that arrive) until each has what it wants or the bank is full."""
    spans: list[Span] = [(a, a + length, s / 10, w) for a, length, s, w in raw]
    share, now, left = tenths / 10, begin, float(work)
    while left > 1e-9:
        flows = [(s, w) for a, b, s, w in spans if a <= now < b] + [(share, 1.0)]
        low, high = 0.0, 1.0
        for _ in range(60):
            level = (low + high) / 2
            low, high = (low, level) if sum(min(s, w * level) for s, w in flows) > 1 else (level, high)
        speed = min(share, low) / share
        if left <= speed:
            break
        left -= speed
        now += 1
    assert through(spans, begin, work, share) == pytest.approx(now + left / speed, abs=1)


def test_what_goes_on_during_messages() -> None:
    spans: list[Span] = [(0, 10, 1.0, 1.0), (5, 20, 1.0, 64.0), (30, 40, 0.1, 1.0)]
    assert during(spans, 0.5) == [(0, 20, 0.5, 1.0), (30, 40, 0.5, 1.0)]
