"""Every single edit of a plan is caught: each number and name in turn is changed, and the checker must object."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db import load_cluster
from tests.partition.graphs import residual

# What is free text or nobody's business but the reader's: it decides nothing and nothing can be added up to it.
FREE = (
    "model.", "solver.notes", "solver.proved_by", "solver.proved_scope", "fallbacks", "predicted.replicas_auto",
    "predicted.limiting.text", "predicted.limiting.relief", "options.style", "options.time_limit_s",
    "options.min_devices", "options.force_split", "options.memory", "predicted.tasks",
)  # fmt: skip


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, list[str | int]]]:
    """Dotted name and access path of every scalar in a JSON document."""

    def walk(v: Any, name: str, way: list[str | int]) -> Iterator[tuple[str, list[str | int]]]:
        if isinstance(v, dict):
            for k, x in v.items():
                yield from walk(x, f"{name}.{k}" if name else k, [*way, k])
        elif isinstance(v, list):
            for i, x in enumerate(v):
                yield from walk(x, f"{name}[{i}]", [*way, i])
        else:
            yield name, way

    yield from walk(value, path, [])


def edited(document: dict[str, Any], way: list[str | int]) -> dict[str, Any]:
    out = copy.deepcopy(document)
    at: Any = out
    for key in way[:-1]:
        at = at[key]
    old = at[way[-1]]
    if isinstance(old, bool):
        at[way[-1]] = not old
    elif isinstance(old, int):
        at[way[-1]] = old + 1 if old < 1000 else old + max(1, old // 50)
    elif isinstance(old, float):
        at[way[-1]] = old * 1.02 + 0.001
    elif isinstance(old, str):
        at[way[-1]] = old + "x"
    else:
        at[way[-1]] = 1
    return out


@pytest.mark.parametrize(
    ("devices", "options"),
    [
        ("u280x2", {}),
        ("zcu102x2", {"objective": "latency", "force_split": (("Pm", 2),)}),
        ("u280", {"force_split": (("Pn", 2),)}),
        ("u280x2", {"replicas": 2}),
    ],
)
def test_every_single_edit_is_caught(devices: str, options: dict[str, Any]) -> None:
    graph, cluster = residual(blocks=2, channels=32, side=14, tail=True), load_cluster(devices)
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1, **options))
    assert check_plan(plan, graph, cluster) == []
    document = json.loads(json.dumps(dataclasses.asdict(plan)))
    adapter = TypeAdapter(Plan)
    assert check_plan(adapter.validate_python(document), graph, cluster) == []
    tried, missed = 0, []
    for name, way in leaves(document):
        if name.startswith(FREE):
            continue
        tried += 1
        try:
            other = adapter.validate_python(edited(document, way))
        except ValueError:
            continue
        if not check_plan(other, graph, cluster):
            missed.append(name)
    assert tried > 300
    assert not missed, missed


def test_limits_that_the_plan_does_not_meet_are_caught() -> None:
    graph, cluster = residual(blocks=2, channels=32, side=14), load_cluster("u280x2")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1, target_fps=1.0, max_latency_ms=1000.0))
    assert check_plan(plan, graph, cluster) == []
    for key, value in (("target_fps_milli", 10**12), ("max_latency_ms_milli", 0)):
        assert plan.options[key] != value
        other = dataclasses.replace(plan, options=plan.options | {key: value})
        assert any(key in w for f in check_plan(other, graph, cluster) for w in f.where)


def test_a_dropped_channel_slice_or_layer_is_caught() -> None:
    graph, cluster = residual(blocks=2, channels=32, side=14), load_cluster("u280x2")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1))
    replace = dataclasses.replace
    for k in range(len(plan.channels)):
        assert check_plan(replace(plan, channels=plan.channels[:k] + plan.channels[k + 1 :]), graph, cluster)
    assert check_plan(replace(plan, channels=plan.channels + plan.channels[:1]), graph, cluster)
    for k, layer in enumerate(plan.layers):
        assert check_plan(replace(plan, layers=plan.layers[:k] + plan.layers[k + 1 :]), graph, cluster)
        less = replace(layer, slices=layer.slices[:-1])
        assert check_plan(replace(plan, layers=(*plan.layers[:k], less, *plan.layers[k + 1 :])), graph, cluster)
    assert check_plan(replace(plan, engines=plan.engines[:-1]), graph, cluster)


def test_a_layer_moved_to_another_engine_is_caught() -> None:
    graph, cluster = residual(blocks=2, channels=32, side=14), load_cluster("u280x2")
    plan = partition(graph, cluster, PartitionOptions(time_limit_s=1))
    replace = dataclasses.replace
    for k, layer in enumerate(plan.layers):
        for e in plan.engines:
            if e.id != layer.slices[0].engine:
                moved = replace(layer, slices=(replace(layer.slices[0], engine=e.id), *layer.slices[1:]))
                assert check_plan(
                    replace(plan, layers=(*plan.layers[:k], moved, *plan.layers[k + 1 :])), graph, cluster
                )
