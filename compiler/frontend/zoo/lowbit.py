"""The FINN networks as QONNX graphs: TFC w1a1, CNV w1a1 and w2a2, MobileNetV1 w4a4, ResNet-50 w1a2.

Layer shapes and bit widths are those of the published nets (Brevitas' bnn_pynq and ImageNet examples, finn-examples);
weights are seeded. Convolution and linear weights: 59,008, 1,542,848, 4,209,088 and 25,502,912. All scales are powers
of two, so every float32 sum is exact and the float graph has one meaning; batch normalisations bring each sum back to
unit variance.
"""

from __future__ import annotations

from math import log2

import numpy as np

from compiler.frontend.zoo.builder import Builder

DOMAIN = "qonnx.custom_op.general"


def net(b: Builder, name: str) -> None:
    kind, widths = name.split("-w")
    weight, act = (int(v) for v in widths.split("a"))
    _NETS[kind](_Quantised(b), weight, act)


class _Quantised:
    """Layers on a Builder; `power` follows the mean square of each tensor, which sets scales and batch norms."""

    def __init__(self, b: Builder) -> None:
        self.b = b
        self.power: dict[str, float] = {}

    def parameter(self, name: str, value: object) -> str:
        return self.b.weight(name, np.asarray(value, np.float32))

    def act(
        self, x: str, name: str, bits: int, scale: float = 1.0, *, signed: bool = False, narrow: bool = False,
        by_channel: bool = False,
    ) -> str:  # fmt: skip
        """An activation quantiser; by_channel: scales of scale/2, scale or 2 scale, seeded."""
        value = np.asarray(scale)
        if by_channel:
            value = scale * 2.0 ** self.b.rng.integers(-1, 2, (1, self.b.shapes[x][1], 1, 1))
        y = self.quant(x, name, bits, value, signed, narrow)
        self.power[y] = 1.0 if signed and (bits == 1 or narrow) else 0.5
        return y

    def quant(self, x: str, name: str, bits: int, scale: object, signed: bool, narrow: bool) -> str:
        shape = self.b.shapes[x]
        inputs = [x, self.parameter(f"{name}.scale", scale)]
        if bits == 1 and signed:
            return self.b.node("BipolarQuant", inputs, name, shape, domain=DOMAIN)
        inputs += [self.parameter(f"{name}.zeropt", 0), self.parameter(f"{name}.bits", bits)]
        attributes = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return self.b.node("Quant", inputs, name, shape, domain=DOMAIN, **attributes)

    def weight(self, name: str, shape: tuple[int, ...], bits: int, *, unit: bool = False) -> tuple[str, float]:
        """Quantised weights, a scale an output channel (unit: one scale of 1); and their mean square."""
        fan_in = int(np.prod(shape[1:]))
        value = self.b.rng.standard_normal(shape, np.float32)
        top = 1 if bits == 1 else (1 << (bits - 1)) - 1
        if unit:
            scale: object = 1.0
        else:
            wanted = round(log2(2.0 / (top * fan_in**0.5)))
            scale = 2.0 ** (wanted + self.b.rng.integers(0, 2, (shape[0], *[1] * (len(shape) - 1))))
        spread = np.asarray(scale) * top / (1.0 if bits == 1 else 2.5)  # 2.5 sigma at the last level
        raw = self.b.weight(f"{name}.weight", (value * spread).astype(np.float32))
        self.b.shapes[raw] = shape
        square = float(np.mean(np.asarray(scale) ** 2)) * (1.0 if bits == 1 else (top / 2.5) ** 2)
        return self.quant(raw, f"{name}.quant", bits, scale, True, True), square

    def conv(
        self, x: str, name: str, out: int, k: int, bits: int, *, stride: int = 1, pad: int = 0, groups: int = 1,
        unit: bool = False,
    ) -> str:  # fmt: skip
        n, c, h, w = self.b.shapes[x]
        weight, square = self.weight(name, (out, c // groups, k, k), bits, unit=unit)
        shape = (n, out, (h + 2 * pad - k) // stride + 1, (w + 2 * pad - k) // stride + 1)
        attributes = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [pad] * 4, "group": groups}
        y = self.b.node("Conv", [x, weight], name, shape, **attributes)
        self.power[y] = self.power.get(x, 1.0) * square * (c // groups) * k * k
        return y

    def linear(self, x: str, name: str, out: int, bits: int, *, unit: bool = False, bias: bool = False) -> str:
        n, k = self.b.shapes[x]
        weight, square = self.weight(name, (out, k), bits, unit=unit)
        inputs = [x, weight]
        if bias:
            inputs.append(self.parameter(f"{name}.bias", self.b.rng.standard_normal(out) * 0.05))
        y = self.b.node("Gemm", inputs, name, (n, out), transB=1)
        self.power[y] = self.power.get(x, 1.0) * square * k
        return y

    def norm(self, x: str, name: str) -> str:
        """Batch normalisation with statistics near those of its input; a few slopes are negative."""
        r, c = self.b.rng, self.b.shapes[x][1]
        spread = self.power[x] ** 0.5
        values = {
            "weight": r.uniform(0.8, 1.2, c) * np.where(r.random(c) < 0.05, -1, 1),
            "bias": r.standard_normal(c) * 0.1,
            "running_mean": r.standard_normal(c) * 0.1 * spread,
            "running_var": r.uniform(0.8, 1.25, c) * self.power[x],
        }
        inputs = [x, *(self.parameter(f"{name}.{k}", v) for k, v in values.items())]
        y = self.b.node("BatchNormalization", inputs, name, self.b.shapes[x], epsilon=1e-5)
        self.power[y] = 1.0
        return y

    def carry(self, y: str, x: str) -> str:
        self.power[y] = self.power.get(x, 1.0)
        return y


def _tfc(q: _Quantised, weight: int, act: int) -> None:
    """784-64-64-64-10, no biases, one scalar normalisation at the end."""
    b = q.b
    x = b.flatten(b.input("input", 1, 1, 28, 28), "flatten")
    x = b.node("Mul", [x, q.parameter("two", 2.0)], "double", b.shapes[x])
    x = b.node("Sub", [x, q.parameter("one", 1.0)], "centre", b.shapes[x])
    x = q.act(x, "input_quant", act, signed=True, narrow=True)
    for k in range(3):
        x = q.norm(q.linear(x, f"fc{k}", 64, weight, unit=True), f"bn{k}")
        x = q.act(x, f"act{k}", act, signed=True, narrow=True)
    _tensor_norm(q, q.linear(x, "fc3", 10, weight, unit=True))


def _cnv(q: _Quantised, weight: int, act: int) -> None:
    """VGG10-like, 32x32: six 3x3 convolutions without padding, two pools, three linear layers."""
    b = q.b
    x = q.act(b.input("input", 1, 3, 32, 32), "input_quant", 8, 2.0**-7, signed=True)
    q.power[x] = 0.3
    for k, (out, pool) in enumerate([(64, False), (64, True), (128, False), (128, True), (256, False), (256, False)]):
        x = q.norm(q.conv(x, f"conv{k}", out, 3, weight, unit=True), f"bn{k}")
        x = q.act(x, f"act{k}", act, signed=True, narrow=True)
        if pool:
            x = q.carry(b.max_pool(x, f"pool{k}", 2, stride=2), x)
    x = q.carry(b.flatten(x, "flatten"), x)
    for k in range(2):
        x = q.norm(q.linear(x, f"fc{k}", 512, weight, unit=True), f"bn_fc{k}")
        x = q.act(x, f"act_fc{k}", act, signed=True, narrow=True)
    _tensor_norm(q, q.linear(x, "fc2", 10, weight, unit=True))


def _tensor_norm(q: _Quantised, x: str) -> None:
    """Brevitas' TensorNorm: one mean, deviation, weight and bias for the whole tensor."""
    b, r = q.b, q.b.rng
    deviation = q.power[x] ** 0.5
    for op, name, value in (
        ("Sub", "mean", r.normal() * 0.1 * deviation), ("Div", "deviation", deviation * r.uniform(0.9, 1.1)),
        ("Mul", "weight", r.uniform(0.8, 1.2)), ("Add", "bias", r.normal() * 0.1),
    ):  # fmt: skip
        x = b.node(op, [x, q.parameter(f"norm.{name}", value)], f"norm_{name}", b.shapes[x])
    b.output(x, "logits")


def _mobilenet(q: _Quantised, weight: int, act: int) -> None:
    """First layer with 8-bit weights; what a depthwise layer reads has a scale a channel, as in the published net."""
    b = q.b
    x = q.act(b.input("input", 1, 3, 224, 224), "input_quant", 8, 2.0**-6, signed=True)
    x = q.norm(q.conv(x, "conv0", 32, 3, 8, stride=2, pad=1), "conv0_bn")
    x = q.act(x, "conv0_act", act, 2.0**-3, by_channel=True)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for k, (out, stride) in enumerate(plan, 1):
        c = b.shapes[x][1]
        x = q.norm(q.conv(x, f"dw{k}", c, 3, weight, stride=stride, pad=1, groups=c), f"dw{k}_bn")
        x = q.act(x, f"dw{k}_act", act, 2.0**-3)
        x = q.norm(q.conv(x, f"pw{k}", out, 1, weight), f"pw{k}_bn")
        x = q.act(x, f"pw{k}_act", act, 2.0**-3, by_channel=k < len(plan))
    n, c, h, w = b.shapes[x]
    y = b.node("AveragePool", [x], "mean", (n, c, 1, 1), kernel_shape=[h, w], strides=[1, 1])
    y = b.node("Mul", [y, q.parameter("area", float(h * w))], "sum", (n, c, 1, 1))
    bits = ((1 << act) - 1) * h * w
    inputs = [y, *(q.parameter(f"trunc.{k}", v) for k, v in (("scale", 2.0**-3), ("zeropt", 0)))]
    inputs += [q.parameter(f"trunc.{k}", v) for k, v in (("in_bits", bits.bit_length()), ("out_bits", act))]
    y = b.node("Trunc", inputs, "trunc", (n, c, 1, 1), domain=DOMAIN, rounding_mode="FLOOR")
    q.power[y] = 0.1
    x = q.carry(b.flatten(y, "flatten"), y)
    b.output(q.linear(x, "fc", 1000, weight, bias=True), "logits")


def _resnet(q: _Quantised, weight: int, act: int) -> None:
    """First and last layer with 8-bit weights, 4 bits on what is added, `act` bits on what is convolved."""
    b = q.b
    x = q.act(b.input("input", 1, 3, 224, 224), "input_quant", 8, 2.0**-6, signed=True)
    x = q.norm(q.conv(x, "conv1", 64, 7, 8, stride=2, pad=3), "bn1")
    x = q.act(x, "act1", 4, 2.0**-2)
    x = q.carry(b.max_pool(x, "pool1", 3, stride=2, pads=(1, 1, 1, 1)), x)
    for stage, count in enumerate((3, 4, 6, 3)):
        for k in range(count):
            x = _bottleneck(
                q, x, f"conv{stage + 2}_{k + 1}", 64 << stage, 2 if stage and not k else 1, not k, weight, act
            )
    x = q.carry(b.global_average(x, "mean"), x)
    x = q.act(x, "mean_quant", 8, 2.0**-6)
    x = q.carry(b.flatten(x, "flatten"), x)
    b.output(q.linear(x, "fc", 1000, 8, bias=True), "logits")


def _bottleneck(
    q: _Quantised, x: str, at: str, width: int, stride: int, project: bool, weight: int, act: int
) -> str:  # fmt: skip
    """Branch: act-bit input, 1x1, 3x3, 1x1; bypass: a 1x1 convolution or the 4-bit tensor itself; 4 bits each added."""
    b = q.b
    y = first = q.act(x, f"{at}_in", act, 0.5)
    for tag, out, k, step in (("a", width, 1, 1), ("b", width, 3, stride), ("c", width * 4, 1, 1)):
        y = q.norm(q.conv(y, f"{at}_{tag}", out, k, weight, stride=step, pad=k // 2), f"{at}_{tag}_bn")
        if tag != "c":
            y = q.act(y, f"{at}_{tag}_act", act, 0.5)
    y = q.act(y, f"{at}_branch", 4, 2.0**-2, signed=True)
    if project:
        x = q.norm(q.conv(first, f"{at}_p", width * 4, 1, weight, stride=stride), f"{at}_p_bn")
    x = q.act(x, f"{at}_bypass", 4, 2.0**-2, signed=True)
    return q.act(b.add(y, x, f"{at}_add"), f"{at}_act", 4, 2.0**-2)


_NETS = {"tfc": _tfc, "cnv": _cnv, "mobilenetv1": _mobilenet, "resnet50": _resnet}
