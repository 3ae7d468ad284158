"""Gate B on a small QDQ model beside its integer form, and on one that is not its integer form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.executor.groups import gate_b

RNG = np.random.default_rng(1)
WEIGHT = RNG.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8)
SCALES = {"s0": np.float32(0.02), "s1": np.float32(0.05), "s2": np.float32(0.07), "ws": np.float32(0.004)}
ZEROS = {"z": np.uint8(128), "wz": np.int8(0)}


def build(nodes: list[Any]) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    constants = {**SCALES, **ZEROS, "w": WEIGHT}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 12, 12])],
        [helper.make_tensor_value_info("out", TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=10).SerializeToString()


def qdq() -> bytes:
    from onnx import helper

    def dq(x: str, s: str, z: str) -> Any:
        return helper.make_node("DequantizeLinear", [x, s, z], [f"{x}_f"])

    return build(
        [
            helper.make_node("QuantizeLinear", ["x", "s0", "z"], ["xq"]),
            dq("xq", "s0", "z"),
            dq("w", "ws", "wz"),
            helper.make_node("Conv", ["xq_f", "w_f"], ["c"]),
            helper.make_node("QuantizeLinear", ["c", "s1", "z"], ["cq"]),
            dq("cq", "s1", "z"),
            helper.make_node("MaxPool", ["cq_f"], ["p"], kernel_shape=[2, 2]),
            helper.make_node("QuantizeLinear", ["p", "s1", "z"], ["pq"]),
            dq("pq", "s1", "z"),
            helper.make_node("Sigmoid", ["pq_f"], ["o"]),
            helper.make_node("QuantizeLinear", ["o", "s2", "z"], ["out"]),
        ]
    )


def integer(scale: str = "s1") -> bytes:
    from onnx import helper

    conv = ["xq", "s0", "z", "w", "ws", "wz", scale, "z"]
    return build(
        [
            helper.make_node("QuantizeLinear", ["x", "s0", "z"], ["xq"]),
            helper.make_node("QLinearConv", conv, ["cq"]),
            helper.make_node("MaxPool", ["cq"], ["pq"], kernel_shape=[2, 2]),
            helper.make_node("QLinearSigmoid", ["pq", "s1", "z", "s2", "z"], ["out"], domain="com.microsoft"),
        ]
    )


FRAMES = [{"x": RNG.uniform(-2.56, 2.54, (1, 4, 12, 12)).astype(np.float32)} for _ in range(3)]


def test_groups_of_the_same_model_agree() -> None:
    found = gate_b(qdq(), integer(), FRAMES)
    assert [(g.tensor, g.ops) for g in found.groups] == [
        ("cq", ("Conv",)),
        ("pq", ("MaxPool",)),
        ("out", ("Sigmoid",)),
    ]
    assert found.elements == 3 * (600 + 486 + 486) and found.unmatched == []
    assert found.passed and found.as_json()["worst_lsb"] <= 1


def test_another_scale_fails_in_its_own_group_only() -> None:
    found = gate_b(qdq(), integer("s2"), FRAMES)
    assert not found.passed
    assert [g.tensor for g in found.groups if g.worst_lsb > 1] == ["cq"]


@pytest.mark.parametrize("frames", [[], FRAMES[:1]])
def test_nothing_compared_is_no_pass(frames: list[dict[str, np.ndarray[Any, Any]]]) -> None:
    from onnx import helper

    other = build([helper.make_node("QuantizeLinear", ["x", "s0", "z"], ["out"])])
    assert not gate_b(qdq(), other, frames).passed
