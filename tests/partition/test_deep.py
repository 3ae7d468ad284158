"""Nets of more layers than a semaphore counts frames ahead of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.partition.options import PartitionOptions
from compiler.pipeline import CompileOptions, compile_model

LAYERS = 140  # two frames ahead are 280 tokens between the queues of one core


def deep(path: Path) -> Path:
    """A chain of 3x3 convolutions on 4 channels of 6x6, each bounded so that nothing grows."""
    rng = np.random.default_rng(0)
    constants = [numpy_helper.from_array(np.float32(v), k) for k, v in (("lo", -1), ("hi", 1))]
    nodes, x = [], "x"
    for k in range(LAYERS):
        w = rng.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
        w[np.arange(4), np.arange(4), 1, 1] += 0.7
        constants.append(numpy_helper.from_array(w, f"w{k}"))
        nodes.append(helper.make_node("Conv", [x, f"w{k}"], [f"c{k}"], pads=[1] * 4))
        nodes.append(helper.make_node("Clip", [f"c{k}", "lo", "hi"], [f"r{k}"]))
        x = f"r{k}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, (1, 4, 6, 6)) for n in ("x", x)]
    graph = helper.make_graph(nodes, "deep", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("factor", ["Pr", "Pn"])
def test_every_layer_of_a_deep_net_is_cut(factor: str, tmp_path: Path) -> None:
    options = PartitionOptions(objective="latency", force_split=((factor, 2),), time_limit_s=0.2)
    result = compile_model(
        deep(tmp_path / "deep.onnx"), CompileOptions(devices="zcu102x2", partition=options, frames=5)
    )
    assert sum(x.strategy == f"{factor}=2" for x in result.plan.layers) == LAYERS
    assert result.verification is not None
    assert (result.verification.passed, result.verification.mismatches) == (True, 0)
