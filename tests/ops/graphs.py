"""Random integer graphs straight in the IR: every operator family with odd shapes, pads, strides and broadcasts.

All tensors are graph outputs, so that a run of the programs shows each of them.
"""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.ir.graph import (
    ArgMax,
    Binary,
    Conv,
    Copy,
    DType,
    GlobalAverage,
    Graph,
    Move,
    Pool,
    Quant,
    Table,
    Tensor,
    storage4,
)


class Builder:
    """Grows a graph of one element type, tensor by tensor."""

    def __init__(self, seed: int, dtype: DType) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.steps: list = []
        self.inputs: list[str] = []

    def zero(self) -> int:
        lo, hi = (0, 255) if self.dtype == DType.U8 else (-128, 127)
        return int(self.rng.choice([lo, hi, 0, int(self.rng.integers(lo, hi + 1))]))

    def tensor(self, shape: tuple[int, ...], dtype: DType | None = None) -> str:
        name = f"t{len(self.tensors)}"
        self.tensors[name] = Tensor(name, shape, dtype or self.dtype, Quant(0.5, 0))
        return name

    def input(self, shape: tuple[int, ...]) -> str:
        name = self.tensor(shape)
        self.inputs.append(name)
        return name

    def bytes(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.rng.integers(0, 256, shape, dtype=np.uint8).view(self.dtype.numpy)

    def name(self) -> str:
        return f"n{len(self.steps)}"

    def conv(
        self, x: str, m: int, kernel=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1), groups=1,
        axes=(0, 1, 2, 3), weight_zero_point: int | None = None,
    ) -> str:  # fmt: skip
        xs4 = storage4(self.tensors[x].shape)
        xs = tuple(xs4[a] for a in axes)
        oh = (xs[2] + pads[0] + pads[2] - (kernel[0] - 1) * dilations[0] - 1) // strides[0] + 1
        ow = (xs[3] + pads[1] + pads[3] - (kernel[1] - 1) * dilations[1] - 1) // strides[1] + 1
        ys = (xs[0], m, oh, ow)
        shape4 = [0, 0, 0, 0]
        for i, a in enumerate(axes):
            shape4[a] = ys[i]
        rank = len(self.tensors[x].shape)
        shape = tuple(shape4) if rank == 4 else tuple(shape4[i] for i in ((0, 1) if rank == 2 else (0, 1, 3)))
        y = self.tensor(shape)
        k = xs[1] // groups
        weight = self.bytes((m, k, *kernel))
        taps = k * kernel[0] * kernel[1]
        scale = (self.rng.uniform(0.5, 2.0, m) / (60.0 * np.sqrt(taps))).astype(np.float32)
        wz = self.zero() if weight_zero_point is None else weight_zero_point
        bias = self.rng.integers(-3000, 3000, m).astype(np.int32)
        self.steps.append(
            Conv(
                self.name(), "QLinearConv", x, y, weight, wz, bias, scale, self.zero(), self.zero(), xs, ys,
                strides, pads, dilations, groups, axes,
            )
        )  # fmt: skip
        return y

    def binary(self, a: str, b: str, kind: str) -> str:
        sa, sb = self.tensors[a].shape, self.tensors[b].shape
        y = self.tensor(tuple(np.broadcast_shapes(sa, sb)))
        f = np.float32
        params = {"ra": f(0.7), "rb": f(0.4), "c": f(3.25)} if kind == "add" else {"s": f(0.011)}
        self.steps.append(
            Binary(
                self.name(), "QLinearAdd" if kind == "add" else "QLinearMul", a, b, y, kind, self.zero(), self.zero(),
                self.zero(), {k: float(v) for k, v in params.items()}, storage4(sa), storage4(sb),
                storage4(self.tensors[y].shape),
            )
        )  # fmt: skip
        return y

    def constant(self, shape: tuple[int, ...]) -> str:
        name = self.tensor(shape)
        self.constants[name] = self.bytes(shape)
        return name

    def table(self, x: str, per_channel: bool) -> str:
        y = self.tensor(self.tensors[x].shape)
        s = storage4(self.tensors[x].shape)
        data = self.rng.integers(0, 256, (s[1] if per_channel else 1, 256), dtype=np.uint8)
        self.steps.append(Table(self.name(), "QLinearSigmoid", x, y, data, s))
        return y

    def pool(self, x: str, kind: str, kernel, strides, pads, dilations=(1, 1), include=False) -> str:
        xs = storage4(self.tensors[x].shape)
        out = [
            (xs[2 + i] + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1)
        ]
        ys = (xs[0], xs[1], *out)
        y = self.tensor(ys)
        zero = self.zero()
        self.steps.append(
            Pool(
                self.name(), "MaxPool" if kind == "max" else "QLinearAveragePool", x, y, kind, kernel, strides, pads,
                dilations, xs, ys, include, pads, 0.31, zero, 0.29, self.zero(),
            )
        )  # fmt: skip
        return y

    def global_average(self, x: str) -> str:
        xs = storage4(self.tensors[x].shape)
        y = self.tensor((xs[0], xs[1], 1, 1))
        scale = float(np.float32(1.7 / (xs[2] * xs[3])))
        self.steps.append(
            GlobalAverage(
                self.name(), "QLinearGlobalAveragePool", x, y, scale, self.zero(), self.zero(), xs, (*xs[:2], 1, 1)
            )
        )
        return y

    def move(self, xs: tuple[str, ...], shape: tuple[int, ...], copies: list[Copy], fill: int | None = None) -> str:
        y = self.tensor(shape)
        self.steps.append(Move(self.name(), "Move", xs, y, tuple(copies), fill))
        return y

    def transpose(self, x: str, order: tuple[int, ...]) -> str:
        shape = self.tensors[x].shape
        out = tuple(shape[a] for a in order)
        src, dst = strides(shape), strides(out)
        return self.move((x,), out, [Copy(0, out, 0, tuple(src[a] for a in order), 0, dst)])

    def concat(self, xs: tuple[str, ...], axis: int, with_table: bool) -> str:
        shapes = [self.tensors[x].shape for x in xs]
        out = list(shapes[0])
        out[axis] = sum(s[axis] for s in shapes)
        dst = strides(tuple(out))
        copies, at = [], 0
        for i, s in enumerate(shapes):
            table = self.rng.integers(0, 256, 256, dtype=np.uint8) if with_table and i % 2 else None
            copies.append(Copy(i, s, 0, strides(s), at * dst[axis], dst, table))
            at += s[axis]
        return self.move(xs, tuple(out), copies)

    def reverse(self, x: str, axis: int) -> str:
        shape = self.tensors[x].shape
        s = list(strides(shape))
        start = (shape[axis] - 1) * s[axis]
        s[axis] = -s[axis]
        return self.move((x,), shape, [Copy(0, shape, start, tuple(s), 0, strides(shape))])

    def slice(self, x: str, axis: int, start: int, step: int) -> str:
        shape = self.tensors[x].shape
        s = strides(shape)
        out = list(shape)
        out[axis] = (shape[axis] - start + step - 1) // step
        src = list(s)
        src[axis] *= step
        return self.move((x,), tuple(out), [Copy(0, tuple(out), start * s[axis], tuple(src), 0, strides(tuple(out)))])

    def pad(self, x: str, before: tuple[int, ...], after: tuple[int, ...], dilate: int = 1) -> str:
        """Zero insertion too: the last axis keeps `dilate` - 1 fill bytes between elements."""
        shape = self.tensors[x].shape
        grown = [*shape[:-1], (shape[-1] - 1) * dilate + 1]
        out = tuple(b + n + a for b, n, a in zip(before, grown, after, strict=True))
        dst = strides(out)
        at = sum(b * d for b, d in zip(before, dst, strict=True))
        return self.move(
            (x,), out, [Copy(0, shape, 0, strides(shape), at, (*dst[:-1], dilate))], int(self.rng.integers(0, 256))
        )

    def upsample(self, x: str, factor: int) -> str:
        n, c, h, w = self.tensors[x].shape
        src = strides((n, c, h, w))
        out = (n, c, h * factor, w * factor)
        dst = strides(out)
        dims = (n, c, h, factor, w, factor)
        return self.move(
            (x,), out,
            [
                Copy(
                    0, dims, 0, (src[0], src[1], src[2], 0, 1, 0), 0,
                    (dst[0], dst[1], factor * dst[2], dst[2], factor, 1),
                )
            ],
        )  # fmt: skip

    def argmax(self, x: str, axis: int, last: bool) -> str:
        shape = self.tensors[x].shape
        dims = (prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]))
        y = self.tensor(shape[:axis] + shape[axis + 1 :], DType.I64)
        self.steps.append(ArgMax(self.name(), "ArgMax", x, y, dims, last))
        return y

    def graph(self) -> Graph:
        return Graph(
            "random", self.tensors, self.constants, tuple(self.steps), tuple(self.inputs),
            tuple(s.y for s in self.steps),
        )  # fmt: skip

    def frame(self) -> dict[str, np.ndarray]:
        return {n: self.bytes(self.tensors[n].shape) for n in self.inputs}


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    out, inner = [], 1
    for s in reversed(shape):
        out.insert(0, inner)
        inner *= s
    return tuple(out)


def random_graph(seed: int, steps: int = 7) -> Builder:
    """A chain with side inputs; shapes stay small enough for many tiles in little time."""
    r = np.random.default_rng(seed)
    b = Builder(seed, DType.U8 if seed % 2 else DType.S8)
    pick = lambda *a: a[int(r.integers(len(a)))]  # noqa: E731
    x = b.input((pick(1, 1, 2), int(r.integers(1, 40)), int(r.integers(1, 24)), int(r.integers(1, 24))))
    for _ in range(steps):
        shape = b.tensors[x].shape
        if b.tensors[x].dtype == DType.I64:
            break
        _, c, h, w = shape
        what = pick(
            "conv",
            "conv",
            "conv",
            "depthwise",
            "grouped",
            "add",
            "mul",
            "table",
            "pool",
            "average",
            "move",
            "gap",
            "matmul",
        )
        if what in ("conv", "depthwise", "grouped"):
            kernel = (min(int(pick(1, 2, 3, 5)), h + 2), min(int(pick(1, 3, 4)), w + 2))
            pads = tuple(int(v) for v in r.integers(0, 3, 4))
            dil = (pick(1, 1, 2), pick(1, 1, 3))
            if (kernel[0] - 1) * dil[0] + 1 > h + pads[0] + pads[2]:
                kernel, dil = (1, kernel[1]), (1, dil[1])
            if (kernel[1] - 1) * dil[1] + 1 > w + pads[1] + pads[3]:
                kernel, dil = (kernel[0], 1), (dil[0], 1)
            st = (pick(1, 1, 2, 3), pick(1, 1, 2))
            if what == "conv":
                m, g = int(r.integers(1, 70)), 1
            elif what == "depthwise":
                m, g = c * pick(1, 2), c
            else:
                g = next(v for v in (4, 3, 2, 1) if c % v == 0)
                m = g * int(r.integers(1, 24))
            x = b.conv(x, m, kernel, st, pads, dil, g, weight_zero_point=pick(None, 128 if seed % 2 else 0))
        elif what == "matmul":
            x = b.conv(x, int(r.integers(1, 60)), axes=(0, 3, 1, 2))
        elif what in ("add", "mul"):
            other = tuple(1 if r.random() < 0.4 else s for s in shape)
            y = b.constant(other) if r.random() < 0.4 else b.input(other)
            x = b.binary(x, y, what) if r.random() < 0.5 else b.binary(y, x, what)
        elif what == "table":
            x = b.table(x, bool(r.random() < 0.5))
        elif what in ("pool", "average"):
            kernel = (min(pick(1, 2, 3), h), min(pick(2, 3), w))
            pads = tuple(int(r.integers(0, k)) for k in (*kernel, *kernel))
            dil = (1, 1)
            x = b.pool(
                x,
                "max" if what == "pool" else "average",
                kernel,
                (pick(1, 2), pick(1, 2, 3)),
                pads,
                dil,
                pick(True, False),
            )
        elif what == "gap":
            if r.random() < 0.3:
                x = b.global_average(x)
        else:
            kind = pick("transpose", "concat", "reverse", "slice", "pad", "dilate", "up")
            if kind == "transpose":
                x = b.transpose(x, tuple(int(v) for v in r.permutation(4)))
            elif kind == "concat":
                axis = int(r.integers(0, 4))
                other = list(shape)
                other[axis] = int(r.integers(1, 9))
                extra = b.input(tuple(other)) if r.random() < 0.5 else b.constant(tuple(other))
                x = b.concat((x, extra, x), axis, bool(r.random() < 0.5))
            elif kind == "reverse":
                x = b.reverse(x, int(r.integers(0, 4)))
            elif kind == "slice":
                axis = int(r.integers(0, 4))
                x = b.slice(x, axis, int(r.integers(0, shape[axis])), pick(1, 2, 3))
            elif kind == "pad":
                before, after = (tuple(int(v) for v in r.integers(0, 3, 4)) for _ in (0, 1))
                x = b.pad(x, before, after)
            elif kind == "dilate":
                x = b.pad(x, (0, 0, 1, 0), (0, 0, 0, 1), 2)
            elif h * w < 200:
                x = b.upsample(x, 2)
        if prod(b.tensors[x].shape) > 60_000:
            x = b.slice(x, 1, 0, 3)
        if prod(b.tensors[x].shape) > 60_000:
            x = b.slice(x, 2, 0, 3)
    if r.random() < 0.3:
        x = b.argmax(x, int(r.integers(0, 4)), bool(r.random() < 0.5))
    if not b.steps:
        b.table(x, False)
    return b
