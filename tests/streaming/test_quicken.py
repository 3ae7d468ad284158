"""The second objective of streaming plans: shorter latency at the same interval, and limits on both."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from compiler.frontend import load_model
from compiler.ir.graph import Graph
from compiler.isa.stream.flow import Actor, Input, Network, Output
from compiler.isa.stream.network import Work
from compiler.ops.stream.measure import latency_ps
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.least import least_latency_ps
from compiler.partition.stream.waits import chain
from compiler.plan.io import parse_plan, write_plan
from compiler.plan.model import Plan
from device_db import load_cluster
from device_db.errors import FvcError
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST, anyhow
from tests.streaming.test_binaries import LOW_BIT

BOARD = "pynq-z2"  # so small that layers are folded


@cache
def plan_of(objective: str = "throughput", interval: int | None = None, latency_ms: float | None = None) -> Plan:
    """interval=1: the least one, without the second objective."""
    options = PartitionOptions(
        style="streaming", host_ns=FAST_HOST, time_limit_s=4.0, objective=objective, interval=interval,
        max_latency_ms=latency_ms,
    )  # fmt: skip
    return partition(digits(), load_cluster(BOARD), options)


def line(*costs: int, words: int = 4) -> Network:
    """Actors one behind the other, each passing on words one by one."""
    net = Network()
    streams = [net.stream(str(k), words, None) for k in range(len(costs) - 1)]
    every = np.arange(1, words + 1)
    for k, cost in enumerate(costs):
        inputs = [Input(streams[k - 1], every, every - 1)] if k else []
        outputs = [Output(streams[k], every, every - 1)] if k < len(streams) else []
        net.actor(Actor(str(k), k, np.full(words, cost, np.int64), 0, inputs, outputs))
    net.play(1)
    return net


@pytest.mark.parametrize(
    ("costs", "shares"),
    [
        ((10, 1), {0: 40, 1: 1}),  # the second waits for every word of the first
        ((1, 10), {0: 1, 1: 40}),  # after the first word it is busy
        ((2, 7, 3), {0: 2, 1: 28, 2: 3}),
        ((5,), {0: 20}),
    ],
)
def test_a_frame_waits_for_the_slowest_of_a_line_and_a_word_of_the_others(
    costs: tuple[int, ...], shares: dict[int, int]
) -> None:
    assert chain(line(*costs), len(costs) - 1) == shares


def test_a_full_fifo_is_waited_for() -> None:
    """The writer's third word waits for a place that the slow reader gives back; a side branch is the sink."""
    net = Network()
    slow, side = net.stream("slow", 3, 1), net.stream("side", 3, None)
    every = np.arange(1, 4)
    net.actor(Actor("w", 0, np.full(3, 1), 0, [], [Output(slow, every, every - 1), Output(side, every, every - 1)]))
    net.actor(Actor("r", 1, np.full(3, 10), 0, [Input(slow, every, every - 1)], []))
    net.actor(Actor("s", 2, np.full(3, 1), 0, [Input(side, every, every - 1)], []))
    net.play(1)
    # w 0-1, r 1-11, w 11-12, r 12-22, w 22-23, s 23-24
    assert chain(net, 2) == {0: 3, 1: 20, 2: 1} and net.actors[2].end_ps == 24


def test_layers_get_quicker_at_the_same_interval_on_the_same_dies() -> None:
    plain, quick = plan_of(interval=1), plan_of()
    assert quick.predicted["interval_ns"] == plain.predicted["interval_ns"]
    assert quick.predicted["latency_ns"] < plain.predicted["latency_ns"]
    cycles = [{x.name: max(s.cycles for s in x.slices) for x in p.layers} for p in (plain, quick)]
    assert all(cycles[1][name] <= c for name, c in cycles[0].items())
    assert [(e.device, e.die) for e in quick.engines] == [(e.device, e.die) for e in plain.engines]
    assert quick.solver == replace(plain.solver, proved_by=quick.solver.proved_by)


def test_the_latency_first_takes_all_the_room_and_is_judged() -> None:
    first, second = plan_of("latency"), plan_of()
    assert first.predicted["latency_ns"] <= second.predicted["latency_ns"]
    assert first.solver.objective == first.predicted["latency_cycles"] and first.solver.bound <= first.solver.objective
    assert check_plan(first, digits(), load_cluster(BOARD)) == []
    document = json.loads(write_plan(first))
    document["solver"]["objective"] = first.predicted["interval_cycles"]
    found = check_plan(parse_plan(json.dumps(document)), digits(), load_cluster(BOARD))
    assert "FVC220" in {f.code for f in found}


def test_a_latency_asked_for_is_kept_or_refused() -> None:
    least = plan_of("latency").predicted["latency_ms"]
    kept = plan_of(latency_ms=float(least))
    assert kept.predicted["latency_ms"] <= least
    with pytest.raises(FvcError) as caught:
        plan_of("latency", latency_ms=least / 10)
    assert (caught.value.code, caught.value.exit_code) == ("FVC205", 1)


def test_a_rate_that_no_plan_of_the_least_latency_has_is_refused() -> None:
    options = PartitionOptions(
        style="streaming", host_ns=FAST_HOST, time_limit_s=4.0, objective="latency", target_fps=1e7
    )
    with pytest.raises(FvcError) as caught:
        partition(digits(), load_cluster(BOARD), options)
    assert (caught.value.code, caught.value.exit_code) == ("FVC204", 1)


def works(graph: Graph, time_ps: int = 500_000) -> list[Work]:
    return [
        Work(s.name, tuple(map(graph.root, s.inputs)), tuple(map(graph.root, s.outputs)), time_ps)
        for s in graph.host_segments
    ]


@pytest.mark.parametrize("path", [None, *LOW_BIT], ids=lambda p: p.stem if p else "digits")
def test_no_seats_are_below_the_least_latency(path: Path | None) -> None:
    graph = digits() if path is None else load_model(path)
    least = least_latency_ps(graph, works(graph), load_cluster("u250+u50"))
    for seed in range(4):
        assert least <= latency_ps(anyhow(graph, seed, copies=1 + seed % 2), works(graph))


def test_the_least_latency_of_the_example_by_hand() -> None:
    """Two segments of 0.5 us, 64 pixels of 8 bits there at the rate of both boards, PCIe's latency twice."""
    cluster = load_cluster("u280x2")
    board = cluster.devices[0].board
    pixels = -(-64 * 10**12 // (2 * board.pcie_bytes_per_second))
    least = least_latency_ps(digits(), works(digits()), cluster)
    assert least == 2 * 500_000 + 2 * board.pcie_latency_ns * 1000 + pixels
