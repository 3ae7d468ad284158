"""The published cases: never worse than the peer and the reference, proved, in the whole command's time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compiler.floorplan.budget import Settings
from compiler.floorplan.problem import Case
from compiler.floorplan.read import read_problem
from compiler.floorplan.solve import solve

DATA = Path(__file__).parent.parent / "data" / "floorplan"


def load(file: str) -> tuple[dict[str, dict[str, Any]], dict[str, Case]]:
    raw = {c["name"]: c for c in json.loads((DATA / file).read_text())["cases"]}
    return raw, {c.name: c for c in read_problem(DATA / file)[0]}


FIXED = [
    "c20_u250x1", "c40_u250x1", "c40_u280x2", "r40_u280x1", "c80_u250x1", "r80_u280x2", "r80_u250x1", "c160_u280x4",
]  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_never_worse_than_peer_and_reference(name: str) -> None:
    raw, cases = load("floorplan_cases.json")
    answer = solve(cases[name], Settings())
    others = [raw[name][k].get("objective") for k in ("peer", "reference")]
    assert answer.status == "OPTIMAL"
    assert answer.objective is not None
    assert all(o is None or answer.objective <= o for o in others)
    if raw[name]["reference"]["status"] == "Optimal":
        assert answer.objective == raw[name]["reference"]["objective"]


def test_joint_60_on_12_is_proven() -> None:
    raw, cases = load("joint_cases.json")
    answer = solve(cases["j60_d12_s0"], Settings())
    assert answer.status == "OPTIMAL"
    assert answer.objective is not None
    assert answer.objective <= raw["j60_d12_s0"]["prototype"]["T"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gap"), [("j60_d4_s0", 0.01), ("j150_d12_s0", 0.01)])
def test_joint_gaps(name: str, gap: float) -> None:
    raw, cases = load("joint_cases.json")
    answer = solve(cases[name], Settings())
    assert answer.gap is not None
    assert answer.gap <= gap
    assert answer.objective is not None
    assert answer.objective <= raw[name]["prototype"]["T"]


def test_same_settings_same_answer() -> None:
    _, cases = load("floorplan_cases.json")
    first, second = (solve(cases["c80_u250x1"], Settings(seed=3)) for _ in range(2))
    assert first == second
