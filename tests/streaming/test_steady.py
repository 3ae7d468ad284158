"""Steady schedules against the netlists played event by event: what they promise is what happens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.flow import Actor, Input, Network, Output, Stuck
from compiler.isa.stream.network import build
from compiler.isa.stream.steady import Steady, broken, busiest_ps, steady
from tests.streaming.helpers import SPREAD, plan_of, programs
from tests.streaming.test_timing import chain, fork

CASES = [("u280", None, ()), ("u280x2", 3000, SPREAD), ("pynq-z2", None, ())]


def open_ends(net: Network) -> Network:
    for s in net.streams:
        s.depth = None
    return net


def promised(net: Network, found: Steady, frames: int) -> None:
    """Plays with the depths that the schedule needs: nothing comes later than it says."""
    for s, need in zip(net.streams, found.needs, strict=True):
        s.depth = need
    assert broken(net, found) == []
    for f in range(frames):
        net.play(1)
        for a, starts in zip(net.actors, found.starts, strict=True):
            assert (a.starts[-1] <= starts + f * found.period_ps).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=5),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.integers(1, 6),
    st.integers(0, 2),
    st.sets(st.integers(0, 4)),
)
def test_chains_play_no_later_than_their_schedule(
    costs: list[int], latency: list[int], words: int, slack: int, paced: set[int]
) -> None:
    net = open_ends(chain(costs, [1] * (len(costs) - 1), words, latency))
    for k in paced & set(range(len(costs))):
        net.actors[k].paced = True
        if k and k - 1 not in paced:
            net.actors[k - 1].feeds = True
    found = steady(net, busiest_ps(net) + slack)
    assert found is not None
    promised(net, found, 4)


def test_the_short_branch_of_a_fork_gets_what_it_must_hold() -> None:
    """The join needs the first word of the long branch, which comes when all eight have gone in (test_timing)."""
    net = open_ends(fork(1))
    found = steady(net, 8)
    assert found is not None and found.needs[2] >= 8
    promised(net, found, 4)


def buffers(collected: int) -> Network:
    """source -> a buffer of two frames, and another behind so many actors that collect whole frames -> a writer that
    begins when both frames are there and gives both back at its end (BUF with two inputs)."""
    net, words = Network(), 8
    every, cost = np.arange(1, words + 1), np.ones(words, np.int64)
    whole, last = np.full(words, words), np.full(words, words - 1)
    long, short = net.stream("long", words, None), net.stream("short", words, None)
    net.actor(Actor("source", 0, cost, 0, [], [Output(s, every, every - 1) for s in (long, short)]))
    for k in range(collected):
        behind = net.stream(f"collected {k}", words, None)
        net.actor(Actor(f"collect {k}", 1 + k, cost, 0, [Input(long, whole, last)], [Output(behind, every, every - 1)]))
        long = behind
    lines = [net.stream(f"line{k}", words, 2 * words, line=True) for k in range(2)]
    for k, stream in enumerate((long, short)):
        net.actor(Actor(f"fill {k}", 9, cost, 1, [Input(stream, every, every - 1)],
                        [Output(lines[k], every, every - 1)]))  # fmt: skip
    net.actor(Actor("write", 9, cost, 2, [Input(line, whole, last) for line in lines], [], paced=True))
    return net


@pytest.mark.parametrize("collected", [0, 1, 3, 6])
def test_a_buffer_filled_periods_before_its_neighbour_makes_its_frames_wait_outside(collected: int) -> None:
    """Two frames find room in the buffer itself; each actor that collects a frame puts the other input a period off."""
    net = buffers(collected)
    found = steady(net, 9)
    assert found is not None and found.needs[1] >= 8 * (collected - 2)
    assert all(found.needs[k] <= 16 for k, s in enumerate(net.streams) if s.line)
    promised(net, found, collected + 4)


def rows(groups: int) -> Network:
    """source -> a buffer of two groups of rows -> a writer that takes a group at a time (BUF), spread over the period:
    the source gives its frame in a part of that."""
    net, words = Network(), 24
    each = words // groups
    every, cost = np.arange(1, words + 1), np.ones(words, np.int64)
    whole = np.repeat(np.arange(1, groups + 1) * each, each)
    stream, line = net.stream("in", words, None), net.stream("line", words, 2 * each, line=True)
    net.actor(Actor("source", 0, cost, 0, [], [Output(stream, every, every - 1)]))
    net.actor(Actor("fill", 1, cost, 1, [Input(stream, every, every - 1)], [Output(line, every, every - 1)]))
    net.actor(Actor("write", 1, cost, 2, [Input(line, whole, whole - 1)], [], paced=True))
    return net


@pytest.mark.parametrize(("groups", "wait"), [(1, 0), (2, 0), (4, 6), (6, 8)])
def test_rows_that_come_faster_than_they_are_taken_wait_before_the_buffer(groups: int, wait: int) -> None:
    """24 words come in 24 cycles, one is taken in 2.5: what the buffer does not hold and no whole group has made room
    for (one of 6 words by cycle 21, two of 4 by cycle 24) waits."""
    net = rows(groups)
    found = steady(net, 60)
    assert found is not None and found.needs[1] <= 2 * 24 // groups
    assert found.needs[0] >= wait
    promised(net, found, 4)


def test_depths_that_are_given_are_kept_or_there_is_no_schedule() -> None:
    net = fork(7)
    net.streams[0].depth = None
    assert steady(net, 8) is None
    net.streams[0].depth = 8
    with pytest.raises(Stuck):
        net.play(3)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_binaries_play_no_later_than_their_schedule(case: tuple) -> None:
    """The depths in the bytes suffice for the pace of the plan: found from them, played, and kept."""
    net = build(programs(*case)).network
    found = steady(net, plan_of(*case).predicted["pace_ps"])
    assert found is not None and broken(net, found) == []
    ends = []
    for f in range(12):
        net.play(1)
        ends.append(max(a.end_ps for a in net.actors))
        for a, starts in zip(net.actors, found.starts, strict=True):
            assert (a.starts[-1] <= starts + f * found.period_ps).all()
    assert (ends[-1] - ends[0]) / 11 <= 1.05 * found.period_ps


def test_a_schedule_that_breaks_a_rule_is_found_out() -> None:
    net = build(programs("u280", 1)).network
    found = steady(net, busiest_ps(net))
    assert found is not None

    def told(change: dict[int, np.ndarray]) -> list[str]:
        starts = [change.get(k, s) for k, s in enumerate(found.starts)]
        return broken(net, Steady(found.period_ps, starts, found.needs))

    for k, a in enumerate(net.actors):
        if any(net.streams[i.stream].producer >= 0 for i in a.inputs):
            assert any("before it is written" in x for x in told({k: found.starts[k] - 100 * found.period_ps}))
        if a.outputs and net.streams[a.outputs[0].stream].depth is not None:
            assert any("beyond" in x for x in told({k: found.starts[k] - 9 * found.period_ps}))
        if len(found.starts[k]) > 1:
            assert any("has ended" in x for x in told({k: found.starts[k][::-1]}))


def test_a_fifo_too_short_for_its_branch_has_no_schedule_and_halts() -> None:
    """The deepest FIFO of the example waits for the other branch: with a tenth of it the netlist stands still."""
    parts: list[DeviceProgram] = programs("u280", 1)
    fabric = parts[0].fabric
    assert fabric is not None
    deepest = max(fabric.streams(), key=lambda con: con.fields["depth"])
    deepest.fields["depth"] //= 10
    net = build(parts).network
    assert steady(net, busiest_ps(net)) is None
    with pytest.raises(Stuck):
        net.play(3)
