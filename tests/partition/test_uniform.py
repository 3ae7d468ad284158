"""One engine for the whole cluster: equal everywhere, as good as the best of all engines, and judged."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.costs import CostBook
from compiler.partition.defaults import RealOps
from compiler.partition.engines import EngineChoice
from compiler.partition.kinds import TYPES, fits
from compiler.partition.layout import places
from compiler.partition.options import PartitionOptions
from compiler.partition.search import reference_khz
from compiler.partition.uniform import WIDEST, engines_for_all, folds_of, slowest_clock, trip_points, uniform_engines
from compiler.plan.model import EnginePlan
from cost_models.primitives import ceil_div
from device_db import load_cluster
from device_db.errors import FvcError
from tests.partition.graphs import residual

SHAPE = ("tm", "tn", "act_bytes", "wgt_bytes", "acc_bytes", "tab_bytes", "vector_lanes")


def shapes(engines: tuple[EnginePlan, ...]) -> set[tuple[int, ...]]:
    return {tuple(e.parameters[k] for k in SHAPE) for e in engines}


@pytest.mark.parametrize(
    ("devices", "objective"),
    [pytest.param("u280", "throughput", marks=pytest.mark.slow), ("zcu102+u50", "latency")],
)
def test_dies_that_differ_get_equal_engines(devices: str, objective: str) -> None:
    graph, cluster = residual(blocks=1, channels=48, side=16), load_cluster(devices)
    asked = PartitionOptions(objective=objective, time_limit_s=0.2)
    free, one = (partition(graph, cluster, replace(asked, uniform=u)) for u in (False, True))
    assert len(shapes(free.engines)) > 1, "otherwise the case says nothing"
    assert len(shapes(one.engines)) == 1
    assert one.options["uniform"] is True and "uniform" not in free.options
    usable = {cluster.die_name(ref): cluster.die(ref).usable for ref in cluster.dies}
    for e in one.engines:
        assert all(getattr(e.resources, t) <= getattr(usable[f"{e.device}/{e.die}"], t) for t in TYPES)
    findings = check_plan(replace(free, options={**free.options, "uniform": True}), graph, cluster)
    assert any("one for all asked for" in str(f) for f in findings)


def test_replicas_share_the_engine_too() -> None:
    graph, cluster = residual(blocks=1, channels=32, side=16), load_cluster("u280")
    plan = partition(graph, cluster, PartitionOptions(uniform=True, replicas=3, time_limit_s=0.2))
    assert plan.replicas == 3 and len(shapes(plan.engines)) == 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=1, max_size=4))
def test_trip_points_leave_out_no_number_of_trips(extents: list[int]) -> None:
    """Any fold takes as many trips of every layer as the largest point below it."""
    points = trip_points(extents, 8)
    assert points[0] == 8
    for fold in range(8, WIDEST + 1):
        below = max(p for p in points if p <= fold)
        assert all(ceil_div(e, fold) == ceil_div(e, below) for e in extents)
    for a, b in pairwise(points):
        assert any(ceil_div(e, a) > ceil_div(e, b) for e in extents), "a point that saves no trip"


def choice_of(channels: int, devices: str) -> tuple[EngineChoice, list[dict[int, object]], int]:
    graph, cluster = residual(blocks=1, channels=channels, side=12), load_cluster(devices)
    here = places(cluster, None)
    choice = EngineChoice(graph, cluster, here, CostBook(graph, RealOps()), reference_khz(cluster))
    got = uniform_engines(choice, cluster, here)
    assert got is not None
    best = choice.rate(got, exact=True)
    assert best is not None
    return choice, [dict(c) for c in engines_for_all(cluster, here, folds_of(graph), "auto")], best


@pytest.mark.parametrize(("channels", "devices"), [(40, "pynq-z2"), (56, "pynq-z2")])
def test_no_engine_of_the_space_is_better(channels: int, devices: str) -> None:
    """Every engine of the space priced exactly, against the one that was chosen."""
    choice, offered, best = choice_of(channels, devices)
    assert len(offered) > 50
    rates = [choice.rate(c, exact=True) for c in offered]  # type: ignore[arg-type]
    assert best == min(r for r in rates if r is not None)


def test_every_engine_fits_every_place() -> None:
    graph, cluster = residual(blocks=1), load_cluster("u280+u250")
    here = places(cluster, None)
    offered = engines_for_all(cluster, here, folds_of(graph), "auto")
    assert offered
    for trial in offered[::7]:
        for p in here:
            have = cluster.devices[p.ref.device].board.dies[p.ref.die].usable
            assert fits(trial[p.pool].resources, have)


def test_one_clock_is_the_slowest() -> None:
    cluster, told = slowest_clock(load_cluster("zcu102+pynq-z2"))
    clocks = {cluster.die(ref).clock_khz for ref in cluster.dies}
    before = {load_cluster(d).devices[0].board.dies[0].clock_khz for d in ("zcu102", "pynq-z2")}
    assert clocks == {min(before)}
    assert bool(told) == (len(before) > 1)
    assert slowest_clock(load_cluster("zcu102x2"))[1] == []


def test_streaming_engines_are_no_uniform_ones() -> None:
    with pytest.raises(FvcError, match="one tiled engine"):
        PartitionOptions(style="streaming", uniform=True).validate()
