"""Windows as high as their image: the next frame comes in while the last one is written."""

from __future__ import annotations

import numpy as np

from compiler.isa.stream.flow import Actor, Input, Network, Output
from compiler.isa.stream.rates import behaviour, least_buffer
from tests.streaming.test_timing import unit


def played(depth: int) -> int:
    """Picoseconds (of a 1 ps cycle) between two late frames of a source, a WIN over 4 x 4 x 8 by block, and a sink."""
    ins = unit("WIN", pe=2, pe_out=2, channels=8, block=2, in_h=4, in_w=4, kh=4, kw=4, sh=1, sw=1, dh=1, dw=1, oh=1,
               ow=1, depth=depth)  # fmt: skip
    net, words = Network(), 4 * 4 * 8 // 2
    every = np.arange(1, words + 1)
    ends = {"in0": net.stream("in", words, 2), "out0": net.stream("out", words, 2)}
    ends["line0"] = net.stream("line", words, depth, line=True)
    ones = np.ones(words, np.int64)
    net.actor(Actor("source", 0, ones, 0, [], [Output(ends["in0"], every, every - 1)]))
    for p in behaviour(ins).processes:
        reads = [Input(ends[r.stream], r.need, r.freer) for r in p.reads]
        net.actor(Actor("win", 1, p.cost, 0, reads, [Output(ends[w.stream], w.made, w.maker) for w in p.writes]))
    net.actor(Actor("sink", 2, ones, 0, [Input(ends["out0"], every, every - 1)], []))
    net.play(5)
    before = net.actors[-1].end_ps
    net.play(1)
    return net.actors[-1].end_ps - before


def test_a_second_frame_in_the_buffer_keeps_a_word_a_cycle() -> None:
    """64 words in and 64 out: side by side with room for both frames, one waits for the other with less."""
    f = unit("WIN", pe=2, pe_out=2, channels=8, block=2, in_h=4, in_w=4, kh=4, kw=4, sh=1, sw=1, dh=1, dw=1, oh=1,
             ow=1).fields  # fmt: skip
    assert played(least_buffer(f) + 64) == 64
    assert played(least_buffer(f) + 4) > 80
