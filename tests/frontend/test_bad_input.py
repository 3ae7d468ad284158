"""Broken and unusual files: each its own error code and a hint, never a traceback; unusual but valid ones work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.frontend import ImportOptions, load_model, load_proto, zoo
from compiler.frontend.quantize import quantize_model
from device_db.errors import FvcError
from tests.frontend.judge import assert_exact, engine_ops
from tests.frontend.models import model, weights


def error(path: Path, options: ImportOptions | None = None) -> FvcError:
    with pytest.raises(FvcError) as caught:
        load_model(path, options or ImportOptions())
    assert caught.value.exit_code == 2
    return caught.value


def save(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def conv_model(shape: tuple[int | str, ...] = (1, 3, 8, 8), **kwargs: Any) -> onnx.ModelProto:
    return model([("Conv", ["x", "w"], ["y"], {})], {"x": shape}, ["y"], {"w": weights(4, 3, 3, 3)}, **kwargs)


def test_missing_file(tmp_path: Path) -> None:
    assert error(tmp_path / "none.onnx").code == "FVC101"
    assert error(tmp_path).code == "FVC101"


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e.onnx").write_bytes(b"")
    assert error(tmp_path / "e.onnx").code == "FVC102"


def test_not_onnx(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    assert error(tmp_path / "n.onnx").code == "FVC102"


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.99])
def test_truncated(tmp_path: Path, share: float) -> None:
    raw = zoo.build("tiny").SerializeToString()
    path = tmp_path / "t.onnx"
    path.write_bytes(raw[: int(len(raw) * share)])
    assert error(path).code in ("FVC102", "FVC105", "FVC108")


def test_truncated_anywhere_never_raises_anything_else(tmp_path: Path) -> None:
    raw = conv_model().SerializeToString()
    path = tmp_path / "t.onnx"
    for cut in range(1, len(raw), 7):
        path.write_bytes(raw[:cut])
        error(path)


def test_nan_weight_names_its_node(tmp_path: Path) -> None:
    w = weights(4, 3, 3, 3)
    w[1, 2, 0, 0] = np.nan
    found = error(save(tmp_path, model([("Conv", ["x", "w"], ["y"], {})], {"x": (1, 3, 8, 8)}, ["y"], {"w": w})))
    assert found.code == "FVC106"
    assert "n0" in found.block() and "'w'" in found.block()


def test_inf_weight(tmp_path: Path) -> None:
    w = weights(4, 3, 3, 3)
    w[0, 0, 0, 0] = -np.inf
    assert (
        error(save(tmp_path, model([("Conv", ["x", "w"], ["y"], {})], {"x": (1, 3, 8, 8)}, ["y"], {"w": w}))).code
        == "FVC106"
    )


@pytest.mark.parametrize("shape", [("N", 3, 8, 8), (1, 3, "H", "W"), (0, 3, 8, 8)])
def test_dynamic_shape_asks_and_then_works(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    path = save(tmp_path, conv_model(shape))
    found = error(path)
    assert found.code == "FVC103"
    assert "--shape x=" in found.block()
    graph = load_model(path, ImportOptions(shapes={"x": (2, 3, 8, 8) if shape[0] in ("N", 0) else (1, 3, 8, 8)}))
    assert_exact(graph)


def test_unknown_rank(tmp_path: Path) -> None:
    proto = conv_model()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    path = save(tmp_path, proto)
    assert error(path).code == "FVC103"
    assert_exact(load_model(path, ImportOptions(shapes={"x": (1, 3, 8, 8)})))


@pytest.mark.parametrize("shapes", [{"q": (1, 3, 8, 8)}, {"x": (1, 3, 8)}, {"x": (1, 4, 8, 8)}, {"x": (1, 3, 0, 8)}])
def test_shape_that_does_not_fit(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    assert error(save(tmp_path, conv_model((1, 3, "H", "W"))), ImportOptions(shapes=shapes)).code == "FVC104"


def test_shape_that_the_model_cannot_run(tmp_path: Path) -> None:
    path = save(tmp_path, conv_model((1, 3, "H", "W")))
    assert error(path, ImportOptions(shapes={"x": (1, 3, 2, 2)})).code in ("FVC105", "FVC111")


def external(folder: Path, location: str, **keys: str) -> Path:
    proto = conv_model()
    t = proto.graph.initializer[0]
    raw = numpy_helper.to_array(t).tobytes()
    t.ClearField("raw_data")
    t.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **keys}.items():
        entry = t.external_data.add()
        entry.key, entry.value = key, value
    inside = folder / "model"
    inside.mkdir()
    (inside / "data.bin").write_bytes(raw)
    (folder / "secret.bin").write_bytes(raw)
    path = inside / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_external_data_inside(tmp_path: Path) -> None:
    assert_exact(load_model(external(tmp_path, "data.bin")))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "", "sub/../../secret.bin"])
def test_external_data_outside(tmp_path: Path, location: str) -> None:
    found = error(external(tmp_path, location))
    assert found.code == "FVC107" and "outside" in found.what


def test_external_data_by_a_link_outside(tmp_path: Path) -> None:
    path = external(tmp_path, "link.bin")
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    assert error(path).code == "FVC107"


@pytest.mark.parametrize(
    "keys",
    [{"location": "none.bin"}, {"location": "data.bin", "length": "100000"}, {"location": "data.bin", "offset": "x"}],
)
def test_external_data_missing_or_short(tmp_path: Path, keys: dict[str, str]) -> None:
    assert error(external(tmp_path, **keys)).code == "FVC107"


def test_external_data_in_a_big_tensor_of_wrong_size(tmp_path: Path) -> None:
    assert error(external(tmp_path, "data.bin", length="16")).code == "FVC102"


def test_no_outputs(tmp_path: Path) -> None:
    proto = conv_model()
    del proto.graph.output[:]
    assert error(save(tmp_path, proto)).code == "FVC105"


def test_output_never_made(tmp_path: Path) -> None:
    proto = conv_model()
    proto.graph.output[0].name = "nowhere"
    assert error(save(tmp_path, proto)).code == "FVC105"


def test_cycle(tmp_path: Path) -> None:
    proto = model([("Add", ["x", "b"], ["a"], {}), ("Relu", ["a"], ["b"], {})], {"x": (1, 4)}, ["b"])
    assert error(save(tmp_path, proto)).code == "FVC105"


def test_undefined_tensor(tmp_path: Path) -> None:
    assert error(save(tmp_path, model([("Add", ["x", "q"], ["y"], {})], {"x": (1, 4)}, ["y"]))).code == "FVC105"


def test_tensor_made_twice(tmp_path: Path) -> None:
    proto = model([("Relu", ["x"], ["y"], {}), ("Neg", ["x"], ["y"], {})], {"x": (1, 4)}, ["y"])
    assert error(save(tmp_path, proto)).code == "FVC105"


def test_unknown_operator(tmp_path: Path) -> None:
    assert error(save(tmp_path, model([("Conf", ["x"], ["y"], {})], {"x": (1, 4)}, ["y"]))).code == "FVC105"


def test_operator_of_an_unknown_domain(tmp_path: Path) -> None:
    proto = conv_model()
    proto.graph.node.append(helper.make_node("Magic", ["y"], ["z"], name="magic", domain="acme"))
    proto.graph.output[0].name = "z"
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    found = error(save(tmp_path, proto))
    assert found.code == "FVC111"


def test_missing_opset(tmp_path: Path) -> None:
    proto = conv_model()
    del proto.opset_import[:]
    assert error(save(tmp_path, proto)).code == "FVC108"


def test_ancient_opset(tmp_path: Path) -> None:
    proto = model([("Relu", ["x"], ["y"], {"consumed_inputs": [0]})], {"x": (1, 4)}, ["y"], opset=1)
    path = save(tmp_path, proto)
    try:
        load_model(path, ImportOptions())
    except FvcError as e:
        assert e.code == "FVC108"


def test_string_input_is_a_host_matter_or_refused(tmp_path: Path) -> None:
    proto = model([("Identity", ["x"], ["y"], {})], {"x": (1, 4)}, ["y"], elem=TensorProto.STRING)
    with pytest.raises(FvcError) as caught:
        load_proto(proto)
    assert caught.value.code == "FVC109"


def test_damaged_constant(tmp_path: Path) -> None:
    proto = conv_model()
    proto.graph.initializer[0].dims[0] = 5
    assert error(save(tmp_path, proto)).code == "FVC102"


def test_no_engine_layers_is_allowed_and_said() -> None:
    graph = load_proto(model([("Softmax", ["x"], ["y"], {})], {"x": (1, 4)}, ["y"]))
    assert not graph.nodes and len(graph.host_segments) == 1
    assert any("no layer" in f for f in graph.fallbacks)
    assert_exact(graph)


def test_output_that_is_an_input_or_a_constant() -> None:
    graph = load_proto(
        model(
            [("Identity", ["x"], ["y"], {}), ("Identity", ["c"], ["z"], {})],
            {"x": (1, 4)},
            ["y", "z"],
            {"c": weights(3)},
        )
    )
    assert_exact(graph)


def test_names_empty_and_repeated_become_unique_and_stay_stable() -> None:
    proto = zoo.build("tiny")
    for n in proto.graph.node[:4]:
        n.name = ""
    for n in proto.graph.node[4:]:
        n.name = "same"
    first, second = load_proto(proto), load_proto(proto)
    names = [s.name for s in first.steps]
    assert len(set(names)) == len(names)
    assert names == [s.name for s in second.steps]
    assert first.model == second.model


def test_random_calibration_is_loud_and_reproducible(tmp_path: Path) -> None:
    first = load_proto(zoo.build("tiny"), ImportOptions(seed=3))
    assert any("RANDOM DATA" in f for f in first.fallbacks)
    assert first.model == load_proto(zoo.build("tiny"), ImportOptions(seed=3)).model
    assert first.model != load_proto(zoo.build("tiny"), ImportOptions(seed=4)).model


def test_calibration_file(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, input=np.random.default_rng(0).random((5, 3, 16, 16), np.float32))
    graph = load_proto(zoo.build("tiny"), ImportOptions(calibrate=path))
    assert not graph.fallbacks
    assert_exact(graph)


@pytest.mark.parametrize(
    "content",
    [
        {"other": np.zeros((2, 3, 16, 16), np.float32)},
        {"input": np.zeros((2, 3, 9, 9), np.float32)},
        {"input": np.full((1, 3, 16, 16), np.nan, np.float32)},
    ],
)
def test_calibration_file_that_does_not_fit(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, **content)
    with pytest.raises(FvcError):
        load_proto(zoo.build("tiny"), ImportOptions(calibrate=path))


def test_model_older_than_13_is_upgraded() -> None:
    nodes = [
        ("Pad", ["x"], ["p"], {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}),
        ("Conv", ["p", "w"], ["a"], {}),
        ("Clip", ["a"], ["b"], {"min": 0.0, "max": 6.0}),
        ("Upsample", ["b", "s"], ["c"], {"mode": "nearest"}),
        ("Slice", ["c"], ["d"], {"starts": [0], "ends": [6], "axes": [2]}),
        ("ReduceMean", ["d"], ["e"], {"axes": [2, 3], "keepdims": 1}),
        ("Squeeze", ["e"], ["f"], {"axes": [2, 3]}),
        ("Dropout", ["f"], ["g"], {"ratio": 0.4}),
        ("Softmax", ["g"], ["y"], {"axis": 1}),
    ]
    proto = model(
        nodes,
        {"x": (1, 3, 6, 6)},
        ["y"],
        {"w": weights(4, 3, 3, 3), "s": np.asarray([1, 1, 2, 2], np.float32)},
        opset=9,
    )
    graph = load_proto(proto)
    assert {"QLinearConv", "Resize", "Slice", "QLinearGlobalAveragePool"} <= set(engine_ops(graph))
    assert_exact(graph)


def test_half_precision_model() -> None:
    w = weights(4, 3, 3, 3).astype(np.float16)
    proto = model([("Conv", ["x", "w"], ["y"], {})], {"x": (1, 3, 8, 8)}, ["y"], {"w": w}, elem=TensorProto.FLOAT16)
    graph = load_proto(proto)
    assert engine_ops(graph) == ["QLinearConv"]
    assert any("float32" in f for f in graph.fallbacks)
    assert_exact(graph)


def test_quantize_model_writes_what_imports_to_itself(tmp_path: Path) -> None:
    source, out = save(tmp_path, zoo.build("tiny")), tmp_path / "int.onnx"
    report = quantize_model(source, out, ImportOptions(per_channel=True))
    assert report.fallbacks
    again = tmp_path / "again.onnx"
    assert not quantize_model(out, again, ImportOptions()).fallbacks
    assert out.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.onnx", "int.onnx", "m.onnx"]


def test_unknown_architecture() -> None:
    with pytest.raises(FvcError) as caught:
        zoo.build("resnet5")
    assert caught.value.code == "FVC112" and "resnet50" in caught.value.block()


def branches(opset: int) -> onnx.ModelProto:
    """A convolution, then If: one branch captures the convolution's result."""
    info = helper.make_tensor_value_info("r", TensorProto.FLOAT, None)
    then = helper.make_graph([helper.make_node("Relu", ["c"], ["r"])], "then", [], [info])
    other = helper.make_graph([helper.make_node("Neg", ["c"], ["r"])], "else", [], [info])
    proto = model(
        [("Conv", ["x", "w"], ["c"], {})], {"x": (1, 3, 8, 8)}, ["y"], {"w": weights(4, 3, 3, 3)}, opset=opset
    )
    proto.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    proto.graph.node.append(helper.make_node("If", ["flag"], ["y"], name="if", then_branch=then, else_branch=other))
    return proto


@pytest.mark.parametrize("opset", [11, 17])
def test_subgraphs_run_on_the_host(opset: int) -> None:
    graph = load_proto(branches(opset))
    assert engine_ops(graph) == ["QLinearConv"]
    assert any("If" in s.reason for s in graph.host_segments)
    assert_exact(graph)


def test_minus_infinity_in_a_mask_is_no_damage() -> None:
    mask = np.asarray([[0, -np.inf, 0, 0]], np.float32)
    nodes = [("MatMul", ["x", "w"], ["a"], {}), ("Add", ["a", "m"], ["b"], {}), ("Softmax", ["b"], ["y"], {})]
    graph = load_proto(model(nodes, {"x": (2, 6)}, ["y"], {"w": weights(6, 4), "m": mask}))
    assert engine_ops(graph) == ["QLinearMatMul"]
    assert_exact(graph)


def test_model_newer_than_the_runtime_is_brought_down_or_refused() -> None:
    proto = conv_model()
    proto.opset_import[0].version = onnx.defs.onnx_opset_version()
    assert_exact(load_proto(proto))
    proto.opset_import[0].version = 999
    with pytest.raises(FvcError) as caught:
        load_proto(proto)
    assert caught.value.code == "FVC108"
