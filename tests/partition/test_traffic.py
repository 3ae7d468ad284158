"""Messages side by side: shares of links and banks against sums by hand and a count in small steps, queues, credits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.partition.prediction.fluid import Flow, Fluid, max_min
from compiler.partition.prediction.traffic import Message, Traffic
from compiler.partition.prediction.usage import Ends
from compiler.plan.model import ChannelPlan

BOX = (0, 1, 0, 1, 0, 1, 0, 1)
RATE = 8 * 10**9  # bits a second: a byte a nanosecond
NS = 1000


class Free:
    """Hooks of queues that nothing holds up."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []
        self.done: list[tuple[int, int]] = []
        self.closed = False

    def opened(self, engine: str | None, iteration: int) -> bool:
        return True

    def room(self, engine: str | None, m: Message) -> bool:
        return not self.closed

    def counted(self, engine: str | None, iteration: int) -> None: ...

    def left(self, m: Message) -> None:
        self.sent.append((m.channel, self.traffic.now))

    def taken(self, m: Message) -> None:
        self.done.append((m.channel, self.traffic.now))

    traffic: Traffic


def play(messages: list[tuple[str, str, int, tuple[str, ...]]], links: dict[str, tuple[int, int]], **ends) -> Free:
    """Each message (source, target, bytes, route) is ready at once. ends: of banks."""
    channels = [ChannelPlan("t", BOX, a, b, size * 8, route, 0, 0, 0) for a, b, size, route in messages]
    engines = {e for a, b, _, _ in messages for e in (a, b)} - {"host"}
    banks = Ends(**ends) if ends else Ends({}, [{}] * len(channels))
    machine = SimpleNamespace(
        plan=SimpleNamespace(channels=channels), ends=banks, links=links, clock=dict.fromkeys(engines, 10**6)
    )
    hooks = Free()
    traffic = hooks.traffic = Traffic(machine, hooks)
    for i, c in enumerate(channels):
        traffic.enqueue(Message(traffic.way(i), 0, 0, c.bits_per_frame // 8, True, i, ready=True))
    for queue in [*traffic.tx.values()]:
        traffic.send(queue)
    traffic.play()
    return hooks


def test_who_sets_out_together_gets_alike() -> None:
    """Three messages over one link: each has a third of it, so the first queue is free as late as the last."""
    got = play([(s, s + "'", 1000, ("bus",)) for s in "abc"], {"bus": (RATE, 0)})
    assert got.sent == [(k, 3000 * NS) for k in range(3)]
    got = play([("a", "b", 1000, ("bus",)), ("c", "d", 2000, ("bus",))], {"bus": (RATE, 0)})
    assert got.sent == [(0, 2000 * NS), (1, 3000 * NS)]


def test_a_message_over_two_links_leaves_to_others_what_it_cannot_take() -> None:
    """Two messages share `one`; the second of them has half of it and leaves the other half of `two` to the third,
    which is then through with 1,000 of its 1,500 bytes when those are gone."""
    links = {"one": (RATE, 0), "two": (RATE, 5)}
    routes = [("a", "b", 1000, ("one",)), ("c", "d", 1000, ("one", "two")), ("e", "f", 1500, ("two",))]
    got = play(routes, links)
    assert got.sent == [(0, 2000 * NS), (1, 2000 * NS), (2, 2500 * NS)]
    assert got.done == [(0, 2000 * NS), (1, 2005 * NS), (2, 2505 * NS)]


def test_an_exchange_of_all_with_all_keeps_a_shared_link_busy() -> None:
    pairs = [(i, j, 1000, ("bus",)) for i in "abcd" for j in "abcd" if i != j]
    got = play(pairs, {"bus": (RATE, 0)})
    assert max(ps for _, ps in got.done) == 12 * 1000 * NS


def test_a_receiver_takes_messages_in_order_and_a_channel_holds_four() -> None:
    """Of six messages of a microsecond each the first arrives 10 us after it set out; the fifth waits for its place."""
    got = play([("a", "b", 1000, ("far",))] * 6, {"far": (RATE, 10_000)})
    us = 1000 * NS
    assert [ps for _, ps in got.sent] == [1 * us, 2 * us, 3 * us, 4 * us, 12 * us, 13 * us]
    assert [ps for _, ps in got.done] == [11 * us, 12 * us, 13 * us, 14 * us, 22 * us, 23 * us]


def test_the_queue_of_a_receiver_is_a_line() -> None:
    """The second message is there at once but stands behind the first in the receiver's queue."""
    links = {"slow": (RATE // 10, 0), "quick": (RATE, 0)}
    got = play([("a", "c", 1000, ("slow",)), ("b", "c", 1000, ("quick",))], links)
    assert got.done == [(0, 10_000 * NS), (1, 10_000 * NS)]
    assert dict(got.sent)[1] == 1000 * NS


def test_messages_of_short_runs_share_a_bank() -> None:
    """Two engines exchange a column of 1,000 single bytes: each bank is read for one message and written for the other,
    in bursts of 64 bytes, at 1 GB/s."""
    columns = [("a", "b", 1000, ("ab",)), ("b", "a", 1000, ("ba",))]
    busy = {"a": 64_000 * NS, "b": 64_000 * NS}
    banks = {"bank_of": {"a": "A", "b": "B"}, "ps": [busy, busy], "bytes_per_second": {"A": 10**9, "B": 10**9}}
    got = play(columns, {"ab": (RATE, 0), "ba": (RATE, 0)}, **banks)
    assert max(ps for _, ps in got.done) == pytest.approx(128_000 * NS, rel=0.02)


numbers = st.lists(st.integers(0, 2), max_size=3, unique=True)
flow = st.tuples(st.integers(1, 40), numbers, st.integers(0, 2))


@given(st.lists(flow, min_size=1, max_size=6), st.tuples(*[st.integers(5, 60)] * 3))
def test_shares_are_max_min(drawn: list[tuple[int, list[int], int]], rooms: tuple[int, int, int]) -> None:
    """No resource gives more than it has; each flow has its cap, or a full resource where no other has more than it."""
    flows = [Flow(1, cap / 10, tuple((r, (1.0, 2.0, 16.0)[w]) for r in on)) for cap, on, w in drawn]
    capacity = {r: room / 10 for r, room in enumerate(rooms)}
    got = max_min(flows, dict(capacity))
    used = {r: sum(got[f] * w for f in flows for k, w in f.uses if k == r) for r in capacity}
    assert all(used[r] <= capacity[r] * (1 + 1e-6) for r in capacity)
    for f in flows:
        most = {r: max(got[x] for x in flows if any(k == r for k, _ in x.uses)) for r, _ in f.uses}
        held = any(used[r] >= capacity[r] * (1 - 1e-6) and got[f] >= most[r] * (1 - 1e-6) for r in most)
        assert got[f] <= f.cap * (1 + 1e-6) and (got[f] >= f.cap * (1 - 1e-6) or held)


def test_flows_that_want_no_more_than_there_is_take_their_caps() -> None:
    fluid = Fluid([2.0])
    first, second = Flow(1000, 1.0, ((0, 1.0),)), Flow(1000, 1.0, ((0, 1.0),))
    fluid.start(first, 0)
    fluid.start(second, 500)
    assert fluid.next_due(500) == 1000 and fluid.over(1000) == [first]
    third = Flow(600, 2.0, ((0, 1.0),))  # with the second still there: one each
    fluid.stop(first)
    fluid.start(third, 1000)
    assert fluid.next_due(1000) == 1500 and fluid.over(1500) == [second]
    fluid.stop(second)
    assert fluid.next_due(1500) == 1550  # 100 left, at two
