"""Tokens: every dependency is implied, nothing is posted twice, rings never overwrite a block in use."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.schedule.tokens import Passing, RingUse, pass_tokens, ring_slots


def holds(p: Passing, length: int, dependency: tuple[int, int, int], iterations: int = 7) -> bool:
    """Whether taking tokens in order makes consumer j of iteration t start after producer i of iteration t - d."""
    i, j, d = dependency
    for t in range(d, iterations):
        taken = t * len(p.waits) + sum(1 for w in p.waits if w <= j)
        needed = taken - p.marking  # so many posts have happened before
        if needed <= 0:
            return False
        round_, k = divmod(needed - 1, len(p.posts))
        if round_ * length + p.posts[k] < (t - d) * length + i:
            return False
    return True


def test_a_prefix_covers_what_lies_before_it() -> None:
    assert pass_tokens([(5, 0, 0), (3, 1, 0), (5, 2, 0)], 8) == Passing((5,), (0,), 0)


def test_growth_passes_another_token() -> None:
    assert pass_tokens([(2, 0, 0), (6, 4, 0)], 8) == Passing((2, 6), (0, 4), 0)


def test_an_earlier_iteration_is_paid_by_the_marking() -> None:
    assert pass_tokens([(7, 0, 1)], 8) == Passing((7,), (0,), 1)
    assert pass_tokens([(7, 0, 3)], 8) == Passing((7,), (0,), 3)


def test_a_dependency_on_the_future_is_refused() -> None:
    with pytest.raises(ValueError, match="-1 iterations"):
        pass_tokens([(0, 0, -1)], 4)


triples = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12),
    )
)


@settings(max_examples=400, deadline=None)
@given(triples)
def test_every_dependency_is_implied(case: tuple[int, list[tuple[int, int, int]]]) -> None:
    length, dependencies = case
    p = pass_tokens(dependencies, length)
    assert len(p.posts) == len(p.waits) == len(set(p.posts)) == len(set(p.waits)) <= len(dependencies)
    assert list(p.posts) == sorted(p.posts)
    for d in dependencies:
        assert holds(p, length, d), (d, p)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=12))
def test_rings_keep_blocks_that_are_in_use(shape: list[tuple[int, int]]) -> None:
    """A block read over `n` load groups, then `gap` groups without the ring, round and round."""
    uses, group = [], 0
    for n, gap in shape:
        uses.append(RingUse(group, group + n - 1))
        group += n + gap
    slots, empty = ring_slots(uses, group)
    period = group + empty
    for r in range(2):
        for a, (ua, sa) in enumerate(zip(uses, slots, strict=True)):
            for b, (ub, sb) in enumerate(zip(uses, slots, strict=True)):
                if sa != sb or (r == 0 and b <= a):
                    continue
                # group g starts once group g - 2 is complete: the older block must be done by then
                assert ub.load_group + r * period >= ua.last_group + 2, (uses, slots, empty)
