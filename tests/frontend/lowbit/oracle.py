"""A QONNX model's integers as the `qonnx` package computes them: from committed files, or from a live interpreter.

The interpreter is named by QONNX_PYTHON. It needs an environment of its own, since qonnx 1.0.0 fails with the
project's onnx:  python3 -m venv E && E/bin/pip install qonnx==1.0.0 onnx==1.19.1 onnxruntime
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compiler.executor.golden import run_graph
from compiler.ir.graph import Graph

Array = np.ndarray[Any, Any]
INTERPRETER = "QONNX_PYTHON"
SCRIPT = Path(__file__).with_name("qonnx_oracle.py")


def execute(model: onnx.ModelProto, inputs: dict[str, Array], folder: Path) -> dict[str, Array]:
    """What qonnx_oracle.py writes for one frame."""
    paths = [folder / "model.onnx", folder / "inputs.npz", folder / "out.npz"]
    onnx.save(model, paths[0])
    np.savez(paths[1], **inputs)
    command = [os.environ[INTERPRETER], "-W", "ignore", str(SCRIPT), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(np.load(paths[2]))


def frame_for(model: onnx.ModelProto, seed: int, scale: float = 1.0) -> dict[str, Array]:
    """A seeded frame; whole numbers from 0 to 255 for an annotated input."""
    i = model.graph.input[0]
    shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
    x = np.random.default_rng(seed).normal(size=shape) * scale
    if any(a.tensor_name == i.name for a in model.graph.quantization_annotation):
        x = np.clip(np.abs(np.rint(x * 60)), 0, 255)
    return {i.name: x.astype(np.float32)}


def compare(graph: Graph, frame: dict[str, Array], expected: dict[str, Array]) -> int:
    """Asserts that every activation's integers are equal, outputs within 1e-5; the number of integers compared.

    Integers are compared without their zero point. A tensor that FINN's channels-last form holds transposed is turned.
    """
    values = run_graph(graph, frame)
    compared = 0
    for key, wanted in expected.items():
        kind, name = key.split(":", 1)
        if kind == "out":
            np.testing.assert_allclose(values[name], wanted, rtol=1e-5, atol=1e-5, err_msg=name)
        elif f"{name}_q" in values:
            np.testing.assert_array_equal(values[f"{name}_q"].astype(np.int64), wanted, err_msg=name)
            compared += wanted.size
        elif f"{name}_early_q" in values:
            turned = values[f"{name}_early_q"].astype(np.int64).transpose(0, 2, 3, 1)
            np.testing.assert_array_equal(turned, wanted, err_msg=name)
            compared += wanted.size
    return compared
