"""SqueezeNet 1.0 (1,248,424 parameters) and 1.1 (1,235,496)."""

from __future__ import annotations

from compiler.frontend.zoo.builder import Builder


def _fire(b: Builder, x: str, at: str, squeeze: int, expand: int) -> str:
    s = b.relu(b.conv(x, f"{at}_squeeze", squeeze, 1), f"{at}_squeeze_relu")
    one = b.relu(b.conv(s, f"{at}_expand1", expand, 1), f"{at}_expand1_relu")
    three = b.relu(b.conv(s, f"{at}_expand3", expand, 3, pad=1), f"{at}_expand3_relu")
    return b.concat([one, three], f"{at}_concat")


def net(b: Builder, name: str) -> None:
    x = b.input("input", 1, 3, 224, 224)
    old = name == "squeezenet1.0"
    x = b.relu(b.conv(x, "conv1", 96 if old else 64, 7 if old else 3, stride=2), "relu1")
    pools = (1, 4, 8) if old else (1, 3, 5)
    widths = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
    for k, (squeeze, expand) in enumerate(widths, 2):
        if k - 1 in pools:
            x = b.max_pool(x, f"pool{k - 1}", 3, stride=2, ceil=True)
        x = _fire(b, x, f"fire{k}", squeeze, expand)
    x = b.relu(b.conv(x, "conv10", 1000, 1), "relu10")
    b.output(b.flatten(b.global_average(x, "mean"), "flatten"), "logits")
