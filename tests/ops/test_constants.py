"""The folded bias and the row sum: the array's signed products give exactly sum (x - xz)(w - wz) + bias."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ir.graph import DType
from compiler.ops.conv_const import folded_bias, requant_plan, row_sum_coefficient, weight_block
from tests.ops.graphs import Builder


@pytest.mark.parametrize("dtype", [DType.U8, DType.S8])
@pytest.mark.parametrize("seed", range(4))
def test_array_arithmetic_is_the_integer_convolution(dtype: DType, seed: int) -> None:
    b = Builder(seed, dtype)
    x = b.input((1, 6, 1, 1))
    b.conv(x, 5)
    node = b.steps[0]
    value = b.bytes((6,)).astype(np.int64)
    offset = 128 if dtype == DType.U8 else 0
    xs, ws = value - offset, node.weight[:, :, 0, 0].astype(np.int64) - offset
    for k0, k1 in ((0, 6), (0, 2), (2, 6)):
        acc = folded_bias(node, dtype == DType.U8, 0, 5, k0, k1).astype(np.int64)
        acc += ws[:, k0:k1] @ xs[k0:k1] + row_sum_coefficient(node) * xs[k0:k1].sum()
        true = (node.weight[:, k0:k1, 0, 0].astype(np.int64) - node.weight_zero_point) @ (
            value[k0:k1] - node.x_zero_point
        )
        assert (acc == true + (node.bias if k0 == 0 else 0)).all()


def test_a_row_sum_is_needed_only_for_odd_zero_points() -> None:
    b = Builder(0, DType.U8)
    x = b.input((1, 6, 1, 1))
    b.conv(x, 5, weight_zero_point=128)
    b.conv(x, 5, weight_zero_point=131)
    assert [row_sum_coefficient(s) for s in b.steps] == [0, -3]


def test_weight_blocks_are_dense_slices() -> None:
    b = Builder(0, DType.S8)
    b.conv(b.input((1, 8, 4, 4)), 6, (3, 3), pads=(1, 1, 1, 1))
    node = b.steps[0]
    block = np.frombuffer(weight_block(node, 2, 3, 4, 2), np.int8).reshape(3, 2, 3, 3)
    assert (block == node.weight[2:5, 4:6]).all()


def test_without_thresholds_no_entry_takes_table_space() -> None:
    b = Builder(3, DType.U8)
    b.conv(b.input((1, 40, 4, 4)), 30)
    assert len(requant_plan(b.steps[0], True, True, False).thresholds) == 0
