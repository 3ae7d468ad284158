"""Low-bit models against the `qonnx` package and against ONNX Runtime on the integer model that they become."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.executor.golden import run_graph
from compiler.export.accuracy import evaluate
from compiler.frontend import ImportOptions, load_model, load_proto, written_out
from compiler.ir.graph import Conv, Graph
from tests.frontend.judge import assert_exact, engine_ops, session
from tests.frontend.lowbit import models, oracle

DATA = Path(__file__).parents[2] / "data" / "qonnx"
NAMES = sorted(p.stem for p in DATA.glob("*.onnx"))
needs_qonnx = pytest.mark.skipif(
    oracle.INTERPRETER not in os.environ, reason=f"{oracle.INTERPRETER} names no interpreter with the qonnx package"
)


@pytest.mark.parametrize("name", NAMES)
def test_integers_equal_those_of_qonnx(name: str) -> None:
    graph = load_model(DATA / f"{name}.onnx")
    data = dict(np.load(DATA / f"{name}.npz"))
    frame = {k[3:]: v for k, v in data.items() if k.startswith("in:")}
    assert oracle.compare(graph, frame, {k: v for k, v in data.items() if not k.startswith("in:")}) > 200


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_judges_the_integer_model(name: str) -> None:
    assert_exact(load_model(DATA / f"{name}.onnx"))


@pytest.mark.parametrize("name", NAMES)
def test_the_integer_model_reads_as_itself(name: str) -> None:
    graph = load_model(DATA / f"{name}.onnx")
    again = load_proto(onnx.load_model_from_string(graph.model))
    assert again.model == graph.model
    assert [(s.nodes, s.reason) for s in again.host_segments] == [(s.nodes, s.reason) for s in graph.host_segments]
    assert [t.levels for t in again.tensors.values()] == [t.levels for t in graph.tensors.values()]


@pytest.mark.parametrize("name", NAMES)
def test_a_model_written_out_gives_what_qonnx_gives(name: str, tmp_path: Path) -> None:
    """So --eval has something to run before quantization: the label is qonnx's own answer."""
    path, data = DATA / f"{name}.onnx", dict(np.load(DATA / f"{name}.npz"))
    model = written_out(path, ImportOptions())
    assert model is not None
    output = model.graph.output[0].name
    frame = {k[3:]: v for k, v in data.items() if k.startswith("in:")}
    wanted = data[f"out:{output}"]
    np.testing.assert_allclose(session(model).run([output], frame)[0], wanted, rtol=1e-5, atol=1e-5)
    np.savez(tmp_path / "d.npz", **frame, labels=np.asarray([wanted.argmax()]))
    found = evaluate(path, load_model(path), tmp_path / "d.npz")
    assert (found.samples, found.right_before, found.agreement, found.right_after) == (1, 1, 1, 1)


def test_every_layer_with_quantised_input_and_result_is_on_an_engine() -> None:
    assert engine_ops(load_model(DATA / "conv_w1a2.onnx")) == [
        "ConvThreshold", "ConvThreshold", "MaxPool", "ConvThreshold", "Flatten", "MatMulThreshold", "MatMulInteger",
    ]  # fmt: skip
    assert engine_ops(load_model(DATA / "residual.onnx")).count("QLinearAdd") == 1
    assert engine_ops(load_model(DATA / "finn.onnx")) == [
        "ConvThreshold", "ConvThreshold", "MaxPool", "Transpose", "MatMulThreshold", "MatMulInteger",
    ]  # fmt: skip


def types(graph: Graph) -> list[tuple[str, str]]:
    """(weights, result) of every layer with thresholds, as FINN names types."""
    found = []
    for n in graph.nodes:
        if isinstance(n, Conv) and n.thresholds is not None:
            levels = graph.tensors[n.y].levels
            found.append((n.weight_levels.type_name, levels.type_name if levels else "?"))
    return found


def test_levels_are_those_of_the_quantisers() -> None:
    assert types(load_model(DATA / "conv_w1a1.onnx")) == [("BIPOLAR", "BIPOLAR")] * 4
    assert types(load_model(DATA / "conv_w1a2.onnx")) == [("BIPOLAR", "UINT2")] * 4
    assert {w for w, _ in types(load_model(DATA / "conv_w4a4_float.onnx"))} <= {"INT4", "INT3"}
    assert {y for _, y in types(load_model(DATA / "conv_w4a4_float.onnx"))} == {"UINT4"}


def test_an_output_bias_of_half_a_scale() -> None:
    """Steps of 1 from -1.5: no multiple of the scale, but of its half."""
    b = models.Net(1)
    b.annotations["x"] = "INT8"
    weight, table = b.rng.integers(-3, 4, (5, 6)), np.sort(b.rng.integers(-99, 99, (6, 3)), 1).astype(np.float32)
    y = b.threshold(b.op("MatMul", ["x", b.const(weight)]), table, 1.0, -1.5)
    graph = load_proto(b.model((1, 5), y))
    assert engine_ops(graph) == ["MatMulThreshold"]
    x = b.rng.integers(-128, 128, (1, 5))
    wanted = ((x @ weight)[..., None] >= table).sum(-1) - 1.5
    np.testing.assert_array_equal(run_graph(graph, {"x": x.astype(np.float32)})[y], wanted)
    assert_exact(graph)


def test_what_stands_between_layers_stays_on_engines() -> None:
    """All but the difference, which has no engine form."""
    assert engine_ops(load_model(DATA / "between.onnx")) == [
        "ConvThreshold", "Gather", "ConvThreshold", "ConvThreshold", "ConvThreshold", "MatMulThreshold",
    ]  # fmt: skip


@pytest.mark.parametrize("first, second", [("Sub", "Add"), ("Mul", "Div"), ("Div", "Sub")])
def test_two_tensors_in_one_operator(first: str, second: str) -> None:
    """Element by element, of each other and of themselves: on an engine or on the host, never a traceback."""
    b = models.Net(2)
    x = b.quant("x", 0.5, 4)
    y = b.quant(b.op("Conv", [x, b.weight(3, 3, 1, 1)], kernel_shape=[1, 1]), 0.5, 4, signed=0, zero=1)
    z = b.quant(b.op(first, [x, y]), 0.5, 5)
    z = b.quant(b.op(second, [z, z]), 0.5, 5)
    assert_exact(load_proto(b.model((1, 3, 4, 4), b.op("Conv", [z, b.weight(2, 3, 1, 1)], kernel_shape=[1, 1]))))


def test_near_steps_are_reported() -> None:
    """A step that a float sum may reach or miss is said: 0.1 * 0.1 / 0.02 puts every second sum on a tie."""
    b = models.Net(3)
    x = b.quant("x", 0.1, 4)
    w = b.quant(b.const(b.normal(4, 2, 1, 1)), 0.1, 3)
    y = b.quant(b.op("Conv", [x, w], kernel_shape=[1, 1]), 0.02, 4)
    graph = load_proto(b.model((1, 2, 3, 3), y))
    assert any("thresholds lie within float32 rounding" in f for f in graph.fallbacks)
    assert not any("thresholds lie" in f for f in load_model(DATA / "conv_w1a2.onnx").fallbacks)


@needs_qonnx
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bits, act, power", [(1, 1, True), (1, 2, True), (2, 2, False), (4, 4, True), (8, 8, False)])
def test_live_convolutions(seed: int, bits: int, act: int, power: bool, tmp_path: Path) -> None:
    live(models.convolutions(seed, bits=bits, act=act, power=power), seed, tmp_path)


@needs_qonnx
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ROUND", "HALF_EVEN", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN"])
@pytest.mark.parametrize("signed, narrow", [(0, 0), (1, 0), (1, 1)])
def test_live_rounding(mode: str, signed: int, narrow: int, tmp_path: Path) -> None:
    live(models.rounding(5, mode, signed=signed, narrow=narrow), 5, tmp_path)


def test_round_to_zero_is_what_qonnx_calls_down() -> None:
    """Brevitas writes ROUND_TO_ZERO, which `qonnx` does not run; DOWN is held against it above."""
    zero, down = (load_proto(models.rounding(5, mode, signed=1)) for mode in ("ROUND_TO_ZERO", "DOWN"))
    assert zero.model == down.model and zero.fallbacks == down.fallbacks


@needs_qonnx
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_live_residuals_and_finn(seed: int, tmp_path: Path) -> None:
    live(models.residual(seed), seed, tmp_path)
    live(models.residual(seed, unlike=True), seed, tmp_path)
    live(models.finn(seed), seed, tmp_path)


def live(model: onnx.ModelProto, seed: int, folder: Path) -> None:
    graph = load_proto(model)
    assert_exact(graph, seeds=1)
    frame = oracle.frame_for(model, seed)
    assert oracle.compare(graph, frame, oracle.execute(model, frame, folder)) > 200
