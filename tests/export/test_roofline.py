"""Rooflines against figures worked out by hand, one layer for each thing that can bound it."""

from __future__ import annotations

from dataclasses import replace

from compiler.export.document import Preformatted, as_html, as_markdown
from compiler.export.roofline import HEAD, cells, pictures, roofline, tasks_of
from compiler.isa.program import Channel, DebugRow, DeviceProgram, Instruction
from tests.bundles import make_bundle
from tests.simulator.programs import CX, core, device, engine, link, load, message, store, vector

ROLES = {"LD": "weights", "MAC": "compute", "VACC": "compute", "ST": "output", "TX": "transport"}


def mac(pixels: int) -> Instruction:
    """1x1, 8 to 8 channels on the 8x8 array: a cycle a pixel, and 16."""
    fields = {"m": 8, "n": 8, "kh": 1, "kw": 1, "oh": pixels, "ow": 1, "groups": 1}
    return Instruction("MAC", CX, fields)


def program(*instructions: Instruction, cycles: int, rate: int = 10**15) -> DeviceProgram:
    """One layer "a" on an engine at 1 GHz: 128 GOP/s, ports of 64 bytes a cycle; one link of 2 bytes a cycle."""
    rows = [DebugRow("a", "a#0", "t" if op == "TX" else "", (), role) for op, role in ROLES.items()]
    listed = [replace(i, debug=list(ROLES).index(i.op)) for i in instructions]
    one = core(0, *listed, spec=engine(0, rate=rate), debug=rows)
    one.folding.append({"layer": "a", "op": "QLinearConv", "task": "a#0", "memory": "stream", "cycles": cycles})
    channel = Channel(0, 0, 1, 2, 1 << 20, "SLL", ("x",))
    return device(one, channels=[channel], links=[link("x", 2)])


def test_bound_by_the_array() -> None:
    """1,000 pixels: 128,000 operations in 1,016 of 1,250 cycles; 640 bytes loaded in 32 + 10."""
    (row,) = roofline([program(load(640), mac(1000), cycles=1250)])
    assert (row.operations, row.dram_bytes, row.link_bytes) == (128_000, 640, 0)
    assert (row.attained, row.bound) == (102_400_000_000, 128_000_000_000)
    assert (row.limit, row.busy_permille) == ("compute", 812)
    assert "larger array" in row.relief
    assert cells(row)[1:9] == ("128,000", "200.0", "-", "102 GOP/s", "128 GOP/s", "80 %", "compute", "81 %")


def test_bound_by_a_shape_that_does_not_fit() -> None:
    """5 of 8 rows and 5 of 8 columns: 25/64 of the multipliers."""
    ins = mac(1000)
    (row,) = roofline([program(replace(ins, fields={**ins.fields, "m": 5, "n": 5}), cycles=1016)])
    assert row.operations == 50_000 and row.limit == "compute"
    assert "8x8: 38 %" in row.relief  # 391 of 1,016 cycles


def test_bound_by_the_bank() -> None:
    """6,400 bytes at 4 GB/s: 1,600 ns, so no more than 8 GOP/s for 12,800 operations."""
    (row,) = roofline([program(load(6400), mac(100), cycles=2000, rate=4 * 10**9)])
    assert (row.limit, row.busy_permille) == ("memory", 800)
    assert (row.bound, row.attained) == (8_000_000_000, 6_400_000_000)
    assert "--memory uram" in row.relief


def test_bound_by_the_port() -> None:
    """6,400 bytes at 64 a cycle: 100 cycles and 32; the bank alone would let the array work."""
    (row,) = roofline([program(load(6400), mac(60), cycles=132)])
    assert (row.limit, row.busy_permille) == ("memory", 1000)
    assert row.bound == 128_000_000_000 and "wider ports" in row.relief


def test_bound_by_a_link() -> None:
    """4,000 bytes over 2 a cycle: 2,000 ns, 12.8 GOP/s for 25,600 operations, whatever else is predicted."""
    (row,) = roofline([program(mac(200), store(64), message("TX", 0, 4000), cycles=300)])
    assert (row.limit, row.link_bytes) == ("link", 4000)
    assert row.bound == row.attained == 12_800_000_000


def test_a_layer_without_products_counts_steps_of_the_vector_unit() -> None:
    """A VACC of 116 cycles on 10 lanes."""
    (row,) = roofline([program(vector(116), cycles=145)])
    assert (row.operations, row.limit, row.busy_permille) == (1000, "vector", 800)
    assert row.bound == 10_000_000_000


def test_what_is_loaded_once_is_not_counted_each_frame() -> None:
    from compiler.isa.table import Flag

    once = replace(load(6400), flags=int(Flag.ONCE))
    (row,) = roofline([program(once, mac(100), cycles=200)])
    assert row.dram_bytes == 0 and cells(row)[2] == "-"


def test_the_picture_has_the_roof_and_the_layer_under_it() -> None:
    (picture,) = pictures([program(load(640), mac(1000), cycles=1250)])
    lines = picture.split("\n")
    assert "8x8 at 1000 MHz: 128 GOP/s" in lines[0]
    roof, dot = (next(k for k, x in enumerate(lines) if mark in x.split("|")[-1]) for mark in ("--", "c"))
    assert roof == 1 and dot >= roof
    assert max(map(len, lines)) < 100
    assert "```text\n" + picture in as_markdown([Preformatted(picture)])
    assert "<pre>" in as_html("x", [Preformatted(picture)])


def test_the_shipped_example() -> None:
    from compiler.isa import read_device

    programs = [read_device(f) for f in make_bundle("u280")[0]]
    rows = roofline(programs)
    layers = {str(r["layer"]) for p in programs for c in p.cores for r in c.folding}
    assert {r.layer for r in rows} == layers
    assert all(0 < r.attained <= r.bound for r in rows)
    assert all(len(cells(r)) == len(HEAD) for r in rows)
    assert pictures(programs)


def test_shared_weights_count_where_they_are_loaded_and_where_they_pass() -> None:
    """Two boards share a layer's weights: together they load each once, and every hop stands in the layer's links."""
    from compiler.partition import partition
    from compiler.partition.options import PartitionOptions
    from compiler.schedule import schedule
    from device_db import load_cluster
    from tests.partition.graphs import residual

    graph, cluster = residual(blocks=1, channels=64, side=14), load_cluster("zcu102x2")
    asked = PartitionOptions(objective="latency", xfer="always", force_split=(("Pr", 2),), time_limit_s=0.2)
    plan = partition(graph, cluster, asked)
    programs = schedule(graph, plan, cluster)
    shared = {x.name: x for x in plan.layers if x.xfer}
    assert "conv0a" in shared
    for name, layer in shared.items():
        own = [t for t in tasks_of(programs) if t.layer == name]
        assert sum(t.weight_bytes for t in own) == {"conv0a": 64 * 64 * 9, "conv0b": 64 * 64}[name]
        hops = sum(h.bits_per_frame for x in layer.xfer for h in x.hops) // 8
        moved = sum(c.bits_per_frame for c in plan.channels if c.tensor in ("x", "t0a", "t0b", "t0c")) // 8
        links = sum(t.link_bytes for t in own)
        assert 2 * hops <= links <= 2 * (hops + moved), "each hop is sent once and received once"
    limits = {r.layer: r.limit for r in roofline(programs)}
    assert limits["conv0a"] == "link", "one 10 Gb/s lane carries what a DRAM of 13.6 GB/s would have loaded"
