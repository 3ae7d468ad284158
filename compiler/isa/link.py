"""Needs a `.fvcb` file and where it shall run; patches ranks, channels and bases; guarantees an exact inverse.

No instruction is decoded and no layout changes: a few table columns, one scatter over the relocations, new hashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compiler.isa.encoding import Ints
from compiler.isa.file import write_file
from compiler.isa.reader import SPACES, Image, core_bases, read_image, relocations_of
from compiler.isa.relocate import CHANNEL, RANK, bases_of, scatter
from compiler.isa.sections import SectionType
from compiler.isa.table import HOST_RANK
from device_db.errors import FvcError


@dataclass(frozen=True, slots=True)
class LinkMap:
    """Where a program goes. Ranks and channels not named stay; `bases` adds bytes: core row -> {space: bytes}."""

    ranks: dict[int, int] = field(default_factory=dict)
    channels: dict[int, int] = field(default_factory=dict)
    bases: dict[int, dict[str, int]] = field(default_factory=dict)

    def inverse(self) -> LinkMap:
        """The map that undoes this one."""
        return LinkMap(
            {new: old for old, new in self.ranks.items()},
            {new: old for old, new in self.channels.items()},
            {core: {space: -added for space, added in row.items()} for core, row in self.bases.items()},
        )


def _lookup(mapping: dict[int, int], what: str) -> Ints:
    """Old number -> new number as an array over 16 bits; must be a bijection on the numbers it names."""
    table = np.arange(HOST_RANK + 1, dtype=np.int64)
    for old, new in mapping.items():
        if not 0 <= old < HOST_RANK or not 0 <= new < HOST_RANK:
            raise FvcError("FVC313", f"{what} {old} -> {new}: both must be 0..{HOST_RANK - 1}")
        table[old] = new
    if len(set(mapping.values())) != len(mapping):
        raise FvcError("FVC313", f"two {what}s would get the same number")
    return table


def _added(image: Image, link_map: LinkMap) -> Ints:
    added = np.zeros((len(image.tables[SectionType.CORES]), len(SPACES)), np.int64)
    for core, row in link_map.bases.items():
        for space, delta in row.items():
            if space not in SPACES or not 0 <= core < len(added) or abs(delta) >= 1 << 40:
                raise FvcError("FVC313", f"base of {space} on core row {core}: no such space, core or address")
            added[core, SPACES.index(space)] = delta
    return added


def link(data: bytes, link_map: LinkMap) -> bytes:
    """The same program for other ranks, channels and bases; link(link(p, m), m.inverse()) == p.

    Raises FvcError FVC300 to FVC304 on a damaged file, FVC313 on a map that does not fit it.
    """
    image = read_image(data)
    ranks, channels = _lookup(link_map.ranks, "rank"), _lookup(link_map.channels, "channel")
    bases = core_bases(image) + _added(image, link_map)
    if (bases < 0).any():
        raise FvcError("FVC313", "a base would be negative")
    payloads = {int(s): bytes(p) for s, p in image.payloads.items()}

    relocations = relocations_of(image)
    if ((relocations.lane >= image.text.size) | (relocations.core >= len(bases))).any():
        raise FvcError("FVC303", "section RELOCATIONS is damaged: an entry points outside the text")
    values = relocations.addend + bases_of(relocations, bases)
    is_rank, is_channel = relocations.type == RANK, relocations.type == CHANNEL
    if ((relocations.addend[is_rank | is_channel] >> 16) != 0).any():
        raise FvcError("FVC303", "section RELOCATIONS is damaged: a rank or channel beyond 16 bits")
    values[is_rank] = ranks[relocations.addend[is_rank]]
    values[is_channel] = channels[relocations.addend[is_channel]]
    if (values >> np.minimum(relocations.bits, 62) != 0).any():
        raise FvcError("FVC313", "an address would not fit its field")
    text = image.text.astype(np.uint64)
    scatter(text, relocations, values)
    payloads[SectionType.TEXT] = text.astype("<u8").tobytes()

    def patch(section: SectionType, columns: dict[str, Ints]) -> None:
        table = image.tables[section]
        rows = table.rows.copy()
        for name, column in columns.items():
            rows[name] = column
        old = payloads[int(section)]
        payloads[int(section)] = old[:16] + rows.tobytes() + old[16 + rows.nbytes :]

    def renamed(section: SectionType, name: str, lookup: Ints) -> Ints:
        column = image.tables[section].rows[name].astype(np.int64)
        if (column > HOST_RANK).any():
            raise FvcError("FVC303", f"section {section.name} is damaged: {name} beyond 16 bits")
        return lookup[column]

    patch(SectionType.RELOCATIONS, {"addend": np.where(is_rank | is_channel, values, relocations.addend)})
    core_columns = {f"{space}_base": bases[:, k] for k, space in enumerate(SPACES)}
    patch(SectionType.CORES, {"rank": renamed(SectionType.CORES, "rank", ranks), **core_columns})
    patch(
        SectionType.CHANNELS,
        {
            "id": renamed(SectionType.CHANNELS, "id", channels),
            "source_rank": renamed(SectionType.CHANNELS, "source_rank", ranks),
            "target_rank": renamed(SectionType.CHANNELS, "target_rank", ranks),
        },
    )
    patch(SectionType.HOST_IO, {"channel": renamed(SectionType.HOST_IO, "channel", channels)})
    return write_file(payloads, image.header.fingerprint)
