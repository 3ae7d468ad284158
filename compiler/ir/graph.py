"""The integer graph: what the compiler partitions, free of ONNX, engines and solvers.

Every operator here is an integer operator of the canonical model (`model.int.onnx`), one IR node per
ONNX node of it, so that every tensor has its ONNX name and ONNX Runtime can judge each one.

Storage. A tensor lies in memory dense and row-major under its ONNX shape. For tiling it is seen as four
dimensions, `storage4(shape)`; an operator says by `axes` which storage axis is its n, c, h, w. Reshape-like
nodes move nothing: their output is an *alias* of the same bytes (`Graph.aliases`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Union

import numpy as np
from numpy.typing import NDArray

Shape4 = tuple[int, int, int, int]


class DType(StrEnum):
    """Element types that live in device memory."""

    U8 = "u8"
    S8 = "s8"
    S16 = "s16"
    I32 = "i32"
    I64 = "i64"

    @property
    def size_bytes(self) -> int:
        return {"u8": 1, "s8": 1, "s16": 2, "i32": 4, "i64": 8}[self.value]

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return np.dtype({"u8": "u1", "s8": "i1", "s16": "<i2", "i32": "<i4", "i64": "<i8"}[self.value])

    @property
    def range(self) -> tuple[int, int]:
        """Least and greatest value."""
        info = np.iinfo(self.numpy)  # type: ignore[type-var]
        return int(info.min), int(info.max)


@dataclass(frozen=True, slots=True)
class Quant:
    """Per-tensor affine quantization: real = scale * (q - zero_point); scale is an exact float32."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class Levels:
    """The only integers that a tensor can hold: lo, lo + step, …, hi. Derived from the graph, never merely claimed."""

    lo: int
    hi: int
    step: int = 1

    @property
    def signed(self) -> bool:
        return self.lo < 0

    @property
    def bipolar(self) -> bool:
        """-1 and +1: one bit, where a streaming engine multiplies by XNOR."""
        return (self.lo, self.hi, self.step) == (-1, 1, 2)

    @property
    def bits(self) -> int:
        """Bits of the narrowest integer type that holds them; 1 for bipolar."""
        if self.bipolar:
            return 1
        if self.signed:
            return max((-self.lo - 1).bit_length(), self.hi.bit_length() if self.hi > 0 else 0) + 1
        return max(1, self.hi.bit_length())

    @property
    def type_name(self) -> str:
        """The type as FINN calls it: UINT4, INT2, BIPOLAR, BINARY."""
        if self.bipolar:
            return "BIPOLAR"
        return "BINARY" if not self.signed and self.bits == 1 else f"{'INT' if self.signed else 'UINT'}{self.bits}"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor; `shape` is the ONNX shape, all static. levels: None where its type is all that is known."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    quant: Quant | None = None
    levels: Levels | None = None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        return self.elements * self.dtype.size_bytes


def storage4(shape: tuple[int, ...]) -> Shape4:
    """The four-dimensional view of a dense tensor: (N,C,H,W), (N,C,1,W), (N,C,1,1), (1,C,1,1), …

    Rank 5 and more keep the first two and the last axis and merge the rest.
    """
    r = len(shape)
    if r == 0:
        return (1, 1, 1, 1)
    if r == 1:
        return (1, shape[0], 1, 1)
    if r == 2:
        return (shape[0], shape[1], 1, 1)
    if r == 3:
        return (shape[0], shape[1], 1, shape[2])
    return (shape[0], shape[1], prod(shape[2:-1]), shape[-1])


@dataclass(frozen=True, slots=True, eq=False)
class Thresholds:
    """A step function of the accumulator, a row a channel: y = base + step * (number of values <= acc).

    Rows ascend (equal neighbours are one higher step) and have one length; INT32_MAX fills a row whose last steps
    no accumulator reaches.
    """

    base: int
    step: int
    values: NDArray[np.signedinteger]  # (M, T), int32; int64 where accumulators are wider

    @property
    def levels(self) -> Levels:
        return Levels(self.base, self.base + self.step * self.values.shape[1], self.step)


@dataclass(frozen=True, slots=True, eq=False)
class Conv:
    """Integer convolution or matrix product with constant weights, then requantisation.

    acc[m] = bias[m] + sum (x - x_zero_point) * (w - weight_zero_point)   in int32; in int64 of a `wide` layer
    y = sat(rint(f32(acc) * scale[m]) + y_zero_point), or the step function `thresholds` where there is one, or acc
    itself where y is an int32 or int64 tensor (in both, `scale` holds ones and means nothing).
    A matrix product is a 1x1 convolution whose channel axis is the last storage axis (`axes`).
    """

    name: str
    op: str  # QLinearConv, QLinearMatMul, QGemm, ConvThreshold, MatMulThreshold, ConvInteger, MatMulInteger
    x: str
    y: str
    weight: NDArray[np.generic]  # (M, N/groups, KH, KW), uint8 or int8; int16 of a wide layer
    weight_zero_point: int
    bias: NDArray[np.int32]  # (M,)
    scale: NDArray[np.float32]  # (M,) = f32(f32(xs*ws)/ys)
    x_zero_point: int
    y_zero_point: int
    x_shape: Shape4  # in operator order n, c, h, w
    y_shape: Shape4  # in operator order n, m, h, w
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    axes: tuple[int, int, int, int] = (0, 1, 2, 3)  # storage axis of n, c, h, w
    thresholds: Thresholds | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.x,)

    @property
    def wide(self) -> bool:
        """Activations or weights are wider than 8 bits."""
        return self.weight.dtype.itemsize > 1

    @property
    def weight_levels(self) -> Levels:
        """The values of w - weight_zero_point: bipolar where they are all -1 and +1."""
        zero = self.weight_zero_point
        lo, hi = int(self.weight.min()) - zero, int(self.weight.max()) - zero
        return Levels(lo, hi, 2 if lo == -1 and hi == 1 and not (self.weight == zero).any() else 1)


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    """QLinearAdd or QLinearMul with NumPy broadcasting; either operand may be a constant.

    add: y = sat(rint(fma(a, ra, fma(b, rb, c))))     mul: y = sat(rint(f32(f32(p) * s) + zy)),
    p = (a - za)(b - zb). `params` holds the float32 constants by these names (ra, rb, c | s) .
    The strides are those of each operand in the common four-dimensional output space (0 = broadcast).
    """

    name: str
    op: str  # QLinearAdd | QLinearMul
    a: str
    b: str
    y: str
    kind: str  # "add" | "mul"
    a_zero_point: int
    b_zero_point: int
    y_zero_point: int
    params: dict[str, float]
    a_shape: Shape4  # broadcast-aligned: each entry 1 or that of y_shape
    b_shape: Shape4
    y_shape: Shape4

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.a, self.b)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A unary function of 8 bits: y = table[x as two's-complement byte].

    `table` is (1, 256) for the whole tensor or (C, 256) per channel (storage axis 1);
    entry i belongs to the input whose byte, read as uint8, is i.
    """

    name: str
    op: str
    x: str
    y: str
    table: NDArray[np.uint8]  # raw output bytes
    shape: Shape4

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.x,)


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """MaxPool, or QLinearAveragePool (sequential float32 sum of dequantised values, kh outer, kw inner)."""

    name: str
    op: str
    x: str
    y: str
    kind: str  # "max" | "average"
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]  # top, left, bottom, right (ceil_mode already resolved into them)
    dilations: tuple[int, int]
    x_shape: Shape4
    y_shape: Shape4
    count_include_pad: bool = False
    explicit_pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # the pads that count_include_pad counts
    x_scale: float = 1.0
    x_zero_point: int = 0
    y_scale: float = 1.0
    y_zero_point: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.x,)


@dataclass(frozen=True, slots=True, eq=False)
class GlobalAverage:
    """y = sat(rint(f32(sum (x - zx)) * scale) + zy), scale = f32(sx / (sy * H*W)).

    `op` is QLinearGlobalAveragePool; the sum runs over storage axes 2 and 3."""

    name: str
    op: str
    x: str
    y: str
    scale: float
    x_zero_point: int
    y_zero_point: int
    x_shape: Shape4
    y_shape: Shape4

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.x,)


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """for every index in `dims`: y[dst_offset + i.dst_strides] = f(x[src_offset + i.src_strides]).

    Offsets and strides in elements of the dense tensors; a source stride may be 0 (repeat) or negative.
    `table`, if given, maps each byte (requantisation inside a Concat).
    """

    source: int  # index into Move.xs
    dims: tuple[int, ...]
    src_offset: int
    src_strides: tuple[int, ...]
    dst_offset: int
    dst_strides: tuple[int, ...]
    table: NDArray[np.uint8] | None = None  # (256,)


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """Data movement: Concat, Split, Slice, Pad, Transpose, Resize (nearest), DepthToSpace, … as strided copies.

    Elements of y that no copy writes hold `fill` (the pad value's bits as an unsigned number). The copies' destinations
    are disjoint.
    """

    name: str
    op: str
    xs: tuple[str, ...]
    y: str
    copies: tuple[Copy, ...]
    fill: int | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.xs


@dataclass(frozen=True, slots=True, eq=False)
class ArgMax:
    """Index of the greatest 8-bit element along the middle of (outer, axis, inner); y is int64."""

    name: str
    op: str
    x: str
    y: str
    dims: tuple[int, int, int]
    select_last: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.x,)


Node = Union[Conv, Binary, Table, Pool, GlobalAverage, Move, ArgMax]


@dataclass(frozen=True, slots=True, eq=False)
class HostSegment:
    """A run of ONNX nodes that no engine has, run by ONNX Runtime as one sub-model."""

    name: str  # "host0", …: the file host/<name>.onnx of the bundle
    inputs: tuple[str, ...]  # tensor names it reads (graph inputs, engine tensors, other segments)
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]  # ONNX node names, for the report
    reason: str  # which node caused the cut, and why
    model: bytes  # serialized ONNX


Step = Union[Conv, Binary, Table, Pool, GlobalAverage, Move, ArgMax, HostSegment]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A whole integer model: engine nodes and host segments in one topological order.

    tensors: every tensor that crosses a node boundary and lives on a device or the host (host-only float
    tensors that cross between host segments or to graph inputs/outputs are listed in `host_tensors`).
    aliases: alias name -> root name (Reshape, Flatten, Squeeze, Unsqueeze, Identity); nodes name roots only.
    """

    name: str
    tensors: dict[str, Tensor]
    constants: dict[str, NDArray[np.generic]]  # constant 8-bit operands of Binary / Move, by tensor name
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]  # graph inputs, ONNX names
    outputs: tuple[str, ...]  # graph outputs, ONNX names (may be aliases)
    aliases: dict[str, str] = field(default_factory=dict)
    host_tensors: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)  # name -> (numpy dtype, shape)
    model: bytes = b""  # the canonical integer model, serialized ONNX
    fallbacks: tuple[str, ...] = ()  # sentences: what the import could not do exactly as asked

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(s for s in self.steps if not isinstance(s, HostSegment))

    @property
    def host_segments(self) -> tuple[HostSegment, ...]:
        return tuple(s for s in self.steps if isinstance(s, HostSegment))

    @property
    def wide(self) -> bool:
        """Whether an engine layer reads, makes or multiplies with integers wider than 8 bits."""
        names = {t for n in self.nodes for t in (*n.inputs, n.y)}
        operands = any(isinstance(n, Conv) and n.wide for n in self.nodes)
        return operands or any(self.tensors[t].dtype == DType.S16 for t in names)

    def root(self, name: str) -> str:
        return self.aliases.get(name, name)
