"""Streaming operators (FINN, Elastic-DF): cycles and resources from a node's attributes.

model="finn": what finn-plus 1.6.1 says, to the last digit, oddities included. model="fvc": the same cycles and
memories with its gaps filled (flip-flops, RTL units' LUTs, adders, pools, …) and its double counts removed; each
module says from what."""

from __future__ import annotations

import math
from typing import Any

from cost_models.finn import compute, fifo, streams, threshold, window
from cost_models.finn.types import Attributes, CaseError, Estimate

__all__ = ["DEFAULT_PART", "OPERATORS", "CaseError", "Estimate", "estimate"]

DEFAULT_PART = "xcu280-fsvh2892-2L-e"
ELEMENTWISE = (
    "Add", "Sub", "AbsDiff", "Mul", "Div", "Max", "And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater",
    "GreaterOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift",
)  # fmt: skip
OPERATORS = (
    "ConvolutionInputGenerator_rtl",
    "Crop_rtl",
    "DuplicateStreams_hls",
    *(f"Elementwise{kind}_hls" for kind in ELEMENTWISE),
    *(f"Elementwise{kind}_rtl" for kind in ("Add", "Sub", "Mul")),
    "FMPadding_Pixel_hls",
    "FMPadding_rtl",
    "GlobalAccPool_hls",
    "LabelSelect_hls",
    "MVAU_hls",
    "MVAU_rtl",
    "Pool_hls",
    "StreamingConcat_hls",
    "StreamingDataWidthConverter_hls",
    "StreamingDataWidthConverter_rtl",
    "StreamingFIFO_rtl",
    "StreamingSplit_hls",
    "Thresholding_hls",
    "Thresholding_rtl",
    "UpsampleNearestNeighbour_hls",
    "VVAU_hls",
    "VVAU_rtl",
)


def estimate(op: str, attrs: dict[str, Any], *, part: str = DEFAULT_PART, model: str = "fvc") -> Estimate:
    """Cost of one node: `op` the peer's class with its backend suffix, `attrs` under the peer's names.

    Raises CaseError for an unknown operator, a missing or ill-typed attribute, or a fold that does not divide;
    ValueError for an unknown model.
    """
    if model not in ("finn", "fvc"):
        raise ValueError(f"unknown model {model!r}")
    if op not in OPERATORS:
        raise CaseError(f"unknown operator {op!r}")
    a = Attributes(op, attrs)
    kind = op.rsplit("_", 1)[0]
    if kind in ("MVAU", "VVAU"):
        return compute.estimate(op, a, part, model)
    if kind == "Thresholding":
        return threshold.estimate(op, a, model)
    if kind == "ConvolutionInputGenerator":
        return window.estimate(a, model)
    if kind == "StreamingFIFO":
        return fifo.estimate(a, part, model, math.prod(a.integers("folded_shape")[:-1]))
    if kind.startswith("FMPadding"):
        return streams.padding(op, a, model)
    if kind.startswith("Elementwise"):
        return streams.elementwise(op, a, model)
    table = {
        "Pool": streams.pool,
        "GlobalAccPool": streams.global_pool,
        "DuplicateStreams": streams.duplicate,
        "LabelSelect": streams.label_select,
        "UpsampleNearestNeighbour": streams.upsample,
        "StreamingConcat": streams.concat,
        "StreamingSplit": streams.split,
        "Crop": streams.crop,
        "StreamingDataWidthConverter": streams.width_converter,
    }
    return table[kind](a, model)
