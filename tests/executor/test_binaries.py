"""Scheduled programs through the container in the machine: same integers in every order, alone or in flight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compiler.executor.machine import Machine
from compiler.executor.reference import Reference
from compiler.executor.stimulus import made_inputs
from compiler.executor.verify import verify_programs
from compiler.frontend import ImportOptions, load_proto, zoo
from compiler.ir.graph import Graph
from compiler.isa.container import read_device, write_device
from compiler.isa.program import DeviceProgram
from compiler.schedule import schedule
from device_db import load_cluster
from tests.schedule.toy import BIG, TINY, Toy

CORES = [("u280-0", "SLR0"), ("u280-0", "SLR1"), ("u280-1", "SLR0")]


@pytest.fixture(scope="module", params=["u8", "s8"])
def graph(request: pytest.FixtureRequest) -> Graph:
    return load_proto(zoo.build("tiny"), ImportOptions(activations=request.param, per_channel=request.param == "u8"))


def binaries(graph: Graph, spec: Any, **how: Any) -> list[DeviceProgram]:
    programs = schedule(graph, Toy(graph, spec, CORES, **how).plan(), load_cluster("u280x2"))
    return [read_device(write_device(p)) for p in programs]


def segments(graph: Graph) -> dict[str, bytes]:
    return {s.name: s.model for s in graph.host_segments}


HOW = [
    (BIG, {}),
    (TINY, {}),
    (TINY, {"pm": 3, "resident": True}),
    (TINY, {"pn": 2}),
    (BIG, {"pipelined": False}),
    (BIG, {"replicas": 2}),
]


@pytest.mark.parametrize("spec,how", HOW)
def test_every_tensor_in_every_order(graph: Graph, spec: Any, how: dict[str, Any]) -> None:
    programs = binaries(graph, spec, **how)
    for seed in (None, 0, 1, 2):
        report = verify_programs(programs, graph.model, segments(graph), frames=5, order_seed=seed)
        assert report.passed, report.text()
        stored = sum(t.elements for t in report.tensors if t.accumulators is not None)
        assert report.accumulators.compared == stored > 0
    assert {t.kind for t in report.tensors} <= {"engine", "host", "alias", "index"}


@pytest.mark.parametrize("spec,how", HOW)
def test_one_frame_at_a_time_gives_the_same(graph: Graph, spec: Any, how: dict[str, Any]) -> None:
    programs = binaries(graph, spec, **how)
    reference = Reference(graph.model)
    frames = [f for _, f in made_inputs(reference, 5)]
    together = Machine(programs).run(frames, segments(graph))
    for frame, result in zip(frames, together, strict=True):
        (alone,) = Machine(programs).run([frame], segments(graph))
        wanted = reference.run(frame)
        for name in reference.outputs:
            assert np.array_equal(alone[name], result[name]) and np.array_equal(alone[name], wanted[name])
