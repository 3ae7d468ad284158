"""ResNet-18 and ResNet-50 (torchvision's form: stride in the 3x3 convolution): 11,689,512 and 25,557,032 parameters."""

from __future__ import annotations

from compiler.frontend.zoo.builder import Builder


def net(b: Builder, name: str) -> None:
    depth = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}[name]
    bottleneck = name == "resnet50"
    x = b.input("input", 1, 3, 224, 224)
    x = b.relu(b.batchnorm(b.conv(x, "conv1", 64, 7, stride=2, pad=3, bias=False), "bn1"), "relu1")
    x = b.max_pool(x, "pool1", 3, stride=2, pads=(1, 1, 1, 1))
    for stage, count in enumerate(depth):
        for k in range(count):
            at = f"conv{stage + 2}_{k + 1}"
            x = _block(
                b, x, at, 64 << stage, 2 if stage and not k else 1, bottleneck, not k and (bottleneck or stage > 0)
            )
    x = b.flatten(b.global_average(x, "mean"), "flatten")
    b.output(b.gemm(x, "fc", 1000), "logits")


def _block(b: Builder, x: str, at: str, width: int, stride: int, bottleneck: bool, project: bool) -> str:
    out = width * (4 if bottleneck else 1)
    shape = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
    y = x
    for k, (kernel, step) in enumerate(shape):
        last = k == len(shape) - 1
        tag = f"{at}_{'abc'[k]}"
        y = b.conv(
            y, tag, out if last else width, kernel, stride=step, pad=kernel // 2, bias=False, gain=0.3 if last else 2.0
        )
        y = b.batchnorm(y, f"{tag}_bn")
        if not last:
            y = b.relu(y, f"{tag}_relu")
    if project:
        x = b.batchnorm(b.conv(x, f"{at}_p", out, 1, stride=stride, bias=False, gain=1.0), f"{at}_p_bn")
    return b.relu(b.add(y, x, f"{at}_add"), f"{at}_relu")
