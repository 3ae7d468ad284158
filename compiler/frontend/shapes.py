"""Shape and type inference over the standard and the com.microsoft quantized operators.

Needs a sorted OnnxGraph. Does: replaces every com.microsoft operator by a standard one of the same shape rule in a
shadow model and runs ONNX shape inference with data propagation. Guarantees that `graph.types` holds what is known.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from compiler.frontend import functions, ort
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph, Type, elem_type, numpy_dtype, type_of

_SHADOW_UNARY = {"QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"}
_LOWBIT = {"Quant", "IntQuant", "BipolarQuant", "Trunc", "MultiThreshold"}
_SAME_AS_FIRST = {
    "Gelu",
    "FastGelu",
    "BiasGelu",
    "QuickGelu",
    "SkipLayerNormalization",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
}


def _shadow(node: Node, graph: OnnxGraph) -> Node:
    """A standard node with the same output shape (element types are repaired by the caller)."""
    if node.op in _LOWBIT and node.domain not in ("", MS):
        return Node("Identity", [node.inputs[0]], [node.outputs[0]], node.name)
    if node.op == "QuantAvgPool2d" and node.text("data_layout", "NCHW") == "NCHW":
        window = {"kernel_shape": [node.integer("kernel", 1)] * 2, "strides": [node.integer("stride", 1)] * 2}
        return Node("AveragePool", [node.inputs[0]], node.outputs, node.name, "", window)
    if node.domain != MS:
        return node
    i, name = node.inputs, node.name
    if node.op in ("QLinearAdd", "QLinearMul"):
        return Node(node.op[7:], [i[0], i[3]], node.outputs, name)
    if node.op == "QLinearGlobalAveragePool" and not node.integer("channels_last", 0):
        return Node("GlobalAveragePool", [i[0]], node.outputs, name)
    if node.op == "QLinearAveragePool" and not node.integer("channels_last", 0):
        keep = {k: v for k, v in node.attributes.items() if k != "channels_last"}
        return Node("AveragePool", [i[0]], node.outputs, name, "", keep)
    if node.op == "QLinearConcat":
        return Node("Concat", i[2::3], node.outputs, name, "", {"axis": node.integer("axis", 0)})
    if node.op == "QGemm":
        keep = {k: v for k, v in node.attributes.items() if k in ("transA", "transB")}
        return Node("Gemm", [i[0], i[3]], node.outputs, name, "", keep)
    if node.op in ("FusedConv", "FusedGemm", "FusedMatMul"):
        op = node.op[5:]
        keep = {k: v for k, v in node.attributes.items() if not k.startswith("activation")}
        return Node(op, i[: 3 if op != "MatMul" else 2], node.outputs, name, "", keep)
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        return Node(node.op, i, node.outputs, name, "", node.attributes)
    if node.op in _SHADOW_UNARY or node.op in _SAME_AS_FIRST:
        return Node("Identity", [i[0]], [node.outputs[0]], name)
    return node


def output_elem(node: Node, graph: OnnxGraph) -> int:
    """Element type of an integer operator's result, from its output zero point; 0 if the rule does not apply."""
    i = node.inputs
    if node.domain == functions.DOMAIN:
        return node.integer("to", 0)
    at = {
        "QLinearConv": 7,
        "QLinearMatMul": 7,
        "QLinearAdd": 7,
        "QLinearMul": 7,
        "QLinearConcat": 1,
        "QLinearGlobalAveragePool": 4,
        "QLinearAveragePool": 4,
        "QLinearLeakyRelu": 4,
        "QLinearSigmoid": 4,
        "QLinearSoftmax": 4,
    }.get(node.op)
    if node.op == "QGemm":
        return graph.elem(i[8]) if len(i) > 8 and i[8] else TensorProto.FLOAT
    if at is None:
        return 0
    return graph.elem(i[at]) if len(i) > at and i[at] else TensorProto.UINT8


def measure(graph: OnnxGraph) -> None:
    """Run the graph once on zeros for the tensors that inference leaves open."""
    made = [o for n in graph.nodes for o in n.outputs if o]
    wanted = [o for o in made if o not in graph.types or not graph.types[o].static]
    if not wanted or not all(graph.types[i].static for i in graph.inputs):
        return
    model = graph.to_model()
    have = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=o) for o in wanted if o not in have)
    feeds = {i: np.zeros(graph.types[i].dims, numpy_dtype(graph.types[i].elem)) for i in graph.inputs}
    try:
        values = ort.session(model.SerializeToString()).run(wanted, feeds)
    except Exception:  # an operator without kernel: the host segment that holds it will say so when it runs
        return
    for name, value in zip(wanted, values, strict=True):
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            graph.types[name] = Type(elem_type(value), tuple(value.shape))


def infer(graph: OnnxGraph) -> None:
    """Fill `graph.types` of all node outputs as far as they can be known."""
    shadow = OnnxGraph(
        graph.name,
        [_shadow(n, graph) for n in graph.nodes],
        graph.constants,
        graph.inputs,
        graph.outputs,
        {k: graph.types[k] for k in graph.inputs},
        graph.opset,
        graph.domains,
        output_info={o: onnx.ValueInfoProto(name=o) for o in graph.outputs},
    )
    model = shadow.to_model(constants_up_to=256)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        inferred = onnx.shape_inference.infer_shapes(model)
    types = {k: graph.types[k] for k in graph.inputs}
    for info in [*inferred.graph.value_info, *inferred.graph.output]:
        t = type_of(info)
        if t is not None and info.name not in types:
            types[info.name] = t
    for name, t in graph.types.items():
        types.setdefault(name, t)
    graph.types = types
    for n in graph.nodes:
        elem = output_elem(n, graph)
        known = graph.types.get(n.outputs[0]) if n.outputs else None
        if elem and known is not None and known.elem != elem:
            graph.types[n.outputs[0]] = Type(elem, known.shape)
