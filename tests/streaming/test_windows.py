"""Cycles of window generators: the closed form, the judge's own count, and the two processes played by themselves."""

from __future__ import annotations

import random

import pytest

from compiler.isa.stream.flow import Actor, Input, Network, Output
from compiler.isa.stream.rates import behaviour, least_buffer, unit_cycles
from compiler.partition.check.stream.windows import Windows, held_words, turn_cycles
from tests.streaming.test_timing import unit

FRAMES = 5


def drawn(draw: random.Random) -> dict[str, int]:
    """The fields of a window generator with a line buffer as docs/streaming.md has it."""
    f = {"kh": draw.randint(1, 5), "kw": draw.randint(1, 5), "sh": draw.randint(1, 3), "sw": draw.randint(1, 3)}
    f |= {
        "dh": draw.choice([1, 1, 2]),
        "dw": draw.choice([1, 1, 2]),
        "oh": draw.randint(1, 6),
        "ow": draw.randint(1, 9),
    }
    f["in_h"] = (f["oh"] - 1) * f["sh"] + (f["kh"] - 1) * f["dh"] + 1 + draw.randrange(f["sh"])
    f["in_w"] = (f["ow"] - 1) * f["sw"] + (f["kw"] - 1) * f["dw"] + 1 + draw.randrange(f["sw"])
    pe, words, blocks = draw.randint(1, 2), draw.randint(1, 3), draw.choice([1, 1, 2, 3])
    f |= {"pe": pe, "block": words * pe, "channels": words * pe * blocks, "more": draw.choice([0, 0, 1])}
    f["pe_out"] = f["block"] * f["kh"] * f["kw"] if draw.random() < 0.3 else pe
    pixel = f["channels"] // pe
    ahead = (f["kw"] - 1) * f["dw"] + 1 + f["sw"] + f["sh"] * f["in_w"]
    f["depth"] = least_buffer(f | {"more": 0}) + pixel * (f["in_h"] * f["in_w"] if f["oh"] == 1 else ahead)
    return f


def played(f: dict[str, int]) -> int:
    """Cycles from frame to frame of reader and writer between neighbours that never wait."""
    b = behaviour(unit("WIN", **f))
    reader, writer = b.processes
    (w,), (r,) = reader.writes, writer.reads
    net = Network()
    line = net.stream("line", len(w.maker), b.lines["line0"], line=True)
    net.actor(Actor("reader", 0, reader.cost, 1, [], [Output(line, w.made, w.maker, w.each)]))
    net.actor(Actor("writer", 0, writer.cost, 2, [Input(line, r.need, r.freer)], []))
    ends = []
    for _ in range(FRAMES):
        net.play(1)
        ends.append(net.actors[1].end_ps)
    return ends[-1] - ends[-2]


@pytest.mark.parametrize("seed", range(60))
def test_windows_take_what_reader_and_writer_take_together(seed: int) -> None:
    f = drawn(random.Random(seed))
    assert unit_cycles(unit("WIN", **f)) == played(f)


@pytest.mark.parametrize("seed", range(60))
def test_the_judge_counts_the_same(seed: int) -> None:
    f = drawn(random.Random(1000 + seed))
    w = Windows((f["in_h"], f["in_w"]), f["channels"] // f["pe"], f["block"] // f["pe"], (f["kh"], f["kw"]),
                (f["sh"], f["sw"]), (f["dh"], f["dw"]), (f["oh"], f["ow"]), f["pe_out"] // f["pe"])  # fmt: skip
    assert held_words(w) == least_buffer(f | {"more": 0})
    assert (1 + f["more"]) * turn_cycles(w, f["depth"]) == unit_cycles(unit("WIN", **f))


def test_the_next_image_waits_for_the_rows_of_the_last_window() -> None:
    """A 5 x 5 window over 6 x 100 pixels of two words, two rows of windows: 9,600 words to write, 1,200 to read. At the
    end of an image four rows and the rest of the last window stand in the buffer of 1,020 words: of the 809 words that
    the next image's first window needs the writer waits for 551."""
    f = {"pe": 100, "pe_out": 100, "channels": 200, "block": 100, "in_h": 6, "in_w": 100, "kh": 5, "kw": 5}
    f |= {"sh": 1, "sw": 1, "dh": 1, "dw": 1, "oh": 2, "ow": 96, "depth": 1020, "more": 0}
    assert played(f) == 9600 + 551 == unit_cycles(unit("WIN", **f))
