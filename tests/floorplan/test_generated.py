"""Problems like the published ones, other seeds; and the ends of what a problem may be."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks import random_floorplans
from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.least import least
from compiler.floorplan.problem import Answer, FixedCase
from compiler.floorplan.read import read_problem
from compiler.floorplan.solve import solve
from compiler.floorplan.tours import tours
from tests.cli.commands import fvc
from tests.floorplan import generate


def answer_of(problem: dict[str, Any], folder: Path, limit: float) -> Answer:
    path = folder / "p.json"
    path.write_text(json.dumps(problem))
    return solve(read_problem(path)[0][0], Settings(limit=limit))


@pytest.mark.parametrize(
    ("seed", "kernels", "devices", "dies", "chain"),
    [(0, 40, 2, 3, True), (1, 40, 1, 3, False), (2, 80, 1, 4, True), (3, 80, 2, 3, False), (5, 80, 1, 4, False)],
)
def test_fixed_kernels_are_proved_in_seconds(
    seed: int, kernels: int, devices: int, dies: int, chain: bool, tmp_path: Path
) -> None:
    problem = generate.fixed(seed, kernels, devices=devices, dies=dies, chain=chain)
    assert answer_of(problem, tmp_path, 5.0).status == "OPTIMAL"


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kernels", "devices", "dies"), [(1, 60, 4, 3), (2, 60, 1, 4), (3, 150, 4, 3)])
def test_fold_and_place_comes_near_its_bound(seed: int, kernels: int, devices: int, dies: int, tmp_path: Path) -> None:
    gap = answer_of(generate.joint(seed, kernels, devices=devices, dies=dies), tmp_path, 60.0).gap
    assert gap is not None
    assert gap <= 0.01


def read(problem: dict[str, Any], folder: Path) -> FixedCase:
    path = folder / "p.json"
    path.write_text(json.dumps(problem))
    case = read_problem(path)[0][0]
    assert isinstance(case, FixedCase)
    return case


@pytest.mark.parametrize(("board", "devices"), [("u250", 4), ("u280", 8), ("u280", 1)])
def test_tours_see_every_slot_along_connections(board: str, devices: int, tmp_path: Path) -> None:
    case = read(random_floorplans.problem(1, 20, board, devices), tmp_path)
    found = list(tours(case, frozenset(case.slots)))
    assert found
    for walk in found:
        assert set(walk) == set(case.slots)
        assert all(ends in case.link for ends in pairwise(walk))


def test_networks_that_share_dies_are_proved_by_the_slots_that_they_take(tmp_path: Path) -> None:
    """Four chains that take eight dies: in a chain of so many dies all but one edge crosses, in four all but four."""
    case = read(random_floorplans.problem(32, 80, "u280", 4, networks=4), tmp_path)
    assert least(case, Clock(Settings())) == 4


@pytest.mark.slow
@pytest.mark.parametrize(("board", "devices"), [("u250", 4), ("u280", 8)])
def test_many_slots_are_filled_along_a_tour(board: str, devices: int, tmp_path: Path) -> None:
    answer = answer_of(random_floorplans.problem(24, 160, board, devices, layers=2), tmp_path, 40.0)
    assert answer.status in ("OPTIMAL", "FEASIBLE")


def joint(nodes: int, edges: list[tuple[int, int]], slots: int, **capacity: int) -> dict[str, Any]:
    versions = [{"cycles": 10, "LUT": 4}, {"cycles": 20, "LUT": 2}]
    return {
        "nodes": [{"id": v, "out_bits": 8, "versions": versions} for v in range(nodes)],
        "edges": [{"src": a, "dst": b} for a, b in edges],
        "slots": [{"slot": s, "device": 0, "capacity": capacity} for s in range(slots)],
        "boundaries": [{"between": [s, s + 1], "kind": "sll", "wires": 100} for s in range(slots - 1)],
    }


@pytest.mark.parametrize(
    ("problem", "interval"),
    [
        (joint(1, [], 1, LUT=4), 10),  # one kernel, one slot
        (joint(1, [], 3, LUT=2), 20),
        (joint(4, [(0, 1), (2, 3)], 2, LUT=8), 10),  # two graphs that share the dies
        (joint(3, [], 1, LUT=6), 20),  # no edge at all
        (joint(2, [(0, 1), (0, 1)], 2, LUT=4), 10),  # an edge twice
        (joint(2, [(0, 1), (1, 0)], 2, LUT=2), 20),  # a circle
    ],
)
def test_small_shapes(problem: dict[str, Any], interval: int, tmp_path: Path) -> None:
    answer = answer_of(problem, tmp_path, 5.0)
    assert (answer.status, answer.objective) == ("OPTIMAL", interval)


@pytest.mark.parametrize(
    "problem", [joint(2, [(0, 1)], 2, LUT=0), joint(3, [(0, 1)], 1, LUT=5), joint(1, [], 1, LUT=1)]
)
def test_what_does_not_fit_is_told(problem: dict[str, Any], tmp_path: Path) -> None:
    path, out = tmp_path / "p.json", tmp_path / "out.json"
    path.write_text(json.dumps(problem))
    found = fvc("floorplan", path, "-o", out)
    assert (found.code, found.error_code) == (1, "FVC250")
    assert "LUT over budget" in found.err
    assert not out.exists()


def test_crossings_are_the_second_objective(tmp_path: Path) -> None:
    """Two chains of two kernels on two dies that hold two kernels each: no edge needs to cross."""
    answer = answer_of(joint(4, [(0, 2), (1, 3)], 2, LUT=8), tmp_path, 5.0)
    assert dict(answer.details)["crossing_bits"] == 0
