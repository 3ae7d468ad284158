"""Tiny YOLOv3 at 416x416 (8,852,366 parameters without batch-norm statistics): two detection heads."""

from __future__ import annotations

from compiler.frontend.zoo.builder import Builder


def _unit(b: Builder, x: str, at: str, out: int, k: int) -> str:
    x = b.batchnorm(b.conv(x, at, out, k, pad=k // 2, bias=False), f"{at}_bn")
    return b.leaky_relu(x, f"{at}_leaky")


def net(b: Builder, name: str) -> None:
    x = b.input("input", 1, 3, 416, 416)
    skip = x
    for k, out in enumerate((16, 32, 64, 128, 256, 512)):
        x = _unit(b, x, f"conv{k}", out, 3)
        if k == 4:
            skip = x
        last = k == 5
        x = b.max_pool(x, f"pool{k}", 2, stride=1 if last else 2, pads=(0, 0, 1, 1) if last else (0, 0, 0, 0))
    x = _unit(b, x, "conv6", 1024, 3)
    x = _unit(b, x, "conv7", 256, 1)
    coarse = b.conv(_unit(b, x, "conv8", 512, 3), "head1", 255, 1)
    b.output(coarse, "detections_13")
    y = b.upsample2(_unit(b, x, "conv10", 128, 1), "upsample")
    y = _unit(b, b.concat([y, skip], "concat"), "conv11", 256, 3)
    b.output(b.conv(y, "head2", 255, 1), "detections_26")
