"""Needs the field table; gives every field its lane and shift; guarantees one layout for all who read or write words.

A word is four 64-bit lanes. Fields follow in table order from bit 128 on and never cross a lane.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.isa.table import BY_CODE, HEAD, OPS, Field, Op

LANES = 4  # 64-bit lanes of a word
HEAD_LANES = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a field lies: `lane` counts 64-bit lanes from the start of the instruction, `shift` bits in it."""

    field: Field
    lane: int
    shift: int

    @property
    def mask(self) -> int:
        """The field's bits, not shifted."""
        return (1 << self.field.bits) - 1

    @property
    def low(self) -> int:
        return -(1 << (self.field.bits - 1)) if self.field.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.field.bits - (1 if self.field.signed else 0))) - 1


@dataclass(frozen=True, slots=True)
class OpLayout:
    """The words of one instruction: its slots (head apart), their number of words, the used bits of each lane."""

    op: Op
    slots: tuple[Slot, ...]
    words: int
    used: tuple[int, ...]  # one 64-bit mask a lane; a bit outside is reserved
    names: frozenset[str]


def _pack(fields: tuple[Field, ...], first_lane: int) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    bit = first_lane * 64
    for field in fields:
        if bit % 64 + field.bits > 64:
            bit += 64 - bit % 64
        slots.append(Slot(field, bit // 64, bit % 64))
        bit += field.bits
    return tuple(slots)


HEAD_SLOTS: tuple[Slot, ...] = _pack(HEAD, 0)


def layout_of(op: Op) -> OpLayout:
    """The words of an instruction."""
    slots = _pack(op.fields, HEAD_LANES)
    lanes = max((s.lane + 1 for s in slots), default=HEAD_LANES)
    words = -(-lanes // LANES)
    used = [0] * (words * LANES)
    for slot in HEAD_SLOTS + slots:
        used[slot.lane] |= slot.mask << slot.shift
    return OpLayout(op, slots, words, tuple(used), frozenset(f.name for f in op.fields))


LAYOUTS: dict[str, OpLayout] = {op.name: layout_of(op) for op in OPS}
LAYOUT_BY_CODE: dict[int, OpLayout] = {code: LAYOUTS[op.name] for code, op in BY_CODE.items()}
