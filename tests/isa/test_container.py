"""Containers: exact round trip, deterministic bytes, every damage an FvcError, linking with an exact inverse."""

from __future__ import annotations

import random
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from isa_strategies import programs, random_program

from compiler.isa import LinkMap, decode, link, read_device, write_device
from compiler.isa.file import read_file, repair_hashes, write_file
from compiler.isa.sections import CRITICAL, SectionType
from device_db.errors import FvcError

READ_CODES = {f"FVC3{n:02d}" for n in (0, 1, 2, 3, 4, 5, 6, 11)}
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(programs)
def test_round_trip_is_exact(program):
    data = write_device(program)
    back = read_device(data)
    assert back == program
    assert list(back.outputs) == list(program.outputs)
    assert write_device(back) == data


def test_absent_fields_read_back_as_zero():
    program = random_program(1)
    queue = next(q for c in program.cores for q in c.queues.values() if any(i.fields for i in q))
    first = next(i for i in queue if i.fields)
    name = next(iter(first.fields))
    first.fields[name] = 0
    data = write_device(program)
    del first.fields[name]
    assert write_device(program) == data


@quick
@given(programs, st.randoms(use_true_random=False))
def test_any_damage_is_seen(program, rng):
    data = write_device(program)
    broken = bytearray(data)
    at = rng.randrange(len(data))
    broken[at] ^= 1 << rng.randrange(8)
    with pytest.raises(FvcError) as caught:
        read_device(bytes(broken))
    assert caught.value.code in READ_CODES


@quick
@given(programs, st.randoms(use_true_random=False))
def test_truncation_and_padding_are_seen(program, rng):
    data = write_device(program)
    for broken in (data[: rng.randrange(len(data))], data + b"\0", b"", data[:128]):
        with pytest.raises(FvcError) as caught:
            read_device(broken)
        assert caught.value.code in READ_CODES


def _read_or_refuse(data: bytes) -> bool:
    try:
        read_device(data)
    except FvcError as error:
        assert error.code in READ_CODES, error
        return False
    return True


def test_hostile_files_with_repaired_hashes_never_crash():
    """1,000 files whose hashes are right and whose contents are not; memory stays within a few times the file."""
    rng = random.Random(5)
    data = write_device(random_program(3, cores=2, length=30))
    _read_or_refuse(data)
    refused, peak = 0, 0
    for k in range(1000):
        if k == 900:
            tracemalloc.start()
        broken = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(128 + 64 * 20, len(data))
            broken[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        refused += not _read_or_refuse(repair_hashes(bytes(broken)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused > 700
    assert peak < 40 * len(data) + (1 << 23)


def test_hostile_section_tables_never_crash():
    rng = random.Random(6)
    data = write_device(random_program(4))
    for _ in range(600):
        broken = bytearray(data)
        at = 128 + 4 * rng.randrange(64 * 20 // 4)
        struct.pack_into("<I", broken, at, rng.choice((0, 1, 2**31, 2**32 - 1, rng.randrange(2**32))))
        if bytes(broken) != data:
            try:
                repaired = repair_hashes(bytes(broken))
            except (struct.error, MemoryError, OverflowError):
                continue
            _read_or_refuse(repaired)


def test_huge_counts_are_refused_before_anything_is_allocated():
    header, sections = read_file(write_device(random_program(4)))
    for section in sections:
        if section in (SectionType.TEXT, SectionType.CONSTANTS, SectionType.FOLDING, SectionType.NOTE):
            continue
        payload = struct.pack("<I", 2**32 - 1) + bytes(sections[section])[4:]
        data = write_file(
            {**{int(k): bytes(v) for k, v in sections.items()}, int(section): payload}, header.fingerprint
        )
        with pytest.raises(FvcError) as caught:
            read_device(data)
        assert caught.value.code == "FVC303"


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":NaN}', b"\xff", b"[]", b"1" * 5000])
def test_hostile_json_is_refused(deep):
    header, sections = read_file(write_device(random_program(4)))
    data = write_file(
        {**{int(k): bytes(v) for k, v in sections.items()}, int(SectionType.NOTE): deep}, header.fingerprint
    )
    with pytest.raises(FvcError) as caught:
        read_device(data)
    assert caught.value.code == "FVC303"


def test_unknown_sections():
    program = random_program(9)
    header, sections = read_file(write_device(program))
    payloads = {int(k): bytes(v) for k, v in sections.items()}
    optional = write_file({**payloads, 99: b"later"}, header.fingerprint, extra={99: 0})
    assert read_device(optional) == program
    with pytest.raises(FvcError) as caught:
        read_device(write_file({**payloads, 99: b"later"}, header.fingerprint, extra={99: CRITICAL}))
    assert caught.value.code == "FVC304"


@pytest.mark.parametrize("section", [s for s in SectionType if s < SectionType.FABRIC])
def test_missing_sections(section):
    program = random_program(9)
    header, sections = read_file(write_device(program))
    data = write_file({int(k): bytes(v) for k, v in sections.items() if k != section}, header.fingerprint)
    if section in (SectionType.DEBUG, SectionType.FOLDING, SectionType.NOTE):
        assert read_device(data).cores[0].queues == program.cores[0].queues
    else:
        with pytest.raises(FvcError) as caught:
            read_device(data)
        assert caught.value.code == "FVC304"


def test_a_flipped_constant_with_repaired_hashes_is_seen():
    program = random_program(12)
    data = write_device(program)
    header, _ = read_file(data)
    entry = next(e for e in header.sections if e.type == SectionType.CONSTANTS)
    broken = bytearray(data)
    broken[entry.offset + 1] ^= 4
    with pytest.raises(FvcError) as caught:
        read_device(repair_hashes(bytes(broken)))
    assert caught.value.code == "FVC306"


def test_other_versions_are_refused():
    data = bytearray(write_device(random_program(2)))
    for at in (8, 12):
        other = bytearray(data)
        other[at] += 1
        with pytest.raises(FvcError) as caught:
            read_device(repair_hashes(bytes(other)))
        assert caught.value.code == "FVC301"


@quick
@given(programs, st.permutations(range(5)), st.lists(st.integers(0, 2**20), min_size=6, max_size=6))
def test_linking_back_gives_the_same_bytes(program, ranks, bases):
    data = write_device(program)
    spaces = ("const", "work", "act", "wgt", "acc", "tab")
    there = LinkMap(dict(enumerate(ranks)), {0: 700, 1: 0, 2: 1, 700: 2}, {0: dict(zip(spaces, bases, strict=True))})
    moved = link(data, there)
    assert link(moved, there.inverse()) == data
    back = read_device(moved)
    assert [c.rank for c in back.cores] == [ranks[c.rank] for c in program.cores]
    assert [c.id for c in back.channels] == [700, 0, 1]
    assert back.cores[0].constants == program.cores[0].constants


def test_linked_text_holds_absolute_addresses():
    program = random_program(8, cores=1, length=40)
    data = link(write_device(program), LinkMap(bases={0: {"acc": 4096}}))
    _, sections = read_file(data)
    linked = decode(np.frombuffer(sections[SectionType.TEXT], "<u8").reshape(-1, 4).astype(np.uint64))
    plain = [i for q in program.cores[0].queues.values() for i in q]
    macs = [(a.fields["acc_addr"], b.fields["acc_addr"]) for a, b in zip(linked, plain, strict=True) if a.op == "MAC"]
    assert macs and all(a == b + 4096 for a, b in macs)


@pytest.mark.parametrize(
    "link_map",
    [
        LinkMap(ranks={0: 1, 1: 1}),
        LinkMap(ranks={0: 0xFFFF}),
        LinkMap(channels={-1: 0}),
        LinkMap(bases={0: {"act": -1}}),
        LinkMap(bases={0: {"moon": 1}}),
        LinkMap(bases={9: {"act": 1}}),
        LinkMap(bases={0: {"act": (1 << 32) - 1, "dram": 0}}),
    ],
)
def test_bad_link_maps_are_refused(link_map):
    with pytest.raises(FvcError) as caught:
        link(write_device(random_program(8)), link_map)
    assert caught.value.code == "FVC313"
