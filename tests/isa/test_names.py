"""Names of a bundle, each changed in one place or in all of a device: the checker, or the comparison with the model,
says so. Metadata that is edited in a file has its golden CRC."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from compiler.isa import read_device, write_device
from compiler.isa.check import check_programs
from compiler.isa.check.names import layer_of
from compiler.isa.file import read_header, repair_hashes
from compiler.isa.program import CoreProgram, DeviceProgram
from compiler.isa.sections import SectionType
from device_db.errors import FvcError
from tests.bundles import make_bundle

Programs = list[DeviceProgram]


def programs() -> Programs:
    return [read_device(data) for data in make_bundle("u280x2")[0]]


def core(p: Programs) -> CoreProgram:
    """A core with a convolution."""
    return next(c for d in p for c in d.cores if any(s.endswith("weights0") for s in c.symbols))


def rows(**change: str) -> Callable[[Programs], None]:
    """The first debug row that has all these attributes gets other ones: role="weights", task="x" …"""

    def edit(p: Programs) -> None:
        c = core(p)
        k = next(k for k, r in enumerate(c.debug) if r.role == change["role"])
        c.debug[k] = replace(c.debug[k], **{k: v for k, v in change.items() if k != "role"})

    return edit


def everywhere(field: str) -> Callable[[Programs], None]:
    """Another spelling of a task or node in all tables of a core: only what it must agree with is left."""

    def edit(p: Programs) -> None:
        c = core(p)
        old = next(getattr(r, field) for r in c.debug if r.role == "weights")
        c.debug = [replace(r, **{field: old + "1"}) if getattr(r, field) == old else r for r in c.debug]
        if field == "task":
            c.packets = [replace(x, task=old + "1") if x.task == old else x for x in c.packets]

    return edit


def symbol(p: Programs) -> None:
    c = core(p)
    c.symbols = {name.replace("weights0", "weights1"): span for name, span in c.symbols.items()}


def unread_symbol(p: Programs) -> None:
    c = core(p)
    c.symbols["spare"] = (len(c.constants), 0)


def link(p: Programs) -> None:
    """One die less known: in the table and on all routes of the device."""
    old = next(x.id for x in p[0].links if "SLR0>SLR1" in x.id)
    new = old.replace("SLR1", "SLR9")
    p[0].links = [replace(x, id=new) if x.id == old else x for x in p[0].links]
    p[0].channels = [replace(c, links=tuple(new if x == old else x for x in c.links)) for c in p[0].channels]


def unused_link(p: Programs) -> None:
    p[0].links.append(replace(p[0].links[0], id="u280-0/SLR8>SLR9"))


def transport(p: Programs) -> None:
    at = next(k for k, c in enumerate(p[0].channels) if c.transport == "SLL")
    p[0].channels[at] = replace(p[0].channels[at], transport="Aurora")


def alias(p: Programs) -> None:
    p[0].aliases["spare"] = ("scores", (1, 10))


def sizes(p: Programs) -> None:
    at = next(k for k, c in enumerate(p[0].channels) if c.transport == "SLL")
    p[0].channels[at] = replace(p[0].channels[at], max_bytes=p[0].channels[at].max_bytes + 1)


def folding(name: str, value: object) -> Callable[[Programs], None]:
    def edit(p: Programs) -> None:
        core(p).folding[0][name] = value

    return edit


def sync_tile(p: Programs) -> None:
    c = core(p)
    at = next(k for k, x in enumerate(c.packets) if not x.task)
    c.packets[at] = replace(c.packets[at], tile=3)


@pytest.mark.parametrize(
    "edit,code",
    [
        (rows(role="weights", node="/other"), "FVC334"),
        (rows(role="weights", tensor="relu"), "FVC334"),
        (rows(role="transport", task="/none#0"), "FVC334"),
        (rows(role="output", node=""), "FVC334"),
        (everywhere("node"), "FVC334"),
        (everywhere("task"), "FVC332"),  # the symbols bear the old name
        (symbol, "FVC332"),
        (unread_symbol, "FVC332"),
        (link, "FVC331"),
        (unused_link, "FVC331"),
        (transport, "FVC331"),
        (alias, "FVC331"),
        (sizes, "FVC331"),
        (sync_tile, "FVC333"),
        (folding("task", "/x#0"), "FVC339"),
        (folding("layer", "/x"), "FVC339"),
        (folding("die", "SLR7"), "FVC339"),
        (folding("tm", 1), "FVC339"),
        (folding("stage", 99), "FVC339"),
        (folding("tiles", 99), "FVC339"),
        (folding("memory", "resident"), "FVC339"),
        (folding("role", "partial"), "FVC339"),
    ],
)
def test_a_wrong_name_is_found(edit: Callable[[Programs], None], code: str) -> None:
    broken = copy.deepcopy(programs())
    edit(broken)
    found = check_programs([read_device(write_device(p)) for p in broken])
    assert code in {f.code for f in found}


def test_a_bundle_without_metadata_is_legal() -> None:
    bare = programs()
    for p in bare:
        p.note = {}
        for c in p.cores:
            c.folding = []
    assert check_programs(bare) == []


@pytest.mark.parametrize("section", [SectionType.FOLDING, SectionType.NOTE, SectionType.LINKS])
def test_edited_metadata_does_not_match_its_golden_crc(section: SectionType) -> None:
    data = bytearray(make_bundle("u280x2")[0][0])
    entry = next(e for e in read_header(bytes(data)).sections if e.type == section)
    inside = bytes(data[entry.offset : entry.offset + entry.size])
    in_text = section != SectionType.LINKS
    edited = inside.replace(b"0", b"1", 1) if in_text else inside[:-1] + bytes([inside[-1] ^ 1])
    data[entry.offset : entry.offset + entry.size] = edited
    with pytest.raises(FvcError) as caught:
        read_device(repair_hashes(bytes(data)))
    assert (caught.value.code, caught.value.where) == ("FVC306", (f"core 0: section {section.name}",))


@pytest.mark.parametrize(
    "task,layer", [("/conv#0", "/conv"), ("a#b#12", "a#b"), ("a", None), ("a#", None), ("a#01", None)]
)
def test_layer_of(task: str, layer: str | None) -> None:
    assert layer_of(task) == layer
