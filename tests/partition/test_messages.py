"""Messages on shared links: the calendar against a unit-by-unit one, exchanges of all with all, gaps between frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.partition.prediction.messages import CHUNK_BYTES, CHUNKS, HOST, Calendar, Messages
from compiler.partition.prediction.usage import Ends
from compiler.plan.model import ChannelPlan
from compiler.schedule import schedule
from compiler.simulator import HostTask, simulate
from device_db import load_cluster
from tests.partition.graphs import residual

BOX = (0, 1, 0, 1, 0, 1, 0, 1)
NO_BANKS = Ends({}, [{}] * 12, [1.0] * 12)
RATE = 8 * 10**9  # bits a second: a byte a nanosecond


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=25))
def test_calendar_fills_gaps_and_never_works_twice_at_once(work: list[tuple[int, int]]) -> None:
    calendar, taken = Calendar(), set[int]()
    for at, amount in work:
        now, left = at, amount
        while left:
            if now not in taken:
                taken.add(now)
                left -= 1
            now += 1
        assert calendar.take(at, amount) == (now if amount else at)


def channel(source: str, target: str, size: int, *route: str) -> ChannelPlan:
    return ChannelPlan("t", BOX, source, target, size * 8, route, 0, 0, 0)


def test_an_exchange_of_all_with_all_keeps_a_shared_link_busy() -> None:
    """Four engines, every message over one link: it is never idle, whatever the order in which they are entered."""
    names = ["a", "b", "c", "d"]
    channels = [channel(i, j, 1000, "bus") for i in names for j in names if i != j]
    m = Messages(channels, names, {"bus": (RATE, 0)}, {}, NO_BANKS, meeting=True)
    for k in range(len(channels)):
        m.send(k, 0, 0)
    m.play_all()
    assert max(m.arrived.values()) == 12 * 1000 * 1000
    first = [m.sent[(k, 0)] for k in (0, 3, 6, 9)]  # the first message of each sender
    assert max(first) <= 4 * 1000 * 1000


@pytest.mark.parametrize("meeting", [True, False])
def test_queues_keep_their_order_and_big_messages_wait_for_their_receiver(meeting: bool) -> None:
    """A channel holds half of each message; the rest leaves as the receiver takes the first half."""
    size, late = 2 * CHUNKS * CHUNK_BYTES, 500_000_000
    channels = [channel("a", "b", size, "ab"), channel("c", "b", size, "cb")]
    m = Messages(channels, ["a", "b", "c"], {"ab": (RATE, 0), "cb": (RATE, 0)}, {}, NO_BANKS, meeting)
    m.send(0, 0, late)
    m.send(1, 0, 0)  # ready first, but second in the receiver's queue
    m.play_all()
    alone = size * 1000
    assert m.arrived[(0, 0)] == late + alone
    rest = alone // 2 + (alone // 8 if meeting else 0)  # a chunk leaves when a whole one has been taken
    assert m.sent[(1, 0)] == late + alone + rest and m.arrived[(1, 0)] == late + 2 * alone


def test_messages_of_short_runs_share_a_bank() -> None:
    """Two engines exchange a column: each bank is read for one message and written for the other, in whole bursts."""
    channels = [channel("a", "b", 1000, "ab"), channel("b", "a", 1000, "ba")]
    banks = Ends({"a": "A", "b": "B"}, [{"a": 64_000_000, "b": 64_000_000}] * 2, [64.0] * 2)
    m = Messages(channels, ["a", "b"], {"ab": (RATE, 0), "ba": (RATE, 0)}, {}, banks, meeting=True)
    m.send(0, 0, 0)
    m.send(1, 0, 0)
    m.play_all()
    assert max(m.arrived.values()) == pytest.approx(128_000_000, rel=0.001)


def test_messages_that_meet_take_turns_by_chunks() -> None:
    size = 8 * CHUNK_BYTES
    channels = [channel("a", "b", size, "bus"), channel("c", "d", CHUNK_BYTES, "bus")]
    m = Messages(channels, ["a", "b", "c", "d"], {"bus": (RATE, 0)}, {}, NO_BANKS, meeting=True)
    m.send(0, 0, 0)
    m.send(1, 0, 1)
    m.play_all()
    assert m.arrived[(1, 0)] == 2 * CHUNK_BYTES * 1000  # not behind all of the other
    assert m.sent[(0, 0)] == 9 * CHUNK_BYTES * 1000


def test_a_message_without_a_staged_neighbour_needs_no_link_time() -> None:
    m = Messages([channel(HOST, "a", 1000, "in")], ["a"], {"in": (RATE, 7)}, {}, NO_BANKS, meeting=False)
    m.send(0, 0, 0)
    assert m.arrived[(0, 0)] == 1000 * 1000 + 7 * 1000


@pytest.mark.parametrize("devices", ["zcu102x4", "u280x2"])
def test_frames_without_stages_overlap_at_the_host_and_on_links(devices: str) -> None:
    """The last segment of a frame does not keep the next frame's first messages from setting out."""
    graph, cluster = residual(blocks=2, tail=True), load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1, objective="latency"))
    host = [HostTask(s.name, ("y",), ("z",), s.time_ns * 1000) for s in plan.host_segments]
    real = simulate(schedule(graph, plan, cluster), host=host)
    assert real.interval_ns < 0.95 * real.latency_ns
    assert plan.predicted["interval_ns"] == pytest.approx(real.interval_ns, rel=0.05)
    assert plan.predicted["latency_ns"] == pytest.approx(real.latency_ns, rel=0.05)
