"""Swaps: what they find keeps every limit by other code, and their running sums are those of the placement."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.ladder import Ladders, merged_bound
from compiler.floorplan.problem import JointCase
from compiler.floorplan.read import read_problem
from compiler.floorplan.repair import crowded, overflow
from compiler.floorplan.swaps import Swaps
from compiler.floorplan.versions import used
from tests.floorplan import generate


def scattered(seed: int, folder: Path) -> tuple[JointCase, tuple[tuple[int, int], ...], int]:
    """A case on two boards of two dies, kernels anywhere in any version, and an interval with room to spare."""
    path = folder / "p.json"
    problem = generate.joint(seed, 24, devices=2, dies=2)
    problem["abs_anchors"] = [[3, [1, 2]]]
    path.write_text(json.dumps(problem))
    case = read_problem(path)[0][0]
    assert isinstance(case, JointCase)
    ladders = Ladders(case)
    values = ladders.intervals()
    bound = merged_bound(ladders, values, Clock(Settings()))
    assert bound is not None
    interval = min(t for t in values if t >= 1.2 * bound)
    rng = random.Random(seed)
    options = ladders.at(interval)
    plan = tuple((rng.choice(sorted(case.allowed[v])), rng.choice(options.versions[v])) for v in case.nodes)
    return case, plan, interval


@pytest.mark.parametrize("seed", range(4))
def test_what_swaps_find_keeps_every_limit(seed: int, tmp_path: Path) -> None:
    case, plan, interval = scattered(seed, tmp_path)
    options = Ladders(case).at(interval)
    assert sum(overflow(case, plan)) + sum(crowded(case, options, plan)) > 0
    found = Swaps(case, options, plan, seed).run(Clock(Settings()), 2.0)
    assert found is not None
    assert sum(overflow(case, found)) + sum(crowded(case, options, found)) == 0
    assert found[3][0] in (1, 2)


@pytest.mark.parametrize("seed", range(4))
def test_running_sums_are_those_of_the_placement(seed: int, tmp_path: Path) -> None:
    case, plan, interval = scattered(seed, tmp_path)
    search = Swaps(case, Ladders(case).at(interval), plan, seed)
    search.run(Clock(Settings()), 0.005)  # some twenty steps
    own = search.options.versions
    now = tuple((int(s), own[v][k]) for v, (s, k) in enumerate(zip(search.at, search.option, strict=True)))
    assert now != plan
    assert search.load.tolist() == used(case, now)
    again = Swaps(case, search.options, now, seed)
    assert np.array_equal(search.crossing, again.crossing)
    assert np.array_equal(search.put, again.put)
