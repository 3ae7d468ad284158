"""Messages of the steady state: the host's calendar against a unit-by-unit one, queues, gaps between frames."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.partition.prediction.messages import CHUNK_BYTES, CHUNKS, HOST, Calendar, Messages
from compiler.partition.prediction.timing import Event, Machine
from compiler.partition.prediction.usage import Ends
from compiler.plan.model import ChannelPlan, HostSegmentPlan
from compiler.schedule import schedule
from compiler.simulator import HostTask, simulate
from device_db import load_cluster
from tests.partition.graphs import residual

BOX = (0, 1, 0, 1, 0, 1, 0, 1)
NO_BANKS = Ends({}, [{}] * 12)
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


def test_queues_keep_their_order_and_big_messages_wait_for_their_receiver() -> None:
    """A channel holds half of each message; the rest leaves as the receiver takes the first half."""
    size, late = 2 * CHUNKS * CHUNK_BYTES, 500_000_000
    channels = [channel("a", "b", size, "ab"), channel("c", "b", size, "cb")]
    m = Messages(channels, ["a", "b", "c"], {"ab": (RATE, 0), "cb": (RATE, 0)}, {}, NO_BANKS)
    m.send(0, 0, late)
    m.send(1, 0, 0)  # ready first, but second in the receiver's queue
    alone = size * 1000
    assert m.arrived[(0, 0)] == late + alone
    assert m.sent[(1, 0)] == late + alone + alone // 2 and m.arrived[(1, 0)] == late + 2 * alone


def test_a_message_of_the_host_needs_no_queue_of_its_own() -> None:
    m = Messages([channel(HOST, "a", 1000, "in")], ["a"], {"in": (RATE, 7)}, {}, NO_BANKS)
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


def test_the_host_makes_two_frames_ahead_at_most() -> None:
    """Segments of 30 and 50 us, the second of what the first makes: 80 us a frame on the one processor. The first is
    then two frames ahead; were it not held, six frames of it would be done before the first frame is complete."""
    plan = SimpleNamespace(channels=(), engines=())
    first = Event(0, 0, 0, None, HostSegmentPlan("a", (), "", 0, 0, 30_000))
    second = Event(1, 0, 0, None, HostSegmentPlan("b", (), "", 0, 1, 50_000), behind=[0])
    machine = Machine(plan, {}, [first, second], {}, {}, NO_BANKS, [])
    done = machine.play(6).done_ps
    us = 10**6
    assert done[0] <= 110 * us and done[-1] == 6 * 80 * us
    assert all(b - a <= 110 * us for a, b in pairwise(done))
