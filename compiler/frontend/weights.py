"""Constant operands of float operators: real values, and the integers behind them where the model gives them.

Float weights are quantised here, symmetric and per channel, float biases at the scale of the products; both are
recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import ort
from compiler.frontend.integer import QP, U8, Unfit
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph
from compiler.frontend.options import ImportReport

Array = NDArray[Any]
_HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Transpose"}  # their weights are rarely wanted in float
_SMALL = 1 << 16


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant: real values, or the integers behind them where the model gives them (axis -1 = per tensor)."""

    floats: Array | None
    q: Array | None = None
    scale: Array | None = None
    zero: Array | None = None
    axis: int = -1

    @property
    def shape(self) -> tuple[int, ...]:
        value = self.q if self.floats is None else self.floats
        assert value is not None
        return value.shape

    @property
    def real(self) -> Array:
        """The values in float32: DequantizeLinear of the integers."""
        if self.floats is not None:
            return self.floats
        assert self.q is not None and self.scale is not None and self.zero is not None
        side = [1] * self.q.ndim
        if self.axis >= 0:
            side[self.axis] = -1
        wide = self.q.astype(np.int64 if self.q.dtype == np.int32 else np.int32) - self.zero.reshape(side)
        return (wide.astype(np.float32) * self.scale.reshape(side)).astype(np.float32)


def take_dequantized(graph: OnnxGraph) -> dict[str, Weight]:
    """Every DequantizeLinear of a constant leaves the graph: its floats become a constant, its integers the Weight."""
    users = graph.consumers()
    taken: dict[str, Weight] = {}
    kept: list[Node] = []
    for n in graph.nodes:
        weight = _dequantized(graph, n) if n.op == "DequantizeLinear" and n.domain in ("", MS) else None
        if weight is None:
            kept.append(n)
        else:
            name = n.outputs[0]
            taken[name] = weight
            if (
                prod(weight.shape) < _SMALL
                or name in graph.outputs
                or any(u.op not in _HEAVY for u in users.get(name, []))
            ):
                graph.constants[name] = weight.real
    graph.nodes = kept
    return taken


def materialise(graph: OnnxGraph, nodes: list[Node], taken: dict[str, Weight]) -> None:
    """Give float constants to the nodes that still read a weight in float."""
    for n in nodes:
        for i in n.uses:
            if i in taken and i not in graph.constants:
                graph.constants[i] = taken[i].real


def _dequantized(graph: OnnxGraph, n: Node) -> Weight | None:
    q, scale = graph.constants.get(n.inputs[0]), graph.constants.get(n.input(1))
    zero = graph.constants.get(n.input(2)) if n.input(2) else None
    if q is None or scale is None or (n.input(2) and zero is None):
        return None
    if n.integer("block_size", 0) or scale.dtype != np.float32:
        try:
            value = ort.evaluate(graph, [n], {}, n.outputs)[n.outputs[0]]
        except Exception:
            return None
        return Weight(np.asarray(value, np.float32))
    shift = np.zeros(scale.shape, np.int64) if zero is None else np.asarray(zero).astype(np.int64)
    axis = n.integer("axis", 1) % q.ndim if scale.size > 1 else -1
    if q.dtype not in (np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.int32)):
        wide = q.astype(np.int64)
        weight = Weight(None, wide.astype(np.int32), scale.reshape(-1), shift.reshape(-1), axis)
        if wide.min(initial=0) < -128 or wide.max(initial=0) > 127:  # 16 bits
            return Weight(weight.real)
        q = wide.astype(np.int8)  # 4-bit integers are carried as int8
    return Weight(None, q, scale.reshape(-1), shift.reshape(-1), axis)


def weight_of(graph: OnnxGraph, taken: dict[str, Weight], made: dict[str, Node], name: str) -> Weight | None:
    """The constant behind `name`: dequantised integers, a float constant, or a Transpose of either."""
    if name in taken:
        return taken[name]
    value = graph.constants.get(name)
    if value is not None:
        return Weight(value)
    n = made.get(name)
    if n is None or n.op != "Transpose" or n.domain:
        return None
    inner = weight_of(graph, taken, made, n.inputs[0])
    if inner is None:
        return None
    perm = n.ints("perm", range(len(inner.shape))[::-1])
    axis = perm.index(inner.axis) if inner.axis >= 0 else -1
    q = None if inner.q is None else inner.q.transpose(perm)
    floats = None if inner.floats is None else inner.floats.transpose(perm)
    return Weight(floats, q, inner.scale, inner.zero, axis)


def integers(
    report: ImportReport, n: Node, w: Weight, axis: int, elem: int, *, where: str = "weight"
) -> tuple[Array, Array, Array]:
    """8-bit integers, scales and zero points of a weight (several: along `axis`). Quantises float weights."""
    if (
        w.q is not None
        and w.q.dtype != np.int32
        and w.scale is not None
        and w.zero is not None
        and w.axis in (-1, axis)
    ):
        return w.q, w.scale, w.zero
    others = tuple(k for k in range(w.real.ndim) if k != axis)
    peak = np.abs(w.real).max(axis=others).astype(np.float32)
    scale = np.where(peak > 0, peak / np.float32(127), np.float32(1)).astype(np.float32)
    side = [1] * w.real.ndim
    side[axis] = scale.size
    q = np.clip(np.rint(w.real / scale.reshape(side)), -127, 127).astype(np.int8)
    report.fallback(f"float {where} of node '{n.name}' ({n.op}) quantised per channel, symmetric int8")
    return q, scale, np.zeros(scale.shape, np.int64)


def int_bias(report: ImportReport, n: Node, bias: Weight | None, x: QP, w_scale: Array, m: int) -> Array | None:
    """int32 bias at xs*ws; as it is if the model gives it at just that scale."""
    if bias is None:
        return None
    unit = (np.float32(x.scale) * np.asarray(w_scale, np.float32)).astype(np.float32)
    if bias.q is not None and bias.q.dtype == np.int32 and bias.scale is not None and len(bias.shape) <= 1:
        given = np.broadcast_to(bias.scale, (m,))
        zero_free = bias.zero is None or not np.any(bias.zero)
        if zero_free and np.allclose(given, np.broadcast_to(unit, (m,)), rtol=1e-5, atol=0):
            return np.broadcast_to(bias.q.reshape(-1), (m,)).astype(np.int32)
    real = bias.real.astype(np.float64).reshape(-1)
    if real.size not in (1, m):
        raise Unfit("its bias is not one value a channel")
    value = np.rint(np.broadcast_to(real, (m,)) / np.broadcast_to(unit, (m,)).astype(np.float64))
    if np.abs(value).max(initial=0) >= 2**31 - 2**24:
        report.fallback(f"bias of node '{n.name}' saturates in int32: its weights are tiny against it")
        value = np.clip(value, -(2**31) + 2**24, 2**31 - 2**24)
    return value.astype(np.int64).astype(np.int32)


def range_of(values: Array, elem: int) -> QP:
    """Asymmetric 8-bit parameters for the range of `values`, zero included."""
    lo, hi = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    scale = np.float32((hi - lo) / 255.0)
    if not np.isfinite(scale) or scale <= 0:
        scale = np.float32(1.0)
    base = 0 if elem == U8 else -128
    return QP(scale, int(np.clip(round(base - lo / float(scale)), base, base + 255)), elem)


def transposed(w: Weight) -> Weight:
    axis = w.axis if w.axis < 0 else 1 - w.axis
    floats = None if w.floats is None else w.floats.T
    return Weight(floats, None if w.q is None else w.q.T, w.scale, w.zero, axis)


def scaled(w: Weight, factor: float) -> Weight:
    """The reals of `w` times a factor above 0: the same integers at another scale."""
    if w.q is None or w.scale is None:
        return Weight((w.real.astype(np.float64) * factor).astype(np.float32))
    return Weight(None, w.q, (w.scale.astype(np.float64) * factor).astype(np.float32), w.zero, w.axis)
