"""Memory banks as a resource of fold and place: readers that hold each other up find banks of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.measure import bank_ps
from compiler.ops.stream.programs import programs_of
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.bandwidth import reading_ps
from compiler.partition.stream.joint import choose
from compiler.partition.stream.problem import Problem, make_problem
from device_db import load_cluster
from tests.bundles import digits
from tests.partition.whole_way import run
from tests.streaming.helpers import FAST_HOST

EXTERNAL = PartitionOptions(style="streaming", host_ns=FAST_HOST, memory="external", time_limit_s=4.0)


def problem(devices: str) -> Problem:
    cluster = load_cluster(devices)
    return make_problem(digits(), cluster, EXTERNAL, len(cluster.devices))


@pytest.mark.parametrize("devices", ["zcu102", "zcu102x2", "u280", "u250x2"])
def test_what_is_read_is_that_of_the_netlist(devices: str) -> None:
    p, cluster = problem(devices), load_cluster(devices)
    found = choose(p, p.budgets, 1)
    assert found is not None
    assembly = assemble(digits(), cluster, found.seats)
    told = bank_ps(programs_of(digits(), cluster, assembly, found.interval_ps, {}, {}))
    each = [max((ps for name, (_, ps, _) in told.items() if name.startswith(d)), default=0) for d in p.devices]
    assert reading_ps(p, found.seats) == each
    assert found.interval_ps >= max(each)


def test_the_slowest_bank_counts_not_the_quickest_reader() -> None:
    """The two large layers of the example each have a quick bank on two boards; on one they share it."""
    one, two = (choose(p, p.budgets, 1) for p in map(problem, ("zcu102", "zcu102x2")))
    assert one is not None and two is not None
    assert two.interval_ps < 0.7 * one.interval_ps
    assert len({s.ref.device for s in two.seats.values()}) == 2


def test_a_plan_whose_readers_share_no_bank_is_at_its_bound() -> None:
    told = run(digits(), load_cluster("zcu102x2"), replace(EXTERNAL, time_limit_s=8.0))
    assert told.plan.solver.gap < 0.001
    assert told.interval_ns == pytest.approx(told.predicted_interval_ns, rel=0.01)
    assert told.latency_ns == pytest.approx(told.predicted_latency_ns, rel=0.05)
