"""Needs instructions or words; turns one into the other; guarantees the exact inverse and rejects reserved bits.

Text is an (N, 4) uint64 array, one row a 256-bit word. Both directions go through `Columns`: the instructions
grouped by opcode, one int64 array a field, so that the work is a few NumPy operations an opcode and not a field.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.isa.layout import HEAD_SLOTS, LANES, LAYOUT_BY_CODE, LAYOUTS, OpLayout
from compiler.isa.program import Instruction
from compiler.isa.table import HEAD, Flag, Queue
from device_db.errors import FvcError

Words = NDArray[np.uint64]
Ints = NDArray[np.int64]

_HEAD_NAMES = tuple(f.name for f in HEAD)
_QUEUES = tuple(Queue)
_ALL_FLAGS = sum(Flag)
_ALL_QUEUES = (1 << len(Queue)) - 1


@dataclass(slots=True)
class Group:
    """All instructions of one opcode: their indices in the stream and an int64 column for each field."""

    layout: OpLayout
    index: Ints  # (k,) positions in the instruction stream
    fields: dict[str, Ints]  # each (k,)


@dataclass(slots=True)
class Columns:
    """A stream of n instructions as columns. `head` maps head field names to (n,) arrays."""

    count: int
    head: dict[str, Ints]
    groups: dict[str, Group]  # by mnemonic, table order
    start: Ints  # (n,) index of each instruction's first word


def _column(values: Iterable[int], what: str) -> Ints:
    try:
        return np.frombuffer(array("q", values), dtype=np.int64)
    except (OverflowError, TypeError) as error:
        raise FvcError("FVC310", f"{what}: {error}", exit_code=70) from None


def _check_range(values: Ints, low: int, high: int, what: str, index: Ints | None) -> None:
    bad = np.flatnonzero((values < low) | (values > high))
    if bad.size:
        at = int(bad[0]) if index is None else int(index[bad[0]])
        raise FvcError(
            "FVC310",
            f"{what} = {int(values[bad[0]])} does not fit: {low}..{high} is encodable",
            where=(f"instruction {at}",),
            exit_code=70,
        )


def columns_of(instructions: Sequence[Instruction]) -> Columns:
    """Instructions as columns, every value checked against its field's range.

    Raises FvcError FVC310 for an unknown mnemonic or field, a value that is no integer or does not fit.
    """
    n = len(instructions)
    by_op: dict[str, list[int]] = {}
    for k, instruction in enumerate(instructions):
        by_op.setdefault(instruction.op, []).append(k)
    for name in by_op:
        if name not in LAYOUTS:
            raise FvcError("FVC310", f"no instruction is called {name!r}", exit_code=70)
    head = {
        "opcode": np.zeros(n, np.int64),
        "queue": _column([i.queue for i in instructions], "queue"),
        "words": np.zeros(n, np.int64),
        "flags": _column([i.flags for i in instructions], "flags"),
        "wait": _column([i.wait for i in instructions], "wait"),
        "post": _column([i.post for i in instructions], "post"),
        "stage": _column([i.stage for i in instructions], "stage"),
        "packet": _column([i.packet for i in instructions], "packet"),
        "debug": _column([i.debug for i in instructions], "debug"),
    }
    groups: dict[str, Group] = {}
    for name, layout in LAYOUTS.items():
        if name not in by_op:
            continue
        index = np.array(by_op[name], np.int64)
        members = [instructions[k] for k in by_op[name]]
        for k, member in zip(by_op[name], members, strict=True):
            if not member.fields.keys() <= layout.names:
                unknown = sorted(member.fields.keys() - layout.names)
                raise FvcError(
                    "FVC310", f"{name} has no field {unknown[0]!r}", where=(f"instruction {k}",), exit_code=70
                )
        fields: dict[str, Ints] = {}
        for slot in layout.slots:
            key = slot.field.name
            column = _column([m.fields.get(key, 0) for m in members], f"{name}.{key}")
            _check_range(column, slot.low, slot.high, f"{name}.{key}", index)
            fields[key] = column
        head["opcode"][index] = layout.op.code
        head["words"][index] = layout.words
        groups[name] = Group(layout, index, fields)
    for slot in HEAD_SLOTS:
        _check_range(head[slot.field.name], slot.low, slot.high, slot.field.name, None)
    _check_range(head["queue"], 0, len(Queue) - 1, "queue", None)
    start = np.cumsum(head["words"]) - head["words"]
    return Columns(n, head, groups, start)


def pack(columns: Columns) -> Words:
    """Columns as words; the inverse of `unpack`."""
    total = int(columns.head["words"].sum())
    flat = np.zeros(total * LANES, np.uint64)
    first = columns.start * LANES
    for slot in HEAD_SLOTS:
        flat[first + slot.lane] |= columns.head[slot.field.name].astype(np.uint64) << np.uint64(slot.shift)
    for group in columns.groups.values():
        base = first[group.index]
        for slot in group.layout.slots:
            bits = group.fields[slot.field.name].astype(np.uint64) & np.uint64(slot.mask)
            flat[base + slot.lane] |= bits << np.uint64(slot.shift)
    return flat.reshape(total, LANES)


def _starts(words: Words) -> Ints:
    """Indices of the words that begin an instruction, each length checked against its opcode."""
    codes: list[int] = (words[:, 0] & np.uint64(0xFF)).tolist()
    lengths: list[int] = ((words[:, 0] >> np.uint64(12)) & np.uint64(0xF)).tolist()
    starts: list[int] = []
    at, total = 0, len(codes)
    while at < total:
        layout = LAYOUT_BY_CODE.get(codes[at])
        if layout is None:
            raise FvcError("FVC311", f"unknown opcode 0x{codes[at]:02x}", where=(f"word {at}",))
        if lengths[at] != layout.words:
            raise FvcError(
                "FVC311",
                f"{layout.op.name} says it has {lengths[at]} words, it has {layout.words}",
                where=(f"word {at}",),
            )
        starts.append(at)
        at += layout.words
    if at != total:
        raise FvcError("FVC311", "the last instruction is cut off", where=(f"word {starts[-1]}",))
    return np.array(starts, np.int64)


def unpack(words: Words) -> Columns:
    """Words as columns. Raises FvcError FVC311: unknown opcode, wrong length, a reserved bit that is set."""
    start = _starts(words)
    flat = np.ascontiguousarray(words, np.uint64).reshape(-1)
    first = start * LANES
    head: dict[str, Ints] = {}
    for slot in HEAD_SLOTS:
        column = (flat[first + slot.lane] >> np.uint64(slot.shift)) & np.uint64(slot.mask)
        head[slot.field.name] = column.astype(np.int64)
    _reject(head["queue"] >= len(Queue), start, "no such queue")
    _reject((head["flags"] & ~_ALL_FLAGS) != 0, start, "a reserved flag is set")
    _reject(((head["wait"] | head["post"]) & ~_ALL_QUEUES) != 0, start, "a token of a queue that does not exist")
    groups: dict[str, Group] = {}
    for name, layout in LAYOUTS.items():
        index = np.flatnonzero(head["opcode"] == layout.op.code)
        if not index.size:
            continue
        base = first[index]
        for lane, used in enumerate(layout.used):
            if used != (1 << 64) - 1:
                reserved = np.uint64(~used & ((1 << 64) - 1))
                _reject((flat[base + lane] & reserved) != 0, start[index], f"a reserved bit of {name} is set")
        fields: dict[str, Ints] = {}
        for slot in layout.slots:
            raw = ((flat[base + slot.lane] >> np.uint64(slot.shift)) & np.uint64(slot.mask)).astype(np.int64)
            if slot.field.signed:
                raw -= (raw > slot.high) * (1 << slot.field.bits)
            fields[slot.field.name] = raw
        groups[name] = Group(layout, index, fields)
    return Columns(len(start), head, groups, start)


def _reject(bad: NDArray[np.bool_], start: Ints, what: str) -> None:
    hits = np.flatnonzero(bad)
    if hits.size:
        raise FvcError("FVC311", what, where=(f"word {int(start[hits[0]])}",))


def instructions_of(columns: Columns) -> list[Instruction]:
    """Columns as instructions whose `fields` name every field of their opcode, in table order."""
    ops: list[str] = [""] * columns.count
    fields: list[dict[str, int]] = [{}] * columns.count
    for name, group in columns.groups.items():
        keys = tuple(group.fields)
        rows = (
            zip(*(column.tolist() for column in group.fields.values()), strict=True)
            if keys
            else [()] * len(group.index)
        )
        for k, row in zip(group.index.tolist(), rows, strict=True):
            ops[k] = name
            fields[k] = dict(zip(keys, row, strict=True))
    head = [columns.head[key].tolist() for key in ("queue", "flags", "wait", "post", "stage", "packet", "debug")]
    return [
        Instruction(op, _QUEUES[queue], body, flags, wait, post, stage, packet, debug)
        for op, body, queue, flags, wait, post, stage, packet, debug in zip(ops, fields, *head, strict=True)
    ]


def encode(instructions: Sequence[Instruction]) -> Words:
    """Instructions as an (N, 4) uint64 array of words. Raises FvcError FVC310 where a value does not fit."""
    return pack(columns_of(instructions))


def decode(words: Words) -> list[Instruction]:
    """Words as instructions, every field present. Raises FvcError FVC311 on anything that `encode` never writes."""
    if words.size == 0:
        return []
    return instructions_of(unpack(words))


def canonical(instruction: Instruction) -> Instruction:
    """The same instruction with every field of its opcode present, in table order: what `decode` returns."""
    return decode(encode([instruction]))[0]
