"""Plans with both styles: computed exactly, timed as predicted; broken bridges and plans are found."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from compiler.executor.verify import verify_programs
from compiler.export.explain import explain_layer, explain_plan
from compiler.export.report import report
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.stream.table import BOX
from compiler.ops.stream.regions import groups
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.mixed.compose import plan_split
from compiler.partition.mixed.part import Part
from compiler.partition.options import PartitionOptions
from compiler.plan.diff import diff_plans
from compiler.plan.io import parse_plan, write_plan
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.simulator import host_tasks, simulate, trace
from device_db import load_cluster
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST

Split = tuple[tuple[int, tuple[int, ...], tuple[str, ...]], ...]  # device, dies, layers
HEAD: Split = ((0, (2,), ("/conv1", "/pool")),)
MIDDLE: Split = ((0, (1, 2), ("/conv2", "/conv3")),)
# Tiled, streaming, tiled, streaming: /pool goes past the tiled /conv2 to /add, /mean ends at the host.
TWICE: Split = ((0, (2,), ("/pool", "/conv3", "/add", "/mean")),)
BOARDS: Split = ((0, (0,), ("/conv1",)), (1, (2,), ("/conv3", "/add")))
CASES = [("u280", HEAD), ("u280", TWICE)]
SLOW = [("u280", MIDDLE), ("u280x2", BOARDS), ("u50", ((0, (1,), ("/conv1", "/pool", "/conv2", "/conv3", "/add")),))]


@cache
def plan_of(devices: str, split: Split, objective: str = "throughput") -> Plan:
    options = PartitionOptions(style="auto", objective=objective, host_ns=FAST_HOST, time_limit_s=1.0)
    plan = plan_split(digits(), load_cluster(devices), options, [Part(*p) for p in split])
    assert plan is not None
    return plan


@cache
def files(devices: str, split: Split, objective: str = "throughput") -> tuple[bytes, ...]:
    cluster = load_cluster(devices)
    return tuple(write_device(p) for p in schedule(digits(), plan_of(devices, split, objective), cluster))


def programs(devices: str, split: Split, objective: str = "throughput") -> list[DeviceProgram]:
    """Fresh ones: a test may break them."""
    return copy.deepcopy([read_device(b) for b in files(devices, split, objective)])


def whole_way(devices: str, split: Split, objective: str = "throughput") -> None:
    graph, plan, found = digits(), plan_of(devices, split, objective), programs(devices, split, objective)
    assert check_plan(plan, graph, load_cluster(devices)) == []
    assert parse_plan(write_plan(plan)) == plan
    assert check_programs(found) == []
    host = {s.name: s.model for s in graph.host_segments}
    for seed in (None, 3):
        report = verify_programs(found, graph.model, host, frames=4, order_seed=seed)
        assert report.passed and sum(t.kind == "engine" for t in report.tensors) == 7
    timed = simulate(found, None, host_tasks(host, FAST_HOST))
    assert timed.settled
    assert abs(timed.interval_ps / 1000 - plan.predicted["interval_ns"]) <= 0.05 * plan.predicted["interval_ns"]
    assert abs(timed.latency_ps / 1000 - plan.predicted["latency_ns"]) <= 0.05 * plan.predicted["latency_ns"]
    assert [write_device(p) for p in found] == list(files(devices, split, objective))


@pytest.mark.parametrize("objective", ["throughput", "latency"])
@pytest.mark.parametrize("case", CASES, ids=("head", "twice"))
def test_mixed_plans_the_whole_way(case: tuple[str, Split], objective: str) -> None:
    whole_way(*case, objective)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["throughput", "latency"])
@pytest.mark.parametrize("case", SLOW, ids=("middle", "boards", "u50"))
def test_more_mixed_plans_the_whole_way(case: tuple[str, Split], objective: str) -> None:
    whole_way(*case, objective)


def test_a_trace_shows_the_bridges() -> None:
    text = trace(programs("u280", HEAD), 2, host_tasks({s.name: s.model for s in digits().host_segments}, FAST_HOST))
    assert "BRI" in text and "BRO" in text


def test_regions_are_convex() -> None:
    found = groups(digits(), dict.fromkeys(("/pool", "/conv3", "/add", "/mean"), 0))
    assert found == [(0, ("/pool",)), (0, ("/conv3", "/add", "/mean"))]
    assert groups(digits(), {"/conv1": 0, "/pool": 1}) == [(0, ("/conv1",)), (1, ("/pool",))]


def bridged(found: list[DeviceProgram]) -> list[Instruction]:
    return [i for p in found if p.fabric for i in p.fabric.text if i.op in ("BRI", "BRO", "MSG")]


def missed(case: tuple[str, Split], least: int, steps: tuple[int, ...]) -> list[tuple[str, str, int, int]]:
    """Fields of bridges and messages, from number `least` on, whose change by a step the static checker lets pass."""
    out, broken = [], programs(*case)
    for ins in bridged(broken)[least:]:
        for name, value in list(ins.fields.items()):
            for step in steps:
                if value + step < 0:
                    continue
                ins.fields[name] = value + step
                if not check_programs(broken):
                    out.append((ins.op, name, value, value + step))
            ins.fields[name] = value
    assert check_programs(broken) == []
    return out


def test_every_field_of_a_bridge_and_its_messages_means_something() -> None:
    assert missed(("u280", HEAD), 0, (1,)) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=("head", "twice"))
def test_every_field_of_all_bridges_and_messages_means_something(case: tuple[str, Split]) -> None:
    assert missed(case, 0, (1, -1, 2, 255)) == []


@pytest.mark.parametrize("what", ["lost", "twice", "swapped", "row", "other row"])
def test_broken_messages_are_found(what: str) -> None:
    broken = programs("u280", TWICE)
    fabric = next(p.fabric for p in broken if p.fabric)
    first = next(k for k, i in enumerate(fabric.text) if i.op == "MSG")
    bridge = next(k for k, i in enumerate(fabric.units()) if i.op == "BRO")
    if what == "lost":
        del fabric.text[first]
        fabric.text[-1].fields["messages"] -= 1
    elif what == "twice":
        fabric.text.insert(first, fabric.text[first])
        fabric.text[-1].fields["messages"] += 1
    elif what == "swapped":
        a, b = fabric.text[first : first + 2]
        fabric.text[first : first + 2] = [b, a]
    elif what == "row":
        fabric.rows[bridge] = replace(fabric.rows[bridge], tensor="nothing")
    else:
        fabric.rows[bridge] = replace(fabric.rows[bridge], shape=(1, 1, 1, 1))
    assert {f.code for f in check_programs(broken)} & {"FVC346", "FVC340", "FVC330"}


def test_the_executor_refuses_what_the_checker_does() -> None:
    """Broken boxes, tags and stages do not compute the right thing unnoticed."""
    graph, host = digits(), {s.name: s.model for s in digits().host_segments}
    for name in ("tag", *BOX[2:4], "stage"):
        broken = programs("u280", HEAD)
        message = next(i for i in bridged(broken) if i.op == "MSG" and i.fields["rank"] != 0xFFFF)
        message.fields[name] += 1
        try:
            report = verify_programs(broken, graph.model, host, frames=3)
        except Exception as problem:
            assert type(problem).__name__ == "MachineError"
        else:
            assert not report.passed or name == "stage"


def edited(plan: Plan, what: str) -> Plan:
    r = plan.regions[0]
    changes: dict[str, Any] = {
        "stage": {"stage": r.stage + 1},
        "lag": {"lag": r.lag + 1},
        "order": {"order": r.order + 1},
        "pace": {"pace_ps": r.pace_ps - 1},
        "latency": {"latency_ps": r.latency_ps + 1},
        "rank": {"rank": r.rank + 1},
        "die": {"die": "SLR0"},
        "layers": {"layers": (*r.layers, "/conv1")},
        "frames": {"bridges": (replace(r.bridges[0], frames=9), *r.bridges[1:])},
        "bridge": {"bridges": r.bridges[1:]},
    }
    if what in changes:
        return replace(plan, regions=(replace(r, **changes[what]), *plan.regions[1:]))
    if what == "gone":
        return replace(plan, regions=plan.regions[1:])
    if what == "style":
        return replace(plan, engines=tuple(replace(e, style="tiled") for e in plan.engines))
    if what == "channel":
        return replace(plan, channels=plan.channels[1:])
    if what == "interval":
        return replace(plan, predicted=plan.predicted | {"interval_ns": 100})
    fifo = next(k for k, e in enumerate(plan.engines) if e.style == "streaming")
    engine = plan.engines[fifo]
    engine = replace(
        engine, parameters=engine.parameters | {"fifo_depths": [7] * len(engine.parameters["fifo_depths"])}
    )
    return replace(plan, engines=(*plan.engines[:fifo], engine, *plan.engines[fifo + 1 :]))


EDITS = ("stage", "lag", "order", "pace", "latency", "rank", "die", "layers", "frames", "bridge", "gone", "style",
         "channel", "interval", "fifo")  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_edited_plans_are_found(what: str) -> None:
    plan = edited(plan_of("u280", TWICE), what)
    assert check_plan(plan, digits(), load_cluster("u280"))


@pytest.mark.parametrize("what", ["stage", "lag", "frames", "latency", "task"])
def test_edited_latency_plans_are_found(what: str) -> None:
    plan = plan_of("u280", TWICE, "latency")
    assert {s.stage for layer in plan.layers for s in layer.slices} > {0}  # behind a region
    if what == "task":  # a stage later than its inputs are there
        last = next(x for x in plan.layers if x.name == "/conv2")
        later = replace(last, slices=tuple(replace(s, stage=s.stage + 1) for s in last.slices))
        plan = replace(plan, layers=tuple(later if x.name == last.name else x for x in plan.layers))
    else:
        plan = edited(plan, what)
    assert check_plan(plan, digits(), load_cluster("u280"))


def test_report_and_explanation_tell_regions_and_folds() -> None:
    plan, found = plan_of("u280", HEAD), programs("u280", HEAD)
    plan = replace(plan, model={"name": "digits"})
    text, _ = report(plan, load_cluster("u280"), found, None, None)
    (row,) = [line for line in text.splitlines() if line.startswith("| region0 ")]
    assert "/conv1 … /pool" in row and all(b.tensor in row for b in plan.regions[0].bridges)
    assert "Of the layers on tiled engines." in text
    assert "/conv1 … /pool" in explain_plan(plan)["region0"]
    facts = explain_layer(plan, "/conv1")
    fold = next(e.fold for e in plan.engines if e.id == plan.layers[0].slices[0].engine)
    assert f"streaming pe={fold['pe']} simd={fold['simd']}" in facts["/conv1#0"] and "streams in region0" in facts
    assert "tile c=" in explain_layer(plan, "/conv2")["/conv2#0"]
    assert not [line for line in text.splitlines() if line.startswith("| /conv1 ") and "TOP/s" in line]


def test_a_diff_tells_what_streams_now() -> None:
    tiled = partition(digits(), load_cluster("u280"), PartitionOptions(host_ns=FAST_HOST, time_limit_s=1.0))
    found = diff_plans(tiled, plan_of("u280", HEAD))
    folded = {c.layer: (c.old, c.new) for c in found.layers if c.kind == "re-folded"}
    assert all("tiled tm=" in folded[x][0] and "streaming pe=" in folded[x][1] for x in ("/conv1", "/pool"))
