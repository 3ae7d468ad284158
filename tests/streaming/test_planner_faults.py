"""Faults put into the planner's assembly, prices and sums: its own judge finds each, as it shares none of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import compiler.ops.stream.assemble as assemble
import compiler.ops.stream.conv as conv
import compiler.ops.stream.measure as measure
import compiler.ops.stream.netlists as netlists
import compiler.ops.stream.regions as regions
import compiler.ops.stream.sliced as sliced
import compiler.partition.check as check
from compiler.isa.check.findings import Finding
from compiler.isa.stream.table import LUTRAM
from compiler.partition import partition
from compiler.partition.mixed.compose import plan_split
from compiler.partition.mixed.part import Part
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db import load_cluster
from device_db.model import Resources
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST, SPREAD
from tests.streaming.test_mixed import TWICE

Patch = Callable[[pytest.MonkeyPatch], None]
SEEN: list[Finding] = []


def judged(patch: pytest.MonkeyPatch, fault: Patch, **options: Any) -> list[str]:
    """What the checker finds in the plan that a planner with a fault makes. The graph is a fresh one: what the planner
    remembers of it is lost with it."""
    found: list[str] = []
    real = check.check_plan

    def told(plan: Plan, *others: Any) -> list[Finding]:
        found.extend(f.what for f in real(plan, *others))
        return []

    patch.setattr(check, "check_plan", told)
    fault(patch)
    devices = options.pop("devices", "u280x2")
    asked = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=1.0, **options)
    partition(digits.__wrapped__(), load_cluster(devices), asked)
    return found


def scaled(name: str, change: Callable[[Any], Any]) -> Callable[[Any], Patch]:
    """A function of a module whose result is changed."""

    def of(module: Any) -> Patch:
        real = getattr(module, name)
        return lambda patch: patch.setattr(module, name, lambda *a, **k: change(real(*a, **k)))

    return of


def no_hops(patch: pytest.MonkeyPatch) -> None:
    """Streams that cross boundaries in no time."""
    real = netlists.Net.wire

    def wire(self: netlists.Net, *a: Any) -> None:
        real(self, *a)
        self.wires[-1].hops = 0

    patch.setattr(netlists.Net, "wire", wire)


def converters_elsewhere(patch: pytest.MonkeyPatch) -> None:
    """Width converters on the first die, wherever their layer stands."""
    real = assemble._Assembler._adapt
    patch.setattr(assemble._Assembler, "_adapt", lambda self, net, die, *a: real(self, net, 0, *a))


def free_converters(patch: pytest.MonkeyPatch) -> None:
    """Width converters that nobody counts."""
    real = measure.unit_resources
    none = Resources()
    patch.setattr(measure, "unit_resources", lambda ins, family: none if ins.op == "DWC" else real(ins, family))


SPREAD_OUT = {"interval": 3000, "anchors": SPREAD}
FAULTS: list[tuple[str, Patch, dict[str, Any], str]] = [
    ("block RAM short", scaled("unit_resources", lambda r: replace(r, bram18=max(0, r.bram18 - 1)))(measure),
     {"interval": 20000}, "units and FIFOs take"),
    ("FIFOs short", scaled("fifo_resources", lambda r: replace(r, lut=r.lut - 1))(measure), {}, "units and FIFOs take"),
    ("converters forgotten", scaled("steps", lambda found: [])(assemble), SPREAD_OUT, "its depths are"),
    ("converters not counted", free_converters, SPREAD_OUT, "units and FIFOs take"),
    ("converters elsewhere", converters_elsewhere, SPREAD_OUT, "crossings is"),
    ("wires without handshake", scaled("stream_wires", lambda n: n - 2)(measure), SPREAD_OUT, "crossings is"),
    ("quicker units", scaled("unit_cycles", lambda n: n - 1 if n > 1000 else n)(measure), SPREAD_OUT, "interval_ns is"),
    ("boundaries in no time", no_hops, SPREAD_OUT, "latency_ns is"),
    ("messages over no link", scaled("_network", lambda way: ())(assemble), SPREAD_OUT, "bits_per_frame"),
    ("narrow weights", scaled("weight_bits", lambda n: n - 1)(conv), {}, "units and FIFOs take"),
    ("narrow accumulators", scaled("accumulator_bits", lambda n: n - 1)(conv), {}, "units and FIFOs take"),
    ("line buffers in block RAM", lambda patch: patch.setattr(conv, "LINE_LUTRAM_BITS", 0), {}, "units and FIFOs take"),
    ("deep weights in LUTRAM", lambda patch: patch.setattr(conv, "memories", lambda *a: [LUTRAM]), {"interval": 20000},
     "do not stand in"),
    ("wide requantisers", lambda patch: patch.setattr(conv, "fewest_lanes", lambda pe, *a: pe), {}, "its depths are"),
    ("uneven slices", lambda patch: patch.setattr(sliced, "bounds", lambda n, k: (0, *range(1, k), n)),
     {"force_split": (("Pm", 2),)}, "expected"),
    ("quick banks", scaled("banks_of", lambda x: [replace(b, bytes_per_second=10**15) for b in x])(assemble),
     {"memory": "external", "devices": "zcu102"}, "pace_ps is"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "options", "text"), [pytest.param(*f[1:], id=f[0]) for f in FAULTS])
def test_a_fault_of_the_planner_is_found(
    fault: Patch, options: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(monkeypatch, fault, **options)
    assert any(text in what for what in found), found


def test_bridges_with_a_slot_too_many_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "LEAST_FRAMES", 3)
    options = PartitionOptions(style="auto", host_ns=FAST_HOST, time_limit_s=1.0)
    graph, cluster = digits(), load_cluster("u280")
    plan = plan_split(graph, cluster, options, [Part(*p) for p in TWICE])
    assert plan is not None
    found = check.check_plan(plan, graph, cluster)
    assert any("bridges differ" in f.what for f in found), found
