"""Judges what a frame takes of engines, links, banks and host against the interval that the plan promises."""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.isa.check.findings import Findings
from compiler.isa.program import EngineSpec
from compiler.ops import task_cost, task_timeline
from compiler.ops.boxes import bounding
from compiler.partition.check.layers import partial_count
from compiler.plan.model import Box, Plan
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster
from device_db.topology import link_specs

HOST = "host"
SLACK_PERMILLE = 1  # rounding of picoseconds to nanoseconds and cycles


def frame_ps(plan: Plan) -> int:
    """Picoseconds between two frames of one replica."""
    return int(plan.predicted["interval_ns"]) * 1000 * plan.replicas


def link_bits(plan: Plan) -> dict[str, int]:
    """Bits a frame of every link, what only passes through included."""
    out: dict[str, int] = {}
    for c in plan.channels:
        for link in c.route:
            out[link] = out.get(link, 0) + c.bits_per_frame
    return out


def bank_bytes(plan: Plan, graph: Graph) -> dict[str, int]:
    """Bytes a frame of every bank: loads and stores in whole bursts, and both ends of every message."""
    specs = {e.id: EngineSpec(**e.parameters) for e in plan.engines}
    bank = {e.id: f"{e.device}/{e.parameters['bank']}" for e in plan.engines}
    out = dict.fromkeys(sorted(bank.values()), 0)
    for c in plan.channels:
        for end in (c.source, c.target):
            if end != HOST:
                out[bank[end]] += ceil_div(c.bits_per_frame, 8)
    held = buffers(plan, graph)
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        for s in layer.slices:
            t = task_timeline(
                graph, node, s.role, s.box, (s.reduce_from, s.reduce_to), specs[s.engine], s.tile, s.memory,
                partial_count(layer, s.replica), held[s.engine],
            )  # fmt: skip
            out[bank[s.engine]] += sum(t.ld_bus_bytes) + sum(t.st_bus_bytes)
    return out


def buffers(plan: Plan, graph: Graph) -> dict[str, dict[str, Box]]:
    """By engine and tensor the box that its core keeps in one dense buffer: all that is made there or arrives."""
    held: dict[str, dict[str, Box]] = {e.id: {} for e in plan.engines}

    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        for s in layer.slices:
            if s.role != "partial":  # every partial sum has a buffer of its own
                held[s.engine][node.y] = bounding(held[s.engine].get(node.y), s.box)
    for c in plan.channels:
        if c.target != HOST:
            held[c.target][c.tensor] = bounding(held[c.target].get(c.tensor), c.box)
    return held


def compute_ps(plan: Plan, graph: Graph) -> dict[str, int]:
    """Least busy time a frame of every engine: its busiest queue, nothing of it overlapping itself."""
    specs = {e.id: EngineSpec(**e.parameters) for e in plan.engines}
    queues = {e: [0, 0, 0] for e in specs}
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        for s in layer.slices:
            cost = task_cost(
                graph, node, s.role, s.box, (s.reduce_from, s.reduce_to), specs[s.engine], s.memory,
                partial_count(layer, s.replica),
            )  # fmt: skip
            if cost is not None:
                for i, cycles in enumerate((cost.load_cycles, cost.compute_cycles, cost.store_cycles)):
                    queues[s.engine][i] += cycles
    return {e: max(q) * 1_000_000_000 // specs[e].clock_khz for e, q in queues.items()}


def check_loads(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> bool:
    """Nothing is busy for longer than a frame takes. False if there is no interval to compare with."""
    interval = plan.predicted.get("interval_ns")
    if not isinstance(interval, int) or interval <= 0:
        found.add("FVC220", f"interval_ns is {interval!r}", "predicted.interval_ns")
        return False
    limit = frame_ps(plan) + frame_ps(plan) * SLACK_PERMILLE // 1000
    specs = link_specs(cluster)
    for link, bits in sorted(link_bits(plan).items()):
        if link not in specs:
            found.add("FVC220", f"no link is called '{link}'", "channels")
        elif bits * PS_PER_SECOND > limit * specs[link][0]:
            need, have = bits, limit * specs[link][0] // PS_PER_SECOND
            found.add(
                "FVC209",
                f"link {link} carries {need} bits a frame, {have} pass in its interval",
                "predicted.interval_ns",
            )
    rate = {f"{e.device}/{e.parameters['bank']}": int(e.parameters["bank_bytes_per_second"]) for e in plan.engines}
    for bank, size in bank_bytes(plan, graph).items():
        if size * PS_PER_SECOND > limit * rate[bank]:
            have = limit * rate[bank] // PS_PER_SECOND
            found.add(
                "FVC209",
                f"bank {bank} moves {size} bytes a frame, {have} pass in its interval",
                "predicted.interval_ns",
            )
    for engine, busy in compute_ps(plan, graph).items():
        if busy > limit:
            found.add(
                "FVC220",
                f"{engine} is busy {busy // 1000} ns a frame, the interval is {limit // 1000} ns",
                "predicted.interval_ns",
            )
    host = sum(h.time_ns for h in plan.host_segments) * 1000 * plan.replicas
    if host > limit:
        found.add(
            "FVC220",
            f"the host is busy {host // 1000} ns a frame, the interval is {limit // 1000} ns",
            "predicted.interval_ns",
        )
    return True
