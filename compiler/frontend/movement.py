"""Operators that commute with quantization: clamps, and data movement on constant arguments."""

from __future__ import annotations

import numpy as np

from compiler.frontend.integer import QT, Emitter
from compiler.frontend.onnxgraph import Node, OnnxGraph


def is_clamp(n: Node, graph: OnnxGraph) -> bool:
    if n.domain:
        return False
    return n.op == "Relu" or (n.op == "Clip" and all(i in graph.constants for i in n.uses[1:]))


def clamp_bounds(n: Node, graph: OnnxGraph) -> tuple[float, float]:
    if n.op == "Relu":
        return 0.0, float("inf")
    bounds = [float("-inf"), float("inf")]
    for k in (1, 2):
        if n.input(k):
            bounds[k - 1] = float(graph.constants[n.input(k)].reshape(-1)[0])
    return bounds[0], bounds[1]


def pad_value(n: Node, graph: OnnxGraph) -> float | None:
    """The constant that a Pad writes; None for any other operator or mode."""
    if n.op != "Pad" or n.text("mode", "constant") != "constant":
        return None
    if not n.input(2):
        return 0.0
    value = graph.constants.get(n.input(2))
    return float("nan") if value is None else float(value.reshape(-1)[0])


def moves_exactly(n: Node, graph: OnnxGraph) -> bool:
    """Whether a movement operator commutes with quantization here: constant arguments, one data input, nearest only."""
    rest = [i for i in n.inputs[1:] if i]
    if any(i not in graph.constants for i in rest) or graph.shape(n.outputs[0]) is None:
        return False
    if n.op == "Resize":
        return n.text("mode", "nearest") == "nearest" and not n.text(
            "coordinate_transformation_mode", "half_pixel"
        ).startswith("tf_crop")
    if n.op == "MaxPool":
        return len([o for o in n.outputs if o]) == 1 and len(graph.shape(n.outputs[0]) or ()) in (3, 4)
    if n.op == "Pad":
        value = pad_value(n, graph)
        return value is None or np.isfinite(value)
    return n.op != "Gather" or n.inputs[0] not in graph.constants


def moved(n: Node, x: QT, outputs: list[str], e: Emitter) -> Node:
    """The movement node on integers."""
    inputs = [x.name, *n.inputs[1:]]
    value = pad_value(n, e.graph)
    if value is not None:
        while len(inputs) < 3:
            inputs.append("")
        q = x.qp.quantize(np.float32(value))
        inputs[2] = e.const(f"{n.name}_pad_value", np.asarray(q).reshape(()))
    return Node(n.op, inputs, outputs, n.name, "", dict(n.attributes))
