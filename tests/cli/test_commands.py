"""Every command on the shipped example, from the model to its binaries and back."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from compiler.bundle import MANIFEST, manifest
from tests.cli.commands import EXAMPLES, Outcome, fvc, fvc_process

DIGITS = EXAMPLES / "digits.onnx"
TEST = EXAMPLES / "digits_test.npz"
CALIBRATION = EXAMPLES / "digits_calibration.npz"
Demo = tuple[Path, Outcome]


def _images(folder: Path, count: int = 5) -> Path:
    with np.load(TEST) as data:
        np.savez(folder / "images.npz", image=data["image"][:count])
    return folder / "images.npz"


def _outputs(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as data:
        return {name: data[name] for name in data.files}


def _sign_again(bundle: Path) -> None:
    """Gives the bundle a manifest that fits its files, as somebody would who damages it on purpose."""
    files = {
        p.relative_to(bundle).as_posix(): p.read_bytes()
        for p in bundle.rglob("*")
        if p.is_file() and p.name != MANIFEST
    }
    (bundle / MANIFEST).write_bytes(manifest(files, "0" * 64))


def test_the_demo_is_verified_and_accurate(demo: Demo) -> None:
    document = demo[1].document
    assert document["schema"] == "fvc.partition/1"
    found = document["verification"]
    assert found["passed"] and found["mismatches"] == 0
    assert found["tensors"] >= 8 and found["elements"] > 0
    accuracy = document["accuracy"]
    assert accuracy["samples"] == 500
    assert accuracy["right_before"] >= 475
    assert accuracy["right_after"] >= accuracy["right_before"] - 5


def test_the_bundle_holds_what_it_should(demo: Demo) -> None:
    folder = demo[0]
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {
        "plan.json",
        "cluster.json",
        "manifest.json",
        "model.int.onnx",
        "report.md",
        "report.html",
        "verify.json",
    } <= names
    assert [n for n in names if n.startswith("bin/")]
    listed = {f["name"] for f in json.loads((folder / "manifest.json").read_text())["files"]}
    assert listed == names - {"manifest.json"}


def test_nothing_of_this_machine_is_in_the_bundle(demo: Demo) -> None:
    for path in demo[0].rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for word in (str(EXAMPLES), str(demo[0].parent), os.uname().nodename):
                assert word.encode() not in content, f"{word} in {path.name}"


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    seen = []
    for seed in ("1", "2"):
        folder = tmp_path / f"run {seed}"
        folder.mkdir()
        model = folder / "digits.onnx"
        model.write_bytes(DIGITS.read_bytes())
        environment = os.environ | {"PYTHONHASHSEED": seed}
        words = ("partition", model, "--devices", "u280x4", "-o", folder / "out", "--frames", "2")
        found = fvc_process(*words, env=environment)
        assert found.returncode == 0, found.stderr
        out = folder / "out"
        seen.append({p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()})
    assert seen[0] == seen[1]


def test_run_needs_only_the_binaries_and_agrees_with_onnxruntime(bundle: Path, tmp_path: Path) -> None:
    model = (bundle / "model.int.onnx").read_bytes()
    images = _images(tmp_path)
    assert fvc("run", bundle, "--input", images, "-o", tmp_path / "a.npz").code == 0
    for name in ("plan.json", "model.int.onnx", "verify.json", "report.md", "manifest.json"):
        (bundle / name).unlink()
    found = fvc("run", bundle, "--input", images, "-o", tmp_path / "b.npz", "--format", "json")
    assert found.code == 0, found.err
    assert found.document["frames"] == 5
    first, second = _outputs(tmp_path / "a.npz"), _outputs(tmp_path / "b.npz")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(images) as data:
        wanted = np.concatenate([session.run(["scores"], {"image": x[None]})[0] for x in data["image"]])
    np.testing.assert_array_equal(first["scores"], wanted)
    np.testing.assert_array_equal(second["scores"], wanted)


def test_verify_on_given_inputs_writes_junit(bundle: Path, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ET

    found = fvc(
        "verify", bundle, "--input", _images(tmp_path, 2), "--junit", tmp_path / "junit.xml", "--format", "json"
    )
    assert found.code == 0, found.err
    assert found.document["schema"] == "fvc.verify/1"
    suite = ET.parse(tmp_path / "junit.xml").getroot()
    assert int(suite.attrib["tests"]) == found.document["tensors"]
    assert suite.attrib["failures"] == "0"


def test_verify_says_no_where_the_model_is_another(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.onnx"
    assert fvc("quantize", DIGITS, "-o", other, "--seed", "5").code == 0
    (bundle / "model.int.onnx").write_bytes(other.read_bytes())
    assert fvc("verify", bundle).error_code == "FVC381"
    _sign_again(bundle)
    found = fvc("verify", bundle)
    assert found.code == 1
    assert "differ" in found.out


def test_check_passes_and_finds_damage(bundle: Path) -> None:
    assert fvc("check", bundle).code == 0
    binary = next((bundle / "bin").iterdir())
    data = bytearray(binary.read_bytes())
    data[len(data) // 2] ^= 1
    binary.write_bytes(data)
    found = fvc("check", bundle, "--format", "json")
    assert (found.code, found.document["passed"]) == (1, False)
    assert found.document["findings"][0]["code"] == "FVC381"
    _sign_again(bundle)
    found = fvc("check", bundle, "--format", "json")
    assert (found.code, found.document["passed"]) == (1, False)
    assert found.document["findings"][0]["code"].startswith("FVC3")


def test_check_judges_a_plan_that_was_edited(bundle: Path) -> None:
    path = bundle / "plan.json"
    plan = json.loads(path.read_text())
    plan["layers"][0]["slices"][0]["engine"] = "u280-9/SLR0/0"
    path.write_text(json.dumps(plan))
    _sign_again(bundle)
    found = fvc("check", bundle, "--format", "json")
    assert found.code == 1
    assert any(f["code"].startswith("FVC2") for f in found.document["findings"])


def test_a_locked_plan_gives_the_same_binaries(bundle: Path, tmp_path: Path) -> None:
    words = ("partition", DIGITS, "--devices", "u280x4", "--calibrate", CALIBRATION, "--locked", bundle / "plan.json")
    found = fvc(*words, "-o", tmp_path / "again", "--no-verify")
    assert found.code == 0, found.err
    for path in (bundle / "bin").iterdir():
        assert (tmp_path / "again" / "bin" / path.name).read_bytes() == path.read_bytes()
    assert fvc("diff", bundle, tmp_path / "again", "--exit-code").code == 0


def test_a_locked_plan_tells_what_it_overrules_and_is_held_to_limits(bundle: Path, tmp_path: Path) -> None:
    words = ("partition", DIGITS, "--devices", "u280x4", "--calibrate", CALIBRATION, "--locked", bundle / "plan.json")
    words = (*words, "-o", tmp_path / "out", "--no-verify")
    found = fvc(*words, "--objective", "latency")
    assert found.code == 0
    assert "objective = 'throughput'; 'latency' is ignored" in found.err
    shutil.rmtree(tmp_path / "out")
    for limit, code in (("--target-fps", "FVC204"), ("--max-latency-ms", "FVC205")):
        found = fvc(*words, limit, "1e12" if limit == "--target-fps" else "0.000001")
        assert (found.code, found.error_code) == (1, code)
        assert not (tmp_path / "out").exists()


def test_a_locked_plan_serves_a_model_of_the_same_layers_and_says_so(bundle: Path, tmp_path: Path) -> None:
    """Without the calibration file the same network has other scales: another integer model of the same layers."""
    words = ("partition", DIGITS, "--devices", "u280x4", "--locked", bundle / "plan.json", "-o", tmp_path / "out")
    found = fvc(*words)
    assert found.code == 0, found.err
    said = "the plan was made for a model of the same layers with other contents"
    assert said in found.err and said in (tmp_path / "out" / "plan.json").read_text("utf-8")
    assert said not in (bundle / "plan.json").read_text("utf-8")


def test_a_locked_plan_of_another_model_is_refused(bundle: Path, tmp_path: Path) -> None:
    from tests.cli.models import conv_model, save

    model = save(conv_model(), tmp_path / "m.onnx")
    found = fvc("partition", model, "--devices", "u280x4", "--locked", bundle / "plan.json", "-o", tmp_path / "out")
    assert (found.code, found.error_code) == (2, "FVC281")
    assert not (tmp_path / "out").exists()


def test_diff_of_two_clusters(bundle: Path, tmp_path: Path) -> None:
    words = ("partition", DIGITS, "--devices", "u280", "--calibrate", CALIBRATION, "--no-verify")
    assert fvc(*words, "-o", tmp_path / "one").code == 0
    assert fvc("diff", bundle, tmp_path / "one").code == 0
    found = fvc("diff", bundle, tmp_path / "one", "--exit-code", "--format", "json")
    assert (found.code, found.document["schema"], found.document["same"]) == (1, "fvc.diff/1", False)
    assert fvc("diff", bundle, tmp_path / "one", "--fail-on", "devices<4").code == 1
    assert fvc("diff", bundle, tmp_path / "one", "--fail-on", "devices>4", "--format", "markdown").code == 0
    assert fvc("diff", bundle, bundle / "plan.json", "--exit-code").code == 0


@pytest.mark.parametrize("part", ["--headers", "--disasm", "--folding", "--relocations", "--roofline"])
def test_inspect(demo: Demo, part: str) -> None:
    binary = next((demo[0] / "bin").iterdir())
    told = fvc("inspect", binary, part)
    assert told.code == 0
    assert told.out.startswith(f"device {binary.stem}\n")
    found = fvc("inspect", binary, part, "--format", "json")
    assert found.document["schema"] == "fvc.inspect/1"
    assert part[2:] in found.document


def test_inspect_compares(demo: Demo, tmp_path: Path) -> None:
    binary = max((demo[0] / "bin").iterdir(), key=lambda p: p.stat().st_size)  # one with layers on it
    assert fvc("inspect", binary, "--diff", binary).code == 0
    words = ("partition", DIGITS, "--devices", "u280x4", "--activations", "s8", "--no-verify")
    assert fvc(*words, "-o", tmp_path / "s8").code == 0
    found = fvc("inspect", binary, "--diff", tmp_path / "s8" / "bin" / binary.name)
    assert found.code == 1
    assert found.out.strip()


def test_simulate_stands_beside_the_prediction(demo: Demo, tmp_path: Path) -> None:
    found = fvc("simulate", demo[0], "--trace", tmp_path / "trace.json", "--format", "json")
    assert found.code == 0, found.err
    facts = found.document
    for name in ("interval", "latency"):
        assert facts["predicted"][f"{name}_ns"] * 1000 == pytest.approx(facts[f"{name}_ps"], rel=0.05)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert "predicted" in fvc("simulate", demo[0]).out


def test_quantize_gives_the_integer_model(demo: Demo, tmp_path: Path) -> None:
    found = fvc("quantize", DIGITS, "--calibrate", CALIBRATION, "-o", tmp_path / "q.onnx")
    assert found.code == 0, found.err
    assert (tmp_path / "q.onnx").read_bytes() == (demo[0] / "model.int.onnx").read_bytes()


def test_zoo_lists_and_writes(tmp_path: Path) -> None:
    names = fvc("zoo").out.split()
    assert {"resnet50", "mobilenetv1", "mobilenetv2", "squeezenet1.1", "vgg16", "unet"} <= set(names)
    assert fvc("zoo", "squeezenet1.1", "-o", tmp_path / "s.onnx").code == 0
    assert (tmp_path / "s.onnx").stat().st_size > 1_235_496 * 4
    assert fvc("zoo", "resnet51", "-o", tmp_path / "x.onnx").code == 2
    assert not (tmp_path / "x.onnx").exists()


def test_explain_a_plan_and_a_layer(demo: Demo) -> None:
    assert "limited by" in fvc("explain", demo[0]).out
    layer = json.loads((demo[0] / "plan.json").read_text())["layers"][0]["name"]
    assert layer in fvc("explain", demo[0], layer).out
    assert fvc("explain", demo[0], "no-such-layer").error_code == "FVC006"


def test_random_calibration_is_said_aloud(tmp_path: Path) -> None:
    found = fvc("partition", DIGITS, "--devices", "u280", "--no-verify", "-o", tmp_path / "b")
    assert found.code == 0
    assert "warning" in found.err and "random" in found.err.lower()
    assert "random" in (tmp_path / "b" / "report.md").read_text().lower()


@pytest.mark.parametrize(
    ("name", "content"),
    [("plan.json", b"{}"), ("cluster.json", b"[]"), ("model.int.onnx", b"zz"), ("host/host0.onnx", b"zz")],
)
def test_broken_files_under_repaired_hashes_are_findings(bundle: Path, name: str, content: bytes) -> None:
    import hashlib

    (bundle / name).write_bytes(content)
    manifest = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["name"] == name:
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    if name.startswith("host"):
        found = fvc("simulate", bundle, "--format", "json")
        assert (found.code, found.error_code) == (2, "FVC408")
    else:
        found = fvc("check", bundle, "--format", "json")
        assert (found.code, found.document["passed"]) == (1, False)


@pytest.mark.parametrize("change", [{"files": [{"name": "a\0b", "size": 1, "sha256": ""}]}, {"model_sha256": None}])
def test_a_manifest_that_fvc_never_writes(bundle: Path, change: dict[str, Any]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text()) | change
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    for command in ("check", "verify", "simulate"):
        found = fvc(command, bundle)
        assert (found.code, found.error_code) == (2, "FVC380")
