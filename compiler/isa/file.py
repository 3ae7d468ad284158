"""Needs section payloads; lays them out as a `.fvcb` file and back; accounts for every byte.

Header (128 bytes), section entries (64 bytes each), sections in the order of their type, each at its alignment with
zero bytes between. Integers little-endian. The header's SHA-256 covers header and entries, each entry's its section.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.isa.sections import (
    CONTAINER_MAJOR,
    CONTAINER_MINOR,
    CRITICAL,
    ENTRY_BYTES,
    FABRIC_SECTIONS,
    HEADER_BYTES,
    ISA_VERSION,
    MAGIC,
    MAX_SECTIONS,
    OPTIONAL,
    WHERE_NEEDED,
    SectionType,
    alignment_of,
)
from device_db.errors import FvcError

# magic, major, minor, isa, sections, zero, file bytes, fingerprint, header SHA-256, zero bytes
_HEADER = struct.Struct("<8sHHIIIQ32s32s32s")
_ENTRY = struct.Struct("<IIIIQQ32s")
_SHA_AT = 64
_KNOWN = frozenset(int(s) for s in SectionType)


@dataclass(frozen=True, slots=True)
class SectionEntry:
    """One row of the section table. `type` may be a number this version does not know."""

    type: int
    flags: int
    alignment: int
    offset: int
    size: int
    sha256: bytes

    @property
    def name(self) -> str:
        return SectionType(self.type).name if self.type in _KNOWN else f"unknown-{self.type}"

    @property
    def critical(self) -> bool:
        return bool(self.flags & CRITICAL)


@dataclass(frozen=True, slots=True)
class Header:
    major: int
    minor: int
    isa_version: int
    file_bytes: int
    fingerprint: bytes
    sections: tuple[SectionEntry, ...]


def _align(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment


def write_file(sections: Mapping[int, bytes], fingerprint: bytes, *, extra: Mapping[int, int] | None = None) -> bytes:
    """A file from section payloads by type. `extra`: flags of section types that this version does not know."""
    entries: list[bytes] = []
    chunks: list[bytes] = []
    at = HEADER_BYTES + ENTRY_BYTES * len(sections)
    for number in sorted(sections):
        payload = sections[number]
        known = number in _KNOWN
        alignment = alignment_of(number) if known else 8
        flags = (0 if SectionType(number) in OPTIONAL else CRITICAL) if known else (extra or {}).get(number, 0)
        offset = _align(at, alignment)
        chunks += [bytes(offset - at), payload]
        entries.append(_ENTRY.pack(number, flags, alignment, 0, offset, len(payload), hashlib.sha256(payload).digest()))
        at = offset + len(payload)
    return b"".join([_sign(entries, at, fingerprint), *entries, *chunks])


def _sign(entries: list[bytes], file_bytes: int, fingerprint: bytes) -> bytes:
    head = _HEADER.pack(
        MAGIC,
        CONTAINER_MAJOR,
        CONTAINER_MINOR,
        ISA_VERSION,
        len(entries),
        0,
        file_bytes,
        fingerprint,
        bytes(32),
        bytes(32),
    )
    digest = hashlib.sha256(head + b"".join(entries)).digest()
    return head[:_SHA_AT] + digest + head[_SHA_AT + 32 :]


def read_header(data: bytes) -> Header:
    """The header and section table, checked against the file's length and the header's own hash.

    Raises FvcError FVC300 (no container, truncated), FVC301 (version), FVC302 (hash), FVC303 (bounds).
    """
    if len(data) < HEADER_BYTES or data[:8] != MAGIC:
        raise FvcError("FVC300", "this is not an .fvcb file" if data[:4] != MAGIC[:4] else "the file is cut off")
    _, major, minor, isa, count, zero, size, fingerprint, digest, rest = _HEADER.unpack_from(data)
    if major != CONTAINER_MAJOR or isa != ISA_VERSION:
        raise FvcError(
            "FVC301",
            f"container version {major}.{minor} with instruction set {isa}; "
            f"this reader knows {CONTAINER_MAJOR}.x with instruction set {ISA_VERSION}",
        )
    if size != len(data):
        raise FvcError("FVC300", f"the file has {len(data)} bytes, its header says {size}")
    if count > MAX_SECTIONS or HEADER_BYTES + ENTRY_BYTES * count > size:
        raise FvcError("FVC303", f"{count} sections do not fit the file")
    end = HEADER_BYTES + ENTRY_BYTES * count
    signed = data[:_SHA_AT] + bytes(32) + data[_SHA_AT + 32 : end]
    if hashlib.sha256(signed).digest() != digest:
        raise FvcError("FVC302", "the header's SHA-256 does not match: the file is damaged")
    if zero or any(rest):
        raise FvcError("FVC303", "reserved bytes of the header are not zero")
    entries = []
    for k in range(count):
        number, flags, alignment, reserved, offset, length, sha = _ENTRY.unpack_from(
            data, HEADER_BYTES + ENTRY_BYTES * k
        )
        if reserved or flags & ~CRITICAL:
            raise FvcError("FVC303", f"reserved bits of section entry {k} are not zero")
        entries.append(SectionEntry(number, flags, alignment, offset, length, sha))
    _check_layout(data, entries, end)
    return Header(major, minor, isa, size, fingerprint, tuple(entries))


def _check_layout(data: bytes, entries: list[SectionEntry], at: int) -> None:
    previous = 0
    for entry in entries:
        if entry.type <= previous:
            raise FvcError("FVC303", f"section {entry.name} is out of order or stands there twice")
        previous = entry.type
        if entry.alignment not in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096):
            raise FvcError("FVC303", f"section {entry.name}: alignment {entry.alignment}")
        if entry.offset != _align(at, entry.alignment) or entry.size > len(data) - entry.offset:
            raise FvcError("FVC303", f"section {entry.name} lies outside its place in the file")
        if any(data[at : entry.offset]):
            raise FvcError("FVC303", f"bytes before section {entry.name} are not zero")
        at = entry.offset + entry.size
    if at != len(data):
        raise FvcError("FVC303", "bytes after the last section")


def read_file(data: bytes) -> tuple[Header, dict[SectionType, memoryview]]:
    """Header and every known section, hashes checked. Unknown optional sections are skipped.

    Raises FvcError as `read_header`; FVC304 on an unknown critical section or a missing one.
    """
    header = read_header(data)
    view = memoryview(data)
    found: dict[SectionType, memoryview] = {}
    for entry in header.sections:
        payload = view[entry.offset : entry.offset + entry.size]
        if hashlib.sha256(payload).digest() != entry.sha256:
            raise FvcError("FVC302", f"section {entry.name}: its SHA-256 does not match, the file is damaged")
        if entry.type not in _KNOWN:
            if entry.critical:
                raise FvcError(
                    "FVC304",
                    f"section type {entry.type} is critical and this version does not know it",
                    help=("read the file with a newer fvc",),
                )
            continue
        section = SectionType(entry.type)
        if entry.critical != (section not in OPTIONAL) or entry.alignment != alignment_of(section):
            raise FvcError("FVC303", f"section {section.name}: wrong flags or alignment")
        found[section] = payload
    absent = FABRIC_SECTIONS if SectionType.FABRIC not in found and SectionType.NETLIST not in found else frozenset()
    absent |= WHERE_NEEDED
    for section in SectionType:
        if section not in found and section not in OPTIONAL and section not in absent:
            raise FvcError("FVC304", f"section {section.name} is missing")
    return header, found


def repair_hashes(data: bytes) -> bytes:
    """The same file with section hashes and header hash computed anew (for tests that damage a file on purpose)."""
    header_count = struct.unpack_from("<I", data, 16)[0]
    out = bytearray(data)
    for k in range(header_count):
        at = HEADER_BYTES + ENTRY_BYTES * k
        offset, size = struct.unpack_from("<QQ", out, at + 16)
        out[at + 32 : at + 64] = hashlib.sha256(bytes(out[offset : offset + size])).digest()
    end = HEADER_BYTES + ENTRY_BYTES * header_count
    out[_SHA_AT : _SHA_AT + 32] = hashlib.sha256(
        bytes(out[:_SHA_AT]) + bytes(32) + bytes(out[_SHA_AT + 32 : end])
    ).digest()
    return bytes(out)
