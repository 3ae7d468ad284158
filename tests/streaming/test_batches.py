"""Frames of several images: each unit does with an image what it does with a frame of one, and plans hold N at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler.executor.verify import verify_programs
from compiler.frontend import ImportOptions, load_model, load_proto
from compiler.ir.graph import Graph
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.stream.rates import Ints, behaviour
from compiler.partition.options import PartitionOptions
from device_db import load_cluster
from device_db.errors import FvcError
from tests.bundles import EXAMPLES
from tests.partition.nets import nets
from tests.partition.test_random_models import PHASES
from tests.partition.whole_way import run
from tests.streaming.both_netlists import differences
from tests.streaming.helpers import FAST_HOST, anyhow
from tests.streaming.test_slices import LAYERS, cuts_anyhow

IMAGES = 3
COUNTS = ("pixels", "elements", "turns")  # what units say of a whole frame


@cache
def digits(batch: int) -> Graph:
    return load_model(EXAMPLES / "digits.onnx", ImportOptions(batch=batch))


def of_one(ins: Instruction, images: int) -> Instruction:
    """The unit for frames of one image."""
    f = ins.fields
    if "more" in f:
        return Instruction(ins.op, ins.queue, f | {"more": 0})
    return Instruction(ins.op, ins.queue, f | {k: f[k] // images for k in COUNTS if k in f})


def in_turn(each: Ints, step: int, times: int) -> Ints:
    return np.concatenate([each + k * step for k in range(times)])


@pytest.mark.parametrize("name", LAYERS)
def test_a_frame_of_images_is_as_many_frames_one_after_the_other(name: str, tmp_path: Path) -> None:
    """Firing by firing: what is needed, given back and made, in every process of every unit."""
    onnx.save(LAYERS[name], tmp_path / "layer.onnx")
    graph = load_model(tmp_path / "layer.onnx", ImportOptions(batch=IMAGES))
    in_turns(anyhow(graph, 1), IMAGES)


def in_turns(programs: Sequence[DeviceProgram], batch: int) -> None:
    for ins in (u for p in programs for u in p.fabric.units() if u.op not in ("SRC", "SNK")):
        times = ins.fields.get("more", batch - 1) + 1
        if any(ins.fields.get(k, times) % times for k in COUNTS):  # a vector of the net's own
            continue
        one, frame = behaviour(of_one(ins, times)), behaviour(ins)
        assert one.lines == frame.lines
        for a, b in zip(one.processes, frame.processes, strict=True):
            fires = len(a.cost)
            assert np.array_equal(np.tile(a.cost, times), b.cost)
            for x, y in zip(a.reads, b.reads, strict=True):
                words = len(x.freer)
                assert np.array_equal(in_turn(x.need, words, times), y.need)
                assert np.array_equal(in_turn(x.freer, fires, times), y.freer)
            for x, y in zip(a.writes, b.writes, strict=True):
                words = len(x.maker)
                assert np.array_equal(in_turn(x.made, words, times), y.made)
                assert np.array_equal(in_turn(x.maker, fires, times), y.maker)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_computed_exactly_and_judged_alike(name: str, tmp_path: Path) -> None:
    onnx.save(LAYERS[name], tmp_path / "layer.onnx")
    graph = load_model(tmp_path / "layer.onnx", ImportOptions(batch=IMAGES))
    host = {s.name: s.model for s in graph.host_segments}
    for seed in range(2):
        assert differences(graph, cuts_anyhow(graph, seed), seed, external=seed == 1) == []
        assert verify_programs(anyhow(graph, seed), graph.model, host, frames=2).passed


@pytest.mark.parametrize("devices", ["u280", "u250+u50"])
def test_a_batch_takes_the_hardware_of_one_sample(devices: str) -> None:
    """An interval of N samples is N intervals, the latency that of one and N - 1 intervals, but for the host; the
    units are the same."""
    told = {}
    for batch in (1, IMAGES):
        options = PartitionOptions(style="streaming", host_ns=dict.fromkeys(FAST_HOST, 1), time_limit_s=3.0)
        told[batch] = run(digits(batch), load_cluster(devices), options)
    one, many = told[1], told[IMAGES]
    for t in (one, many):
        assert abs(t.interval_ns - t.predicted_interval_ns) <= 0.01 * t.predicted_interval_ns
        assert abs(t.latency_ns - t.predicted_latency_ns) <= 0.05 * t.predicted_latency_ns
    assert many.predicted_interval_ns == pytest.approx(IMAGES * one.predicted_interval_ns, rel=0.01)
    most = one.predicted_latency_ns + (IMAGES - 1) * one.predicted_interval_ns
    assert many.predicted_latency_ns <= 1.02 * most
    assert [e.fold for e in many.plan.engines] == [e.fold for e in one.plan.engines]
    for a, b in zip(one.plan.engines, many.plan.engines, strict=True):
        assert (a.resources.bram18, a.resources.uram, a.resources.dsp) == (
            b.resources.bram18, b.resources.uram, b.resources.dsp)  # fmt: skip


def of_any_model(case: Any) -> None:
    (net, outputs), how, seed, batch = case
    try:
        graph = load_proto(net.qdq_model(outputs, *how), ImportOptions(batch=batch))
    except FvcError as refused:  # a constant that holds a batch
        assert refused.code in ("FVC104", "FVC113")
        return
    assert differences(graph, (), seed) == []
    assert differences(graph, cuts_anyhow(graph, seed), seed, copies=2, external=True) == []
    try:
        found = anyhow(graph, seed)
    except FvcError as refused:
        assert refused.code == "FVC214"
        return
    in_turns(found, batch)
    assert verify_programs(found, graph.model, {s.name: s.model for s in graph.host_segments}, frames=2).passed


MODELS = st.tuples(nets(6), st.tuples(*[st.booleans()] * 3), st.integers(0, 99), st.integers(2, 3))
HEALTH = list(HealthCheck)


@settings(max_examples=15, deadline=None, derandomize=True, phases=PHASES, suppress_health_check=HEALTH)
@given(MODELS)
def test_random_models(case: Any) -> None:
    of_any_model(case)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, phases=PHASES, suppress_health_check=HEALTH)
@given(MODELS)
def test_many_random_models(case: Any) -> None:
    of_any_model(case)
