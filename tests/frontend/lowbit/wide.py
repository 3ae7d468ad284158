"""Low-bit models with weights and activations of 1 to 16 bits: perceptrons, and seeded random nets of every kind."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx

from tests.frontend.lowbit.models import Net


def perceptron(
    seed: int, *, weights: int = 12, activations: int = 10, signed: bool = False, power: bool = True,
    sizes: tuple[int, ...] = (24, 32, 16, 5),
) -> onnx.ModelProto:  # fmt: skip
    """Linear layers; power: all scales are powers of two. The last layer's sums leave as floats."""
    b = Net(seed)

    def scale(exponent: int) -> float:
        return 2.0**exponent * (1.0 if power else float(b.rng.uniform(0.7, 1.3)))

    x = b.quant("x", scale(-8), 12)
    for k, (rows, columns) in enumerate(pairwise(sizes)):
        w = b.quant(b.const(b.normal(rows, columns)), scale(3 - weights), weights, narrow=1)
        x = b.op("MatMul", [x, w])
        if k < len(sizes) - 2:
            x = x if signed else b.op("Relu", [x])
            x = b.quant(x, scale(5 - activations), activations, signed=int(signed))
    return b.model((1, sizes[0]), x)


class _Random:
    """A net in the making: `x` has `channels` channels of `size` by `size` pixels."""

    def __init__(self, seed: int, power: bool, most: int) -> None:
        self.b = Net(seed)
        self.r, self.power, self.most = self.b.rng, power, most
        self.channels, self.size = int(self.r.integers(1, 5)), int(self.r.integers(5, 9))
        self.shape = (1, self.channels, self.size, self.size)
        self.x = self.activation("x", relu=False)

    def bits(self, least: int) -> int:
        return int(self.r.integers(least, self.most + 1))

    def scale(self, exponent: int) -> float:
        return 2.0**exponent * (1.0 if self.power else float(self.r.uniform(1.0, 1.9)))

    def activation(self, x: str, relu: bool | None = None) -> str:
        bits, relu = self.bits(3), bool(self.r.integers(2)) if relu is None else relu
        x = self.b.op("Relu", [x]) if relu else x
        return self.b.quant(x, self.scale(3 - bits), bits, signed=int(not relu))

    def weight(self, *shape: int) -> str:
        bits, value = self.bits(1), self.b.const(self.b.normal(*shape) * 0.5)
        form = (shape[0], *[1] * (len(shape) - 1)) if self.r.integers(2) else (1,)
        more = np.ones(form) if self.power else self.r.uniform(1, 1.9, form)
        if bits == 1:
            return self.b.bipolar(value, 0.25 * more)
        scales = 2.0 ** (2 - bits - self.r.integers(0, 2, form)) * more
        return self.b.quant(value, scales, bits, narrow=int(self.r.integers(2)))

    def sums(self, m: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        w = self.weight(m, self.channels // groups, kernel, kernel)
        attributes = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "strides": [stride] * 2, "group": groups}
        return self.b.op("Conv", [self.x, w], **attributes)

    def conv(self) -> None:
        m, kernel = int(self.r.integers(2, 8)), int(self.r.choice([1, 3]))
        stride = int(self.r.integers(1, 3)) if self.size > 4 else 1
        y = self.sums(m, kernel, stride)
        self.channels, self.size = m, (self.size - 1) // stride + 1
        self.x = self.activation(y)

    def normalised(self) -> None:
        m = int(self.r.integers(2, 8))
        y = self.sums(m, 1)
        self.channels = m
        self.x = self.activation(self.b.norm(y, m))

    def depthwise(self) -> None:
        self.x = self.activation(self.sums(self.channels, 3, groups=self.channels))

    def pool(self) -> None:
        if self.size > 3:
            self.x = self.b.op("MaxPool", [self.x], kernel_shape=[2, 2], strides=[2, 2])
            self.size //= 2

    def average(self) -> None:
        if self.size > 3:
            y = self.b.op("AveragePool", [self.x], kernel_shape=[2, 2], strides=[2, 2])
            self.x, self.size = self.activation(y, relu=False), self.size // 2

    def branches(self) -> tuple[str, str]:
        """Two layers over x on one grid."""
        bits = self.bits(3)
        scale = self.scale(3 - bits)
        y, z = (self.b.quant(self.sums(self.channels, k), scale, bits) for k in (3, 1))
        return y, z

    def residual(self) -> None:
        y = self.b.op("Add", list(self.branches()))
        self.x = self.activation(y) if self.r.integers(2) else y

    def concat(self) -> None:
        self.x = self.b.op("Concat", list(self.branches()), axis=1)
        self.channels *= 2

    def relu(self) -> None:
        self.x = self.b.op("Relu", [self.x])

    def again(self) -> None:
        self.x = self.activation(self.x)

    def done(self) -> onnx.ModelProto:
        flat = self.b.op("Flatten", [self.x], axis=1)
        w = self.b.op("Transpose", [self.weight(5, self.channels * self.size * self.size)], perm=[1, 0])
        y = self.b.op("MatMul", [flat, w])
        return self.b.model(self.shape, self.activation(y) if self.r.integers(2) else y)


def random_net(seed: int, *, power: bool = True, most: int = 12) -> onnx.ModelProto:
    """Two to four random parts behind an input quantiser, a linear layer at the end; widths 1 to `most`."""
    net = _Random(seed, power, most)
    parts = [
        net.conv, net.conv, net.normalised, net.depthwise, net.pool, net.average, net.residual, net.concat, net.relu,
        net.again,
    ]  # fmt: skip
    for k in net.r.integers(0, len(parts), int(net.r.integers(2, 5))):
        parts[k]()
    return net.done()


__all__ = ["perceptron", "random_net"]
