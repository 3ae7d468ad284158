"""Slices by rows, columns and batch: grids, needs, forced factors, the judge, rows for the latency."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from math import lcm

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.executor.golden import run_graph
from compiler.executor.machine import Machine
from compiler.ir.graph import DType, Graph
from compiler.isa import read_device, write_device
from compiler.isa.check import check_programs
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.grids import bounds, make_grid
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.simulator import simulate
from device_db import load_cluster
from device_db.errors import FvcError
from tests.ops.graphs import Builder
from tests.partition.graphs import residual


def rows_graph(batch: int = 1) -> Builder:
    """Wide halos: a 7x7 kernel, a stride, a dilation, a pool across cuts, a depthwise, an add, a table; odd sizes."""
    b = Builder(3, DType.U8)
    x = b.input((batch, 5, 19, 13))
    x = b.conv(x, 12, (7, 3), pads=(3, 1, 3, 1))
    y = b.conv(x, 12, (3, 3), pads=(2, 2, 2, 2), dilations=(2, 2), groups=12)
    x = b.table(b.binary(x, y, "add"), False)
    x = b.pool(x, "max", (3, 3), (2, 2), (1, 1, 1, 1))
    x = b.conv(x, 16, (3, 3), (2, 1), (1, 1, 1, 1), groups=2)
    b.conv(b.pool(x, "average", (2, 2), (1, 1), (0, 0, 0, 0)), 9)
    return b


@cache
def case(batch: int = 1) -> tuple[Builder, Graph]:
    b = rows_graph(batch)
    return b, b.graph()


def forced(objective: str, devices: str, *factors: tuple[str, int], batch: int = 1) -> Plan:
    options = PartitionOptions(objective=objective, time_limit_s=0.2, force_split=factors)
    return partition(case(batch)[1], load_cluster(devices), options)


def assert_runs(plan: Plan, devices: str, batch: int = 1) -> None:
    b, graph = case(batch)
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, load_cluster(devices))]
    assert not check_programs(programs)
    frames = [b.frame() for _ in range(3)]
    for frame, got in zip(frames, Machine(programs).run(frames), strict=True):
        golden = run_graph(graph, frame)
        for name in graph.outputs:
            assert np.array_equal(got[name].reshape(-1), golden[name].reshape(-1)), name


@given(st.integers(1, 200), st.sampled_from([1, 2, 3, 8]), st.integers(1, 20), st.sampled_from(["Pr", "Pm"]))
def test_bounds_are_even_on_quanta_and_cover(extent: int, quantum: int, parts: int, factor: str) -> None:
    got = bounds(extent, quantum, parts, factor)
    if -(-extent // quantum) < parts:
        assert got is None
        return
    assert got is not None and got[0] == 0 and got[-1] == extent and len(got) == parts + 1
    sizes = [b - a for a, b in pairwise(got)]
    assert min(sizes) >= 1 and all(p % quantum == 0 for p in got[:-1])
    step = lcm(quantum, 8) if factor == "Pm" and all(p % 8 == 0 for p in got[:-1]) else quantum
    assert max(sizes) - min(sizes) < 2 * step


SPLITS = (("Pm", 1, 24, 4), ("Pb", 0, 2, 1), ("Pr", 2, 11, 1), ("Pc", 3, 7, 1), ("Pn", -1, 10, 1))


@settings(max_examples=60)
@given(st.fixed_dictionaries({f: st.integers(1, 3) for f in ("Pb", "Pr", "Pc", "Pm", "Pn")}))
def test_grids_cover_everything_once(wanted: dict[str, int]) -> None:
    box = (0, 2, 0, 24, 0, 11, 0, 7)
    grid = make_grid(box, SPLITS, wanted, 10)
    if wanted["Pb"] > 2 or all(n == 1 for n in wanted.values()):
        assert grid is None
        return
    assert grid is not None
    work = np.zeros((2, 24, 11, 7, 10), int)
    done = np.zeros((2, 24, 11, 7), int)
    for c in grid.cells:
        at = tuple(slice(c.box[2 * a], c.box[2 * a + 1]) for a in range(4))
        if c.role != "reduce":
            work[(*at, slice(c.reduce_from, c.reduce_to))] += 1
        if c.role != "partial":
            done[at] += 1
    assert (work == 1).all() and (done == 1).all()
    assert {c.place for c in grid.cells if c.role != "reduce"} == set(range(grid.places))
    assert grid.name == ",".join(f"{f}={wanted[f]}" for f in ("Pb", "Pr", "Pc", "Pm", "Pn") if wanted[f] > 1)


FACTORS = [
    (("Pr", 2),), (("Pc", 2),), (("Pm", 2),), (("Pn", 2),), (("Pr", 5),), (("Pr", 6), ("Pc", 2)),
    (("Pr", 2), ("Pm", 2)), (("Pr", 3), ("Pn", 2)), (("Pr", 2), ("Pc", 2), ("Pm", 3)),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("factors", FACTORS, ids=lambda f: ",".join(f"{k}={n}" for k, n in f))
def test_forced_factors_run_staged(factors: tuple[tuple[str, int], ...]) -> None:
    test_forced_factors_run(factors, "throughput")


@pytest.mark.parametrize("objective", ["latency"])
@pytest.mark.parametrize("factors", FACTORS, ids=lambda f: ",".join(f"{k}={n}" for k, n in f))
def test_forced_factors_run(factors: tuple[tuple[str, int], ...], objective: str) -> None:
    plan = forced(objective, "u280x4", *factors)
    name = ",".join(f"{k}={n}" for k, n in factors)
    assert name in {x.strategy for x in plan.layers}
    assert_runs(plan, "u280x4")


def test_forced_batch_runs() -> None:
    plan = forced("latency", "zcu102x2", ("Pb", 2), batch=3)
    assert {x.strategy for x in plan.layers} == {"Pb=2"}
    assert_runs(plan, "zcu102x2", batch=3)


@pytest.mark.parametrize("devices", ["zcu102x2", "u280x4"])
def test_row_slices_move_halos_only(devices: str) -> None:
    """On two engines in the latency plan, a layer sends the rows that the other half's window reaches."""
    plan = forced("latency", devices, ("Pr", 2))
    graph = case()[1]
    node = graph.nodes[1]  # depthwise 3x3, dilation 2: reaches two rows over the cut of its input
    cut = plan.layers[0].slices[0].box[5]
    sent = {(c.box[4], c.box[5]) for c in plan.channels if c.tensor == node.x and "host" not in (c.source, c.target)}
    assert plan.layers[0].slices[1].box[4] == cut == plan.layers[1].slices[0].box[5]
    assert sent == {(cut - 2, cut), (cut, cut + 2)}


def test_a_halo_larger_than_the_neighbour_comes_from_several() -> None:
    """Six slices of about three rows; the 7x7 kernel and the dilated one reach over a whole neighbour and more."""
    b = Builder(5, DType.S8)
    b.conv(b.table(b.input((1, 4, 12, 6)), False), 8, (9, 3), pads=(4, 1, 4, 1))
    graph, cluster = b.graph(), load_cluster("u280x4")
    plan = partition(graph, cluster, PartitionOptions(objective="latency", time_limit_s=0.2, force_split=(("Pr", 6),)))
    middle = plan.layers[1].slices[3]
    sources = {c.source for c in plan.channels if c.target == middle.engine and c.tensor == graph.nodes[1].x}
    assert len(sources) >= 4
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert not check_programs(programs)
    frame = b.frame()
    got, golden = Machine(programs).run([frame])[0], run_graph(graph, frame)
    assert all(np.array_equal(got[n].reshape(-1), golden[n].reshape(-1)) for n in graph.outputs)


@pytest.mark.parametrize(
    ("factors", "devices", "word"),
    [
        ((("Pr", 3),), "zcu102x2", "engines"),
        ((("Pr", 2), ("Pm", 2)), "zcu102x2", "engines"),
        ((("Pb", 2),), "zcu102x2", "samples"),
        ((("Pc", 14),), "zcu102x16", "columns"),
    ],
)
def test_factors_that_do_not_fit_are_refused(factors: tuple[tuple[str, int], ...], devices: str, word: str) -> None:
    with pytest.raises(FvcError) as error:
        forced("latency", devices, *factors)
    assert error.value.code == "FVC215" and word in error.value.what and error.value.help
    assert (factors[0][0] == "Pb") == any("--batch 2" in line for line in error.value.help)


@pytest.mark.parametrize("factors", [(("Px", 2),), (("Pr", 0),), (("Pr", 2), ("Pr", 3))])
def test_factors_without_meaning_are_refused(factors: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(FvcError) as error:
        PartitionOptions(force_split=factors).validate()
    assert error.value.code == "FVC201"


def test_layers_too_small_for_a_factor_stay_whole_and_are_named() -> None:
    plan = forced("latency", "zcu102x8", ("Pr", 8))
    whole = [x.name for x in plan.layers if x.strategy == "whole"]
    notes = " ".join(plan.solver.notes)
    assert whole and len(whole) < len(plan.layers)
    assert all(f"{name} (" in notes for name in whole)


def found(plan: Plan) -> str:
    return "\n".join(str(f) for f in check_plan(plan, case()[1], load_cluster("zcu102x2")))


def test_the_judge_catches_wrong_halos_and_cuts() -> None:
    plan = forced("latency", "zcu102x2", ("Pr", 2))
    assert not found(plan)
    at = next(i for i, c in enumerate(plan.channels) if "host" not in (c.source, c.target) and c.box[5] - c.box[4] > 1)
    halo = plan.channels[at]
    b = list(halo.box)
    b[5] -= 1
    short = replace(halo, box=tuple(b), bits_per_frame=halo.bits_per_frame * (b[5] - b[4]) // (b[5] - b[4] + 1))
    assert "no channel" in found(replace(plan, channels=(*plan.channels[:at], short, *plan.channels[at + 1 :])))
    assert "no channel" in found(replace(plan, channels=(*plan.channels[:at], *plan.channels[at + 1 :])))

    layer = plan.layers[0]
    box = list(layer.slices[1].box)
    box[4] += 1
    gap = replace(layer, slices=(layer.slices[0], replace(layer.slices[1], box=tuple(box))))
    assert "exactly once" in found(replace(plan, layers=(gap, *plan.layers[1:])))
    named = replace(layer, strategy="Pm=2")
    assert "strategy" in found(replace(plan, layers=(named, *plan.layers[1:])))


def test_the_judge_knows_what_may_be_cut() -> None:
    """A transposition is one run of bytes a slice: along its first long axis only."""
    b = Builder(7, DType.U8)
    b.transpose(b.input((1, 6, 8, 4)), (0, 2, 3, 1))
    graph, cluster = b.graph(), load_cluster("zcu102x2")
    options = PartitionOptions(objective="latency", time_limit_s=0.2, force_split=(("Pm", 2),))
    plan = partition(graph, cluster, options)
    assert not check_plan(plan, graph, cluster)
    one, two = plan.layers[0].slices
    parts = (replace(one, box=(0, 1, 0, 8, 0, 2, 0, 6)), replace(two, box=(0, 1, 0, 8, 2, 4, 0, 6)))
    rows = replace(plan, layers=(replace(plan.layers[0], slices=parts, strategy="Pr=2"),))
    assert any("does not allow" in str(f) for f in check_plan(rows, graph, cluster))


@pytest.mark.parametrize(
    ("objective", "factors"),
    [("latency", (("Pr", 2),)), ("throughput", (("Pr", 3),)), ("throughput", (("Pr", 2), ("Pm", 2)))],
)
def test_prediction_of_slices_against_the_simulator(objective: str, factors: tuple[tuple[str, int], ...]) -> None:
    graph, cluster = residual(blocks=3, side=56), load_cluster("u280x2")
    plan = partition(graph, cluster, PartitionOptions(objective=objective, time_limit_s=0.5, force_split=factors))
    real = simulate(schedule(graph, plan, cluster))
    assert plan.predicted["interval_ns"] == pytest.approx(real.interval_ns, rel=0.05)
    assert plan.predicted["latency_ns"] == pytest.approx(real.latency_ns, rel=0.05)


def test_rows_are_found_for_the_latency() -> None:
    """Large maps with few channels: two boards gain by rows what channels would pay in gathers of the whole input."""
    graph, cluster = residual(blocks=2, channels=32, side=112), load_cluster("zcu102x2")
    free = partition(graph, cluster, PartitionOptions(objective="latency", time_limit_s=1.0))
    best = free.predicted["latency_ns"]
    assert any("Pr" in x.strategy for x in free.layers)
    for factor in ("Pr", "Pm"):
        options = PartitionOptions(objective="latency", time_limit_s=1.0, force_split=((factor, 2),))
        assert best <= partition(graph, cluster, options).predicted["latency_ns"]
    alone = partition(graph, load_cluster("zcu102x1"), PartitionOptions(objective="latency", time_limit_s=1.0))
    assert best < 0.65 * alone.predicted["latency_ns"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("devices", "shape"), [("zcu102x2", (24, 6, 40)), ("zcu102x4", (10, 32, 24)), ("zcu102x3", (12, 8, 56))]
)
def test_free_cuts_are_never_slower_than_one_factor_for_all(devices: str, shape: tuple[int, int, int]) -> None:
    """Many layers, each a small part of the whole: left whole for that, they made every frame wait for one board."""
    blocks, channels, side = shape
    graph, cluster = residual(blocks=blocks, channels=channels, side=side), load_cluster(devices)
    best = partition(graph, cluster, PartitionOptions(objective="latency", time_limit_s=0.3)).predicted["latency_ns"]
    for factor in ("Pr", "Pc", "Pm", "Pn"):
        for xfer in ("auto", "never"):
            options = PartitionOptions(
                objective="latency", time_limit_s=0.3, force_split=((factor, len(cluster.devices)),), xfer=xfer
            )
            assert best <= partition(graph, cluster, options).predicted["latency_ns"], (factor, xfer)


@pytest.mark.parametrize("devices", ["zcu102x2", "u280x2"])
def test_more_ways_to_cut_never_make_a_plan_worse(devices: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, cluster = residual(blocks=3, channels=24, side=44), load_cluster(devices)
    options = PartitionOptions(time_limit_s=0.5)
    rich = partition(graph, cluster, options)
    monkeypatch.setattr(
        "compiler.partition.search.widened", lambda p, start, o, proof, host: ([], proof.bound, "prices")
    )
    plain = partition(graph, cluster, options)
    assert all("Pr" not in x.strategy for x in plain.layers)
    assert rich.solver.objective <= plain.solver.objective


def test_estimated_traffic_is_that_of_the_channels() -> None:
    """What the solvers count between two engines is what the plan's channels carry."""
    from compiler.partition.costs import CostBook
    from compiler.partition.defaults import ClusterRoutes, RealOps
    from compiler.partition.layout import places
    from compiler.partition.problem import HOST_SLOT, traffic
    from compiler.partition.search import make_slots, reference_khz
    from compiler.partition.solve.contiguous import pack
    from compiler.partition.tabulate import Tabulator, placement_problem

    graph, cluster = case()[1], load_cluster("u280x2")
    options = PartitionOptions(time_limit_s=0.2, force_split=(("Pr", 3),))
    plan = partition(graph, cluster, options)
    from compiler.partition.engines import EngineChoice

    here = places(cluster, None)
    book = CostBook(graph, RealOps())
    engines = EngineChoice(graph, cluster, here, book, reference_khz(cluster)).best(False)
    assert engines is not None
    slots = make_slots(cluster, here, engines, 0, 0)
    tab = Tabulator(graph, slots, book, book.ops, reference_khz(cluster), options)
    tab.whole()
    tab.slices()
    problem = placement_problem(tab, cluster, ClusterRoutes(cluster), options, range(len(slots)))
    allocation = pack(problem, 10**9)
    assert allocation is not None
    rank = {e.id: e.rank for e in plan.engines} | {"host": HOST_SLOT}
    where = {x.name: [rank[s.engine] for s in x.slices] for x in plan.layers}
    moved = {
        k: tuple(replace(s, slot=r) for s, r in zip(shares, where[graph.nodes[k].name], strict=True))
        for k, shares in allocation.items()
    }
    carried: dict[tuple[int, int], int] = {}
    for c in plan.channels:
        pair = (rank[c.source], rank[c.target])
        carried[pair] = carried.get(pair, 0) + c.bits_per_frame
    assert traffic(problem, moved) == carried


def test_forced_sums_that_take_longer_than_the_whole_layers() -> None:
    """Int32 sums of tiny layers through the memory of slow boards: the sweep looks far enough to find them."""
    b = Builder(3, DType.U8)
    x = b.conv(b.input((3, 8, 13, 5)), 8, (1, 3), (2, 1), (0, 2, 1, 2), (3, 2), 8)
    b.conv(x, 7, axes=(0, 3, 1, 2))
    options = PartitionOptions(time_limit_s=0.1, force_split=(("Pm", 2), ("Pn", 2)))
    plan = partition(b.graph(), load_cluster("u280+zcu102x2"), options)
    assert [x.strategy for x in plan.layers] == ["Pm=2", "Pm=2,Pn=2"]


def test_replicas_auto_leaves_each_the_engines_of_the_forced_slices() -> None:
    options = PartitionOptions(replicas=0, time_limit_s=0.2, force_split=(("Pr", 2),))
    plan = partition(case()[1], load_cluster("zcu102x4"), options)
    assert plan.replicas <= 2 and "Pr=2" in {x.strategy for x in plan.layers}


@pytest.mark.parametrize("devices", ["zcu102x2", "zcu102x4"])
def test_the_bound_knows_that_every_board_takes_its_part_of_the_input_from_the_host(devices: str) -> None:
    """Rows over boards come side by side, and a strided layer leaves out what lies behind its last window."""
    b = Builder(3, DType.U8)
    b.conv(b.input((1, 1, 256, 256)), 1, (1, 1), (4, 4), (0, 0, 0, 0))
    cut = (("Pr", int(devices[-1])),)
    options = PartitionOptions(objective="latency", time_limit_s=0.1, force_split=cut)
    solver = partition(b.graph(), load_cluster(devices), options).solver
    assert 0 < solver.bound <= solver.objective
