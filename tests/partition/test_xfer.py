"""Shared weights (XFER): trees of hops, the same integers over every topology, times, and what judges refuse."""

from __future__ import annotations

from collections import Counter
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
from compiler.ir.graph import DType, Graph
from compiler.isa import read_device, write_device
from compiler.isa.check import check_programs
from compiler.isa.program import DeviceProgram
from compiler.isa.table import Queue
from compiler.ops import share_bounds, share_name, share_of
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


def test_batch_slices_share_too() -> None:
    plan = planned("zcu102x2", ("Pb", 2), batch=2)
    assert all(layer.xfer for layer in plan.layers if layer.op == "Conv")
    assert_runs(programs_of(plan, "zcu102x2", batch=2), batch=2)


@pytest.mark.parametrize("devices", ["zcu102x2", "zcu102x4", "u250"])
def test_prediction_and_simulation_agree(devices: str) -> None:
    plan = planned(devices, FACTORS[devices])
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


def test_the_plan_checker_finds_every_edit() -> None:
    plan = planned("zcu102x3", ("Pr", 3))
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
        {"hops": (replace(h, target="nobody"), *x.hops[1:])},
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
    for name, value in (("wgt_addr", 64), ("dram_addr", 64), ("n1", 2), ("wgt", -1)):
        programs = programs_of(plan, devices)
        share = next(i for i in programs[0].cores[0].queues[Queue.RX] if i.fields.get("wgt"))
        share.fields[name] = share.fields.get(name, 0) + value
        assert check_programs(programs), name


def test_it_belongs_to_latency_plans() -> None:
    with pytest.raises(FvcError, match="latency") as caught:
        partition(case()[1], load_cluster("zcu102x2"), PartitionOptions(xfer="always"))
    assert caught.value.code == "FVC201"
    with pytest.raises(FvcError, match="xfer"):
        PartitionOptions(xfer="maybe").validate()
