"""FINN's hardware graphs: read as the layers that they are, against the integers that finn-plus computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.executor.golden import run_graph
from compiler.frontend import load_model, load_proto
from device_db.errors import FvcError
from tests.frontend.judge import assert_exact, engine_ops

DATA = Path(__file__).parents[2] / "data" / "finn" / "hardware"
DOMAIN = "finn.custom_op.fpgadataflow"


@pytest.mark.parametrize("name, least", [("conv_w1a2", 1200), ("residual", 1500)])
def test_integers_equal_those_of_finn(name: str, least: int) -> None:
    graph, data = load_model(DATA / f"{name}.onnx"), dict(np.load(DATA / f"{name}.npz"))
    assert_exact(graph, seeds=1)
    values = run_graph(graph, {k[3:]: v for k, v in data.items() if k.startswith("in:")})
    compared = 0
    for key, wanted in data.items():
        kind, tensor = key.split(":", 1)
        if kind == "out":
            np.testing.assert_allclose(values[tensor], wanted, rtol=1e-5, atol=1e-5)
        for made, perm in ((f"{tensor}_q", (0, 1, 2, 3)), (f"{tensor}_early_q", (0, 2, 3, 1))):
            if kind == "int" and made in values:
                found = values[made].astype(np.int64)
                found = found.transpose(perm) if found.ndim == 4 else found
                off = found.reshape(wanted.shape) - wanted
                assert np.unique(off).size == 1, tensor  # a zero point may stay in
                compared += wanted.size
    assert compared >= least


def test_layers_are_called_as_their_nodes() -> None:
    graph = load_model(DATA / "conv_w1a2.onnx")
    names = [n.name for n in graph.nodes]
    assert [n for n in names if n.startswith(("MVAU", "VVAU"))] == [
        "MVAU_hls_0", "VVAU_hls_0", "MVAU_hls_1", "MVAU_hls_2", "MVAU_hls_3",
    ]  # fmt: skip
    assert engine_ops(graph).count("MaxPool") == 1


def chain(*nodes: onnx.NodeProto, shape: tuple[int, ...], out: str, **constants: object) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "hw",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()],
    )
    note = onnx.TensorAnnotation(tensor_name="x")
    note.quant_parameter_tensor_names.add(key="finn_datatype", value="INT4")
    graph.quantization_annotation.append(note)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def unit(op: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
    domain = DOMAIN + (".hls" if op.endswith("_hls") else ".rtl" if op.endswith("_rtl") else "")
    return helper.make_node(op, inputs, outputs, name=f"{op}_0", domain=domain, **attributes)


def test_streams_pools_and_labels() -> None:
    """Units that the committed graphs do not have, against plain sums."""
    rng = np.random.default_rng(5)
    weight = rng.integers(-2, 3, (4, 6)).astype(np.float32)
    table = np.sort(rng.integers(-9, 9, (6, 3)), axis=1)
    vectors = {"numInputVectors": [1, 4, 4]}
    model = chain(
        unit("StreamingFIFO_rtl", ["x"], ["a"], depth=32),
        unit("MVAU_rtl", ["a", "w", "t"], ["b"], MW=4, MH=6, ActVal=-2, inputDataType="INT4", outputDataType="INT2",
             weightDataType="INT3", **vectors),
        unit("DuplicateStreams_hls", ["b"], ["c", "d"], NumChannels=6, **vectors),
        unit("StreamingDataWidthConverter_hls", ["d"], ["e"]),
        unit("AddStreams_hls", ["c", "e"], ["f"], NumChannels=6, **vectors),
        unit("StreamingMaxPool_hls", ["f"], ["g"], PoolDim=[2, 2], NumChannels=6, ImgDim=[4, 4]),
        unit("GlobalAccPool_hls", ["g"], ["h"], NumChannels=6, numInputVectors=[1, 2, 2]),
        unit("LabelSelect_hls", ["h"], ["y"], Labels=6, K=1, numInputVectors=[1]),
        shape=(1, 4, 4, 4), out="y", w=weight, t=table,
    )  # fmt: skip
    graph = load_proto(model)
    assert_exact(graph, seeds=1)
    x = rng.integers(-8, 8, (1, 4, 4, 4)).astype(np.float32)
    b = (np.einsum("nhwc,cm->nhwm", x, weight)[..., None] >= table).sum(axis=-1) - 2
    pooled = (b + b).reshape(1, 2, 2, 2, 2, 6).max(axis=(2, 4))
    np.testing.assert_array_equal(run_graph(graph, {"x": x})["y"].reshape(-1), pooled.sum(axis=(1, 2)).argmax(axis=-1))
    assert "MatMulThreshold" in engine_ops(graph)


def test_bipolar_products_count_agreements() -> None:
    """Both operands bipolar: a hardware MVAU leaves (dot + MW) / 2, as does XNOR-popcount over 0 and 1."""
    rng = np.random.default_rng(6)
    weight = rng.choice([-1.0, 1.0], (8, 5))
    steps = np.zeros((1, 1))
    model = chain(
        unit("Thresholding_rtl", ["x", "s"], ["a"], NumChannels=8, numSteps=1, outputDataType="BIPOLAR"),
        unit("MVAU_hls", ["a", "w"], ["y"], MW=8, MH=5, noActivation=1, inputDataType="BIPOLAR",
             weightDataType="BIPOLAR", outputDataType="UINT4", numInputVectors=[1]),
        shape=(1, 8), out="y", w=weight, s=steps,
    )  # fmt: skip
    x = rng.integers(-8, 8, (1, 8)).astype(np.float32)
    wanted = (np.where(x >= 0, 1, -1) @ weight + 8) / 2
    np.testing.assert_array_equal(run_graph(load_proto(model), {"x": x})["y"], wanted)


@pytest.mark.parametrize(
    "node, text, lever",
    [
        (unit("StreamingDataflowPartition", ["x"], ["y"], model="part.onnx"), "not known", "take that"),
        (unit("PWPolyF_rtl", ["x"], ["y"]), "not known", "before it is made hardware"),
        (unit("MVAU_hls", ["x", "x"], ["y"], MW=4, MH=2), "weights", "before its weights are written"),
        (unit("VVAU_hls", ["x", "v"], ["y"], Channels=4, Kernel=[3, 3]), "no sliding window", ""),
        (unit("Pool_hls", ["x"], ["y"], Function="MaxPool"), "no sliding window", ""),
        (unit("MVAU_hls", ["x", "w"], ["y"], numInputVectors=[1, 3]), "it reads", ""),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else None,
)
def test_refused(node: onnx.NodeProto, text: str, lever: str) -> None:
    model = chain(node, shape=(1, 2, 2, 4), out="y", v=np.ones((4, 1, 3, 3)), w=np.ones((4, 2)))
    with pytest.raises(FvcError) as caught:
        load_proto(model)
    assert caught.value.code == "FVC122" and text in str(caught.value)
    assert lever in " ".join(caught.value.help)
