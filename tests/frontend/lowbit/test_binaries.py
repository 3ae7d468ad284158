"""Low-bit models through partitioner, scheduler and container: the binaries against ONNX Runtime, every tensor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compiler.executor.verify import verify_programs
from compiler.frontend import load_model, load_proto
from compiler.ir.graph import Conv, DType
from compiler.isa import write_device
from compiler.isa.check import check_programs
from compiler.isa.container import read_device
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.schedule import schedule
from device_db import load_cluster
from tests.frontend.judge import assert_exact
from tests.frontend.lowbit.models import Net

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


def test_a_wrong_weight_shows_in_the_accumulators() -> None:
    """Thresholds hide much: the judge compares the sums that they read too."""
    graph, cluster = load_model(DATA / "conv_w4a4_float.onnx"), load_cluster("u50")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1.0))
    layer = next(n for n in graph.nodes if isinstance(n, Conv))
    weight = layer.weight.copy()
    weight[0, 0, 0, 0] += 1
    wrong = replace(graph, steps=tuple(replace(s, weight=weight) if s is layer else s for s in graph.steps))
    report = verify_programs(
        schedule(wrong, plan, cluster), graph.model, {s.name: s.model for s in graph.host_segments}, frames=2
    )
    assert not report.passed
    assert any("accumulator" in str(t.failure()) for t in report.failures())


def test_the_last_layer_leaves_its_accumulators() -> None:
    graph = load_model(DATA / "conv_w1a1.onnx")
    last = next(n for n in graph.nodes if n.op == "MatMulInteger")
    assert graph.tensors[last.y].dtype == DType.I32
    assert all("MatMul" not in s.reason for s in graph.host_segments)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_sums_of_every_layout_leave_the_core(rank: int) -> None:
    """A convolution, a matrix product and one with channels last, each read in float."""
    b = Net(rank)
    x = b.quant("x", 0.5, 4)
    shape = {2: (3, 20), 3: (1, 6, 20), 4: (1, 20, 6, 5)}[rank]
    if rank == 4:
        y = b.op("Conv", [x, b.weight(9, 20, 3, 3, bits=3)], kernel_shape=[3, 3], pads=[1] * 4)
    else:
        y = b.op("MatMul", [x, b.op("Transpose", [b.weight(9, 20, bits=3)], perm=[1, 0])])
    graph, cluster = load_proto(b.model(shape, b.op("Sigmoid", [y]))), load_cluster("u50")
    assert [n.op for n in graph.nodes] == ["ConvInteger" if rank == 4 else "MatMulInteger"]
    assert_exact(graph)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1.0, force_split=(("Pm", 2),)))
    assert check_plan(plan, graph, cluster) == []
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert [f for f in check_programs(programs) if f.severity == "error"] == []
    assert verify_programs(programs, graph.model, {s.name: s.model for s in graph.host_segments}, frames=2).passed
