"""Encoder, decoder, assembler and disassembler are inverses, and refuse what the field table does not allow."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isa_strategies import instructions, random_instruction

from compiler.isa import assemble, decode, disassemble, encode
from compiler.isa.layout import HEAD_SLOTS, LAYOUTS
from compiler.isa.program import Instruction
from compiler.isa.table import HEAD, OPS, Flag, Queue
from device_db.errors import FvcError


@given(st.lists(instructions(), max_size=8))
def test_decode_is_the_inverse_of_encode(stream):
    words = encode(stream)
    assert words.shape[1] == 4
    assert decode(words) == stream
    assert np.array_equal(encode(decode(words)), words)


@given(st.lists(instructions(), max_size=8))
def test_assemble_is_the_inverse_of_disassemble(stream):
    assert assemble(disassemble(stream)) == stream


def test_the_head_lies_where_docs_say():
    """A word written by hand: opcode 0x31 (END), CTL, one word, waits for ST, stage 2, packet 3, debug 4."""
    lane0 = 0x31 | (5 << 8) | (1 << 12) | (0 << 16) | (4 << 32) | (0 << 40) | (2 << 48)
    lane1 = 3 | (4 << 32)
    words = np.array([[lane0, lane1, 0, 0]], np.uint64)
    assert decode(words) == [Instruction("END", Queue.CTL, {}, 0, 4, 0, 2, 3, 4)]


def test_no_field_crosses_a_lane_and_none_overlap():
    for layout in LAYOUTS.values():
        seen: set[tuple[int, int]] = set()
        for slot in (*HEAD_SLOTS, *layout.slots):
            assert slot.shift + slot.field.bits <= 64
            bits = {(slot.lane, b) for b in range(slot.shift, slot.shift + slot.field.bits)}
            assert not bits & seen
            seen |= bits
        assert layout.words * 4 > max(lane for lane, _ in seen)


@pytest.mark.parametrize("op", [o.name for o in OPS])
def test_every_reserved_bit_is_rejected(op):
    layout = LAYOUTS[op]
    word = encode([Instruction(op, layout.op.queues[0], {})])
    free = [(lane, b) for lane, used in enumerate(layout.used) for b in range(64) if not used >> b & 1]
    for lane, bit in free:
        broken = word.copy()
        broken[lane // 4, lane % 4] |= np.uint64(1 << bit)
        with pytest.raises(FvcError) as caught:
            decode(broken)
        assert caught.value.code == "FVC311"


@pytest.mark.parametrize(
    "instruction",
    [
        Instruction("MAC", Queue.CX, {"m": 65536}),
        Instruction("MAC", Queue.CX, {"m": -1}),
        Instruction("MAC", Queue.CX, {"row_sum": 32768}),
        Instruction("MAC", Queue.CX, {"nonsense": 1}),
        Instruction("MAC", Queue.CX, {"m": 1.5}),  # type: ignore[dict-item]
        Instruction("MAC", Queue.CX, {"m": 1 << 80}),
        Instruction("JUMP", Queue.CX, {}),
        Instruction("SYNC", Queue.CX, {}, stage=1 << 16),
        Instruction("SYNC", 9, {}),  # type: ignore[arg-type]
    ],
)
def test_what_does_not_fit_is_refused(instruction):
    with pytest.raises(FvcError) as caught:
        encode([instruction])
    assert caught.value.code == "FVC310"


@pytest.mark.parametrize("field", [f.name for f in HEAD if f.name not in ("stage", "packet", "debug", "wait", "post")])
def test_impossible_heads_are_refused(field):
    slot = next(s for s in HEAD_SLOTS if s.field.name == field)
    word = encode([Instruction("SYNC", Queue.LD, {})])
    word[0, slot.lane] |= np.uint64(slot.mask << slot.shift)
    with pytest.raises(FvcError) as caught:
        decode(word)
    assert caught.value.code == "FVC311"


def test_a_cut_off_instruction_is_refused():
    words = encode([Instruction("LD", Queue.LD, {})])
    with pytest.raises(FvcError, match="cut off"):
        decode(words[:-1])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CX MAC : m=1\nCX MAC : m=x", 2),
        ("ZZ MAC", 1),
        ("CX JUMP", 1),
        ("CX MAC m=1", 1),
        ("CX MAC : m=1 m=2", 1),
        ("CX MAC flags=INIT|INIT", 1),
        ("CX MAC : m=65536", 1),
        ("CX", 1),
    ],
)
def test_assembler_errors_name_the_line(text, line):
    with pytest.raises(FvcError) as caught:
        assemble(text)
    assert caught.value.code == "FVC312"
    assert caught.value.where == (f"line {line}",)


def test_listing_is_what_a_person_expects():
    body = [
        Instruction("LD", Queue.LD, {"dram_space": 1, "scratch_space": 2, "elem": 1, "dram_addr": 64, "n0": 9}, post=2),
        Instruction("MAC", Queue.CX, {"m": 8, "row_sum": -3}, flags=Flag.INIT | Flag.BIAS, wait=1, post=5, stage=1),
    ]
    assert disassemble(body) == (
        "LD  LD    post=CX : dram_space=WORK scratch_space=ACT elem=1 dram_addr=0x40 n0=9\n"
        "CX  MAC   flags=INIT|BIAS wait=LD post=LD|ST stage=1 : m=8 row_sum=-3\n"
    )


def test_a_hundred_thousand_words_are_quick():
    """Generous limit: the point is that nothing works bit by bit in Python."""
    body = [random_instruction(random.Random(k), Queue.CX, 4) for k in range(1000)] * 40
    begin = time.process_time()
    words = encode(body)
    back = decode(words)
    spent = time.process_time() - begin
    assert len(words) > 80_000
    assert back == body
    assert spent < 10
