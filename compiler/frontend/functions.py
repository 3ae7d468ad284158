"""Operators of the project's own, written out in standard integer operators as functions of the model that uses them.

`model.int.onnx` carries the definition of each with it, so ONNX Runtime (or anyone) runs it as it is, and the model
still has one node for one layer. Names end in the number of binary-search steps: ConvThreshold4 takes up to 15
thresholds a channel.

    y = to(first + step * (number of thresholds[m] <= acc)),  acc = ConvInteger or MatMulInteger(x, w, x_zero, w_zero)

thresholds: int32 (M, 2^b - 1), rows ascending. rows: int32, m * (2^b - 1) in the shape that broadcasts over acc.
"""

from __future__ import annotations

from functools import cache

import onnx
from onnx import AttributeProto, TensorProto, helper

DOMAIN = "fvc"
VERSION = 1
OPSET = 13  # the oldest
_INPUTS = ["x", "w", "x_zero", "w_zero", "thresholds", "rows", "first", "step"]
_WINDOW = ("dilations", "group", "kernel_shape", "pads", "strides")
CONV, MATMUL = "ConvThreshold", "MatMulThreshold"
MOST_BITS = 8


def is_threshold(domain: str, op: str) -> bool:
    """Whether (domain, op) is a convolution or matrix product with thresholds."""
    return domain == DOMAIN and base_name(op) in (CONV, MATMUL)


def base_name(op: str) -> str:
    """The name without the number of search steps."""
    return op.rstrip("0123456789")


def search_bits(op: str) -> int:
    return int(op[len(base_name(op)) :])


@cache
def definition(op: str, opset: int = OPSET) -> onnx.FunctionProto:
    """The function `op`, e.g. ConvThreshold2, for a model of that operator set (its operators read alike in all)."""
    bits = search_bits(op)
    if not 1 <= bits <= MOST_BITS or not is_threshold(DOMAIN, op):
        raise ValueError(f"no function {op}")
    conv = base_name(op) == CONV
    product = helper.make_node("ConvInteger" if conv else "MatMulInteger", _INPUTS[:4], ["acc"])
    if conv:
        for name in _WINDOW:
            kind = AttributeProto.INT if name == "group" else AttributeProto.INTS
            product.attribute.append(AttributeProto(name=name, type=kind, ref_attr_name=name))
    nodes = [product, _constant("flat_shape", [-1], TensorProto.INT64)]
    nodes.append(helper.make_node("Reshape", ["thresholds", "flat_shape"], ["flat"]))
    at = "rows"  # index of the first threshold not yet known to be reached
    for k in reversed(range(bits)):
        probe = at
        if k:
            nodes.append(_constant(f"reach{k}", (1 << k) - 1, TensorProto.INT32))
            probe = f"probe{k}"
            nodes.append(helper.make_node("Add", [at, f"reach{k}"], [probe]))
        nodes += [
            helper.make_node("Gather", ["flat", probe], [f"value{k}"], axis=0),
            helper.make_node("GreaterOrEqual", ["acc", f"value{k}"], [f"hit{k}"]),
            helper.make_node("Cast", [f"hit{k}"], [f"one{k}"], to=TensorProto.INT32),
        ]
        jump = f"one{k}"
        if k:
            nodes.append(_constant(f"size{k}", 1 << k, TensorProto.INT32))
            nodes.append(helper.make_node("Mul", [f"one{k}", f"size{k}"], [f"jump{k}"]))
            jump = f"jump{k}"
        nodes.append(helper.make_node("Add", [at, jump], [f"at{k}"]))
        at = f"at{k}"
    cast = helper.make_node("Cast", ["result"], ["y"])
    cast.attribute.append(AttributeProto(name="to", type=AttributeProto.INT, ref_attr_name="to"))
    nodes += [
        helper.make_node("Sub", [at, "rows"], ["count"]),
        helper.make_node("Mul", ["count", "step"], ["scaled"]),
        helper.make_node("Add", ["scaled", "first"], ["result"]),
        cast,
    ]
    attributes = ["to", *(_WINDOW if conv else ())]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, op, _INPUTS, ["y"], nodes, opsets, attributes)


def _constant(name: str, value: int | list[int], elem: int) -> onnx.NodeProto:
    dims = [len(value)] if isinstance(value, list) else []
    data = value if isinstance(value, list) else [value]
    return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, elem, dims, data))


def is_ours(function: onnx.FunctionProto) -> bool:
    """Whether a model's function is exactly one of these, so that its nodes may be read as operators."""
    try:
        opset = next((o.version for o in function.opset_import if not o.domain), OPSET)
        mine = definition(function.name, opset) if function.domain == DOMAIN else None
    except ValueError:
        return False
    return mine is not None and function.SerializeToString(deterministic=True) == mine.SerializeToString(
        deterministic=True
    )
