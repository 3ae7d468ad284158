"""Weights on chip: what an engine has room for, and layers that are made whole for it."""

from __future__ import annotations

from compiler.partition.prediction.predict import latency_ps
from compiler.partition.solve.clock import Clock
from compiler.partition.solve.held import held, keep_weights
from tests.partition.graphs import deep
from tests.partition.test_strategies import Case


def test_an_engine_holds_what_it_has_room_for() -> None:
    """Four layers of 64 KiB whole on engine 0, room for two of them and a half."""
    case = Case.of(deep(), "zcu102x2")
    case.problem.resident_bytes = [160 * 1024, 0]
    whole = {x: next(s for s in own if not s[0].split and s[0].slot == 0) for x, own in case.choices.items()}
    kept = keep_weights(case.problem, whole)
    assert sum(s[0].option.memory == "resident" for s in kept.values()) == 2
    assert all(s[0].option.memory == "stream" for s in whole.values())


def test_layers_go_where_their_weights_stay_on_chip_if_that_is_quicker() -> None:
    """Layers that are nearly all weights, whole on an engine that has no room for any; then the other one has."""
    case = Case.of(deep(channels=512), "zcu102x2")
    start = {x: next(s for s in own if not s[0].split and s[0].slot == 0) for x, own in case.choices.items()}
    case.problem.resident_bytes = [0, 0]
    clock = Clock(case.problem, case.latency)
    lists = {x: [s for s in own if not s[0].split] for x, own in case.choices.items()}
    assert held(case.problem, clock, start, lists, 10**9) == (clock.timed(start), start)
    case.problem.resident_bytes = [0, 4 * 512 * 512]
    value, found = held(case.problem, clock, start, lists, 10**9)
    kept = keep_weights(case.problem, found)
    assert value == clock.timed(kept) < clock.timed(start)
    assert {s[0].slot for s in kept.values()} == {1}
    assert {s[0].option.memory for s in kept.values()} == {"resident"}
    before, after = (latency_ps(case.plan(a), case.graph, case.cluster) for a in (start, found))
    assert after < before
