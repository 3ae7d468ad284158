"""The operators that only move or combine stream words: padding, pool, element-wise, duplicate, concat, converters, …

Cycles as the peer has them (words of the folded stream). The peer gives no resources for most of them; model="fvc"
counts them from the structure: w = stream bits, one LUT a bit for a 2:1 selection, registers for one word in and one
out, and a base for the handshake. These counts are not calibrated by synthesis yet.
"""

from __future__ import annotations

import math

from cost_models.finn.memory import ladder_bram18, uram288
from cost_models.finn.types import Attributes, CaseError, Estimate, bits
from cost_models.primitives import ceil_div

BASE_LUT, BASE_FF = 60, 80  # handshake and a loop counter of an HLS stream unit


def _fill(model: str, cycles: int, lut: int, ff: int, dsp: int = 0, bram18: int = 0) -> Estimate:
    """The peer's zeros, or the counts of model="fvc"."""
    if model == "finn":
        return Estimate(cycles)
    return Estimate(cycles, BASE_LUT + lut, BASE_FF + ff, bram18, 0, dsp)


def padding(op: str, a: Attributes, model: str) -> Estimate:
    """FMPadding_rtl, FMPadding_Pixel_hls: every pixel of the padded image."""
    folds, (h, w) = a.fold("NumChannels", "SIMD", 1), a.pair("ImgDim")
    if op.startswith("FMPadding_Pixel"):
        sh, sw = a.pair("Stride")
        h, w = h + (h - 1) * (sh - 1), w + (w - 1) * (sw - 1)
    else:
        pad = a.integers("Padding")
        if len(pad) != 4:
            raise CaseError(f"{op}: Padding must be [top, left, bottom, right]")
        h, w = h + pad[0] + pad[2], w + pad[1] + pad[3]
    stream = a.positive("SIMD", 1) * bits(a.text("inputDataType"))
    return _fill(model, folds * a.positive("numInputVectors", 1) * h * w, stream, 2 * stream)


def pool(a: Attributes, model: str) -> Estimate:
    """Pool_hls: one tap of PE channels a cycle; a comparator or adder a PE."""
    folds = a.fold("Channels", "PE")
    pixels = math.prod(a.integers("OutImgDims"))
    cycles = folds * math.prod(a.integers("KernelSize")) * pixels * a.positive("BatchSize", 1)
    pe, width = a.positive("PE"), bits(a.text("InputDataType"))
    held = max(width, a.integer("AccumBits", 0))
    return _fill(model, cycles, pe * 2 * held, pe * (2 * width + held))


def global_pool(a: Attributes, model: str) -> Estimate:
    """GlobalAccPool_hls: all input words, then one output word a fold; accumulators in LUTRAM."""
    folds, vectors = a.fold("NumChannels", "PE"), a.integers("numInputVectors", (1,))
    cycles = math.prod(vectors) * folds + folds
    pe, width = a.positive("PE"), bits(a.text("inputDataType"))
    total = width + math.ceil(math.log2(max(2, math.prod(vectors))))
    return _fill(model, cycles, pe * total * (1 + ceil_div(folds, 64)), pe * (width + 2 * total))


def elementwise(op: str, a: Attributes, model: str) -> Estimate:
    """Elementwise…: folded output words; a constant operand has a parameter memory if decoupled (RTL always is)."""
    shape, pe = a.integers("out_shape"), a.positive("PE", 1)
    if not shape or shape[-1] % pe:
        raise CaseError(f"{op}: PE = {pe} does not divide the last axis of {list(shape)}")
    cycles = math.prod(shape[:-1]) * (shape[-1] // pe)
    left, right = bits(a.text("lhs_dtype")), bits(a.text("rhs_dtype"))
    lut = bram = uram = 0
    constant = a.text("rhs_style", "input") == "const"
    usual = "internal_decoupled" if op.endswith("_rtl") else "internal_embedded"
    if constant and a.text("mem_mode", usual) == "internal_decoupled":
        rhs = a.integers("rhs_shape")
        width, depth = pe * right, math.prod(rhs[:-1]) * max(1, (rhs[-1] if rhs else 1) // pe)
        style = a.text("ram_style", "auto")
        if style == "distributed":
            lut = width * ceil_div(depth, 64)
        elif style == "ultra":
            uram = uram288(width, depth)
        else:
            bram = ladder_bram18(width, depth)
    if model == "finn":
        return Estimate(cycles, lut, None, bram, uram, 0)
    out = bits(a.text("out_dtype"))
    work, dsp = _elementwise_work(op, a, left, right, out, pe)
    return Estimate(cycles, BASE_LUT + lut + work, BASE_FF + pe * (left + right + out), bram, uram, dsp)


def _elementwise_work(op: str, a: Attributes, left: int, right: int, out: int, pe: int) -> tuple[int, int]:
    """(LUT, DSP) of the operation itself: an adder a LUT a bit; small products in LUTs, others in one DSP.

    A divider subtracts once a bit of the result; what compares or shifts counts as an adder of its operands."""
    multiply = "Mul" in op
    if "Div" in op:
        return (pe * max(left, right) * out, 0)
    if a.text("lhs_dtype").startswith("FLOAT") or a.text("rhs_dtype").startswith("FLOAT"):
        # AMD PG060: float32 add about 220 LUT and 2 DSP, multiply about 80 LUT and 3 DSP; a DSPFP32 on Versal has both.
        return (0, pe) if op.endswith("_rtl") else (pe * (80 if multiply else 220), pe * (3 if multiply else 2))
    if multiply and left + right > 10:
        return (0, pe * ceil_div(left + right, 45))
    return (pe * (left * right if multiply else out), 0)


def duplicate(a: Attributes, model: str) -> Estimate:
    """DuplicateStreams_hls: every input word once."""
    cycles = math.prod(a.integers("numInputVectors", (1,))) * a.fold("NumChannels", "PE")
    stream = a.positive("PE") * bits(a.text("inputDataType"))
    copies = a.positive("NumOutputStreams", 2)
    return _fill(model, cycles, 4 * copies, stream * (1 + copies))


def label_select(a: Attributes, model: str) -> Estimate:
    """LabelSelect_hls: Labels / PE (the peer ignores the number of vectors; model="fvc" does not)."""
    pe, k = a.positive("PE"), a.positive("K", 1)
    cycles = a.positive("Labels") // pe
    if model == "fvc":
        cycles *= math.prod(a.integers("numInputVectors", (1,)))
    width, index = bits(a.text("inputDataType")), bits(a.text("outputDataType", "INT32"))
    return _fill(model, cycles, (pe + k) * (width + index), k * (width + index) + pe * width)


def upsample(a: Attributes, model: str) -> Estimate:
    """UpsampleNearestNeighbour_hls: every output word; one input row is kept."""
    folds = a.fold("NumChannels", "SIMD")
    cycles = a.positive("batchSize", 1) * a.positive("HO") * a.positive("WO") * folds
    stream = a.positive("SIMD") * bits(a.text("inputDataType"))
    row = ladder_bram18(stream, a.positive("WI") * folds)
    return _fill(model, cycles, stream, 2 * stream, 0, row)


def concat(a: Attributes, model: str) -> Estimate:
    """StreamingConcat_hls: every output word; a selection among the inputs."""
    parts, simd = a.integers("ChannelsPerStream"), a.positive("SIMD")
    cycles = math.prod(a.integers("numInputVectors", (1,))) * (sum(parts) // simd)
    return _fill(model, cycles, _select(a, simd, len(parts)), 2 * _width(a, simd))


def split(a: Attributes, model: str) -> Estimate:
    """StreamingSplit_hls: every input word; a register an output."""
    parts, simd = a.integers("ChannelsPerStream"), a.positive("SIMD")
    cycles = math.prod(a.integers("numInputVectors", (1,))) * (sum(parts) // simd)
    return _fill(model, cycles, 4 * len(parts), (1 + len(parts)) * _width(a, simd))


def _width(a: Attributes, simd: int) -> int:
    """Stream bits of a concat or split: its attribute is a list of types or one."""
    return simd * max(bits(n) for n in a.names("inputDataTypes", "inputDataType"))


def _select(a: Attributes, simd: int, ways: int) -> int:
    """LUTs of a `ways`:1 multiplexer: a LUT6 selects four to one, a bit."""
    return _width(a, simd) * max(1, ceil_div(ways - 1, 3))


def crop(a: Attributes, model: str) -> Estimate:
    """Crop_rtl: every input word."""
    folds, (h, w) = a.fold("NumChannels", "SIMD", 1), a.pair("ImgDim", least=0)
    vectors = a.integers("numInputVectors", (1,))
    batch = 1 if vectors == (0,) else math.prod(vectors)
    stream = a.positive("SIMD", 1) * bits(a.text("DataType"))
    return _fill(model, batch * max(h, 1) * w * folds, 40, stream)


def width_converter(a: Attributes, model: str) -> Estimate:
    """StreamingDataWidthConverter: a shift register to the least common multiple of the widths, and back.

    The peer gives 0 cycles; model="fvc" the words of the narrower side.
    """
    into, out = a.positive("inWidth"), a.positive("outWidth")
    middle = math.lcm(into, out)
    lut = 0
    if into != middle:
        lut += abs(math.ceil(math.log(into / middle, 2))) + middle
    if out != middle:
        lut += abs(math.ceil(math.log(middle / out, 2))) + out
    if model == "finn":
        return Estimate(0, lut)
    total = math.prod(a.integers("inShape")) * bits(a.text("dataType"))
    ff = 20 + (0 if into == out else max(into, out, middle if into != middle and out != middle else 0) + out)
    return Estimate(ceil_div(total, min(into, out)), lut, ff)
