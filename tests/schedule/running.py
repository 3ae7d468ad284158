"""Runs a plan's programs and compares every tensor with the golden executor; the static checker must be content."""

from __future__ import annotations

import numpy as np

from compiler.executor.golden import run_graph
from compiler.executor.machine import Machine
from compiler.ir.graph import Graph
from compiler.isa import read_device, write_device
from compiler.isa.check import check_programs
from compiler.isa.program import DeviceProgram
from compiler.plan.model import Plan
from compiler.schedule import schedule
from device_db import load_cluster


def programs_of(graph: Graph, plan: Plan) -> list[DeviceProgram]:
    """Scheduled, written and read again, and free of findings."""
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, load_cluster("u280x4"))]
    findings = check_programs(programs)
    assert not findings, "\n".join(str(f) for f in findings[:5])
    return programs


def assert_equal(graph: Graph, plan: Plan, frames: list[dict[str, np.ndarray]], order_seed: int | None = None) -> None:
    programs = programs_of(graph, plan)
    results = Machine(programs).run(frames, order_seed=order_seed)
    for frame, result in zip(frames, results, strict=True):
        golden = run_graph(graph, frame)
        for name in graph.outputs:
            wrong = np.flatnonzero(result[name].reshape(-1) != golden[name].reshape(-1))
            assert not len(wrong), f"{name}: {len(wrong)} of {golden[name].size} differ, first at {wrong[:4]}"
