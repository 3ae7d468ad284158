"""The second objective ends, whatever the kernels a slot."""

from __future__ import annotations

import pytest

from compiler.floorplan import polish
from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.ladder import Ladders
from compiler.floorplan.problem import Boundary, JointCase


def test_slots_of_too_many_kernels_for_a_round_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    case = JointCase(
        "two", ("lut",), ("a", "b"), (8, 8), ((1,), (1,)), (((1,),), ((1,),)), ((0, 1),), (0, 1), ((1,), (1,)),
        (Boundary(100, None),), (frozenset({0, 1}),) * 2, (0, 0),
    )  # fmt: skip
    monkeypatch.setattr(polish, "MOST_KERNELS", 0)
    monkeypatch.setattr(polish, "FLAT_MOST", 0)
    plan = ((0, 0), (1, 0))
    assert polish.polish(case, Ladders(case).at(1), plan, Clock(Settings(5.0)), 5.0) == plan
