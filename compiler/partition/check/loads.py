"""Judges what a frame takes of engines, links, banks and host against the interval that the plan promises."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.ir.graph import Graph
from compiler.isa.check.findings import Findings
from compiler.ops import TaskTimeline
from compiler.ops.boxes import burst_bytes
from compiler.plan.model import Box, Plan
from cost_models.primitives import PS_PER_SECOND
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
    for hop in (h for layer in plan.layers for x in layer.xfer for h in x.hops):
        for link in hop.route:
            out[link] = out.get(link, 0) + hop.bits_per_frame
    return out


def bank_bytes(
    plan: Plan, graph: Graph, times: Mapping[str, TaskTimeline], held: Mapping[str, Mapping[str, Box]]
) -> dict[str, int]:
    """Bytes a frame of every bank: loads, stores and both ends of every message, in whole bursts."""
    bank = {e.id: f"{e.device}/{e.parameters['bank']}" for e in plan.engines}
    out = dict.fromkeys(sorted(bank.values()), 0)
    for c in plan.channels:
        known = graph.tensors.get(c.tensor)
        elem = known.dtype.size_bytes if known is not None else 4
        for end in (c.source, c.target):
            if end in bank:
                out[bank[end]] += burst_bytes(held[end].get(c.tensor, c.box), c.box, elem)
    for layer in plan.layers:
        for s in layer.slices:
            if s.task in times:
                out[bank[s.engine]] += sum(times[s.task].ld_bus_bytes) + sum(times[s.task].st_bus_bytes)
    return out


def compute_ps(plan: Plan, times: Mapping[str, TaskTimeline]) -> dict[str, int]:
    """Least busy time a frame of every engine: its busiest queue, nothing of it overlapping itself."""
    clock = {e.id: int(e.parameters["clock_khz"]) for e in plan.engines}
    queues = {e: [0, 0, 0] for e in clock}
    for layer in plan.layers:
        for s in layer.slices:
            t = times.get(s.task)
            if t is not None:
                for i, cycles in enumerate((t.ld_cycles, t.cx_cycles, t.st)):
                    queues[s.engine][i] += sum(cycles)
    return {e: max(q) * 1_000_000_000 // clock[e] for e, q in queues.items()}


def check_loads(
    plan: Plan, times: Mapping[str, TaskTimeline], banks: Mapping[str, int], cluster: Cluster, found: Findings
) -> bool:
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
    for bank, size in banks.items():
        if size * PS_PER_SECOND > limit * rate[bank]:
            have = limit * rate[bank] // PS_PER_SECOND
            found.add(
                "FVC209",
                f"bank {bank} moves {size} bytes a frame, {have} pass in its interval",
                "predicted.interval_ns",
            )
    for engine, busy in compute_ps(plan, times).items():
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
