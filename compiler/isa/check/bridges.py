"""The static checker of bridges: that what passes between cores and netlists is whole, once, in time and without
deadlock.

Needs the programs of a cluster with cores and netlists. A *region* is what streams join. By itself a region never halts
(`streams.check_halts`): given its whole input and a free slot for all it makes, it makes a frame. Its bridges hold the
frames, so in one iteration of the cluster a region is no more than messages: it takes those of frame f at their stage,
works at its own, which is one later than the last of them, and sends at a stage not before that. With as many slots as
frames may lie between, everything that a message of a bridge waits for within its netlist belongs to an earlier
iteration; left are its other end, its credit, and the message before it in its channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler.isa.check.cluster import End
from compiler.isa.check.findings import Findings
from compiler.isa.check.streams import check_netlist
from compiler.isa.check.tables import not_whole
from compiler.isa.program import Channel, DeviceProgram, Instruction
from compiler.isa.stream.ports import container_bytes, frame_memory
from compiler.isa.stream.program import Fabric
from compiler.isa.stream.table import BOX, BRIDGES

LEAST_FRAMES = 2
Ends = list[tuple[bool, int, End]]  # whether it is sent, channel, end


def check_bridges(programs: Sequence[DeviceProgram], channels: dict[int, Channel], findings: Findings) -> bool:
    """Netlists by themselves, and FVC346 for their bridges and messages. False if there is nothing to go on with."""
    for p in programs:
        if p.replicas != 1:
            findings.add("FVC340", f"{p.replicas} replicas with a netlist", p.name)
        if p.fabric is None:
            continue
        if not check_netlist(p.name, p.fabric, findings):
            return False
        for k, ins in enumerate(p.fabric.units()):
            if ins.op == "MEM":
                findings.add(
                    "FVC348", "beside cores, whose the memory banks are, weights stand on the chip", _unit(p, k)
                )
            if ins.op in ("SRC", "SNK"):
                findings.add("FVC346", "beside cores a netlist sends and takes through bridges", _unit(p, k))
        _messages(p, p.fabric, channels, findings)
        _slots(p, p.fabric, findings)
    return not findings.kept


def _unit(p: DeviceProgram, k: int) -> str:
    assert p.fabric is not None
    op = p.fabric.units()[k].op if k < len(p.fabric.rows) else "no unit"
    return f"{p.name}, unit {k} ({op})"


def _messages(p: DeviceProgram, fabric: Fabric, channels: dict[int, Channel], findings: Findings) -> None:
    """Every message is a box of its bridge's tensor over a channel that leads there; together they are all of it."""
    units = fabric.units()
    boxes: dict[int, list[tuple[int, ...]]] = {k: [] for k, u in enumerate(units) if u.op in BRIDGES}
    here = {c.id for c in p.channels}
    last = (-1, False)
    for m in fabric.messages():
        f = m.fields
        where = f"{p.name}, message with tag {f['tag']}"
        if f["unit"] not in boxes:
            findings.add("FVC346", f"unit {f['unit']} is no bridge", where)
            continue
        unit = units[f["unit"]]
        out = unit.op == "BRO"
        if not last < (key := (f["tag"], not out)):
            findings.add("FVC346", "the messages do not stand in the order of their tags", where)
        last = key
        c = channels.get(f["channel"]) if f["channel"] in here else None
        ways = (fabric.rank, f["rank"]) if out else (f["rank"], fabric.rank)
        if c is None or (c.source_rank, c.target_rank) != ways:
            findings.add("FVC346", f"channel {f['channel']} does not lead to rank {f['rank']}", where)
        elif f["bytes"] > c.max_bytes:
            findings.add("FVC346", f"{f['bytes']} bytes, the channel takes {c.max_bytes}", where)
        box = _box(m)
        sizes = [box[2 * a + 1] - box[2 * a] for a in range(4)]
        u = unit.fields
        inside = all(box[2 * a + 1] <= u[name] for a, name in enumerate(("images", "channels", "in_h", "in_w")))
        if min(sizes) < 1 or not inside or f["bytes"] != prod(sizes) * container_bytes(u["bits"]):
            findings.add("FVC346", f"{f['bytes']} bytes are not the box {box} of the bridge's tensor", where)
        else:
            boxes[f["unit"]].append(box)
    if findings.kept:
        return
    for k, own in boxes.items():
        if not own:
            findings.add("FVC346", "no message ever passes the bridge", _unit(p, k))
        if units[k].op == "BRI" and (wrong := not_whole(own, fabric.rows[k].shape)):
            findings.add("FVC346", f"the bridge does not get its tensor whole and once: {wrong}", _unit(p, k))
        if (made := _made(fabric, k)) is not None and made != fabric.rows[k].tensor:
            findings.add("FVC346", f"the stream is {made}, the bridge's row says {fabric.rows[k].tensor}", _unit(p, k))


def _box(m: Instruction) -> tuple[int, ...]:
    return tuple(m.fields[name] for name in BOX)


def _made(fabric: Fabric, unit: int) -> str | None:
    """The tensor whose stream a BRO reads, through duplicators; None for BRI."""
    units, rows = fabric.units(), fabric.rows
    if units[unit].op != "BRO":
        return None
    before = {c.fields["target"]: c.fields["source"] for c in fabric.streams()}
    at = before[unit]
    while units[at].op in ("DUP", "DWC") and rows[at].role != "output" and at in before:
        at = before[at]
    return rows[at].tensor


def _regions(fabric: Fabric) -> list[list[int]]:
    """Units by region."""
    first = list(range(len(fabric.rows)))

    def root(k: int) -> int:
        while first[k] != k:
            first[k] = first[first[k]]
            k = first[k]
        return k

    for c in fabric.streams():
        a, b = root(c.fields["source"]), root(c.fields["target"])
        first[max(a, b)] = min(a, b)
    out: dict[int, list[int]] = {}
    for k in range(len(first)):
        out.setdefault(root(k), []).append(k)
    return list(out.values())


def _slots(p: DeviceProgram, fabric: Fabric, findings: Findings) -> None:
    """Stages and frame slots are those of docs/streaming.md, exactly; all bridges stand on one die."""
    units = fabric.units()
    known = [k for k, u in enumerate(units) if u.op in BRIDGES]
    stages: dict[int, list[int]] = {k: [] for k in known}
    for m in fabric.messages():
        if m.fields["unit"] in stages:
            stages[m.fields["unit"]].append(m.fields["stage"])
    if len({units[k].fields["die"] for k in known}) > 1:
        findings.add("FVC346", "the bridges stand on several dies", p.name)
    for region in _regions(fabric):
        into = [k for k in region if units[k].op == "BRI"]
        out = [k for k in region if units[k].op == "BRO"]
        if not into or not out or not all(stages[k] for k in (*into, *out)):
            findings.add("FVC346", "a region without input or output", _unit(p, region[0]))
            continue
        stage = 1 + max(s for k in into for s in stages[k])
        leaves = units[out[0]].fields["stage"]
        for k in (*into, *out):
            f = units[k].fields
            mine = k in into
            wanted = stage if mine else leaves
            lag = stage - min(stages[k]) if mine else leaves - stage
            if f["stage"] != wanted or lag < 0 or (not mine and set(stages[k]) != {leaves}):
                findings.add("FVC346", f"stage {f['stage']}, messages at {sorted(set(stages[k]))}, {wanted} expected",
                             _unit(p, k))  # fmt: skip
            elif f["frames"] != max(LEAST_FRAMES, lag + 1):
                findings.add("FVC346", f"{f['frames']} slots, {max(LEAST_FRAMES, lag + 1)} needed", _unit(p, k))
            elif f["memory"] != frame_memory(f, fabric.dies[f["die"]].uram > 0):
                findings.add("FVC346", "its buffer stands in another memory than its size asks for", _unit(p, k))


def bridge_ends(programs: Sequence[DeviceProgram], first: int) -> Ends:
    """The ends of all messages of bridges; their nodes are numbered by netlist from `first` on."""
    out: Ends = []
    for v, p in enumerate(p for p in programs if p.fabric is not None):
        assert p.fabric is not None
        units = p.fabric.units()
        for k, m in enumerate(p.fabric.messages()):
            f = m.fields
            where = (f"{p.name}, message with tag {f['tag']} of unit {f['unit']}",)
            tensor = p.fabric.rows[f["unit"]].tensor
            end = End(f["tag"], f["bytes"], f["stage"], tensor, _box(m), "", (first + v, k), where, True)
            out.append((units[f["unit"]].op == "BRO", f["channel"], end))
    return out
