"""Needs the field table; turns instructions into lines of text and back; guarantees the exact inverse.

    CX MAC  flags=INIT|BIAS wait=LD post=LD|ST stage=1 packet=3 debug=17 : act_addr=0x40 m=64 n=3 …

Queue, mnemonic, head fields that are not zero, a colon, own fields that are not zero. `#` begins a comment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compiler.isa.encoding import canonical
from compiler.isa.layout import LAYOUTS
from compiler.isa.program import Instruction
from compiler.isa.table import Flag, Queue, Space
from device_db.errors import FvcError

_HEAD_NUMBERS = ("stage", "packet", "debug")
_SPACE_FIELDS = ("dram_space", "scratch_space")


def _names(mask: int, enum: Sequence[tuple[str, int]]) -> str:
    return "|".join(name for name, bit in enum if mask & bit)


_FLAG_BITS = tuple((flag.name or "", int(flag)) for flag in Flag)
_QUEUE_BITS = tuple((queue.name, 1 << queue) for queue in Queue)


def _value(name: str, value: int) -> str:
    if name in _SPACE_FIELDS and 0 <= value < len(Space):
        return Space(value).name
    if name.endswith("_addr") or name in ("expect", "tag"):
        return hex(value)
    return str(value)


def disassemble_one(instruction: Instruction) -> str:
    """One instruction as one line."""
    parts = [f"{instruction.queue.name:<3}", f"{instruction.op:<5}"]
    if instruction.flags:
        parts.append("flags=" + _names(instruction.flags, _FLAG_BITS))
    if instruction.wait:
        parts.append("wait=" + _names(instruction.wait, _QUEUE_BITS))
    if instruction.post:
        parts.append("post=" + _names(instruction.post, _QUEUE_BITS))
    parts += [f"{key}={value}" for key in _HEAD_NUMBERS if (value := getattr(instruction, key))]
    own = [
        f"{slot.field.name}={_value(slot.field.name, value)}"
        for slot in LAYOUTS[instruction.op].slots
        if (value := instruction.fields.get(slot.field.name, 0))
    ]
    if own:
        parts += [":", *own]
    return " ".join(parts).rstrip()


def disassemble(instructions: Iterable[Instruction]) -> str:
    """A stream of instructions as text, one line each."""
    return "".join(disassemble_one(i) + "\n" for i in instructions)


def _mask(text: str, bits: Sequence[tuple[str, int]], line: int) -> int:
    known = dict(bits)
    mask = 0
    for name in text.split("|"):
        if name not in known or mask & known[name]:
            raise _bad(line, f"{name!r} is not one of {', '.join(known)}, each once")
        mask |= known[name]
    return mask


def _bad(line: int, what: str) -> FvcError:
    return FvcError("FVC312", what, where=(f"line {line}",))


def _number(name: str, text: str, line: int) -> int:
    if name in _SPACE_FIELDS and text in Space.__members__:
        return int(Space[text])
    try:
        return int(text, 0)
    except ValueError:
        raise _bad(line, f"{name}={text}: not a number") from None


def _assemble_line(text: str, line: int) -> Instruction:
    tokens = text.split()
    if len(tokens) < 2 or tokens[0] not in Queue.__members__:
        raise _bad(line, "expected: QUEUE MNEMONIC [head fields] [: fields]")
    queue, op = Queue[tokens[0]], tokens[1]
    if op not in LAYOUTS:
        raise _bad(line, f"no instruction is called {op!r}")
    head: dict[str, int] = {}
    fields: dict[str, int] = {}
    own = False
    for token in tokens[2:]:
        if token == ":" and not own:
            own = True
            continue
        key, sign, value = token.partition("=")
        target = fields if own else head
        if not sign or key in target:
            raise _bad(line, f"{token!r}: expected name=value, each name once")
        if own and key in LAYOUTS[op].names:
            fields[key] = _number(key, value, line)
        elif not own and key == "flags":
            head[key] = _mask(value, _FLAG_BITS, line)
        elif not own and key in ("wait", "post"):
            head[key] = _mask(value, _QUEUE_BITS, line)
        elif not own and key in _HEAD_NUMBERS:
            head[key] = _number(key, value, line)
        else:
            raise _bad(line, f"{op} has no field {key!r} here")
    try:
        return canonical(Instruction(op, queue, fields, **head))
    except FvcError as error:
        raise _bad(line, error.what) from None


def assemble(text: str) -> list[Instruction]:
    """Text as instructions, every field present. Raises FvcError FVC312 with the line number."""
    result: list[Instruction] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        body = raw.partition("#")[0].strip()
        if body:
            result.append(_assemble_line(body, number))
    return result
