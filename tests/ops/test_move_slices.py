"""Slices of a concatenation with a table for every input: each loads just the tables that it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.partition.options import PartitionOptions
from compiler.pipeline import CompileOptions, compile_model
from tests.frontend.models import NodeSpec, model, weights


@pytest.mark.parametrize("inputs", [3, 12])
def test_a_split_concatenation_with_tables(inputs: int, tmp_path: Path) -> None:
    nodes: list[NodeSpec] = []
    constants = {}
    for k in range(inputs):
        nodes.append(("Conv", ["x", f"w{k}"], [f"c{k}"], {}))
        constants[f"w{k}"] = weights(32, 8, 1, 1, seed=k) * np.float32(1 + k)
    nodes.append(("Concat", [f"c{k}" for k in range(inputs)], ["t"], {"axis": 1}))
    nodes.append(("Conv", ["t", "v"], ["y"], {}))
    constants["v"] = weights(8, 32 * inputs, 1, 1)
    path = tmp_path / "m.onnx"
    path.write_bytes(model(nodes, {"x": (1, 8, 5, 5)}, ["y"], constants).SerializeToString())
    options = CompileOptions("u280", partition=PartitionOptions(force_split=(("Pm", 2),)), frames=1)
    found = compile_model(path, options)
    assert any(layer.op == "QLinearConcat" and len(layer.slices) == 2 for layer in found.plan.layers)
    assert found.verification is not None
    assert found.verification.passed
