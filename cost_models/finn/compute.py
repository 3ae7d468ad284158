"""Matrix-vector and vector-vector units (MVAU, VVAU), as HLS or RTL.

Sources: Blott et al., FINN-R (TRETS 2018), section 4 for the LUT formula; finn-plus 1.6.1 for its constants and for
what it leaves out. model="finn" gives the peer's numbers to the last digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cost_models.finn.memory import LANES_PARITY, LANES_PLAIN, ladder_bram18, uram288
from cost_models.finn.types import Attributes, CaseError, Estimate, bits, is_signed, is_versal
from cost_models.primitives import ceil_div

_FORMER = {"const": "internal_embedded", "decoupled": "internal_decoupled"}  # names of FINN until 0.9
EMBEDDED_LIMIT = 128  # words up to which the HLS tool keeps an embedded memory in LUTs


@dataclass(frozen=True, slots=True)
class Unit:
    """What MVAU and VVAU have in common: P x Q lanes, W and A bits, a weight memory of `words`, sums over `taps`."""

    pe: int
    simd: int
    weight_bits: int
    input_bits: int
    words: int
    taps: int
    cycles: int
    threshold_words: int  # 0 without activation
    accumulator_bits: int
    output_bits: int
    mode: str
    style: str
    depthwise: bool

    @property
    def width(self) -> int:
        return self.pe * self.simd * self.weight_bits

    @property
    def in_luts(self) -> bool:
        small = self.mode == "internal_embedded" and self.words <= EMBEDDED_LIMIT
        return small or (self.mode == "internal_decoupled" and self.style == "distributed")


def read_unit(op: str, a: Attributes) -> Unit:
    """The unit of a node's attributes."""
    depthwise = op.startswith("VVAU")
    pe, simd = a.positive("PE"), a.positive("SIMD", 1 if depthwise else None)
    if depthwise:
        kernel, dim = a.pair("Kernel"), a.pair("Dim")
        channels, taps = a.positive("Channels"), kernel[0] * kernel[1]
        total = channels * taps
        words = total // pe // simd
        cycles = int(total / pe / simd * (dim[0] * dim[1]))
        out_folds = channels // pe
    else:
        out_folds, in_folds = a.fold("MH", "PE"), a.fold("MW", "SIMD")
        taps = a.positive("MW")
        words = out_folds * in_folds
        cycles = words * math.prod(a.integers("numInputVectors", (1,))) * a.positive("TH", 1)
    input_type = a.text("inputDataType")
    unit_signed = is_signed(input_type)
    weight_bits, input_bits = bits(a.text("weightDataType")), bits(input_type)
    # The widest sum of `taps` products, as FINN-R gives it; the accumulator is never wider.
    alpha = math.log(taps, 2) + weight_bits + input_bits - 1 - int(unit_signed)
    widest = math.ceil(alpha + math.log(1 + 2**-alpha, 2) + 1)
    return Unit(
        pe=pe,
        simd=simd,
        weight_bits=weight_bits,
        input_bits=input_bits,
        words=words,
        taps=taps,
        cycles=cycles,
        threshold_words=0 if a.integer("noActivation", 0) == 1 else out_folds,
        accumulator_bits=min(bits(a.text("accDataType", "INT32")), widest),
        output_bits=bits(a.text("outputDataType")),
        mode=_FORMER.get(mode := a.text("mem_mode", "internal_decoupled"), mode),
        style=a.text("ram_style", "auto"),
        depthwise=depthwise,
    )


def weight_blocks(u: Unit, model: str) -> tuple[int, int]:
    """(BRAM18, URAM) of the weight memory.

    The peer counts an embedded memory deeper than 128 words, or one that an input stream writes ("dynamic"), twice
    (MVAU: as BRAM and as URAM) and a one-word memory of style auto as BRAM; model="fvc" counts it once, and one word
    as registers.
    """
    lanes = LANES_PLAIN if u.depthwise else LANES_PARITY
    bram, uram = ladder_bram18(u.width, u.words, lanes), uram288(u.width, u.words)
    embedded, decoupled = u.mode == "internal_embedded", u.mode == "internal_decoupled"
    if u.in_luts or u.mode.startswith("external"):
        return (0, 0)
    if model == "fvc":
        if u.words == 1:
            return (0, 0)
        return (0, uram) if u.style == "ultra" else (ladder_bram18(u.width, u.words), 0)
    if u.depthwise:
        shallow_auto = u.style == "auto" and u.words <= EMBEDDED_LIMIT
        no_bram = shallow_auto or (decoupled and u.style == "ultra")
        no_uram = embedded or (decoupled and u.style != "ultra")
        return (0 if no_bram else bram, 0 if no_uram else uram)
    if decoupled:
        return (0, uram) if u.style == "ultra" else (bram, 0)
    return (bram, uram)


def hls_luts(u: Unit, multipliers_in_dsp: bool, thresholds_in_luts: bool) -> int:
    """LUTs of the HLS unit: int(300 + 1.1 * P * (mult + add + acc + thr + comp) + memory)."""
    product = u.weight_bits + u.input_bits
    multiply = 0 if multipliers_in_dsp else u.simd * (2 * ceil_div(product, 6) - 1) * product
    tree = product * (2 * u.simd - 1)
    thresholds: float = 0
    if thresholds_in_luts:
        steps = (2**u.output_bits - 1) * u.accumulator_bits
        # The VVAU formula does not round the threshold memory up to whole 64-bit LUTs.
        per_bit = u.threshold_words / 64 if u.depthwise else ceil_div(u.threshold_words, 64)
        thresholds = steps * per_bit + steps
    memory = u.width * ceil_div(u.words, 64) if u.in_luts else 0
    return int(300 + 1.1 * (u.pe * (multiply + tree + u.accumulator_bits + thresholds)) + memory)


def estimate(op: str, a: Attributes, part: str, model: str) -> Estimate:
    """Cost of MVAU_hls, MVAU_rtl, VVAU_hls or VVAU_rtl."""
    u = read_unit(op, a)
    if u.mode not in ("internal_embedded", "internal_decoupled", "external", "external_mem", "dynamic"):
        raise CaseError(f"{op}: unknown mem_mode {u.mode!r}")
    bram, uram = weight_blocks(u, model)
    if op.endswith("_rtl"):
        versal = is_versal(part)
        dsp = u.pe * ceil_div(u.simd, 3) if u.depthwise or versal else ceil_div(u.pe, 4) * u.simd
        if model == "finn":
            return Estimate(u.cycles, 0, None, bram, uram, dsp)
        lut = rtl_luts(u, versal)
        if not u.depthwise and not versal and max(u.weight_bits, u.input_bits) > 4:
            dsp = (
                ceil_div(u.pe, 2) * u.simd
            )  # finn-rtllib: four lanes a DSP48 to 4 bits (mvu_4sx4u), two to 8 (mvu_8sx8u)
        return Estimate(u.cycles, lut, rtl_ffs(u), bram, uram, dsp)
    in_dsp = a.text("resType", "auto") == "dsp"
    # The threshold memory style is an attribute of the MVAU only (default: block).
    in_luts = u.threshold_words > 0 and (u.depthwise or a.text("ram_style_thresholds", "block") == "distributed")
    lut = hls_luts(u, in_dsp, in_luts)
    # The peer's VVAU counts one multiplier a PE whatever SIMD is.
    lanes = u.pe if u.depthwise and model == "finn" else u.pe * u.simd
    dsp = lanes * ceil_div(u.weight_bits + u.input_bits, 48) if in_dsp else 0
    if model == "finn":
        return Estimate(u.cycles, lut, None, bram, uram, dsp)
    return Estimate(u.cycles, lut, hls_ffs(u), bram + threshold_bram18(u, in_luts), uram, dsp)


def threshold_bram18(u: Unit, in_luts: bool) -> int:
    """model="fvc": thresholds of the unit kept in block memory, which the peer counts nowhere."""
    if in_luts or u.threshold_words <= 1:
        return 0
    return ladder_bram18(u.pe * (2**u.output_bits - 1) * u.accumulator_bits, u.threshold_words)


def hls_ffs(u: Unit) -> int:
    """model="fvc": flip-flops of an HLS unit, counted from its pipeline (not calibrated).

    Operand registers of every lane, one register a level of the adder tree (a binary tree of Q leaves holds Q - 1
    sums), the accumulators twice, the output word, and about 250 for loop counters and handshake.
    """
    product = u.weight_bits + u.input_bits
    lanes = u.pe * u.simd * product * 2 + u.pe * (u.simd - 1) * product
    return 250 + lanes + u.pe * (2 * u.accumulator_bits + u.output_bits) + u.simd * u.input_bits


def rtl_luts(u: Unit, versal: bool) -> int:
    """model="fvc": LUTs of the RTL unit, which the peer gives as 0; counted from its structure (not calibrated).

    120 for counters and flow control; a replay buffer of the input vector in LUTRAM (64 bits a LUT) where it is used
    more than once; on DSP48 four packed lanes a slice leave the sums over SIMD to LUT adders (one LUT a bit); DSP58
    sums three products inside and cascades the rest.
    """
    replay = 0
    if not u.depthwise and u.words * u.simd > u.taps:
        replay = u.simd * u.input_bits * ceil_div(ceil_div(u.taps, u.simd), 64)
    tree = 0 if versal or u.depthwise else u.pe * (u.simd - 1) * (u.weight_bits + u.input_bits)
    memory = u.width * ceil_div(u.words, 64) if u.in_luts else 0
    return 120 + replay + tree + u.pe * u.accumulator_bits // 2 + memory


def rtl_ffs(u: Unit) -> int:
    """model="fvc": flip-flops of the RTL unit: operand words, accumulators and their output copy (not calibrated)."""
    return 150 + u.simd * u.input_bits + u.width + 2 * u.pe * u.accumulator_bits
