"""Times of netlists against a step-by-step machine that knows nothing of least solutions, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.isa.program import Instruction
from compiler.isa.stream.flow import Actor, Input, Network, Output, Stuck
from compiler.isa.stream.ports import ports
from compiler.isa.stream.rates import behaviour, least_buffer, unit_cycles
from compiler.isa.stream.table import BY_NAME
from compiler.isa.table import Queue


def unit(op: str, **fields: int) -> Instruction:
    whole = {f.name: 0 for f in BY_NAME[op].fields} | {"x_bits": 8, "y_bits": 8}
    whole |= fields
    return Instruction(op, Queue.CTL, {f.name: whole[f.name] for f in BY_NAME[op].fields})


UNITS = [
    unit("PAD", pe=2, channels=4, in_h=3, in_w=5, top=1, left=2, bottom=0, right=1),
    unit("WIN", pe=2, pe_out=2, channels=4, block=4, in_h=6, in_w=5, kh=3, kw=2, sh=1, sw=1, dh=1, dw=1, oh=4, ow=4,
         depth=99),
    unit("WIN", pe=2, pe_out=12, channels=4, block=2, in_h=6, in_w=5, kh=3, kw=2, sh=2, sw=1, dh=1, dw=1, oh=2, ow=4,
         depth=99),
    unit("MVAU", pe=2, simd=3, y_bits=32, pixels=5, mh=6, mw=9, groups=2, w_bits=8),
    unit("VVAU", pe=2, simd=1, y_bits=32, pixels=5, channels=6, taps=9, w_bits=8),
    unit("VVAU", pe=2, simd=9, y_bits=32, pixels=5, channels=6, taps=9, w_bits=8),
    unit("REQ", pe=3, x_bits=20, pixels=4, channels=6, hi=255),
    unit("POOL", pe=2, pixels=4, channels=6, taps=4, hi=255),
    unit("SUM", pe=2, y_bits=20, pixels=4, channels=6),
    unit("BIN", pe=2, pixels=4, channels=6, hi=255, b_shape=1),
    unit("CAT", pe=2, pixels=4, inputs=2, c0=4, c1=2),
    unit("DUP", pe=2, pixels=4, channels=6, outputs=3),
    unit("DWC", pe=2, pe_out=6, elements=24),
    unit("DWC", pe=6, pe_out=2, elements=24),
    unit("CROP", pe=2, channels=4, in_h=5, in_w=5, top=1, left=0, oh=2, ow=3, sh=2, sw=2, first=2, kept=2),
    unit("UPS", pe=2, channels=4, in_h=2, in_w=3, fh=2, fw=3),
    unit("BUF", pe=2, inputs=2, n0=8, n1=4, elements=12, copies=2),
    unit("ARG", pe=2, pixels=3, channels=4),
]  # fmt: skip


@pytest.mark.parametrize("ins", UNITS, ids=lambda i: i.op)
def test_a_unit_reads_and_writes_what_its_ports_say(ins: Instruction) -> None:
    p, b = ports(ins), behaviour(ins)
    reads = {r.stream: r for q in b.processes for r in q.reads}
    writes = {w.stream: w for q in b.processes for w in q.writes}
    for k, port in enumerate(p.inputs):
        assert reads[f"in{k}"].need[-1] == len(reads[f"in{k}"].freer) == port.words
    for k, port in enumerate(p.outputs):
        assert writes[f"out{k}"].made[-1] == len(writes[f"out{k}"].maker) == port.words
    for r in reads.values():
        assert (np.diff(r.need) >= 0).all() and (np.diff(r.freer) >= 0).all()
    assert b.cycles == unit_cycles(ins)


def test_a_line_buffer_holds_a_window() -> None:
    """Two rows and three pixels of two words, less the first pixel, which no later window wants; 1 x 1: one."""
    f = unit("WIN", pe=2, pe_out=2, channels=4, block=4, in_h=9, in_w=10, kh=3, kw=3, sh=1, sw=1, dh=1, dw=1, oh=7,
             ow=8).fields  # fmt: skip
    assert least_buffer(f) == ((3 - 1) * 10 + 3 - 1) * 2
    one = unit("WIN", pe=2, pe_out=2, channels=2, block=2, in_h=4, in_w=4, kh=1, kw=1, sh=1, sw=1, dh=1, dw=1, oh=4,
               ow=4).fields  # fmt: skip
    assert least_buffer(one) == 1


def chain(costs: list[int], depths: list[int], words: int, latency: list[int]) -> Network:
    """source -> … -> sink, every actor moves `words` words one by one."""
    net = Network()
    every = np.arange(1, words + 1)
    streams = [net.stream(str(k), words, d) for k, d in enumerate(depths)]
    for k, cost in enumerate(costs):
        net.actor(
            Actor(str(k), k, np.full(words, cost), latency[k],
                  [Input(streams[k - 1], every, every - 1)] if k else [],
                  [Output(streams[k], every, every - 1)] if k < len(depths) else [])
        )  # fmt: skip
    return net


def step_by_step(costs: list[int], depths: list[int], words: int, latency: list[int], frames: int) -> list[int]:
    """When the last actor ends its last firing of each frame: time goes by ones, actors act when they can."""
    total = words * frames
    fired = [0] * len(costs)
    busy_until = [0] * len(costs)
    there: list[list[int]] = [[] for _ in depths]  # time at which each word is there
    freed: list[list[int]] = [[] for _ in depths]
    ends: list[int] = []
    now = 0
    while fired[-1] < total:
        for k in range(len(costs)):
            if fired[k] == total or busy_until[k] > now:
                continue
            n = fired[k]
            if k and not (len(there[k - 1]) > n and there[k - 1][n] <= now):
                continue
            full = k < len(depths) and n >= depths[k]
            if full and not (len(freed[k]) > n - depths[k] and freed[k][n - depths[k]] <= now):
                continue
            end = now + costs[k]
            busy_until[k] = end
            fired[k] += 1
            if k:
                freed[k - 1].append(end)
            if k < len(depths):
                there[k].append(end + latency[k])
            if k == len(costs) - 1 and fired[k] % words == 0:
                ends.append(end)
        now += 1
    return ends


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=5),
    st.lists(st.integers(1, 4), min_size=4, max_size=4),
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.integers(1, 6),
)
def test_chains_against_a_machine_that_goes_cycle_by_cycle(
    costs: list[int], depths: list[int], latency: list[int], words: int
) -> None:
    depths = depths[: len(costs) - 1]
    net = chain(costs, depths, words, latency)
    net.play(3)
    done = step_by_step(costs, depths, words, latency, 3)
    assert net.actors[-1].end_ps == done[-1]


def fork(depth: int) -> Network:
    """source -> one branch that collects a whole frame, one that goes straight -> join."""
    net, words = Network(), 8
    every = np.arange(1, words + 1)
    a, b, c = net.stream("long", words, 2), net.stream("collected", words, 2), net.stream("short", words, depth)
    net.actor(
        Actor("source", 0, np.ones(words, np.int64), 0, [], [Output(a, every, every - 1), Output(c, every, every - 1)])
    )
    need = np.minimum(every + words - 1, words)
    net.actor(Actor("collect", 1, np.ones(words, np.int64), 0, [Input(a, need, np.zeros(words, np.int64))],
                    [Output(b, every, every - 1)]))  # fmt: skip
    net.actor(
        Actor("join", 2, np.ones(words, np.int64), 0, [Input(b, every, every - 1), Input(c, every, every - 1)], [])
    )
    return net


def test_a_branch_that_cannot_wait_halts_and_the_depth_that_was_held_does_not() -> None:
    """The join needs the first word of the long branch, which comes when all eight have gone in: seven places halt."""
    free = fork(1 << 20)
    free.streams[0].depth = None
    free.streams[2].depth = None
    free.play(3)
    assert free.occupancy(2) >= 8
    for depth, good in ((8, True), (7, False)):
        net = fork(depth)
        net.streams[0].depth = 8
        if good:
            net.play(3)
        else:
            with pytest.raises(Stuck):
                net.play(3)
