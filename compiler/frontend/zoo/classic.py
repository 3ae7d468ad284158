"""LeNet-5-like, AlexNet (61,100,840 parameters) and VGG16 (138,357,544)."""

from __future__ import annotations

from compiler.frontend.zoo.builder import Builder


def net(b: Builder, name: str) -> None:
    {"lenet": _lenet, "alexnet": _alexnet, "vgg16": _vgg16}[name](b)


def _lenet(b: Builder) -> None:
    x = b.input("input", 1, 1, 28, 28)
    x = b.max_pool(b.relu(b.conv(x, "conv1", 6, 5, pad=2), "relu1"), "pool1", 2, stride=2)
    x = b.max_pool(b.relu(b.conv(x, "conv2", 16, 5), "relu2"), "pool2", 2, stride=2)
    x = b.flatten(x, "flatten")
    x = b.relu(b.gemm(x, "fc1", 120), "relu3")
    x = b.relu(b.gemm(x, "fc2", 84), "relu4")
    b.output(b.gemm(x, "fc3", 10), "logits")


def _head(b: Builder, x: str) -> None:
    x = b.flatten(x, "flatten")
    x = b.relu(b.gemm(x, "fc6", 4096), "relu6")
    x = b.relu(b.gemm(x, "fc7", 4096), "relu7")
    b.output(b.gemm(x, "fc8", 1000), "logits")


def _alexnet(b: Builder) -> None:
    x = b.input("input", 1, 3, 224, 224)
    x = b.max_pool(b.relu(b.conv(x, "conv1", 64, 11, stride=4, pad=2), "relu1"), "pool1", 3, stride=2)
    x = b.max_pool(b.relu(b.conv(x, "conv2", 192, 5, pad=2), "relu2"), "pool2", 3, stride=2)
    for k, out in ((3, 384), (4, 256), (5, 256)):
        x = b.relu(b.conv(x, f"conv{k}", out, 3, pad=1), f"relu{k}")
    _head(b, b.max_pool(x, "pool5", 3, stride=2))


def _vgg16(b: Builder) -> None:
    x = b.input("input", 1, 3, 224, 224)
    for stage, (count, out) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for k in range(1, count + 1):
            x = b.relu(b.conv(x, f"conv{stage}_{k}", out, 3, pad=1), f"relu{stage}_{k}")
        x = b.max_pool(x, f"pool{stage}", 2, stride=2)
    _head(b, x)
