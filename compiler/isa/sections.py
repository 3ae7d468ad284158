"""Needs nothing; names the sections of a container and the columns of its tables (in words: docs/container.md).

A *table* section is: u32 rows, u32 row_bytes, u64 pool_items; the rows; zero bytes up to a multiple of 8; the pool
(int64 each). Cells: u32, u64, i64, `str` (u32 index into STRINGS), `list` (u32 first, u32 count into the pool; the
lists of a table follow one another in the pool, row by row and column by column, without gap).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MAGIC = b"FVCB\r\n\x1a\n"
CONTAINER_MAJOR, CONTAINER_MINOR = 1, 1
ISA_VERSION = 1
HEADER_BYTES = 128
ENTRY_BYTES = 64
CRITICAL = 1  # bit 0 of a section's flags
MAX_SECTIONS = 64


class SectionType(IntEnum):
    STRINGS = 1
    DEVICE = 2
    HARDWARE = 3
    CORES = 4
    QUEUES = 5
    TEXT = 6
    CONSTANTS = 7
    RELOCATIONS = 8
    SYMBOLS = 9
    MEMORY_MAP = 10
    PACKETS = 11
    HOST_IO = 12
    OUTPUTS = 13
    ALIASES = 14
    CHANNELS = 15
    LINKS = 16
    GOLDEN = 17
    DEBUG = 18
    FOLDING = 19
    NOTE = 20
    FABRIC = 21
    FABRIC_DIES = 22
    NETLIST = 23
    FABRIC_CONSTANTS = 24
    FABRIC_SYMBOLS = 25
    FABRIC_UNITS = 26
    FABRIC_FOLDING = 27
    FABRIC_BANKS = 28


OPTIONAL = frozenset({SectionType.FOLDING, SectionType.NOTE, SectionType.DEBUG, SectionType.FABRIC_FOLDING})
# Critical where they stand, and they stand together or not at all: a device without streaming engines has none.
FABRIC_SECTIONS = frozenset(
    {
        SectionType.FABRIC,
        SectionType.FABRIC_DIES,
        SectionType.NETLIST,
        SectionType.FABRIC_CONSTANTS,
        SectionType.FABRIC_SYMBOLS,
        SectionType.FABRIC_UNITS,
    }
)
# Critical too, and only where streaming engines read weights from DRAM.
WHERE_NEEDED = frozenset({SectionType.FABRIC_BANKS})


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: str  # "u32" | "u64" | "i64" | "str" | "list"
    doc: str = ""


def _columns(*specs: str) -> tuple[Column, ...]:
    """Each spec is "name kind | doc"."""
    result = []
    for spec in specs:
        left, _, doc = spec.partition("|")
        name, kind = left.split()
        result.append(Column(name, kind, doc.strip()))
    return tuple(result)


TABLES: dict[SectionType, tuple[Column, ...]] = {
    SectionType.DEVICE: _columns(
        "name str | device name; the table has one row",
        "replicas u32",
        "stages u32 | deepest stage of the whole cluster",
    ),
    SectionType.HARDWARE: _columns(
        "id str | EngineSpec, one row a core, in the order of CORES",
        "die str",
        "tm i64",
        "tn i64",
        "act_bytes i64",
        "wgt_bytes i64",
        "acc_bytes i64",
        "tab_bytes i64",
        "vector_lanes i64",
        "ld_bytes_per_cycle i64",
        "st_bytes_per_cycle i64",
        "clock_khz i64",
        "bank str",
        "bank_bytes_per_second i64",
        "dram_bytes i64",
    ),
    SectionType.CORES: _columns(
        "rank u32",
        "marking list | 36 tokens, [from queue][to queue]",
        "constants_offset u64 | into CONSTANTS, a multiple of 64",
        "constants_bytes u64",
        "work_bytes u64 | size of WORK",
        "const_base u64 | what the linker added to addresses in CONST",
        "work_base u64 | … in WORK",
        "act_base u64 | … in ACT",
        "wgt_base u64 | … in WGT",
        "acc_base u64 | … in ACC",
        "tab_base u64 | … in TAB",
    ),
    SectionType.QUEUES: _columns(
        "core u32 | row of CORES",
        "queue u32 | 0 LD, 1 CX, 2 ST, 3 TX, 4 RX, 5 CTL",
        "first_word u32 | into TEXT",
        "words u32",
        "instructions u32",
    ),
    SectionType.RELOCATIONS: _columns(
        "type u32 | 0 const, 1 work, 2 act, 3 wgt, 4 acc, 5 tab, 6 rank, 7 channel",
        "lane u32 | 64-bit lane of TEXT that holds the field",
        "shift u32 | the field's lowest bit in the lane",
        "bits u32 | the field's width",
        "core u32 | row of CORES whose base counts",
        "addend i64 | section-relative address, or the rank or channel as compiled",
    ),
    SectionType.SYMBOLS: _columns("core u32", "name str", "offset u64 | into the core's CONST", "bytes u64"),
    SectionType.MEMORY_MAP: _columns(
        "core u32",
        "tensor str",
        "dtype str",
        "box list | 8 half-open storage4 bounds",
        "address u64 | in WORK, slot 0",
        "bytes u64 | of one slot",
        "depth u32 | frame slots",
    ),
    SectionType.PACKETS: _columns("core u32", "id u32", "task str", "tile u32"),
    SectionType.HOST_IO: _columns(
        "channel u32",
        "tag u32",
        "tensor str",
        "dtype str",
        "shape list",
        "offsets list",
        "counts list | n2, n1, n0",
        "strides list | bytes",
        "elem u32",
        "to_core u32 | 1 host to core, 0 core to host",
        "stage u32",
        "replica u32",
    ),
    SectionType.OUTPUTS: _columns("name str | graph output", "root str | tensor that holds its bytes"),
    SectionType.ALIASES: _columns("alias str", "root str", "shape list"),
    SectionType.CHANNELS: _columns(
        "id u32",
        "source_rank u32",
        "target_rank u32",
        "capacity u32 | messages",
        "max_bytes u64",
        "transport str",
        "links list | STRINGS indices of link ids",
    ),
    SectionType.LINKS: _columns("id str", "bits_per_second u64", "latency_ns u64"),
    SectionType.GOLDEN: _columns(
        "core u32",
        "kind u32 | 0 symbol's constants, 1 task's text, 2 the core's whole CONST, 3 its marking, 4 a section",
        "name str | symbol, task, section or empty",
        "crc u32 | CRC-32 (IEEE)",
    ),
    SectionType.FABRIC: _columns("rank u32 | of the netlist; the table has one row"),
    SectionType.FABRIC_DIES: _columns(
        "name str",
        "clock_khz u64",
        "lut u64 | what streaming engines may use of the die",
        "ff u64",
        "bram18 u64",
        "uram u64",
        "dsp u64",
        "wires u64 | SLL wires a direction to the die of the next row",
        "family str",
    ),
    SectionType.FABRIC_BANKS: _columns(
        "name str | one row a memory bank; the section is there where weights stand in DRAM",
        "die u64 | row of FABRIC_DIES that has its port",
        "bytes_per_second u64 | what long bursts reach",
        "capacity_bytes u64",
        "port_bits u64",
    ),
    SectionType.FABRIC_SYMBOLS: _columns("name str", "offset u64 | into FABRIC_CONSTANTS", "bytes u64"),
    SectionType.FABRIC_UNITS: _columns(
        "engine str | one row a unit, by number",
        "node str",
        "role str",
        "tensor str",
        "dtype str",
        "shape list",
        "task str | the slice of the layer",
        "box list | of a piece: its part of the tensor, storage4 bounds",
        "axes list | of a piece: storage axes of the stream's n, c, h, w",
    ),
    SectionType.DEBUG: _columns("core u32", "node str", "task str", "tensor str", "box list", "role str"),
}

RELOCATION_TYPES = ("const", "work", "act", "wgt", "acc", "tab", "rank", "channel")
ALIGNMENT: dict[SectionType, int] = {
    SectionType.TEXT: 32,
    SectionType.CONSTANTS: 64,
    SectionType.NETLIST: 32,
    SectionType.FABRIC_CONSTANTS: 64,
}


def alignment_of(section: int) -> int:
    """Alignment in bytes of a section's first byte in the file."""
    return ALIGNMENT.get(SectionType(section), 8)
