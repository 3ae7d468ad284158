"""Bad input: each the right exit code, one error block with a code that `fvc explain` knows, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.catalog import CATALOG
from tests.cli.commands import EXAMPLES, ROOT, Outcome, fvc
from tests.cli.models import conv_model, finish, save

DIGITS = EXAMPLES / "digits.onnx"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder: what a run leaves behind is seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(found: Outcome, folder: Path, *, code: int = 2, families: str = "", says: str = "") -> str:
    """Asserts a clean refusal; returns its error code."""
    assert found.code == code, found.err
    assert found.out == ""
    assert "Traceback" not in found.err
    name = found.error_code
    assert name in CATALOG
    assert not families or name[3] in families, found.err
    assert says in found.err
    assert sorted(p.name for p in folder.iterdir() if p.suffix not in (".onnx", ".toml", ".npz", ".bin")) == []
    return name


def partition(model: Path, *options: str | Path, devices: str = "u280") -> Outcome:
    return fvc("partition", model, "--devices", devices, "-o", "bundle", "--frames", "2", *options)


@pytest.mark.parametrize("content", [b"", b"not a model", DIGITS.read_bytes()[:20_000], DIGITS.read_bytes()[:-1]])
def test_an_empty_or_truncated_model(folder: Path, content: bytes) -> None:
    (folder / "m.onnx").write_bytes(content)
    refused(partition(folder / "m.onnx"), folder, families="1")


def test_a_missing_model(folder: Path) -> None:
    refused(partition(folder / "missing.onnx"), folder, families="01", says="missing.onnx")


def test_a_folder_for_a_model(folder: Path) -> None:
    (folder / "d.onnx").mkdir()
    refused(partition(folder / "d.onnx"), folder, families="01")


@pytest.mark.parametrize("shape", [("N", 3, 16, 16), (1, 3, "H", "W")])
def test_a_dynamic_shape_asks_for_one_and_then_works(folder: Path, shape: tuple[int | str, ...]) -> None:
    model = save(conv_model(shape), folder / "m.onnx")
    refused(partition(model), folder, families="1", says="--shape x=")
    assert partition(model, "--shape", "x=1,3,16,16").code == 0


def test_a_shape_for_an_input_that_is_not_there(folder: Path) -> None:
    refused(partition(DIGITS, "--shape", "picture=1,1,8,8"), folder, families="1", says="picture")


@pytest.mark.parametrize("devices", ["u281", "u280x0", "u280x", "", "u280+", "missing.toml"])
def test_an_unknown_device(folder: Path, devices: str) -> None:
    refused(partition(DIGITS, devices=devices), folder, families="5")


def test_an_unsupported_operator_in_the_middle_is_a_host_segment_with_its_reason(folder: Path) -> None:
    model = save(conv_model(middle="Softmax"), folder / "m.onnx")
    found = partition(model, "--format", "json")
    assert found.code == 0, found.err
    (segment,) = [s for s in found.document["host_segments"] if "middle" in s["nodes"]]
    assert "Softmax" in segment["reason"]
    assert found.document["verification"]["mismatches"] == 0


def test_a_graph_without_any_engine_layer(folder: Path) -> None:
    model = finish([helper.make_node("Softplus", ["x"], ["y"], name="only")], [], (1, 8), "y")
    refused(partition(save(model, folder / "m.onnx")), folder, code=1, families="2", says="only")


def test_a_nan_weight(folder: Path) -> None:
    weight = np.zeros((8, 3, 3, 3), np.float32)
    weight[1, 2, 0, 1] = np.nan
    refused(partition(save(conv_model(weight=weight), folder / "m.onnx")), folder, families="1", says="w0")


def test_external_data_outside_the_folder_of_the_model(folder: Path) -> None:
    inside = folder / "models"
    (folder / "secret.bin").write_bytes(bytes(8 * 3 * 9 * 4))
    inside.mkdir()
    model = conv_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    path = save(model, inside / "m.onnx")
    found = fvc("partition", path, "--devices", "u280", "-o", inside / "bundle")
    assert found.code == 2
    assert found.error_code in CATALOG and found.error_code.startswith("FVC1")
    assert [p.name for p in inside.iterdir()] == ["m.onnx"]


def test_external_data_inside_the_folder_works(folder: Path) -> None:
    onnx.save_model(
        conv_model(), str(folder / "m.onnx"), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    assert partition(folder / "m.onnx").code == 0


def test_calibration_and_evaluation_files_that_do_not_fit(folder: Path) -> None:
    np.savez(folder / "d.npz", picture=np.zeros((1, 1, 8, 8), np.float32))
    for option in ("--calibrate", "--eval"):
        refused(partition(DIGITS, option, folder / "d.npz"), folder, families="01", says="picture")
        refused(partition(DIGITS, option, folder / "missing.npz"), folder, families="01", says="missing.npz")


@pytest.mark.parametrize(
    "options",
    [
        ("--anchor", "no-such-layer=u280-0/SLR0"),
        ("--anchor", "/conv1=u280-7/SLR0"),
        ("--host-profile", "missing.json"),
        ("--locked", "missing.json"),
        ("--time-limit", "-1"),
        ("--time-limit", "nan"),
        ("--time-limit", "inf"),
        ("--target-fps", "0"),
        ("--target-fps", "nan"),
        ("--max-latency-ms", "inf"),
        ("--seed", "-1"),
        ("--seed", "99999999999999999999"),
        ("--anchor", "/conv1=u280-0/SLR0", "--anchor", "/conv1=u280-0/SLR1"),
        ("--clock", "9999999"),
        ("--clock", "inf"),
    ],
)
def test_options_that_name_what_is_not_there(folder: Path, options: tuple[str, ...]) -> None:
    refused(partition(DIGITS, *options), folder)


def test_a_measured_time_of_no_host_segment(folder: Path) -> None:
    (folder / "profile.toml").write_text('{"segments_ns": {"host7": 1000}}')
    refused(partition(DIGITS, "--host-profile", folder / "profile.toml"), folder, families="0", says="host7")


def test_a_host_profile_nested_beyond_reason(folder: Path) -> None:
    for text, says in (("[" * 100_000, "not JSON"), ('{"segments_ns": {"host0": 1' + 30 * "0" + "}}", "up to")):
        (folder / "profile.toml").write_text(text)
        refused(partition(DIGITS, "--host-profile", folder / "profile.toml"), folder, families="0", says=says)


def test_accuracy_of_a_model_that_onnx_runtime_cannot_run(folder: Path) -> None:
    """An operator set that is newer than the runtime's: the import turns it down, the file itself has no judge."""
    np.savez(folder / "data.npz", x=np.zeros((1, 3, 16, 16), np.float32))
    model = conv_model((1, 3, 16, 16))
    model.opset_import[0].version = onnx.defs.onnx_opset_version()
    found = partition(save(model, folder / "m.onnx"), "--eval", folder / "data.npz")
    assert refused(found, folder) == "FVC005"


def test_accuracy_of_a_low_bit_model(folder: Path) -> None:
    """qonnx's answer on its frame is what the model gives, before and after."""
    path = ROOT / "tests" / "data" / "qonnx" / "conv_w1a2.onnx"
    known = dict(np.load(path.with_suffix(".npz")))
    (answer,) = (v for k, v in known.items() if k.startswith("out:"))
    np.savez(folder / "data.npz", x=known["in:x"], labels=np.asarray([answer.argmax()]))
    found = partition(path, "--style", "streaming", "--no-verify", "--eval", folder / "data.npz")
    assert found.code == 0, found.err
    assert "accuracy 100.0 % before, 100.0 % after" in found.out + (folder / "bundle" / "report.md").read_text()


@pytest.mark.parametrize("text", [b"", b"no archive"])
def test_a_calibration_file_that_is_none_is_refused_for_quantised_models_too(folder: Path, text: bytes) -> None:
    (folder / "data.npz").write_bytes(text)
    model = ROOT / "tests" / "data" / "qonnx" / "conv_w1a2.onnx"
    found = partition(model, "--style", "streaming", "--calibrate", folder / "data.npz")
    assert refused(found, folder, families="0", says="data.npz") == "FVC007"


@pytest.mark.parametrize("options", [("--target-fps", "1e12"), ("--max-latency-ms", "0.0000001")])
def test_demands_that_cannot_be_met_are_an_infeasibility_report(folder: Path, options: tuple[str, ...]) -> None:
    refused(partition(DIGITS, *options), folder, code=1, families="2")


def test_a_layer_too_large_for_any_die_is_an_infeasibility_report(folder: Path) -> None:
    weight = numpy_helper.from_array(np.ones((1, 1, 1, 2_000_000), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="wide")
    model = save(finish([node], [weight], (1, 1, 1, 2_000_100), "y"), folder / "m.onnx")
    found = partition(model, devices="pynq-z2")
    assert refused(found, folder, code=1, families="2", says="'wide'") == "FVC203"
    assert "needed" in found.err and "available" in found.err and "help:" in found.err


def test_an_output_that_is_in_the_way(folder: Path) -> None:
    (folder / "bundle").mkdir()
    (folder / "bundle" / "thesis.txt").write_text("years of work")
    found = partition(DIGITS)
    assert (found.code, found.error_code) == (2, "FVC003")
    assert [p.name for p in (folder / "bundle").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("delay", [1.0, 4.0])
def test_an_interrupted_run_leaves_the_old_bundle(folder: Path, delay: float) -> None:
    old = folder / "bundle"
    old.mkdir()
    (old / "manifest.json").write_text("the old one")
    words = [
        sys.executable,
        "-m",
        "fvc",
        "partition",
        str(DIGITS),
        "--devices",
        "u280x4",
        "-o",
        str(old),
        "--frames",
        "3000",
    ]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (out, "Traceback" in err) == ("", False)
    assert [p.name for p in folder.iterdir()] == ["bundle"]
    assert (old / "manifest.json").read_text() == "the old one"


@pytest.mark.parametrize("command", ["verify", "check", "simulate"])
def test_what_is_no_bundle(folder: Path, command: str) -> None:
    refused(fvc(command, folder), folder, families="3")
    refused(fvc(command, folder / "missing"), folder, families="0")


def test_a_binary_that_is_none(folder: Path) -> None:
    (folder / "x.bin").write_bytes(b"FVCB but not really")
    refused(fvc("inspect", folder / "x.bin"), folder, families="3")
    refused(fvc("inspect", folder / "missing.bin"), folder, families="0")


def test_no_write_permission(folder: Path) -> None:
    if os.geteuid() == 0:
        folder = Path("/proc")  # nobody can make a folder here, root included
    found = fvc("partition", DIGITS, "--devices", "u280", "-o", folder / "bundle")
    if os.geteuid() != 0:
        return
    assert (found.code, found.error_code) == (2, "FVC003")
