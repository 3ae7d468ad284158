"""ConvTranspose as a plain convolution: one kernel a phase of the stride, then DepthToSpace and a crop.

Output row y of a transposed convolution with stride s is, with y + pad = q*s + p, the sum over taps k with
k*dilation = p + s*t of x[q - t] * w[k]: for every phase p a stride-1 convolution with the taps t in reverse order.
The integers are the same, and no multiplication by inserted zeros remains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend.integer import QP, QT, Emitter, Unfit
from compiler.frontend.onnxgraph import Node

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Axis:
    """One spatial axis: `taps[p][u]` is the kernel tap of phase p at position u of the convolution kernel, or -1."""

    stride: int
    taps: tuple[tuple[int, ...], ...]
    pad_begin: int
    pad_end: int
    rows: int  # results of the convolution
    crop: int  # first row kept after the phases are interleaved
    out: int


def axis_plan(size: int, kernel: int, stride: int, dilation: int, begin: int, out: int) -> Axis:
    """Plan of one axis with input extent `size`, pad `begin` and output extent `out`."""
    by_phase: list[dict[int, int]] = [{} for _ in range(stride)]
    for k in range(kernel):
        by_phase[(k * dilation) % stride][(k * dilation) // stride] = k
    length = max([t for phase in by_phase for t in phase], default=0) + 1
    first = min(begin // stride, length - 1)
    rows = max(-(-(begin + out) // stride) - first, size + (length - 1 - first) - length + 1, 1)
    left = length - 1 - first
    right = rows - size - left + length - 1
    taps = tuple(tuple(phase.get(length - 1 - u, -1) for u in range(length)) for phase in by_phase)
    return Axis(stride, taps, left, right, rows, begin - first * stride, out)


def output_plan(node: Node, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> list[Axis]:
    """The axes of a ConvTranspose node; resolves auto_pad, output_shape and output_padding."""
    n = len(spatial)
    strides, dilations = node.ints("strides", [1] * n), node.ints("dilations", [1] * n)
    extra, pads = node.ints("output_padding", [0] * n), node.ints("pads", [0] * 2 * n)
    wanted = node.ints("output_shape", [])[-n:] if "output_shape" in node.attributes else []
    auto = node.text("auto_pad", "NOTSET")
    axes = []
    for k in range(n):
        full = strides[k] * (spatial[k] - 1) + extra[k] + (kernel[k] - 1) * dilations[k] + 1
        begin, end = pads[k], pads[k + n]
        out = full - begin - end
        if wanted or auto in ("SAME_UPPER", "SAME_LOWER"):
            out = wanted[k] if wanted else spatial[k] * strides[k]
            total = max(full - out, 0)
            begin = total // 2 if auto == "SAME_UPPER" else total - total // 2
            out = wanted[k] if wanted else full - total  # a wanted shape beyond the full one ends in zeros
        elif auto == "VALID":
            begin, out = 0, full
        axes.append(axis_plan(spatial[k], kernel[k], strides[k], dilations[k], begin, out))
    return axes


def emit(
    e: Emitter, node: Node, x: QT, w: Array, w_scale: Array, w_zero: Array, bias: Array | None, y: str, qp: QP
) -> None:
    """Append the integer nodes of ConvTranspose; w (C, M/groups, ...) 8 bits, scales scalar or (M/groups,)."""
    shape = e.shape(x.name)
    n = len(shape) - 2
    if n not in (1, 2):
        raise Unfit(f"ConvTranspose with {n} spatial dimensions")
    groups = node.integer("group", 1)
    kernel = tuple(int(d) for d in w.shape[2:])
    axes = output_plan(node, shape[2:], kernel)
    c, per = w.shape[0], w.shape[1]
    m = per * groups
    zeros = np.broadcast_to(np.asarray(w_zero).astype(np.int64).reshape(-1), (per,))
    # (C, M/g, k...) -> (M, C/g, k...)
    base = np.moveaxis(w.reshape(groups, c // groups, per, *kernel), 2, 1).reshape(m, c // groups, *kernel)
    phases = [a.stride for a in axes]
    lengths = [len(a.taps[0]) for a in axes]
    kernels = np.empty((m, *phases, c // groups, *lengths), w.dtype)
    kernels[...] = np.tile(zeros, groups).astype(w.dtype).reshape((m,) + (1,) * (2 * n + 1))
    for p in np.ndindex(*phases):
        for u in np.ndindex(*lengths):
            tap = tuple(axes[k].taps[p[k]][u[k]] for k in range(n))
            if min(tap) >= 0:
                source: Any = (slice(None), slice(None), *tap)
                target: Any = (slice(None), *p, slice(None), *u)
                kernels[target] = base[source]
    count = int(np.prod(phases))
    weight = kernels.reshape(m * count, c // groups, *lengths)

    def spread(v: Array) -> Array:
        v = np.asarray(v).reshape(-1)
        return v if v.size == 1 else np.repeat(np.tile(v, groups) if v.size == per else v, count)

    attributes: dict[str, Any] = {
        "strides": [1] * n,
        "pads": [a.pad_begin for a in axes] + [a.pad_end for a in axes],
        "dilations": [1] * n,
        "group": groups,
        "kernel_shape": lengths,
    }
    rows = [a.rows * a.stride for a in axes]
    cropped = any(a.crop or a.out != r for a, r in zip(axes, rows, strict=True))
    phase_bias = None if bias is None else np.repeat(np.asarray(bias), count)
    conv_out = e.graph.fresh(f"{y}_phases") if count > 1 or cropped else y
    e.conv(x, weight, spread(w_scale), spread(zeros), phase_bias, conv_out, qp, node.name, attributes)
    full = conv_out
    if count > 1:
        full = e.graph.fresh(f"{y}_full") if cropped else y
        interleave(e, conv_out, full, m, phases, [a.rows for a in axes], qp.elem, node.name)
    if cropped:
        crop(e, full, y, [a.crop for a in axes], [a.out for a in axes], qp.elem, node.name)


def interleave(e: Emitter, x: str, y: str, m: int, phases: list[int], rows: list[int], elem: int, node: str) -> None:
    """(N, M*phases, rows) -> (N, M, rows*stride): DepthToSpace, written out where it does not cover the case."""
    batch = e.shape(x)[0]
    n = len(phases)
    out = (batch, m, *(r * s for r, s in zip(rows, phases, strict=True)))
    split = e.graph.fresh(f"{y}_split")
    e.reshape(x, split, (batch, m, *phases, *rows))
    order = [0, 1] + [a for k in range(n) for a in (2 + n + k, 2 + k)]
    turned = e.graph.fresh(f"{y}_turned")
    e.nodes.append(Node("Transpose", [split], [turned], f"{node}_interleave", "", {"perm": order}))
    e.declare(turned, elem, tuple((batch, m, *phases, *rows)[a] for a in order))
    e.reshape(turned, y, out)


def crop(e: Emitter, x: str, y: str, start: list[int], size: list[int], elem: int, node: str) -> None:
    n = len(start)
    ends = [s + k for s, k in zip(start, size, strict=True)]
    inputs = [x] + [
        e.const(f"{y}_{label}", np.asarray(v, np.int64))
        for label, v in (("starts", start), ("ends", ends), ("axes", range(2, 2 + n)))
    ]
    e.nodes.append(Node("Slice", inputs, [y], f"{node}_crop"))
    e.declare(y, elem, (*e.shape(x)[:2], *size))
