"""The judge against hand-made answers: each rule broken once, and the answer that breaks none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compiler.floorplan.check import check
from compiler.floorplan.problem import Answer, FixedCase, JointCase
from compiler.floorplan.read import read_problem


def fixed() -> dict[str, Any]:
    """Three kernels in a row, three slots in a row: 7 -> 8 -> 9."""
    kernel = [{"LUT": 4, "DSP": 0}, {"LUT": 2, "DSP": 3}]
    slots = [{"slot": s, "capacity": {"LUT": 10, "DSP": 4}} for s in (7, 8, 9)]
    link = {"cost": 1, "max_wires": 30, "max_bps": None}
    return {
        "nodes": [{"id": i, "name": f"k{i}", "versions": kernel} for i in range(3)],
        "edges": [{"src": 0, "dst": 1, "wires": 16, "bps": 5}, {"src": 1, "dst": 2, "wires": 16, "bps": 5}],
        "abs_anchors": [[0, [7, 8]]],
        "rel_anchors": [],
        "device_set": {
            "slots": slots,
            "connections": [
                {"src": 7, "dst": 8, **link},
                {"src": 8, "dst": 9, "cost": 10, "max_wires": None, "max_bps": 4},
            ],
            "limits": {"LUT": 0.8},
            "avg_constraints": [{"resources": ["LUT", "DSP"], "limit": 0.5}],
        },
    }


def joint() -> dict[str, Any]:
    """Four kernels on three slots; 40 bits a frame cross at 2*ceil(40/10) = 8 wires each when T is 10."""
    versions = [{"cycles": 10, "LUT": 4}, {"cycles": 20, "LUT": 2}]
    return {
        "nodes": [{"id": i, "out_bits": 40, "versions": versions} for i in range(4)],
        "edges": [{"src": 0, "dst": 1}, {"src": 1, "dst": 2}, {"src": 2, "dst": 3}],
        "slots": [{"slot": s, "capacity": {"LUT": 8}} for s in range(3)],
        "boundaries": [
            {"between": [0, 1], "kind": "sll", "wires": 8},
            {"between": [1, 2], "kind": "link", "bits_per_cycle": 4},
        ],
    }


def families(
    problem: dict[str, Any], placement: list[tuple[int, int]], objective: int, folder: Path, **more: Any
) -> set[str]:
    (folder / "p.json").write_text(json.dumps(problem))
    case = read_problem(folder / "p.json")[0][0]
    assert isinstance(case, FixedCase | JointCase)
    answer = replace(Answer("p", "FEASIBLE", objective, 0, tuple(placement), "", ()), **more)
    return {v.family for v in check(case, answer)}


def test_a_legal_answer_passes(tmp_path: Path) -> None:
    assert families(fixed(), [(0, 0), (0, 0), (1, 0)], 1, tmp_path) == set()


@pytest.mark.parametrize(
    ("placement", "family"),
    [
        ([(0, 0), (0, 0), (0, 0)], "resources"),  # 12 LUT, 8 usable
        ([(0, 1), (0, 1), (1, 0)], "resources"),  # 6 DSP, 4 there
        ([(0, 0), (0, 1), (1, 0)], "average utilisation"),  # 6/10 + 3/4 > 1
        ([(2, 0), (2, 0), (1, 0)], "anchors"),  # kernel 0 may stand on 7 and 8
        ([(1, 0), (0, 0), (0, 0)], "forbidden connections"),  # no 8 -> 7
        ([(0, 0), (1, 0), (2, 0)], "bits a second"),  # 5 over a link of 4
        ([(0, 0), (3, 0), (1, 0)], "assignment"),
        ([(0, 0), (0, 2), (1, 0)], "assignment"),
        ([(0, 0), (0, 0)], "assignment"),
    ],
)
def test_every_rule_of_fixed_kernels(placement: list[tuple[int, int]], family: str, tmp_path: Path) -> None:
    assert family in families(fixed(), placement, 1, tmp_path)


def test_wires_of_a_connection_are_summed(tmp_path: Path) -> None:
    problem = fixed()
    problem["edges"].append({"src": 0, "dst": 2, "wires": 16, "bps": 5})
    assert families(problem, [(0, 0), (0, 0), (1, 0)], 2, tmp_path) == {"wires"}


def test_kernels_that_belong_together(tmp_path: Path) -> None:
    problem = fixed() | {"rel_anchors": [[0, 2]]}
    assert families(problem, [(0, 0), (0, 0), (1, 0)], 1, tmp_path) == {"anchors"}


def test_claims_are_recomputed(tmp_path: Path) -> None:
    placement = [(0, 0), (0, 0), (1, 0)]
    assert families(fixed(), placement, 0, tmp_path) == {"objective"}
    assert families(fixed(), placement, 1, tmp_path, bound=2) == {"bound"}
    assert families(fixed(), placement, 1, tmp_path, status="OPTIMAL") == {"status"}


def test_a_legal_joint_answer_passes(tmp_path: Path) -> None:
    assert families(joint(), [(0, 0), (0, 0), (1, 0), (1, 0)], 10, tmp_path) == set()


@pytest.mark.parametrize(
    ("placement", "objective", "family"),
    [
        ([(0, 0), (0, 0), (0, 0), (1, 0)], 10, "resources"),  # 12 LUT, 8 there
        ([(0, 0), (1, 0), (0, 1), (0, 1)], 20, "wires"),  # two edges cross 0|1
        ([(0, 0), (0, 0), (1, 0), (1, 1)], 10, "objective"),  # the slowest version takes 20
    ],
)
def test_every_rule_of_joint_answers(
    placement: list[tuple[int, int]], objective: int, family: str, tmp_path: Path
) -> None:
    assert family in families(joint(), placement, objective, tmp_path)


def test_transit_is_charged(tmp_path: Path) -> None:
    """An edge from slot 0 to slot 2 crosses both boundaries: the second edge over 1|2 is then one too many."""
    placement = [(0, 0), (2, 0), (1, 0), (1, 0)]
    assert families(joint(), placement, 10, tmp_path) == {"bits a frame"}


def test_a_boundary_that_is_not_listed_is_closed(tmp_path: Path) -> None:
    problem = joint()
    del problem["boundaries"][0]
    assert families(problem, [(0, 0), (0, 0), (1, 0), (1, 0)], 10, tmp_path) == {"forbidden connections"}
