"""Several copies of the net as netlists: frames dealt out in turn, each copy exact, none mixed with another."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest

from compiler.executor.faults import MachineError
from compiler.executor.verify import verify_programs
from compiler.export.finn import finn_files
from compiler.export.network import network_files
from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.joint import start
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.isa.program import DeviceProgram
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.copies import most_first, rates
from compiler.partition.stream.joint import as_case
from compiler.partition.stream.problem import make_problem
from compiler.plan.io import parse_plan, write_plan
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.simulator import host_tasks, simulate
from device_db import load_cluster
from device_db.errors import FvcError
from tests.bundles import digits
from tests.streaming.helpers import anyhow

QUICK_HOST = {"host0": 5, "host1": 5}
CASES = [("u280", 2), ("u280x2", 3)]


@cache
def plan_of(devices: str, replicas: int) -> Plan:
    options = PartitionOptions(style="streaming", host_ns=QUICK_HOST, replicas=replicas, time_limit_s=2.0)
    return partition(digits(), load_cluster(devices), options)


@cache
def binaries(devices: str, replicas: int) -> tuple[bytes, ...]:
    plan = plan_of(devices, replicas)
    return tuple(write_device(p) for p in schedule(digits(), plan, load_cluster(devices)))


def programs(devices: str, replicas: int) -> list[DeviceProgram]:
    return copy.deepcopy([read_device(b) for b in binaries(devices, replicas)])


def verify(found: list[DeviceProgram], **options: object) -> object:
    graph = digits()
    return verify_programs(found, graph.model, {s.name: s.model for s in graph.host_segments}, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}")
def test_every_copy_computes_exactly_what_the_plan_says(case: tuple[str, int]) -> None:
    plan, cluster = plan_of(*case), load_cluster(case[0])
    assert parse_plan(write_plan(plan)) == plan
    assert (plan.replicas, check_plan(plan, digits(), cluster)) == (case[1], [])
    assert check_programs(programs(*case)) == []
    report = verify(programs(*case), frames=2)
    assert report.passed and report.mismatches == 0
    assert len(report.inputs) == 2 + case[1]  # the extremes, and a random frame for each copy
    tasks = host_tasks({s.name: s.model for s in digits().host_segments}, QUICK_HOST)
    found = simulate(programs(*case), None, tasks)
    assert found.settled and found.replicas == case[1]
    assert abs(found.interval_ps / 1000 - plan.predicted["interval_ns"]) <= 1 + 0.05 * plan.predicted["interval_ns"]
    assert abs(found.latency_ps / 1000 - plan.predicted["latency_ns"]) <= 0.05 * plan.predicted["latency_ns"]


def test_copies_raise_the_rate() -> None:
    """One copy cannot be unfolded beyond its pixels; more copies give more frames."""
    one, two = plan_of("u280", 1), plan_of("u280", 2)
    assert two.predicted["fps"] > 1.9 * one.predicted["fps"]
    assert one.predicted["replicas_auto"]["replicas"] > 1 and "auto" in one.solver.notes[-1]
    assert "2 copies" in " ".join(two.solver.proved_scope)


@pytest.mark.slow
def test_auto_takes_as_many_copies_as_give_most() -> None:
    two, auto = plan_of("u280", 2), plan_of("u280", 0)
    assert auto.predicted["fps"] >= two.predicted["fps"] and auto.replicas > 2
    assert auto.solver.bound <= auto.solver.objective
    assert verify(programs("u280", 0), frames=2).passed
    assert auto.predicted["replicas_auto"] == {"replicas": auto.replicas, "fps": auto.predicted["fps"]}
    assert "any number of copies" in " ".join(auto.solver.proved_scope)


def test_prices_bound_what_the_search_finds() -> None:
    graph, cluster = digits(), load_cluster("u50")
    options = PartitionOptions(style="streaming", time_limit_s=1.0)
    found = rates(make_problem(graph, cluster, options, 1), 0)
    assert [r.copies for r in found] == list(range(1, len(found) + 1))
    assert all(a.round_ps <= b.round_ps for a, b in pairwise(found))
    assert most_first(found)[0].frame_ps <= min(r.frame_ps for r in found) * 1.001
    for copies in (1, 3, 6):
        p = make_problem(graph, cluster, options, 1, copies)
        merged = start(as_case(p, p.budgets, 1), Clock(Settings(5.0, 0, 1)))
        assert merged is not None and found[copies - 1].round_ps <= merged.merged * p.cycle()


@pytest.mark.parametrize("seed", range(3))
def test_copies_that_differ_in_folds_and_dies_compute_the_same(seed: int) -> None:
    report = verify(anyhow(digits(), seed, 2 + seed), frames=2, order_seed=seed)
    assert report.passed and report.mismatches == 0


def other_copy(p: DeviceProgram) -> None:
    p.host[0] = replace(p.host[0], replica=1 - p.host[0].replica)


def no_such_copy(p: DeviceProgram) -> None:
    p.host[0] = replace(p.host[0], replica=2)


def more_copies(p: DeviceProgram) -> None:
    p.replicas = 3


def countless_copies(p: DeviceProgram) -> None:
    p.replicas = 1 << 31


def one_copy(p: DeviceProgram) -> None:
    p.replicas = 1


def crossed(p: DeviceProgram) -> None:
    """A stream of one copy feeds the other, and the other way round."""
    half = len(p.fabric.streams()) // 2
    a, b = p.fabric.streams()[half - 1], p.fabric.streams()[-1]
    a.fields["target"], b.fields["target"] = b.fields["target"], a.fields["target"]


@pytest.mark.parametrize(
    "edit", [other_copy, no_such_copy, more_copies, countless_copies, one_copy, crossed], ids=lambda f: f.__name__
)
def test_copies_that_are_mixed_up_are_found(edit) -> None:  # type: ignore[no-untyped-def]
    found = programs("u280", 2)
    edit(found[0])
    assert check_programs(found)
    if edit not in (crossed, one_copy):
        with pytest.raises(MachineError):
            verify(found, frames=4)


def test_an_edit_of_a_plan_with_copies_does_not_pass() -> None:
    plan = plan_of("u280", 2)
    for path in (
        ("replicas",), ("engines", 9, "replica"), ("layers", 2, "slices", 1, "replica"),
        ("layers", 2, "slices", 1, "cycles"), ("predicted", "interval_ns"), ("channels", 0, "replica"),
    ):  # fmt: skip
        document = json.loads(write_plan(plan))
        target = document
        for k in path[:-1]:
            target = target[k]
        target[path[-1]] += 1
        try:
            edited = parse_plan(json.dumps(document))
        except FvcError:
            continue
        assert check_plan(edited, digits(), load_cluster("u280")), path


def test_more_copies_than_fit_say_what_is_short() -> None:
    with pytest.raises(FvcError) as caught:
        partition(digits(), load_cluster("pynq-z2"), PartitionOptions(style="streaming", replicas=9))
    assert (caught.value.code, caught.value.exit_code) == ("FVC203", 1)
    assert "9 copies" in caught.value.what and "needed" in caught.value.what and "usable" in caught.value.what
    assert any("--replicas" in h for h in caught.value.help)


def test_each_copy_has_files_for_finn_and_kernels_of_its_own() -> None:
    plan, cluster = plan_of("u280x2", 3), load_cluster("u280x2")
    files = finn_files(digits(), plan, cluster, None)
    per_copy = len(files) // 3
    assert len(files) == 3 * per_copy
    assert sum(f.startswith("export/finn/copy2/") for f in files) == per_copy
    at = {layer.name: layer.slices[2].engine for layer in plan.layers}
    for name, entry in json.loads(files["export/finn/copy2/floorplan.json"]).items():
        if name != "Defaults":
            assert at[name].startswith(f"u280-{entry['device_id']}/SLR{entry['slr']}/")
    for name, text in network_files(digits(), plan, cluster, programs("u280x2", 3)).items():
        if name.endswith(".cfg"):
            kernels = [line for line in text.decode().splitlines() if line.startswith("nk=StreamingDataflow")]
            assert len(kernels) == len(set(kernels)) and kernels
