"""Constants of a convolution: biases with the zero points folded in, proved requantisers, weight blocks.

The MAC array multiplies x' = x - ox and w' = w - ow (o = 128 for unsigned operands, else 0). With
sum (x - xz)(w - wz) = sum x'w' + (ow - wz) sum x' + (ox - xz) sum w' + K (ox - xz)(ow - wz)
the last two terms are constants of a channel and go into its bias; the second is the row-sum coefficient.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Conv, Graph
from compiler.isa.table import MODE_FP32
from compiler.ops.base import limits
from compiler.requant import RequantPlan, conv_step_plan, reachable_range, requantise
from compiler.requant.vreq import THRESHOLD_LIMIT_STEPS


def weight_offset(node: Conv) -> int:
    return 128 if node.weight.dtype == np.uint8 else 0


def row_sum_coefficient(node: Conv) -> int:
    """What the MAC multiplies the sum of its operands x' by."""
    return weight_offset(node) - node.weight_zero_point


def folded_bias(node: Conv, x_unsigned: bool, m0: int, m1: int, k0: int, k1: int) -> NDArray[np.int32]:
    """int32[m1 - m0]: what the accumulators of input channels [k0, k1) start from; the bias goes with k0 = 0."""
    w = node.weight[m0:m1, k0:k1].astype(np.int64) - weight_offset(node)
    shift = (128 if x_unsigned else 0) - node.x_zero_point
    taps = w.shape[1] * w.shape[2] * w.shape[3]
    value = shift * w.sum(axis=(1, 2, 3)) + taps * shift * row_sum_coefficient(node)
    if k0 == 0:
        value = value + node.bias[m0:m1].astype(np.int64)
    wrapped: NDArray[np.int32] = (value & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return wrapped


@lru_cache(maxsize=1024)
def requant_plan(node: Conv, x_unsigned: bool, y_unsigned: bool, thresholds: bool) -> RequantPlan:
    """The requantiser of every output channel, proved over all inputs; without `thresholds` it takes no table space.

    A layer that is itself a step function keeps its thresholds: tiles are chosen so that they fit.
    """
    if node.thresholds is not None:
        return conv_step_plan(node)
    x_lo, x_hi = (0, 255) if x_unsigned else (-128, 127)
    lo, hi = (0, 255) if y_unsigned else (-128, 127)
    low, high = reachable_range(node.weight, node.weight_zero_point, node.x_zero_point, x_lo, x_hi, node.bias)
    limit = THRESHOLD_LIMIT_STEPS if thresholds else 0
    return requantise(low, high, node.scale, node.y_zero_point, lo, hi, threshold_limit_steps=limit)


def output_range(graph: Graph, node: Conv) -> tuple[int, int]:
    """The clamp of the requantiser: the range of the result's type, or of the levels of a step function."""
    if node.thresholds is not None:
        return node.thresholds.levels.lo, node.thresholds.levels.hi
    return limits(graph, node.y)


def instruction_zero_point(plan: RequantPlan, start: int, stop: int) -> int:
    """VREQ's zero_point field: only float32 entries use it."""
    return plan.zero_point if (plan.mode[start:stop] == MODE_FP32).any() else 0


def weight_block(node: Conv, m0: int, m: int, k0: int, k: int) -> bytes:
    """[m][k][kh][kw] bytes of a block, as one contiguous run."""
    return np.ascontiguousarray(node.weight[m0 : m0 + m, k0 : k0 + k]).tobytes()
