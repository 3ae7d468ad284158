"""Netlists of the shipped example: computed exactly on one device and on several; broken ones are found."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from compiler.executor.faults import MachineError
from compiler.executor.verify import verify_programs
from compiler.frontend import ImportOptions, load_model
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.isa.file import read_file, repair_hashes, write_file
from compiler.isa.program import DeviceProgram
from compiler.isa.sections import FABRIC_SECTIONS, SectionType
from compiler.isa.stream.words import decode, encode
from compiler.simulator import host_tasks, simulate
from device_db.errors import FvcError
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST, SPREAD, anyhow, binaries, plan_of, programs

LOW_BIT = sorted((Path(__file__).parents[1] / "data" / "qonnx").glob("*.onnx"))
CASES = [("u280", None, ()), ("u280x2", 3000, SPREAD), ("pynq-z2", None, ())]


def verify(found: list[DeviceProgram], **options: object) -> object:
    graph = digits()
    return verify_programs(found, graph.model, {s.name: s.model for s in graph.host_segments}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_the_example_is_computed_exactly(case: tuple) -> None:
    report = verify(programs(*case), frames=3)
    assert report.passed and report.mismatches == 0
    assert sum(t.kind == "engine" for t in report.tensors) == 7
    assert check_programs(programs(*case)) == []


def test_the_order_of_units_makes_no_difference() -> None:
    for seed in (1, 2):
        assert verify(programs("u280x2", 3000, SPREAD), frames=3, order_seed=seed).passed


@pytest.mark.parametrize("seed", range(6))
def test_any_folds_on_any_dies_compute_the_same(seed: int) -> None:
    assert verify(anyhow(digits(), seed), frames=2).passed


@pytest.mark.parametrize("path", LOW_BIT, ids=lambda p: p.stem)
def test_low_bit_nets_are_computed_exactly_and_their_streams_fit(path: Path) -> None:
    """Thresholds, bipolar weights, tables with few levels, accumulators as outputs: 0 differences, widths agree."""
    graph = load_model(path, ImportOptions())
    for seed in (1, 2):
        found = anyhow(graph, seed)
        host = {s.name: s.model for s in graph.host_segments}
        assert verify_programs(found, graph.model, host, frames=2).passed
        # Folds drawn at random may be over a die's budget, and their FIFOs are the least: all else must hold.
        assert {f.code for f in check_programs(found)} <= {"FVC344", "FVC345"}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_what_is_predicted_is_what_the_simulator_finds(case: tuple) -> None:
    plan, graph = plan_of(*case), digits()
    tasks = host_tasks({s.name: s.model for s in graph.host_segments}, FAST_HOST)
    found = simulate(programs(*case), None, tasks)
    assert found.settled
    assert abs(found.interval_ps / 1000 - plan.predicted["interval_ns"]) <= 0.05 * plan.predicted["interval_ns"]
    assert abs(found.latency_ps / 1000 - plan.predicted["latency_ns"]) <= 0.05 * plan.predicted["latency_ns"]


def test_files_come_back_as_they_were() -> None:
    for data in binaries("u280x2", 3000, SPREAD):
        program = read_device(data)
        assert write_device(program) == data
        assert decode(encode(program.fabric.text)) == program.fabric.text


@pytest.mark.parametrize("section", sorted(FABRIC_SECTIONS))
def test_a_missing_section(section: SectionType) -> None:
    header, sections = read_file(binaries("u280")[0])
    data = write_file({int(k): bytes(v) for k, v in sections.items() if k != section}, header.fingerprint)
    with pytest.raises(FvcError) as caught:
        read_device(data)
    assert caught.value.code == "FVC304"


def test_reserved_bits_of_words_are_rejected() -> None:
    words = encode(programs("u280")[0].fabric.text)
    for lane, bit in ((0, 40), (1, 3), (7, 63)):  # post, packet, beyond the last field
        broken = words.copy()
        broken.reshape(-1)[lane] |= 1 << bit
        with pytest.raises(FvcError) as caught:
            decode(broken)
        assert caught.value.code == "FVC311"


def edit(op: str, **fields: int):
    """Changes the first instruction of a kind."""

    def act(p: DeviceProgram) -> None:
        next(i for i in p.fabric.text if i.op == op).fields.update(fields)

    return act


def swap_streams(p: DeviceProgram) -> None:
    a, b = p.fabric.streams()[1:3]
    a.fields["target"], b.fields["target"] = b.fields["target"], a.fields["target"]


def shallow_branch(p: DeviceProgram) -> None:
    units = p.fabric.units()
    for con in p.fabric.streams():
        if units[con.fields["target"]].op == "BIN":
            con.fields["depth"] = 1


def lose_a_stream(p: DeviceProgram) -> None:
    at = next(k for k, i in enumerate(p.fabric.text) if i.op == "CON")
    del p.fabric.text[at]
    p.fabric.text[-1].fields["streams"] -= 1


def lose_a_preload(p: DeviceProgram) -> None:
    at = next(k for k, i in enumerate(p.fabric.text) if i.op == "PRE")
    del p.fabric.text[at]
    p.fabric.text[-1].fields["preloads"] -= 1


def small_die(p: DeviceProgram) -> None:
    p.fabric.dies[0] = replace(p.fabric.dies[0], lut=100)


def no_wires(p: DeviceProgram) -> None:
    p.fabric.dies[:] = [replace(d, wires=0) for d in p.fabric.dies]


def other_tensor(p: DeviceProgram) -> None:
    rows = p.fabric.rows
    k = next(k for k, r in enumerate(rows) if r.role == "output")
    rows[k] = replace(rows[k], shape=(1, 2, 3))


def wrong_host(p: DeviceProgram) -> None:
    p.host[0] = replace(p.host[0], strides=(1, 1, 1))


def unseen_output(p: DeviceProgram) -> None:
    p.outputs["more"] = next(r.tensor for r in p.fabric.rows if r.role == "output")


def tell(**values: object):
    """Changes the folding metadata of the first layer."""

    def act(p: DeviceProgram) -> None:
        p.fabric.folding[0].update(values)

    return act


BROKEN = [
    (edit("RUN", units=3), "FVC340"), (other_tensor, "FVC340"), (edit("MVAU", pe=3), "FVC341"),
    (edit("WIN", depth=3), "FVC341"), (edit("MVAU", die=9), "FVC341"), (edit("CON", bits=7), "FVC342"),
    (edit("CON", words=5), "FVC342"), (swap_streams, "FVC342"), (lose_a_stream, "FVC342"),
    (edit("CON", hops=2), "FVC342"),
    (lose_a_preload, "FVC343"), (edit("PRE", bytes=3), "FVC343"), (small_die, "FVC344"), (shallow_branch, "FVC345"),
    (edit("SRC", channel=1), "FVC346"), (edit("SRC", tag=9), "FVC346"), (wrong_host, "FVC346"),
    (unseen_output, "FVC347"), (edit("CON", memory=7), "FVC342"), (tell(pe=99), "FVC340"), (tell(pe=[{}]), "FVC340"),
    (tell(memory={}), "FVC340"), (tell(cycles=[]), "FVC340"), (tell(fifo_depths=None), "FVC340"),
    (tell(requantiser={"mode": [[]]}), "FVC340"),
]  # fmt: skip


@pytest.mark.parametrize(("act", "code"), BROKEN, ids=[f"{c}-{k}" for k, (_, c) in enumerate(BROKEN)])
def test_every_broken_rule_is_named(act, code: str) -> None:
    found = programs("u280", 3000)
    act(found[0])
    assert code in {f.code for f in check_programs(found)}


def test_wires_of_a_boundary() -> None:
    found = programs("u280x2", 3000, SPREAD)
    for p in found:
        no_wires(p)
    assert {f.code for f in check_programs(found)} == {"FVC344"}


@pytest.mark.parametrize("links", [(), ("u280-1>u280-0",), ("u280-0>u280-1", "u280-1>host")])
def test_the_way_of_a_channel(links: tuple[str, ...]) -> None:
    found = programs("u280x2", 3000, SPREAD)
    for p in found:
        p.channels[:] = [replace(c, links=links) if (c.source_rank, c.target_rank) == (0, 1) else c for c in p.channels]
    assert "FVC331" in {f.code for f in check_programs(found)}


def test_a_single_bit_anywhere_is_found() -> None:
    """The hashes repaired, every flip is refused by reader or checker, stops the machine, or is a mismatch."""
    data = binaries("u280", 3000)[0]
    header, _ = read_file(data)
    draw = random.Random(5)
    spans = [
        (e.offset, e.size)
        for e in header.sections
        if e.type in (SectionType.NETLIST, SectionType.FABRIC_CONSTANTS, SectionType.FABRIC, SectionType.FABRIC_DIES)
    ]
    silent = []
    for _ in range(60):
        offset, size = draw.choice(spans)
        at, bit = offset + draw.randrange(size), draw.randrange(8)
        broken = bytearray(data)
        broken[at] ^= 1 << bit
        try:
            program = read_device(repair_hashes(bytes(broken)))
            found = check_programs([program])
            if not found and verify([program], frames=2).passed:
                silent.append((at - offset, bit))
        except (FvcError, MachineError):
            continue
    assert silent == []
