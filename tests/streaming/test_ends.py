"""Streams with odd ends: a result that nobody reads, a tensor that one layer reads twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend import ImportOptions, load_model
from compiler.partition.mixed.part import offers_of
from compiler.partition.options import PartitionOptions
from device_db import load_cluster
from tests.partition.whole_way import run
from tests.streaming.helpers import FAST_HOST


def test_a_result_that_nobody_reads_ends_at_the_host(tmp_path: Path) -> None:
    """The second half of a Split is made and read by nothing."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 4, 1, 1)), "v": rng.standard_normal((4, 2, 1, 1))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="c"),
        helper.make_node("Split", ["c"], ["a", "b"], name="s", axis=1, num_outputs=2),
        helper.make_node("Conv", ["a", "v"], ["y"], name="d"),
    ]
    shaped = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4, 6, 6]) for n in ("x", "y")]
    held = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    graph = helper.make_graph(nodes, "dead", shaped[:1], shaped[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=2.0)
    model = load_model(tmp_path / "m.onnx", ImportOptions())
    for devices in ("u280", "zcu102x2"):
        run(model, load_cluster(devices), options)
    offered = offers_of(model, load_cluster("u280"), options)  # beside tiled engines no bridge would take it
    assert [name for name, own in offered.items() if own is None] == [n.name for n in model.nodes if n.op == "Split"][
        1:
    ]


def test_a_concatenation_that_reads_a_tensor_twice(tmp_path: Path) -> None:
    shaped = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 6, 6]) for n, c in (("x", 4), ("y", 8))]
    w = numpy_helper.from_array(np.random.default_rng(1).standard_normal((4, 4, 1, 1)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="c"),
        helper.make_node("Concat", ["c", "c"], ["y"], name="k", axis=1),
    ]
    graph = helper.make_graph(nodes, "twice", shaped[:1], shaped[1:], [w])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=2.0)
    run(load_model(tmp_path / "m.onnx", ImportOptions()), load_cluster("u280"), options)
