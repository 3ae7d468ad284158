"""Run by an interpreter that has the `qonnx` package: executes a QONNX model and writes its integers and outputs.

    python qonnx_oracle.py MODEL.onnx INPUTS.npz OUT.npz

OUT holds "int:NAME" for the result of every quantiser whose scale is a constant (rint(value / scale): the integers
without their zero point) and "out:NAME" for every graph output. It shares nothing with fvc.
"""

import sys

import numpy as np
import onnx
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.transformation.infer_shapes import InferShapes


def scale_of(model: ModelWrapper, node: onnx.NodeProto) -> np.ndarray | None:
    if node.op_type == "MultiThreshold":
        attributes = {a.name: a.f for a in node.attribute}
        scale, bias = attributes.get("out_scale", 1.0), attributes.get("out_bias", 0.0)
        return np.float32(1.0) if scale == int(scale) and bias == int(bias) else np.float32(scale)
    if node.op_type in ("Quant", "IntQuant", "BipolarQuant"):
        return model.get_initializer(node.input[1])
    if node.op_type == "Trunc":
        return model.get_initializer(node.input[4 if len(node.input) > 5 else 1])
    return None


def main(path: str, inputs: str, target: str) -> None:
    model = ModelWrapper(path).transform(InferShapes())
    feeds = dict(np.load(inputs))
    context = execute_onnx(model, feeds, return_full_exec_context=True)
    found = {}
    for node in model.graph.node:
        scale = scale_of(model, node)
        if scale is not None:
            found[f"int:{node.output[0]}"] = np.rint(context[node.output[0]] / scale).astype(np.int64)
    for o in model.graph.output:
        found[f"out:{o.name}"] = np.asarray(context[o.name])
    np.savez(target, **found)


if __name__ == "__main__":
    main(*sys.argv[1:4])
