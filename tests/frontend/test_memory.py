"""Big models are held once: the ways that save memory give what the plain ones give."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compiler.frontend import ImportOptions, load_proto
from compiler.frontend.load import clean
from compiler.frontend.options import ImportReport
from tests.frontend.models import model, weights


def proto() -> onnx.ModelProto:
    nodes = [
        ("Conv", ["x", "w"], ["c"], {"pads": [1] * 4}),
        ("Flatten", ["c"], ["f"], {}),
        ("Gemm", ["f", "g", "b"], ["y"], {}),
    ]
    constants = {"w": weights(8, 3, 3, 3), "g": weights(8 * 36, 10), "b": weights(10)}
    return model(nodes, {"x": (1, 3, 6, 6)}, ["y"], constants)


def test_weights_fed_as_inputs_calibrate_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_proto(proto(), ImportOptions())
    monkeypatch.setattr("compiler.frontend.quantize._BIG_MODEL_BYTES", 0)
    monkeypatch.setattr("compiler.frontend.quantize._SMALL_CONSTANT", 64)
    fed = load_proto(proto(), ImportOptions())
    assert [n.op for n in fed.nodes] == [n.op for n in plain.nodes]
    for name, tensor in plain.tensors.items():
        if tensor.quant is not None:
            other = fed.tensors[name].quant
            assert other is not None
            assert other.scale == pytest.approx(tensor.quant.scale, rel=1e-5)


def test_a_graph_that_is_used_up_gives_the_same_message() -> None:
    graph = clean(proto(), ImportOptions(), ImportReport())
    kept = graph.to_model().SerializeToString(deterministic=True)
    assert graph.constants
    assert graph.to_model(consume=True).SerializeToString(deterministic=True) == kept
    assert not graph.constants
    onnx.checker.check_model(kept)


def test_constants_of_every_type_are_written_as_onnx_writes_them() -> None:
    graph = clean(proto(), ImportOptions(), ImportReport())
    values = [np.float32(1.5).reshape(()), np.arange(6, dtype=np.int64).reshape(2, 3).T, np.array([True, False])]
    values += [np.zeros((0, 2), np.float16), np.array(["ä", "b"], object)]
    values += [numpy_helper.to_array(onnx.helper.make_tensor("t", onnx.TensorProto.INT4, (3,), [1, -2, 3]))]
    for k, value in enumerate(values):
        graph.constants[f"v{k}"] = value
    written = {t.name: t for t in graph.to_model().graph.initializer}
    for k, value in enumerate(values):
        wanted = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), f"v{k}")
        assert numpy_helper.to_array(written[f"v{k}"]).tolist() == value.tolist()
        assert (written[f"v{k}"].data_type, list(written[f"v{k}"].dims)) == (wanted.data_type, list(value.shape))
