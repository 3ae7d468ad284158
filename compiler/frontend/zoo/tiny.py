"""A net of a few thousand weights with a residual, for tests and first steps."""

from __future__ import annotations

from compiler.frontend.zoo.builder import Builder


def net(b: Builder, name: str) -> None:
    x = b.input("input", 1, 3, 16, 16)
    x = b.relu(b.conv(x, "conv1", 8, 3, pad=1), "relu1")
    y = b.relu(b.conv(x, "conv2", 8, 3, pad=1), "relu2")
    y = b.conv(y, "conv3", 8, 3, pad=1, gain=0.5)
    x = b.relu(b.add(x, y, "add"), "relu3")
    x = b.max_pool(x, "pool", 2, stride=2)
    x = b.relu(b.conv(x, "conv4", 16, 3, stride=2, pad=1), "relu4")
    x = b.flatten(b.global_average(x, "mean"), "flatten")
    b.output(b.gemm(x, "fc", 10), "logits")
