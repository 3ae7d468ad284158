"""ONNX Runtime as the outside judge of an imported graph: every tensor of the canonical model against golden."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from compiler.executor.golden import run_graph
from compiler.ir.graph import Graph
from compiler.ir.spec import check

Array = np.ndarray[Any, Any]


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    so = ort.SessionOptions()
    so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    so.intra_op_num_threads = 1
    so.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), so, providers=["CPUExecutionProvider"])


def all_tensors(model: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """Every tensor of a model that ONNX Runtime computes."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    have = {o.name for o in wide.graph.output}
    for n in wide.graph.node:
        for o in n.output:
            if o and o not in have:
                wide.graph.output.append(onnx.ValueInfoProto(name=o))
                have.add(o)
    s = session(wide)
    names = [o.name for o in s.get_outputs()]
    return dict(zip(names, s.run(names, feeds), strict=True))


def feeds_for(model: onnx.ModelProto, seed: int = 0, scale: float = 1.0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for i in session(model).get_inputs():
        shape = [int(d) for d in i.shape]
        if "float" in i.type:
            feeds[i.name] = (rng.standard_normal(shape) * scale).astype(np.float32)
        elif "uint8" in i.type:
            feeds[i.name] = rng.integers(0, 256, shape).astype(np.uint8)
        elif "int8" in i.type:
            feeds[i.name] = rng.integers(-128, 128, shape).astype(np.int8)
        else:
            feeds[i.name] = rng.integers(0, 2, shape).astype({"tensor(bool)": bool}.get(i.type, np.int64))
    return feeds


def assert_exact(graph: Graph, seeds: int = 2) -> dict[str, Array]:
    """Golden equals ONNX Runtime in every tensor; returns the values of the last frame."""
    check(graph)
    model = onnx.load_model_from_string(graph.model)
    onnx.checker.check_model(model)
    values: dict[str, Array] = {}
    for seed in range(seeds):
        feeds = feeds_for(model, seed)
        reference = all_tensors(model, feeds)
        values = run_graph(graph, feeds)
        compared = 0
        for name, value in values.items():
            if name in reference:
                compared += 1
                assert reference[name].dtype == value.dtype, name
                np.testing.assert_array_equal(reference[name], value, err_msg=name)
        assert compared >= len(graph.steps)
        assert all(name in values for name in graph.outputs)
    return values


def engine_ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]
