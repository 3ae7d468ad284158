"""The plan checker's netlists are those of the planner, whatever is cut, folded, placed, copied or read from DRAM."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.frontend import ImportOptions, load_model, load_proto, zoo
from compiler.ops.stream.regions import boundary as planned_boundary
from compiler.ops.stream.regions import groups
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.check.regions import boundary, regions_of
from compiler.partition.options import PartitionOptions
from device_db import load_cluster
from device_db.model import RESOURCE_TYPES
from tests.bundles import digits
from tests.partition.nets import nets
from tests.partition.test_random_models import PHASES
from tests.partition.whole_way import integer_models
from tests.streaming.both_netlists import differences
from tests.streaming.test_binaries import LOW_BIT
from tests.streaming.test_slices import LAYERS, cuts_anyhow


@pytest.mark.parametrize("seed", range(4))
def test_the_example_in_copies_and_cut(seed: int) -> None:
    assert differences(digits(), (), seed, copies=1 + seed) == []
    assert differences(digits(), cuts_anyhow(digits(), seed), seed, external=seed % 2 == 1) == []


@pytest.mark.parametrize("path", LOW_BIT, ids=lambda p: p.stem)
def test_low_bit_nets(path: Path) -> None:
    graph = load_model(path, ImportOptions())
    assert differences(graph, (), 1, copies=2) == []
    assert differences(graph, cuts_anyhow(graph, 2), 2, external=True) == []


@pytest.mark.parametrize("name", LAYERS)
def test_single_layers(name: str, tmp_path: Path) -> None:
    onnx.save(LAYERS[name], tmp_path / "layer.onnx")
    graph = load_model(tmp_path / "layer.onnx", ImportOptions())
    for seed in range(3):
        assert differences(graph, cuts_anyhow(graph, seed), seed, external=seed == 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tfc-w1a1", "cnv-w1a1", "cnv-w2a2", "mobilenetv1-w4a4", "resnet50-w1a2"])
def test_finn_networks(name: str) -> None:
    graph = load_proto(zoo.build(name), ImportOptions())
    assert differences(graph, (), 1, copies=2) == []
    assert differences(graph, cuts_anyhow(graph, 2), 2, external=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tfc-w1a1", "cnv-w1a1"])
def test_plans_of_finn_networks_are_legal_and_no_engine_may_differ(name: str) -> None:
    """Every figure of every engine of a real plan, one step off."""
    graph, cluster = load_proto(zoo.build(name), ImportOptions()), load_cluster("u50")
    plan = partition(graph, cluster, PartitionOptions(style="streaming", time_limit_s=3.0))
    assert check_plan(plan, graph, cluster) == []
    for k, e in enumerate(plan.engines):
        resources = [replace(e.resources, **{t: getattr(e.resources, t) - 1}) for t in RESOURCE_TYPES]
        edits = [replace(e, resources=r) for r in resources]
        edits += [replace(e, fold=e.fold | {name: value + 1}) for name, value in e.fold.items()]
        depths = e.parameters["fifo_depths"]
        edits += [replace(e, parameters=e.parameters | {"fifo_depths": depths[1:]}), replace(e, die="SLR9")]
        for edited in edits:
            other = replace(plan, engines=(*plan.engines[:k], edited, *plan.engines[k + 1 :]))
            assert {f.code for f in check_plan(other, graph, cluster)} == {"FVC220"}


def of_any_model(case: Any) -> None:
    (net, outputs), (qoperator, *how), seed = case
    graph = integer_models(net.qdq_model(outputs, *how))[qoperator]
    assert differences(graph, (), seed) == []
    assert differences(graph, cuts_anyhow(graph, seed), seed, copies=2, external=True) == []
    draw = random.Random(seed)
    streams = {n.name: draw.randrange(2) for n in graph.nodes if draw.random() < 0.6}
    found = regions_of(graph, streams)
    assert found == groups(graph, streams)
    for _, layers in found:
        taken, given_ = boundary(graph, layers)
        assert (list(taken.items()), list(given_.items())) == planned_boundary(graph, layers)


@settings(max_examples=30, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(st.tuples(nets(5), st.tuples(*[st.booleans()] * 4), st.integers(0, 99)))
def test_random_models(case: Any) -> None:
    of_any_model(case)


@pytest.mark.slow
@settings(max_examples=400, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
@given(st.tuples(nets(10), st.tuples(*[st.booleans()] * 4), st.integers(0, 99)))
def test_many_random_models(case: Any) -> None:
    of_any_model(case)
