"""Shared weights and inputs (XFER): trees of hops, equal integers over every topology, times, what judges refuse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.executor.golden import run_graph
from compiler.executor.machine import Machine
from compiler.ir.graph import Copy, DType, Graph
from compiler.isa import read_device, write_device
from compiler.isa.check import check_programs
from compiler.isa.program import DeviceProgram
from compiler.isa.table import Queue, Space
from compiler.ops import input_share_name, input_share_of, share_bounds, share_name, share_of
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.defaults import ClusterRoutes
from compiler.partition.options import PartitionOptions
from compiler.partition.xfer import hops_of
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.simulator import simulate
from device_db import load_cluster
from device_db.errors import FvcError
from tests.ops.graphs import Builder

FACTORS = {
    "zcu102x2": ("Pr", 2),
    "zcu102x3": ("Pr", 3),
    "zcu102x4": ("Pr", 4),
    "u250": ("Pc", 4),
}


@cache
def case(batch: int = 1) -> tuple[Builder, Graph]:
    """Several blocks a layer, a depthwise, a dilation, a stride, a residual add, a product at the end; odd sizes."""
    b = Builder(11, DType.U8)
    x = b.input((batch, 24, 17, 13))
    x = b.conv(x, 200, (3, 3), pads=(1, 1, 1, 1))
    y = b.conv(x, 200, (3, 3), pads=(1, 1, 1, 1), groups=200)
    y = b.conv(y, 200, (1, 1))
    x = b.binary(x, y, "add")
    x = b.conv(x, 96, (3, 3), (2, 1), (2, 2, 2, 2), dilations=(2, 2))
    b.conv(x, 130, (5, 5), pads=(2, 2, 2, 2))
    return b, b.graph()


def planned(devices: str, *factors: tuple[str, int], topology: str | None = None, batch: int = 1, **more) -> Plan:
    options = PartitionOptions(objective="latency", time_limit_s=0.2, force_split=factors, **{"xfer": "always", **more})
    return partition(case(batch)[1], load_cluster(devices, topology=topology), options)


def programs_of(plan: Plan, devices: str, topology: str | None = None, batch: int = 1) -> list[DeviceProgram]:
    cluster = load_cluster(devices, topology=topology)
    assert not check_plan(plan, case(batch)[1], cluster)
    programs = [read_device(write_device(p)) for p in schedule(case(batch)[1], plan, cluster)]
    findings = check_programs(programs)
    assert not findings, "\n".join(str(f) for f in findings[:5])
    return programs


def assert_runs(programs: list[DeviceProgram], batch: int = 1, order_seed: int | None = None) -> None:
    b, graph = case(batch)
    frames = [b.frame() for _ in range(3)]
    for frame, got in zip(frames, Machine(programs).run(frames, order_seed=order_seed), strict=True):
        golden = run_graph(graph, frame)
        for name in graph.outputs:
            assert np.array_equal(got[name].reshape(-1), golden[name].reshape(-1)), name


@given(st.integers(1, 5000), st.integers(2, 9))
def test_shares_cover_a_block_once_and_are_even(size: int, sharers: int) -> None:
    got = [share_bounds(size, k, sharers) for k in range(sharers)]
    assert got[0][0] == 0 and got[-1][1] == size
    assert all((a[1] == b[0] and a[1] % 64 == 0) or a[1] == size for a, b in pairwise(got))
    assert max(hi - lo for lo, hi in got) - min(hi - lo for lo, hi in got) <= 127


@pytest.mark.parametrize("text", ["share 0/2", "share 3/2", "share 1/1", "share 01/2", "share 1", "stream"])
def test_only_real_shares_have_that_name(text: str) -> None:
    assert share_of(text) == (0, 1)
    assert share_of(share_name(2, 5)) == (2, 5)
    assert input_share_of(text.replace("share", "inputs")) == (0, 1) == input_share_of(share_name(2, 5))
    assert input_share_of(input_share_name(2, 5)) == (2, 5) and share_of(input_share_name(2, 5)) == (0, 1)


@given(st.integers(2, 60), st.integers(1, 400), st.integers(2, 9))
def test_parts_of_inputs_are_whole_channels(channels: int, grain: int, sharers: int) -> None:
    got = [share_bounds(channels * grain, k, sharers, grain) for k in range(sharers)]
    assert got[0][0] == 0 and got[-1][1] == channels * grain
    assert all(a[1] == b[0] and a[1] % grain == 0 for a, b in pairwise(got))
    assert max(hi - lo for lo, hi in got) - min(hi - lo for lo, hi in got) <= grain


@pytest.mark.parametrize(
    ("spec", "topology", "deepest", "most"),
    [
        ("zcu102x5", "chain", 4, 4),  # the end of a chain gets every other share over its one link
        ("zcu102x6", "ring", 3, 3),  # both ways round: of each share at most half the others beyond a link
        ("zcu102x9", "mesh", 4, 6),
        ("zcu102x9", "torus", 2, 3),  # rows first, then columns: each link of a column carries a row's three shares
        ("zcu102x16", "torus", 4, 6),  # so ordered, 16 x 12 hops over the 32 directed links of the columns
    ],
)
def test_hops_are_trees_along_neighbours(spec: str, topology: str, deepest: int, most: int) -> None:
    cluster = load_cluster(spec, topology=topology)
    refs = {cluster.devices[r.device].name: r for r in cluster.dies}
    routes = ClusterRoutes(cluster)
    hops = hops_of(list(refs), lambda a, b: routes.route(refs[a], refs[b]))
    assert Counter((h.share, h.target) for h in hops) == {
        (k, e): 1 for k, owner in enumerate(refs) for e in refs if e != owner
    }
    assert all(len(h.route) == 1 for h in hops)
    assert max(h.depth for h in hops) + 1 == deepest
    carried = Counter((h.share, link) for h in hops for link in h.route)
    assert set(carried.values()) == {1}  # no share passes a link twice
    assert max(Counter(link for h in hops for link in h.route).values()) <= most


@pytest.mark.parametrize("devices", sorted(FACTORS))
def test_the_machine_computes_the_same_and_each_loads_a_share(devices: str) -> None:
    plan = planned(devices, FACTORS[devices])
    shared = [x for layer in plan.layers for x in layer.xfer]
    assert len(shared) >= 4
    programs = programs_of(plan, devices)
    assert_runs(programs)
    alone = schedule(case()[1], planned(devices, FACTORS[devices], xfer="never"), load_cluster(devices))
    mine, theirs = (max(len(c.constants) for p in ps for c in p.cores) for ps in (programs, alone))
    assert mine < theirs
    sent = [i for p in programs for c in p.cores for i in c.queues.get(Queue.TX, ()) if i.fields.get("wgt")]
    assert sum(i.fields["bytes"] for i in sent) * 8 == sum(h.bits_per_frame for x in shared for h in x.hops)


def test_shares_pass_round_a_torus() -> None:
    """Nine boards in rows and columns of three: every share reaches all of them in two hops at most."""
    plan = planned("zcu102x9", ("Pr", 3), ("Pm", 3), topology="torus")
    hops = [h for layer in plan.layers for x in layer.xfer for h in x.hops]
    assert hops and all(len(h.route) == 1 for h in hops)
    assert {h.source.split("/")[0] + ">" + h.target.split("/")[0] for h in hops} >= {
        "zcu102-0>zcu102-6",
        "zcu102-6>zcu102-0",
    }
    assert_runs(programs_of(plan, "zcu102x9", "torus"), order_seed=3)


@pytest.mark.parametrize("topology", ["ring", "mesh", "switch"])
@pytest.mark.parametrize("factors", [(("Pr", 4),), (("Pr", 2), ("Pm", 2)), (("Pr", 2), ("Pn", 2))])
def test_topologies_and_mixed_cuts(topology: str, factors: tuple[tuple[str, int], ...]) -> None:
    plan = planned("zcu102x4", *factors, topology=topology)
    assert any(layer.xfer for layer in plan.layers)
    assert_runs(programs_of(plan, "zcu102x4", topology), order_seed=7)


@pytest.mark.parametrize(
    ("devices", "topology", "factors"),
    [
        ("zcu102x2", None, (("Pm", 2),)),
        ("zcu102x3", "switch", (("Pm", 3),)),  # 200 and 130 channels in three slices that differ
        ("zcu102x4", "chain", (("Pm", 2), ("Pn", 2))),
        ("zcu102x4", "mesh", (("Pr", 2), ("Pm", 2))),  # one layer shares its weights, the next its input
        ("u250", None, (("Pm", 4),)),
    ],
)
def test_channel_slices_share_their_input(devices: str, topology: str | None, factors: tuple) -> None:
    """Each loads a part of the input from its DRAM, and gets the others' from their scratchpads."""
    plan = planned(devices, *factors, topology=topology)
    groups = [(layer, x) for layer in plan.layers for x in layer.xfer if x.inputs]
    assert len({layer.name for layer, _ in groups}) >= 3
    graph = case()[1]
    assert all(next(n for n in graph.nodes if n.name == layer.name).groups == 1 for layer, _ in groups)
    programs = programs_of(plan, devices, topology)
    assert_runs(programs, order_seed=5)
    sent = [i for p in programs for c in p.cores for i in c.queues.get(Queue.TX, ()) if i.fields.get("act")]
    assert sum(i.fields["bytes"] for i in sent) * 8 == sum(h.bits_per_frame for _, x in groups for h in x.hops)
    alone = schedule(graph, planned(devices, *factors, topology=topology, xfer="never"), load_cluster(devices))
    assert loaded(programs) < loaded(alone)


def loaded(programs: list[DeviceProgram]) -> int:
    """Bytes of activations that all cores load a frame."""
    return sum(
        i.fields["n2"] * i.fields["n1"] * i.fields["n0"]
        for p in programs
        for c in p.cores
        for i in c.queues.get(Queue.LD, ())
        if i.op == "LD" and i.fields["dram_space"] == Space.WORK
    )


def test_inputs_pass_round_a_torus() -> None:
    plan = planned("zcu102x9", ("Pm", 9), topology="torus")
    hops = [h for layer in plan.layers for x in layer.xfer if x.inputs for h in x.hops]
    assert hops and all(len(h.route) == 1 for h in hops)
    assert_runs(programs_of(plan, "zcu102x9", "torus"), order_seed=3)


@cache
def odd_case() -> tuple[Builder, Graph]:
    """A step over rows and columns, a window higher than its tiles with much padding, uneven channels."""
    b = Builder(5, DType.U8)
    x = b.input((1, 20, 15, 11))
    x = b.conv(x, 48, (1, 1), (2, 2))
    x = b.conv(x, 33, (7, 5), pads=(6, 4, 6, 4))
    b.conv(x, 70, (1, 1))
    return b, b.graph()


@cache
def product_case() -> tuple[Builder, Graph]:
    """Matrix products of rows whose features lie innermost, then of one row."""
    b = Builder(9, DType.S8)
    x = b.input((1, 30, 20))
    x = b.conv(x, 64, axes=(0, 3, 1, 2))
    x = b.conv(x, 37, axes=(0, 3, 1, 2))
    x = b.move((x,), (1, 30 * 37), [Copy(0, (1, 1, 30, 37), 0, (0, 0, 37, 1), 0, (0, 0, 37, 1))])
    b.conv(x, 50)
    return b, b.graph()


@pytest.mark.parametrize("made", [odd_case, product_case])
@pytest.mark.parametrize("pieces", [2, 3])
def test_any_layout_can_be_shared(made: Callable[[], tuple[Builder, Graph]], pieces: int) -> None:
    b, graph = made()
    cluster = load_cluster("zcu102x3")
    options = PartitionOptions(objective="latency", time_limit_s=0.2, force_split=(("Pm", pieces),), xfer="always")
    plan = partition(graph, cluster, options)
    assert all(x.xfer and x.xfer[0].inputs for x in plan.layers if x.op == "QLinearConv")
    assert not check_plan(plan, graph, cluster)
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert not check_programs(programs)
    frames = [b.frame() for _ in range(3)]
    for frame, got in zip(frames, Machine(programs).run(frames, order_seed=pieces), strict=True):
        golden = run_graph(graph, frame)
        assert all(np.array_equal(got[name].reshape(-1), golden[name].reshape(-1)) for name in graph.outputs)


def test_batch_slices_share_too() -> None:
    plan = planned("zcu102x2", ("Pb", 2), batch=2)
    assert all(layer.xfer for layer in plan.layers if layer.op == "Conv")
    assert_runs(programs_of(plan, "zcu102x2", batch=2), batch=2)


@pytest.mark.parametrize(
    ("devices", "factor"), [("zcu102x2", "Pr"), ("zcu102x4", "Pr"), ("u250", "Pc"), ("u250", "Pm")]
)
def test_prediction_and_simulation_agree(devices: str, factor: str) -> None:
    plan = planned(devices, (factor, FACTORS[devices][1]))
    result = simulate(programs_of(plan, devices), frames=12)
    assert result.latency_ps == pytest.approx(plan.predicted["latency_ns"] * 1000, rel=0.05)
    assert result.interval_ps == pytest.approx(plan.predicted["interval_ns"] * 1000, rel=0.05)


NARROW = """schema = "fvc.cluster/1"
clock_mhz = 100
[[device]]
board_file = "narrow.toml"
count = 2
"""


def narrow(tmp_path: Path) -> str:
    """Boards whose memory port is as narrow as Super-LIP's, with links three times as fast."""
    text = Path(__file__).parents[2].joinpath("device_db/boards/zcu102.toml").read_text()
    text = text.replace("port_bits = 512", "port_bits = 128").replace("10_000_000_000", "40_000_000_000")
    (tmp_path / "narrow.toml").write_text(text.replace('name = "zcu102"', 'name = "narrow"'))
    (tmp_path / "two.toml").write_text(NARROW)
    return str(tmp_path / "two.toml")


def test_it_is_chosen_where_links_outdo_the_memory_and_nowhere_else(tmp_path: Path) -> None:
    devices = narrow(tmp_path)
    plain = planned(devices, ("Pr", 2), xfer="never")
    shared = planned(devices, ("Pr", 2), xfer="auto")
    assert any(layer.xfer for layer in shared.layers)
    assert shared.predicted["latency_ns"] < plain.predicted["latency_ns"] * 0.9
    assert simulate(programs_of(shared, devices), 8).latency_ps < simulate(programs_of(plain, devices), 8).latency_ps
    slow = planned("zcu102x2", ("Pr", 2), xfer="auto")  # one 10 Gb/s lane against 13.6 GB/s of DRAM
    assert not any(layer.xfer for layer in slow.layers)


def test_inputs_are_shared_where_links_outdo_the_memory(tmp_path: Path) -> None:
    devices = narrow(tmp_path)
    plain = planned(devices, ("Pm", 2), xfer="never")
    shared = planned(devices, ("Pm", 2), xfer="auto")
    assert any(x.inputs for layer in shared.layers for x in layer.xfer)
    assert shared.predicted["latency_ns"] < plain.predicted["latency_ns"]
    assert simulate(programs_of(shared, devices), 8).latency_ps < simulate(programs_of(plain, devices), 8).latency_ps
    slow = planned("zcu102x2", ("Pm", 2), xfer="auto")
    assert not any(layer.xfer for layer in slow.layers)


@pytest.mark.parametrize("factor", ["Pr", "Pm"])
def test_the_plan_checker_finds_every_edit(factor: str) -> None:
    plan = planned("zcu102x3", (factor, 3))
    graph, cluster = case()[1], load_cluster("zcu102x3")
    at = next(k for k, layer in enumerate(plan.layers) if layer.xfer)
    x = plan.layers[at].xfer[0]

    def edited(**change) -> Plan:
        layer = replace(plan.layers[at], xfer=(replace(x, **change), *plan.layers[at].xfer[1:]))
        return replace(plan, layers=(*plan.layers[:at], layer, *plan.layers[at + 1 :]))

    h = x.hops[0]
    for change in (
        {"tasks": x.tasks[::-1]}, {"tasks": x.tasks[:2]}, {"hops": x.hops[:-1]}, {"hops": x.hops[::-1]},
        {"hops": (*x.hops, x.hops[-1])}, {"hops": (replace(h, bits_per_frame=h.bits_per_frame + 8), *x.hops[1:])},
        {"hops": (replace(h, route=("zcu102-1>zcu102-0",)), *x.hops[1:])},
        {"hops": (replace(h, target="nobody"), *x.hops[1:])}, {"inputs": not x.inputs},
    ):  # fmt: skip
        assert any(f.code == "FVC220" for f in check_plan(edited(**change), graph, cluster)), change
    layer = replace(plan.layers[at], xfer=())
    findings = check_plan(replace(plan, layers=(*plan.layers[:at], layer, *plan.layers[at + 1 :])), graph, cluster)
    assert any(f.code == "FVC220" for f in findings)


def test_the_static_checker_needs_every_token_and_address() -> None:
    devices = "zcu102x2"
    plan = planned(devices, ("Pr", 2))
    found = set()
    for pair in ((Queue.RX, Queue.CX), (Queue.CX, Queue.RX), (Queue.LD, Queue.TX), (Queue.TX, Queue.LD)):
        programs = programs_of(plan, devices)
        core = programs[0].cores[0]
        posts = [i for i in core.queues[pair[0]] if i.post >> pair[1] & 1]
        waits = [i for i in core.queues[pair[1]] if i.wait >> pair[0] & 1]
        assert posts, pair
        posts[-1].post &= ~(1 << pair[1])
        waits[-1].wait &= ~(1 << pair[0])
        codes = {f.code for f in check_programs(programs)}
        assert codes & {"FVC324", "FVC326"}, pair
        found |= codes
    assert "FVC326" in found
    for name, value in (("part_addr", 64), ("dram_addr", 64), ("n1", 2), ("wgt", -1)):
        programs = programs_of(plan, devices)
        share = next(i for i in programs[0].cores[0].queues[Queue.RX] if i.fields.get("wgt"))
        share.fields[name] = share.fields.get(name, 0) + value
        assert check_programs(programs), name


def test_layers_whose_slices_need_other_inputs_share_none() -> None:
    """A depthwise layer by channels: a plan that says otherwise is found out."""
    plan, graph = planned("zcu102x2", ("Pm", 2)), case()[1]
    at = next(k for k, n in enumerate(graph.nodes) if getattr(n, "groups", 1) > 1)
    layer = plan.layers[at]
    assert len(layer.slices) == 2 and not layer.xfer
    own = tuple(replace(s, memory=input_share_name(k, 2)) for k, s in enumerate(layer.slices))
    x = next(x for other in plan.layers for x in other.xfer)
    edited = replace(layer, slices=own, xfer=(replace(x, tasks=tuple(s.task for s in own)),))
    found = check_plan(
        replace(plan, layers=(*plan.layers[:at], edited, *plan.layers[at + 1 :])), graph, load_cluster("zcu102x2")
    )
    assert any(f.code == "FVC220" and "parts of the input" in f.what for f in found)


@pytest.mark.parametrize(
    "pair",
    [(Queue.RX, Queue.CX), (Queue.LD, Queue.TX), (Queue.LD, Queue.RX), (Queue.TX, Queue.LD), (Queue.RX, Queue.TX)],
)
def test_the_static_checker_needs_the_tokens_of_inputs(pair: tuple[Queue, Queue]) -> None:
    """Left out, passed too early or too late."""
    plan = planned("zcu102x3", ("Pm", 3), topology="chain")
    programs = programs_of(plan, "zcu102x3", "chain")
    core = programs[1].cores[0]  # in the middle: it passes on what it gets
    posts = [i for i in core.queues[pair[0]] if i.post >> pair[1] & 1]
    waits = [i for i in core.queues[pair[1]] if i.wait >> pair[0] & 1]
    assert len(posts) >= 3
    missed = 0
    for a, b in zip(posts, waits, strict=True):
        a.post &= ~(1 << pair[1])
        b.wait &= ~(1 << pair[0])
        missed += not {f.code for f in check_programs(programs)} & {"FVC324", "FVC325", "FVC326"}
        a.post |= 1 << pair[1]
        b.wait |= 1 << pair[0]
    # What is sent from a slot may be through anyway when the slot comes round.
    assert missed <= (len(posts) // 2 if pair == (Queue.TX, Queue.LD) else 0)
    for queue, mask, other, listed in ((pair[0], "post", pair[1], posts), (pair[1], "wait", pair[0], waits)):
        for i in listed[:3]:
            at = core.queues[queue].index(i)
            for near in (at - 1, at + 1):
                moved = core.queues[queue][near % len(core.queues[queue])]
                if getattr(moved, mask) >> other & 1:
                    continue
                for x, bit in ((i, 0), (moved, 1)):
                    setattr(x, mask, getattr(x, mask) & ~(1 << other) | bit << other)
                assert check_programs(programs), (pair, mask, at, near)
                for x, bit in ((i, 1), (moved, 0)):
                    setattr(x, mask, getattr(x, mask) & ~(1 << other) | bit << other)
    assert not check_programs(programs)


@pytest.mark.parametrize("op", [Queue.TX, Queue.RX])
@pytest.mark.parametrize(("name", "value"), [("part_addr", 64), ("dram_addr", 64), ("n1", 2), ("act", -1), ("wgt", 1)])
def test_the_static_checker_reads_every_field_of_a_part(op: Queue, name: str, value: int) -> None:
    programs = programs_of(planned("zcu102x2", ("Pm", 2)), "zcu102x2")
    part = next(i for i in programs[0].cores[0].queues[op] if i.fields.get("act"))
    part.fields[name] = part.fields.get(name, 0) + value
    assert check_programs(programs)


def test_it_belongs_to_latency_plans() -> None:
    with pytest.raises(FvcError, match="latency") as caught:
        partition(case()[1], load_cluster("zcu102x2"), PartitionOptions(xfer="always"))
    assert caught.value.code == "FVC201"
    with pytest.raises(FvcError, match="xfer"):
        PartitionOptions(xfer="maybe").validate()


@pytest.mark.parametrize("factor", ["Pr", "Pm"])
def test_cores_of_one_die_share_without_a_link(factor: str) -> None:
    plan = planned("zcu102", (factor, 2), cores=2)
    assert {h.route for layer in plan.layers for x in layer.xfer for h in x.hops} == {()}
    assert_runs(programs_of(plan, "zcu102"))


def test_copies_on_unlike_boards_share_each_by_itself() -> None:
    """Their tasks lie between one another in the global order, and not in the same way."""
    plan = planned("u250+u50", replicas=2)
    shared = [{s.replica for s in layer.slices if s.task in x.tasks} for layer in plan.layers for x in layer.xfer]
    assert {0} in shared
    assert_runs(programs_of(plan, "u250+u50"))
