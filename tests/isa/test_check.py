"""One defect a rule, made in a legal bundle: the checker names it by its code. Untouched bundles pass."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from compiler.isa import read_device, write_device
from compiler.isa.check import check_bundle_bytes, check_programs
from compiler.isa.layout import LAYOUTS
from compiler.isa.program import CoreProgram, DeviceProgram, Instruction
from compiler.isa.table import Flag, Queue, Space

Programs = list[DeviceProgram]


def cores(programs: Programs) -> list[CoreProgram]:
    return [c for p in programs for c in p.cores]


def find(programs: Programs, op: str, want: Callable[[Instruction], bool] = lambda i: True) -> Instruction:
    return next(i for c in cores(programs) for q in c.queues.values() for i in q if i.op == op and want(i))


def change(op: str, want: Callable[[Instruction], bool] = lambda i: True, **fields: int) -> Callable[[Programs], None]:
    def edit(programs: Programs) -> None:
        find(programs, op, want).fields.update(fields)

    return edit


def attribute(op: str, **values: int) -> Callable[[Programs], None]:
    def edit(programs: Programs) -> None:
        i = find(programs, op)
        for name, value in values.items():
            setattr(i, name, value)

    return edit


def wrong_queue(programs: Programs) -> None:
    core = cores(programs)[0]
    i = find([programs[0]], "MAC")
    i.queue = Queue.LD
    core.queues[Queue.CX].remove(i)
    core.queues[Queue.LD].append(i)


def no_wait(programs: Programs) -> None:
    find(programs, "MAC", lambda i: bool(i.wait & 1)).wait = 0


def starved(programs: Programs) -> None:
    core = cores(programs)[0]
    rows = [list(r) for r in core.marking]
    rows[Queue.CX][Queue.LD] = 0
    core.marking = tuple(tuple(r) for r in rows)


def rich(programs: Programs) -> None:
    """A third credit for two slots: loads overtake the MAC that still reads."""
    for core in cores(programs):
        rows = [list(r) for r in core.marking]
        rows[Queue.CX][Queue.LD] += 2
        core.marking = tuple(tuple(r) for r in rows)


def swapped_messages(programs: Programs) -> None:
    """RX take the messages of a channel in another order than they are sent."""
    p = programs[0]
    p.host = [replace(m, tag=m.tag + 1) for m in p.host]


def never_stored(programs: Programs) -> None:
    """The ST becomes a SYNC with its tokens, so only its effect is missing."""
    for core in cores(programs):
        body = core.queues[Queue.ST]
        for k, i in enumerate(body):
            if i.op == "ST":
                body[k] = Instruction("SYNC", Queue.ST, {}, 0, i.wait, i.post, 0, i.packet, i.debug)
                return


def far_operand(programs: Programs) -> None:
    """A MAC reads the end of ACT, which no tile reaches."""
    i = find(programs, "MAC")
    f = i.fields
    engine = next(c.engine for c in cores(programs) if any(x is i for x in c.queues[Queue.CX]))
    f["act_addr"] = engine.act_bytes - f["groups"] * f["n"] * f["in_h"] * f["in_w"]


def endless(programs: Programs) -> None:
    """END gone; its tokens stay on a SYNC."""
    body = cores(programs)[0].queues[Queue.CTL]
    end = body[-1]
    body[-1] = Instruction("SYNC", Queue.CTL, {}, 0, end.wait, end.post, 0, end.packet, end.debug)


def stage_mixed(programs: Programs) -> None:
    """One MAC of a tile works a frame ahead of the loads that feed it."""
    deepest = max(i.stage for c in cores(programs) for q in c.queues.values() for i in q)
    i = find(programs, "MAC", lambda i: i.stage + 1 <= deepest)
    i.stage += 1


def bad_entry(programs: Programs) -> None:
    """The mode of a requantiser entry, in CONST; the CRC instruction knows the new sum."""
    import zlib

    core = next(c for c in cores(programs) if any(i.op == "VREQ" for i in c.queues[Queue.CX]))
    vreq = next(i for i in core.queues[Queue.CX] if i.op == "VREQ")
    load = next(
        i for i in core.queues[Queue.LD] if i.packet == vreq.packet and i.fields.get("scratch_space") == Space.TAB
    )
    at = load.fields["dram_addr"] + vreq.fields["tab_addr"] - load.fields["scratch_addr"]
    image = bytearray(core.constants)
    image[at + 5] = 9
    core.constants = bytes(image)
    for i in core.queues[Queue.CTL]:
        if i.op == "CRC":
            i.fields["expect"] = zlib.crc32(core.constants[i.fields["dram_addr"] :][: i.fields["bytes"]])


def edit_core(**values: object) -> Callable[[Programs], None]:
    def edit(programs: Programs) -> None:
        for name, value in values.items():
            setattr(cores(programs)[0], name, value)

    return edit


def small_engine(programs: Programs) -> None:
    core = cores(programs)[0]
    core.engine = replace(core.engine, dram_bytes=64)


def channel_of_nobody(programs: Programs) -> None:
    programs[0].channels[0] = replace(programs[0].channels[0], target_rank=4000)


def no_link(programs: Programs) -> None:
    programs[0].links = []


def renamed_rank(programs: Programs) -> None:
    cores(programs)[-1].rank = cores(programs)[0].rank


def placed_elsewhere(programs: Programs) -> None:
    core = cores(programs)[0]
    core.memory_map = [replace(p, address=p.address + 64) for p in core.memory_map]


def shallow(programs: Programs) -> None:
    for p in programs:
        p.stages = 0


def symbols_overlap(programs: Programs) -> None:
    core = cores(programs)[0]
    core.symbols = {name: (max(at - 1, 0), size) for name, (at, size) in core.symbols.items()}


def stored_twice(programs: Programs) -> None:
    """Two debug rows of one tensor exchange their boxes."""
    for core in cores(programs):
        rows = [k for k, r in enumerate(core.debug) if r.role == "output" and r.box]
        for a in rows:
            for b in rows:
                if a < b and core.debug[a].tensor == core.debug[b].tensor:
                    x, y = core.debug[a], core.debug[b]
                    core.debug[a], core.debug[b] = replace(x, box=y.box), replace(y, box=x.box)
                    return
    raise AssertionError


DEFECTS: list[tuple[str, Callable[[Programs], None]]] = [
    ("FVC310", change("MAC", m=1 << 16)),
    ("FVC320", wrong_queue),
    ("FVC320", attribute("MAC", flags=int(Flag.ONCE))),
    ("FVC320", attribute("MAC", post=1 << Queue.CX)),
    ("FVC321", change("MAC", lambda i: i.fields["kh"] > 1, in_h=1)),
    ("FVC321", change("MAC", groups=7)),
    ("FVC321", change("VREQ", lo=9, hi=3)),
    ("FVC321", change("LD", lambda i: i.fields["depth"] == 1, frame_stride=64)),
    ("FVC321", change("TX", bytes=1)),
    ("FVC321", change("LD", elem=3)),
    ("FVC321", attribute("END", stage=1)),
    ("FVC322", change("MAC", act_addr=1 << 31)),
    ("FVC322", change("LD", lambda i: i.fields["dram_space"] == Space.CONST, dram_addr=1 << 39)),
    ("FVC323", change("VREQ", acc_addr=2)),
    ("FVC324", no_wait),
    ("FVC325", starved),
    ("FVC326", rich),
    ("FVC327", far_operand),
    ("FVC328", stage_mixed),
    ("FVC329", bad_entry),
    ("FVC330", swapped_messages),
    ("FVC330", attribute("RX", stage=9)),
    ("FVC331", channel_of_nobody),
    ("FVC331", no_link),
    ("FVC331", renamed_rank),
    ("FVC332", symbols_overlap),
    ("FVC333", attribute("MAC", packet=10**6)),
    ("FVC334", attribute("MAC", debug=10**6)),
    ("FVC334", change("TX", lambda i: i.fields["n0"] > 64, dram_addr=1)),
    ("FVC335", placed_elsewhere),
    ("FVC327", never_stored),
    ("FVC335", stored_twice),
    ("FVC336", endless),
    ("FVC336", change("CRC", expect=1)),
    ("FVC337", small_engine),
    ("FVC338", shallow),
]


def read(files) -> Programs:
    return [read_device(f) for f in files]


@pytest.mark.parametrize("devices", ["pynq-z2x2", "u280x2"])
def test_a_legal_bundle_has_no_findings(bundle, devices):
    files, _ = bundle(devices)
    assert check_bundle_bytes(files) == []


@pytest.mark.parametrize(("code", "edit"), DEFECTS, ids=[f"{k}-{code}" for k, (code, _) in enumerate(DEFECTS)])
def test_a_defect_is_named(bundle, code, edit):
    programs = read(bundle("pynq-z2x2")[0])
    edit(programs)
    findings = check_programs(programs)
    assert code in {f.code for f in findings}, [f.what for f in findings[:4]]
    assert all(f.what for f in findings)


def test_findings_say_where(bundle):
    programs = read(bundle("pynq-z2x2")[0])
    change("MAC", groups=7)(programs)
    finding = next(f for f in check_programs(programs) if f.code == "FVC321")
    assert finding.where[0].startswith(f"{programs[0].name}, core 0 ") or "core 1" in finding.where[0]
    assert "CX[" in finding.where[0] and "MAC" in finding.where[0]
    assert finding.where[1], "the ONNX node"


def test_a_missing_device_is_noticed(bundle):
    programs = read(bundle("pynq-z2x2")[0])
    assert {f.code for f in check_programs(programs[:1])} & {"FVC330", "FVC331"}
    assert check_programs([])[0].code == "FVC331"


def test_unreadable_files_are_findings(bundle):
    files = list(bundle("pynq-z2x2")[0])
    found = check_bundle_bytes([files[0][:-1], files[1]], ["a.fvcb", "b.fvcb"])
    assert [f.code for f in found] == ["FVC300"]
    assert found[0].where == ("a.fvcb",)


def test_a_linked_bundle_is_as_legal(bundle):
    from compiler.isa import LinkMap, link

    files = bundle("pynq-z2x2")[0]
    ranks = {0: 7, 1: 5}
    moved = [
        link(f, LinkMap(ranks=ranks, channels={0: 30}, bases={0: {"const": 4096, "work": 1 << 20}})) for f in files
    ]
    assert check_bundle_bytes(moved) == []
    assert [write_device(read_device(f)) for f in moved] != moved


EXTREMES = (0, 1, -1, 2, 255, 256, 65535, 65536, 2**31, 2**32 - 1, 2**40, 2**62, -(2**31))


def disturb(record, rng: random.Random):
    """The record with one field at an extreme."""
    name = rng.choice([f.name for f in dataclasses.fields(record)])
    value = getattr(record, name)
    if isinstance(value, int):
        return replace(record, **{name: rng.choice(EXTREMES)})
    if isinstance(value, str):
        return replace(record, **{name: rng.choice(("", "x", "u8", "i64", value + "0"))})
    if isinstance(value, tuple) and value and isinstance(value[0], int):
        items = list(value)
        items[rng.randrange(len(items))] = rng.choice(EXTREMES)
        return replace(record, **{name: tuple(items[: rng.choice((len(items), len(items) - 1))])})
    return record


def test_absurd_programs_get_findings_and_no_traceback(bundle):
    legal = read(bundle("pynq-z2x2")[0])
    rng = random.Random(3)
    refused = 0
    for _ in range(150):
        programs = copy.deepcopy(legal)
        p = rng.choice(programs)
        core = rng.choice(p.cores)
        for _ in range(rng.choice((1, 2, 4))):
            lists = [core.memory_map, core.debug, core.packets, p.channels, p.links, p.host]
            records = rng.choice([x for x in lists if x])
            if rng.random() < 0.5:
                i = rng.choice([i for q in core.queues.values() for i in q if LAYOUTS[i.op].slots])
                slot = rng.choice(LAYOUTS[i.op].slots)
                i.fields[slot.field.name] = min(max(rng.choice(EXTREMES), slot.low), slot.high)
            elif rng.random() < 0.2:
                core.engine = disturb(core.engine, rng)
            else:
                at = rng.randrange(len(records))
                records[at] = disturb(records[at], rng)
        refused += bool(check_programs(programs))
    assert refused > 100
