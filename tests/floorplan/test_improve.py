"""Plans from parts: several networks beside one another, and no plan gets worse or breaks a limit."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.check import check
from compiler.floorplan.improve import components, first, improve
from compiler.floorplan.problem import Answer, FixedCase
from compiler.floorplan.read import read_problem
from compiler.floorplan.solve import solve
from compiler.floorplan.tree import cost_of
from tests.floorplan import brute, generate


def case_of(problem: dict, folder: Path) -> FixedCase:
    path = folder / "problem.json"
    path.write_text(json.dumps(problem))
    case = read_problem(path)[0][0]
    assert isinstance(case, FixedCase)
    return case


def side_by_side(networks: int, kernels: int, boards: int, share: float) -> dict:
    """Chains of equal kernels, each of which takes `share` of a slot in all, on boards of two slots."""
    slots = range(2 * boards)
    links = [(s, s + 1, 1 if s % 2 == 0 else 10) for s in list(slots)[:-1]]
    return {
        "name": "side-by-side",
        "nodes": [
            {"id": i, "name": f"k{i}", "versions": [{"LUT": int(1000 * share / kernels)}]}
            for i in range(networks * kernels)
        ],
        "edges": [
            {"src": n * kernels + i, "dst": n * kernels + i + 1, "wires": 8, "bps": 1}
            for n in range(networks)
            for i in range(kernels - 1)
        ],
        "abs_anchors": [],
        "rel_anchors": [],
        "device_set": {
            "slots": [{"slot": s, "capacity": {"LUT": 1000}} for s in slots],
            "connections": [
                {"src": a, "dst": b, "cost": c, "max_wires": None, "max_bps": None}
                for x, y, c in links
                for a, b in ((x, y), (y, x))
            ],
            "limits": {"LUT": 1.0},
            "avg_constraints": [],
        },
    }


@pytest.mark.parametrize("boards", [2, 4])
def test_a_network_a_board_crosses_only_inside_boards(boards: int, tmp_path: Path) -> None:
    """A network takes one and a half slots: one crossing of cost 1 each, and none of the links is needed."""
    case = case_of(side_by_side(boards, 10, boards, 1.5), tmp_path)
    assert len(components(case)) == boards
    answer = solve(case, Settings(limit=4.0))
    assert answer.objective == boards


def test_networks_that_fit_a_slot_are_proved_not_to_cross(tmp_path: Path) -> None:
    answer = solve(case_of(side_by_side(5, 8, 3, 0.9), tmp_path), Settings(limit=4.0))
    assert (answer.status, answer.objective) == ("OPTIMAL", 0)


@pytest.mark.parametrize("seed", range(3))
def test_a_plan_never_gets_dearer_and_keeps_every_limit(seed: int, tmp_path: Path) -> None:
    problem = generate.fixed(seed, 40, devices=1, chain=seed == 0)
    problem["rel_anchors"] = [[5, 9]] if seed else []
    case = case_of(problem, tmp_path)
    clock = Clock(Settings(limit=20.0))
    plan = first(case, clock) or solve(case, Settings(limit=4.0)).assignment
    assert plan
    before = cost_of(case, plan)
    assert check(case, Answer("", "FEASIBLE", before, 0, plan, "", ())) == []
    better = improve(case, plan, clock, 1.5)
    assert cost_of(case, better) <= before
    assert check(case, Answer("", "FEASIBLE", cost_of(case, better), 0, better, "", ())) == []


@pytest.mark.parametrize("seed", range(30))
def test_parts_of_small_problems_keep_the_rules_and_never_beat_the_best(seed: int, tmp_path: Path) -> None:
    problem = brute.fixed_problem(random.Random(seed), topology=("chain", "tree", "free", "ring")[seed % 4])
    case = case_of(problem, tmp_path)
    clock = Clock(Settings(limit=20.0))
    plan = first(case, clock) if all(case.allowed) else None
    best = brute.fixed_best(problem)
    if plan is None:
        return
    better = improve(case, plan, clock, 1.0)
    cost = cost_of(case, better)
    assert check(case, Answer("", "FEASIBLE", cost, 0, better, "", ())) == []
    assert best is not None and cost >= best * case.cost_scale
