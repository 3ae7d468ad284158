"""Needs the field table; writes docs/isa.md; guarantees that the page says what encoder and decoder do.

python -m compiler.isa.reference > docs/isa.md
"""

from __future__ import annotations

from collections.abc import Iterable

from compiler.isa.layout import HEAD_SLOTS, LAYOUTS, Slot
from compiler.isa.sections import ISA_VERSION
from compiler.isa.stream.table import COPY_WORDS, MAX_DIMS
from compiler.isa.stream.table import LAYOUTS as NET_LAYOUTS
from compiler.isa.stream.table import OPS as NET_OPS
from compiler.isa.table import OPS, Flag, Queue, Space

_HEAD_TEXT = f"""# Instruction set reference

Version {ISA_VERSION}. This page is made from `compiler/isa/table.py` by `python -m compiler.isa.reference`; a test
keeps it current. What each instruction does is written in [machine.md](machine.md), how words lie in a file in
[container.md](container.md).

A word is 256 bits, little-endian: four 64-bit lanes. An instruction is one word or more; lane 0 is the first 8 bytes
of its first word. A field lies within one lane, at the given bit; signed fields are two's complement. All bits that no
field names are zero.
"""

_NETLIST = f"""## Instructions of a netlist

Same words and head; queue is CTL, `debug` the number of the unit, all other fields of the head are zero. What each unit does is
written in [streaming.md](streaming.md). Memories: 0 LUTRAM, 1 BRAM, 2 URAM, 3 DRAM. Slot 0 of BUF is int64: n, c, h, w of each input
and of the output, then {COPY_WORDS} words a copy: source, dimensions, source offset, destination offset, table (-1: none),
{MAX_DIMS} sizes, {MAX_DIMS} source strides, {MAX_DIMS} destination strides, in elements of dense row-major tensors.
"""  # noqa: E501

_ENTRIES = """## Entries in TAB

Little-endian, without padding. A field that the mode (of VBIN: kind and mode) does not use is 0: VBIN add has no za, zb
and zy, a fixed mul no zy and mb, an fp32 mul no rb and c.

| instruction | bytes | entry |
|---|---|---|
| VREQ | 16 | i32 multiplier (fixed), f32 scale (fp32) or i32 base (threshold); u8 shift; u8 mode; u16 steps; i64 add (fixed) or byte offset of the int32 thresholds from `tab_addr` (threshold) |
| VBIN | 32 | u8 mode; u8 shift; i16 za; i16 zb; i16 zy; i32 ma or f32 ra (add), f32 s (mul); i32 mb or f32 rb; i64 add, or f32 c and 4 zero bytes; 8 zero bytes |
| VPOOL average | 16 | f32 xs; f32 ys; i16 zx; i16 zy; 4 zero bytes |

Modes: 0 fixed, 1 threshold, 2 fp32.
"""  # noqa: E501


def _table(slots: Iterable[Slot]) -> list[str]:
    lines = ["| lane | bits | field | range | relocated by | meaning |", "|---|---|---|---|---|---|"]
    for s in slots:
        bits = f"{s.shift + s.field.bits - 1}:{s.shift}"
        doc = s.field.doc.replace("|", "\\|")
        lines.append(f"| {s.lane} | {bits} | `{s.field.name}` | {s.low}…{s.high} | {s.field.reloc} | {doc} |")
    return lines


def page() -> str:
    """The text of docs/isa.md."""
    lines = [_HEAD_TEXT, "## Head of every instruction", "", *_table(HEAD_SLOTS), ""]
    lines += ["Queues: " + ", ".join(f"{int(q)} {q.name}" for q in Queue) + ".", ""]
    lines += ["Spaces: " + ", ".join(f"{int(s)} {s.name}" for s in Space) + ".", ""]
    lines += ["Flags: " + ", ".join(f"{int(f):#x} {f.name}" for f in Flag) + ".", ""]
    lines += ["## Instructions", ""]
    for op in OPS:
        layout = LAYOUTS[op.name]
        words = "1 word" if layout.words == 1 else f"{layout.words} words"
        queues = "any queue" if len(op.queues) == len(Queue) else ", ".join(q.name for q in op.queues)
        lines += [f"### {op.name} (0x{op.code:02x}, {words}, {queues})", "", op.doc[0].upper() + op.doc[1:] + ".", ""]
        if layout.slots:
            lines += [*_table(layout.slots), ""]
    lines += [_NETLIST, ""]
    for op in NET_OPS:
        layout = NET_LAYOUTS[op.name]
        words = "1 word" if layout.words == 1 else f"{layout.words} words"
        lines += [f"### {op.name} (0x{op.code:02x}, {words})", "", op.doc[0].upper() + op.doc[1:] + ".", ""]
        lines += [*_table(layout.slots), ""]
    lines.append(_ENTRIES)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
