"""One model the whole way, every judge on it: plan checker, static checker, ONNX Runtime on every tensor, simulator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from compiler.executor.verify import verify_programs
from compiler.frontend import load_proto
from compiler.ir.graph import Graph
from compiler.isa import read_device, write_device
from compiler.isa.check import check_programs
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.simulator import host_tasks, simulate
from device_db.model import Cluster


@dataclass(frozen=True, slots=True)
class Told:
    """The plan, and its figures as predicted and as simulated."""

    plan: Plan
    predicted_interval_ns: float
    interval_ns: float
    predicted_latency_ns: float
    latency_ns: float
    elements: int  # compared with ONNX Runtime


def run(graph: Graph, cluster: Cluster, options: PartitionOptions, frames: int = 2) -> Told:
    """Asserts that nobody objects."""
    plan = partition(graph, cluster, options)
    assert not (found := check_plan(plan, graph, cluster)), found
    programs = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    assert not (wrong := check_programs(programs)), wrong
    host = {s.name: s.model for s in graph.host_segments}
    report = verify_programs(programs, graph.model, host=host, frames=frames)
    assert report.passed, [f"{t.tensor}: {t.failure()}" for t in report.failures()]
    times = {s.name: s.time_ns for s in plan.host_segments}
    real = simulate(programs, host=host_tasks(host, times) if host else ())
    told = plan.predicted
    return Told(
        plan, float(told["interval_ns"]), real.interval_ns, float(told["latency_ns"]), real.latency_ns, report.elements
    )


def integer_models(proto: onnx.ModelProto) -> list[Graph]:
    """The model's graph, and that of its canonical form (QOperator) read again."""
    first = load_proto(proto)
    return [first, load_proto(onnx.load_model_from_string(first.model))]
