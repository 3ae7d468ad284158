"""What FINN and qonnx have lowered, raised again: Im2Col + MatMul, pools with channels last, XnorPopcountMatMul.

Needs an OnnxGraph with constants folded; leaves standard operators with channels second and transposes around them,
which `layout.sink_transposes` then cancels. Formulas are those of the `qonnx` package 1.0.0. Raises FVC122.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from compiler.frontend.lowbit.grid import GridConstant, Grids
from compiler.frontend.onnxgraph import Node, OnnxGraph
from device_db.errors import FvcError

LOWERED = ("DebugMarker", "Im2Col", "MaxPoolNHWC", "QuantAvgPool2d", "XnorPopcountMatMul")


def raise_lowered(graph: OnnxGraph, custom: Callable[[Node], bool]) -> frozenset[str]:
    """Rewrite the nodes of LOWERED for which `custom` holds; the names of convolutions that were lowered depthwise."""
    users, made = graph.consumers(), graph.producers()
    done: dict[int, list[Node]] = {}
    single: set[str] = set()
    for n in graph.nodes:
        if n.op not in LOWERED or not custom(n) or id(n) in done:
            continue
        if n.op == "Im2Col":
            matmul = _product(graph, users, made, n)
            done[id(n)], done[id(matmul)] = [], _convolution(graph, n, matmul)
            if n.integer("depthwise", 0):
                single.add(matmul.name)
        elif n.op == "MaxPoolNHWC":
            done[id(n)] = _max_pool(graph, n)
        elif n.op == "QuantAvgPool2d":
            if n.text("data_layout", "NCHW") == "NHWC":
                done[id(n)] = _channels_second(graph, n, Node(n.op, [], [], "", n.domain, dict(n.attributes)))
                done[id(n)][1].attributes.pop("data_layout")
        elif n.op == "DebugMarker":
            done[id(n)] = [Node("Identity", n.inputs[:1], n.outputs[:1], n.name)]
        else:
            done[id(n)] = _popcount(graph, n)
    graph.nodes = [m for n in graph.nodes for m in done.get(id(n), [n])]
    graph.sort()
    return frozenset(single)


def _product(graph: OnnxGraph, users: dict[str, list[Node]], made: dict[str, Node], n: Node) -> Node:
    """The one (XnorPopcount)MatMul behind an Im2Col; its weights are constant, or constant behind a quantiser."""
    readers = users.get(n.outputs[0], [])
    matmul = readers[0] if len(readers) == 1 and readers[0].op in ("MatMul", "XnorPopcountMatMul") else None
    kernel = n.ints("kernel_size", [])
    area = int(np.prod(kernel)) if len(kernel) == 2 and min(kernel) > 0 else 0
    if matmul is not None and area and matmul.inputs[0] == n.outputs[0]:
        quantiser = made.get(matmul.inputs[1])
        name = matmul.inputs[1] if quantiser is None or not quantiser.inputs else quantiser.inputs[0]
        weight = graph.constants.get(name)
        if weight is not None and weight.ndim == 2 and weight.size and not weight.shape[0] % area:
            return matmul
    raise FvcError(
        "FVC122",
        f"node '{n.name}' (Im2Col) is not followed by one MatMul with constant weights",
        help=("take the model before its convolutions are lowered",),
    )


def _convolution(graph: OnnxGraph, n: Node, matmul: Node) -> list[Node]:
    """Transpose, (Pad,) Conv, Transpose for an Im2Col (channels last) and its MatMul; weights [kh][kw][c] by m."""
    y, behind = matmul.outputs[0], []
    if matmul.op != "MatMul":
        matmul, *behind = _popcount(graph, matmul)
    weight, result = matmul.inputs[1], matmul.outputs[0]
    kernel, pads = n.ints("kernel_size", []), n.ints("pad_amount", [0] * 4)
    fresh, constants = graph.fresh, graph.constants
    x, first, made = n.inputs[0], fresh(f"{y}_nchw_in"), fresh(f"{y}_nchw")
    nodes = [Node("Transpose", [x], [first], fresh(f"{n.name}_in"), "", {"perm": [0, 3, 1, 2]})]
    split, oihw, form = fresh(f"{weight}_hwio"), fresh(f"{weight}_oihw"), fresh(f"{weight}_form")
    # Reshape and Transpose, not constants of the result: the weights may come from a quantiser
    constants[form] = np.asarray([*kernel, -1, _columns(graph, matmul)], np.int64)
    nodes += [
        Node("Reshape", [weight, form], [split], fresh(f"{matmul.name}_split")),
        Node("Transpose", [split], [oihw], fresh(f"{matmul.name}_oihw"), "", {"perm": [3, 2, 0, 1]}),
    ]
    value = n.integer("pad_value", 0)
    if value and any(pads):
        around, fill, padded = fresh(f"{y}_pads"), fresh(f"{y}_fill"), fresh(f"{y}_padded")
        constants[around] = np.asarray([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
        constants[fill] = np.asarray(value, np.float32)
        nodes.append(Node("Pad", [first, around, fill], [padded], fresh(f"{n.name}_pad")))
        first, pads = padded, [0] * 4
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": n.ints("stride", [1, 1]), "pads": pads}
    attributes["dilations"] = n.ints("dilations", [1, 1])
    nodes.append(Node("Conv", [first, oihw], [made], matmul.name, "", attributes))
    nodes.append(Node("Transpose", [made], [result], fresh(f"{n.name}_out"), "", {"perm": [0, 2, 3, 1]}))
    return nodes + behind


def _columns(graph: OnnxGraph, matmul: Node) -> int:
    """Columns of the weights of a MatMul that `_product` took."""
    name = matmul.inputs[1]
    maker = graph.producers().get(name)
    held = graph.constants[name if maker is None else maker.inputs[0]]
    return int(held.shape[1])


def one_channel_groups(graph: OnnxGraph, grids: Grids, single: frozenset[str]) -> None:
    """Convolutions that were lowered depthwise take one input channel a group again.

    Such weights are (M, C, KH, KW) with zeros but for m's own channel m // (M / C); others stay dense."""
    for n in graph.nodes:
        if n.op != "Conv" or n.name not in single or n.integer("group", 1) != 1:
            continue
        held, plain = grids.constants.get(n.inputs[1]), graph.constants.get(n.inputs[1])
        values = held.integers if held is not None else plain
        if values is None or plain is None or values.shape[0] % values.shape[1]:
            continue
        m, c = values.shape[:2]
        own = np.arange(m) // (m // c)
        rest = values.copy()
        rest[np.arange(m), own] = 0
        if rest.any():
            continue
        name = graph.fresh(f"{n.inputs[1]}_own")
        graph.constants[name] = np.ascontiguousarray(plain[np.arange(m), own][:, None])
        if held is not None:
            scale = np.broadcast_to(held.scale, values.shape)[np.arange(m), own][:, None]
            own_values = np.ascontiguousarray(values[np.arange(m), own][:, None])
            grids.constants[name] = GridConstant(own_values, np.ascontiguousarray(scale), held.node)
        n.inputs = [n.inputs[0], name, *n.inputs[2:]]
        n.attributes = {**n.attributes, "group": c}


def _max_pool(graph: OnnxGraph, n: Node) -> list[Node]:
    """MaxPoolNHWC."""
    kernel, stride = n.ints("kernel_shape", []), n.ints("strides", [])
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride or kernel}
    attributes |= {"pads": n.ints("pads", [0] * 4), "ceil_mode": n.integer("ceil_mode", 0)}
    return _channels_second(graph, n, Node("MaxPool", [], [], "", "", attributes))


def _channels_second(graph: OnnxGraph, n: Node, inner: Node) -> list[Node]:
    """`inner` in the place of `n`, whose tensors have their channels last."""
    y = n.outputs[0]
    inner.inputs, inner.outputs, inner.name = [graph.fresh(f"{y}_nchw_in")], [graph.fresh(f"{y}_nchw")], n.name
    return [
        Node("Transpose", n.inputs[:1], inner.inputs[:], graph.fresh(f"{n.name}_in"), "", {"perm": [0, 3, 1, 2]}),
        inner,
        Node("Transpose", inner.outputs[:], [y], graph.fresh(f"{n.name}_out"), "", {"perm": [0, 2, 3, 1]}),
    ]


def _popcount(graph: OnnxGraph, n: Node) -> list[Node]:
    """XnorPopcountMatMul over 0 and 1: the positions that agree, x·(2w − 1) + Σ(1 − w).

    Where FINN made a dense matrix of a depthwise layer, w is a half: such a position agrees half."""
    weight, y = graph.constants.get(n.input(1)), n.outputs[0]
    if weight is None or weight.ndim != 2 or not np.isin(weight, (0, 0.5, 1)).all():
        raise FvcError(
            "FVC122",
            f"the weights of node '{n.name}' (XnorPopcountMatMul) are no constant table of zeros and ones",
            help=("export the model after training, with its weights as initialisers",),
        )
    signed, agree, product = (graph.fresh(f"{y}_{part}") for part in ("signed", "zeros", "product"))
    graph.constants[signed] = (2 * weight - 1).astype(np.float32)
    graph.constants[agree] = (1 - weight).sum(axis=0).astype(np.float32)
    return [
        Node("MatMul", [n.inputs[0], signed], [product], n.name),
        Node("Add", [product, agree], [y], graph.fresh(f"{n.name}_zeros")),
    ]
