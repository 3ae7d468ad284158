"""Golden kernels against definitions written out in plain integers (ONNX Runtime judges them in tests/frontend)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.executor.golden import accumulate, fma, pair_table, requantize, run_graph
from compiler.frontend import load_proto, zoo
from compiler.ir.graph import Binary, Conv


def conv(rng: np.random.Generator, **k: Any) -> tuple[Conv, np.ndarray[Any, Any]]:
    g, n, m, kh, kw = k["groups"], k["n"], k["m"], *k["kernel"]
    x = rng.integers(0, 256, (k["batch"], n * g, *k["size"])).astype(np.uint8)
    pads, (sh, sw), (dh, dw) = k["pads"], k["strides"], k["dilations"]
    oh = (x.shape[2] + pads[0] + pads[2] - (kh - 1) * dh - 1) // sh + 1
    ow = (x.shape[3] + pads[1] + pads[3] - (kw - 1) * dw - 1) // sw + 1
    w = rng.integers(0, 256, (m * g, n, kh, kw)).astype(np.uint8)
    node = Conv(
        "c", "QLinearConv", "x", "y", w, k["wz"], rng.integers(-99, 99, m * g).astype(np.int32),
        np.full(m * g, 0.01, np.float32), k["xz"], 7, x.shape, (k["batch"], m * g, oh, ow),
        k["strides"], pads, k["dilations"], g,
    )  # fmt: skip
    return node, x


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 999), st.integers(1, 2), st.sampled_from([1, 2, 4]), st.integers(1, 3), st.integers(1, 3),
    st.tuples(st.integers(1, 3), st.integers(1, 3)), st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(*[st.integers(0, 2)] * 4), st.integers(0, 255), st.integers(0, 255),
)  # fmt: skip
def test_accumulators_are_the_sum_of_products(
    seed: int, batch: int, groups: int, n: int, m: int, kernel: tuple[int, int], step: tuple[int, int],
    pads: tuple[int, int, int, int], xz: int, wz: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    node, x = conv(
        rng, batch=batch, groups=groups, n=n, m=m, kernel=kernel, strides=step, dilations=step[::-1], pads=pads,
        size=(6, 7), xz=xz, wz=wz,
    )  # fmt: skip
    padded = np.pad(x.astype(np.int64) - xz, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    want = np.zeros(node.y_shape, np.int64)
    for b, c, i, j in np.ndindex(*node.y_shape):
        g = c // m
        box = padded[b, g * n : (g + 1) * n, i * step[0] :, j * step[1] :]
        box = box[:, : (kernel[0] - 1) * step[1] + 1 : step[1], : (kernel[1] - 1) * step[0] + 1 : step[0]]
        want[b, c, i, j] = int((box * (node.weight[c].astype(np.int64) - wz)).sum()) + int(node.bias[c])
    np.testing.assert_array_equal(accumulate(node, x), want)


@pytest.mark.parametrize("depth", [300, 514, 515, 2000])
def test_deep_sums_stay_exact(depth: int) -> None:
    """All operands at their extremes: one float32 sum would pass 2^24."""
    w = np.full((1, depth, 1, 1), 255, np.uint8)
    scale, bias = np.ones(1, np.float32), np.zeros(1, np.int32)
    node = Conv("c", "QLinearConv", "x", "y", w, 0, bias, scale, 0, 0, (1, depth, 1, 1), (1, 1, 1, 1))
    x = np.full((1, depth, 1, 1), 255, np.uint8)
    x[0, 0] = 254
    assert accumulate(node, x).item() == 255 * 255 * depth - 255


def test_requantize_rounds_half_to_even_before_the_zero_point() -> None:
    acc = np.asarray([1, 3, 5, -1, -3, 2**31 - 1, -(2**31)], np.int32)
    got = requantize(acc, np.float32(0.5), 3, np.dtype(np.uint8))
    np.testing.assert_array_equal(got, [3, 5, 5, 3, 1, 255, 0])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(*[st.floats(-1e4, 1e4, width=32)] * 3)
def test_fma_rounds_once(a: float, b: float, c: float) -> None:
    from fractions import Fraction

    exact = Fraction(a) * Fraction(b) + Fraction(c)
    got = fma(np.asarray([a], np.float32), np.asarray([b], np.float32), np.asarray([c], np.float32))[0]
    below, above = np.nextafter(got, np.float32(-np.inf)), np.nextafter(got, np.float32(np.inf))
    off = abs(Fraction(float(got)) - exact)
    assert off <= abs(Fraction(float(below)) - exact) and off <= abs(Fraction(float(above)) - exact)


def test_products_add_the_zero_point_inside_the_rounding() -> None:
    node = Binary("m", "QLinearMul", "a", "b", "y", "mul", 0, 0, 3, {"s": 0.5}, (1,) * 4, (1,) * 4, (1,) * 4)
    table = pair_table(node, np.dtype(np.uint8))
    assert table[1, 1] == 4  # 0.5 + 3 = 3.5 rounds to 4; rounding first would give 3


def test_wrong_input_is_refused() -> None:
    graph = load_proto(zoo.build("tiny"))
    with pytest.raises(ValueError, match="shape"):
        run_graph(graph, {"input": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(KeyError):
        run_graph(graph, {})
