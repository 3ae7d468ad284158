"""Small ONNX models for tests, written as compactly as they can be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, Any]
NodeSpec = tuple[str, list[str], list[str], dict[str, Any]]


def model(
    nodes: list[NodeSpec],
    inputs: dict[str, tuple[int | str, ...]],
    outputs: list[str],
    constants: dict[str, Array] | None = None,
    *,
    opset: int = 17,
    elem: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of (op, inputs, outputs, attributes); an op "ms:X" is of com.microsoft."""
    protos = []
    for k, (op, i, o, attributes) in enumerate(nodes):
        domain, _, name = op.rpartition(":")
        protos.append(
            helper.make_node(name, i, o, name=f"n{k}", domain="com.microsoft" if domain else "", **attributes)
        )
    graph = helper.make_graph(
        protos,
        "test",
        [helper.make_tensor_value_info(k, elem, v) for k, v in inputs.items()],
        [onnx.ValueInfoProto(name=o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    if any(op.startswith("ms:") for op, *_ in nodes):
        opsets.append(helper.make_opsetid("com.microsoft", 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def weights(*shape: int, seed: int = 0, scale: float = 0.3) -> Array:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


class Qdq:
    """Writes DQ -> op -> Q groups: `x = q.input(...)`, `y = q.op("Conv", [x, w], ...)`, `q.model()`."""

    def __init__(self, elem: str = "u8", seed: int = 0) -> None:
        self.elem = np.uint8 if elem == "u8" else np.int8
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeSpec] = []
        self.constants: dict[str, Array] = {}
        self.inputs: dict[str, tuple[int, ...]] = {}
        self.count = 0

    def name(self, base: str) -> str:
        self.count += 1
        return f"{base}{self.count}"

    def params(self, scale: float, zero: int, elem: Any = None) -> list[str]:
        s, z = self.name("scale"), self.name("zero")
        self.constants[s] = np.asarray(scale, np.float32)
        self.constants[z] = np.asarray(zero, elem or self.elem)
        return [s, z]

    def quantize(self, x: str, scale: float, zero: int) -> str:
        p, q, f = self.params(scale, zero), self.name("q"), self.name("f")
        self.nodes.append(("QuantizeLinear", [x, *p], [q], {}))
        self.nodes.append(("DequantizeLinear", [q, *p], [f], {}))
        return f

    def input(self, shape: tuple[int, ...], scale: float = 0.02, zero: int = 3) -> str:
        x = self.name("x")
        self.inputs[x] = shape
        return self.quantize(x, scale, zero)

    def weight(self, shape: tuple[int, ...], *, axis: int = 0, per_channel: bool = False, elem: Any = np.int8) -> str:
        w, f = self.name("w"), self.name("wf")
        info = np.iinfo(elem)
        self.constants[w] = self.rng.integers(info.min, info.max + 1, shape).astype(elem)
        zero = 0 if elem == np.int8 else 128
        if per_channel:
            s, z = self.name("scale"), self.name("zero")
            self.constants[s] = self.rng.uniform(0.002, 0.02, shape[axis]).astype(np.float32)
            self.constants[z] = np.full(shape[axis], zero, elem)
            self.nodes.append(("DequantizeLinear", [w, s, z], [f], {"axis": axis}))
        else:
            self.nodes.append(("DequantizeLinear", [w, *self.params(0.01, zero, elem)], [f], {}))
        return f

    def bias(self, x_scale: float, w_scale: float, m: int) -> str:
        b, f, s = self.name("b"), self.name("bf"), self.name("scale")
        self.constants[b] = self.rng.integers(-2000, 2000, m).astype(np.int32)
        self.constants[s] = np.asarray(np.float32(x_scale) * np.float32(w_scale), np.float32)
        self.nodes.append(("DequantizeLinear", [b, s], [f], {}))
        return f

    def op(
        self, op: str, inputs: list[str], scale: float = 0.05, zero: int = 3, *, relu: bool = False, **attributes: Any
    ) -> str:
        y = self.raw(op, inputs, **attributes)
        if relu:
            y = self.raw("Relu", [y])
        return self.quantize(y, scale, zero)

    def raw(self, op: str, inputs: list[str], **attributes: Any) -> str:
        y = self.name("y")
        self.nodes.append((op, inputs, [y], attributes))
        return y

    def const(self, value: Any) -> str:
        c = self.name("c")
        self.constants[c] = np.asarray(value)
        return c

    def model(self, *outputs: str, opset: int = 17) -> onnx.ModelProto:
        return model(self.nodes, self.inputs, list(outputs), self.constants, opset=opset)
