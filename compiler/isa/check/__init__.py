"""The static checker: proves a bundle legal (docs/machine.md, "Legal programs") from its programs alone.

It runs before anything else does and shares nothing with the scheduler that writes programs nor the executor that
runs them.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.isa.check.cluster import (
    End,
    Traffic,
    check_deadlock,
    check_devices,
    check_pairs,
    gather_traffic,
    in_order,
)
from compiler.isa.check.discipline import (
    check_credits,
    check_groups,
    check_layers,
    check_names,
    check_order,
    check_roles,
)
from compiler.isa.check.entries import check_entries
from compiler.isa.check.exact import check_exact
from compiler.isa.check.fields import check_fields
from compiler.isa.check.findings import Finding, Findings
from compiler.isa.check.memory import check_memory
from compiler.isa.check.names import check_folding, check_routes, check_rows, check_symbol_names
from compiler.isa.check.tables import (
    OutputCoverage,
    check_control,
    check_debug,
    check_hardware,
    check_packets,
    check_placements,
    check_symbols,
    check_transports,
    host_message_moves,
    not_whole,
)
from compiler.isa.check.tokens import LocalOrder, local_order
from compiler.isa.check.view import CoreView, view_core
from compiler.isa.program import Channel, DeviceProgram
from compiler.isa.reader import read_device
from device_db.errors import FvcError

__all__ = ["Finding", "check_bundle_bytes", "check_programs"]


def check_programs(programs: Sequence[DeviceProgram]) -> list[Finding]:
    """Every rule that a bundle breaks, in a fixed order; empty if the bundle is legal.

    Later proofs build on earlier ones: a core with an illegal field gets no memory proof, a cluster with unbalanced
    tokens no deadlock proof; the finding that stopped them is in the list.
    """
    findings = Findings()
    if not programs:
        findings.add("FVC331", "the bundle has no binary")
        return findings.result()
    views = _views(programs, findings)
    channels = check_devices(programs, findings)
    netlists = any(p.fabric is not None for p in programs)
    if netlists and not any(p.cores for p in programs):
        if not findings.kept:
            from compiler.isa.check.streams import check_fabrics

            check_routes(programs, findings)
            check_fabrics(programs, channels, findings)
        return findings.result()
    if views is None:
        return findings.result()
    if netlists and (findings.kept or not _bridges_stand(programs, channels, findings)):
        return findings.result()
    _check_stages(programs, findings)
    check_routes(programs, findings)
    orders = [_check_core(view, programs[0].replicas, findings) for view in views]
    if any(order is None for order in orders):
        return findings.result()
    ends: list[tuple[bool, int, End]] = []
    if netlists:
        from compiler.isa.check.bridges import bridge_ends

        ends = bridge_ends(programs, len(views))
    traffic = gather_traffic(programs, views, channels, findings, ends)
    check_pairs(traffic, findings)
    if not findings.kept:
        _check_host_boxes(programs, traffic, views, findings)
        check_deadlock(views, [o for o in orders if o is not None], traffic, channels, findings, in_order(ends))
        if netlists:
            from compiler.isa.check.streams import check_halts, check_outputs

            check_outputs(programs, findings)
            check_halts(programs, findings)
        coverage = OutputCoverage(views)
        for view in views:
            coverage.add(view, findings)
        coverage.finish(programs[0].replicas, findings)
    return findings.result()


def check_bundle_bytes(files: Sequence[bytes], names: Sequence[str] = ()) -> list[Finding]:
    """As `check_programs`, from the bytes of the `.fvcb` files; a file that cannot be read is a finding too."""
    programs, unreadable = [], []
    for k, data in enumerate(files):
        try:
            programs.append(read_device(data))
        except FvcError as error:
            where = (names[k],) if k < len(names) else ()
            unreadable.append(Finding(error.code, error.what, where + error.where, error.help))
    return unreadable or check_programs(programs)


def _views(programs: Sequence[DeviceProgram], findings: Findings) -> list[CoreView] | None:
    views = []
    for p in programs:
        for core in p.cores:
            try:
                views.append(view_core(p.name, core))
            except FvcError as error:
                findings.add(error.code, error.what, f"{p.name}, core {core.rank}", *error.where)
    return None if findings.kept else views


def _bridges_stand(programs: Sequence[DeviceProgram], channels: dict[int, Channel], findings: Findings) -> bool:
    """Netlists beside cores by themselves; False if there is nothing to go on with."""
    from compiler.isa.check.bridges import check_bridges

    return check_bridges(programs, channels, findings)


def _check_stages(programs: Sequence[DeviceProgram], findings: Findings) -> None:
    """FVC338: no instruction and no host message lies deeper than the cluster says."""
    for p in programs:
        for core in p.cores:
            deepest = max((i.stage for queue in core.queues.values() for i in queue), default=0)
            if deepest > p.stages:
                findings.add("FVC338", f"an instruction has stage {deepest}, the cluster {p.stages}", p.name)
        for u in p.fabric.units() if p.fabric is not None else ():
            if u.fields.get("stage", 0) > p.stages:
                findings.add("FVC338", f"a bridge has stage {u.fields['stage']}, the cluster {p.stages}", p.name)
        for m in p.host:
            if not 0 <= m.stage <= p.stages or not 0 <= m.replica < p.replicas:
                findings.add("FVC338", f"host message of {m.tensor}: stage {m.stage}, replica {m.replica}", p.name)


def _check_core(view: CoreView, replicas: int, findings: Findings) -> LocalOrder | None:
    """All proofs that need one core alone."""
    before = sum(findings.counts.values())
    check_hardware(view, findings)
    accesses = check_fields(view, findings)
    check_packets(view, findings)
    check_debug(view, findings)
    order = local_order(view, findings)
    if accesses is None or sum(findings.counts.values()) != before:
        return None
    check_credits(view, findings)
    check_groups(view, findings)
    check_layers(view, findings)
    check_order(view, findings)
    check_roles(view, findings)
    check_names(view, findings)
    check_rows(view, replicas, findings)
    check_folding(view, findings)
    check_control(view, findings)
    check_symbols(view, accesses, findings)
    check_symbol_names(view, findings)
    check_placements(view, accesses, findings)
    check_transports(view, findings)
    if order is None:
        return None
    check_exact(view, order, findings)
    accesses = check_entries(view, order, accesses, findings)
    check_memory(view, order, accesses, findings)
    return order


def _check_host_boxes(
    programs: Sequence[DeviceProgram], traffic: Traffic, views: Sequence[CoreView], findings: Findings
) -> None:
    """FVC330: a host message is the box that the debug row of its RX or TX names; the host gets tensors whole."""
    received: dict[tuple[str, int], list[tuple[int, ...]]] = {}
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {}
    for p in programs:
        numbers: dict[int, int] = {}
        for m in p.host:
            k = numbers[m.channel] = numbers.get(m.channel, -1) + 1
            end = (traffic.taken if m.to_core else traffic.sent)[m.channel][k]
            if end.node is None:
                findings.add("FVC330", "the host sends to itself", f"{p.name}, host message of {m.tensor}")
            elif wrong := host_message_moves(m, end.box):
                findings.add("FVC330", f"host message of {m.tensor}: {wrong}", *end.where)
            elif shapes.setdefault(m.tensor, (m.dtype, m.shape)) != (m.dtype, m.shape):
                findings.add("FVC330", f"host messages of {m.tensor} disagree on its type or shape", *end.where)
            elif not m.to_core:
                received.setdefault((m.tensor, m.replica), []).append(end.box)
    for (tensor, _), boxes in received.items():
        if wrong := not_whole(boxes, shapes[tensor][1]):
            findings.add("FVC330", f"the host does not get all of {tensor} once: {wrong}")
