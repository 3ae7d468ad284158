"""Building blocks of the canonical integer model: quantization parameters, emission of each integer operator.

An `Emitter` appends integer nodes to a list and constants to the graph. It keeps the canonical form: u8u8 or s8s8,
unary functions as 256-entry `Gather` tables addressed by the two's-complement byte, equal weight zero points.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from compiler.frontend.onnxgraph import MS, Node, OnnxGraph, Type
from compiler.frontend.options import ImportReport

Array = NDArray[Any]
U8, S8 = int(TensorProto.UINT8), int(TensorProto.INT8)
ELEM = {np.dtype(np.uint8): U8, np.dtype(np.int8): S8}
DTYPE = {U8: np.dtype(np.uint8), S8: np.dtype(np.int8)}
S16 = int(TensorProto.INT16)  # of tensors of 9 to 16 bits
STORED = DTYPE | {S16: np.dtype(np.int16)}


@dataclass(frozen=True, slots=True)
class QP:
    """Per-tensor quantization of a tensor: real = scale * (q - zero); elem is UINT8, INT8 or INT16."""

    scale: np.float32
    zero: int
    elem: int

    @property
    def lo(self) -> int:
        return int(np.iinfo(STORED[self.elem]).min)

    @property
    def hi(self) -> int:
        return int(np.iinfo(STORED[self.elem]).max)

    def quantize(self, x: Array | np.float32 | float) -> Array:
        """QuantizeLinear: sat(rint(x / s) + zp) in float32."""
        q = np.rint(np.asarray(x, np.float32) / self.scale).astype(np.float64) + self.zero
        return np.asarray(np.clip(q, self.lo, self.hi).astype(STORED[self.elem]))

    def dequantize(self, q: Array) -> Array:
        return ((q.astype(np.int32) - self.zero).astype(np.float32) * self.scale).astype(np.float32)

    def bytes_in_order(self) -> Array:
        """The 256 quantised values, entry i the one whose byte is i."""
        return np.arange(256, dtype=np.uint8).view(DTYPE[self.elem])


@dataclass(frozen=True, slots=True)
class QT:
    """A quantised activation: tensor name and its parameters."""

    name: str
    qp: QP


class Unfit(Exception):
    """An operator cannot become an integer node; the text says why."""


@dataclass(slots=True)
class Emitter:
    """Collects the integer nodes of a rewrite; `graph` supplies fresh names, constants and types."""

    graph: OnnxGraph
    report: ImportReport
    nodes: list[Node] = field(default_factory=list)
    retyped: dict[tuple[str, int], QT] = field(default_factory=dict)

    def const(self, base: str, value: Array) -> str:
        name = self.graph.fresh(base)
        self.graph.constants[name] = np.ascontiguousarray(value).reshape(np.shape(value))
        return name

    def scale(self, base: str, value: Array | np.float32) -> str:
        return self.const(f"{base}_scale", np.asarray(value, np.float32))

    def zero(self, base: str, value: int, elem: int) -> str:
        return self.const(f"{base}_zero_point", np.asarray(value).astype(DTYPE[elem]))

    def params(self, t: QT) -> list[str]:
        """[name, scale, zero point] as operator inputs."""
        return [t.name, self.scale(t.name, t.qp.scale), self.zero(t.name, t.qp.zero, t.qp.elem)]

    def declare(self, name: str, elem: int, shape: tuple[int, ...]) -> None:
        self.graph.types[name] = Type(elem, shape)

    def shape(self, name: str) -> tuple[int, ...]:
        shape = self.graph.shape(name)
        if shape is None:
            raise Unfit(f"the shape of '{name}' is not static")
        return shape

    def table(self, x: str, y: str, table: Array, elem: int, node_name: str) -> None:
        """y = table[byte of x]: (256,) for the tensor or (C, 256) by channel (axis 1), entries of type `elem`."""
        shape = self.shape(x)
        index = self.graph.fresh(f"{y}_index")
        self.nodes.append(
            Node("Cast", [x], [index], self.graph.fresh(f"{node_name}_cast"), "", {"to": int(TensorProto.INT32)})
        )
        self.declare(index, int(TensorProto.INT32), shape)
        values = np.asarray(table).astype(DTYPE[elem])
        if values.ndim == 2 and (values == values[0]).all():
            values = values[0]
        if values.ndim == 2:
            channels = values.shape[0]
            start = np.arange(channels, dtype=np.int32) * 256
            if self.graph.elem(x) == S8:
                values, start = np.roll(values, 128, axis=1), start + 128
            offset = self.const(f"{y}_offset", start.reshape((channels,) + (1,) * (len(shape) - 2)))
            moved = self.graph.fresh(f"{y}_entry")
            self.nodes.append(Node("Add", [index, offset], [moved], self.graph.fresh(f"{node_name}_channel")))
            self.declare(moved, int(TensorProto.INT32), shape)
            index = moved
        data = self.const(f"{y}_table", values.reshape(-1))
        self.nodes.append(Node("Gather", [data, index], [y], node_name, "", {"axis": 0}))
        self.declare(y, elem, shape)

    def requant(self, x: QT, y: str, qp: QP, node_name: str) -> None:
        """Integers of `x` to integers of the same reals under `qp`: DequantizeLinear, then QuantizeLinear."""
        self.table(x.name, y, qp.quantize(x.qp.dequantize(x.qp.bytes_in_order())), qp.elem, node_name)

    def retype(self, t: QT, elem: int) -> QT:
        """The same reals in the other signedness: an exact shift by 128."""
        if t.qp.elem == elem:
            return t
        key = (t.name, elem)
        if key not in self.retyped:
            shift = 128 if elem == U8 else -128
            qp = QP(t.qp.scale, t.qp.zero + shift, elem)
            if t.name in self.graph.constants:
                value = self.graph.constants[t.name].astype(np.int16) + shift
                name = self.const(f"{t.name}_{'u8' if elem == U8 else 's8'}", value.astype(DTYPE[elem]))
            else:
                name = self.graph.fresh(f"{t.name}_{'u8' if elem == U8 else 's8'}")
                self.table(t.name, name, t.qp.bytes_in_order().astype(np.int16) + shift, elem, name)
            self.retyped[key] = QT(name, qp)
        return self.retyped[key]

    def finish(self, elem: int, qp: QP, y: str) -> tuple[str, QP, bool]:
        """Where an operator that makes `elem` writes so that `y` gets `qp`: (name, parameters, shift after it?)."""
        if elem == qp.elem:
            return y, qp, False
        shift = 128 if elem == U8 else -128
        return self.graph.fresh(f"{y}_{'u8' if elem == U8 else 's8'}"), QP(qp.scale, qp.zero + shift, elem), True

    def close(self, made: str, made_qp: QP, y: str, qp: QP, shifted: bool, node_name: str) -> None:
        if shifted:
            delta = 128 if qp.elem == U8 else -128
            self.table(made, y, made_qp.bytes_in_order().astype(np.int16) + delta, qp.elem, f"{node_name}_retype")

    def conv(
        self,
        x: QT,
        w: Array,
        w_scale: Array,
        w_zero: Array,
        bias: Array | None,
        y: str,
        qp: QP,
        node: str,
        attributes: dict[str, Any],
    ) -> None:
        """QLinearConv; w (M, N/g, ...) 8 bits, w_scale and w_zero scalar or (M,)."""
        w, zero = same_zero(w, w_zero, x.qp.elem)
        made, made_qp, shifted = self.finish(x.qp.elem, qp, y)
        m = w.shape[0]
        scale = np.asarray(w_scale, np.float32).reshape(-1)
        scale = scale[0].reshape(()) if scale.size == 1 else scale
        zeros = np.asarray(zero).astype(w.dtype) if scale.ndim == 0 else np.full(m, zero, w.dtype)
        inputs = [
            *self.params(x),
            self.const(f"{node}_weight", w),
            self.scale(f"{node}_weight", scale),
            self.const(f"{node}_weight_zero_point", zeros),
            self.scale(made, made_qp.scale),
            self.zero(made, made_qp.zero, made_qp.elem),
        ]
        if bias is not None and np.any(bias):
            inputs.append(self.const(f"{node}_bias", np.asarray(bias, np.int32)))
        shape = conv_shape(self.shape(x.name), w.shape, attributes)
        self.nodes.append(Node("QLinearConv", inputs, [made], node, "", attributes))
        self.declare(made, made_qp.elem, shape)
        self.close(made, made_qp, y, qp, shifted, node)

    def matmul(
        self, x: QT, w: Array, w_scale: Array, w_zero: Array, bias: Array | None, y: str, qp: QP, node: str
    ) -> None:
        """QLinearMatMul, or QGemm if there is a bias (rank 2); w (K, M), w_scale and w_zero scalar or (M,)."""
        wt, zero = same_zero(np.ascontiguousarray(w.T), w_zero, x.qp.elem)
        w = np.ascontiguousarray(wt.T)
        made, made_qp, shifted = self.finish(x.qp.elem, qp, y)
        scale = np.asarray(w_scale, np.float32).reshape(-1)
        scale = scale[0].reshape(()) if scale.size == 1 else scale
        zeros = np.asarray(zero).astype(w.dtype) if scale.ndim == 0 else np.full(w.shape[1], zero, w.dtype)
        weight = [
            self.const(f"{node}_weight", w),
            self.scale(f"{node}_weight", scale),
            self.const(f"{node}_weight_zero_point", zeros),
        ]
        out = [self.scale(made, made_qp.scale), self.zero(made, made_qp.zero, made_qp.elem)]
        shape = (*self.shape(x.name)[:-1], w.shape[1])
        if bias is not None and np.any(bias):
            c = self.const(f"{node}_bias", np.asarray(bias, np.int32))
            self.nodes.append(Node("QGemm", [*self.params(x), *weight, c, *out], [made], node, MS))
        else:
            self.nodes.append(Node("QLinearMatMul", [*self.params(x), *weight, *out], [made], node))
        self.declare(made, made_qp.elem, shape)
        self.close(made, made_qp, y, qp, shifted, node)

    def binary(self, kind: str, a: QT, b: QT, y: str, qp: QP, node: str) -> None:
        """QLinearAdd or QLinearMul; operands are brought to one signedness and one rank."""
        const_first = a.name in self.graph.constants
        elem = (b if const_first else a).qp.elem
        a, b = self.retype(a, elem), self.retype(b, elem)
        rank = max(len(self.shape(a.name)), len(self.shape(b.name)))
        a, b = self.align(a, rank), self.align(b, rank)
        made, made_qp, shifted = self.finish(elem, qp, y)
        out = [self.scale(made, made_qp.scale), self.zero(made, made_qp.zero, made_qp.elem)]
        shape = tuple(int(d) for d in np.broadcast_shapes(self.shape(a.name), self.shape(b.name)))
        self.nodes.append(Node(f"QLinear{kind}", [*self.params(a), *self.params(b), *out], [made], node, MS))
        self.declare(made, made_qp.elem, shape)
        self.close(made, made_qp, y, qp, shifted, node)

    def align(self, t: QT, rank: int) -> QT:
        """The operand with leading ones, so that both have one rank."""
        shape = self.shape(t.name)
        if len(shape) == rank:
            return t
        full = (1,) * (rank - len(shape)) + shape
        if t.name in self.graph.constants:
            return QT(self.const(f"{t.name}_r{rank}", self.graph.constants[t.name].reshape(full)), t.qp)
        name = self.graph.fresh(f"{t.name}_r{rank}")
        self.reshape(t.name, name, full)
        return QT(name, t.qp)

    def reshape(self, x: str, y: str, shape: tuple[int, ...]) -> None:
        self.nodes.append(
            Node(
                "Reshape",
                [x, self.const(f"{y}_shape", np.asarray(shape, np.int64))],
                [y],
                self.graph.fresh(f"{y}_reshape"),
            )
        )
        self.declare(y, self.graph.elem(x), shape)


def same_zero(w: Array, w_zero: Array, elem: int) -> tuple[Array, int]:
    """Weights (first axis = channel) in signedness `elem` with one zero point for all channels: the same w - zero.

    Raises Unfit where no common zero point exists."""
    zeros = np.asarray(w_zero).astype(np.int64).reshape(-1)
    lo, hi = (0, 255) if elem == U8 else (-128, 127)
    if (zeros == zeros[0]).all():
        shift = 0 if ELEM[w.dtype] == elem else (128 if elem == U8 else -128)
        if not shift:
            return w, int(zeros[0])
        return (w.astype(np.int16) + shift).astype(DTYPE[elem]), int(zeros[0]) + shift
    real = w.astype(np.int64) - zeros.reshape((-1,) + (1,) * (w.ndim - 1))
    least, most = int(real.min()), int(real.max())
    middle = 128 if elem == U8 else 0
    low, high = lo - least, hi - most  # zero points z with real + z inside the type
    if low > high:
        raise Unfit("weight zero points differ between channels and no common one exists")
    zero = min(max(middle, low), high)
    return (real + zero).astype(DTYPE[elem]), zero


def conv_shape(x: tuple[int, ...], w: tuple[int, ...], attributes: dict[str, Any]) -> tuple[int, ...]:
    """Output shape of a convolution with explicit pads."""
    spatial = len(x) - 2
    strides = attributes.get("strides", [1] * spatial)
    pads = attributes.get("pads", [0] * 2 * spatial)
    dilations = attributes.get("dilations", [1] * spatial)
    out = [
        (x[2 + k] + pads[k] + pads[k + spatial] - (w[2 + k] - 1) * dilations[k] - 1) // strides[k] + 1
        for k in range(spatial)
    ]
    return (x[0], w[0], *out)
