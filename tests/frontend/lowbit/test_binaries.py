"""Low-bit models through partitioner, scheduler and container: the binaries against ONNX Runtime, every tensor."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.executor.verify import verify_programs
from compiler.frontend import load_model
from compiler.isa import write_device
from compiler.isa.check import check_programs
from compiler.isa.container import read_device
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.schedule import schedule
from device_db import load_cluster

DATA = Path(__file__).parents[2] / "data" / "qonnx"


@pytest.mark.parametrize("name, devices", [("conv_w1a1", "u50"), ("residual", "u50x2"), ("finn", "u50")])
def test_binaries_compute_the_integers(name: str, devices: str) -> None:
    graph, cluster = load_model(DATA / f"{name}.onnx"), load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1.0))
    assert check_plan(plan, graph, cluster) == []
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert [f for f in check_programs(programs) if f.severity == "error"] == []
    report = verify_programs(programs, graph.model, {s.name: s.model for s in graph.host_segments}, frames=3)
    assert report.passed and report.mismatches == 0


@pytest.mark.parametrize("force", [("Pn", 2), ("Pm", 2)], ids=lambda f: f[0])
def test_split_layers_compute_the_same(force: tuple[str, int]) -> None:
    """Partial sums of a split layer are added as int32 and then compared with the thresholds."""
    graph, cluster = load_model(DATA / "conv_w4a4_float.onnx"), load_cluster("u50")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1.0, force_split=(force,)))
    programs = schedule(graph, plan, cluster)
    assert verify_programs(programs, graph.model, {s.name: s.model for s in graph.host_segments}, frames=2).passed
