"""Legal but unusual models: each keeps its meaning, judged by ONNX Runtime on the float model itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compiler.frontend import ImportOptions, load_proto
from device_db.errors import FvcError
from tests.frontend.judge import all_tensors, assert_exact, engine_ops, feeds_for
from tests.frontend.models import NodeSpec, Qdq, model, weights

Case = tuple[list[NodeSpec], dict[str, tuple[int, ...]], dict[str, Any], set[str]]
PICTURE = (1, 4, 9, 7)


def i64(*values: int) -> Any:
    return np.asarray(values, np.int64)


def gemm(x: tuple[int, ...], w: tuple[int, ...], bias: tuple[int, ...] | None = (5,), **attributes: Any) -> Case:
    """A Gemm of the input and constants."""
    names = ["x", "w"] if bias is None else ["x", "w", "b"]
    constants = {"w": weights(*w)} | ({} if bias is None else {"b": weights(*bias, seed=3)})
    return [("Gemm", names, ["y"], attributes)], {"x": x}, constants, set()


def left(*ranks: int) -> Case:
    """A matrix product with the constant on the left."""
    return [("MatMul", ["w", "x"], ["y"], {})], {"x": (*ranks, 6, 3)}, {"w": weights(5, 6)}, {"QLinearMatMul"}


def behind(op: str, inputs: list[str], constants: dict[str, Any], ops: set[str], **attributes: Any) -> Case:
    """A convolution "t", then one operator that ends the graph."""
    nodes: list[NodeSpec] = [("Conv", ["x", "w"], ["t"], {"pads": [1] * 4}), (op, inputs, ["y"], attributes)]
    return nodes, {"x": PICTURE}, {"w": weights(4, 4, 3, 3), **constants}, {"QLinearConv", *ops}


def clip(low: float, high: float) -> Case:
    bounds = {"low": np.float32(low), "high": np.float32(high)}
    return behind("Clip", ["t", "low", "high"], bounds, set())


CASES: dict[str, Case] = {
    "gemm_alpha_beta": gemm((3, 6), (6, 5), alpha=1.7, beta=0.3),
    "gemm_negative_alpha": gemm((3, 6), (6, 5), alpha=-0.5),
    "gemm_beta_0": gemm((3, 6), (6, 5), beta=0.0),
    "gemm_trans_a": gemm((6, 3), (6, 5), transA=1),
    "gemm_trans_both": gemm((6, 3), (5, 6), transA=1, transB=1, alpha=2.0),
    "gemm_scalar_bias": gemm((3, 6), (6, 5), ()),
    "gemm_1x1_bias": gemm((3, 6), (6, 5), (1, 1)),
    "gemm_bias_a_row": gemm((3, 6), (6, 5), (3, 1), beta=0.5),
    "gemm_bias_an_element": gemm((3, 6), (6, 5), (3, 5)),
    "gemm_constant_left": (
        [("Gemm", ["w", "x", "b"], ["y"], {"transB": 1, "alpha": 0.5})],
        {"x": (3, 6)},
        {"w": weights(5, 6), "b": weights(5, 3, seed=3)},
        {"QLinearMatMul", "QLinearAdd"},
    ),
    "matmul_constant_left": left(),
    "matmul_constant_left_batched": left(2),
    "matmul_by_a_vector": ([("MatMul", ["x", "w"], ["y"], {})], {"x": (4, 6)}, {"w": weights(6)}, {"QLinearMatMul"}),
    "matmul_leading_ones": (
        [("MatMul", ["x", "w"], ["y"], {})],
        {"x": (2, 5, 6)},
        {"w": weights(1, 6, 3)},
        {"QLinearMatMul"},
    ),
    "clip_above_zero": clip(0.2, 2),
    "clip_below_zero": clip(-2, -0.2),
    "clip_inverted": clip(0.3, -0.3),
    "clip_to_zero": clip(0, 0),
    "pad_with_a_value": behind(
        "Pad", ["t", "p", "v"], {"p": i64(0, 0, 1, 2, 0, 0, 2, 1), "v": np.float32(0.37)}, {"Pad"}
    ),
    "tail_prelu": behind("PRelu", ["t", "s"], {"s": weights(4, 1, 1)}, {"Gather"}),
    "tail_sigmoid": behind("Sigmoid", ["t"], {}, {"Gather"}),
    "tail_hard_sigmoid": behind("HardSigmoid", ["t"], {}, {"Gather"}),
    "alone_tanh": ([("Tanh", ["x"], ["y"], {})], {"x": (1, 8)}, {}, {"Gather"}),
    "alone_normalization": (
        [("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], {})],
        {"x": PICTURE},
        {k: np.abs(weights(4, seed=n)) for n, k in enumerate("sbmv")},
        {"Gather"},
    ),
    "pad_into_max_pool": (
        [
            ("Conv", ["x", "w"], ["t"], {}),
            ("Pad", ["t", "p", "v"], ["u"], {}),
            ("MaxPool", ["u"], ["y"], {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ],
        {"x": PICTURE},
        {"w": weights(4, 4, 1, 1), "p": i64(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(-np.inf)},
        {"QLinearConv", "MaxPool"},
    ),
    "transpose_to_a_wider_shape": (
        [("ConvTranspose", ["x", "w"], ["y"], {"strides": [3, 2], "output_shape": [10, 8]})],
        {"x": (1, 1, 3, 3)},
        {"w": weights(1, 2, 3, 3)},
        {"QLinearConv"},
    ),
    "an_input_that_is_an_output": (
        [("Conv", ["x", "w"], ["y"], {})],
        {"x": PICTURE},
        {"w": weights(4, 4, 1, 1)},
        {"QLinearConv"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_meaning_is_kept(name: str) -> None:
    nodes, inputs, constants, ops = CASES[name]
    outputs = ["y", "x"] if name == "an_input_that_is_an_output" else ["y"]
    proto = model(nodes, inputs, outputs, constants)
    graph = load_proto(proto, ImportOptions(per_channel=True, samples=16))
    assert ops <= set(engine_ops(graph))
    assert graph.nodes
    assert_exact(graph, seeds=1)
    feeds = feeds_for(proto, seed=5, scale=0.5)
    wanted = all_tensors(proto, feeds)
    got = all_tensors(onnx.load_model_from_string(graph.model), feeds)
    for output in outputs:
        assert got[output].shape == wanted[output].shape
        assert np.abs(got[output] - wanted[output]).max() <= 0.04 * max(1e-6, np.abs(wanted[output]).max())


def test_gemm_of_a_qdq_model_keeps_alpha_and_beta() -> None:
    q = Qdq()
    x, w = q.input((3, 6)), q.weight((6, 5))
    y = q.op("Gemm", [x, w], scale=0.1, alpha=1.5)
    proto = q.model(y)
    graph = load_proto(proto)
    assert "QLinearMatMul" in engine_ops(graph) or "QGemm" in engine_ops(graph)
    feeds = feeds_for(proto, seed=5)
    wanted, got = all_tensors(proto, feeds), all_tensors(onnx.load_model_from_string(graph.model), feeds)
    assert np.abs(got[y] - wanted[y]).max() <= 0.1 + 1e-6  # one step


def test_an_average_that_counts_pads_and_overhangs_them() -> None:
    """ONNX Runtime's integer average divides such a window by the whole kernel, the float one by what the pads hold."""
    window = {"kernel_shape": [5, 3], "strides": [3, 2], "pads": [1, 0, 2, 0], "ceil_mode": 1, "count_include_pad": 1}
    q = Qdq()
    x = q.input((1, 4, 9, 7))
    proto = q.model(q.op("AveragePool", [q.op("AveragePool", [x], scale=0.01, zero=4, **window)], zero=4, **window))
    graph = load_proto(proto)
    assert engine_ops(graph) == ["Pad", "QLinearAveragePool"] * 2
    assert_exact(graph)
    feeds = feeds_for(proto, seed=5)
    wanted, got = all_tensors(proto, feeds), all_tensors(onnx.load_model_from_string(graph.model), feeds)
    assert np.abs(got[graph.outputs[0]] - wanted[graph.outputs[0]]).max() < 0.0501  # one step


def test_an_average_larger_than_its_input_stays_float() -> None:
    """ONNX Runtime's pools run where the window exceeds the padded input by less than a stride."""
    q = Qdq()
    window = {"kernel_shape": [11, 2], "strides": [3, 1], "count_include_pad": 1}
    proto = q.model(q.op("AveragePool", [q.input((1, 4, 9, 7))], scale=0.01, zero=3, **window))
    graph = load_proto(proto)
    assert "larger than its padded input" in " ".join(s.reason for s in graph.host_segments)
    feeds = feeds_for(proto, seed=5)
    wanted, got = all_tensors(proto, feeds), all_tensors(onnx.load_model_from_string(graph.model), feeds)
    np.testing.assert_array_equal(got[graph.outputs[0]], wanted[graph.outputs[0]])


def test_training_mode_normalization_is_not_folded() -> None:
    constants = {k: np.abs(weights(4, seed=n)) for n, k in enumerate("sbmv")}
    nodes: list[NodeSpec] = [
        ("Conv", ["x", "w"], ["t"], {}),
        ("BatchNormalization", ["t", "s", "b", "m", "v"], ["y", "m1", "v1"], {"training_mode": 1}),
    ]
    proto = model(nodes, {"x": PICTURE}, ["y", "m1", "v1"], {"w": weights(4, 4, 1, 1), **constants})
    graph = load_proto(proto)
    assert engine_ops(graph) == ["QLinearConv"]
    feeds = feeds_for(proto, seed=5)
    wanted, got = all_tensors(proto, feeds), all_tensors(onnx.load_model_from_string(graph.model), feeds)
    np.testing.assert_allclose(got["m1"], wanted["m1"], atol=0.05)


def test_a_clamp_with_a_bound_from_outside_stays_float() -> None:
    nodes: list[NodeSpec] = [("Conv", ["x", "w"], ["t"], {}), ("Clip", ["t", "low"], ["y"], {})]
    proto = model(nodes, {"x": PICTURE, "low": ()}, ["y"], {"w": weights(4, 4, 1, 1)})
    graph = load_proto(proto)
    feeds = {"x": feeds_for(proto, seed=5)["x"], "low": np.asarray(0.3, np.float32)}
    assert all_tensors(onnx.load_model_from_string(graph.model), feeds)["y"].min() >= np.float32(0.3)


def test_infinite_masks_stay_on_the_host() -> None:
    mask = np.where(np.eye(9, 7) > 0, -np.inf, 0).astype(np.float32)
    nodes: list[NodeSpec] = [
        ("Conv", ["x", "w"], ["t"], {}),
        ("Add", ["t", "mask"], ["u"], {}),
        ("Softmax", ["u"], ["y"], {}),
    ]
    graph = load_proto(model(nodes, {"x": PICTURE}, ["y"], {"w": weights(4, 4, 1, 1), "mask": mask}))
    assert engine_ops(graph) == ["QLinearConv"]


def test_double_precision_is_read_as_single() -> None:
    constants = {"w": weights(4, 4, 1, 1).astype(np.float64)}
    proto = model([("Conv", ["x", "w"], ["y"], {})], {"x": PICTURE}, ["y"], constants, elem=TensorProto.DOUBLE)
    graph = load_proto(proto)
    assert engine_ops(graph) == ["QLinearConv"]
    assert any("64-bit" in f for f in graph.fallbacks)


def refused(proto: onnx.ModelProto) -> FvcError:
    with pytest.raises(FvcError) as caught:
        load_proto(proto)
    return caught.value


def qlinear(**changed: Any) -> onnx.ModelProto:
    """A QLinearConv of u8 activations, with some of its constants changed."""
    constants = {
        "xs": np.float32(0.1), "xz": np.uint8(3), "w": np.ones((5, 4, 3, 3), np.uint8), "ws": np.float32(0.1),
        "wz": np.uint8(0), "ys": np.float32(1), "yz": np.uint8(3), "b": np.zeros(5, np.int32),
    } | changed  # fmt: skip
    return model(
        [("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], {})],
        {"x": PICTURE}, ["y"], constants, elem=TensorProto.UINT8,
    )  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"b": np.zeros(3, np.int32)},
        {"b": np.zeros(5, np.float32)},
        {"ws": np.full(3, 0.1, np.float32), "wz": np.zeros(3, np.uint8)},
        {"yz": np.int32(0)},
        {"xz": np.int8(0)},
    ],
)
def test_what_no_runtime_takes_is_the_models_fault(changed: dict[str, Any]) -> None:
    found = refused(qlinear(**changed))
    assert (found.code, found.exit_code) == ("FVC113", 2)


@pytest.mark.parametrize(
    "changed",
    [{"ys": np.float32(0)}, {"ws": np.float32(-0.1)}, {"ys": np.float32(1e-38), "xs": np.float32(1e3)}],
)
def test_factors_that_no_requantiser_takes_go_to_the_host(changed: dict[str, Any]) -> None:
    graph = load_proto(qlinear(**changed))
    assert not graph.nodes
    assert any(word in graph.host_segments[0].reason for word in ("scale", "factor"))


def test_a_sequence_is_refused() -> None:
    nodes: list[NodeSpec] = [
        ("SplitToSequence", ["x"], ["s"], {"axis": 1}),
        ("ConcatFromSequence", ["s"], ["y"], {"axis": 1}),
    ]
    assert refused(model(nodes, {"x": PICTURE}, ["y"])).code == "FVC109"


def test_a_constant_given_twice_is_refused() -> None:
    proto = model([("Conv", ["x", "w"], ["y"], {})], {"x": PICTURE}, ["y"], {"w": weights(4, 4, 1, 1)})
    proto.graph.initializer.append(proto.graph.initializer[0])
    assert refused(proto).code == "FVC105"


def test_a_recursive_function_is_refused() -> None:
    inner = helper.make_node("Again", ["a"], ["b"], domain="local")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    proto = model([("Relu", ["x"], ["y"], {})], {"x": PICTURE}, ["y"])
    proto.graph.node[0].op_type, proto.graph.node[0].domain = "Again", "local"
    proto.opset_import.append(opsets[1])
    proto.functions.append(helper.make_function("local", "Again", ["a"], ["b"], [inner], opsets))
    assert refused(proto).code == "FVC113"


def test_tensors_beyond_the_memory_of_the_machine_are_refused_before_the_work() -> None:
    proto = model([("Conv", ["x", "w"], ["y"], {})], {"x": (1, 4, 100_000, 100_000)}, ["y"], {"w": weights(4, 4, 1, 1)})
    assert refused(proto).code == "FVC008"


def test_a_dimension_of_zero_is_named() -> None:
    found = refused(model([("Relu", ["x"], ["y"], {})], {"x": (0, 3)}, ["y"]))
    assert found.code == "FVC103"
    assert "(0, 3)" in found.where[0]


def test_names_that_the_quantizer_would_make_itself() -> None:
    """onnxruntime's quantizer adds suffixes to names, and a digit to a shared bias, without looking."""
    nodes: list[NodeSpec] = [
        ("Conv", ["x", "w", "b"], ["b1"], {}),
        ("Conv", ["b1", "w", "b"], ["b2"], {}),
        ("Relu", ["b2"], ["b2_scale"], {}),
        ("Conv", ["b2_scale", "w", "b"], ["x_QuantizeLinear_Output"], {}),
        ("Transpose", ["x_QuantizeLinear_Output"], ["b2_zero_point"], {"perm": [0, 2, 3, 1]}),
    ]
    proto = model(nodes, {"x": PICTURE}, ["b2_zero_point", "b2_scale"], {"w": weights(4, 4, 1, 1), "b": weights(4)})
    graph = load_proto(proto, ImportOptions(samples=16))
    assert engine_ops(graph).count("QLinearConv") == 3
    assert graph.outputs == ("b2_zero_point", "b2_scale")
    assert_exact(graph, seeds=1)
    feeds = feeds_for(proto, seed=5, scale=0.5)
    wanted, got = all_tensors(proto, feeds), all_tensors(onnx.load_model_from_string(graph.model), feeds)
    for output in graph.outputs:
        assert np.abs(got[output] - wanted[output]).max() <= 0.1 * np.abs(wanted[output]).max()
