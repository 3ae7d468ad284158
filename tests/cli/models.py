"""Small ONNX models for the tests of the command line, sound and broken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]


def conv_model(
    shape: Shape = (1, 3, 16, 16), *, middle: str = "", weight: Any = None, channels: int = 8, convs: int = 2
) -> onnx.ModelProto:
    """conv-relu, (an operator of your choice,) conv …, as float; weights are seeded."""
    rng = np.random.default_rng(0)
    nodes, weights, x, c = [], [], "x", int(shape[1])
    for k in range(convs):
        w = rng.standard_normal((channels, c, 3, 3)).astype(np.float32) / 6 if weight is None or k else weight
        weights.append(numpy_helper.from_array(w, f"w{k}"))
        nodes.append(helper.make_node("Conv", [x, f"w{k}"], [f"c{k}"], name=f"conv{k}", pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"r{k}"], name=f"relu{k}"))
        x, c = f"r{k}", channels
        if middle and k == 0:
            nodes.append(helper.make_node(middle, [x], ["m"], name="middle"))
            x = "m"
    return finish(nodes, weights, shape, x)


def finish(nodes: list[Any], weights: list[Any], shape: Shape, output: str) -> onnx.ModelProto:
    """A model of opset 17 with the float input x."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [f"{output}{k}" for k in range(len(shape))])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def save(model: onnx.ModelProto, path: Path) -> Path:
    """Writes the model and gives its path back."""
    path.write_bytes(model.SerializeToString())
    return path
