"""Operators of the project's own, written out in standard integer operators as functions of the model that uses them.

`model.int.onnx` carries the definition of each with it, so ONNX Runtime (or anyone) runs it as it is, and the model
still has one node for one layer. Names end in the number of binary-search steps: ConvThreshold4 takes up to 15
thresholds a channel.

    y = to(first + step * (number of thresholds[m] <= acc)),  acc = ConvInteger or MatMulInteger(x, w, x_zero, w_zero)

thresholds: int32 (M, 2^b - 1), rows ascending. rows: int32, m * (2^b - 1) in the shape that broadcasts over acc.

Operands of more than 8 bits have forms of their own, in integers beyond what ONNX's quantised operators take:

    Wide22ConvThreshold10   as above, x and w int16 or 8 bits; acc and thresholds int64
    Wide22ConvSums          y = to(acc)
    WideMaxPool             MaxPool of int16
    WideAdd                 y = to(a * a_times + b * b_times + offset)

A wide convolution writes x - x_zero + 2^(8i-1) and w - w_zero + 2^(8j-1) with i and j digits of 8 bits (the numbers in
its name; the highest digit's zero point is 128) and adds i * j products of ConvInteger at their weights in int64: u8
by u8, as ONNX Runtime saturates on other pairs. A wide matrix product is MatMul of int64.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import onnx
from onnx import AttributeProto, TensorProto, helper

DOMAIN = "fvc"
VERSION = 1
OPSET = 13  # the oldest
_INPUTS = ["x", "w", "x_zero", "w_zero", "thresholds", "rows", "first", "step"]
_WINDOW = ("dilations", "group", "kernel_shape", "pads", "strides")
CONV, MATMUL = "ConvThreshold", "MatMulThreshold"
CONV_SUMS, MATMUL_SUMS = "ConvSums", "MatMulSums"
MAX_POOL, ADD = "WideMaxPool", "WideAdd"
MOST_BITS = 16  # search steps
MOST_DIGITS = 3
_POOL = ("ceil_mode", "dilations", "kernel_shape", "pads", "strides")
_NAME = re.compile(r"(?:Wide([1-9])([1-9]))?(ConvThreshold|MatMulThreshold|ConvSums|MatMulSums)([1-9][0-9]*)?")


@dataclass(frozen=True, slots=True)
class Product:
    """A convolution or matrix product of the project's own: kind (CONV, …), digits of x and w (0: 8-bit operands),
    search steps (0: the sums themselves)."""

    kind: str
    x_digits: int
    w_digits: int
    bits: int

    @property
    def conv(self) -> bool:
        return self.kind in (CONV, CONV_SUMS)

    @property
    def wide(self) -> bool:
        return self.x_digits > 0

    @property
    def name(self) -> str:
        wide = f"Wide{self.x_digits}{self.w_digits}" if self.wide else ""
        return f"{wide}{self.kind}{self.bits or ''}"


def product_of(op: str) -> Product | None:
    """The product that an operator's name says, if it is one."""
    found = _NAME.fullmatch(op)
    if found is None:
        return None
    x, w, kind, bits = found.groups()
    made = Product(kind, int(x or 0), int(w or 0), int(bits or 0))
    searched = 1 <= made.bits <= MOST_BITS
    legal = searched if kind in (CONV, MATMUL) else made.wide and not made.bits
    return made if legal and max(made.x_digits, made.w_digits) <= MOST_DIGITS else None


def is_product(domain: str, op: str) -> bool:
    """Whether (domain, op) is a convolution or matrix product of the project's own."""
    return domain == DOMAIN and product_of(op) is not None


def base_name(op: str) -> str:
    """The kind of a product: its name without digits and search steps."""
    made = product_of(op)
    return op if made is None else made.kind


@cache
def definition(op: str, opset: int = OPSET) -> onnx.FunctionProto:
    """The function `op`, e.g. ConvThreshold2, for a model of that operator set (its operators read alike in all)."""
    if op == MAX_POOL:
        return _max_pool(opset)
    if op == ADD:
        return _add(opset)
    made = product_of(op)
    if made is None or made.name != op:
        raise ValueError(f"no function {op}")
    nodes = _wide_product(made) if made.wide else [_product("ConvInteger" if made.conv else "MatMulInteger", made.conv)]
    if made.bits:
        nodes += _search(made.bits, made.wide)
    else:
        nodes.append(_cast("acc", "y"))
    attributes = ["to", *(_WINDOW if made.conv else ())]
    inputs = _INPUTS if made.bits else _INPUTS[:4]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, op, inputs, ["y"], nodes, opsets, attributes)


def _refer(node: onnx.NodeProto, names: tuple[str, ...]) -> onnx.NodeProto:
    """The node with the function's own attributes of these names."""
    for name in names:
        kind = AttributeProto.INT if name in ("group", "to", "ceil_mode") else AttributeProto.INTS
        node.attribute.append(AttributeProto(name=name, type=kind, ref_attr_name=name))
    return node


def _cast(x: str, y: str) -> onnx.NodeProto:
    return _refer(helper.make_node("Cast", [x], [y]), ("to",))


def _product(op: str, conv: bool, inputs: list[str] | None = None, y: str = "acc") -> onnx.NodeProto:
    return _refer(helper.make_node(op, inputs or _INPUTS[:4], [y]), _WINDOW if conv else ())


def _search(bits: int, wide: bool) -> list[onnx.NodeProto]:
    """The number of a channel's thresholds that `acc` has reached, found in `bits` steps, as the result."""
    nodes = [_constant("flat_shape", [-1], TensorProto.INT64)]
    nodes.append(helper.make_node("Reshape", ["thresholds", "flat_shape"], ["flat"]))
    at = "rows"  # index of the first threshold not yet known to be reached
    for k in reversed(range(bits)):
        probe = at
        if k:
            nodes.append(_constant(f"reach{k}", (1 << k) - 1, TensorProto.INT32))
            probe = f"probe{k}"
            nodes.append(helper.make_node("Add", [at, f"reach{k}"], [probe]))
        value = f"value{k}"
        nodes.append(helper.make_node("Gather", ["flat", probe], [value], axis=0))
        if wide:
            nodes.append(helper.make_node("Cast", [value], [f"limit{k}"], to=TensorProto.INT64))
            value = f"limit{k}"
        nodes += [
            helper.make_node("GreaterOrEqual", ["acc", value], [f"hit{k}"]),
            helper.make_node("Cast", [f"hit{k}"], [f"one{k}"], to=TensorProto.INT32),
        ]
        jump = f"one{k}"
        if k:
            nodes.append(_constant(f"size{k}", 1 << k, TensorProto.INT32))
            nodes.append(helper.make_node("Mul", [f"one{k}", f"size{k}"], [f"jump{k}"]))
            jump = f"jump{k}"
        nodes.append(helper.make_node("Add", [at, jump], [f"at{k}"]))
        at = f"at{k}"
    return [
        *nodes,
        helper.make_node("Sub", [at, "rows"], ["count"]),
        helper.make_node("Mul", ["count", "step"], ["scaled"]),
        helper.make_node("Add", ["scaled", "first"], ["result"]),
        _cast("result", "y"),
    ]


def _wide_product(made: Product) -> list[onnx.NodeProto]:
    """acc, int64: by digits of 8 bits, which are whole products of bytes; a matrix product in int64 as it is."""
    nodes = []
    for name in "xw":
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_long"], to=TensorProto.INT64),
            helper.make_node("Cast", [f"{name}_zero"], [f"{name}_zero_long"], to=TensorProto.INT64),
            helper.make_node("Sub", [f"{name}_long", f"{name}_zero_long"], [f"{name}_real"]),
        ]
    if not made.conv:
        return [*nodes, helper.make_node("MatMul", ["x_real", "w_real"], ["acc"])]
    for name, count in (("x", made.x_digits), ("w", made.w_digits)):
        nodes += _digits(name, count)
    for zero in (0, 128):
        nodes.append(_constant(f"zero{zero}", zero, TensorProto.UINT8))
    total = ""
    for i in range(made.x_digits):
        for j in range(made.w_digits):
            at = f"{i}{j}"
            zeros = [f"zero{128 if i + 1 == made.x_digits else 0}", f"zero{128 if j + 1 == made.w_digits else 0}"]
            nodes += [
                _product("ConvInteger", True, [f"x{i}", f"w{j}", *zeros], f"part{at}"),
                helper.make_node("Cast", [f"part{at}"], [f"long{at}"], to=TensorProto.INT64),
                _constant(f"weight{at}", 1 << 8 * (i + j), TensorProto.INT64),
                helper.make_node("Mul", [f"long{at}", f"weight{at}"], [f"term{at}"]),
            ]
            if total:
                nodes.append(helper.make_node("Add", [total, f"term{at}"], [f"sum{at}"]))
            total = f"sum{at}" if total else f"term{at}"
    return [*nodes, helper.make_node("Identity", [total], ["acc"])]


def _digits(name: str, count: int) -> list[onnx.NodeProto]:
    """name0, name1, …: bytes of name_real + 2^(8 count - 1), the lowest first."""
    base = f"{name}_base"
    nodes = [
        _constant(f"{name}_middle", 1 << (8 * count - 1), TensorProto.INT64),
        _constant(base, 256, TensorProto.INT64),
        helper.make_node("Add", [f"{name}_real", f"{name}_middle"], [f"{name}_rest0"]),
    ]
    for k in range(count):
        rest = f"{name}_rest{k}"
        nodes += [
            helper.make_node("Mod", [rest, base], [f"{name}_digit{k}"]),
            helper.make_node("Cast", [f"{name}_digit{k}"], [f"{name}{k}"], to=TensorProto.UINT8),
        ]
        if k + 1 < count:
            nodes.append(helper.make_node("Div", [rest, base], [f"{name}_rest{k + 1}"]))
    return nodes


def _max_pool(opset: int) -> onnx.FunctionProto:
    """In float32, which holds every integer of 16 bits."""
    pool = _refer(helper.make_node("MaxPool", ["real"], ["most"]), _POOL)
    nodes = [helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT), pool, _cast("most", "y")]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_function(DOMAIN, MAX_POOL, ["x"], ["y"], nodes, opsets, ["to", *_POOL])


def _add(opset: int) -> onnx.FunctionProto:
    nodes = []
    for name in "ab":
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_long"], to=TensorProto.INT32),
            helper.make_node("Mul", [f"{name}_long", f"{name}_times"], [f"{name}_part"]),
        ]
    nodes += [
        helper.make_node("Add", ["a_part", "b_part"], ["sum"]),
        helper.make_node("Add", ["sum", "offset"], ["moved"]),
        _cast("moved", "y"),
    ]
    inputs = ["a", "b", "a_times", "b_times", "offset"]
    return helper.make_function(DOMAIN, ADD, inputs, ["y"], nodes, [helper.make_opsetid("", opset)], ["to"])


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
