"""Needs cores' columns and tables; holds every name of a binary to what it stands for.

A name of which two places of a binary speak must be the same in both, and one that follows from others must be what
follows: tasks from nodes, partial tensors and symbols from tasks, links from the dies on a channel's way. What the
model calls its tensors and nodes, verification compares with the model.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from compiler.isa.check.findings import Findings
from compiler.isa.check.tables import layer_of
from compiler.isa.check.view import CoreView
from compiler.isa.program import Channel, DebugRow, DeviceProgram
from compiler.isa.stream.table import BRIDGES
from compiler.isa.table import HOST_RANK, Flag, Queue, Space

_HOST, _SWITCH = "host", "switch"
_BOXED = ("output", "partial", "transport")  # roles whose rows name a box of their tensor
_TENSOR = ("output", "partial", "transport", "input")  # … whose rows name a tensor
Place = tuple[str, str | None]  # device or "host" or "switch", and the die where it is known


def check_rows(view: CoreView, replicas: int, findings: Findings) -> None:
    """FVC334: debug rows name task, tensor and box where their role has them; tasks are "node#number", partial sums
    "node.partialnumber" (with replicas: some number)."""
    made = {(r.task, r.tensor) for r in view.core.debug if r.role in ("output", "partial")}
    sent = {i.debug for i in view.core.queues.get(Queue.TX, ())}
    for k, r in enumerate(view.core.debug):
        if wrong := _row_fault(r):
            findings.add("FVC334", f"debug row {k}: {wrong}", view.name)
        elif r.role == "partial" and not _partial_of(r, replicas):
            findings.add("FVC334", f"debug row {k}: {r.tensor} is no partial sum of {r.task}", view.name)
        elif k in sent and r.tensor and (r.task, r.tensor) not in made:
            findings.add("FVC334", f"debug row {k} sends {r.tensor}, which {r.task} does not make here", view.name)


def _row_fault(r: DebugRow) -> str | None:
    if r.node and layer_of(r.task) != r.node:
        return f"task {r.task!r} is none of node {r.node!r}"
    if not r.node and r.role not in ("transport", "sync", "control"):
        return f"a row of role {r.role} names its node"
    if not r.node and r.role != "transport" and r.task:
        return f"task {r.task!r} without a node"
    if r.role == "transport" and (r.node or (r.task and layer_of(r.task) is None)):
        return f"transport of task {r.task!r}, node {r.node!r}"
    if bool(r.tensor) > (r.role in _TENSOR) or (not r.tensor and r.role in _TENSOR[:-1] and r.box):
        return f"a row of role {r.role} with tensor {r.tensor!r}"
    if r.box and r.role not in _BOXED:
        return f"a row of role {r.role} with a box"
    return None


def _partial_of(r: DebugRow, replicas: int) -> bool:
    head, mark, number = r.tensor.rpartition(".partial")
    exact = r.task.rpartition("#")[2]
    return bool(mark) and head == r.node and (number == exact if replicas == 1 else number.isdecimal())


def check_folding(view: CoreView, findings: Findings) -> None:
    """FVC339: the folding metadata has a row a task, and says of it what tables and text say.

    What only the compiler knows (cycles, tile, the requantiser's proof) has its golden CRC.
    """
    rows = view.core.folding
    if not rows:
        return
    e = view.core.engine
    tiles: Counter[str] = Counter(p.task for p in view.core.packets if p.task)
    stages: dict[str, set[int]] = {t: set() for t in tiles}
    roles: dict[str, set[str]] = {t: set() for t in tiles}
    resident: set[str] = set()
    shared: dict[str, str] = {}  # tasks that pass a part of their weights, or of their input, on
    for i in view.stream:
        row = view.core.debug[i.debug]
        if i.op == "TX" and (i.fields.get("wgt", 0) or i.fields.get("act", 0)):
            shared[row.task] = "share" if i.fields.get("wgt", 0) else "inputs"
        if i.queue in (Queue.LD, Queue.CX, Queue.ST) and i.op != "SYNC" and row.task in stages:
            stages[row.task].add(i.stage)
            roles[row.task].add(row.role)
            if i.flags & Flag.ONCE and row.role == "weights":
                resident.add(row.task)
    if [r.get("task") for r in rows] != list(tiles):
        findings.add(
            "FVC339", f"folding metadata of {[r.get('task') for r in rows]}, the tasks are {list(tiles)}", view.name
        )
        return
    for r, (task, count) in zip(rows, tiles.items(), strict=True):
        wanted: dict[str, object] = {
            "layer": layer_of(task), "engine": e.id, "die": e.die, "tm": e.tm, "tn": e.tn, "tiles": count,
            "memory": _memory(r.get("memory"), task in resident, shared.get(task, "")),
        }  # fmt: skip
        for name, value in wanted.items():
            if name in r and (r[name] != value or type(r[name]) is not type(value)):
                findings.add(
                    "FVC339", f"folding metadata of {task}: {name} {r[name]!r}, but it is {value!r}", view.name
                )
        if r.get("role") is not None and (r["role"] == "partial") != ("partial" in roles[task]):
            findings.add("FVC339", f"folding metadata of {task}: role {r['role']!r}", view.name)
        if "stage" in r and stages[task] != {r["stage"]}:
            findings.add("FVC339", f"folding metadata of {task}: stage {r['stage']!r}", view.name)


def _memory(said: object, resident: bool, shared: str) -> object:
    """What the metadata must say of a task's weights; which share of how many stands nowhere else in the text."""
    if shared:
        return said if isinstance(said, str) and said.startswith(f"{shared} ") else shared
    return "resident" if resident else "stream"


def check_symbol_names(view: CoreView, findings: Findings) -> None:
    """FVC332: every symbol is read; it is "task/role" with its number, or "constant/tensor"."""
    spans = sorted((at, at + size, name) for name, (at, size) in view.core.symbols.items())
    readers: dict[str, set[tuple[str, str, str]]] = {name: set() for _, _, name in spans}
    starts = [low for low, _, _ in spans]
    for i in view.core.queues.get(Queue.LD, ()):
        if i.op == "LD" and i.fields.get("dram_space", 0) == Space.CONST:
            k = bisect_right(starts, i.fields.get("dram_addr", 0)) - 1
            if k >= 0:
                row = view.core.debug[i.debug]
                readers[spans[k][2]].add((row.task, row.role, row.tensor))
    number: Counter[str] = Counter()
    for _, _, name in spans:
        wanted = set()
        for task, role, tensor in sorted(readers[name]):
            if role == "input":
                wanted.add(f"constant/{tensor}")
            else:
                label = f"{task}/{role}"
                wanted.add(f"{label}{number[label]}")
                number[label] += 1
        if wanted != {name}:
            told = f"its loads call it {', '.join(sorted(wanted))}" if wanted else "no load reads it"
            findings.add("FVC332", f"symbol {name}: {told}", view.name)


def check_routes(programs: Sequence[DeviceProgram], findings: Findings) -> None:
    """FVC331: the links of a channel lead from the die of its source to that of its target, over the transport it
    names; network and host each enter a device at one die; every link is some channel's."""
    place: dict[int, Place] = {HOST_RANK: (_HOST, None)}
    for p in programs:
        for core in p.cores:
            place[core.rank] = (p.name, core.engine.die)
        if p.fabric is not None:  # where its bridges stand
            at = [u.fields["die"] for u in p.fabric.units() if u.op in BRIDGES]
            place[p.fabric.rank] = (p.name, p.fabric.dies[at[0]].name if at else None)
    gates: dict[tuple[str, str], set[str]] = {}
    for p in programs:
        unused = {link.id for link in p.links}.difference(*(c.links for c in p.channels))
        if unused:
            findings.add("FVC331", f"no channel runs over link {sorted(unused)[0]}", p.name)
        for c in p.channels:
            if c.source_rank not in place or c.target_rank not in place:
                continue
            if wrong := _walk(c, place[c.source_rank], place[c.target_rank], gates):
                findings.add("FVC331", f"channel {c.id} from rank {c.source_rank}: {wrong}", p.name)
    for (device, kind), dies in sorted(gates.items()):
        if len(dies) > 1:
            findings.add("FVC331", f"{kind} enters {device} at {' and at '.join(sorted(dies))}")


def _walk(c: Channel, here: Place, target: Place, gates: dict[tuple[str, str], set[str]]) -> str | None:
    """What is wrong with a channel's links, or None; notes at which dies they pass between devices."""
    kinds = set()
    gate: tuple[str, str] | None = None  # entered `here` through this, its die still unknown
    for link in c.links:
        way = link.split(">")
        if len(way) != 2:
            return f"{link!r} is no link"
        device, inner, die = way[0].partition("/")
        if device != here[0] or (inner and here[1] not in (None, die)):
            return f"link {link} does not begin at {_name(here)}"
        if inner:
            kinds.add("SLL")
            if gate is not None:
                gates.setdefault(gate, set()).add(die)
            here, gate = (device, way[1]), None
            continue
        kind = "PCIe" if _HOST in way else "Ethernet"
        kinds.add(kind)
        if here[1] is not None:
            gates.setdefault((device, kind), set()).add(here[1])
        here, gate = (way[1], None), (way[1], kind)
    if here[0] != target[0] or (None not in (here[1], target[1]) and here[1] != target[1]):
        return f"its links end at {_name(here)}, its target is on {_name(target)}"
    if gate is not None and target[1] is not None:
        gates.setdefault(gate, set()).add(target[1])
    wanted = next((k for k in ("PCIe", "Ethernet") if k in kinds), "SLL")
    return None if c.transport == wanted else f"transport {c.transport} over links of {wanted}"


def _name(place: Place) -> str:
    return place[0] if place[1] is None else f"{place[0]}/{place[1]}"
