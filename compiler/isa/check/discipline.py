"""Needs a core's columns; holds it to the one order and the credits that docs/machine.md prescribes.

Races and deadlocks are judged elsewhere. These rules take away the freedom to write the same computation in several
ways, so that a changed instruction stream is either found or was no change.
"""

from __future__ import annotations

import numpy as np

from compiler.isa.check.findings import Findings
from compiler.isa.check.view import CoreView, report
from compiler.isa.encoding import Ints
from compiler.isa.table import Queue, Space

_SPACE_ORDER = {Space.WGT: 0, Space.TAB: 1, Space.ACT: 2, Space.ACC: 2}
_ROLES = {"MAC": "compute", "SYNC": "sync", "TX": "transport", "RX": "transport", "CRC": "control", "END": "control"}


def _tokens(view: CoreView, mask: str, queue: Queue, other: Queue) -> Ints:
    """Instructions of `queue` that wait for (or post to) `other`."""
    hit = (view.head("queue") == queue) & (view.head(mask) >> other & 1 == 1)
    return np.flatnonzero(hit)


def check_credits(view: CoreView, findings: Findings) -> None:
    """FVC324: loads and results pass as many tokens forward as back; a packet's stores are one piece."""
    for a, b in ((Queue.LD, Queue.CX), (Queue.CX, Queue.ST)):
        forward, back = _tokens(view, "post", a, b), _tokens(view, "post", b, a)
        if len(forward) != len(back):
            what = f"{a.name}->{b.name} passes {len(forward)} tokens an iteration, {b.name}->{a.name} {len(back)}"
            findings.add("FVC324", what, view.name)
    packet = view.head("packet")
    size = len(view.core.packets) + 1
    stores = np.bincount(packet[view.head("queue") == Queue.ST], minlength=size)[:size] > 0
    for mask, queue, other in (
        ("post", Queue.CX, Queue.ST),
        ("wait", Queue.ST, Queue.CX),
        ("post", Queue.ST, Queue.CX),
        ("wait", Queue.CX, Queue.ST),
    ):
        count = np.bincount(packet[_tokens(view, mask, queue, other)], minlength=size)[:size]
        for k in np.flatnonzero(count != stores)[:5].tolist():
            what = f"{queue.name} of packet {k}: {int(count[k])} times {mask} {other.name}, {int(stores[k])} expected"
            findings.add("FVC324", what, view.name)


def check_groups(view: CoreView, findings: Findings) -> None:
    """FVC324: a load group opens with a wait for CX where the one before closed with a post; all meet END."""
    loads = np.flatnonzero(view.head("queue") == Queue.LD)
    if len(loads):
        opens = view.head("wait")[loads] >> Queue.CX & 1 == 1
        closed = np.roll(view.head("post")[loads] >> Queue.CX & 1 == 1, 1)
        what = "a load group must begin where the one before ends: wait for CX after a post to CX"
        report(findings, view, loads, opens != closed, "FVC324", what)
    for q in (Queue.ST, Queue.TX, Queue.RX):
        mine = np.flatnonzero(view.head("queue") == q)
        if not len(mine):
            continue
        for mask, wanted, verb in (("wait", mine[:1], "first waits for"), ("post", mine[-1:], "last posts to")):
            if not np.array_equal(_tokens(view, mask, q, Queue.CTL), wanted):
                findings.add("FVC324", f"of {q.name} not the {verb} CTL, and no other", view.name)


def check_layers(view: CoreView, findings: Findings) -> None:
    """FVC324: ST posts to LD with the last store of each task, LD waits for ST with the first load of each task that is
    no constant (or the SYNC in its place); no other instruction does."""
    rows = view.core.debug
    last = {rows[i.debug].task: k for k, i in enumerate(view.stream) if i.queue == Queue.ST}
    first: dict[str, int] = {}
    for k, i in enumerate(view.stream):
        row = rows[i.debug]
        if i.queue == Queue.LD and row.task and (i.op == "SYNC" or row.role == "input"):
            first.setdefault(row.task, k)
    for mask, queue, other, wanted, verb in (
        ("post", Queue.ST, Queue.LD, last, "last store of each task posts to LD"),
        ("wait", Queue.LD, Queue.ST, first, "first load of each task waits for ST"),
    ):
        if _tokens(view, mask, queue, other).tolist() != sorted(wanted.values()):
            findings.add("FVC324", f"not the {verb}, and no other", view.name)


def check_order(view: CoreView, findings: Findings) -> None:
    """FVC333: loads of a group stand by space (WGT, TAB, then ACT or ACC) and address; tags ascend in TX and in RX."""
    if (group := view.group("LD")) is not None:
        opens = (view.head("queue") == Queue.LD) & (view.head("wait") >> Queue.CX & 1 == 1)
        load_group = np.cumsum(opens)[group.index]
        order = np.array([_SPACE_ORDER.get(Space(s), 3) for s in range(len(Space))])
        key = (order[group.fields["scratch_space"]] << 34) | group.fields["scratch_addr"]
        late = np.zeros(len(key), np.bool_)
        late[1:] = (key[1:] <= key[:-1]) & (load_group[1:] == load_group[:-1])
        report(findings, view, group.index, late, "FVC333", "stands after a load that it should come before")
    for op in ("TX", "RX"):
        if (group := view.group(op)) is not None:
            tag = group.fields["tag"]
            late = np.zeros(len(tag), np.bool_)
            late[1:] = tag[1:] <= tag[:-1]
            report(findings, view, group.index, late, "FVC333", "its tag is not above that of the message before")


def _role(view: CoreView, k: int) -> tuple[str, ...]:
    """The roles that an instruction's debug row may name."""
    i = view.stream[k]
    if i.op == "LD":
        return {Space.WGT: ("weights",), Space.TAB: ("table",)}.get(Space(i.fields["scratch_space"]), ("input",))
    if i.op == "ST":
        return ("partial", "output") if i.fields["scratch_space"] == Space.ACC else ("output",)
    return (_ROLES.get(i.op, "compute"),)


def check_roles(view: CoreView, findings: Findings) -> None:
    """FVC334: the debug row's role is what the instruction does; loads of tensors lie in a placement of that tensor."""
    rows = view.core.debug
    places: dict[str, list[tuple[int, int]]] = {}
    for p in view.core.memory_map:
        places.setdefault(p.tensor, []).append((p.address, p.address + p.bytes))
    for k, i in enumerate(view.stream):
        row = rows[i.debug]
        if row.role not in _role(view, k):
            findings.add("FVC334", f"its debug row has the role {row.role}", *view.where(k))
        elif i.op == "LD" and i.fields["dram_space"] == Space.WORK:
            at = i.fields["dram_addr"]
            if not any(low <= at < high for low, high in places.get(row.tensor, ())):
                findings.add("FVC334", f"does not load from the placement of {row.tensor}", *view.where(k))


def check_names(view: CoreView, findings: Findings) -> None:
    """FVC331, FVC333: the engine is named by its device and die; the tiles of a task are numbered in order."""
    e = view.core.engine
    if e.id.split("/")[:2] != [view.device, e.die]:
        findings.add("FVC331", f"engine {e.id} does not stand on {view.device}/{e.die}", view.name)
    next_tile: dict[str, int] = {}
    for p in view.core.packets:
        wanted = next_tile.get(p.task, 0) if p.task else 0
        if p.tile != wanted:
            findings.add("FVC333", f"packet {p.id} is tile {p.tile} of {p.task!r}, {wanted} expected", view.name)
        next_tile[p.task] = p.tile + 1
    end = max((p.address + p.depth * -(-p.bytes // 64) * 64 for p in view.core.memory_map), default=0)
    if view.core.work_bytes != end:
        what = f"WORK has {view.core.work_bytes} bytes, the placements with their slots end at {end}"
        findings.add("FVC335", what, view.name)
