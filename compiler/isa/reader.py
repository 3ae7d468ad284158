"""Needs the bytes of a `.fvcb` file; gives the DeviceProgram; guarantees FvcError FVC3xx on anything malformed.

Every hash is checked before use, every offset, size, count and index before it is followed, relocations and golden
CRCs are recomputed and compared. Linked files are given back section-relative, as they were compiled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from compiler.isa.encoding import Columns, Ints, Words, instructions_of, unpack
from compiler.isa.file import Header, read_file
from compiler.isa.fingerprint import fingerprint
from compiler.isa.golden import METADATA, core_rows, metadata_rows, placeless, text_rows
from compiler.isa.program import (
    Channel,
    CoreProgram,
    DebugRow,
    DeviceProgram,
    EngineSpec,
    HostMessage,
    Instruction,
    LinkSpec,
    Packet,
    Placement,
)
from compiler.isa.records import Table, damaged, read_strings
from compiler.isa.relocate import Relocations, bases_of, find_relocations, scatter
from compiler.isa.sections import TABLES, SectionType
from compiler.isa.stream.program import FabricDie
from compiler.isa.stream.sections import read_fabric
from compiler.isa.table import Queue
from device_db.errors import FvcError

_EMPTY_JSON = {SectionType.FOLDING: b"[]", SectionType.NOTE: b"{}"}
SPACES = ("const", "work", "act", "wgt", "acc", "tab")


@dataclass(slots=True)
class Image:
    """A file taken apart, hashes and bounds checked: what the linker patches and the inspector prints."""

    header: Header
    strings: list[str]
    tables: dict[SectionType, Table]
    payloads: dict[SectionType, memoryview]
    text: Words  # (N, 4), as it stands in the file


def read_image(data: bytes) -> Image:
    """Header, strings, tables and text of a file. Raises FvcError FVC300 to FVC304."""
    header, payloads = read_file(data)
    strings = read_strings(payloads[SectionType.STRINGS])
    tables = {s: Table(s, payloads[s], strings) for s in TABLES if s in payloads}
    raw = payloads[SectionType.TEXT]
    if len(raw) % 32:
        raise damaged(SectionType.TEXT, "not whole words")
    return Image(header, strings, tables, payloads, np.frombuffer(raw, "<u8").reshape(-1, 4))


def relocations_of(image: Image) -> Relocations:
    """The relocation table as arrays; addends only, bounds not yet checked."""
    rows = image.tables[SectionType.RELOCATIONS].rows
    return Relocations(*(rows[n].astype(np.int64) for n in ("type", "lane", "shift", "bits", "core", "addend")))


def core_bases(image: Image) -> Ints:
    """(cores, 6): what the linker added to the addresses of each space of each core."""
    rows = image.tables[SectionType.CORES].rows
    return np.stack([rows[f"{s}_base"].astype(np.int64) for s in SPACES], axis=1)


def _load_json(image: Image, section: SectionType) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        raw = bytes(image.payloads.get(section, _EMPTY_JSON[section]))
        return json.loads(raw.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError):
        raise damaged(section, "not canonical JSON") from None


def _queue_runs(image: Image, cores: int) -> list[tuple[int, Queue, int, int, int]]:
    """(core, queue, first word, words, instructions), checked to cover TEXT in order, each pair once."""
    table = image.tables[SectionType.QUEUES]
    columns = [table[n] for n in ("core", "queue", "first_word", "words", "instructions")]
    runs = list(zip(*columns, strict=True))
    at, last = 0, (-1, -1)
    for core, queue, first, words, instructions in runs:
        if core >= cores or queue >= len(Queue) or (core, queue) <= last:
            raise damaged(SectionType.QUEUES, "cores or queues out of order")
        if first != at or instructions > words:
            raise damaged(SectionType.QUEUES, "the runs do not follow one another")
        at, last = first + words, (core, queue)
    if at != len(image.text):
        raise damaged(SectionType.QUEUES, "the runs do not cover TEXT")
    return [(c, Queue(q), f, w, n) for c, q, f, w, n in runs]


@dataclass(slots=True)
class Text:
    """Section-relative text: its columns, the core of each instruction and the instructions of each queue."""

    columns: Columns
    words: Words
    core_of: Ints
    relocations: Relocations
    queues: list[dict[Queue, list[Instruction]]]


def read_text(image: Image) -> Text:
    """TEXT without its bases, checked against QUEUES and RELOCATIONS. Raises FvcError FVC303, FVC311."""
    cores = len(image.tables[SectionType.CORES])
    runs = _queue_runs(image, cores)
    stored = relocations_of(image)
    words = image.text.astype(np.uint64)
    bases = core_bases(image)
    if bases.any():
        lanes, width = words.size, stored.shift + stored.bits
        if ((stored.lane >= lanes) | (width > 64) | (stored.bits < 1) | (stored.core >= cores)).any():
            raise damaged(SectionType.RELOCATIONS, "an entry points outside the text")
        values = stored.addend + bases_of(stored, bases)
        if ((stored.addend < 0) | (values >> np.minimum(stored.bits, 62) != 0)).any():
            raise damaged(SectionType.RELOCATIONS, "an addend does not fit its field")
        linked = words.copy()
        scatter(linked, stored, values)
        if not np.array_equal(linked, words):
            raise damaged(SectionType.RELOCATIONS, "text is not addend + base")
        scatter(words, stored, stored.addend)
    columns = unpack(words) if len(words) else _no_text()
    counts = np.array([r[4] for r in runs], np.int64)
    edges = np.concatenate([[0], np.cumsum(counts)])
    ends = np.concatenate([columns.start, [len(words)]])
    if int(edges[-1]) != columns.count or [int(ends[e]) for e in edges[:-1]] != [r[2] for r in runs]:
        raise damaged(SectionType.QUEUES, "instruction counts do not match the text")
    if (np.repeat(np.array([int(r[1]) for r in runs], np.int64), counts) != columns.head["queue"]).any():
        raise FvcError("FVC311", "an instruction names another queue than the one it stands in")
    core_of = np.repeat(np.array([r[0] for r in runs], np.int64), counts)
    found = find_relocations(columns, core_of)
    names = ("type", "lane", "shift", "bits", "core", "addend")
    if any(not np.array_equal(getattr(found, n), getattr(stored, n)) for n in names):
        raise damaged(SectionType.RELOCATIONS, "they do not match the text")
    stream = instructions_of(columns)
    queues: list[dict[Queue, list[Instruction]]] = [{} for _ in range(cores)]
    for k, (core, queue, *_) in enumerate(runs):
        queues[core][queue] = stream[int(edges[k]) : int(edges[k + 1])]
    return Text(columns, words, core_of, found, queues)


def _no_text() -> Columns:
    empty = np.zeros(0, np.int64)
    names = ("opcode", "queue", "words", "flags", "wait", "post", "stage", "packet", "debug")
    return Columns(0, dict.fromkeys(names, empty), {}, empty)


def _grouped(table: Table, cores: int) -> list[list[dict[str, Any]]]:
    """Records by core; the core column must not descend."""
    result: list[list[dict[str, Any]]] = [[] for _ in range(cores)]
    column = table.rows["core"].astype(np.int64)
    if len(column) and (int(column.max()) >= cores or (np.diff(column) < 0).any()):
        raise damaged(table.section, "cores out of order")
    for record in table.records():
        result[record.pop("core")].append(record)
    return result


def _symbols(records: Sequence[dict[str, Any]], size: int) -> dict[str, tuple[int, int]]:
    symbols: dict[str, tuple[int, int]] = {}
    for r in records:
        if r["name"] in symbols or r["offset"] + r["bytes"] > size:
            raise damaged(SectionType.SYMBOLS, f"{r['name']!r} stands there twice or lies outside CONST")
        symbols[r["name"]] = (r["offset"], r["bytes"])
    return symbols


def _cores(image: Image, text: Text, dies: Sequence[FabricDie]) -> list[CoreProgram]:
    rows = image.tables[SectionType.CORES].records()
    engines = [EngineSpec(**r) for r in image.tables[SectionType.HARDWARE].records()]
    if len(engines) != len(rows):
        raise damaged(SectionType.HARDWARE, "not one engine a core")
    if fingerprint(engines, dies) != image.header.fingerprint:
        raise FvcError("FVC305", "the fingerprint in the header is not that of the hardware description")
    per_core: dict[SectionType, list[list[dict[str, Any]]]] = {}
    for section in (SectionType.SYMBOLS, SectionType.MEMORY_MAP, SectionType.PACKETS, SectionType.DEBUG):
        table = image.tables.get(section)
        per_core[section] = _grouped(table, len(rows)) if table else [[] for _ in rows]
    folding = _load_json(image, SectionType.FOLDING)
    if SectionType.FOLDING not in image.payloads:
        folding = [[] for _ in rows]
    if not isinstance(folding, list) or len(folding) != len(rows):
        raise damaged(SectionType.FOLDING, "not one list a core")
    if not all(isinstance(x, list) and all(isinstance(y, dict) for y in x) for x in folding):
        raise damaged(SectionType.FOLDING, "not lists of objects")
    pool = image.payloads[SectionType.CONSTANTS]
    cores, at = [], 0
    for k, row in enumerate(rows):
        if len(row["marking"]) != 36:
            raise damaged(SectionType.CORES, "the marking is not 6 x 6")
        start, size = row["constants_offset"], row["constants_bytes"]
        if start != at + -at % 64 or size > len(pool) - start or any(pool[at:start]):
            raise damaged(SectionType.CORES, "constants do not follow one another")
        at = start + size
        marking = tuple(tuple(row["marking"][6 * q : 6 * q + 6]) for q in range(6))
        cores.append(
            CoreProgram(
                rank=row["rank"],
                engine=engines[k],
                queues=text.queues[k],
                marking=marking,
                constants=bytes(pool[start:at]),
                work_bytes=row["work_bytes"],
                packets=[Packet(**r) for r in per_core[SectionType.PACKETS][k]],
                debug=[DebugRow(**r) for r in per_core[SectionType.DEBUG][k]],
                memory_map=[Placement(**r) for r in per_core[SectionType.MEMORY_MAP][k]],
                symbols=_symbols(per_core[SectionType.SYMBOLS][k], size),
                folding=folding[k],
            )
        )
    if at != len(pool):
        raise damaged(SectionType.CONSTANTS, "bytes that belong to no core")
    return cores


def _channels(image: Image) -> list[Channel]:
    channels = []
    for r in image.tables[SectionType.CHANNELS].records():
        if any(not 0 <= index < len(image.strings) for index in r["links"]):
            raise damaged(SectionType.CHANNELS, "a link names a string that is not there")
        channels.append(Channel(**{**r, "links": tuple(image.strings[index] for index in r["links"])}))
    return channels


def _host(image: Image) -> list[HostMessage]:
    messages = []
    for r in image.tables[SectionType.HOST_IO].records():
        if len(r["counts"]) != 3 or len(r["strides"]) != 3 or r["to_core"] > 1:
            raise damaged(SectionType.HOST_IO, "counts, strides or direction")
        messages.append(HostMessage(**{**r, "to_core": bool(r["to_core"])}))
    return messages


def _check_golden(image: Image, cores: Sequence[CoreProgram], text: Text) -> None:
    rows = [row for k, c in enumerate(cores) for row in core_rows(k, c)]
    if text.columns.count:
        body = placeless(text.words, text.relocations)
        rows += text_rows(text.columns, body, text.core_of, [c.packets for c in cores])
    rows += metadata_rows(image.payloads)
    table = image.tables[SectionType.GOLDEN]
    stored = list(zip(table["core"], table["kind"], table["name"], table["crc"], strict=True))
    # A file whose optional sections were taken out keeps their rows.
    here = {s.name for s in SectionType if s in image.payloads}
    stored = [r for r in stored if r[1] != METADATA or r[2] in here or r[2] not in SectionType.__members__]
    if stored == rows:
        return
    first = next((w for w, s in zip(rows, stored, strict=False) if w != s), None)
    names = ("symbol", "task", "constants", "marking", "section")
    where = f"core {first[0]}: {names[first[1]]} {first[2]}".rstrip() if first else "another number of entries"
    raise FvcError("FVC306", "a golden CRC does not match what the file holds", where=(where,))


def read_device(data: bytes) -> DeviceProgram:
    """The program in a `.fvcb` file, section-relative, every instruction field present.

    Raises FvcError FVC300 to FVC306 and FVC311 on anything that `write_device` or `link` would not write.
    """
    image = read_image(data)
    device = image.tables[SectionType.DEVICE]
    if len(device) != 1:
        raise damaged(SectionType.DEVICE, "not one row")
    text = read_text(image)
    fabric = read_fabric(image)
    cores = _cores(image, text, () if fabric is None else fabric.dies)
    note = _load_json(image, SectionType.NOTE)
    if not isinstance(note, dict):
        raise damaged(SectionType.NOTE, "not an object")
    _check_golden(image, cores, text)
    outputs, aliases = image.tables[SectionType.OUTPUTS], image.tables[SectionType.ALIASES]
    if len(set(outputs["name"])) != len(outputs) or len(set(aliases["alias"])) != len(aliases):
        raise damaged(SectionType.OUTPUTS, "a name stands there twice")
    return DeviceProgram(
        name=device["name"][0],
        cores=cores,
        channels=_channels(image),
        links=[LinkSpec(**r) for r in image.tables[SectionType.LINKS].records()],
        host=_host(image),
        outputs=dict(zip(outputs["name"], outputs["root"], strict=True)),
        aliases={a: (r, s) for a, r, s in zip(aliases["alias"], aliases["root"], aliases["shape"], strict=True)},
        replicas=device["replicas"][0],
        stages=device["stages"][0],
        note=note,
        fabric=fabric,
    )


assert {f.name for f in fields(EngineSpec)} == {c.name for c in TABLES[SectionType.HARDWARE]}
