"""--batch: several samples as one frame, as the model computes each of them alone, or a refusal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend import ImportOptions, load_model
from compiler.ir.samples import stack
from device_db.errors import FvcError

EXAMPLES = Path(__file__).parents[2] / "examples"
RNG = np.random.default_rng(3)


def net(path: Path, tail: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: tuple[int, ...]) -> Path:
    """A convolution of 3x6x6 into 4 channels, and `tail` behind its ReLU."""
    weights = {"w": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)} | constants
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["r"]), *tail],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 6, 6))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def dense(rows: int) -> np.ndarray:
    return RNG.standard_normal((rows, 5)).astype(np.float32)


@pytest.mark.parametrize("first", [1, -1])
def test_several_samples_are_one_frame(first: int, tmp_path: Path) -> None:
    """A reshape to one row, as exporters write it, becomes one to as many rows as there are samples."""
    target = np.array([first, 64], np.int64)
    tail = [helper.make_node("Reshape", ["r", "t"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["y"])]
    path = net(tmp_path / "n.onnx", tail, {"t": target, "m": dense(64)}, (1, 5))
    graph = load_model(path, ImportOptions(batch=3))
    assert any("--batch 3: a frame is 3 samples" in text for text in graph.fallbacks)
    session = ort.InferenceSession(graph.model, providers=["CPUExecutionProvider"])
    x = RNG.uniform(-1, 1, (3, 3, 6, 6)).astype(np.float32)
    (together,) = session.run(["y"], {"x": x})
    assert together.shape == (3, 5)
    floats = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = np.concatenate([floats.run(["y"], {"x": x[k : k + 1]})[0] for k in range(3)])
    assert np.abs(together - expected).mean() < 0.1 * np.abs(expected).mean()


def test_accuracy_is_counted_by_sample(tmp_path: Path) -> None:
    """The shipped digits in frames of four: as many answers as samples, the same as one by one."""
    from compiler.export.accuracy import evaluate

    model, data = EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"
    options = ImportOptions(calibrate=EXAMPLES / "digits_calibration.npz")
    one = evaluate(model, load_model(model, options), data, options)
    four = evaluate(model, load_model(model, replace(options, batch=4)), data, replace(options, batch=4))
    assert (four.samples, four.right_before) == (one.samples, one.right_before)
    assert abs((four.right_after or 0) - (one.right_after or 0)) <= 5  # ranges are those of four samples at a time
    with pytest.raises(FvcError, match="FVC007"):
        evaluate(model, load_model(model, replace(options, batch=3)), data, replace(options, batch=3))


def test_results_that_mix_samples_are_refused(tmp_path: Path) -> None:
    """The mean over the first axis is that of one sample as the model was, of all of them together."""
    tail = [helper.make_node("ReduceMean", ["r"], ["y"], axes=[0], keepdims=1)]
    path = net(tmp_path / "n.onnx", tail, {}, (1, 4, 4, 4))
    with pytest.raises(FvcError, match="FVC104") as refused:
        load_model(path, ImportOptions(batch=2))
    assert refused.value.exit_code == 2
    load_model(path, ImportOptions())


def test_constants_that_hold_one_sample_are_refused(tmp_path: Path) -> None:
    tail = [helper.make_node("Reshape", ["r", "t"], ["f"]), helper.make_node("MatMul", ["f", "m"], ["y"])]
    path = net(tmp_path / "n.onnx", tail, {"t": np.array([64], np.int64), "m": dense(64)}, (5,))
    with pytest.raises(FvcError, match="--batch 2"):
        load_model(path, ImportOptions(batch=2))


@pytest.mark.parametrize(
    ("have", "shape", "count"),
    [((8, 3), (4, 3), 2), ((2, 4, 3), (4, 3), 2), ((4, 3), (4, 3), 1), ((5, 3), (1, 3), 5), ((3, 3), (4, 3), None)],
)
def test_samples_of_several_rows_are_stacked(have: tuple, shape: tuple, count: int | None) -> None:
    got = stack(np.zeros(have), shape)
    assert (None if got is None else got.shape) == (None if count is None else (count, *shape))
