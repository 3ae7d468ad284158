"""ONNX Runtime as an evaluator of small graphs, always unoptimised and on one thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from compiler.frontend.onnxgraph import IR_VERSION, Node, OnnxGraph, Type, elem_type

Array = NDArray[Any]


def session(model: bytes) -> Any:
    """An InferenceSession at ORT_DISABLE_ALL, one thread, errors only."""
    import onnxruntime as ort

    so = ort.SessionOptions()
    so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    so.intra_op_num_threads = 1
    so.inter_op_num_threads = 1
    so.log_severity_level = 4
    return ort.InferenceSession(model, so, providers=["CPUExecutionProvider"])


@cache
def reads_opset(version: int) -> bool:
    """Whether the installed ONNX Runtime reads models of this operator set."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [info], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=IR_VERSION)
    try:
        session(model.SerializeToString())
    except Exception:
        return False
    return True


def evaluate(
    graph: OnnxGraph, nodes: Sequence[Node], feeds: dict[str, Array], outputs: Sequence[str]
) -> dict[str, Array]:
    """Values of `outputs` after running `nodes` (topological, constants from `graph`) on `feeds`.

    Raises whatever ONNX Runtime raises."""
    used = {i for n in nodes for i in n.uses}
    sub = OnnxGraph(
        name="island",
        nodes=list(nodes),
        constants={k: v for k, v in graph.constants.items() if k in used and k not in feeds},
        inputs=list(feeds),
        outputs=list(outputs),
        types={k: Type(elem_type(v), tuple(v.shape)) for k, v in feeds.items()},
        opset=graph.opset,
        domains=dict(graph.domains),
    )
    model = sub.to_model()
    values = session(model.SerializeToString()).run(list(outputs), dict(feeds))
    return {name: np.asarray(value) for name, value in zip(outputs, values, strict=True)}


def serialize(model: onnx.ModelProto) -> bytes:
    """Deterministic bytes of a model."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data
