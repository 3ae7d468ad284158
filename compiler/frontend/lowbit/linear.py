"""Sums of products over an integer tensor: which nodes are such, their integers and the real value of one unit.

Convolutions and matrix products with constant weights on a grid, and averages (a window of ones). Raises FVC120 where a
scale varies along what is summed: no factor can then be taken out of the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend.integer import S16, Unfit
from compiler.frontend.lowbit.grid import Array, GridConstant, Grids, whole
from compiler.frontend.onnxgraph import Node, OnnxGraph
from compiler.frontend.windows import window
from compiler.requant import reachable_range
from device_db.errors import FvcError

F32 = np.float32
MOST_REACH = 1 << 52
_AVERAGES = ("AveragePool", "GlobalAveragePool")


@dataclass(frozen=True, slots=True)
class Ints:
    """An integer tensor in 8 bits, or in int16, behind a float one: float = scale * (stored - zero).

    Stored are lo, lo + step, … hi.
    scale: float32, one value or one along `axis`."""

    name: str
    elem: int
    scale: Array
    axis: int
    zero: int
    lo: int
    hi: int
    step: int


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """acc = sum of (x - zero) * weight. weight: int32 (M, N/groups, KH, KW), or (M, K, 1, 1) of a matrix product.

    In one dimension KH is 1.
    unit: float64 (M,), the float value of one accumulator unit. axis: the channel axis of the result."""

    node: Node
    x: Ints
    weight: Array
    unit: Array
    axis: int
    attributes: dict[str, Any]
    matrix: bool

    @property
    def column(self) -> tuple[int, ...]:
        """The shape in which one value a channel broadcasts over the result."""
        return (len(self.weight),) + (1,) * (0 if self.matrix else len(self.attributes["kernel_shape"]))

    def reach(self, wide: bool = False) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Least and greatest accumulator by channel. Raises Unfit beyond int32; of a wide layer beyond what float64
        holds, in whatever order it sums."""
        low, high = reachable_range(self.weight, 0, self.x.zero, self.x.lo, self.x.hi, exact=True)
        if not wide and ((low <= -(2**31)).any() or (high >= 2**31 - 1).any()):
            raise Unfit("its sums can leave 32 bits")
        if (high - low >= MOST_REACH).any():
            raise Unfit("its sums can leave 52 bits")
        return low, high

    @property
    def narrow(self) -> bool:
        """Whether activations and weights have 8 bits at most."""
        return self.x.elem != S16 and int(self.weight.max()) - int(self.weight.min()) <= 255


def linear(graph: OnnxGraph, grids: Grids, n: Node, x: Ints, wide: bool = False) -> Linear:
    """`n` over the integers `x`, its weights of 8 bits, of 16 if `wide`.

    Raises Unfit where it is no such sum, FVC120 where its scales cannot be absorbed."""
    shape = graph.shape(n.inputs[0])
    if shape is None:
        raise Unfit("the shape of its input is not static")
    if n.op in _AVERAGES:
        return _average(n, x, shape)
    held = _constant(graph, grids, n.inputs[1], wide)
    if n.op == "MatMul":
        if held.integers.ndim != 2 or len(shape) < 2:
            raise Unfit(f"matrix product with a constant of rank {held.integers.ndim}")
        integers, scales = held.integers.T, np.broadcast_to(held.scale, held.integers.shape).T
        _one_scale(n, x, len(shape) - 1)
        weight = np.ascontiguousarray(integers)[:, :, None, None]
        unit = _unit(n, scales, held) * float(x.scale[0])
        return Linear(n, x, weight, unit, len(shape) - 1, {}, True)
    if len(shape) not in (3, 4):
        raise Unfit(f"convolution with {len(shape) - 2} spatial dimensions")
    weight = held.integers
    win = window(n, shape[2:], tuple(int(d) for d in weight.shape[2:]))
    groups = n.integer("group", 1)
    m = weight.shape[0]
    unit = _unit(n, np.broadcast_to(held.scale, weight.shape), held)
    if x.scale.size > 1 and weight.shape[1] == 1 and x.axis == 1 and groups == x.scale.size:
        unit = unit * np.repeat(x.scale.astype(np.float64), m // groups)
    else:
        _one_scale(n, x, 1)
        unit = unit * float(x.scale[0])
    if weight.ndim == 3:
        weight = weight[:, :, None, :]
    attributes = {
        "dilations": list(win.dilations), "group": groups, "kernel_shape": list(win.kernel), "pads": win.pads,
        "strides": list(win.strides),
    }  # fmt: skip
    return Linear(n, x, weight, unit, 1, attributes, False)


def _average(n: Node, x: Ints, shape: tuple[int, ...]) -> Linear:
    if len(shape) not in (3, 4):
        raise Unfit(f"an average over {len(shape) - 2} dimensions")
    c = shape[1]
    if n.op == "GlobalAveragePool":
        kernel, pads, strides = tuple(shape[2:]), [0] * 2 * (len(shape) - 2), [1] * (len(shape) - 2)
    else:
        kernel = tuple(n.ints("kernel_shape", []))
        win = window(n, shape[2:], kernel)
        pads, strides = list(win.pads), list(win.strides)
        if min(win.out) < 1:
            raise Unfit("its window is larger than its padded input")
        padded = any(pads) and not n.integer("count_include_pad", 0)
        if padded or any(d != 1 for d in win.dilations) or n.integer("ceil_mode", 0):
            raise Unfit("an average whose windows have different sizes")
    weight = np.ones((c, 1, *(1,) * (2 - len(kernel)), *kernel), np.int32)
    unit = np.broadcast_to(x.scale.astype(np.float64), (c,)) / prod(kernel)
    if x.scale.size > 1 and x.axis != 1:
        raise Unfit("its input's scale varies along another axis than the channels")
    attributes = {
        "dilations": [1] * len(kernel),
        "group": c,
        "kernel_shape": list(kernel),
        "pads": pads,
        "strides": strides,
    }
    return Linear(n, x, weight, np.ascontiguousarray(unit), 1, attributes, False)


def _constant(graph: OnnxGraph, grids: Grids, name: str, wide: bool) -> GridConstant:
    held = grids.constants.get(name)
    if held is None:
        value = graph.constants.get(name)
        if value is None:
            raise Unfit("product of two activations")
        if not whole(value) or np.abs(value).max(initial=0) > 2**20:
            raise Unfit("its weights are not quantised")
        held = GridConstant(value.astype(np.int32), np.ones((), np.float32), name)
    if not held.integers.size:
        raise Unfit("it has no weights")
    least, most = int(held.integers.min(initial=0)), int(held.integers.max(initial=0))
    if most - least > 255 and not wide:
        raise Unfit("its weights have more than 8 bits")
    if most - least > 255 and (least < -(2**15) or most >= 2**15):
        raise Unfit("its weights have more than 16 bits")
    return held


def _one_scale(n: Node, x: Ints, axis: int) -> None:
    if x.scale.size > 1:
        raise FvcError(
            "FVC120",
            f"the input of node '{n.name}' ({n.op}) has {x.scale.size} scales along the axis that is summed",
            where=(f"input '{n.inputs[0]}', from {float(x.scale.min()):g} to {float(x.scale.max()):g}",),
            help=("quantise this activation with one scale, or with powers of it folded into the weights",),
        )


def _unit(n: Node, scales: Array, held: GridConstant) -> Array:
    """float64 (M,): the weight scale of each output channel."""
    flat = scales.reshape(scales.shape[0], -1).astype(np.float64)
    if (flat != flat[:, :1]).any():
        raise FvcError(
            "FVC120",
            f"the weight scale of node '{n.name}' ({n.op}) varies within an output channel",
            where=(f"quantiser '{held.node}'",),
            help=("one scale for the tensor or one an output channel can be taken out of the sum; others cannot",),
        )
    return np.ascontiguousarray(flat[:, 0])


def split_bias(graph: OnnxGraph, grids: Grids) -> None:
    """Conv with a bias and Gemm become Conv or MatMul, a Mul and an Add, which the chain behind the sum takes in."""
    nodes: list[Node] = []
    for n in graph.nodes:
        weight = graph.constants.get(n.input(1)) if len(n.inputs) > 1 else None
        bias = graph.constants.get(n.input(2)) if n.input(2) else None
        if n.domain or n.op not in ("Conv", "Gemm") or weight is None or (n.input(2) and bias is None):
            nodes.append(n)
            continue
        y, sum_ = n.outputs[0], n.outputs[0]
        alpha, beta = F32(n.real("alpha", 1.0)), F32(n.real("beta", 1.0))
        if (n.op == "Gemm" and n.integer("transA", 0)) or (n.op == "Conv" and bias is None):
            nodes.append(n)
            continue
        if n.op == "Gemm" and alpha != 1:
            sum_ = _like(graph, f"{y}_product", y)
        elif bias is not None:
            sum_ = _like(graph, f"{y}_sum", y)
        if n.op == "Conv":
            assert bias is not None
            nodes.append(Node("Conv", n.inputs[:2], [sum_], n.name, "", dict(n.attributes)))
            form: tuple[int, ...] = (1, bias.size, *[1] * (weight.ndim - 2))
        else:
            name = n.inputs[1]
            if n.integer("transB", 0):
                name = graph.fresh(f"{name}_transposed")
                graph.constants[name] = np.ascontiguousarray(weight.T)
                held = grids.constants.get(n.inputs[1])
                if held is not None:
                    wide = np.broadcast_to(held.scale, held.integers.shape)
                    grids.constants[name] = GridConstant(np.ascontiguousarray(held.integers.T), wide.T, held.node)
            nodes.append(Node("MatMul", [n.inputs[0], name], [sum_], n.name))
            form = bias.shape if bias is not None else ()
            if alpha != 1:
                factor, product = graph.fresh(f"{n.name}_alpha"), sum_
                graph.constants[factor] = np.asarray(alpha)
                sum_ = y if bias is None else _like(graph, f"{y}_sum", y)
                nodes.append(Node("Mul", [product, factor], [sum_], graph.fresh(f"{n.name}_scaled")))
            if bias is not None and beta != 1:
                bias = (bias * beta).astype(F32)
        if bias is not None:
            moved = graph.fresh(f"{n.inputs[2]}_row")
            graph.constants[moved] = bias.reshape(form)
            nodes.append(Node("Add", [sum_, moved], [y], graph.fresh(f"{n.name}_bias")))
    graph.nodes = nodes


def _like(graph: OnnxGraph, base: str, y: str) -> str:
    """A new tensor of the type of y."""
    name = graph.fresh(base)
    if y in graph.types:
        graph.types[name] = graph.types[y]
    return name
