"""Random small float graphs through the whole import: legal, exact in every tensor, and the same model twice."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.frontend import ImportOptions, load_proto
from tests.frontend.judge import assert_exact
from tests.frontend.models import NodeSpec, model, weights


class Net:
    """Grows a graph one drawn layer at a time, over NCHW tensors."""

    def __init__(self) -> None:
        self.nodes: list[NodeSpec] = []
        self.constants: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}

    def emit(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        y = f"t{len(self.nodes)}"
        self.nodes.append((op, inputs, [y], attributes))
        self.shapes[y] = shape
        return y

    def const(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name


def layer(net: Net, draw: Any, x: str) -> str:
    n, c, h, w = net.shapes[x]
    kind = draw(
        st.sampled_from(["conv", "conv", "depthwise", "act", "pool", "add", "concat", "move", "se", "up", "softmax"])
    )
    if kind == "conv":
        m, k, s = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        pads = [draw(st.integers(0, k - 1)) for _ in range(4)]
        oh, ow = (h + pads[0] + pads[2] - k) // s + 1, (w + pads[1] + pads[3] - k) // s + 1
        if min(h + pads[0] + pads[2], w + pads[1] + pads[3]) < k:
            return x
        return net.emit(
            "Conv",
            [x, net.const(weights(m, c, k, k)), net.const(weights(m))],
            (n, m, oh, ow),
            strides=[s, s],
            pads=pads,
        )
    if kind == "depthwise":
        return net.emit("Conv", [x, net.const(weights(c, 1, 3, 3))], (n, c, h, w), group=c, pads=[1] * 4)
    if kind == "act":
        op = draw(st.sampled_from(["Relu", "Sigmoid", "LeakyRelu", "HardSwish", "Tanh", "Clip", "PRelu", "silu"]))
        if op == "silu":
            return net.emit("Mul", [x, net.emit("Sigmoid", [x], net.shapes[x])], net.shapes[x])
        extra = {
            "Clip": [net.const(np.float32(-0.2)), net.const(np.float32(0.8))],
            "PRelu": [net.const(weights(c, 1, 1))],
        }
        return net.emit(op, [x, *extra.get(op, [])], net.shapes[x])
    if kind == "pool":
        op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
        k = draw(st.integers(1, min(h, w, 3)))
        return net.emit(op, [x], (n, c, (h - k) // 2 + 1, (w - k) // 2 + 1), kernel_shape=[k, k], strides=[2, 2])
    if kind == "add":
        others = [t for t, s in net.shapes.items() if s == net.shapes[x]]
        op = draw(st.sampled_from(["Add", "Mul", "Sub"]))
        return net.emit(op, [x, draw(st.sampled_from(others))], net.shapes[x])
    if kind == "concat":
        others = [t for t, s in net.shapes.items() if s[0] == n and s[2:] == (h, w)]
        other = draw(st.sampled_from(others))
        return net.emit("Concat", [x, other], (n, c + net.shapes[other][1], h, w), axis=1)
    if kind == "move":
        if draw(st.booleans()):
            return net.emit("Transpose", [x], (n, w, c, h), perm=[0, 3, 1, 2])
        return net.emit("Reshape", [x, net.const(np.asarray([n, h * w, c, 1]))], (n, h * w, c, 1))
    if kind == "se":
        mean = net.emit("GlobalAveragePool", [x], (n, c, 1, 1))
        return net.emit("Mul", [x, net.emit("HardSigmoid", [mean], (n, c, 1, 1))], net.shapes[x])
    if kind == "up":
        if h * w > 200:
            return x
        return net.emit(
            "Resize", [x, "", net.const(np.asarray([1, 1, 2, 2], np.float32))], (n, c, 2 * h, 2 * w), mode="nearest"
        )
    return net.emit("Softmax", [x], net.shapes[x], axis=1)


@st.composite
def graphs(draw: Any) -> tuple[Net, str]:
    net = Net()
    net.shapes["x"] = (
        draw(st.integers(1, 2)),
        draw(st.integers(1, 4)),
        draw(st.integers(4, 9)),
        draw(st.integers(4, 9)),
    )
    y = "x"
    for _ in range(draw(st.integers(1, 7))):
        y = layer(net, draw, y)
    return net, y


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(graphs(), st.sampled_from(["u8", "s8"]), st.booleans())
def test_any_graph(made: tuple[Net, str], activations: str, per_channel: bool) -> None:
    net, y = made
    if y == "x":
        return
    proto = model(net.nodes, {"x": net.shapes["x"]}, [y], net.constants)
    options = ImportOptions(activations=activations, per_channel=per_channel, samples=2)
    graph = load_proto(proto, options)
    assert_exact(graph, seeds=1)
    assert graph.model == load_proto(proto, options).model
