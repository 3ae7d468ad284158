"""Convolutions and matrix products: padding, window, matrix-vector unit, requantiser or thresholds.

acc = bias + sum (x - zx)(w - zw): the unit multiplies x as it comes with w - zw, and starts from
bias - zx * sum (w - zw); the padding is filled with zx, so it adds nothing.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Conv, DType, Graph
from compiler.isa.stream.banks import MOST_WORD_BITS
from compiler.isa.stream.ports import container_bytes, value_range
from compiler.isa.stream.rates import least_buffer, unit_cycles
from compiler.isa.stream.table import BRAM, DRAM, HLS, LUTRAM, RTL, URAM
from compiler.ops.conv_const import requant_plan
from compiler.ops.stream.buffer import reorder
from compiler.ops.stream.channels import crop_lanes, take
from compiler.ops.stream.memory import reader
from compiler.ops.stream.parts import (
    Element,
    End,
    Engine,
    Fold,
    divisors,
    element,
    fewest_lanes,
    narrow,
    signed_bits,
    view,
    x_fields,
    y_fields,
)
from compiler.ops.stream.sliced import Part
from compiler.requant import MOST_STEPS, RequantPlan, fixed_plan, pack_vreq, reachable_range

RTL_BITS = 8
LINE_LUTRAM_BITS = 1 << 14  # line buffers up to here stand in LUTRAM, deeper ones in block memory
DEFAULT_AXES = (0, 1, 2, 3)


def depthwise(node: Conv) -> bool:
    return node.groups > 1 and node.weight.shape[1] == 1 and node.weight.shape[0] == node.groups


def dense_input(node: Conv) -> bool:
    """The window is the whole image, so that its order is that of the stream: a matrix product with all of it."""
    _, _, kh, kw = node.weight.shape
    return (kh, kw) == node.x_shape[2:] and not any(node.pads) and node.groups == 1 and node.y_shape[2:] == (1, 1)


def windowed(node: Conv) -> bool:
    """Whether the layer needs a sliding window."""
    return node.weight.shape[2:] != (1, 1) and not dense_input(node)


@lru_cache(maxsize=4096)
def weight_bits(node: Conv) -> int:
    """Bits of w - zw; 1 where all are -1 and +1, and there alone: zeros take a second bit."""
    levels = node.weight_levels
    return 1 if levels.bipolar else max(2, signed_bits(levels.lo, levels.hi))


@lru_cache(maxsize=4096)
def accumulator_bits(node: Conv, low: int, high: int) -> int:
    """Bits of the accumulator over every input in low..high."""
    acc_lo, acc_hi = sums_range(node, low, high)
    return max(2, signed_bits(int(acc_lo.min()), int(acc_hi.max())))


def sums_range(node: Conv, low: int, high: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least and greatest accumulator of each channel over every input in low..high."""
    zeros = node.weight_zero_point, node.x_zero_point
    return reachable_range(node.weight, *zeros, low, high, node.bias, exact=node.wide)


@lru_cache(maxsize=1024)
def fixed_form(node: Conv, low: int, high: int) -> RequantPlan | None:
    """The requantiser of a step function of more than 255 steps, if each channel has one proved equal to them."""
    t = node.thresholds
    return None if t is None or t.values.shape[1] <= MOST_STEPS else fixed_plan(t, *sums_range(node, low, high))


def input_range(graph: Graph, name: str) -> tuple[int, int]:
    """Least and greatest value of a tensor."""
    t = graph.tensors[name]
    if t.levels is not None:
        return t.levels.lo, t.levels.hi
    return t.dtype.range


def folds(graph: Graph, node: Conv) -> list[Fold]:
    """Every legal fold of a layer, by divisors; memory and variant apart."""
    m, n, kh, kw = node.weight.shape
    taps = kh * kw
    if depthwise(node):
        return [Fold(pe, simd) for pe in divisors(m) for simd in sorted({1, taps})]
    simds = set(divisors(n * taps if dense_input(node) else n))
    if windowed(node):
        simds.add(n * taps)
    return [Fold(pe, simd) for pe in divisors(m // node.groups) for simd in sorted(simds)]


def variants(graph: Graph, node: Conv) -> list[int]:
    """RTL units take integers of 2 to 8 bits; depthwise ones exist as HLS only (DSP58 apart)."""
    wide = max(weight_bits(node), element(graph.tensors[node.x]).bits)
    narrow = min(weight_bits(node), element(graph.tensors[node.x]).bits)
    return [HLS, RTL] if not depthwise(node) and narrow >= 2 and wide <= RTL_BITS else [HLS]


def memories(node: Conv, fold: Fold, has_uram: bool, external: bool = False) -> list[int]:
    """Where the weights may stand: LUTRAM where it is shallow, block memory, URAM where it is deep; DRAM, if asked for,
    where no word is wider than a memory port."""
    words = node.weight.size // (fold.pe * fold.simd)
    out = [LUTRAM] if words <= 256 else []
    out += [BRAM] if words > 32 else []
    out += [URAM] if has_uram and words >= 1024 else []
    narrow_enough = fold.pe * fold.simd * weight_bits(node) <= MOST_WORD_BITS
    return out + ([DRAM] if external and narrow_enough else [])


def lower(graph: Graph, node: Conv, fold: Fold) -> Engine:
    """The engine of a convolution or matrix product."""
    engine = Engine()
    x = element(graph.tensors[node.x])
    at: End | None = None
    n, kh, kw = node.weight.shape[1:]
    channels, height, width = node.x_shape[1:]
    pixels = node.y_shape[0] * node.y_shape[2] * node.y_shape[3]
    dw = depthwise(node)
    pe_in = fold.pe if dw else min(fold.simd, n)
    part = node if isinstance(node, Part) else None
    macs = node.weight.size * pixels
    spatial = (kh, kw) != (1, 1) or node.strides != (1, 1) or any(node.pads)
    crops = part is not None and part.crops
    wanted = pe_in if dw or (spatial and not dense_input(node)) else fold.simd
    through = pe_in if part is None or not crops else crop_lanes(part, wanted, macs // (fold.pe * fold.simd))
    if node.axes != DEFAULT_AXES:
        shape = view(graph, node.x)
        lanes = gcd(through, shape[1])  # the stream's own channels lie along another axis
        at = reorder(engine, at, shape, node.axes, x, lanes)
        at = narrow(engine, at, lanes, through, graph.tensors[node.x].elements, x)
    if part is not None and crops:
        at = take(engine, at, part, x, through, wanted)
    if spatial and not dense_input(node):
        image, more = (height, width), node.x_shape[0] - 1
        if any(node.pads):
            at = pad(engine, at, channels, image, node.pads, node.x_zero_point, x, pe_in, more)
            image = (height + node.pads[0] + node.pads[2], width + node.pads[1] + node.pads[3])
        if (kh, kw) == (1, 1):
            at = crop(engine, at, channels, image, node.y_shape[2:], node.strides, x, pe_in, more)
        else:
            block = pe_in if dw else n
            whole = fold.simd == kh * kw if dw else fold.simd > n
            out = pe_in * kh * kw if whole else pe_in
            at = window(engine, at, channels, block, image, (kh, kw), node.strides, node.dilations,
                        node.y_shape[2:], x, pe_in, out, more)  # fmt: skip
    at = _matrix(graph, node, fold, engine, at, x, pixels)
    at = activation(graph, node, fold, engine, at, pixels)
    if node.axes != DEFAULT_AXES or part is not None:
        engine.piece = at[0]
    if node.axes != DEFAULT_AXES and part is None:
        at = restore(graph, node, engine, at)
    engine.output = at
    return engine


def restore(graph: Graph, node: Conv, engine: Engine, at: End) -> End:
    """The result in the order of its tensor, from that of the operator."""
    inverse = tuple(int(k) for k in np.argsort(node.axes))
    f = engine.units[at[0]].fields
    # What the last unit gives: sums keep their own bits until they leave; CAT gives what it takes.
    pe, y = f["pe"], Element(f.get("y_bits", f["x_bits"]), bool(f.get("y_signed", f["x_signed"])))
    lanes = gcd(pe, view(graph, node.y)[1])
    at = narrow(engine, at, pe, lanes, graph.tensors[node.y].elements, y)
    return reorder(engine, at, node.y_shape, inverse, y, lanes)


def pad(
    engine: Engine, at: End | None, channels: int, image: tuple[int, int], pads: tuple[int, ...], fill: int,
    x: Element, pe: int, more: int,
) -> End:  # fmt: skip
    """A border of `fill` around every image; pads top, left, bottom, right; more: images beside the first."""
    f = {"pe": pe, **x_fields(x), "channels": channels, "in_h": image[0], "in_w": image[1], "fill": fill}
    f["more"] = more
    f |= dict(zip(("top", "left", "bottom", "right"), pads, strict=True))
    return engine.after(engine.unit("PAD", f), at)


def crop(
    engine: Engine, at: End | None, channels: int, image: tuple[int, int], out: tuple[int, int],
    strides: tuple[int, int], x: Element, pe: int, more: int,
) -> End:  # fmt: skip
    """Every strides-th row and column of every image."""
    f = {"pe": pe, **x_fields(x), "channels": channels, "in_h": image[0], "in_w": image[1], "oh": out[0], "ow": out[1]}
    f |= {"sh": strides[0], "sw": strides[1], "kept": channels, "more": more}
    return engine.after(engine.unit("CROP", f), at)


def window(
    engine: Engine, at: End | None, channels: int, block: int, image: tuple[int, int], kernel: tuple[int, int],
    strides: tuple[int, int], dilations: tuple[int, int], out: tuple[int, int], x: Element, pe: int, pe_out: int,
    more: int,
) -> End:  # fmt: skip
    """Sliding windows with a line buffer that lets reading run ahead to the next window."""
    f = {"pe": pe, "pe_out": pe_out, **x_fields(x), "channels": channels, "block": block}
    f |= {"in_h": image[0], "in_w": image[1], "oh": out[0], "ow": out[1]}
    for name, pair in (("k", kernel), ("s", strides), ("d", dilations)):
        f |= {f"{name}h": pair[0], f"{name}w": pair[1]}
    pixel = channels // pe
    reach = (kernel[1] - 1) * dilations[1] + 1
    # Beyond the least: the pixels by which the next window lies ahead, at the end of a row and within it.
    ahead = (reach + strides[1] + strides[0] * image[1]) * pixel
    # A window as high as the image lets go of nothing until it ends: the next frame needs a buffer of its own.
    f["depth"] = _least(tuple(sorted(f.items()))) + (image[0] * image[1] * pixel if out[0] == 1 else ahead)
    f |= {"memory": LUTRAM if f["depth"] * pe * x.bits <= LINE_LUTRAM_BITS else BRAM, "more": more}
    return engine.after(engine.unit("WIN", f), at)


@lru_cache(maxsize=4096)
def _least(fields: tuple[tuple[str, int], ...]) -> int:
    return least_buffer(dict(fields))


def _matrix(graph: Graph, node: Conv, fold: Fold, engine: Engine, at: End | None, x: Element, pixels: int) -> End:
    low, high = input_range(graph, node.x)
    bits = accumulator_bits(node, low, high)
    acc = Element(bits if node.wide or not isinstance(node, Part) else min(32, bits), True)
    name, m = node.name, node.weight.shape[0]
    common = {"pe": fold.pe, "simd": fold.simd, **x_fields(x), **y_fields(acc), "pixels": pixels}
    common |= {"w_bits": weight_bits(node), "variant": fold.variant, "memory": fold.memory}
    common["bias"] = int(has_bias(node, acc.bits))
    external = fold.memory == DRAM
    slots = {} if external else {0: (f"{name}.weights", lambda: weights(node))}
    if common["bias"]:
        slots[1] = (f"{name}.bias", lambda: start(node, acc.bits).tobytes())
    taps = int(np.prod(node.weight.shape[1:]))
    if depthwise(node):
        unit = engine.unit("VVAU", common | {"channels": m, "taps": taps}, slots)
    else:
        unit = engine.unit("MVAU", common | {"mh": m // node.groups, "mw": taps, "groups": node.groups}, slots)
    if external:
        engine.units.append(reader(node, fold, weight_bits(node), pixels, depthwise(node)))
        engine.streams.append(((len(engine.units) - 1, 0), (unit, 1)))
    return engine.after(unit, at)


@lru_cache(maxsize=4096)
def has_bias(node: Conv, bits: int) -> bool:
    return bool(start(node, bits).any())


def start(node: Conv, bits: int) -> NDArray[np.signedinteger]:
    """int32[M]: what accumulators of so many bits start from; int64[M] for more than 32."""
    sums = node.weight.sum(axis=(1, 2, 3), dtype=np.int64) - node.weight[0].size * node.weight_zero_point
    value: NDArray[np.int64] = node.bias.astype(np.int64) - node.x_zero_point * sums
    if bits > 32:
        return value
    wrapped: NDArray[np.int32] = (value & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return wrapped


def weights(node: Conv) -> bytes:
    """w - zw in the order [group][row][kh][kw][channel], one or two bytes each; depthwise [channel][tap]."""
    w = (node.weight.astype(np.int32) - node.weight_zero_point).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(w).astype(f"<i{container_bytes(weight_bits(node))}").tobytes()


def activation(graph: Graph, node: Conv, fold: Fold, engine: Engine, at: End, pixels: int) -> End:
    """Thresholds where the layer has them, else the proved requantiser of every channel; nothing where the layer leaves
    its accumulators."""
    if graph.tensors[node.y].dtype in (DType.I32, DType.I64):
        return at
    fields = engine.units[at[0]].fields
    acc = Element(fields.get("y_bits", fields["x_bits"]), True)
    y = element(graph.tensors[node.y])
    m = node.weight.shape[0]
    # Accumulators come every so many cycles only: as few lanes as keep up with them.
    lanes = fewest_lanes(fold.pe, pixels * m, unit_cycles(engine.units[at[0]].instruction()))
    at = narrow(engine, at, fold.pe, lanes, pixels * m, acc)
    f = {"pe": lanes, "x_bits": acc.bits, "x_signed": 1, **y_fields(y), "pixels": pixels, "channels": m}
    plan = fixed_form(node, *input_range(graph, node.x))
    if plan is not None:
        engine.notes["proof"] = plan.proof
        entries = (f"{node.name}.requantiser", lambda: pack_vreq(plan))
        return engine.after(engine.unit("REQ", f | {"lo": plan.lo, "hi": plan.hi}, {0: entries}), at)
    if node.thresholds is not None:
        t = node.thresholds
        f |= {"steps": t.values.shape[1], "base": t.base, "step": t.step, "variant": HLS, "memory": LUTRAM}
        if t.values.shape[1] > 3:
            deep = m // lanes > 64 or t.values.shape[1] > MOST_STEPS
            f |= {"variant": RTL, "memory": BRAM if deep else LUTRAM}
        engine.notes["requantiser"] = {"modes": {"threshold": m}, "steps": t.values.shape[1], "base": t.base}
        kind = "<i8" if acc.bits > 32 else "<i4"
        table = (f"{node.name}.thresholds", lambda: np.ascontiguousarray(t.values).astype(kind).tobytes())
        return engine.after(engine.unit("THR", f, {0: table}), at)
    x_unsigned, y_unsigned = (graph.tensors[k].dtype == DType.U8 for k in (node.x, node.y))
    lo, hi = (0, 255) if y_unsigned else (-128, 127)
    low, high = value_range(y.bits, y.signed)
    f |= {"zero_point": node.y_zero_point, "lo": max(lo, low), "hi": min(hi, high)}
    engine.notes["proof"] = lambda: requant_plan(node, x_unsigned, y_unsigned, False).proof()
    entries = (f"{node.name}.requantiser", lambda: pack_vreq(requant_plan(node, x_unsigned, y_unsigned, False)))
    return engine.after(engine.unit("REQ", f, {0: entries}), at)
