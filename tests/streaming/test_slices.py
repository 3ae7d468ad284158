"""Layers cut by rows and columns of their matrix: exact on any dies, judged, refused where it cannot be."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.executor.verify import verify_programs
from compiler.frontend import ImportOptions, load_model
from compiler.ir.graph import Graph
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.ops.stream.sliced import Cut, Cuts, Part, as_cuts, bounds, expand, legal, most
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.slicing import refuted
from compiler.plan.io import parse_plan, write_plan
from compiler.schedule import schedule
from compiler.simulator import host_tasks, simulate
from device_db import load_cluster
from device_db.errors import FvcError
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST
from tests.streaming.test_binaries import LOW_BIT, anyhow


def quantised(node: str, x: tuple[int, ...], w: tuple[int, ...], bias: int, **attributes: object) -> onnx.ModelProto:
    """One QLinearConv or QLinearMatMul with seeded weights and zero points that are not zero."""
    rng = np.random.default_rng(7)
    values = {
        "xs": np.float32(0.05), "xz": np.uint8(7), "w": rng.integers(-90, 90, w).astype(np.int8),
        "ws": np.float32(0.02), "wz": np.int8(0), "ys": np.float32(0.31), "yz": np.uint8(111),
    }  # fmt: skip
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if bias:
        values["b"] = rng.integers(-900, 900, bias).astype(np.int32)
        names.append("b")
    graph = helper.make_graph(
        [helper.make_node(node, names, ["y"], name="layer", **attributes)], "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, x)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


# Odd channel counts, a stride with pads, groups, depthwise, a window as large as the image, a batch of vectors.
LAYERS = {
    "odd": quantised("QLinearConv", (1, 7, 9, 9), (11, 7, 3, 3), 11, pads=[1, 1, 1, 1], strides=[2, 2]),
    "groups": quantised("QLinearConv", (1, 15, 6, 6), (10, 3, 3, 3), 10, group=5),
    "depthwise": quantised("QLinearConv", (1, 7, 8, 8), (7, 1, 3, 3), 7, group=7, pads=[1, 1, 1, 1]),
    "whole window": quantised("QLinearConv", (1, 12, 4, 4), (9, 12, 4, 4), 9),
    "pointwise": quantised("QLinearConv", (1, 24, 5, 5), (13, 24, 1, 1), 13, strides=[2, 2]),
    "vectors": quantised("QLinearMatMul", (1, 5, 21), (21, 10), 0),
}


def cuts_anyhow(graph: Graph, seed: int) -> Cuts:
    """Every layer cut in some legal way."""
    draw = random.Random(seed)
    cuts = {}
    for n in graph.nodes:
        limit = most(n)
        cut = Cut(min(limit.rows, draw.choice([1, 2, 3, 5, 9])), min(limit.columns, draw.choice([1, 1, 2, 3, 10])))
        if legal(n, cut):
            cuts[n.name] = cut
    return as_cuts(cuts)


def cut_anyhow(graph: Graph, seed: int) -> Graph:
    return expand(graph, cuts_anyhow(graph, seed))


def exact(graph: Graph, cut: Graph, seed: int) -> None:
    found = anyhow(cut, seed)
    host = {s.name: s.model for s in graph.host_segments}
    report = verify_programs(found, graph.model, host, frames=2)
    assert report.passed and report.mismatches == 0
    # Folds drawn at random may be over a die's budget, and their FIFOs are the least: all else must hold.
    assert {f.code for f in check_programs(found)} <= {"FVC344", "FVC345"}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_cut_anyhow_on_any_dies_computes_the_same(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "layer.onnx"
    onnx.save(LAYERS[name], path)
    graph = load_model(path, ImportOptions())
    sliced = 0
    for seed in (0, 1):
        cut = cut_anyhow(graph, seed)
        sliced += any(isinstance(n, Part) for n in cut.nodes)
        exact(graph, cut, seed)
    assert sliced


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=[pytest.mark.slow] if k else [], id=p.stem) for k, p in enumerate(LOW_BIT)]
)
def test_low_bit_nets_cut_anyhow_are_computed_exactly(path) -> None:  # type: ignore[no-untyped-def]
    graph = load_model(path, ImportOptions())
    exact(graph, cut_anyhow(graph, 3), 3)


def test_bounds_cover_and_keep_lanes() -> None:
    for extent in range(1, 70):
        for parts in range(1, min(extent, 9) + 1):
            b = bounds(extent, parts)
            assert (b[0], b[-1], len(b)) == (0, extent, parts + 1) and all(x < y for x, y in pairwise(b))
            if extent % parts == 0:
                assert {y - x for x, y in pairwise(b)} == {extent // parts}
    assert all(x % 4 == 0 for x in bounds(96, 5))


def test_copies_of_a_net_with_cut_layers() -> None:
    graph, cluster = digits(), load_cluster("u280")
    options = PartitionOptions(
        style="streaming", host_ns=FAST_HOST, time_limit_s=4.0, force_split=(("Pn", 2),), replicas=2
    )
    plan = partition(graph, cluster, options)
    assert check_plan(plan, graph, cluster) == [] and plan.replicas == 2
    tasks = [s.task for x in plan.layers for s in x.slices]
    assert len(tasks) == len(set(tasks))
    found = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert check_programs(found) == []
    host = {s.name: s.model for s in graph.host_segments}
    assert verify_programs(found, graph.model, host, frames=4).passed
    assert {t.task for t in simulate(found, None, host_tasks(host, FAST_HOST)).tasks} == set(tasks)


FORCED = [(("Pm", 2),), (("Pn", 2),), (("Pm", 3), ("Pn", 2)), (("Pm", 11),)]


@pytest.mark.parametrize("factors", FORCED, ids=lambda f: ",".join(f"{k}={n}" for k, n in f))
def test_forced_slices_are_planned_built_and_timed(factors: tuple) -> None:
    graph, cluster = digits(), load_cluster("u280")
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=4.0, force_split=factors)
    plan = partition(graph, cluster, options)
    assert parse_plan(write_plan(plan)) == plan
    assert check_plan(plan, graph, cluster) == []
    cut = [x for x in plan.layers if x.strategy != "whole"]
    assert cut and all(len(x.slices) == np.prod([int(t[3:]) for t in x.strategy.split(",")]) + 1 for x in cut)
    assert any("layers are sliced" in f for f in plan.fallbacks)
    found = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert check_programs(found) == []
    host = {s.name: s.model for s in graph.host_segments}
    assert verify_programs(found, graph.model, host, frames=2).passed
    played = simulate(found, None, host_tasks(host, FAST_HOST))
    assert abs(played.interval_ps / 1000 - plan.predicted["interval_ns"]) <= 0.05 * plan.predicted["interval_ns"]
    assert abs(played.latency_ps / 1000 - plan.predicted["latency_ns"]) <= 0.05 * plan.predicted["latency_ns"]
    assert {t.task for t in played.tasks} == {s.task for x in plan.layers for s in x.slices}


def test_an_edited_slice_is_found() -> None:
    graph, cluster = digits(), load_cluster("u280")
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=4.0, force_split=(("Pn", 2),))
    plan = partition(graph, cluster, options)
    document = json.loads(write_plan(plan))
    layer = next(k for k, x in enumerate(document["layers"]) if x["strategy"] == "Pn=2")

    def judged(act) -> list[str]:  # type: ignore[no-untyped-def]
        fresh = json.loads(write_plan(plan))
        act(fresh["layers"][layer])
        return [f.code for f in check_plan(parse_plan(json.dumps(fresh)), graph, cluster)]

    def text(key: str, value: object):  # type: ignore[no-untyped-def]
        return lambda x: x["slices"][0].__setitem__(key, value)

    for act in (text("role", "full"), text("reduce_to", 3), text("box", [0, 1, 0, 1, 0, 1, 0, 1]), text("cycles", 1),
                lambda x: x.__setitem__("strategy", "Pn=3"), lambda x: x.__setitem__("strategy", "Pr=2"),
                lambda x: x.__setitem__("strategy", "Pn=2,Pm=1"), lambda x: x["slices"].pop()):  # fmt: skip
        assert "FVC220" in judged(act)


@pytest.mark.parametrize(
    ("factors", "code", "exit_code"),
    [
        ((("Pm", 100),), "FVC215", 1),
        ((("Pn", 33),), "FVC215", 1),
        ((("Pm", 9), ("Pn", 9)), "FVC215", 1),
        ((("Pr", 2),), "FVC201", 2),
    ],
    ids=str,
)
def test_a_factor_larger_than_the_dimension(factors: tuple, code: str, exit_code: int) -> None:
    with pytest.raises(FvcError) as caught:
        partition(digits(), load_cluster("u280"), PartitionOptions(style="streaming", force_split=factors))
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert caught.value.help


SMALL = Path(__file__).parents[1] / "data" / "boards" / "small.toml"  # two dies, of which none holds these layers
DENSE = {
    "fc": quantised("QLinearConv", (1, 320, 1, 1), (517, 320, 1, 1), 517),
    "conv": quantised("QLinearConv", (1, 128, 6, 6), (129, 128, 3, 3), 129, pads=[1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", DENSE)
def test_a_layer_too_large_for_a_die_is_cut(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "layer.onnx"
    onnx.save(DENSE[name], path)
    graph, cluster = load_model(path, ImportOptions()), load_cluster(str(SMALL))
    plan = partition(graph, cluster, PartitionOptions(style="streaming", time_limit_s=4.0))
    assert check_plan(plan, graph, cluster) == []
    (layer,) = plan.layers
    assert layer.strategy != "whole" and len({e.die for e in plan.engines}) == 2
    assert any("fits no die" in n for n in plan.solver.notes)
    assert 0 < plan.solver.bound <= plan.solver.objective
    found = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert check_programs(found) == []
    assert verify_programs(found, graph.model, {s.name: s.model for s in graph.host_segments}, frames=2).passed
    # A bound over whole layers and cuts is none if a plan of any of its cuts is below it.
    for factors in ((("Pm", 4),), (("Pn", 4),), (("Pm", 3),)):
        try:
            other = partition(
                graph, cluster, PartitionOptions(style="streaming", time_limit_s=4.0, force_split=factors)
            )
        except FvcError as refusal:
            assert refusal.exit_code == 1
            continue
        if any(f"{f}={n}" in plan.solver.notes[-1] for f, n in factors):
            assert other.solver.objective >= plan.solver.bound


def refuted_by_trial(groups: list, total: np.ndarray) -> bool:  # type: ignore[type-arg]
    """Every way and option of every layer tried."""
    choices = [[sum(pick) for way in ways if way is not None for pick in product(*way)] for ways in groups]
    return not any((sum(pick) <= total).all() for pick in product(*choices))


@pytest.mark.parametrize("seed", range(40))
def test_what_prices_refute_fits_in_no_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = [
        [
            None if rng.random() < 0.1 else [rng.integers(0, 9, (int(rng.integers(1, 4)), 3)) for _ in range(parts)]
            for parts in (1, 2, 3)[: int(rng.integers(1, 4))]
        ]
        for _ in range(3)
    ]
    total = rng.integers(3, 20, 3)
    if refuted(groups, total):
        assert refuted_by_trial(groups, total)


def test_pieces_that_overlap_or_that_nothing_joins() -> None:
    graph, cluster = digits(), load_cluster("u280")
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=4.0, force_split=(("Pm", 2),))
    plan = partition(graph, cluster, options)
    for edit, code in ((0, "FVC347"), (1, "FVC340"), (2, "FVC347")):
        programs = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
        rows = programs[0].fabric.rows
        pieces = [k for k, r in enumerate(rows) if r.role == "piece"]
        a, b = pieces[:2]
        if edit == 0:  # the second says that it is the first
            rows[b] = replace(rows[b], box=rows[a].box)
        elif edit == 1:
            rows[a] = replace(rows[a], box=(0, 1, 0, 99, 0, 8, 0, 8))
        else:
            whole = next(k for k, r in enumerate(rows) if r.role == "output" and r.tensor == rows[a].tensor)
            rows[whole] = replace(rows[whole], role="inner", tensor="", dtype="", shape=())
        assert code in {f.code for f in check_programs(programs)}
