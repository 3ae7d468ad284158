"""Unary islands: element-wise float subgraphs of one tensor, which become one 256-entry table.

An island is a maximal set of element-wise nodes whose only non-constant input is one tensor and whose result leaves at
one place (SiLU, a decomposed HardSwish, LeakyRelu + Max, PRelu by channel, a lone BatchNormalization, …).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import ort
from compiler.frontend.onnxgraph import Node, OnnxGraph

Array = NDArray[Any]

UNARY = {
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf",
    "Exp",
    "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu",
    "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
    "ThresholdedRelu",
}  # fmt: skip
NARY = {"Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Max", "Min", "Sum", "Mean"}
ELEMENTWISE = UNARY | NARY | {"BatchNormalization"}
MS_UNARY = {"Gelu", "FastGelu", "QuickGelu"}


@dataclass(frozen=True, slots=True)
class Island:
    """Float nodes in order, the one tensor they read, the one they make; `channels` = 0 or the extent of axis 1."""

    source: str
    result: str
    nodes: tuple[Node, ...]
    channels: int


def is_elementwise(node: Node) -> bool:
    if node.domain == "":
        return node.op in ELEMENTWISE and not node.integer("training_mode", 0)
    return node.domain == "com.microsoft" and node.op in MS_UNARY and len(node.uses) == 1


def find(graph: OnnxGraph, made: dict[str, Node], result: str, stop: Callable[[str], bool]) -> Island | None:
    """The greatest island that ends in `result`, going back to tensors where `stop` holds; None if there is none.

    `made`: producer of each float tensor. Every path from `result` back must end at one and the same stop tensor."""
    sources: dict[str, None] = {}
    nodes: dict[int, Node] = {}
    order: list[Node] = []

    def visit(name: str) -> bool:
        if name in graph.constants:
            return True
        if stop(name):
            sources[name] = None
            return len(sources) == 1
        node = made.get(name)
        if node is None or not is_elementwise(node) or node.outputs[0] != name or len(nodes) > 64:
            return False
        if id(node) in nodes:
            return True
        nodes[id(node)] = node
        if not all(visit(i) for i in node.uses):
            return False
        order.append(node)
        return True

    if not visit(result) or len(sources) != 1 or not order:
        return None
    source = next(iter(sources))
    shape = graph.shape(source)
    if shape is None:
        return None
    channels = _channels(graph, order, source, shape)
    if channels is None or graph.shape(result) not in (None, shape):
        return None
    return Island(source, result, tuple(order), channels)


def _channels(graph: OnnxGraph, nodes: list[Node], source: str, shape: tuple[int, ...]) -> int | None:
    """0 if every constant is a scalar, the extent of axis 1 if they vary along it alone, None otherwise."""
    channels = 0
    rank = len(shape)
    for n in nodes:
        if n.op == "BatchNormalization":
            if rank < 2:
                return None
            channels = shape[1]
            continue
        for i in n.uses:
            value = graph.constants.get(i)
            if value is None:
                continue
            if value.size == 1:
                if value.ndim > rank:
                    return None
                continue
            aligned = (1,) * (rank - value.ndim) + value.shape
            if len(aligned) != rank or rank < 2 or any(d != 1 for k, d in enumerate(aligned) if k != 1):
                return None
            if aligned[1] != shape[1]:
                return None
            channels = shape[1]
    return channels


def evaluate(graph: OnnxGraph, island: Island, values: Array) -> Array:
    """The island on 256 float32 values: (256,), or (C, 256) where it differs by channel. ONNX Runtime computes."""
    shape = graph.shape(island.source)
    assert shape is not None
    rank = len(shape)
    x = np.asarray(values, np.float32)
    if not island.channels:
        feed = x.reshape((1,) * (rank - 1) + (256,)) if rank else x
        if rank == 2 and any(n.op == "BatchNormalization" for n in island.nodes):
            feed = x.reshape(256, 1)
        y = ort.evaluate(graph, island.nodes, {island.source: feed}, [island.result])[island.result]
        return np.asarray(y, np.float32).reshape(256)
    c = island.channels
    if rank == 2:
        feed = np.repeat(x[:, None], c, axis=1)
    else:
        feed = np.broadcast_to(x, (c, 256)).reshape((1, c) + (1,) * (rank - 3) + (256,))
    y = ort.evaluate(graph, island.nodes, {island.source: np.ascontiguousarray(feed)}, [island.result])[island.result]
    y = np.asarray(y, np.float32)
    return np.ascontiguousarray(y.T) if rank == 2 else y.reshape(c, 256)
