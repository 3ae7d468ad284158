"""Bad problem files: the right code, the place named, no traceback, nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compiler.floorplan.read import read_problem
from device_db.errors import FvcError
from tests.cli.commands import fvc
from tests.floorplan.test_check import fixed, joint

Spoil = Callable[[dict[str, Any]], object]


def spoiled(problem: dict[str, Any], spoil: Spoil) -> dict[str, Any]:
    own: dict[str, Any] = json.loads(json.dumps(problem))  # no two kernels share a list
    spoil(own)
    return own


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda p: p.pop("nodes"), "FVC241", "'nodes' is missing"),
        (lambda p: p.pop("device_set"), "FVC240", "neither"),
        (lambda p: p["nodes"].clear(), "FVC241", "at least 1"),
        (lambda p: p["nodes"][1]["versions"].clear(), "FVC243", "kernel 1 has no version"),
        (lambda p: p["nodes"][1].update(id=0), "FVC242", "listed twice"),
        (lambda p: p["nodes"][1].update(id=9), "FVC242", "1 is missing"),
        (lambda p: p["nodes"][0]["versions"][0].update(LUT=-1), "FVC241", "negative"),
        (lambda p: p["nodes"][0]["versions"][0].update(LUT="4"), "FVC241", "a number is wanted, not a text"),
        (lambda p: p["nodes"][0]["versions"][0].update(LUT=True), "FVC241", "a number is wanted"),
        (lambda p: p["nodes"][0]["versions"][0].update(LUT=float("nan")), "FVC241", "finite"),
        (lambda p: p["nodes"][0]["versions"][0].update(LUT=10**30), "FVC241", "too large"),
        (lambda p: p["nodes"][0]["versions"][0].update(ALM=1), "FVC241", "no slot has the resource 'ALM'"),
        (lambda p: p["edges"][0].update(dst=7), "FVC242", "no kernel 7"),
        (lambda p: p["edges"][0].pop("wires"), "FVC241", "'wires' is missing"),
        (lambda p: p["abs_anchors"].append([0, [99]]), "FVC242", "no slot 99"),
        (lambda p: p["rel_anchors"].append([0]), "FVC241", "at least 2"),
        (lambda p: p["device_set"]["connections"][0].update(cost=-1), "FVC241", "negative"),
        (lambda p: p["device_set"]["connections"][0].update(dst=7), "FVC241", "each ordered pair once"),
        (lambda p: p["device_set"]["connections"][0].update(src=4), "FVC242", "no slot 4"),
        (lambda p: p["device_set"]["limits"].update(ALM=1), "FVC241", "'ALM', which no slot has"),
        (lambda p: p["device_set"].update(slots=[]), "FVC241", "at least 1"),
        (lambda p: p["device_set"].update(slots={}), "FVC241", "a list is wanted"),
    ],
)
def test_fixed_problems(spoil: Spoil, code: str, says: str, tmp_path: Path) -> None:
    _refused(spoiled(fixed(), spoil), code, says, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda p: p["nodes"][0].pop("out_bits"), "FVC241", "'out_bits' is missing"),
        (lambda p: p["nodes"][0]["versions"][0].update(cycles=0), "FVC241", "at least one cycle"),
        (lambda p: p["boundaries"][0].update(kind="bus"), "FVC241", "'sll' or 'link'"),
        (lambda p: p["boundaries"][0].update(between=[0, 2]), "FVC241", "two neighbours"),
        (lambda p: p["boundaries"].append(p["boundaries"][0]), "FVC241", "listed twice"),
        (lambda p: p["boundaries"][1].pop("bits_per_cycle"), "FVC241", "'bits_per_cycle' is missing"),
    ],
)
def test_joint_problems(spoil: Spoil, code: str, says: str, tmp_path: Path) -> None:
    _refused(spoiled(joint(), spoil), code, says, tmp_path)


def _refused(problem: dict[str, Any], code: str, says: str, folder: Path) -> None:
    path = folder / "p.json"
    path.write_text(json.dumps(problem))
    with pytest.raises(FvcError) as caught:
        read_problem(path)
    assert caught.value.code == code
    assert caught.value.exit_code == 2
    assert says in caught.value.block()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 5000, '{"cases": []}'])
def test_files_that_are_no_problem(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    found = fvc("floorplan", path, "-o", tmp_path / "out.json")
    assert found.code == 2
    assert found.error_code in ("FVC240", "FVC241")
    assert not (tmp_path / "out.json").exists()


def test_the_command_writes_what_it_says(tmp_path: Path) -> None:
    path, out = tmp_path / "p.json", tmp_path / "out.json"
    path.write_text(json.dumps(fixed()))
    found = fvc("floorplan", path, "-o", out, "--format", "json")
    assert found.code == 0, found.err
    assert json.loads(out.read_text()) == found.document
    assert found.document["schema"] == "fvc.floorplan/1"
    assert found.document["objective"] == found.document["bound"] == 1
    assert found.document["assignment"][2][0] == 8


@pytest.mark.parametrize("limit", ["inf", "nan"])
def test_a_time_limit_that_never_comes(limit: str, tmp_path: Path) -> None:
    path, out = tmp_path / "p.json", tmp_path / "out.json"
    path.write_text(json.dumps(fixed()))
    found = fvc("floorplan", path, "-o", out, "--time-limit", limit)
    assert (found.code, found.error_code, found.out, out.exists()) == (2, "FVC001", "", False)


def test_a_missing_folder_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps(fixed()))
    found = fvc("floorplan", tmp_path / "p.json", "-o", tmp_path / "none" / "out.json")
    assert (found.code, found.error_code, found.out) == (2, "FVC003", "")


def test_a_file_of_several_keeps_its_shape(tmp_path: Path) -> None:
    path, out = tmp_path / "p.json", tmp_path / "out.json"
    path.write_text(json.dumps({"cases": [fixed(), joint()]}))
    assert fvc("floorplan", path, "-o", out).code == 0
    assert [c["kind"] for c in json.loads(out.read_text())["cases"]] == ["floorplan", "joint"]


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (lambda p: [v.update(LUT=9) for v in p["nodes"][1]["versions"]], "FVC250", "LUT over budget on slot"),
        (lambda p: [v.update(LUT=8, DSP=0) for n in p["nodes"] for v in n["versions"]], "FVC251", "no placement"),
        (lambda p: [s["capacity"].update(LUT=4) for s in p["device_set"]["slots"][1:]], "FVC250", "slots together"),
        (lambda p: p["abs_anchors"].extend([[1, [7]], [1, [8]]]), "FVC251", "exclude each other"),
    ],
)
def test_infeasible_is_a_report(spoil: Spoil, code: str, says: str, tmp_path: Path) -> None:
    path, out = tmp_path / "p.json", tmp_path / "out.json"
    problem = spoiled(fixed(), spoil)
    if "together" in says:
        for node in problem["nodes"]:
            node["versions"] = [{"LUT": 3, "DSP": 0}] * 2
        problem["nodes"] += [{"id": i, "versions": [{"LUT": 3}]} for i in (3, 4)]
    path.write_text(json.dumps(problem))
    found = fvc("floorplan", path, "-o", out)
    assert found.code == 1, found.err
    assert found.error_code == code
    assert says in found.err
    assert "help:" in found.err
    assert not out.exists()


def test_an_amount_that_is_said_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(fixed()).replace('"LUT":', '"LUT": 1, "LUT":', 1))
    with pytest.raises(FvcError, match="'LUT' is there twice") as caught:
        read_problem(path)
    assert caught.value.code == "FVC240"
