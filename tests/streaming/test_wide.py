"""Layers of 9 to 16 bits on streaming engines: the binaries against ONNX Runtime, the plan against its judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from compiler.bundle import open_bundle
from compiler.executor.verify import verify_programs
from compiler.frontend import ImportOptions, load_model, load_proto
from compiler.ir.graph import Graph
from compiler.isa import write_device
from compiler.isa.check import check_programs
from compiler.isa.container import read_device
from compiler.isa.program import DeviceProgram
from compiler.judge import check_all, simulate_bundle
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.finn.names import peers
from compiler.partition.options import PartitionOptions
from compiler.pipeline import CompileOptions, compile_model
from compiler.plan.model import Plan
from compiler.schedule import schedule
from device_db import load_cluster
from device_db.errors import FvcError
from tests.frontend.lowbit.models import Net
from tests.frontend.lowbit.wide import perceptron, random_net
from tests.streaming.both_netlists import differences
from tests.streaming.test_slices import cuts_anyhow

DATA = Path(__file__).parents[1] / "data" / "qonnx" / "wide"
PATHS = sorted(DATA.glob("*.onnx"))
WIDE = ImportOptions(wide=True)
STREAMING = PartitionOptions(style="streaming", time_limit_s=1.0)


def compiled(graph: Graph, devices: str, options: PartitionOptions = STREAMING) -> tuple[Plan, list[DeviceProgram]]:
    """Plan and programs, judged."""
    cluster = load_cluster(devices)
    plan = partition(graph, cluster, options)
    assert check_plan(plan, graph, cluster) == []
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert [f for f in check_programs(programs) if f.severity == "error"] == []
    report = verify_programs(programs, graph.model, {s.name: s.model for s in graph.host_segments}, frames=3)
    assert report.passed and report.mismatches == 0
    return plan, programs


def units(programs: list[DeviceProgram]) -> list[str]:
    return [u.op for p in programs if p.fabric for u in p.fabric.units()]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_binaries_compute_the_integers(path: Path) -> None:
    compiled(load_model(path, WIDE), "u50")


def test_scales_of_powers_of_two_are_shifts() -> None:
    """1,023 steps a channel are one multiplication and a shift, halves to even; others stand as thresholds."""
    _, programs = compiled(load_proto(perceptron(1), WIDE), "u50")
    assert units(programs).count("REQ") == 2 and "THR" not in units(programs)
    _, programs = compiled(load_proto(perceptron(1, power=False, sizes=(6, 5, 4)), WIDE), "u50")
    assert "THR" in units(programs)


def test_accumulators_of_more_than_32_bits() -> None:
    graph = load_proto(perceptron(3, weights=16, activations=9, signed=True, sizes=(300, 4, 3)), WIDE)
    _, programs = compiled(graph, "u50")
    bits = [u.fields["y_bits"] for p in programs if p.fabric for u in p.fabric.units() if u.op == "MVAU"]
    assert max(bits) > 32


def test_parts_of_wide_layers() -> None:
    """Rows and columns, on two devices."""
    graph = load_proto(perceptron(1), WIDE)
    for force in ((("Pm", 2),), (("Pn", 2),), (("Pm", 2), ("Pn", 3))):
        compiled(graph, "u50x2", replace(STREAMING, force_split=force))


def test_weights_in_dram() -> None:
    _, programs = compiled(load_proto(perceptron(1), WIDE), "u50", replace(STREAMING, memory="external"))
    assert units(programs).count("MEM") == 3


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_both_netlists_are_one(path: Path) -> None:
    graph = load_model(path, WIDE)
    for seed in range(2):
        assert differences(graph, (), seed, copies=1 + seed, external=bool(seed)) == []
        assert differences(graph, cuts_anyhow(graph, seed), seed) == []


def test_tiled_engines_refuse() -> None:
    with pytest.raises(FvcError) as caught:
        partition(load_proto(perceptron(1), WIDE), load_cluster("u50"), PartitionOptions())
    assert caught.value.code == "FVC210"


@pytest.mark.parametrize("style", ["streaming", "auto", "tiled"])
def test_the_whole_way_in_each_style(style: str, tmp_path: Path) -> None:
    """The bundle checks, plays, and is read back; auto takes the quicker way, tiled engines leave wide layers out."""
    onnx.save(random_net(1), tmp_path / "net.onnx")
    asked = CompileOptions("u50", partition=PartitionOptions(style=style, time_limit_s=1.0), frames=2)
    try:
        made = compile_model(tmp_path / "net.onnx", asked, output=tmp_path / "out")
    except FvcError as refusal:
        assert style == "tiled" and refusal.code == "FVC213" and "--style streaming" in refusal.help[0]
        return
    assert made.verification is not None and made.verification.passed
    bundle = open_bundle(tmp_path / "out")
    assert check_all(bundle)[1] == []
    assert simulate_bundle(bundle, frames=None, trace=None)["predicted"] == {
        k: made.plan.predicted[k] for k in ("interval_ns", "latency_ns")
    }
    assert made.graph.wide if style == "streaming" else style == "auto" or not made.graph.wide


def test_finn_names_count_steps_that_are_shifts_here() -> None:
    """A REQ of a step function is a Thresholding there, a step function alone nothing but one."""
    kinds = [p.kind for p in peers(load_proto(perceptron(1), WIDE), 1)]
    assert kinds == ["Thresholding", "MVAU", "Thresholding", "MVAU", "Thresholding", "MVAU"]
    b = Net(3)
    x = b.quant("x", 2.0**-6, 12)
    x = b.op("Conv", [b.quant(x, 2.0**-4, 10), b.weight(4, 3, 1, 1, bits=3)], kernel_shape=[1, 1])
    graph = load_proto(b.model((1, 3, 4, 4), b.quant(x, 0.25, 12)), WIDE)
    assert [p.kind for p in peers(graph, 1)] == ["Thresholding", "Thresholding", "MVAU", "Thresholding"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_random_nets(seed: int) -> None:
    """Widths 1 to 13, any scales, on one die, several, or several devices."""
    graph = load_proto(random_net(seed, power=seed % 3 != 2, most=13), WIDE)
    assert differences(graph, cuts_anyhow(graph, seed), seed, external=seed % 2 == 1) == []
    compiled(graph, ("u50", "u280", "u50x2")[seed % 3])
