"""Layers whose extents do not stand in the 16-bit fields of one instruction are cut, and stay exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from compiler.pipeline import CompileOptions, compile_model
from tests.frontend.models import NodeSpec, model, weights


def matmul(rows: int, k: int, m: int) -> tuple[list[NodeSpec], tuple[int, ...], np.ndarray]:
    return [("MatMul", ["x", "w"], ["y"], {})], (1, rows, k), weights(k, m)


CASES = {
    "taps": matmul(2, 70_000, 2),
    "results": matmul(2, 1, 70_000),
    "rows": matmul(70_000, 1, 2),
    "columns": (
        [("Conv", ["x", "w"], ["c"], {}), ("MaxPool", ["c"], ["y"], {"kernel_shape": [1, 2]})],
        (1, 1, 1, 70_000),
        weights(1, 1, 1, 2),
    ),
    "channels": (
        [("Conv", ["x", "w"], ["c"], {"group": 66_000}), ("GlobalAveragePool", ["c"], ["y"], {})],
        (1, 66_000, 1, 2),
        weights(66_000, 1, 1, 1),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_extents_beyond_a_field(name: str, tmp_path: Path) -> None:
    nodes, shape, w = CASES[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, {"x": shape}, ["y"], {"w": w}).SerializeToString())
    found = compile_model(path, CompileOptions("u280", frames=1))
    assert found.verification is not None
    assert found.verification.passed


def test_accumulators_that_wrap_do_so_alike(tmp_path: Path) -> None:
    constants = {
        "xs": np.float32(0.1), "xz": np.uint8(0), "w": np.full((70_000, 2), 255, np.uint8), "ws": np.float32(0.1),
        "wz": np.uint8(0), "ys": np.float32(1e5), "yz": np.uint8(0),
    }  # fmt: skip
    nodes: list[NodeSpec] = [("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], {})]
    path = tmp_path / "m.onnx"
    proto = model(nodes, {"x": (1, 70_000)}, ["y"], constants, elem=TensorProto.UINT8)
    path.write_bytes(proto.SerializeToString())
    found = compile_model(path, CompileOptions("zcu102", frames=2))
    assert found.verification is not None
    assert found.verification.passed
