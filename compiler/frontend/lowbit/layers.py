"""The integer nodes of a layer: sums of products with thresholds or as they are, and step functions of a tensor.

Needs what `linear` found and the thresholds of `steps`. Operands of up to 8 bits become ConvInteger or MatMulInteger,
wider ones the wide products of `frontend.functions`; a step function alone is a depthwise product with a one.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from compiler.frontend import functions
from compiler.frontend.integer import S16, STORED, Emitter, Unfit
from compiler.frontend.lowbit.grid import Array
from compiler.frontend.lowbit.linear import Ints, Linear
from compiler.frontend.lowbit.steps import I64, StepTable
from compiler.frontend.onnxgraph import Node

F32 = np.float32
DIGIT_SUM = 255 * 255  # greatest product of two digits: ConvInteger adds them in int32


def threshold_layer(
    e: Emitter, found: Linear, table: StepTable, shift: int, elem: int, y: str, shape: tuple[int, ...], wide: bool
) -> None:
    """y = shift + what the thresholds say of the sums, as one node of type `elem`."""
    m, count = table.values.shape
    bits = count.bit_length()
    width = (1 << bits) - 1
    kind = table.values.dtype
    full = np.full((m, width), np.iinfo(kind).max, kind)
    full[:, :count] = table.values
    rows = (np.arange(m, dtype=np.int32) * width).reshape(found.column)
    weight = found.weight * table.sign.reshape(-1, 1, 1, 1)
    product, operands = _operands(e, found, weight, bits, wide)
    name = found.node.name
    inputs = [
        *operands,
        e.const(f"{name}_thresholds", full),
        e.const(f"{name}_rows", rows),
        e.const(f"{name}_first", np.asarray(table.lo + shift, np.int32)),
        e.const(f"{name}_step", np.asarray(table.step, np.int32)),
    ]
    e.nodes.append(Node(product.name, inputs, [y], name, functions.DOMAIN, {**found.attributes, "to": elem}))
    e.declare(y, elem, shape)


def sums_layer(e: Emitter, found: Linear, low: I64, high: I64, y: str, shape: tuple[int, ...] | None) -> None:
    """y = the sums themselves, int32, or int64 where they go beyond."""
    name = found.node.name
    int32 = int(TensorProto.INT32)
    fits = max(-int(low.min()), int(high.max())) < 2**31
    if found.narrow:
        stored, w_zero = weight_container(found.weight, found.x.elem)
        op = "MatMulInteger" if found.matrix else "ConvInteger"
        inputs = _names(e, found, stored, w_zero)
        e.nodes.append(Node(op, inputs, [y], name, "", dict(found.attributes)))
        elem = int32
    else:
        elem = int32 if fits else int(TensorProto.INT64)
        product, inputs = _operands(e, found, found.weight, 0, True)
        e.nodes.append(Node(product.name, inputs, [y], name, functions.DOMAIN, {**found.attributes, "to": elem}))
    if shape is not None:
        e.declare(y, elem, shape)


def _operands(e: Emitter, found: Linear, weight: Array, bits: int, wide: bool) -> tuple[functions.Product, list[str]]:
    """The product and its first inputs x, w, x_zero, w_zero."""
    kind = functions.MATMUL if found.matrix else functions.CONV
    if not bits:
        kind = functions.MATMUL_SUMS if found.matrix else functions.CONV_SUMS
    if found.narrow:
        try:
            stored, w_zero = weight_container(weight, found.x.elem)
            return functions.Product(kind, 0, 0, bits), _names(e, found, stored, w_zero)
        except Unfit:
            if not wide:
                raise
    least, most = int(weight.min()), int(weight.max())
    if least < -(2**15) or most >= 2**15:
        raise Unfit("its weights do not fit 16 bits")
    x = found.x
    low, high = min(x.lo - x.zero, 0), max(x.hi - x.zero, 0)
    digits = _digits(low, high), _digits(least, most)
    if not found.matrix and weight[0].size * DIGIT_SUM >= 2**31:
        raise Unfit("it sums up too many products of wide operands for ONNX Runtime to judge")
    return functions.Product(kind, *digits, bits), _names(e, found, weight.astype(np.int16), 0)


def _digits(low: int, high: int) -> int:
    """Digits of 8 bits, the highest with a sign, that hold low..high."""
    return next(d for d in range(1, 5) if low >= -(1 << (8 * d - 1)) and high < 1 << (8 * d - 1))


def _names(e: Emitter, found: Linear, stored: Array, w_zero: int) -> list[str]:
    """Constants of the operands: x, w, x_zero, w_zero."""
    name = found.node.name
    if found.matrix:
        stored = np.ascontiguousarray(stored[:, :, 0, 0].T)
    elif len(found.attributes["kernel_shape"]) == 1:
        stored = stored.reshape(*stored.shape[:2], -1)
    return [
        found.x.name,
        e.const(f"{name}_weight", stored),
        e.const(f"{name}_x_zero", np.asarray(found.x.zero).astype(STORED[found.x.elem])),
        e.const(f"{name}_weight_zero", np.asarray(w_zero).astype(stored.dtype)),
    ]


def weight_container(weight: Array, elem: int) -> tuple[Array, int]:
    """Stored weights in the 8-bit type `elem` of the activations and their zero point: 128 or 0 where possible."""
    lo, hi = (0, 255) if elem == 2 else (-128, 127)
    least, most = int(weight.min()), int(weight.max())
    first = 128 if elem == 2 else 0
    for zero in (first, 0, lo - least, hi - most):
        if elem != S16 and lo <= least + zero and most + zero <= hi and lo <= zero <= hi:
            return (weight + zero).astype(STORED[elem]), zero
    raise Unfit("its weights do not fit 8 bits")


def unit_layer(x: Ints, shape: tuple[int, ...], name: str) -> Linear:
    """Each channel of `x` by itself, times one: what a step function of the tensor is the activation of.

    shape: (N, C, W) or (N, C, H, W)."""
    channels, spatial = shape[1], len(shape) - 2
    attributes = {
        "dilations": [1] * spatial, "group": channels, "kernel_shape": [1] * spatial, "pads": [0] * 2 * spatial,
        "strides": [1] * spatial,
    }  # fmt: skip
    weight = np.ones((channels, 1, 1, 1), np.int32)
    unit = np.broadcast_to(x.scale.astype(np.float64), (channels,))
    node = Node("Conv", [x.name], [], name)
    return Linear(node, x, weight, np.ascontiguousarray(unit), 1, attributes, False)


__all__ = ["sums_layer", "threshold_layer", "unit_layer", "weight_container"]
