"""Credits of channels: the messages counted are the scheduler's, and small frames over long routes are predicted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from compiler.ir.graph import storage4
from compiler.isa.table import HOST_RANK
from compiler.ops.boxes import whole_box
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.partition.pieces import HOST
from compiler.partition.prediction.credits import credits_ps, message_count
from compiler.partition.prediction.passing import Group
from compiler.partition.prediction.predict import stored_boxes
from compiler.plan.model import HopPlan
from compiler.schedule import schedule
from compiler.simulator import simulate
from device_db import load_cluster
from tests.ops.graphs import random_graph

CASES = [
    (40, "latency", ()),
    (41, "throughput", (("Pc", 2),)),
    (42, "latency", (("Pm", 2),)),
    (43, "throughput", ()),
    (46, "throughput", (("Pr", 2),)),
]


@pytest.mark.parametrize(("seed", "objective", "split"), CASES)
def test_messages_and_interval(seed: int, objective: str, split: tuple[tuple[str, int], ...]) -> None:
    graph, cluster = random_graph(seed, steps=4).graph(), load_cluster(("zcu102x4", "u280x2")[seed % 2])
    plan = partition(graph, cluster, PartitionOptions(objective=objective, time_limit_s=0.1, force_split=split))
    programs = schedule(graph, plan, cluster)
    real: Counter[tuple[int, int]] = Counter()
    for p in programs:
        pairs = {c.id: (c.source_rank, c.target_rank) for c in p.channels}
        sent = [i.fields["channel"] for core in p.cores for q in core.queues.values() for i in q if i.op == "TX"]
        real.update(pairs[c] for c in (*sent, *(m.channel for m in p.host if m.to_core)))

    rank = {e.id: e.rank for e in plan.engines} | {HOST: HOST_RANK}
    stored = stored_boxes(plan, {n.name: n for n in graph.nodes})
    counted: Counter[tuple[int, int]] = Counter()
    for c in plan.channels:
        t = graph.tensors.get(c.tensor)
        whole = {} if t is None else {c.tensor: whole_box(storage4(t.shape))}
        ends = tuple((whole if e == HOST else stored[e])[c.tensor] for e in (c.source, c.target))
        counted[rank[c.source], rank[c.target]] += message_count(c.box, t.dtype.size_bytes if t else 4, ends)
    assert counted == real
    assert plan.predicted["interval_ns"] == pytest.approx(simulate(programs).interval_ns, rel=0.05)


def test_shares_of_weights_hold_credits_too() -> None:
    """Half of a block of 128 KiB: four messages of 16 KiB, 1 us under way each, 65.536 us at 8 Gb/s; four credits."""
    route, halves = ("a>b",), ("n#0", "n#1")
    group = Group(halves, ("a", "b"), ((0,), (0,)), (1 << 17,), (64,), (HopPlan(0, "a", "b", 1 << 19, route),))
    links = {"a>b": (8_000_000_000, 1000)}
    graph = random_graph(40, steps=1).graph()
    plan = replace(partition(graph, load_cluster("zcu102"), PartitionOptions(time_limit_s=0.1)), channels=())
    assert credits_ps(plan, graph, links, {}, [group]) == (4_000_000 + 65_536_000) // 4
    assert credits_ps(plan, graph, links, {}) == 0
