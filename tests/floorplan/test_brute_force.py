"""Random small problems: status, objective and bound against every placement there is."""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.least import least
from compiler.floorplan.problem import FixedCase
from compiler.floorplan.read import read_problem
from compiler.floorplan.solve import as_json, solve
from tests.floorplan import brute

FAST = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def answer_of(problem: dict[str, Any], folder: Path) -> dict[str, Any]:
    path = folder / "problem.json"
    path.write_text(json.dumps(problem))
    cases, several = read_problem(path)
    assert not several
    own = Settings(limit=20.0)
    return as_json(cases[0], solve(cases[0], own), own)


@pytest.mark.parametrize("topology", ["chain", "tree", "free", "ring"])
@FAST
@given(seed=st.integers(0, 10**6))
def test_fixed_kernels_against_every_placement(topology: str, seed: int, tmp_path: Path) -> None:
    problem = brute.fixed_problem(random.Random(seed), topology=topology)
    best = brute.fixed_best(problem)
    answer = answer_of(problem, tmp_path)
    if best is None:
        assert answer["status"] == "INFEASIBLE"
        return
    assert answer["status"] == "OPTIMAL"
    assert Fraction(str(answer["objective"])) == best == Fraction(str(answer["bound"]))
    assert brute.fixed_cost(problem, [tuple(x) for x in answer["assignment"]]) == best


@pytest.mark.parametrize("kinds", [True, False], ids=["kinds of slots", "slots alike"])
@pytest.mark.parametrize("topology", ["chain", "tree", "free"])
@FAST
@given(seed=st.integers(0, 10**6))
def test_no_placement_costs_less_than_the_least(topology: str, kinds: bool, seed: int, tmp_path: Path) -> None:
    problem = brute.fixed_problem(random.Random(seed), topology=topology)
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(problem))
    case = read_problem(path)[0][0]
    assert isinstance(case, FixedCase)
    best = brute.fixed_best(problem)
    with pytest.MonkeyPatch.context() as patch:
        if not kinds:
            patch.setattr("compiler.floorplan.least.MOST_STATES", 1)
        proved = least(case, Clock(Settings()))
    assert best is None or Fraction(proved, case.cost_scale) <= best


@FAST
@given(seed=st.integers(0, 10**6))
def test_fold_and_place_against_every_placement(seed: int, tmp_path: Path) -> None:
    problem = brute.joint_problem(random.Random(seed))
    best = brute.joint_best(problem)
    answer = answer_of(problem, tmp_path)
    if best is None:
        assert answer["status"] in ("INFEASIBLE", "UNKNOWN")
        return
    assert answer["bound"] <= best
    assert answer["objective"] == brute.joint_interval(problem, [tuple(x) for x in answer["assignment"]])
    assert answer["status"] == "OPTIMAL"
    assert answer["objective"] == best
