"""Needs text as columns or words; finds, applies and removes relocations; one vectorised scatter a kind.

Relocation types 0 to 5 are the address spaces (the base of that space of that core is added), 6 is a rank, 7 a
channel (the number is replaced by what the link map gives). The addend is section-relative, so text is always
`addend + base`, and unlinking is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.isa.encoding import Columns, Ints, Words
from compiler.isa.layout import LANES
from compiler.isa.sections import RELOCATION_TYPES
from compiler.isa.table import Space

RANK, CHANNEL = RELOCATION_TYPES.index("rank"), RELOCATION_TYPES.index("channel")
_FIXED = {"act": Space.ACT, "wgt": Space.WGT, "acc": Space.ACC, "tab": Space.TAB, "rank": RANK, "channel": CHANNEL}


@dataclass(frozen=True, slots=True)
class Relocations:
    """Parallel int64 arrays, one entry a relocatable field, sorted by (type, lane, shift). Columns of RELOCATIONS."""

    type: Ints
    lane: Ints  # 64-bit lane of TEXT
    shift: Ints
    bits: Ints
    core: Ints
    addend: Ints

    def groups(self) -> Iterator[tuple[int, int, int, NDArray[np.int64]]]:
        """(type, shift, bits, indices): in one group no lane occurs twice, so a scatter loses nothing."""
        if not len(self.type):
            return
        key = (self.type << 16) | (self.shift << 8) | self.bits
        order = np.argsort(key, kind="stable")
        cuts = np.flatnonzero(np.diff(key[order])) + 1
        for part in np.split(order, cuts):
            first = int(part[0])
            yield int(self.type[first]), int(self.shift[first]), int(self.bits[first]), part


def _space_of(op: str, reloc: str, fields: dict[str, Ints]) -> Ints | int:
    if reloc == "dram":
        return fields["dram_space"] if op == "LD" else (Space.CONST if op == "CRC" else Space.WORK)
    if reloc == "scratch":
        return fields["scratch_space"]
    if reloc == "part":
        return np.where(fields["act"] == 1, int(Space.ACT), int(Space.WGT))
    return int(_FIXED[reloc])


def find_relocations(columns: Columns, core: Ints) -> Relocations:
    """Every relocatable field of a text whose bases are all zero. `core`: (n,) row of CORES of each instruction."""
    parts: list[tuple[Ints, ...]] = []
    first = columns.start * LANES
    for name, group in columns.groups.items():
        for slot in group.layout.slots:
            if not slot.field.reloc:
                continue
            k = len(group.index)
            kind = np.broadcast_to(np.asarray(_space_of(name, slot.field.reloc, group.fields), np.int64), (k,))
            legal = slice(None) if slot.field.reloc in _FIXED else np.flatnonzero((kind >= 0) & (kind <= Space.TAB))
            shift, bits = np.full(k, slot.shift, np.int64), np.full(k, slot.field.bits, np.int64)
            lane = first[group.index] + slot.lane
            columns_of_part = (kind, lane, shift, bits, core[group.index], group.fields[slot.field.name])
            parts.append(tuple(c[legal] for c in columns_of_part))
    if not parts:
        empty = np.zeros(0, np.int64)
        return Relocations(empty, empty, empty, empty, empty, empty)
    joined = [np.concatenate([p[i] for p in parts]) for i in range(6)]
    order = np.lexsort((joined[2], joined[1], joined[0]))
    return Relocations(*(c[order] for c in joined))


def scatter(text: Words, relocations: Relocations, values: Ints) -> None:
    """Writes values[k] into the field of relocation k, in place; the caller has checked that each fits its bits."""
    flat = text.reshape(-1)
    for _, shift, bits, index in relocations.groups():
        lanes = relocations.lane[index]
        keep = np.uint64(~(((1 << bits) - 1) << shift) & ((1 << 64) - 1))
        flat[lanes] = (flat[lanes] & keep) | (values[index].astype(np.uint64) << np.uint64(shift))


def bases_of(relocations: Relocations, bases: Ints) -> Ints:
    """What linking adds to each addend: bases[core, space], 0 for ranks and channels. `bases` is (cores, 6)."""
    spaces = np.minimum(relocations.type, Space.TAB)
    return np.where(relocations.type < RANK, bases[relocations.core, spaces], 0)
