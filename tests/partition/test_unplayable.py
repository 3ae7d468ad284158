"""Plans whose order makes engines wait for each other: passed over, and an error of its own where none is left."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compiler.catalog import CATALOG
from compiler.partition import partition, planner
from compiler.partition.build import Body, build
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.partition.prediction.predict import latency_ps, predict
from compiler.plan.model import LayerPlan
from device_db import load_cluster
from device_db.errors import FvcError
from tests.partition.graphs import residual

GRAPH, CLUSTER = residual(), load_cluster("zcu102x2")
OPTIONS = PartitionOptions(objective="latency", time_limit_s=1.0)


def backwards(layers: tuple[LayerPlan, ...]) -> tuple[LayerPlan, ...]:
    """The same layers, the last one first: every engine waits for what comes behind."""
    last = max(s.order for x in layers for s in x.slices)
    return tuple(replace(x, slices=tuple(replace(s, order=last - s.order) for s in x.slices)) for x in layers)


def with_builds(monkeypatch: pytest.MonkeyPatch, spoilt: int) -> list[Body]:
    """Lets the planner's first `spoilt` candidates come out backwards; what it was given."""
    seen: list[Body] = []

    def spoiling(*args: Any, **kwargs: Any) -> Body | None:
        body = build(*args, **kwargs)
        if body is not None:
            if len(seen) < spoilt:
                body.layers[:] = backwards(tuple(body.layers))
            seen.append(body)
        return body

    monkeypatch.setattr(planner, "build", spoiling)
    return seen


def test_the_prediction_says_so() -> None:
    plan = partition(GRAPH, CLUSTER, replace(OPTIONS, force_split=(("Pm", 2),)))
    for judge in (predict, latency_ps):
        with pytest.raises(FvcError) as caught:
            judge(replace(plan, layers=backwards(plan.layers)), GRAPH, CLUSTER)
        assert (caught.value.code, caught.value.exit_code) == ("FVC212", 1)
        assert caught.value.code in CATALOG
        assert caught.value.help


def test_such_a_candidate_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = with_builds(monkeypatch, 1)
    plan = partition(GRAPH, CLUSTER, OPTIONS)
    assert len(seen) > 1
    assert check_plan(plan, GRAPH, CLUSTER) == []


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_none_is_left(monkeypatch: pytest.MonkeyPatch, objective: str) -> None:
    with_builds(monkeypatch, 1_000)
    options = replace(OPTIONS, objective=objective, force_split=(("Pm", 2),))
    if objective == "throughput":  # one pipeline stage, as is played in order of time
        monkeypatch.setattr(planner, "predict", lambda plan, *rest: predict(_flat(plan), *rest))
    with pytest.raises(FvcError) as caught:
        partition(GRAPH, CLUSTER, options)
    assert (caught.value.code, caught.value.exit_code) == ("FVC212", 1)


def _flat(plan: Any) -> Any:
    return replace(plan, layers=tuple(
        replace(x, slices=tuple(replace(s, stage=0) for s in x.slices)) for x in plan.layers
    ), channels=tuple(replace(c, source_stage=0, target_stage=0) for c in plan.channels))  # fmt: skip
