"""Large layers whose weights come out of DRAM: cut so that parts read banks of their own, timed and priced as each word
and fold by itself."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from compiler.executor.verify import verify_programs
from compiler.frontend import ImportOptions, load_model
from compiler.isa.container import read_device, write_device
from compiler.isa.stream.flow import Actor, Input, Network, Output
from compiler.isa.stream.rates import least_buffer, window_index
from compiler.ops.stream.lower import price, priced
from compiler.ops.stream.sliced import Cut, expand
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.requant import reachable_range
from compiler.schedule import schedule
from device_db import load_cluster
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST
from tests.streaming.test_slices import quantised


def played(firings: int, cost: int, word: int, depth: int, delay: int, latency: int, gaps: list[int]) -> list[int]:
    """Starts of who takes a word out of memory at each firing, in the second of two frames."""
    net, every, index = Network(), np.arange(1, firings + 1), np.arange(firings)
    data, weights = net.stream("data", firings, None), net.stream("weights", firings, depth, delay)
    net.actor(Actor("source", 0, np.array(gaps), 0, [], [Output(data, every, index)], period_ps=0))
    memory = Actor("memory", 1, np.full(firings, word), latency, [], [Output(weights, every, index)], 0)
    memory.prefetches = True
    net.actor(memory)
    reads = [Input(data, every, index), Input(weights, every, index)]
    net.actor(Actor("unit", 2, np.full(firings, cost), 3, reads, []))
    net.play(2)
    return list(net.actors[2].starts[-1])


def one_by_one(firings: int, cost: int, word: int, depth: int, delay: int, latency: int, gaps: list[int]) -> list[int]:
    there = np.cumsum(gaps * 2)
    unit, memory = [0] * (2 * firings), [0] * (2 * firings)
    for k in range(2 * firings):
        room = unit[k - depth] + cost + delay if k >= depth else 0
        memory[k] = max(memory[k - 1] + word if k else 0, room)
        unit[k] = max(unit[k - 1] + cost if k else 0, int(there[k]), memory[k] + word + latency + delay)
    return unit[firings:]


def test_a_fifo_shorter_than_its_way_lets_words_pass_by_turns() -> None:
    draw = random.Random(3)
    for _ in range(60):
        firings, depth = draw.randint(1, 200), draw.randint(1, 30)
        cost, word, delay, latency = draw.randint(1, 9), draw.randint(1, 9), draw.randint(0, 90), draw.randint(0, 30)
        gaps = [draw.choice((0, 0, 1, 3, 50, 400)) for _ in range(firings)]
        case = (firings, cost, word, depth, delay, latency, gaps)
        assert played(*case) == one_by_one(*case)


def test_three_rows_tell_what_a_line_buffer_needs() -> None:
    draw, seen = random.Random(1), 0
    while seen < 300:
        f = {k: draw.randint(1, 4) for k in ("kh", "kw", "sh", "sw")} | {k: draw.randint(1, 3) for k in ("dh", "dw")}
        f |= {"oh": draw.randint(1, 9), "ow": draw.randint(1, 6), "pe": draw.randint(1, 2)}
        f["block"] = f["pe"] * draw.randint(1, 3)
        f["channels"] = f["block"] * draw.randint(1, 2)
        f["in_w"] = (f["ow"] - 1) * f["sw"] + (f["kw"] - 1) * f["dw"] + 1 + draw.randint(0, 3)
        f["pe_out"] = draw.choice((f["pe"], f["pe"] * f["kh"] * f["kw"]))
        first, last = window_index(f)
        before = np.minimum.accumulate(first[::-1])[::-1]
        assert least_buffer(f) == (np.maximum.accumulate(last + 1) - before).max()
        seen += 1


def test_every_fold_costs_what_it_costs_by_itself() -> None:
    whole = digits()
    weighted = next(n for n in whole.nodes if n.op == "QLinearConv" and n.weight.size > 200)  # type: ignore[union-attr]
    cut = expand(whole, ((weighted.name, Cut(1, 2)),))
    for graph in (whole, cut):
        for node in graph.nodes:
            for option in priced(graph, node, "ultrascale+", True, (), 2, True):
                assert option == price(graph, node, option.fold, "ultrascale+", 2)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_ranges_are_those_of_the_sums(dtype: str) -> None:
    rng = np.random.default_rng(2)
    info = np.iinfo(dtype)
    w = rng.integers(info.min, info.max, (7, 3, 5), dtype, True)
    for zero, low, high in ((0, 0, 255), (-7, -128, 127), (200, 3, 9)):
        real = w.astype(object).reshape(7, -1) - zero
        bias = np.arange(7)
        ends = [
            [b + sum(pick(v * (low - 4), v * (high - 4), 0) for v in row) for b, row in zip(bias, real, strict=True)]
            for pick in (min, max)
        ]
        found = reachable_range(w, zero, 4, low, high, bias)
        assert [list(x) for x in found] == ends


def test_parts_read_banks_of_their_own(tmp_path: Path) -> None:
    """A board of four banks whose memories are nearly all taken."""
    onnx.save(quantised("QLinearMatMul", (1, 1, 2048), (2048, 1200), 0), tmp_path / "wide.onnx")
    graph, cluster = load_model(tmp_path / "wide.onnx", ImportOptions()), load_cluster("u250")
    device = cluster.devices[0]
    some = {"lut": 22, "bram18": 1, "uram": 0}
    dies = [replace(d, usable_percent=replace(d.usable_percent, **some)) for d in device.board.dies]
    cluster = replace(cluster, devices=(replace(device, board=replace(device.board, dies=tuple(dies))),))
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=4.0)
    plan = partition(graph, cluster, options)
    assert check_plan(plan, graph, cluster) == []
    layer = next(x for x in plan.layers if x.strategy != "whole")
    parts = [s for s in layer.slices if s.role in ("full", "partial")]
    assert len(parts) > 1 and all(s.memory == "external" for s in parts)
    assert "memory banks" in plan.solver.proved_by
    banks = cluster.devices[0].board.banks
    rate = sum(b.bytes_per_second * b.efficiency_percent // 100 for b in banks) * len(cluster.devices)
    size, reached = 2048 * 1200, plan.predicted["interval_ns"]
    assert size * 10**9 // rate <= reached <= 1.01 * size * 10**9 / rate  # all four banks at work, all the time
    assert plan.solver.status == "OPTIMAL" and len(plan.predicted["banks"]) == 4
    found = [read_device(write_device(p)) for p in schedule(graph, plan, cluster)]
    report = verify_programs(found, graph.model, {s.name: s.model for s in graph.host_segments}, frames=2)
    assert report.passed and report.mismatches == 0
