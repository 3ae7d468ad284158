"""QOperator graphs: taken as they are, in the one canonical form; what no engine has goes to the host with why."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from compiler.frontend import load_proto
from compiler.ir.graph import Binary, Conv, Table
from tests.frontend.judge import assert_exact, engine_ops
from tests.frontend.models import model

U8, S8 = onnx.TensorProto.UINT8, onnx.TensorProto.INT8
NP = {U8: np.uint8, S8: np.int8}


def params(elem: int, **values: tuple[float, int]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for k, (scale, zero) in values.items():
        out[f"{k}s"], out[f"{k}z"] = np.float32(scale), NP[elem](zero)
    return out


@pytest.mark.parametrize("x_elem", [U8, S8])
@pytest.mark.parametrize("w_elem", [U8, S8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_conv_of_any_signs(x_elem: int, w_elem: int, per_channel: bool) -> None:
    rng = np.random.default_rng(0)
    info = np.iinfo(NP[w_elem])
    c = params(x_elem, x=(0.02, 3), y=(0.4, 7))
    c["w"] = rng.integers(info.min, info.max + 1, (6, 2, 3, 3)).astype(NP[w_elem])
    c["ws"] = rng.uniform(0.01, 0.03, 6).astype(np.float32) if per_channel else np.float32(0.02)
    c["wz"] = np.full(6, 5, NP[w_elem]) if per_channel else NP[w_elem](5)
    c["b"] = rng.integers(-500, 500, 6).astype(np.int32)
    nodes: list[Any] = [
        (
            "QLinearConv",
            ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"],
            ["y"],
            {"group": 2, "auto_pad": "SAME_UPPER"},
        )
    ]
    graph = load_proto(model(nodes, {"x": (2, 4, 9, 9)}, ["y"], c, elem=x_elem))
    (node,) = graph.nodes
    assert isinstance(node, Conv) and node.weight.dtype == NP[x_elem]
    got = node.weight.astype(int) - node.weight_zero_point
    np.testing.assert_array_equal(got.reshape(c["w"].shape), c["w"].astype(int) - 5)
    assert not graph.host_segments and not graph.fallbacks
    assert_exact(graph)


@pytest.mark.parametrize("elem", [U8, S8])
@pytest.mark.parametrize("b_shape", [(1, 5, 7, 7), (5, 1, 1), (), (1, 5, 1, 7)])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("constant", [False, True])
def test_binary_broadcast(elem: int, b_shape: tuple[int, ...], op: str, constant: bool) -> None:
    c = params(elem, a=(0.0213, 3), b=(0.0171, -5 if elem == S8 else 200), y=(0.0311, 9))
    inputs = {"x": (2, 5, 7, 7)}
    if constant:
        info = np.iinfo(NP[elem])
        c["b"] = np.random.default_rng(1).integers(info.min, info.max + 1, b_shape).astype(NP[elem])
    else:
        inputs["b"] = b_shape
    nodes: list[Any] = [(f"ms:{op}", ["x", "as", "az", "b", "bs", "bz", "ys", "yz"], ["y"], {})]
    graph = load_proto(model(nodes, inputs, ["y"], c, elem=elem))
    assert isinstance(graph.nodes[-1], Binary)
    assert_exact(graph)


@pytest.mark.parametrize("elem", [U8, S8])
@pytest.mark.parametrize("op", ["QLinearLeakyRelu", "QLinearSigmoid"])
def test_unary_becomes_a_table_within_a_step_of_the_operator(elem: int, op: str) -> None:
    c = params(elem, x=(0.04, 3), y=(0.03, 9))
    nodes: list[Any] = [(f"ms:{op}", ["x", "xs", "xz", "ys", "yz"], ["y"], {"alpha": 0.2} if "Leaky" in op else {})]
    proto = model(nodes, {"x": (1, 16, 16)}, ["y"], c, elem=elem)
    graph = load_proto(proto)
    (node,) = graph.nodes
    assert isinstance(node, Table)
    assert_exact(graph)
    from compiler.executor.golden import run_graph
    from tests.frontend.judge import all_tensors

    feeds = {"x": np.arange(256, dtype=np.uint8).view(NP[elem]).reshape(1, 16, 16)}
    off = np.abs(all_tensors(proto, feeds)["y"].astype(int) - run_graph(graph, feeds)["y"].astype(int))
    assert off.max() <= 1 and off.sum() <= 1


def test_matrix_products() -> None:
    rng = np.random.default_rng(0)
    c = params(U8, x=(0.02, 3), h=(0.3, 100), y=(0.4, 120))
    c |= {
        "w": rng.integers(-128, 128, (12, 9)).astype(np.int8),
        "ws": rng.uniform(0.01, 0.03, 9).astype(np.float32),
        "wz": np.zeros(9, np.int8),
    }
    c |= {
        "v": rng.integers(0, 256, (5, 9)).astype(np.uint8),
        "vs": np.float32(0.02),
        "vz": np.uint8(128),
        "b": rng.integers(-900, 900, 5).astype(np.int32),
    }
    nodes: list[Any] = [
        ("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "hs", "hz"], ["h"], {}),
        ("ms:QGemm", ["h", "hs", "hz", "v", "vs", "vz", "b", "ys", "yz"], ["y"], {"transB": 1}),
    ]
    graph = load_proto(model(nodes, {"x": (3, 12)}, ["y"], c, elem=U8))
    assert engine_ops(graph) == ["QLinearMatMul", "QGemm"]
    assert_exact(graph)


@pytest.mark.parametrize("elem", [U8, S8])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3]},
        {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [2, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"kernel_shape": [4, 3], "strides": [3, 2], "pads": [1, 0, 1, 0], "ceil_mode": 1, "count_include_pad": 1},
    ],
)
def test_average_pool(elem: int, attributes: dict[str, Any]) -> None:
    c = params(elem, x=(0.02, 3), y=(0.017, 8))
    nodes: list[Any] = [("ms:QLinearAveragePool", ["x", "xs", "xz", "ys", "yz"], ["y"], attributes)]
    graph = load_proto(model(nodes, {"x": (1, 3, 9, 8)}, ["y"], c, elem=elem))
    assert engine_ops(graph) == ["QLinearAveragePool"], [s.reason for s in graph.host_segments]
    assert_exact(graph)


def test_global_average_concat_and_tail() -> None:
    c = params(U8, x=(0.02, 3), g=(0.011, 8), y=(0.03, 5))
    nodes: list[Any] = [
        ("ms:QLinearGlobalAveragePool", ["x", "xs", "xz", "gs", "gz"], ["g"], {"channels_last": 0}),
        ("ms:QLinearConcat", ["ys", "yz", "g", "gs", "gz", "b", "xs", "xz"], ["c"], {"axis": 1}),
        ("ArgMax", ["c"], ["k"], {"axis": 1}),
        ("ms:QLinearSoftmax", ["c", "ys", "yz", "ps", "pz"], ["p"], {"axis": 1, "opset": 13}),
    ]
    c |= {"ps": np.float32(1 / 256), "pz": np.uint8(0), "b": np.full((1, 2, 1, 1), 200, np.uint8)}
    graph = load_proto(model(nodes, {"x": (1, 3, 9, 8)}, ["k", "p"], c, elem=U8))
    assert engine_ops(graph) == ["QLinearGlobalAveragePool", "QLinearConcat", "ArgMax"]
    assert [s.reason.split(":")[0] for s in graph.host_segments] == ["tail"]
    assert_exact(graph)


def test_three_spatial_dimensions_stay_on_the_host() -> None:
    c = params(U8, x=(0.02, 3), y=(0.4, 7)) | {
        "w": np.ones((2, 1, 2, 2, 2), np.uint8),
        "ws": np.float32(0.1),
        "wz": np.uint8(0),
    }
    nodes: list[Any] = [("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], {})]
    graph = load_proto(model(nodes, {"x": (1, 1, 4, 4, 4)}, ["y"], c, elem=U8))
    assert not graph.nodes and "spatial" in graph.host_segments[0].reason
    assert_exact(graph)


def test_host_nodes_around_an_engine_node_never_make_a_cycle() -> None:
    """host A feeds engine E and host B; E feeds B: A and B may not be one segment."""
    c = params(U8, x=(0.02, 3), y=(0.03, 5))
    nodes: list[Any] = [
        ("Not", ["m"], ["a0"], {}),
        ("Cast", ["a0"], ["a"], {"to": U8}),
        ("ms:QLinearAdd", ["a", "xs", "xz", "a", "xs", "xz", "ys", "yz"], ["e"], {}),
        ("BitShift", ["e", "a"], ["b"], {"direction": "LEFT"}),
    ]
    graph = load_proto(model(nodes, {"m": (1, 4)}, ["b"], c, elem=onnx.TensorProto.BOOL))
    assert [type(s).__name__ for s in graph.steps] == ["HostSegment", "Binary", "HostSegment"]
    assert_exact(graph)
