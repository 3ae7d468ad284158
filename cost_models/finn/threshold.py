"""Stand-alone thresholding, as HLS (all steps compared at once) or RTL (binary search in stages)."""

from __future__ import annotations

import math

from cost_models.finn.memory import least_waste, uram288
from cost_models.finn.types import Attributes, Estimate, bits
from cost_models.primitives import ceil_div


def estimate(op: str, a: Attributes, model: str) -> Estimate:
    """Cost of Thresholding_hls or Thresholding_rtl: one folded output word a cycle."""
    pe, folds = a.positive("PE"), a.fold("NumChannels", "PE")
    cycles = math.prod(a.integers("numInputVectors", (1,))) * folds
    input_bits, step_bits = bits(a.text("inputDataType")), bits(a.text("weightDataType"))
    if op.endswith("_hls"):
        return _hls(a, pe, folds, cycles, input_bits, step_bits, model)
    return _rtl(a, pe, folds, cycles, input_bits, step_bits, model)


def _hls(a: Attributes, pe: int, folds: int, cycles: int, input_bits: int, step_bits: int, model: str) -> Estimate:
    steps = a.positive("numSteps")
    width, style = pe * steps * step_bits, a.text("ram_style", "distributed")
    lut, bram, uram = input_bits * pe, 0, 0
    if folds > 1 and style == "distributed":
        lut += width * ceil_div(folds, 64)
    elif folds > 1 and style == "block":
        bram = ceil_div(width, 16) * ceil_div(folds, 1024)
    elif folds > 1 and style == "ultra":
        uram = uram288(width, folds)
    if model == "finn":
        return Estimate(cycles, lut, None, bram, uram, 0)
    # fvc: every step needs its own comparator (one LUT compares two bits) and the counter of set steps an adder tree;
    # the peer counts one comparator a PE.
    compare = pe * (steps * ceil_div(max(input_bits, step_bits), 2) + steps)
    ff = 100 + pe * (2 * input_bits + steps + bits(a.text("outputDataType")))
    return Estimate(cycles, lut - input_bits * pe + compare, ff, bram, uram, 0)


def _rtl(a: Attributes, pe: int, folds: int, cycles: int, input_bits: int, step_bits: int, model: str) -> Estimate:
    """Stage x of the binary search holds 2^x thresholds a channel; each PE has its own memories."""
    out_bits = bits(a.text("outputDataType"))
    bram_from, uram_from = a.integer("depth_trigger_bram", 0), a.integer("depth_trigger_uram", 0)
    sets = max(1, a.integer("mlo_max_iter", 0), a.integer("bodies", 1))
    if a.integer("uniform_thres", 0):
        stages = [(out_bits - x, folds * 2**x * sets) for x in range(1, out_bits)]
    else:
        stages = [(step_bits, folds * 2**x * sets) for x in range(out_bits)]
    used = {"lut": 0, "bram18": 0, "uram": 0}
    for width, depth in stages:
        kinds: tuple[str, ...] = ("uram", "bram18", "lut")
        if bram_from or uram_from:
            if bram_from <= depth < uram_from:
                kinds = ("bram18",)
            elif depth >= uram_from:
                kinds = ("uram",)
        kind, count = least_waste(width, depth, kinds)
        used[kind] += pe * count
    if model == "finn":
        return Estimate(cycles, used["lut"], None, used["bram18"], used["uram"], 0)
    # fvc: a comparator and a register stage for each step of the search, for each PE.
    compare = pe * out_bits * (ceil_div(max(input_bits, step_bits), 2) + 2)
    ff = 60 + pe * out_bits * (input_bits + out_bits) * (2 if a.integer("deep_pipeline", 1) else 1)
    return Estimate(cycles, used["lut"] + compare + 60, ff, used["bram18"], used["uram"], 0)
