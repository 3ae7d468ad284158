"""Every operator of the list, from float through calibration: on the engines, exact, close to the float result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.frontend import ImportOptions, load_proto
from tests.frontend.judge import all_tensors, assert_exact, engine_ops
from tests.frontend.models import NodeSpec, model, weights

I64 = np.int64
Case = tuple[str, list[NodeSpec], dict[str, tuple[int, ...]], dict[str, Any], set[str], int]


def conv(x: tuple[int, ...], w: tuple[int, ...], **attributes: Any) -> tuple[Any, ...]:
    return (
        [("Conv", ["x", "w", "b"], ["y"], attributes)],
        {"x": x},
        {"w": weights(*w), "b": weights(w[0])},
        {"QLinearConv"},
    )


def unary(
    nodes: list[NodeSpec], constants: dict[str, Any] | None = None, shape: tuple[int, ...] = (1, 4, 6, 6)
) -> tuple[Any, ...]:
    """A convolution, then the function, then a convolution: the function must be one table."""
    rank = len(shape) - 2
    w = (4, 4, *([1] * rank))
    body = [("Conv", ["x", "w0"], ["t"], {}), *nodes, ("Conv", ["u", "w1"], ["y"], {})]
    return (
        body,
        {"x": shape},
        {"w0": weights(*w), "w1": weights(*w, seed=1), **(constants or {})},
        {"QLinearConv", "Gather"},
    )


def after(
    nodes: list[NodeSpec], ops: set[str], constants: dict[str, Any] | None = None, shape: tuple[int, ...] = (1, 4, 6, 6)
) -> tuple[Any, ...]:
    """A convolution "t", then nodes that make "y"."""
    w = weights(4, shape[1], *([1] * (len(shape) - 2)))
    return (
        [("Conv", ["x", "w0"], ["t"], {}), *nodes],
        {"x": shape},
        {"w0": w, **(constants or {})},
        {"QLinearConv", *ops},
    )


def i64(*values: int) -> Any:
    return np.asarray(values, I64)


CASES: dict[str, tuple[Any, ...]] = {
    "conv2d": conv((1, 3, 9, 8), (5, 3, 3, 3), pads=[1, 1, 1, 1]),
    "conv2d batch": conv((3, 3, 9, 8), (5, 3, 3, 3)),
    "conv2d strided, uneven pads": conv((1, 3, 9, 8), (5, 3, 3, 2), pads=[0, 1, 2, 0], strides=[2, 3]),
    "conv2d dilated": conv((1, 3, 12, 12), (5, 3, 3, 3), dilations=[2, 3]),
    "conv2d grouped": conv((1, 6, 7, 7), (4, 3, 3, 3), group=2, pads=[1, 1, 1, 1]),
    "conv2d depthwise": conv((1, 6, 7, 7), (6, 1, 3, 3), group=6),
    "conv2d depthwise x2": conv((1, 3, 7, 7), (6, 1, 3, 3), group=3),
    "conv2d same upper": conv((1, 3, 9, 8), (5, 3, 4, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv2d same lower": conv((1, 3, 9, 8), (5, 3, 4, 3), auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv2d valid": conv((1, 3, 9, 8), (5, 3, 4, 3), auto_pad="VALID"),
    "conv1d": conv((1, 3, 20), (5, 3, 3), pads=[1, 2], strides=[2]),
    "conv1d depthwise": conv((2, 3, 20), (3, 1, 5), group=3, dilations=[2]),
    "conv + batchnorm + relu": (
        [
            ("Conv", ["x", "w"], ["a"], {}),
            ("BatchNormalization", ["a", "g", "be", "me", "va"], ["c"], {}),
            ("Relu", ["c"], ["y"], {}),
        ],
        {"x": (1, 3, 6, 6)},
        {
            "w": weights(4, 3, 3, 3),
            "g": weights(4) + 1,
            "be": weights(4),
            "me": weights(4, seed=2),
            "va": np.abs(weights(4)) + 0.5,
        },
        {"QLinearConv"},
    ),
    "conv + clip": after(
        [("Clip", ["t", "lo", "hi"], ["y"], {})], set(), {"lo": np.float32(-0.1), "hi": np.float32(0.4)}
    ),
    "gemm": (
        [("Gemm", ["x", "w", "b"], ["y"], {"transB": 1})],
        {"x": (2, 12)},
        {"w": weights(5, 12), "b": weights(5)},
        {"QGemm"},
    ),
    "matmul rank 2": ([("MatMul", ["x", "w"], ["y"], {})], {"x": (2, 12)}, {"w": weights(12, 5)}, {"QLinearMatMul"}),
    "matmul + bias": (
        [("MatMul", ["x", "w"], ["a"], {}), ("Add", ["a", "b"], ["y"], {})],
        {"x": (2, 12)},
        {"w": weights(12, 5), "b": weights(5)},
        {"QGemm"},
    ),
    "matmul rank 3": ([("MatMul", ["x", "w"], ["y"], {})], {"x": (2, 7, 12)}, {"w": weights(12, 5)}, {"QLinearMatMul"}),
    "matmul rank 4": (
        [("MatMul", ["x", "w"], ["y"], {})],
        {"x": (2, 3, 7, 12)},
        {"w": weights(12, 5)},
        {"QLinearMatMul"},
    ),
    "matmul rank 3 + bias": (
        [("MatMul", ["x", "w"], ["a"], {}), ("Add", ["b", "a"], ["y"], {})],
        {"x": (1, 7, 12)},
        {"w": weights(12, 5), "b": weights(5)},
        {"QLinearMatMul"},
    ),
    "add": after(
        [("Conv", ["x", "w1"], ["u"], {}), ("Add", ["t", "u"], ["y"], {})],
        {"QLinearAdd"},
        {"w1": weights(4, 4, 1, 1, seed=4)},
    ),
    "sum of three": after(
        [("Conv", ["x", "w1"], ["u"], {}), ("Sum", ["t", "u", "t"], ["y"], {})],
        {"QLinearAdd"},
        {"w1": weights(4, 4, 1, 1, seed=4)},
    ),
    "sub": after(
        [("Conv", ["x", "w1"], ["u"], {}), ("Sub", ["t", "u"], ["y"], {})],
        {"QLinearAdd", "Gather"},
        {"w1": weights(4, 4, 1, 1, seed=4)},
    ),
    "mul": after(
        [("Conv", ["x", "w1"], ["u"], {}), ("Mul", ["t", "u"], ["y"], {})],
        {"QLinearMul"},
        {"w1": weights(4, 4, 1, 1, seed=4)},
    ),
    "squeeze and excite": after(
        [
            ("GlobalAveragePool", ["t"], ["m"], {}),
            ("Conv", ["m", "w1"], ["s"], {}),
            ("HardSigmoid", ["s"], ["h"], {}),
            ("Mul", ["t", "h"], ["y"], {}),
        ],
        {"QLinearGlobalAveragePool", "QLinearMul", "Gather"},
        {"w1": weights(4, 4, 1, 1, seed=4)},
    ),
    "add constant map": after([("Add", ["t", "c"], ["y"], {})], {"QLinearAdd"}, {"c": weights(1, 4, 6, 6)}),
    "mul constant row": after([("Mul", ["c", "t"], ["y"], {})], {"QLinearMul"}, {"c": weights(6)}),
    "leaky relu": unary([("LeakyRelu", ["t"], ["u"], {"alpha": 0.2})]),
    "prelu per channel": unary([("PRelu", ["t", "s"], ["u"], {})], {"s": weights(4, 1, 1)}),
    "prelu 1d per channel": unary([("PRelu", ["t", "s"], ["u"], {})], {"s": weights(4, 1)}, (1, 4, 9)),
    "sigmoid": unary([("Sigmoid", ["t"], ["u"], {})]),
    "tanh": unary([("Tanh", ["t"], ["u"], {})]),
    "hard sigmoid": unary([("HardSigmoid", ["t"], ["u"], {"alpha": 0.3})]),
    "hard swish": unary([("HardSwish", ["t"], ["u"], {})]),
    "silu": unary([("Sigmoid", ["t"], ["s"], {}), ("Mul", ["t", "s"], ["u"], {})]),
    "hard swish in pieces": unary(
        [
            ("Add", ["t", "three"], ["a"], {}),
            ("Clip", ["a", "zero", "six"], ["c"], {}),
            ("Mul", ["t", "c"], ["m"], {}),
            ("Div", ["m", "six"], ["u"], {}),
        ],
        {"three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)},
    ),
    "gelu in pieces": unary(
        [
            ("Div", ["t", "r2"], ["a"], {}),
            ("Erf", ["a"], ["e"], {}),
            ("Add", ["e", "one"], ["f"], {}),
            ("Mul", ["t", "f"], ["g"], {}),
            ("Mul", ["g", "half"], ["u"], {}),
        ],
        {"r2": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
    ),
    "leaky relu by max": unary(
        [("Mul", ["t", "a"], ["m"], {}), ("Max", ["t", "m"], ["u"], {})], {"a": np.float32(0.1)}
    ),
    "max pool": after(
        [("MaxPool", ["t"], ["y"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})], {"MaxPool"}
    ),
    "max pool ceil": after(
        [("MaxPool", ["t"], ["y"], {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1})],
        {"MaxPool"},
        None,
        (1, 4, 8, 9),
    ),
    "max pool dilated": after([("MaxPool", ["t"], ["y"], {"kernel_shape": [2, 2], "dilations": [2, 3]})], {"MaxPool"}),
    "max pool 1d": after(
        [("MaxPool", ["t"], ["y"], {"kernel_shape": [3], "strides": [2]})], {"MaxPool"}, None, (1, 4, 9)
    ),
    "average pool": after(
        [("AveragePool", ["t"], ["y"], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})],
        {"QLinearAveragePool"},
    ),
    "average pool counting pads": after(
        [
            (
                "AveragePool",
                ["t"],
                ["y"],
                {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
            )
        ],
        {"QLinearAveragePool"},
    ),
    "average pool ceil": after(
        [("AveragePool", ["t"], ["y"], {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})],
        {"QLinearAveragePool"},
        None,
        (1, 4, 8, 9),
    ),
    "global average pool": after([("GlobalAveragePool", ["t"], ["y"], {})], {"QLinearGlobalAveragePool"}),
    "global average pool 1d": after(
        [("GlobalAveragePool", ["t"], ["y"], {})], {"QLinearGlobalAveragePool"}, None, (1, 4, 9)
    ),
    "reduce mean": after([("ReduceMean", ["t"], ["y"], {"axes": [2, 3], "keepdims": 0})], {"QLinearGlobalAveragePool"}),
    "concat, then conv": after(
        [
            ("Conv", ["x", "w1"], ["u"], {}),
            ("Concat", ["t", "u"], ["c"], {"axis": 1}),
            ("Conv", ["c", "w2"], ["y"], {}),
        ],
        {"QLinearConcat"},
        {"w1": weights(3, 4, 1, 1, seed=4, scale=0.9), "w2": weights(2, 7, 1, 1)},
    ),
    "split": after(
        [
            ("Split", ["t", "parts"], ["a", "b"], {"axis": 1}),
            ("Conv", ["a", "w1"], ["c"], {}),
            ("Conv", ["b", "w2"], ["d"], {}),
            ("Add", ["c", "d"], ["y"], {}),
        ],
        {"Split", "QLinearAdd"},
        {"parts": i64(1, 3), "w1": weights(2, 1, 1, 1), "w2": weights(2, 3, 1, 1)},
    ),
    "slice": after(
        [("Slice", ["t", "s", "e", "a", "st"], ["y"], {})],
        {"Slice"},
        {"s": i64(1, -1), "e": i64(5, -7), "a": i64(2, 3), "st": i64(2, -2)},
    ),
    "pad constant": after(
        [("Pad", ["t", "p"], ["u"], {}), ("MaxPool", ["u"], ["y"], {"kernel_shape": [2, 2]})],
        {"Pad"},
        {"p": i64(0, 0, 1, 2, 0, 0, 3, 0)},
    ),
    "pad reflect": after(
        [("Pad", ["t", "p"], ["y"], {"mode": "reflect"})], {"Pad"}, {"p": i64(0, 0, 1, 2, 0, 0, 3, 0)}
    ),
    "pad edge": after([("Pad", ["t", "p"], ["y"], {"mode": "edge"})], {"Pad"}, {"p": i64(0, 0, 1, 2, 0, 0, 3, 0)}),
    "pad + conv": after(
        [("Pad", ["t", "p"], ["u"], {}), ("Conv", ["u", "w1"], ["y"], {})],
        set(),
        {"p": i64(0, 0, 1, 2, 0, 0, 3, 0), "w1": weights(2, 4, 3, 3)},
    ),
    "reshape": after(
        [("Reshape", ["t", "s"], ["u"], {}), ("MatMul", ["u", "w1"], ["y"], {})],
        {"Reshape", "QLinearMatMul"},
        {"s": i64(1, 12, 12), "w1": weights(12, 3)},
    ),
    "flatten": after(
        [("Flatten", ["t"], ["u"], {}), ("Gemm", ["u", "w1"], ["y"], {})], {"Flatten"}, {"w1": weights(144, 3)}
    ),
    "squeeze and unsqueeze": after(
        [
            ("GlobalAveragePool", ["t"], ["m"], {}),
            ("Squeeze", ["m", "a"], ["s"], {}),
            ("MatMul", ["s", "w1"], ["g"], {}),
            ("Unsqueeze", ["g", "a"], ["u"], {}),
            ("Mul", ["t", "u"], ["y"], {}),
        ],
        {"QLinearMul", "QLinearMatMul"},
        {"a": i64(2, 3), "w1": weights(4, 4)},
    ),
    "transpose": after(
        [("Transpose", ["t"], ["u"], {"perm": [0, 2, 3, 1]}), ("MatMul", ["u", "w1"], ["y"], {})],
        {"Transpose", "QLinearMatMul"},
        {"w1": weights(4, 3)},
    ),
    "resize x2": after(
        [
            (
                "Resize",
                ["t", "", "s"],
                ["y"],
                {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            )
        ],
        {"Resize"},
        {"s": np.asarray([1, 1, 2, 2], np.float32)},
    ),
    "resize x1.5": after(
        [("Resize", ["t", "", "s"], ["y"], {"mode": "nearest"})],
        {"Resize"},
        {"s": np.asarray([1, 1, 1.5, 2.5], np.float32)},
    ),
    "resize to size": after(
        [("Resize", ["t", "", "", "s"], ["y"], {"mode": "nearest", "coordinate_transformation_mode": "align_corners"})],
        {"Resize"},
        {"s": i64(1, 4, 11, 4)},
    ),
    "depth to space": after([("DepthToSpace", ["t"], ["y"], {"blocksize": 2})], {"DepthToSpace"}),
    "depth to space crd": after([("DepthToSpace", ["t"], ["y"], {"blocksize": 2, "mode": "CRD"})], {"DepthToSpace"}),
    "space to depth": after([("SpaceToDepth", ["t"], ["y"], {"blocksize": 2})], {"SpaceToDepth"}),
    "tile": after([("Tile", ["t", "r"], ["y"], {})], {"Tile"}, {"r": i64(1, 2, 1, 3)}),
    "gather channels": after([("Gather", ["t", "r"], ["y"], {"axis": 1})], {"Gather"}, {"r": i64(3, 1, 1, -4)}),
    "channel shuffle": after(
        [
            ("Reshape", ["t", "s1"], ["a"], {}),
            ("Transpose", ["a"], ["b"], {"perm": [0, 2, 1, 3, 4]}),
            ("Reshape", ["b", "s2"], ["c"], {}),
            ("Conv", ["c", "w1"], ["y"], {}),
        ],
        {"Transpose"},
        {"s1": i64(1, 2, 2, 6, 6), "s2": i64(1, 4, 6, 6), "w1": weights(2, 4, 1, 1)},
    ),
    "lone batchnorm": after(
        [
            ("Relu", ["t"], ["r"], {}),
            ("BatchNormalization", ["r", "g", "be", "me", "va"], ["u"], {}),
            ("Conv", ["u", "w1"], ["y"], {}),
        ],
        {"Gather"},
        {
            "g": weights(4) + 1,
            "be": weights(4),
            "me": weights(4, seed=2),
            "va": np.abs(weights(4)) + 0.5,
            "w1": weights(2, 4, 1, 1),
        },
    ),
    "argmax": after([("GlobalAveragePool", ["t"], ["m"], {}), ("ArgMax", ["m"], ["y"], {"axis": 1})], {"ArgMax"}),
    "argmax over rows": after(
        [("ArgMax", ["t"], ["y"], {"axis": 2, "keepdims": 0, "select_last_index": 1})], {"ArgMax"}
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("mode", ["u8", "s8 per channel"])
def test_operator(name: str, mode: str) -> None:
    nodes, inputs, constants, ops = CASES[name]
    proto = model(nodes, inputs, ["y"], constants)
    graph = load_proto(proto, ImportOptions(activations=mode[:2], per_channel=mode != "u8", samples=8))
    assert ops <= set(engine_ops(graph)), graph.host_segments
    assert all(s.reason.startswith(("head", "tail")) for s in graph.host_segments), [
        s.reason for s in graph.host_segments
    ]
    values = assert_exact(graph)
    float_values = all_tensors(proto, {k: values[k] for k in inputs})
    if "argmax" not in name:
        want, got = float_values["y"], values["y"]
        assert want.shape == got.shape
        noise = float(np.sqrt(np.mean((want - got) ** 2)) / (np.std(want) + 1e-9))
        assert noise < 0.12, f"{noise:.3f} of the float result's deviation"


def test_gather_of_data_is_no_table() -> None:
    nodes, inputs, constants, _ = CASES["gather channels"]
    graph = load_proto(model(nodes, inputs, ["y"], constants), ImportOptions())
    assert [type(n).__name__ for n in graph.nodes if n.op == "Gather"] == ["Move"]
