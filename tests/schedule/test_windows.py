"""Message tokens: all that is needed is waited for, in the global order, and semaphores hold what is under way."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.schedule.tokens import Passing
from compiler.schedule.windows import Place, Wanted, message_tokens
from tests.schedule.test_tokens import holds

ITERATIONS = 6


@dataclass(frozen=True)
class Net:
    """Messages (the filling queue) and tasks of two instructions each (the emptying one) in a global order; which task
    reads which message, how many frames later, and how many slots there are for it."""

    order: tuple[bool, ...]  # a message, or a task
    reads: tuple[tuple[int, int, int, int], ...]  # message, task, frames later, slots

    @property
    def places(self) -> tuple[dict[int, Place], dict[int, Place]]:
        filling: dict[int, Place] = {}
        emptying: dict[int, Place] = {}
        for k, message in enumerate(self.order):
            if message:
                filling[len(filling)] = (k, 1)
            else:
                emptying |= dict.fromkeys((len(emptying), len(emptying) + 1), (k, 0))
        return filling, emptying

    @property
    def data(self) -> Wanted:
        return [(m, 2 * t, late) for m, t, late, _ in self.reads]

    @property
    def space(self) -> Wanted:
        return [(2 * t + 1, m, slots - late) for m, t, late, slots in self.reads]

    def tokens(self, most: int) -> tuple[Passing, Passing]:
        filling, emptying = self.places
        return message_tokens(self.data, self.space, filling, emptying, (len(filling), len(emptying)), most)


@st.composite
def nets(draw: st.DrawFn, staged: bool) -> Net:
    order = tuple(draw(st.lists(st.booleans(), min_size=2, max_size=24).filter(lambda x: len(set(x)) == 2)))
    messages = [k for k, x in enumerate(order) if x]
    tasks = [k for k, x in enumerate(order) if not x]
    reads = []
    for m, at in enumerate(messages):
        behind = [t for t in range(len(tasks)) if staged or tasks[t] > at]
        own = draw(st.lists(st.sampled_from(behind), min_size=1, max_size=3, unique=True)) if behind else []
        late = {t: (tasks[t] < at) + (draw(st.integers(0, 2)) if staged else 0) for t in own}
        reads += [(m, t, late[t], max(2, max(late.values()) + 1)) for t in own]
    return Net(order, tuple(reads))


def most_under_way(net: Net, tokens: tuple[Passing, Passing], first: int) -> int:
    """Plays both queues, the `first` as far ahead as it can go. END holds the filling queue back by two iterations,
    the emptying one by three: LD waits for it only by ST's last store."""
    lengths = [len(x) for x in net.places]
    at, held = [0, 0], [tokens[0].marking, tokens[1].marking]  # there, free
    most = max(held)
    while min(at[q] - ITERATIONS * lengths[q] for q in (0, 1)) < 0:
        for q in (first, 1 - first):
            lap, k = divmod(at[q], lengths[q])
            waits = k in tokens[1 - q].waits
            if lap < ITERATIONS and at[1 - q] // lengths[1 - q] > lap - 2 - q and (not waits or held[1 - q]):
                break
        else:
            raise AssertionError(f"deadlock at {at}")
        held[1 - q] -= waits
        held[q] += k in tokens[q].posts
        at[q] += 1
        most = max(most, *held)
    return most


def judge(net: Net, most: int) -> None:
    there, free = net.tokens(most)
    filling, emptying = net.places
    for passing, wanted, queue in ((there, net.data, filling), (free, net.space, emptying)):
        assert len(passing.posts) == len(passing.waits)
        for dependency in wanted:
            assert holds(passing, len(queue), dependency), (dependency, passing)
    for first in (0, 1):
        assert most_under_way(net, (there, free), first) <= most
    # In the one global order nothing has to be waited for, so that no other core can be in the way.
    held = [there.marking, free.marking]
    steps = sorted([(p, 0, i) for i, p in filling.items()] + [(p, 1, i) for i, p in emptying.items()])
    for _ in range(ITERATIONS):
        for _, q, i in steps:
            passed, taken = (there, free) if q == 0 else (free, there)
            held[1 - q] -= i in taken.waits
            assert held[1 - q] >= 0, (net, i)
            held[q] += i in passed.posts


@settings(max_examples=300, deadline=None)
@given(nets(False), st.integers(2, 12))
def test_one_frame_at_a_time(net: Net, most: int) -> None:
    if net.reads:
        judge(net, most)


@settings(max_examples=300, deadline=None)
@given(nets(True), st.integers(3, 12))
def test_frames_in_a_pipeline(net: Net, most: int) -> None:
    judge(net, most)


@pytest.mark.parametrize(
    ("most", "marking"),
    [(20, 20), (19, 10), (10, 10), (9, 9), (2, 2)],
    ids=["two frames ahead", "one", "just one", "runs", "few runs"],
)
def test_a_chain(most: int, marking: int) -> None:
    """Ten messages, each read by the task behind it."""
    net = Net((True, False) * 10, tuple((k, k, 0, 2) for k in range(10)))
    there, free = net.tokens(most)
    assert (len(there.posts), there.marking, len(free.posts), free.marking) == (10, 0, 10, marking)


def test_many_messages_before_the_first_is_read() -> None:
    """They are one run: one token tells of them all."""
    net = Net((True,) * 20 + (False,) * 20, tuple((k, k, 0, 2) for k in range(20)))
    assert [(p.posts, p.waits, p.marking) for p in net.tokens(8)] == [((19,), (0,), 0), ((39,), (0,), 1)]
