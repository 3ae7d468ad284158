"""Weights and activations of 9 to 16 bits as integers: held against `qonnx`, and ONNX Runtime on the integer model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.executor.golden import run_graph
from compiler.frontend import ImportOptions, functions, load_model, load_proto
from compiler.ir.graph import Conv, DType
from compiler.isa.table import MODE_EVEN
from compiler.requant import fixed_plan, reachable_range
from tests.frontend.judge import assert_exact, engine_ops
from tests.frontend.lowbit import oracle
from tests.frontend.lowbit.models import Net
from tests.frontend.lowbit.test_integers import needs_qonnx
from tests.frontend.lowbit.wide import perceptron, random_net

DATA = Path(__file__).parents[2] / "data" / "qonnx" / "wide"
NAMES = sorted(p.stem for p in DATA.glob("*.onnx"))
WIDE = ImportOptions(wide=True)


@pytest.mark.parametrize("name", NAMES)
def test_integers_equal_those_of_qonnx(name: str) -> None:
    graph = load_model(DATA / f"{name}.onnx", WIDE)
    data = dict(np.load(DATA / f"{name}.npz"))
    frame = {k[3:]: v for k, v in data.items() if k.startswith("in:")}
    assert oracle.compare(graph, frame, {k: v for k, v in data.items() if not k.startswith("in:")}) > 50
    assert_exact(graph)


@pytest.mark.parametrize("name", NAMES)
def test_the_integer_model_reads_as_itself(name: str) -> None:
    graph = load_model(DATA / f"{name}.onnx", WIDE)
    again = load_proto(onnx.load_model_from_string(graph.model), WIDE)
    assert again.model == graph.model
    assert [t.levels for t in again.tensors.values()] == [t.levels for t in graph.tensors.values()]


@pytest.mark.parametrize("name", NAMES)
def test_without_streaming_engines_wide_layers_stay_on_the_host(name: str) -> None:
    """Read as it came, or as the integer model of a streaming plan."""
    graph = load_model(DATA / f"{name}.onnx")
    assert not graph.wide and any("more than 8 bits" in s.reason for s in graph.host_segments)
    model = onnx.load_model_from_string(load_model(DATA / f"{name}.onnx", WIDE).model)
    assert not load_proto(model).wide


def test_widths_are_those_of_the_quantisers() -> None:
    graph = load_proto(perceptron(1, weights=12, activations=10), WIDE)
    assert engine_ops(graph) == ["MatMulThreshold", "MatMulThreshold", "MatMulSums"]
    layers = [n for n in graph.nodes if isinstance(n, Conv)]
    assert [n.weight_levels.type_name for n in layers] == ["INT12"] * 3
    levels = [graph.tensors[n.x].levels for n in layers]
    assert [x.type_name for x in levels if x] == ["INT12", "UINT10", "UINT10"]


def test_sixteen_bits_without_sign_stand_lower() -> None:
    """65,536 levels from 0 up fill int16 whole; sums of such go beyond 32 bits."""
    b = Net(5)
    x = b.quant("x", 2.0**-12, 16, signed=0)
    w = b.quant(b.const(b.normal(6, 4)), 2.0**-13, 16, narrow=1)
    graph = load_proto(b.model((1, 6), b.quant(b.op("MatMul", [x, w]), 2.0**-3, 8)), WIDE)
    layer = graph.nodes[0]
    assert isinstance(layer, Conv) and layer.wide and layer.x_zero_point == -(2**15)
    assert layer.thresholds is not None and layer.thresholds.values.dtype == np.int64
    assert_exact(graph)
    value = np.abs(b.rng.normal(size=(1, 6)) * 4).astype(np.float32)
    stored = np.clip(np.rint(value * 2.0**12), 0, 65535).astype(np.int64)
    real = next(v for v in b.constants.values() if v.shape == (6, 4))
    held = np.rint(np.clip(real * 2.0**13, -32767, 32767)).astype(np.int64)
    wanted = np.clip(np.rint((stored @ held).astype(np.float64) * 2.0**-25 / 2.0**-3), -128, 127)
    y = run_graph(graph, {"x": value})[layer.y]
    np.testing.assert_array_equal(y, wanted)


def test_sums_of_more_than_32_bits_leave_as_int64() -> None:
    graph = load_proto(perceptron(3, weights=16, sizes=(300, 4)), WIDE)
    assert graph.tensors[graph.nodes[-1].y].dtype == DType.I64
    assert_exact(graph)


def test_more_thresholds_than_memories_hold() -> None:
    """65,535 a channel: a shift where scales are powers of two, the quantiser on the host where they are not."""
    sizes = (24, 6, 4)
    graph = load_proto(perceptron(1, weights=16, activations=16, signed=True, sizes=sizes), WIDE)
    layer = graph.nodes[0]
    assert isinstance(layer, Conv) and layer.thresholds is not None and layer.thresholds.values.shape == (6, 65535)
    low, high = reachable_range(layer.weight, 0, 0, -2048, 2047, exact=True)
    plan = fixed_plan(layer.thresholds, low, high)
    assert plan is not None and (plan.mode == MODE_EVEN).all()
    graph = load_proto(perceptron(1, weights=16, activations=16, signed=True, power=False, sizes=sizes), WIDE)
    assert engine_ops(graph) == ["MatMulSums", "MatMulSums"]
    assert any("too many to store" in s.reason for s in graph.host_segments)


@needs_qonnx
def test_sixteen_bits_by_sixteen(tmp_path: Path) -> None:
    model = perceptron(1, weights=16, activations=16, signed=True, sizes=(24, 6, 5, 3))
    graph, frame = load_proto(model, WIDE), oracle.frame_for(model, 2)
    assert oracle.compare(graph, frame, oracle.execute(model, frame, tmp_path)) == 35
    assert_exact(graph)


def test_a_weight_beyond_16_bits_runs_on_the_host() -> None:
    graph = load_proto(perceptron(2, weights=18, sizes=(4, 4, 4)), WIDE)
    assert any("more than 16 bits" in s.reason for s in graph.host_segments)


def test_names_of_functions() -> None:
    for name in ("ConvThreshold12", "Wide21ConvThreshold3", "Wide32MatMulSums", "WideAdd", "WideMaxPool"):
        assert functions.definition(name).name == name
    for name in ("ConvThreshold0", "ConvThreshold17", "Wide4ConvSums", "ConvSums", "Wide22ConvSums3", "Wide01ConvSums"):
        with pytest.raises(ValueError, match="no function"):
            functions.definition(name)


@needs_qonnx
@pytest.mark.parametrize("seed", range(4))
def test_random_nets(seed: int, tmp_path: Path) -> None:
    held_against_qonnx(seed, tmp_path)


@needs_qonnx
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 60))
def test_more_random_nets(seed: int, tmp_path: Path) -> None:
    held_against_qonnx(seed, tmp_path)


def held_against_qonnx(seed: int, folder: Path) -> None:
    model = random_net(seed, power=seed % 3 != 2, most=(10, 12, 14)[seed % 3])
    graph, frame = load_proto(model, WIDE), oracle.frame_for(model, seed)
    assert oracle.compare(graph, frame, oracle.execute(model, frame, folder)) >= 10
    assert_exact(graph)
