"""ConvTranspose by phases: the same integers as ONNX Runtime's float operator on small integers, any attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.frontend import load_proto
from tests.frontend.judge import all_tensors, assert_exact, feeds_for
from tests.frontend.models import model


@st.composite
def cases(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    n = draw(st.sampled_from([1, 2]))
    size = [draw(st.integers(1, 5)) for _ in range(n)]
    kernel = [draw(st.integers(1, 4)) for _ in range(n)]
    strides = [draw(st.integers(1, 4)) for _ in range(n)]
    dilations = [draw(st.integers(1, 3)) for _ in range(n)]
    group = draw(st.sampled_from([1, 2]))
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    full = [s * (d - 1) + (k - 1) * e + 1 for s, d, k, e in zip(strides, size, kernel, dilations, strict=True)]
    style = draw(st.sampled_from(["pads", "same", "shape"]))
    if style == "pads":
        extra = [draw(st.integers(0, s - 1)) for s in strides]
        begin = [draw(st.integers(0, min(3, f - 1))) for f in full]
        end = [draw(st.integers(0, min(3, f - 1 - b))) for f, b in zip(full, begin, strict=True)]
        attributes |= {"output_padding": extra, "pads": begin + end}
    elif style == "same":
        attributes["auto_pad"] = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"]))
        attributes["dilations"] = [1] * n
        if any(k < s for k, s in zip(kernel, strides, strict=True)):
            attributes["auto_pad"] = "VALID"
    else:
        attributes["output_shape"] = [draw(st.integers(max(1, f - 3), f)) for f in full]
    c, m = 2 * group, draw(st.integers(1, 2))
    return (draw(st.integers(1, 2)), c, *size), (c, m, *kernel), attributes


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases())
def test_same_integers(case: tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]) -> None:
    x, w, attributes = case
    weight = np.random.default_rng(1).integers(-3, 4, w).astype(np.int8)
    constants = {
        "s": np.float32(1),
        "z": np.uint8(128),
        "w": weight,
        "ws": np.float32(1),
        "wz": np.int8(0),
        "ys": np.float32(4),
        "yz": np.uint8(128),
    }
    nodes: list[Any] = [
        ("QuantizeLinear", ["x", "s", "z"], ["q"], {}),
        ("DequantizeLinear", ["q", "s", "z"], ["f"], {}),
        ("DequantizeLinear", ["w", "ws", "wz"], ["wf"], {}),
        ("ConvTranspose", ["f", "wf"], ["c"], attributes),
        ("QuantizeLinear", ["c", "ys", "yz"], ["y"], {}),
    ]
    proto = model(nodes, {"x": x}, ["y"], constants)
    graph = load_proto(proto)
    assert any(n.op == "QLinearConv" for n in graph.nodes), [s.reason for s in graph.host_segments]
    assert_exact(graph, seeds=1)
    feeds = feeds_for(proto, 3, scale=20)
    from compiler.executor.golden import run_graph

    np.testing.assert_array_equal(all_tensors(proto, feeds)["y"], run_graph(graph, feeds)["y"])
