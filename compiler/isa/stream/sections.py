"""Needs a Fabric or an image of a file; converts to section payloads and back; guarantees an exact round trip.

Reading checks every count, index, CRC and word before it is used; what the netlist means is `check`'s matter.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.isa.records import StringTable, damaged, write_table
from compiler.isa.sections import SectionType
from compiler.isa.stream.program import Fabric, FabricBank, FabricDie, UnitRow
from compiler.isa.stream.words import decode, encode
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.isa.reader import Image

_DIE = tuple(f.name for f in fields(FabricDie))
_BANK = tuple(f.name for f in fields(FabricBank))
_ROW = tuple(f.name for f in fields(UnitRow))


def write_fabric(fabric: Fabric, strings: StringTable) -> dict[int, bytes]:
    """The fabric's sections. Raises FVC310 where a value does not fit its place."""

    def table(section: SectionType, records: list[Any], names: tuple[str, ...]) -> bytes:
        return write_table(section, {n: [getattr(r, n) for r in records] for n in names}, strings)

    symbols = list(fabric.symbols.items())
    out: dict[int, bytes] = {}
    if fabric.banks:
        out[SectionType.FABRIC_BANKS] = table(SectionType.FABRIC_BANKS, list(fabric.banks), _BANK)
    return out | {
        SectionType.FABRIC: write_table(SectionType.FABRIC, {"rank": [fabric.rank]}, strings),
        SectionType.FABRIC_DIES: table(SectionType.FABRIC_DIES, list(fabric.dies), _DIE),
        SectionType.NETLIST: encode(fabric.text).astype("<u8").tobytes(),
        SectionType.FABRIC_CONSTANTS: fabric.constants,
        SectionType.FABRIC_SYMBOLS: write_table(
            SectionType.FABRIC_SYMBOLS,
            {
                "name": [n for n, _ in symbols],
                "offset": [a for _, (a, _) in symbols],
                "bytes": [b for _, (_, b) in symbols],
            },
            strings,
        ),
        SectionType.FABRIC_UNITS: table(SectionType.FABRIC_UNITS, list(fabric.rows), _ROW),
        SectionType.FABRIC_FOLDING: json.dumps(
            fabric.folding, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode("utf-8"),
    }  # fmt: skip


def read_fabric(image: Image) -> Fabric | None:
    """The fabric of a file, or None. Raises FVC303, FVC306, FVC311."""
    if SectionType.FABRIC not in image.payloads:
        return None
    head = image.tables[SectionType.FABRIC].records()
    if len(head) != 1:
        raise damaged(SectionType.FABRIC, "not one row")
    raw = image.payloads[SectionType.NETLIST]
    if len(raw) % 32:
        raise damaged(SectionType.NETLIST, "not whole words")
    constants = bytes(image.payloads[SectionType.FABRIC_CONSTANTS])
    symbols: dict[str, tuple[int, int]] = {}
    for r in image.tables[SectionType.FABRIC_SYMBOLS].records():
        if r["name"] in symbols or r["offset"] + r["bytes"] > len(constants):
            raise damaged(SectionType.FABRIC_SYMBOLS, f"{r['name']!r} stands there twice or lies outside")
        symbols[r["name"]] = (r["offset"], r["bytes"])
    fabric = Fabric(
        rank=head[0]["rank"],
        dies=[FabricDie(**r) for r in image.tables[SectionType.FABRIC_DIES].records()],
        text=decode(np.frombuffer(raw, "<u8").reshape(-1, 4)),
        constants=constants,
        symbols=symbols,
        rows=[UnitRow(**r) for r in image.tables[SectionType.FABRIC_UNITS].records()],
        folding=_folding(image),
        banks=[FabricBank(**r) for r in _banks(image)],
    )
    _check_crc(fabric)
    return fabric


def _banks(image: Image) -> list[dict[str, Any]]:
    """Rows of FABRIC_BANKS, which stands there only where weights stand in DRAM."""
    if SectionType.FABRIC_BANKS not in image.payloads:
        return []
    rows = image.tables[SectionType.FABRIC_BANKS].records()
    if not rows:
        raise damaged(SectionType.FABRIC_BANKS, "no row")
    return rows


def _check_crc(fabric: Fabric) -> None:
    """FVC303, FVC306: every preload lies inside the constants and is what its CRC says."""
    for p in fabric.preloads():
        f = p.fields
        if f["offset"] + f["bytes"] > len(fabric.constants):
            raise damaged(SectionType.NETLIST, f"a preload of unit {f['unit']} lies outside the constants")
        if zlib.crc32(fabric.constants[f["offset"] : f["offset"] + f["bytes"]]) != f["crc"]:
            where = (f"preload of unit {f['unit']}, slot {f['slot']}",)
            raise FvcError("FVC306", "a golden CRC does not match what the file holds", where=where)


def _folding(image: Image) -> list[dict[str, object]]:
    raw = bytes(image.payloads.get(SectionType.FABRIC_FOLDING, b"[]"))
    try:
        rows = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise damaged(SectionType.FABRIC_FOLDING, "not canonical JSON") from None
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise damaged(SectionType.FABRIC_FOLDING, "not a list of objects")
    return rows
