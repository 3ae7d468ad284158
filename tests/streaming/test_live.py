"""Networks that run as frames come give the times of those that are played frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.isa.stream.flow import Actor, Input, Network, Output
from compiler.isa.stream.live import Live


def chain(reach: int, depth: int, live: bool) -> tuple[Network, int, int]:
    """Source -> writer of eight words -> reader that needs `reach` of them and gives all back at its end -> sink."""
    net = Network()
    into, words, out = net.stream("in", 1, 2), net.stream("words", 8, depth, 3), net.stream("out", 1, 2)
    one, none = np.array([1]), np.zeros(1, np.int64)
    every = np.arange(1, 9)
    if not live:
        net.actor(Actor("source", -1, np.array([50]), 0, [], [Output(into, one, none)]))
    took = Input(into, np.ones(8, np.int64), np.array([7]))
    net.actor(Actor("writer", 0, np.full(8, 5), 2, [took], [Output(words, every, every - 1)]))
    need = np.minimum(np.arange(1, 5) * 2, reach)
    freer = np.searchsorted(np.concatenate([need[:-1], [8]]), every)
    read = Input(words, need, freer)
    net.actor(Actor("reader", 1, np.full(4, 7), 1, [read], [Output(out, np.array([0, 0, 0, 1]), np.array([3]))]))
    if not live:
        net.actor(Actor("sink", -1, np.array([20]), 0, [Input(out, one, none)], []))
    return net, into, out


@pytest.mark.parametrize("reach", [5, 8])
@pytest.mark.parametrize("depth", [4, 6, 20])
def test_the_same_times_as_when_played(reach: int, depth: int) -> None:
    if depth < reach:
        depth = reach
    frames = 7
    played, into, out = chain(reach, depth, live=False)
    given, made, gone = [], [], []
    for _ in range(frames):
        played.play(1)
        given.append(int(played.written(into)[0]))
        made.append(int(played.written(out)[0]))
        gone.append(int(played.streams[out].freed[-1][0]))
    net, into, out = chain(reach, depth, live=True)
    live = Live(net, (into, out))
    found: list[int] = []
    for k in range(frames):  # what leaves is told late: nothing depends on the order of the calls
        found += [ps for stream, ps in live.written(into, given[k]) if stream == out]
        if k >= 1:
            found += [ps for stream, ps in live.given_back(out, gone[k - 1]) if stream == out]
    assert found == made[: len(found)] and len(found) >= frames - 1
