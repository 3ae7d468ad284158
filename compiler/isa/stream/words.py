"""Needs netlist instructions or words; turns one into the other; guarantees the exact inverse, reserved bits zero."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.isa.encoding import Words
from compiler.isa.layout import HEAD_SLOTS, LANES, OpLayout
from compiler.isa.program import Instruction
from compiler.isa.stream.table import BY_CODE, LAYOUTS
from compiler.isa.table import Queue
from device_db.errors import FvcError


def encode(text: Sequence[Instruction]) -> Words:
    """Netlist instructions as an (N, 4) array of words. Raises FVC310 where a value does not fit."""
    lanes: list[int] = []
    for k, ins in enumerate(text):
        layout = LAYOUTS.get(ins.op)
        if layout is None:
            raise FvcError("FVC310", f"no netlist instruction is called {ins.op!r}", exit_code=70)
        unknown = sorted(ins.fields.keys() - layout.names)
        if unknown:
            raise FvcError("FVC310", f"{ins.op} has no field {unknown[0]!r}", exit_code=70)
        values = {s.field.name: 0 for s in HEAD_SLOTS}
        values |= {"opcode": layout.op.code, "queue": int(Queue.CTL), "words": layout.words, "debug": ins.debug}
        out = [0] * (layout.words * LANES)
        for slot in HEAD_SLOTS:
            out[slot.lane] |= values[slot.field.name] << slot.shift
        for slot in layout.slots:
            value = int(ins.fields.get(slot.field.name, 0))
            if not slot.low <= value <= slot.high:
                what = f"{ins.op}.{slot.field.name} = {value} does not fit: {slot.low}..{slot.high} is encodable"
                raise FvcError("FVC310", what, where=(f"netlist instruction {k}",), exit_code=70)
            out[slot.lane] |= (value & slot.mask) << slot.shift
        lanes += out
    return np.array(lanes, np.uint64).reshape(-1, LANES)


def decode(words: Words) -> list[Instruction]:
    """Words as instructions, every field present. Raises FVC311 on anything that `encode` never writes."""
    lanes: list[int] = words.reshape(-1).tolist()
    out: list[Instruction] = []
    at = 0
    while at < len(lanes):
        layout = BY_CODE.get(lanes[at] & 0xFF)
        if layout is None:
            raise _bad(at, f"opcode 0x{lanes[at] & 0xFF:02x} is no netlist instruction")
        body = lanes[at : at + layout.words * LANES]
        if len(body) < layout.words * LANES:
            raise _bad(at, "the last instruction is cut off")
        out.append(_instruction(layout, body, at))
        at += len(body)
    return out


def _instruction(layout: OpLayout, body: list[int], at: int) -> Instruction:
    head = {s.field.name: body[s.lane] >> s.shift & s.mask for s in HEAD_SLOTS}
    if head["words"] != layout.words or head["queue"] != Queue.CTL:
        raise _bad(at, f"{layout.op.name} has the wrong length or queue")
    if any(head[name] for name in ("flags", "wait", "post", "stage", "packet")):
        raise _bad(at, f"{layout.op.name} has a field of the head that a netlist does not use")
    if any(lane & ~used for lane, used in zip(body, layout.used, strict=True)):
        raise _bad(at, f"a reserved bit of {layout.op.name} is set")
    fields = {}
    for slot in layout.slots:
        raw = body[slot.lane] >> slot.shift & slot.mask
        fields[slot.field.name] = raw - (1 << slot.field.bits) if slot.field.signed and raw > slot.high else raw
    return Instruction(layout.op.name, Queue.CTL, fields, debug=head["debug"])


def _bad(lane: int, what: str) -> FvcError:
    return FvcError("FVC311", what, where=(f"netlist word {lane // LANES}",))


def listing(ins: Instruction) -> str:
    """One line of a disassembly: mnemonic, then name=value of every field that is not zero."""
    return " ".join([f"{ins.op:<5}", *(f"{k}={v}" for k, v in ins.fields.items() if v)])
