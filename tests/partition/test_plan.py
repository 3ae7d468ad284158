"""Whole plans: legal, at or near the bound, the same twice, and as the options ask."""

from __future__ import annotations

import pytest

from compiler.ops.boxes import box_elements
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.plan.io import write_plan
from compiler.plan.model import Plan
from device_db import load_cluster
from device_db.errors import FvcError
from tests.partition.graphs import residual

FAST = 2.0  # deterministic seconds


def plan_of(devices: str, **options: object) -> Plan:
    return partition(GRAPH, load_cluster(devices), PartitionOptions(time_limit_s=FAST, **options))  # type: ignore[arg-type]


GRAPH = residual()


@pytest.mark.parametrize("devices", ["u280", "u280x2", "zcu102x2", "pynq-z2", "u280+zcu102"])
@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_legal_and_bounded(devices: str, objective: str) -> None:
    plan = plan_of(devices, objective=objective)
    assert check_plan(plan, GRAPH, load_cluster(devices)) == []
    assert 0 < plan.solver.bound <= plan.solver.objective
    assert plan.solver.status == ("OPTIMAL" if plan.solver.gap == 0 else "FEASIBLE")
    stages = {s.stage for layer in plan.layers for s in layer.slices}
    assert (stages == {0}) == (objective == "latency")


def test_the_same_plan_twice() -> None:
    assert write_plan(plan_of("u280x2")) == write_plan(plan_of("u280x2"))


def test_more_devices_are_not_slower() -> None:
    one, two = plan_of("u280"), plan_of("u280x2")
    assert two.predicted["interval_ns"] <= one.predicted["interval_ns"]


def test_anchor() -> None:
    plan = plan_of("u280", anchors=(("conv1a", "u280-0/SLR2"),))
    (layer,) = (x for x in plan.layers if x.name == "conv1a")
    assert {s.engine for s in layer.slices} == {"u280-0/SLR2/0"}


def test_forbidden_cut_keeps_layers_together() -> None:
    plan = plan_of("u280", forbidden_cuts=(("conv0a", "conv1b"),))
    where = {x.name: {s.engine for s in x.slices} for x in plan.layers}
    assert where["conv0a"] == where["conv1b"]
    assert len(where["conv0a"]) == 1


@pytest.mark.parametrize("factor", ["Pm", "Pn"])
@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_forced_split(factor: str, objective: str) -> None:
    plan = plan_of("u280", force_split=((factor, 2),), objective=objective)
    assert check_plan(plan, GRAPH, load_cluster("u280")) == []
    convs = [x for x in plan.layers if x.op == "QLinearConv"]
    assert all(x.strategy == f"{factor}=2" for x in convs)
    if factor == "Pn":
        for x in convs:  # each engine has partial sums of everything, and adds up its half of the result
            assert [s.role for s in x.slices] == ["partial", "partial", "reduce", "reduce"]
            whole, *halves = (s.box for s in x.slices[1:])
            assert sum(box_elements(b) for b in halves) == box_elements(whole)
            assert len({s.engine for s in x.slices[2:]}) == 2


def test_replicas_share_nothing_and_divide_the_interval() -> None:
    plan = plan_of("u280x2", replicas=2)
    assert check_plan(plan, GRAPH, load_cluster("u280x2")) == []
    for layer in plan.layers:
        assert {s.replica for s in layer.slices} == {0, 1}
    one = plan_of("u280")
    assert plan.predicted["interval_ns"] <= one.predicted["interval_ns"] * 0.55


def test_auto_replicas_are_reported_beside_the_default() -> None:
    auto = plan_of("u280x2").predicted["replicas_auto"]
    assert auto["replicas"] >= 1
    assert auto["fps"] > 0


def test_cores_a_device() -> None:
    assert len(plan_of("u280", cores=1).engines) == 1
    many = plan_of("u280", cores=4)
    assert len(many.engines) == 4
    assert check_plan(many, GRAPH, load_cluster("u280")) == []


def test_external_memory_keeps_nothing_on_chip() -> None:
    plan = plan_of("zcu102", memory="external")
    assert {s.memory for layer in plan.layers for s in layer.slices} == {"stream"}


def test_min_devices_takes_the_fewest() -> None:
    one = plan_of("u280")
    plan = plan_of("u280x4", min_devices=True, target_fps=float(one.predicted["fps"]) * 0.9)
    assert {e.device for e in plan.engines} == {"u280-0"}


def test_host_segments_are_stages_of_their_own() -> None:
    graph = residual(tail=True)
    cluster = load_cluster("u280")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=FAST))
    (host,) = plan.host_segments
    last = next(x for x in plan.layers if x.name == "pool").slices[0]
    assert host.stage == last.stage + 1
    assert host.time_ns == 50_000
    assert plan.predicted["interval_ns"] >= 50_000
    assert check_plan(plan, graph, cluster) == []
    measured = partition(graph, cluster, PartitionOptions(time_limit_s=FAST, host_ns={"host0": 1234}))
    assert measured.host_segments[0].time_ns == 1234


@pytest.mark.parametrize(
    ("split", "says"), [(("Pm", 64), "needs 64 engines, 12"), (("Pb", 2), "no layer can be cut into so many")]
)
def test_a_split_that_no_layer_allows_is_refused(split: tuple[str, int], says: str) -> None:
    with pytest.raises(FvcError) as caught:
        partition(residual(), load_cluster("u280x4"), PartitionOptions(time_limit_s=0.5, force_split=(split,)))
    assert (caught.value.code, caught.value.exit_code) == ("FVC215", 1)
    assert says in caught.value.what


def test_weights_live_where_memory_says() -> None:
    """Any URAM of a tiled engine is its weight memory: `bram` has none, `uram` some, and needs a board that has it."""
    graph = residual()
    used = {
        memory: partition(graph, load_cluster("u280"), PartitionOptions(time_limit_s=0.5, memory=memory)).engines
        for memory in ("bram", "uram")
    }
    assert all(e.resources.uram == 0 for e in used["bram"])
    assert all(e.resources.uram > 0 for e in used["uram"])
    with pytest.raises(FvcError) as caught:
        partition(graph, load_cluster("zcu102"), PartitionOptions(time_limit_s=0.5, memory="uram"))
    assert caught.value.code == "FVC202" and "URAM" in caught.value.what and "--memory auto" in caught.value.help
