"""QDQ groups: fused to integers, exact against ONNX Runtime, within one step of the raw float group (Gate B)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from compiler.frontend import load_proto
from compiler.ir.graph import Conv
from tests.frontend.judge import all_tensors, assert_exact, engine_ops
from tests.frontend.models import Qdq


def gate_b(q: Qdq, y: str, ops: set[str], share: float = 2e-3) -> None:
    """Only the ends stay on the host, the integers are exact, the raw model differs by a step in few elements."""
    proto = q.model(y)
    graph = load_proto(proto)
    assert ops <= set(engine_ops(graph)), [s.reason for s in graph.host_segments]
    assert all(s.reason.startswith(("head", "tail")) for s in graph.host_segments), [
        s.reason for s in graph.host_segments
    ]
    values = assert_exact(graph)
    raw = all_tensors(proto, {k: values[k] for k in q.inputs})[y]
    last = next(n for n in reversed(proto.graph.node) if n.op_type == "DequantizeLinear" and n.output[0] == y)
    step = float(q.constants[last.input[1]])
    off = np.rint(np.abs(raw - values[y]) / step)
    assert off.max() <= 1, off.max()
    assert (off > 0).mean() <= share, (off > 0).mean()


@pytest.mark.parametrize("elem", ["u8", "s8"])
@pytest.mark.parametrize("w_elem", [np.uint8, np.int8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_conv(elem: str, w_elem: type, per_channel: bool) -> None:
    q = Qdq(elem)
    x = q.input((2, 6, 12, 12))
    w = q.weight((8, 3, 3, 3), per_channel=per_channel, elem=w_elem)
    inputs = [x, w] if per_channel else [x, w, q.bias(0.02, 0.01, 8)]
    y = q.op("Conv", inputs, 0.3, 7, relu=True, group=2, pads=[1, 0, 1, 2])
    gate_b(q, y, {"QLinearConv"})
    graph = load_proto(q.model(y))
    conv = next(n for n in graph.nodes if isinstance(n, Conv))
    assert conv.weight.dtype == (np.uint8 if elem == "u8" else np.int8), "canonical is u8u8 or s8s8"


@pytest.mark.parametrize("elem", ["u8", "s8"])
def test_relu_with_a_zero_point_in_the_middle_is_a_table(elem: str) -> None:
    q = Qdq(elem)
    y = q.op("Conv", [q.input((1, 3, 8, 8)), q.weight((4, 3, 3, 3))], 0.3, 0 if elem == "s8" else 100, relu=True)
    gate_b(q, y, {"QLinearConv", "Gather"})


def test_relu_at_the_lower_end_is_free() -> None:
    q = Qdq("u8")
    y = q.op("Conv", [q.input((1, 3, 8, 8)), q.weight((4, 3, 3, 3))], 0.3, 0, relu=True)
    gate_b(q, y, {"QLinearConv"})
    assert engine_ops(load_proto(q.model(y))) == ["QLinearConv"]


@pytest.mark.parametrize("elem", ["u8", "s8"])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
@pytest.mark.parametrize("shape", [(1, 5, 9, 9), (1, 5, 1, 1), (9,)])
def test_binary(elem: str, op: str, shape: tuple[int, ...]) -> None:
    q = Qdq(elem)
    y = q.op(op, [q.input((1, 5, 9, 9), 0.0213, -3 if elem == "s8" else 120), q.input(shape, 0.0171, 5)], 0.0377, 9)
    gate_b(q, y, {"QLinearMul" if op == "Mul" else "QLinearAdd"})


@pytest.mark.parametrize("elem", ["u8", "s8"])
def test_operands_of_two_signs(elem: str) -> None:
    q = Qdq(elem)
    other = Qdq("s8" if elem == "u8" else "u8")
    a = q.input((1, 5, 9, 9))
    q.elem = other.elem
    b = q.input((1, 5, 9, 9), 0.031, 1)
    y = q.op("Add", [a, b], 0.0377, 9)
    gate_b(q, y, {"QLinearAdd", "Gather"})


@pytest.mark.parametrize("elem", ["u8", "s8"])
def test_gemm_and_matmul(elem: str) -> None:
    q = Qdq(elem)
    x = q.op(
        "Gemm",
        [q.input((3, 20)), q.weight((10, 20), per_channel=True), q.const(np.ones(10, np.float32))],
        0.2,
        4,
        transB=1,
    )
    y = q.op("MatMul", [x, q.weight((10, 7), axis=1, per_channel=True)], 0.2, 4)
    gate_b(q, y, {"QGemm", "QLinearMatMul"}, share=0.02)


def test_transposed_weight_behind_dequantize() -> None:
    q = Qdq("u8")
    w = q.raw("Transpose", [q.weight((7, 20), per_channel=True)], perm=[1, 0])
    gate_b(q, q.op("MatMul", [q.input((3, 5, 20)), w], 0.2, 4), {"QLinearMatMul"})


@pytest.mark.parametrize("elem", ["u8", "s8"])
def test_moves_between_dequantize_and_quantize(elem: str) -> None:
    def scaled(q: Qdq, op: str, inputs: list[str], same: bool, **attributes: object) -> str:
        return q.op(op, inputs, 0.02 if same else 0.031, 3 if same else 11, **attributes)

    for same in (True, False):
        q = Qdq(elem)
        x = q.input((1, 4, 6, 6))
        y = scaled(q, "MaxPool", [x], same, kernel_shape=[2, 2], strides=[2, 2])
        y = scaled(q, "Transpose", [y], same, perm=[0, 2, 3, 1])
        y = scaled(q, "Reshape", [y, q.const(np.asarray([1, 9, 4]))], same)
        y = scaled(q, "Concat", [y, q.input((1, 2, 4))], same, axis=1)
        y = scaled(q, "Slice", [y, q.const(np.asarray([1])), q.const(np.asarray([9])), q.const(np.asarray([1]))], same)
        gate_b(q, y, {"MaxPool", "Transpose", "Slice"})


def test_quantize_is_hoisted_over_moves_and_pools() -> None:
    q = Qdq("u8")
    c = q.raw("Relu", [q.raw("Conv", [q.input((1, 3, 8, 8)), q.weight((4, 3, 3, 3))])])
    m = q.raw("MaxPool", [c], kernel_shape=[2, 2])
    gate_b(q, q.op("Transpose", [m], 0.3, 0, perm=[0, 2, 3, 1]), {"QLinearConv", "MaxPool", "Transpose"})


@pytest.mark.parametrize("elem", ["u8", "s8"])
@pytest.mark.parametrize(
    "build",
    [
        lambda q, x: q.op("Sigmoid", [x], 1 / 256, 0),
        lambda q, x: q.op("Mul", [x, q.raw("Sigmoid", [x])], 0.02, 9),
        lambda q, x: q.op("PRelu", [x, q.const(np.linspace(-0.5, 0.9, 5, dtype=np.float32).reshape(5, 1, 1))], 0.02, 9),
        lambda q, x: q.op("Max", [x, q.raw("LeakyRelu", [x], alpha=0.3)], 0.02, 9),
        lambda q, x: q.op("Clip", [x, q.const(np.float32(-0.3)), q.const(np.float32(0.7))], 0.02, 9),
        lambda q, x: q.op("Sub", [q.const(np.float32(1)), x], 0.02, 9),
        lambda q, x: q.op("Relu", [x], 0.031, 0),
    ],
)
def test_unary_island_is_one_table_equal_to_the_float_group(elem: str, build: Callable[[Qdq, str], str]) -> None:
    q = Qdq(elem)
    y = build(q, q.input((1, 5, 16, 16)))
    gate_b(q, y, {"Gather"}, share=0)
    assert engine_ops(load_proto(q.model(y))) == ["Gather"]


@pytest.mark.parametrize("elem", ["u8", "s8"])
@pytest.mark.parametrize("count_pads", [0, 1])
def test_average_pool(elem: str, count_pads: int) -> None:
    q = Qdq(elem)
    y = q.op(
        "AveragePool",
        [q.input((1, 5, 11, 11))],
        0.0173,
        8,
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        strides=[2, 2],
        count_include_pad=count_pads,
    )
    gate_b(q, y, {"QLinearAveragePool"})


def test_average_with_ties_and_an_odd_zero_point_rounds_as_quantize_does() -> None:
    q = Qdq("u8")
    y = q.op("AveragePool", [q.input((1, 8, 40, 40), 2**-6, 3)], 2**-6, 3, kernel_shape=[2, 2], strides=[2, 2])
    gate_b(q, y, {"QLinearConv"}, share=0)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "ReduceMean"])
def test_global_average(op: str) -> None:
    q = Qdq("u8")
    attributes = {"axes": [2, 3]} if op == "ReduceMean" else {}
    gate_b(q, q.op(op, [q.input((2, 50, 7, 5))], 0.0053, 120, **attributes), {"QLinearGlobalAveragePool"})


@pytest.mark.parametrize("elem", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_conv_transpose(elem: str, per_channel: bool) -> None:
    q = Qdq(elem)
    w = q.weight((6, 2, 3, 4), axis=1, per_channel=per_channel)
    y = q.op(
        "ConvTranspose",
        [q.input((1, 6, 7, 8)), w],
        0.3,
        7,
        group=2,
        strides=[2, 3],
        pads=[1, 0, 0, 2],
        output_padding=[1, 2],
    )
    gate_b(q, y, {"QLinearConv", "Transpose"})


def test_differing_weight_zero_points_are_brought_together_or_stay_on_the_host() -> None:
    for zeros, engine in (([110, 130, 120, 125], True), ([0, 255, 3, 250], False)):
        q = Qdq("u8")
        w, f = q.name("w"), q.name("wf")
        zero = np.asarray(zeros, np.uint8)
        reach = 100 if engine else 255
        values = q.rng.integers(-reach, reach + 1, (4, 3, 3, 3)) + zero.reshape(-1, 1, 1, 1).astype(int)
        q.constants[w] = np.clip(values, 0, 255).astype(np.uint8)
        q.constants["ws"], q.constants["wz"] = np.full(4, 0.01, np.float32), zero
        q.nodes.append(("DequantizeLinear", [w, "ws", "wz"], [f], {"axis": 0}))
        y = q.op("Conv", [q.input((1, 3, 8, 8)), f], 0.3, 7)
        graph = load_proto(q.model(y))
        assert ("QLinearConv" in engine_ops(graph)) == engine
        assert_exact(graph)
        if not engine:
            assert any("zero points" in s.reason for s in graph.host_segments)


def test_unsupported_operator_in_the_middle_names_node_and_operator() -> None:
    q = Qdq("u8")
    a = q.op("Conv", [q.input((1, 3, 8, 8)), q.weight((4, 3, 1, 1))], 0.3, 7)
    b = q.op("Softmax", [a], 1 / 256, 0, axis=1)
    y = q.op("Conv", [b, q.weight((2, 4, 1, 1))], 0.3, 7)
    graph = load_proto(q.model(y))
    middle = [s for s in graph.host_segments if s.reason.startswith("middle")]
    assert len(middle) == 1 and "Softmax" in middle[0].reason and "'n" in middle[0].reason
    assert engine_ops(graph) == ["QLinearConv", "QLinearConv"]
    assert_exact(graph)


def test_product_of_two_activations_is_a_host_segment() -> None:
    q = Qdq("u8")
    y = q.op("MatMul", [q.input((1, 4, 5)), q.input((1, 5, 6))], 0.1, 3)
    graph = load_proto(q.model(y))
    assert any("two activations" in s.reason for s in graph.host_segments)
    assert_exact(graph)


def test_float_left_between_operators_is_quantised_by_its_range_and_said() -> None:
    q = Qdq("u8")
    s = q.raw("HardSwish", [q.input((1, 4, 8, 8))])
    y = q.op("GlobalAveragePool", [s], 0.01, 0)
    graph = load_proto(q.model(y))
    assert "QLinearGlobalAveragePool" in engine_ops(graph)
    assert any("reachable range" in f for f in graph.fallbacks)
    assert_exact(graph)


def test_float_weights_are_quantised_and_said() -> None:
    q = Qdq("u8")
    y = q.op(
        "ConvTranspose",
        [q.input((1, 4, 8, 8)), q.const((q.rng.random((4, 3, 2, 2)) - 0.5).astype(np.float32))],
        0.05,
        100,
        strides=[2, 2],
    )
    graph = load_proto(q.model(y))
    assert any("float weight" in f for f in graph.fallbacks)
    assert "QLinearConv" in engine_ops(graph)
    assert_exact(graph)


def test_two_readers_one_quantised() -> None:
    """A float result that also leaves the graph in float is computed on both sides, with its exact float value."""
    q = Qdq("u8")
    c = q.raw("Conv", [q.input((1, 3, 8, 8)), q.weight((4, 3, 3, 3))])
    y = q.quantize(c, 0.3, 7)
    graph = load_proto(q.model(y, c))
    assert engine_ops(graph) == ["QLinearConv"]
    values = assert_exact(graph)
    raw = all_tensors(q.model(y, c), {k: values[k] for k in q.inputs})
    np.testing.assert_allclose(values[c], raw[c], atol=1e-5)


def test_equal_parameters_make_no_table() -> None:
    q = Qdq("u8")
    x = q.input((1, 4, 8, 8))
    y = q.quantize(x, 0.02, 3)
    graph = load_proto(q.model(y))
    assert not graph.nodes or all(n.op == "Identity" for n in graph.nodes)
    assert_exact(graph)


def test_integers_not_floats_travel_between_host_segments() -> None:
    q = Qdq("u8")
    a = q.op("Conv", [q.input((1, 3, 8, 8)), q.weight((4, 3, 1, 1))], 0.3, 7)
    b = q.op("Softmax", [a], 1 / 256, 0, axis=1)
    c = q.op("Conv", [b, q.weight((4, 4, 1, 1))], 0.3, 7)
    y = q.raw("Einsum", [a, c], equation="nchw,nchw->nc")
    graph = load_proto(q.model(y))
    inputs = {i for s in graph.host_segments for i in s.inputs} - set(graph.inputs)
    assert all(graph.tensors[i].dtype == "u8" for i in inputs), inputs
    assert_exact(graph)
