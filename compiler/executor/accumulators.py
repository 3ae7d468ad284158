"""The int32 accumulators that ONNX Runtime makes of a node's integers: what the requantisers of the binaries must read.

A wrong weight can leave every 8-bit tensor as it is on the inputs at hand: the requantiser drops the low bits. So the
model gets, beside each requantised operator, the integer operator of the same inputs, weights and zero points
(ConvInteger, MatMulInteger, or a plain sum for GlobalAveragePool) and the bias. Nothing of the compiler's own
arithmetic is in it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Operators that requantise an int32 accumulator: op -> channel axis of their result.
CHANNEL_AXIS = {
    "QLinearConv": 1, "QLinearGlobalAveragePool": 1, "QLinearMatMul": -1, "QGemm": -1, "ConvThreshold": 1,
    "MatMulThreshold": -1,
}  # fmt: skip
_CONV_ATTRIBUTES = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")


class _Builder:
    """Appends integer nodes to a graph under names that it does not use yet."""

    def __init__(self, proto: Any) -> None:
        import onnx

        self.proto, self.graph = proto, proto.graph
        self.opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
        self.constants = {t.name: t for t in self.graph.initializer}
        for n in self.graph.node:
            if n.op_type == "Constant" and n.attribute and n.attribute[0].name == "value":
                self.constants[n.output[0]] = n.attribute[0].t
        self.names = {o for n in self.graph.node for o in n.output} | {i.name for i in self.graph.input}
        self.names |= set(self.constants)
        self.made: list[Any] = []
        self.to_array = onnx.numpy_helper.to_array
        self.helper, self.int32 = onnx.helper, onnx.TensorProto.INT32
        self.from_array = onnx.numpy_helper.from_array

    def fresh(self, base: str) -> str:
        name = base
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def value(self, name: str) -> NDArray[Any] | None:
        return self.to_array(self.constants[name]) if name in self.constants else None

    def constant(self, base: str, value: NDArray[Any]) -> str:
        name = self.fresh(base)
        self.graph.initializer.append(self.from_array(value, name))
        return name

    def node(self, op: str, inputs: list[str], base: str, **attributes: Any) -> str:
        name = self.fresh(base)
        self.made.append(self.helper.make_node(op, inputs, [name], **attributes))
        return name

    def scalar(self, name: str, base: str) -> str:
        """The one value of a zero point that is repeated for every channel; the integer operators want it so."""
        value = self.value(name)
        if value is None or value.ndim == 0 or not value.size or (value != value.flat[0]).any():
            return name
        return self.constant(base, value.reshape(-1)[0].reshape(()))


def _conv(b: _Builder, n: Any, base: str) -> str:
    x, _, x_zero, w, _, w_zero = n.input[:6]
    given = {a.name: b.helper.get_attribute_value(a) for a in n.attribute if a.name in _CONV_ATTRIBUTES}
    acc = b.node("ConvInteger", [x, w, x_zero, b.scalar(w_zero, f"{base}/wz")], f"{base}/sum", **given)
    bias = n.input[8] if len(n.input) > 8 else ""
    if not bias:
        return acc
    value = b.value(bias)
    if value is None or w not in b.constants:
        return ""
    column = b.constant(f"{base}/bias", value.reshape(1, -1, *(1,) * (len(b.constants[w].dims) - 2)))
    return b.node("Add", [acc, column], f"{base}/biased")


def _matmul(b: _Builder, n: Any, base: str) -> str:
    x, _, x_zero, w, _, w_zero = n.input[:6]
    return b.node("MatMulInteger", [x, w, b.scalar(x_zero, f"{base}/xz"), b.scalar(w_zero, f"{base}/wz")], base)


def _wide(b: _Builder, n: Any, base: str) -> str:
    """The model's own function of wide operands, up to its accumulators."""
    name = f"{n.op_type}Accumulators"
    if all(f.name != name for f in b.proto.functions):
        made = b.proto.functions.add()
        made.CopyFrom(next(f for f in b.proto.functions if (f.domain, f.name) == (n.domain, n.op_type)))
        made.name, made.output[:] = name, ["acc"]
        last = max(k for k, node in enumerate(made.node) if "acc" in node.output)
        del made.node[last + 1 :]
    return b.node(
        name, list(n.input), base, domain=n.domain, **{a.name: b.helper.get_attribute_value(a) for a in n.attribute}
    )


def _threshold_conv(b: _Builder, n: Any, base: str) -> str:
    if _WIDE.match(n.op_type):
        return _wide(b, n, base)
    given = {a.name: b.helper.get_attribute_value(a) for a in n.attribute if a.name in _CONV_ATTRIBUTES}
    return b.node("ConvInteger", list(n.input[:4]), base, **given)


def _threshold_matmul(b: _Builder, n: Any, base: str) -> str:
    if _WIDE.match(n.op_type):
        return _wide(b, n, base)
    return b.node("MatMulInteger", list(n.input[:4]), base)


def _gemm(b: _Builder, n: Any, base: str) -> str:
    x, _, x_zero, w, _, w_zero, *rest = n.input
    if any(a.name in ("transA", "transB") and a.i for a in n.attribute):
        return ""
    zeros = [b.scalar(x_zero, f"{base}/xz"), b.scalar(w_zero, f"{base}/wz")]
    acc = b.node("MatMulInteger", [x, w, *zeros], f"{base}/sum")
    return b.node("Add", [acc, rest[0]], f"{base}/biased") if rest and rest[0] else acc


def _global_average(b: _Builder, n: Any, base: str) -> str:
    zero = b.value(n.input[2])
    if zero is None or any(a.name == "channels_last" and a.i for a in n.attribute):
        return ""
    plane = b.constant(f"{base}/plane", np.asarray([0, 0, -1], np.int64))
    flat = b.node("Reshape", [n.input[0], plane], f"{base}/flat")
    wide = b.node("Cast", [flat], f"{base}/wide", to=b.int32)
    real = b.node("Sub", [wide, b.constant(f"{base}/zero", zero.astype(np.int32).reshape(()))], f"{base}/real")
    if b.opset < 13:
        return b.node("ReduceSum", [real], f"{base}/sum", axes=[2], keepdims=1)
    return b.node("ReduceSum", [real, b.constant(f"{base}/axis", np.asarray([2], np.int64))], f"{base}/sum")


_OPERATORS = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearGlobalAveragePool": _global_average,
    "ConvThreshold": _threshold_conv,
    "MatMulThreshold": _threshold_matmul,
}
_WIDE = re.compile("^Wide[0-9]+")


def operator(op_type: str) -> str:
    """The operator without its numbers: functions ConvThreshold4 and Wide21ConvThreshold10 are a ConvThreshold."""
    plain = _WIDE.sub("", op_type.rstrip("0123456789"))
    return plain if plain in ("ConvThreshold", "MatMulThreshold") else op_type


def add_accumulators(proto: Any, tensors: Collection[str]) -> dict[str, str]:
    """Puts the accumulators of these results of requantised operators into the ModelProto, as outputs.

    Returns result -> its accumulators, int32 of as many elements in the same order. What the canonical model does not
    have has none: transposed operands, a bias or zero point that is no constant.
    """
    import onnx

    b = _Builder(proto)
    found: dict[str, str] = {}
    for n in list(proto.graph.node):
        op = operator(n.op_type)
        if op in _OPERATORS and n.output[0] in tensors:
            name = _OPERATORS[op](b, n, f"{n.output[0]}/accumulator")
            if name:
                found[n.output[0]] = name
    proto.graph.node.extend(b.made)
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in found.values())
    return found
