"""Judges the plan against what was asked for: limits, anchors, forbidden cuts, replicas, memory, host times."""

from __future__ import annotations

from compiler.isa.check.findings import Findings
from compiler.plan.model import Plan
from device_db.model import Cluster

HOST_SEGMENT_NS = 50_000  # the stated default of a segment without a measured time
# What one bitstream fixes; ports, bank and clock are the die's.
ENGINE_SHAPE = ("tm", "tn", "act_bytes", "wgt_bytes", "acc_bytes", "tab_bytes", "vector_lanes")


def check_limits(plan: Plan, found: Findings) -> None:
    """--target-fps and --max-latency-ms, to a thousandth; figures that are none are found elsewhere."""
    fps, latency_ms = plan.predicted.get("fps"), plan.predicted.get("latency_ms")
    if isinstance(fps, int | float) and fps * 1000 < plan.options.get("target_fps_milli", 0) - 1:
        found.add("FVC220", f"{fps} frames a second, more asked for", "options.target_fps_milli")
    most = plan.options.get("max_latency_ms_milli", float("inf"))
    if isinstance(latency_ms, int | float) and latency_ms * 1000 > most + 1:
        found.add("FVC220", f"{latency_ms} ms, less asked for", "options.max_latency_ms_milli")


def check_options(plan: Plan, cluster: Cluster, found: Findings) -> None:
    """Every option recorded in the plan that the plan itself can be held to."""
    o = plan.options
    if o.get("replicas") not in (0, plan.replicas):
        found.add("FVC220", f"{plan.replicas} replicas, {o.get('replicas')!r} asked for", "replicas")
    check_limits(plan, found)
    on = {layer.name: layer.slices for layer in plan.layers}
    places = {e.id: (e.id, e.device, f"{e.device}/{e.die}") for e in plan.engines}
    for name, place in o.get("anchors", ()):
        if name not in on or any(place not in places[s.engine] for s in on[name]):
            found.add("FVC220", f"'{name}' does not stand on {place} alone", "options.anchors")
    for a, b in o.get("forbidden_cuts", ()):
        both = [*on.get(a, ()), *on.get(b, ())]
        if len({(s.engine, s.replica) for s in both}) > plan.replicas:
            found.add("FVC220", f"'{a}' and '{b}' stand on different engines", "options.forbidden_cuts")
    if o.get("memory") == "external" and any(s.memory == "resident" for x in plan.layers for s in x.slices):
        found.add("FVC220", "resident weights, external asked for", "options.memory")
    cores = o.get("cores")
    for device in cluster.devices:
        here = sum(1 for e in plan.engines if e.device == device.name)
        if here > (cores if cores is not None else len(device.board.dies)):
            found.add("FVC220", f"{here} engines on {device.name}, more than asked for", "options.cores")
    if o.get("uniform"):
        shapes = {tuple(e.parameters[k] for k in ENGINE_SHAPE) for e in plan.engines}
        if len(shapes) > 1:
            found.add("FVC220", f"{len(shapes)} kinds of engine, one for all asked for", "options.uniform")
    measured = o.get("host_ns", {})
    for h in plan.host_segments:
        want = measured.get(h.name, HOST_SEGMENT_NS)
        if h.time_ns != want:
            found.add("FVC220", f"{h.time_ns} ns, its stated time is {want}", f"host segment {h.name}")
