"""The prediction against sums that must hold, and against the simulator, which knows nothing of it."""

from __future__ import annotations

import dataclasses

import pytest

from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.partition.prediction.predict import predict
from compiler.schedule import schedule
from compiler.simulator import simulate
from device_db import load_cluster
from tests.partition.graphs import residual


@pytest.mark.parametrize("devices", ["u280x2", "zcu102x2", "pynq-z2"])
@pytest.mark.parametrize("objective", ["throughput", "latency"])
def test_against_the_simulator(devices: str, objective: str) -> None:
    graph, cluster = residual(blocks=4), load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=2, objective=objective))
    real = simulate(schedule(graph, plan, cluster))
    said = predict(plan, graph, cluster)
    assert said["latency_ns"] == pytest.approx(real.latency_ns, rel=0.05)
    assert said["interval_ns"] == pytest.approx(real.interval_ns, rel=0.05)
    clock = {e.id: e.parameters["clock_khz"] for e in plan.engines}
    for kind in ("steady", "latency"):
        off = sorted(
            abs(said["tasks"][t.task][f"{kind}_cycles"] * 10**9 / clock[t.engine] / getattr(t, f"{kind}_ps") - 1)
            for t in real.tasks
        )
        assert off[int(0.95 * (len(off) - 1))] <= 0.15, kind


@pytest.mark.parametrize(("side", "channels"), [(56, 32), (28, 128), (14, 256)])
def test_columns_of_other_engines_share_the_bank_with_loads_and_stores(side: int, channels: int) -> None:
    """Halos of columns are runs of a byte, a burst of the bank each: tasks beside them are slower, and they beside
    tasks and each other."""
    graph, cluster = residual(blocks=3, side=side, channels=channels), load_cluster("zcu102x2")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=2, objective="latency", force_split=(("Pc", 2),)))
    real = simulate(schedule(graph, plan, cluster))
    said = predict(plan, graph, cluster)
    assert said["latency_ns"] == pytest.approx(real.latency_ns, rel=0.05)
    assert said["interval_ns"] == pytest.approx(real.interval_ns, rel=0.05)
    clock = {e.id: e.parameters["clock_khz"] for e in plan.engines}
    for t in real.tasks:
        row = said["tasks"][t.task]
        assert row["latency_cycles"] * 10**9 / clock[t.engine] == pytest.approx(t.latency_ps, rel=0.15)


@pytest.mark.parametrize("topology", ["chain", "ring", "mesh", "switch"])
def test_gathers_of_all_by_all_share_links(topology: str) -> None:
    """Channels cut in four: everybody sends its part to all at once, over one and more hops."""
    graph, cluster = residual(blocks=3, side=28), load_cluster("zcu102x4", topology=topology)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1, objective="latency", force_split=(("Pm", 4),)))
    real = simulate(schedule(graph, plan, cluster))
    said = predict(plan, graph, cluster)
    assert said["latency_ns"] == pytest.approx(real.latency_ns, rel=0.02)
    assert said["interval_ns"] == pytest.approx(real.interval_ns, rel=0.02)


@pytest.mark.parametrize("devices", ["u280", "u280x4"])
def test_loads_of_absent_frames_hold_back_those_behind_them(devices: str) -> None:
    """In a single frame a core's loads stand at those of other frames, which wait for RX all the same: the weights of
    the layers behind do not come ahead, and these layers take longer than in the steady state."""
    graph, cluster = residual(blocks=4), load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=2))
    real = simulate(schedule(graph, plan, cluster))
    said = predict(plan, graph, cluster)["tasks"]
    clock = {e.id: e.parameters["clock_khz"] for e in plan.engines}
    assert any(said[t]["latency_cycles"] > said[t]["steady_cycles"] * 1.02 for t in said)
    for t in real.tasks:
        assert said[t.task]["latency_cycles"] * 10**9 / clock[t.engine] == pytest.approx(t.latency_ps, rel=0.01)


def test_prediction_is_what_the_plan_says() -> None:
    graph, cluster = residual(), load_cluster("u280")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1))
    again = predict(plan, graph, cluster)
    assert {k: plan.predicted[k] for k in again} == again


def test_no_interval_is_shorter_than_the_busiest_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """While buffers fill, results come sooner than they can for ever: a steady look of the play is not enough."""
    graph, cluster = residual(blocks=4), load_cluster("pynq-z2")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1))
    monkeypatch.setattr("compiler.partition.prediction.predict.steady_ps", lambda times, deepest: 1)
    hurried = dataclasses.replace(plan, predicted=predict(plan, graph, cluster))
    assert hurried.predicted["interval_ns"] < plan.predicted["interval_ns"]
    assert not [f for f in check_plan(hurried, graph, cluster) if "predicted.interval_ns" in f.where]


@pytest.mark.parametrize("devices", ["u280x4", "zcu102x2", "pynq-z2"])
def test_no_bound_is_above_what_is_predicted(devices: str) -> None:
    """The bound is made of what lies between barriers, which the prediction never goes below."""
    graph, cluster = residual(blocks=4), load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1))
    assert 0 < plan.solver.bound <= plan.solver.objective
    assert plan.solver.proved_by != "nothing"


def test_a_slower_host_is_felt() -> None:
    graph, cluster = residual(tail=True), load_cluster("u280")
    slow = partition(graph, cluster, PartitionOptions(time_limit_s=1, host_ns={"host0": 2_000_000}))
    assert slow.predicted["interval_ns"] >= 2_000_000
    assert slow.predicted["limiting"]["kind"] == "host"
    segments = tuple(dataclasses.replace(h, time_ns=1_000) for h in slow.host_segments)
    quick = predict(dataclasses.replace(slow, host_segments=segments), graph, cluster)
    assert slow.predicted["latency_ns"] - quick["latency_ns"] == pytest.approx(1_999_000, rel=0.01)
