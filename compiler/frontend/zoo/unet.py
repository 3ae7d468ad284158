"""U-Net at 256x256, padded convolutions, transposed up-convolutions: 31,037,698 parameters (two classes)."""

from __future__ import annotations

from compiler.frontend.zoo.builder import Builder


def _double(b: Builder, x: str, at: str, out: int) -> str:
    for k in "ab":
        x = b.conv(x, f"{at}_{k}", out, 3, pad=1, bias=False)
        x = b.relu(b.batchnorm(x, f"{at}_{k}_bn"), f"{at}_{k}_relu")
    return x


def net(b: Builder, name: str) -> None:
    x = b.input("input", 1, 3, 256, 256)
    skips = []
    for k, out in enumerate((64, 128, 256, 512), 1):
        x = _double(b, x, f"down{k}", out)
        skips.append(x)
        x = b.max_pool(x, f"pool{k}", 2, stride=2)
    x = _double(b, x, "bottom", 1024)
    for k, out in ((4, 512), (3, 256), (2, 128), (1, 64)):
        x = b.conv_transpose(x, f"up{k}_transpose", out, 2, stride=2)
        x = _double(b, b.concat([skips[k - 1], x], f"up{k}_concat"), f"up{k}", out)
    b.output(b.conv(x, "classes", 2, 1), "mask")
