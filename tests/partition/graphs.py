"""Small integer graphs built without ONNX, for the partitioner's tests."""

from __future__ import annotations

import numpy as np

from compiler.ir.graph import Binary, Conv, DType, Graph, HostSegment, Pool, Quant, Tensor

Q = Quant(0.05, 128)


def conv(name: str, x: str, y: str, n: int, m: int, side: int, kernel: int = 3) -> Conv:
    """A square convolution with stride 1 and same padding; weights all one."""
    pad = kernel // 2
    return Conv(
        name=name,
        op="QLinearConv",
        x=x,
        y=y,
        weight=np.ones((m, n, kernel, kernel), np.uint8),
        weight_zero_point=128,
        bias=np.zeros(m, np.int32),
        scale=np.full(m, 0.001, np.float32),
        x_zero_point=128,
        y_zero_point=128,
        x_shape=(1, n, side, side),
        y_shape=(1, m, side, side),
        pads=(pad, pad, pad, pad),
    )


def add(name: str, a: str, b: str, y: str, channels: int, side: int) -> Binary:
    shape = (1, channels, side, side)
    params = {"ra": 1.0, "rb": 1.0, "c": 0.0}
    return Binary(name, "QLinearAdd", a, b, y, "add", 128, 128, 128, params, shape, shape, shape)


def residual(blocks: int = 3, channels: int = 64, side: int = 28, tail: bool = False) -> Graph:
    """`blocks` residual blocks of two convolutions and an add, then a pool; `tail`: a host segment behind it."""
    tensors = {"x": Tensor("x", (1, channels, side, side), DType.U8, Q)}
    steps: list[object] = []

    def tensor(name: str, s: int) -> str:
        tensors[name] = Tensor(name, (1, channels, s, s), DType.U8, Q)
        return name

    here = "x"
    for k in range(blocks):
        a, b, c = (tensor(f"t{k}{p}", side) for p in "abc")
        steps += [
            conv(f"conv{k}a", here, a, channels, channels, side),
            conv(f"conv{k}b", a, b, channels, channels, side, 1),
            add(f"add{k}", here, b, c, channels, side),
        ]
        here = c
    y = tensor("y", side // 2)
    shape = (1, channels, side, side)
    out = (1, channels, side // 2, side // 2)
    steps.append(Pool("pool", "MaxPool", here, y, "max", (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), shape, out))
    host_tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    outputs = ("y",)
    if tail:
        host_tensors["z"] = ("float32", (1, channels))
        steps.append(HostSegment("host0", ("y",), ("z",), ("softmax",), "Softmax has no engine", b""))
        outputs = ("z",)
    return Graph("residual", tensors, {}, tuple(steps), ("x",), outputs, {}, host_tensors)  # type: ignore[arg-type]


def forked(channels: int = 32, side: int = 20) -> Graph:
    """A convolution, two that read it, and their sum."""
    tensors = {"x": Tensor("x", (1, channels, side, side), DType.U8, Q)}
    for name in "abcd":
        tensors[name] = Tensor(name, (1, channels, side, side), DType.U8, Q)
    steps = (
        conv("stem", "x", "a", channels, channels, side),
        conv("left", "a", "b", channels, channels, side),
        conv("right", "a", "c", channels, channels, side, 1),
        add("join", "b", "c", "d", channels, side),
    )
    return Graph("forked", tensors, {}, steps, ("x",), ("d",), {}, {})


def deep(channels: int = 256, side: int = 4, layers: int = 4) -> Graph:
    """1x1 convolutions one after another that have little to compute and many weights to load."""
    tensors = {f"t{k}": Tensor(f"t{k}", (1, channels, side, side), DType.U8, Q) for k in range(layers + 1)}
    steps = tuple(conv(f"conv{k}", f"t{k}", f"t{k + 1}", channels, channels, side, 1) for k in range(layers))
    return Graph("deep", tensors, {}, steps, ("t0",), (f"t{layers}",), {}, {})
