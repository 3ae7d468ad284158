"""Frames solved with all firings at once against the same frames word by word: every firing of every process."""

from __future__ import annotations

import random

import numpy as np
import pytest

from compiler.isa.stream import whole
from compiler.isa.stream.flow import Network, Stuck
from compiler.isa.stream.network import build
from tests.bundles import digits
from tests.streaming.helpers import anyhow, programs
from tests.streaming.test_timing import chain, fork

FRAMES = 3


def starts(net: Network, at_once: bool, frames: int = FRAMES) -> tuple[list[list[np.ndarray]], int]:
    """By frame and actor; how many frames were solved at once."""
    out, solved = [], 0
    with pytest.MonkeyPatch.context() as patch:
        run = whole.Whole.run

        def watched(self: whole.Whole) -> list[np.ndarray] | None:
            nonlocal solved
            found = run(self) if at_once else None
            solved += found is not None
            return found

        patch.setattr(whole.Whole, "run", watched)
        for _ in range(frames):
            net.play(1)
            out.append([a.starts[-1].copy() for a in net.actors])
    return out, solved


def same(make) -> int:  # type: ignore[no-untyped-def]
    """Frames that were solved at once, each as word by word."""
    (first, solved), (second, none) = starts(make(), True), starts(make(), False)
    assert none == 0
    for a, b in zip(first, second, strict=True):
        for x, y in zip(a, b, strict=True):
            assert np.array_equal(x, y)
    return solved


@pytest.mark.parametrize("seed", range(8))
def test_netlists_with_fifos_of_any_depth(seed: int) -> None:
    """Layers anyhow on two boards; FIFOs from a few words to more than a frame, some without bound."""
    found = anyhow(digits(), seed)

    def make() -> Network:
        draw = random.Random(seed)
        net = build(found).network
        for s in net.streams:
            if not s.line and s.depth is not None:
                s.depth = draw.choice([s.depth + 8, s.depth + 40, s.words, 2 * s.words + 3, None])
        return net

    assert same(make) > 0


@pytest.mark.parametrize("case", [("u280x2", 3000), ("pynq-z2", None)], ids=lambda c: c[0])
def test_binaries_as_they_are(case: tuple) -> None:
    assert same(lambda: build(programs(*case)).network) == FRAMES


@pytest.mark.parametrize("seed", range(40))
def test_chains_of_any_speed_and_depth(seed: int) -> None:
    draw = random.Random(seed)
    costs = [draw.randint(1, 5) for _ in range(draw.randint(2, 5))]
    depths = [draw.randint(1, 9) for _ in costs[1:]]
    words, latency = draw.randint(1, 30), [draw.randint(0, 3) for _ in costs]
    same(lambda: chain(costs, depths, words, latency))


def test_a_network_that_halts_is_not_solved() -> None:
    net = fork(7)
    net.streams[0].depth = 8
    assert whole.Whole(net, 0).run() is None
    with pytest.raises(Stuck):
        net.play(1)
