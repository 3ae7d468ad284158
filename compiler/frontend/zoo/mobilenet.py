"""MobileNetV1 (4,231,976 parameters) and MobileNetV2 (3,504,872), width 1.0."""

from __future__ import annotations

from compiler.frontend.zoo.builder import Builder


def net(b: Builder, name: str) -> None:
    (_v1 if name == "mobilenetv1" else _v2)(b)


def _unit(
    b: Builder,
    x: str,
    at: str,
    out: int,
    k: int,
    *,
    stride: int = 1,
    groups: int = 1,
    six: bool = True,
    act: bool = True,
) -> str:
    x = b.conv(x, at, out, k, stride=stride, pad=k // 2, groups=groups, bias=False, gain=2.0 if act else 0.7)
    x = b.batchnorm(x, f"{at}_bn")
    if not act:
        return x
    return b.relu6(x, f"{at}_relu") if six else b.relu(x, f"{at}_relu")


def _finish(b: Builder, x: str) -> None:
    x = b.flatten(b.global_average(x, "mean"), "flatten")
    b.output(b.gemm(x, "fc", 1000), "logits")


def _v1(b: Builder) -> None:
    x = _unit(b, b.input("input", 1, 3, 224, 224), "conv0", 32, 3, stride=2, six=False)
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for k, (out, stride) in enumerate(plan, 1):
        c = b.shapes[x][1]
        x = _unit(b, x, f"dw{k}", c, 3, stride=stride, groups=c, six=False)
        x = _unit(b, x, f"pw{k}", out, 1, six=False)
    _finish(b, x)


def _v2(b: Builder) -> None:
    x = _unit(b, b.input("input", 1, 3, 224, 224), "conv0", 32, 3, stride=2)
    k = 0
    for expand, out, count, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(count):
            k += 1
            stride = first if i == 0 else 1
            c = b.shapes[x][1]
            y = x if expand == 1 else _unit(b, x, f"block{k}_expand", c * expand, 1)
            y = _unit(b, y, f"block{k}_dw", c * expand, 3, stride=stride, groups=c * expand)
            y = _unit(b, y, f"block{k}_project", out, 1, act=False)
            x = b.add(x, y, f"block{k}_add") if stride == 1 and c == out else y
    _finish(b, _unit(b, x, "conv_last", 1280, 1))
