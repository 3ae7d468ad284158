"""Attributes of windowed operators made explicit: kernel, strides, dilations and pads of Conv and pools."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.frontend.onnxgraph import Node


@dataclass(frozen=True, slots=True)
class Window:
    """Per spatial axis; `begin`/`end` are the pads the node states, `tail` what ceil_mode lets windows overhang."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    out: tuple[int, ...]
    tail: tuple[int, ...]

    @property
    def pads(self) -> list[int]:
        return [*self.begin, *self.end]


def window(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Window:
    """The window of a Conv or pool over an input of extents `spatial`."""
    n = len(spatial)
    strides = tuple(node.ints("strides", [1] * n))
    dilations = tuple(node.ints("dilations", [1] * n))
    pads = node.ints("pads", [0] * 2 * n)
    begin, end = list(pads[:n]), list(pads[n:])
    ceil = bool(node.integer("ceil_mode", 0))
    auto = node.text("auto_pad", "NOTSET")
    reach = [(kernel[k] - 1) * dilations[k] + 1 for k in range(n)]
    out = []
    for k in range(n):
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            o = -(-spatial[k] // strides[k])
            total = max((o - 1) * strides[k] + reach[k] - spatial[k], 0)
            small, large = total // 2, total - total // 2
            begin[k], end[k] = (small, large) if auto == "SAME_UPPER" else (large, small)
        elif auto == "VALID":
            begin[k] = end[k] = 0
        span = spatial[k] + begin[k] + end[k] - reach[k]
        o = (-(-span // strides[k]) if ceil else span // strides[k]) + 1
        if ceil and (o - 1) * strides[k] >= spatial[k] + begin[k]:
            o -= 1  # a window may not start behind the input and its left pad
        out.append(o)
    tail = [max((out[k] - 1) * strides[k] + reach[k] - spatial[k] - begin[k], 0) for k in range(n)]
    return Window(kernel, strides, dilations, tuple(begin), tuple(end), tuple(out), tuple(tail))
