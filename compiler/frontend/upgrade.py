"""Operator set upgrade to 13: the inference operators whose form changed between opsets 7 and 13.

Needs an OnnxGraph (nodes named, before constant folding). Guarantees opset >= 13 for the default domain. Written out
here because onnx.version_converter refuses graphs that mix domains; older sets than 7 go through it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compiler.frontend import ort
from compiler.frontend.onnxgraph import Node, OnnxGraph
from device_db.errors import FvcError

OLDEST = 7
TARGET = 13


def by_onnx(model: onnx.ModelProto, opset: int, where: str) -> tuple[onnx.ModelProto, int]:
    """Lift a model older than opset 7 with ONNX's own converter."""
    try:
        return onnx.version_converter.convert_version(model, TARGET), TARGET
    except Exception as e:
        raise FvcError(
            "FVC108",
            f"operator set {opset} is too old and cannot be converted: {str(e).strip().splitlines()[0][:200]}",
            where=(where,),
            help=("export the model with opset 13 or newer",),
        ) from None


def down(model: onnx.ModelProto, opset: int, where: str) -> tuple[onnx.ModelProto, int]:
    """Bring a model that is newer than the installed ONNX Runtime to an operator set that it reads."""
    for version in range(min(opset - 1, int(onnx.defs.onnx_opset_version())), TARGET - 1, -1):
        if not ort.reads_opset(version):
            continue
        try:
            return onnx.version_converter.convert_version(model, version), version
        except Exception:
            break
    raise FvcError(
        "FVC108",
        f"operator set {opset} is newer than the installed ONNX Runtime reads, and cannot be converted",
        where=(where,),
        help=("export the model with an older opset", "install a newer onnxruntime"),
    )


def to_13(graph: OnnxGraph) -> None:
    """Rewrite every node of the default domain to its opset-13 form."""
    if graph.opset >= TARGET:
        return
    nodes: list[Node] = []
    for n in graph.nodes:
        rule = _RULES.get(n.op) if n.domain == "" else None
        if rule is None:
            nodes.append(n)
        else:
            nodes.extend(rule(graph, n))
    graph.nodes = nodes
    graph.opset = TARGET


def sums_to_adds(graph: OnnxGraph) -> None:
    """Sum of two or more tensors becomes a chain of Add, which the engines have."""
    nodes: list[Node] = []
    for n in graph.nodes:
        if n.op != "Sum" or n.domain or len(n.inputs) < 2:
            nodes.append(n)
            continue
        left = n.inputs[0]
        for k, right in enumerate(n.inputs[1:], 1):
            last = k == len(n.inputs) - 1
            y = n.outputs[0] if last else graph.fresh(f"{n.outputs[0]}_part{k}")
            nodes.append(Node("Add", [left, right], [y], n.name if last else graph.fresh(f"{n.name}_part{k}")))
            left = y
    graph.nodes = nodes


def _constant(graph: OnnxGraph, base: str, value: NDArray[Any] | np.float32) -> str:
    name = graph.fresh(base)
    graph.constants[name] = np.asarray(value)
    return name


def _attribute_to_input(graph: OnnxGraph, n: Node, key: str, position: int) -> None:
    if key in n.attributes:
        value = n.attributes.pop(key)
        value = [] if isinstance(value, onnx.AttributeProto) else value
        while len(n.inputs) < position:
            n.inputs.append("")
        name = _constant(graph, f"{n.name}_{key}", np.asarray(value, np.int64))
        n.inputs[position:] = [name]


def _axes(graph: OnnxGraph, n: Node) -> list[Node]:
    if graph.opset < 13:
        _attribute_to_input(graph, n, "axes", 1)
    return [n]


def _split(graph: OnnxGraph, n: Node) -> list[Node]:
    _attribute_to_input(graph, n, "split", 1)
    return [n]


def _clip(graph: OnnxGraph, n: Node) -> list[Node]:
    if graph.opset < 11:
        bounds = [n.attributes.pop("min", None), n.attributes.pop("max", None)]
        n.inputs = n.inputs[:1]
        for key, value in zip(("min", "max"), bounds, strict=True):
            n.inputs.append("" if value is None else _constant(graph, f"{n.name}_{key}", np.float32(value).reshape(())))
    return [n]


def _slice(graph: OnnxGraph, n: Node) -> list[Node]:
    if graph.opset < 10:
        starts, ends = n.ints("starts", []), n.ints("ends", [])
        axes = n.ints("axes", range(len(starts)))
        values = {"starts": starts, "ends": ends, "axes": axes}
        n.attributes = {}
        n.inputs = n.inputs[:1] + [
            _constant(graph, f"{n.name}_{k}", np.asarray(v, np.int64)) for k, v in values.items()
        ]
    return [n]


def _pad(graph: OnnxGraph, n: Node) -> list[Node]:
    if graph.opset < 11:
        pads = np.asarray(n.attributes.pop("pads", []), np.int64)
        value = np.float32(n.attributes.pop("value", 0.0))
        n.inputs = [
            n.inputs[0],
            _constant(graph, f"{n.name}_pads", pads),
            _constant(graph, f"{n.name}_value", value.reshape(())),
        ]
    return [n]


def _upsample(graph: OnnxGraph, n: Node) -> list[Node]:
    mode = n.text("mode", "nearest")
    if len(n.inputs) > 1:
        scales = n.inputs[1]
    else:
        scales = _constant(graph, f"{n.name}_scales", np.asarray(n.attributes.get("scales", []), np.float32))
    return [_resize11(n, n.inputs[0], scales, mode)]


def _resize(graph: OnnxGraph, n: Node) -> list[Node]:
    if graph.opset >= 11:
        return [n]
    return [_resize11(n, n.inputs[0], n.inputs[1], n.text("mode", "nearest"))]


def _resize11(n: Node, x: str, scales: str, mode: str) -> Node:
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        attributes["nearest_mode"] = "floor"
    return Node("Resize", [x, "", scales], n.outputs, n.name, "", attributes)


def _softmax(graph: OnnxGraph, n: Node) -> list[Node]:
    """Before 13 Softmax flattens to two dimensions at `axis`."""
    axis = n.integer("axis", 1)
    x, y = n.inputs[0], n.outputs[0]
    shape, flat, back = (graph.fresh(f"{n.name}_{s}") for s in ("shape", "flat", "rows"))
    return [
        Node("Shape", [x], [shape], graph.fresh(f"{n.name}_shape_of")),
        Node("Flatten", [x], [flat], graph.fresh(f"{n.name}_flatten"), "", {"axis": axis}),
        Node(n.op, [flat], [back], n.name, "", {"axis": 1}),
        Node("Reshape", [back, shape], [y], graph.fresh(f"{n.name}_reshape")),
    ]


def _dropout(graph: OnnxGraph, n: Node) -> list[Node]:
    n.attributes = {}
    n.inputs = n.inputs[:1]
    return [n]


def _batchnorm(graph: OnnxGraph, n: Node) -> list[Node]:
    n.attributes = {k: v for k, v in n.attributes.items() if k in ("epsilon", "momentum")}
    n.outputs = n.outputs[:1]
    return [n]


def _topk(graph: OnnxGraph, n: Node) -> list[Node]:
    if "k" in n.attributes:
        n.inputs = [n.inputs[0], _constant(graph, f"{n.name}_k", np.asarray([n.attributes.pop("k")], np.int64))]
    return [n]


def _scatter(graph: OnnxGraph, n: Node) -> list[Node]:
    n.op = "ScatterElements"
    return [n]


_RULES = {
    "Scatter": _scatter,
    "Squeeze": _axes,
    "Unsqueeze": _axes,
    "ReduceSum": _axes,
    "Split": _split,
    "Clip": _clip,
    "Slice": _slice,
    "Pad": _pad,
    "Upsample": _upsample,
    "Resize": _resize,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Hardmax": _softmax,
    "Dropout": _dropout,
    "BatchNormalization": _batchnorm,
    "TopK": _topk,
}
