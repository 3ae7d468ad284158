"""Needs a DeviceProgram or the bytes of a `.fvcb` file; converts; guarantees an exact, deterministic round trip.

What each section holds is declared in sections.py and specified for other readers in docs/container.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np

from compiler.isa.encoding import columns_of, pack
from compiler.isa.file import write_file
from compiler.isa.fingerprint import fingerprint
from compiler.isa.golden import METADATA_SECTIONS, core_rows, metadata_rows, placeless, text_rows
from compiler.isa.program import CoreProgram, DeviceProgram, EngineSpec, Instruction
from compiler.isa.reader import read_device
from compiler.isa.records import StringTable, write_table
from compiler.isa.relocate import Relocations, find_relocations
from compiler.isa.sections import SectionType
from compiler.isa.stream.sections import write_fabric
from compiler.isa.table import Queue
from device_db.errors import FvcError

__all__ = ["read_device", "write_device"]

_CONST_ALIGNMENT = 64


def _json(section: SectionType, value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise FvcError("FVC310", f"{section.name} cannot be written as JSON: {error}", exit_code=70) from None
    return text.encode("utf-8")


def _by_core(cores: Sequence[CoreProgram], attribute: str) -> tuple[list[int], list[Any]]:
    """The core row of each record of a per-core list, and the records."""
    rows, records = [], []
    for k, core in enumerate(cores):
        for record in getattr(core, attribute):
            rows.append(k)
            records.append(record)
    return rows, records


def _attributes(records: Sequence[Any], names: Sequence[str]) -> dict[str, list[Any]]:
    return {name: [getattr(r, name) for r in records] for name in names}


def _core_sections(program: DeviceProgram, strings: StringTable) -> dict[int, bytes]:
    """HARDWARE, CORES, CONSTANTS and the per-core tables."""
    cores = program.cores
    offsets, constants = [], bytearray()
    for core in cores:
        constants += bytes(-len(constants) % _CONST_ALIGNMENT)
        offsets.append(len(constants))
        constants += core.constants
    bases = {f"{name}_base": [0] * len(cores) for name in ("const", "work", "act", "wgt", "acc", "tab")}
    core_table: dict[str, Sequence[Any]] = {
        "rank": [c.rank for c in cores],
        "marking": [[tokens for row in c.marking for tokens in row] for c in cores],
        "constants_offset": offsets,
        "constants_bytes": [len(c.constants) for c in cores],
        "work_bytes": [c.work_bytes for c in cores],
        **bases,
    }
    for core in cores:
        if len(core.marking) != len(Queue) or any(len(row) != len(Queue) for row in core.marking):
            raise FvcError("FVC310", f"core {core.rank}: the marking is not 6 x 6", exit_code=70)
    place_rows, places = _by_core(cores, "memory_map")
    packet_rows, packets = _by_core(cores, "packets")
    debug_rows, debug = _by_core(cores, "debug")
    symbols = [(k, name, at, size) for k, c in enumerate(cores) for name, (at, size) in c.symbols.items()]
    engine_names = [f.name for f in fields(EngineSpec)]

    def table(section: SectionType, values: dict[str, Sequence[Any]]) -> bytes:
        return write_table(section, values, strings)

    return {
        SectionType.HARDWARE: table(SectionType.HARDWARE, {**_attributes([c.engine for c in cores], engine_names)}),
        SectionType.CORES: table(SectionType.CORES, core_table),
        SectionType.CONSTANTS: bytes(constants),
        SectionType.SYMBOLS: table(
            SectionType.SYMBOLS,
            {name: [s[i] for s in symbols] for i, name in enumerate(("core", "name", "offset", "bytes"))},
        ),
        SectionType.MEMORY_MAP: table(
            SectionType.MEMORY_MAP,
            {"core": place_rows, **_attributes(places, ("tensor", "dtype", "box", "address", "bytes", "depth"))},
        ),
        SectionType.PACKETS: table(
            SectionType.PACKETS, {"core": packet_rows, **_attributes(packets, ("id", "task", "tile"))}
        ),
        SectionType.DEBUG: table(
            SectionType.DEBUG, {"core": debug_rows, **_attributes(debug, ("node", "task", "tensor", "box", "role"))}
        ),
        SectionType.FOLDING: _json(SectionType.FOLDING, [c.folding for c in cores]),
    }


def _text_sections(
    program: DeviceProgram, strings: StringTable, metadata: Mapping[SectionType, bytes]
) -> dict[int, bytes]:
    """TEXT, QUEUES, RELOCATIONS, GOLDEN; `metadata`: the METADATA_SECTIONS as written."""
    stream: list[Instruction] = []
    runs: list[tuple[int, int, int]] = []  # core, queue, instructions
    for k, core in enumerate(program.cores):
        for queue in sorted(core.queues):
            body = core.queues[queue]
            wrong = next((i for i in body if i.queue != queue), None)
            if wrong is not None:
                raise FvcError("FVC310", f"{wrong.op} of queue {wrong.queue.name} stands in {queue.name}", exit_code=70)
            stream += body
            runs.append((k, int(queue), len(body)))
    columns = columns_of(stream)
    text = pack(columns)
    counts = np.array([r[2] for r in runs], np.int64)
    core_of = np.repeat(np.array([r[0] for r in runs], np.int64), counts)
    ends = np.concatenate([[0], np.cumsum(columns.head["words"])])
    edges = ends[np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)]
    relocations = find_relocations(columns, core_of)
    rows = [row for k, c in enumerate(program.cores) for row in core_rows(k, c)]
    rows += text_rows(columns, placeless(text, relocations), core_of, [c.packets for c in program.cores])
    rows += metadata_rows(metadata)
    return {
        SectionType.TEXT: text.astype("<u8").tobytes(),
        SectionType.QUEUES: write_table(
            SectionType.QUEUES,
            {
                "core": [r[0] for r in runs],
                "queue": [r[1] for r in runs],
                "first_word": edges[:-1].tolist(),
                "words": np.diff(edges).tolist(),
                "instructions": counts.tolist(),
            },
            strings,
        ),
        SectionType.RELOCATIONS: write_table(SectionType.RELOCATIONS, relocation_columns(relocations), strings),
        SectionType.GOLDEN: write_table(
            SectionType.GOLDEN,
            {name: [r[i] for r in rows] for i, name in enumerate(("core", "kind", "name", "crc"))},
            strings,
        ),
    }


def relocation_columns(relocations: Relocations) -> dict[str, Sequence[Any]]:
    """The relocation arrays under their column names."""
    names = ("type", "lane", "shift", "bits", "core", "addend")
    return {name: cast(Sequence[Any], getattr(relocations, name)) for name in names}


def _device_sections(program: DeviceProgram, strings: StringTable) -> dict[int, bytes]:
    """DEVICE, channels, links, host messages, outputs, aliases, note."""
    channel_names = ("id", "source_rank", "target_rank", "capacity", "max_bytes", "transport")
    host_names = (
        *("channel", "tag", "tensor", "dtype", "shape", "offsets", "counts", "strides", "elem", "to_core", "stage"),
        "replica",
    )
    channels: dict[str, Sequence[Any]] = {**_attributes(program.channels, channel_names)}
    channels["links"] = [[strings(name) for name in c.links] for c in program.channels]
    tables: dict[SectionType, dict[str, Sequence[Any]]] = {
        SectionType.DEVICE: {"name": [program.name], "replicas": [program.replicas], "stages": [program.stages]},
        SectionType.CHANNELS: channels,
        SectionType.LINKS: {**_attributes(program.links, ("id", "bits_per_second", "latency_ns"))},
        SectionType.HOST_IO: {**_attributes(program.host, host_names)},
        SectionType.OUTPUTS: {"name": list(program.outputs), "root": list(program.outputs.values())},
        SectionType.ALIASES: {
            "alias": list(program.aliases),
            "root": [root for root, _ in program.aliases.values()],
            "shape": [shape for _, shape in program.aliases.values()],
        },
    }
    sections: dict[int, bytes] = {int(s): write_table(s, values, strings) for s, values in tables.items()}
    sections[SectionType.NOTE] = _json(SectionType.NOTE, program.note)
    return sections


def write_device(program: DeviceProgram) -> bytes:
    """The `.fvcb` bytes of one device's program; the same program gives the same bytes.

    `folding` and `note` must hold JSON values (lists, not tuples, for an exact round trip).
    Raises FvcError FVC310 where a value does not fit its place.
    """
    strings = StringTable()
    sections = _device_sections(program, strings)
    sections |= _core_sections(program, strings)
    if program.fabric is not None:
        sections |= write_fabric(program.fabric, strings)
    sections |= _text_sections(program, strings, {s: sections[s] for s in METADATA_SECTIONS if s in sections})
    sections[SectionType.STRINGS] = strings.to_bytes()
    return write_file(
        sections, fingerprint([c.engine for c in program.cores], program.fabric.dies if program.fabric else ())
    )
