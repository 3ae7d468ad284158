"""Needs a core's constants and text; gives the golden CRC rows; guarantees that a repaired section hash hides nothing.

Text CRCs are taken over section-relative text with ranks and channels zero, so linking does not change them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compiler.isa.encoding import Columns, Words
from compiler.isa.program import CoreProgram, Packet
from compiler.isa.relocate import RANK, Relocations, scatter
from compiler.isa.sections import SectionType

SYMBOL, TASK, WHOLE, MARKING, METADATA = 0, 1, 2, 3, 4
Row = tuple[int, int, str, int]  # core, kind, name, crc
Buffer = bytes | memoryview
METADATA_SECTIONS = (
    SectionType.LINKS,
    SectionType.FOLDING,
    SectionType.NOTE,
    SectionType.NETLIST,
    SectionType.FABRIC_SYMBOLS,
    SectionType.FABRIC_UNITS,
    SectionType.FABRIC_FOLDING,
    SectionType.FABRIC_BANKS,
)


def core_rows(k: int, core: CoreProgram) -> list[Row]:
    """CRC-32 of the marking with the size of WORK, of the CONST image and of each symbol, in the symbols' order."""
    numbers = [tokens for row in core.marking for tokens in row] + [core.work_bytes]
    rows: list[Row] = [
        (k, MARKING, "", zlib.crc32(np.array(numbers, "<i8").tobytes())),
        (k, WHOLE, "", zlib.crc32(core.constants)),
    ]
    view = memoryview(core.constants)
    rows += [(k, SYMBOL, name, zlib.crc32(view[at : at + size])) for name, (at, size) in core.symbols.items()]
    return rows


def metadata_rows(sections: Mapping[SectionType, Buffer]) -> list[Row]:
    """CRC-32 of the METADATA_SECTIONS that are there: what no other part of the file repeats."""
    return [(0, METADATA, s.name, zlib.crc32(sections[s])) for s in METADATA_SECTIONS if s in sections]


def placeless(text: Words, relocations: Relocations) -> Words:
    """A copy of section-relative text whose rank and channel fields are zero."""
    copy = text.copy()
    values = np.where(relocations.type >= RANK, 0, relocations.addend)
    scatter(copy, relocations, values)
    return copy


def text_rows(
    columns: Columns, text: Words, core_of: NDArray[np.int64], packets: Sequence[Sequence[Packet]]
) -> list[Row]:
    """CRC-32 of the words of each task, queue by queue; instructions of no packet count to the task "".

    `text` is placeless; `core_of` (n,) the core of each instruction; `packets` those of each core.
    """
    rows: list[Row] = []
    packet, lengths = columns.head["packet"], columns.head["words"]
    for core, table in enumerate(packets):
        mine = np.flatnonzero(core_of == core)
        if not mine.size:
            continue
        names = list(dict.fromkeys(p.task for p in table))
        number = {name: k for k, name in enumerate(names)}
        task_of_packet = np.array([number[p.task] for p in table] + [len(names)], np.int64)
        task = task_of_packet[np.minimum(packet[mine], len(table))]
        order = np.argsort(task, kind="stable")
        chosen = mine[order]
        ends = np.cumsum(lengths[chosen])
        words = np.repeat(columns.start[chosen] - (ends - lengths[chosen]), lengths[chosen]) + np.arange(int(ends[-1]))
        body = text[words]
        cuts = np.flatnonzero(np.diff(task[order])) + 1
        edges = [0, *(ends[cuts - 1].tolist()), int(ends[-1])]
        kinds = task[order][np.concatenate([[0], cuts])].tolist()
        for kind, a, b in zip(kinds, edges[:-1], edges[1:], strict=True):
            rows.append((core, TASK, [*names, ""][kind], zlib.crc32(body[a:b].tobytes())))
    return rows
