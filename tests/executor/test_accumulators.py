"""Accumulators and reachable levels of the reference against sums written out in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from compiler.executor.levels import Levels, Scaling
from compiler.executor.reference import Reference

Array = np.ndarray[Any, Any]


def reference(nodes: list[Any], constants: dict[str, Any], x: Array, y: str) -> Reference:
    elem = TensorProto.UINT8 if x.dtype == np.uint8 else TensorProto.INT8
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", elem, x.shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], elem, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return Reference(helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(), {y})


def draw(rng: np.random.Generator, dtype: type, shape: tuple[int, ...]) -> Array:
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def convolve(x: Array, w: Array, groups: int, stride: int, pad: int, dilation: int) -> Array:
    """Plain loops over taps in int64; x and w without their zero points."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    m, n, kh, kw = w.shape
    oh, ow = ((x.shape[2 + a] - (w.shape[2 + a] - 1) * dilation - 1) // stride + 1 for a in (0, 1))
    out = np.zeros((x.shape[0], m, oh, ow), np.int64)
    for c in range(m):
        first = c // (m // groups) * n
        for i in range(kh):
            for j in range(kw):
                tap = x[:, first : first + n, i * dilation :, j * dilation :]
                tap = tap[:, :, : (oh - 1) * stride + 1 : stride, : (ow - 1) * stride + 1 : stride]
                out[:, c] += (tap * w[c, :, i, j][:, None, None]).sum(axis=1)
    return out


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("groups,stride,pad,dilation", [(1, 1, 1, 1), (2, 2, 0, 1), (6, 1, 2, 2)])
@pytest.mark.parametrize("per_channel,bias", [(True, True), (False, False)])
def test_convolution(
    dtype: type, groups: int, stride: int, pad: int, dilation: int, per_channel: bool, bias: bool
) -> None:
    rng = np.random.default_rng(groups + pad)
    x, w = draw(rng, dtype, (2, 6, 9, 8)), draw(rng, dtype, (12, 6 // groups, 3, 3))
    xz, wz = draw(rng, dtype, ()), draw(rng, dtype, ())
    constants = {
        "xs": np.float32(0.1), "xz": xz, "w": w, "ys": np.float32(9), "yz": draw(rng, dtype, ()),
        "ws": np.full(12, 0.1, np.float32) if per_channel else np.float32(0.1),
        "wz": np.full(12, wz) if per_channel else wz,
        "b": rng.integers(-(2**31), 2**31, 12).astype(np.int32),
    }  # fmt: skip
    node = helper.make_node(
        "QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if bias else [])], ["y"],
        group=groups, strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2,
    )  # fmt: skip
    wanted = convolve(x.astype(np.int64) - int(xz), w.astype(np.int64) - int(wz), groups, stride, pad, dilation)
    if bias:
        wanted += constants["b"].astype(np.int64)[:, None, None]
    tensors, sums = reference([node], constants, x, "y").run_both({"x": x})
    wrapped = (wanted & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    assert tensors["y"].shape == wanted.shape and np.array_equal(sums["y"], wrapped.reshape(-1))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("bias", [True, False])
def test_matrix_products_and_averages(dtype: type, bias: bool) -> None:
    """x (2, 5, 3, 4) -> average -> Reshape -> QGemm or QLinearMatMul; the average is stored under its other shape."""
    rng = np.random.default_rng(3)
    x, w = draw(rng, dtype, (2, 5, 3, 4)), draw(rng, dtype, (5, 7))
    xz, az, wz, yz = (draw(rng, dtype, ()) for _ in range(4))
    b = rng.integers(-999, 999, 7).astype(np.int32)
    constants = {
        "s": np.float32(0.1),
        "xz": xz,
        "az": az,
        "w": w,
        "wz": wz,
        "yz": yz,
        "b": b,
        "shape": np.array([2, 5]),
    }
    average = ["x", "s", "xz", "s", "az"]
    last = (
        helper.make_node("QGemm", ["a", "s", "az", "w", "s", "wz", "b", "s", "yz"], ["y"], domain="com.microsoft")
        if bias
        else helper.make_node("QLinearMatMul", ["a", "s", "az", "w", "s", "wz", "s", "yz"], ["y"])
    )
    nodes = [
        helper.make_node("QLinearGlobalAveragePool", average, ["g"], domain="com.microsoft", channels_last=0),
        helper.make_node("Reshape", ["g", "shape"], ["a"]),
        last,
    ]
    tensors, sums = reference(nodes, constants, x, "a").run_both({"x": x})
    assert set(sums) == {"a"}
    assert np.array_equal(sums["a"], (x.astype(np.int64) - int(xz)).sum(axis=(2, 3)).reshape(-1))
    tensors, sums = reference(nodes, constants, x, "y").run_both({"x": x})
    wanted = (tensors["a"].astype(np.int64) - int(az)) @ (w.astype(np.int64) - int(wz)) + (b if bias else 0)
    assert set(sums) == {"y"} and np.array_equal(sums["y"], wanted.reshape(-1))


@given(
    st.integers(-3000, 3000), st.integers(0, 3000), st.floats(2**-13, 40, width=32), st.integers(0, 255), st.booleans()
)
@settings(max_examples=300, deadline=None)
def test_reachable_levels_are_those_of_every_accumulator(
    low: int, span: int, scale: float, zero: int, signed: bool
) -> None:
    least, most, zero = (-128, 127, zero - 128) if signed else (0, 255, zero)
    acc = np.arange(low, low + span + 1)
    every = np.clip(np.rint(acc.astype(np.float32) * np.float32(scale)).astype(np.int64) + zero, least, most)
    found = Scaling(np.array([low]), np.array([low + span]), np.float32([scale]), zero, least, most).levels()
    assert found.tolist() == [len(np.unique(every))]


def test_levels_seen_and_possible() -> None:
    """One weight of 1 and one of 0 with scale 1: all 256 results, and one. Inputs 0, 0, 7 show two of them, and one."""
    one = np.float32(1)
    constants = {
        "s": one, "z": np.uint8(0), "w": np.array([[[[1]]], [[[0]]]], np.uint8), "ws": np.ones(2, np.float32),
        "wz": np.zeros(2, np.uint8),
    }  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "s", "z"], ["y"])
    x = np.array([[[[0, 0, 7]]]], np.uint8)
    r = reference([node], constants, x, "y")
    levels = Levels(r)
    levels.add(r.run({"x": x}))
    assert (levels.seen, levels.possible) == (3, 257)
