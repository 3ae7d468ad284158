"""Needs a core's columns and tables; proves that they say what the text does."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from compiler.isa.check.findings import Findings
from compiler.isa.check.footprint import Accesses
from compiler.isa.check.view import CoreView, report
from compiler.isa.encoding import Ints
from compiler.isa.program import HostMessage, Placement
from compiler.isa.table import Queue, Space

ELEMENT_BYTES = {"u8": 1, "s8": 1, "i32": 4, "i64": 8}
RESULTS = ("output", "partial")  # roles of stores
_MOST_SCRATCH = 1 << 30
_MOST_ELEMENTS = 1 << 33  # of one tensor; bounds what a proof of a hostile file costs


def sizes(box: tuple[int, ...]) -> tuple[int, int, int, int]:
    return (box[1] - box[0], box[3] - box[2], box[5] - box[4], box[7] - box[6])


def legal_box(box: tuple[int, ...]) -> bool:
    return len(box) == 8 and all(0 <= box[i] < box[i + 1] for i in (0, 2, 4, 6))


def inside(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return all(large[i] <= small[i] and small[i + 1] <= large[i + 1] for i in (0, 2, 4, 6))


def dense_strides(shape: Sequence[int], elem: int) -> list[int]:
    strides = [elem]
    for n in reversed(shape[1:]):
        strides.append(strides[-1] * n)
    return strides[::-1]


def ordered(counts: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """A box as the order in which it visits bytes: dimensions of one element dropped, neighbours merged."""
    merged: list[tuple[int, int]] = []
    for count, stride in zip(counts, strides, strict=True):
        if count == 1:
            continue
        if merged and merged[-1][1] == count * stride:
            merged[-1] = (merged[-1][0] * count, stride)
        else:
            merged.append((count, stride))
    return merged


def layer_of(task: str) -> str | None:
    """The node of a task "node#3", or None if it is no task's name."""
    node, mark, number = task.rpartition("#")
    return node if mark and number.isdecimal() and number == str(int(number)) else None


def check_packets(view: CoreView, findings: Findings) -> None:
    """FVC333: ids count from 0, indices valid, a packet's instructions stand together in each queue."""
    packets = view.core.packets
    if [p.id for p in packets] != list(range(len(packets))):
        findings.add("FVC333", "packet ids do not count from 0", view.name)
    tiles = [(p.task, p.tile) for p in packets if p.task]
    if len(set(tiles)) != len(tiles):
        findings.add("FVC333", "two packets are the same tile of the same task", view.name)
    packet = view.head("packet")
    everything = np.arange(view.count)
    report(findings, view, everything, packet >= max(len(packets), 1), "FVC333", "packet {} does not exist", (packet,))
    used = np.zeros(len(packets) + 1, np.bool_)
    used[np.minimum(packet[view.head("queue") <= Queue.ST], len(packets))] = True
    for k in np.flatnonzero(~used[:-1])[:5].tolist():
        findings.add("FVC333", f"packet {k} has no instruction", view.name)
    homeless = np.isin(view.head("queue"), (Queue.TX, Queue.RX, Queue.CTL)) & (packet != 0)
    report(findings, view, everything, homeless, "FVC333", "packet must be 0 in TX, RX and CTL")
    for q in (Queue.LD, Queue.CX, Queue.ST):
        mine = everything[view.first[q] : view.first[q] + view.length[q]]
        run_starts = np.flatnonzero(np.diff(packet[mine], prepend=-1))
        first_of = packet[mine][run_starts]
        _, first = np.unique(first_of, return_index=True)
        again = np.setdiff1d(np.arange(len(first_of)), first)
        for k in again[:5].tolist():
            index = int(mine[run_starts[k]])
            findings.add("FVC333", f"packet {first_of[k]} is not one run of {q.name}", *view.where(index))


def check_debug(view: CoreView, findings: Findings) -> None:
    """FVC334: indices valid, rows used, row and packet of one task, boxes legal."""
    rows, packets = view.core.debug, view.core.packets
    debug, packet = view.head("debug"), view.head("packet")
    everything = np.arange(view.count)
    report(findings, view, everything, debug >= max(len(rows), 1), "FVC334", "debug row {} does not exist", (debug,))
    used = np.zeros(len(rows) + 1, np.bool_)
    used[np.minimum(debug, len(rows))] = True
    for k in np.flatnonzero(~used[:-1])[:5].tolist():
        findings.add("FVC334", f"debug row {k} belongs to no instruction", view.name)
    if len(set(rows)) != len(rows):
        findings.add("FVC334", "two debug rows are equal", view.name)
    for k, row in enumerate(rows):
        if row.box and not legal_box(row.box):
            findings.add("FVC334", f"debug row {k}: {row.box} is no box", view.name)
    if not rows or not packets:
        return
    tasks = {name: k for k, name in enumerate(dict.fromkeys([p.task for p in packets] + [r.task for r in rows]))}
    of_row = np.array([tasks[r.task] for r in rows] + [-1])
    of_packet = np.array([tasks[p.task] for p in packets] + [-1])
    differs = of_row[np.minimum(debug, len(rows))] != of_packet[np.minimum(packet, len(packets))]
    differs &= np.isin(view.head("queue"), (Queue.LD, Queue.CX, Queue.ST))
    report(findings, view, everything, differs, "FVC334", "its debug row is of another task than its packet")


def check_symbols(view: CoreView, accesses: Accesses, findings: Findings) -> None:
    """FVC332: symbols in bounds and apart, bytes between them zero; every read of CONST stays within one symbol."""
    spans = sorted((at, at + size, name) for name, (at, size) in view.core.symbols.items())
    constants = view.core.constants
    end = 0
    for low, high, name in spans:
        if low < end or low < 0 or high > len(constants):
            findings.add("FVC332", f"symbol {name} overlaps another or leaves CONST", view.name)
            return
        if any(constants[end:low]):
            findings.add("FVC332", f"bytes of CONST before {name} belong to no symbol and are not zero", view.name)
        end = high
    if any(constants[end:]):
        findings.add("FVC332", "bytes at the end of CONST belong to no symbol and are not zero", view.name)
    reads = accesses.take(np.flatnonzero(accesses.space == Space.CONST))
    loads = reads.take(
        np.array([k for k, i in enumerate(reads.instruction.tolist()) if view.stream[i].op == "LD"], np.int64)
    )
    if not len(loads.address):
        return
    lows, highs = np.array([s[0] for s in spans]), np.array([s[1] for s in spans])
    which = np.searchsorted(lows, loads.low, side="right") - 1
    bad = (
        (which < 0) | (loads.high > highs[np.maximum(which, 0)])
        if len(spans)
        else np.ones(len(loads.address), np.bool_)
    )
    report(findings, view, loads.instruction, bad, "FVC332", "reads CONST bytes of no symbol or of two")


def check_control(view: CoreView, findings: Findings) -> None:
    """FVC336: one END, at the end of CTL; SYNC only with tokens; CRC values are those of the constants."""
    ctl = view.core.queues.get(Queue.CTL, [])
    if [i.op for i in ctl].count("END") != 1 or not ctl or ctl[-1].op != "END":
        findings.add("FVC336", "CTL must end with its one END", view.name)
    if (group := view.group("SYNC")) is not None:
        idle = (view.head("wait")[group.index] | view.head("post")[group.index]) == 0
        report(findings, view, group.index, idle, "FVC336", "a SYNC without tokens orders nothing")
    checked = 0
    if (group := view.group("CRC")) is not None:
        for k in group.index.tolist():
            f = view.stream[k].fields
            if f["dram_addr"] != checked:
                findings.add("FVC336", f"checks CONST from byte {f['dram_addr']}, {checked} is next", *view.where(k))
            checked = f["dram_addr"] + f["bytes"]
            region = view.core.constants[f["dram_addr"] : f["dram_addr"] + f["bytes"]]
            if zlib.crc32(region) != f["expect"]:
                what = f"expects CRC-32 {f['expect']:08x}, the constants have {zlib.crc32(region):08x}"
                findings.add("FVC336", what, *view.where(k))
    if checked < len(view.core.constants):
        findings.add("FVC336", f"no CRC instruction covers CONST byte {checked}", view.name)


def check_hardware(view: CoreView, findings: Findings) -> None:
    """FVC337: what the program needs is what its hardware description has."""
    e = view.core.engine
    for name in ("tm", "tn", "act_bytes", "wgt_bytes", "acc_bytes", "tab_bytes", "vector_lanes", "ld_bytes_per_cycle",
                 "st_bytes_per_cycle", "clock_khz", "bank_bytes_per_second", "dram_bytes"):  # fmt: skip
        if getattr(e, name) < 1:
            findings.add("FVC337", f"{name} is {getattr(e, name)}", view.name)
    for name in ("act_bytes", "wgt_bytes", "acc_bytes", "tab_bytes"):
        if getattr(e, name) > _MOST_SCRATCH:
            findings.add("FVC337", f"{name} is {getattr(e, name)}: no device has so much memory on chip", view.name)
    need = len(view.core.constants) + view.core.work_bytes
    if need > e.dram_bytes:
        findings.add("FVC337", f"CONST and WORK take {need} bytes, its share of {e.bank} is {e.dram_bytes}", view.name)


def check_placements(view: CoreView, accesses: Accesses, findings: Findings) -> None:
    """FVC335: placements are legal; every WORK access lies in one, with its frame slots."""
    legal: list[Placement] = []
    for p in view.core.memory_map:
        elem = ELEMENT_BYTES.get(p.dtype)
        if elem is None or not legal_box(p.box) or prod(sizes(p.box)) * elem > p.bytes or p.depth < 1 or p.address < 0:
            findings.add("FVC335", f"placement of {p.tensor}: no legal box, type, size or depth", view.name)
        elif p.address + p.bytes > view.core.work_bytes:
            findings.add("FVC335", f"placement of {p.tensor} leaves WORK", view.name)
        else:
            legal.append(p)
    work = accesses.take(np.flatnonzero(accesses.space == Space.WORK))
    if not len(work.address):
        return
    low, slots, stride = work.low, work.slots, work.slot_stride
    high = work.high - (slots - 1) * stride
    found = np.zeros(len(low), np.bool_)
    for p in legal:
        found |= (
            (low >= p.address)
            & (high <= p.address + p.bytes)
            & (slots == p.depth)
            & ((slots == 1) | (stride == -(-p.bytes // 64) * 64))
        )
    report(
        findings, view, work.instruction, ~found, "FVC335", "its WORK box lies in no placement with these frame slots"
    )


@dataclass(slots=True)
class Coverage:
    """How often each element of a tensor is stored as output, over the bounding box of its placements. A partial sum is
    stored from where it begins on, any other tensor from its first element; replicas may cut a layer differently."""

    begin: list[int]
    shape: list[int]
    partial: bool = False
    count: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = None


class OutputCoverage:
    """Adds up the stores of results and partial sums of all cores; says what is missing, double or outside (FVC335)."""

    def __init__(self, views: Sequence[CoreView]) -> None:
        self.tensors: dict[str, Coverage] = {}
        for view in views:
            for p in view.core.memory_map:
                if legal_box(p.box):
                    begin, ends = [p.box[i] for i in (0, 2, 4, 6)], [p.box[i] for i in (1, 3, 5, 7)]
                    known = self.tensors.setdefault(p.tensor, Coverage(begin, ends))
                    known.begin = [min(a, b) for a, b in zip(known.begin, begin, strict=True)]
                    known.shape = [max(a, b) for a, b in zip(known.shape, ends, strict=True)]

    def add(self, view: CoreView, findings: Findings) -> None:
        """The stores of one core whose debug rows say "output" or "partial"."""
        group = view.group("ST")
        if group is None:
            return
        by_tensor: dict[str, list[Placement]] = {}
        for p in view.core.memory_map:
            by_tensor.setdefault(p.tensor, []).append(p)
        local: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}
        places: dict[int, Placement] = {}
        for k in group.index.tolist():
            row = view.core.debug[view.stream[k].debug]
            if row.role not in RESULTS:
                continue
            f = view.stream[k].fields
            place = next((p for p in by_tensor.get(row.tensor, ()) if _holds(p, f)), None)
            if place is None:
                findings.add("FVC335", f"stores output of {row.tensor} outside its placement", *view.where(k))
                continue
            if row.box and not inside(row.box, place.box):
                findings.add("FVC335", f"its debug box of {row.tensor} leaves the placement", *view.where(k))
                continue
            if prod(sizes(place.box)) > _MOST_ELEMENTS:
                findings.add("FVC335", f"placement of {row.tensor} is larger than any tensor", *view.where(k))
                continue
            places[id(place)] = place
            if row.role == "partial":
                self.tensors[row.tensor].partial = True
            else:
                self.tensors[row.tensor].begin = [0, 0, 0, 0]
            counts = local.setdefault(id(place), np.zeros(sizes(place.box), np.uint8))
            elem = f["elem"]
            steps = tuple(f[s] // elem for s in ("dram_s2", "dram_s1", "dram_s0"))
            start = (f["dram_addr"] - place.address) // elem
            shape = (f["n2"], f["n1"], f["n0"])
            flat = counts.reshape(-1)
            np.ndarray(shape, np.uint8, flat, start, steps)[...] += 1
            if not row.box:
                continue
            exact = prod(shape) == prod(sizes(row.box))
            if not exact or not _within_box(counts.shape, place.box, row.box, start, shape, steps):
                findings.add("FVC335", f"does not store its debug box {row.box} of {row.tensor}", *view.where(k))
        for key, counts in local.items():
            place = places[key]
            whole = self.tensors[place.tensor]
            if prod(whole.shape) > _MOST_ELEMENTS:
                findings.add("FVC335", f"tensor {place.tensor} has {prod(whole.shape)} elements", view.name)
                continue
            if whole.count is None:
                whole.count = np.zeros(whole.shape, np.uint8)
            b = place.box
            whole.count[b[0] : b[1], b[2] : b[3], b[4] : b[5], b[6] : b[7]] += counts

    def finish(self, replicas: int, findings: Findings) -> None:
        """Every element of every stored tensor exactly once a replica."""
        for name, whole in self.tensors.items():
            if whole.count is None:
                continue
            count = whole.count[tuple(slice(a, None) for a in whole.begin)]
            wrong = count > replicas if whole.partial and replicas > 1 else count != replicas
            if wrong.any():
                first = (np.argwhere(wrong)[0] + whole.begin).tolist()
                times = int(whole.count[tuple(first)])
                what = f"element {first} of {name} is stored {times} times a frame, {replicas} expected"
                findings.add("FVC335", what)


def _holds(place: Placement, f: dict[str, int]) -> bool:
    """Whether a store's slot 0 lies within the dense box of a placement, on whole elements of its type."""
    elem = ELEMENT_BYTES.get(place.dtype)
    if elem is None or elem != f["elem"] or not legal_box(place.box):
        return False
    reach = [(f[n] - 1) * f[s] for n, s in (("n2", "dram_s2"), ("n1", "dram_s1"), ("n0", "dram_s0"))]
    low = f["dram_addr"] + sum(min(r, 0) for r in reach) - place.address
    high = f["dram_addr"] + sum(max(r, 0) for r in reach) + elem - place.address
    whole = (
        all(f[s] % elem == 0 for s in ("dram_s2", "dram_s1", "dram_s0"))
        and (f["dram_addr"] - place.address) % elem == 0
    )
    return whole and low >= 0 and high <= prod(sizes(place.box)) * elem and f["depth"] == place.depth


def _within_box(
    shape: tuple[int, ...],
    place: tuple[int, ...],
    box: tuple[int, ...],
    start: int,
    counts: tuple[int, ...],
    steps: tuple[int, ...],
) -> bool:
    """Whether every element start + index * steps of a dense array over `place` lies in `box`."""
    if box == place:
        return True
    offsets = start + sum(np.ix_(*(np.arange(n) * s for n, s in zip(counts, steps, strict=True))))
    rest: Ints = np.asarray(offsets).reshape(-1)
    for axis in (3, 2, 1, 0):
        rest, coordinate = np.divmod(rest, shape[axis])
        coordinate = coordinate + place[2 * axis]
        if coordinate.min() < box[2 * axis] or coordinate.max() >= box[2 * axis + 1]:
            return False
    return True


def check_transports(view: CoreView, findings: Findings) -> None:
    """FVC334: TX and RX move exactly the box of their debug row, in storage order."""
    for op in ("TX", "RX"):
        if (group := view.group(op)) is None:
            continue
        for k in group.index.tolist():
            i = view.stream[k]
            f, row = i.fields, view.core.debug[i.debug]
            if f["bytes"] == 0:
                continue
            if f.get("wgt", 0) or f.get("act", 0):
                if row.tensor or layer_of(row.task) is None:
                    findings.add("FVC334", f"{op} of a share names {row.tensor!r} of {row.task!r}", *view.where(k))
                continue
            places = [p for p in view.core.memory_map if p.tensor == row.tensor and legal_box(p.box)]
            if not legal_box(row.box) or not any(_moves(p, row.box, f) for p in places):
                what = f"{op} does not move the box {row.box} of {row.tensor} that its debug row names"
                findings.add("FVC334", what, *view.where(k))


def _moves(place: Placement, box: tuple[int, ...], f: dict[str, int]) -> bool:
    elem = ELEMENT_BYTES.get(place.dtype)
    if elem is None or elem != f["elem"] or not inside(box, place.box) or f["depth"] != place.depth:
        return False
    strides = dense_strides(sizes(place.box), elem)
    start = place.address + sum((box[2 * a] - place.box[2 * a]) * strides[a] for a in range(4))
    wanted = ordered((*sizes(box), elem), (*strides, 1))
    actual = ordered((f["n2"], f["n1"], f["n0"], elem), (f["dram_s2"], f["dram_s1"], f["dram_s0"], 1))
    return f["dram_addr"] == start and wanted == actual


def storage4(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """Four dimensions of a dense tensor, as docs/machine.md and the memory map see it."""
    if len(shape) <= 2:
        padded = (1, *shape) if len(shape) == 1 else (*shape, *(1,) * (2 - len(shape)))
        return (padded[0], padded[1], 1, 1)
    if len(shape) == 3:
        return (shape[0], shape[1], 1, shape[2])
    return (shape[0], shape[1], prod(shape[2:-1]), shape[-1])


def not_whole(boxes: Sequence[tuple[int, ...]], shape: Sequence[int]) -> str | None:
    """What is wrong with boxes that should tile a tensor of `shape`, or None. Its size is checked before it is used."""
    whole = storage4(shape)
    elements = sum(prod(sizes(b)) for b in boxes)
    if elements != prod(whole):
        return f"{elements} elements of {prod(whole)}"
    seen = np.zeros(whole, np.bool_)
    for b in boxes:
        seen[b[0] : b[1], b[2] : b[3], b[4] : b[5], b[6] : b[7]] = True
    return None if seen.all() else "some elements twice"


def host_message_moves(m: HostMessage, box: tuple[int, ...]) -> str | None:
    """What is wrong with a host message that should be `box` of its tensor, or None."""
    elem = ELEMENT_BYTES.get(m.dtype)
    if elem is None or elem != m.elem or len(m.counts) != 3 or any(d < 1 for d in m.shape) or min(m.counts) < 1:
        return "element type, size, shape or counts"
    shape = storage4(m.shape)
    if not legal_box(box) or not inside(box, (0, shape[0], 0, shape[1], 0, shape[2], 0, shape[3])):
        return f"box {box} of a tensor of shape {m.shape}"
    strides = dense_strides(shape, elem)
    start = sum(box[2 * a] * strides[a] for a in range(4))
    if any(n == 1 and s for n, s in zip(m.counts, m.strides, strict=True)):
        return "a stride of a count of 1 is not 0"
    dims = (*sizes(box), elem), (*strides, 1)
    if len(m.offsets) == 1:
        actual = ordered((*m.counts, elem), (*m.strides, 1))
        return None if m.offsets[0] == start and actual == ordered(*dims) else f"it is not the box {box}"
    steps = {b - a for a, b in zip(m.offsets, m.offsets[1:], strict=False)}
    step = steps.pop() if len(steps) == 1 else 0
    actual = ordered((len(m.offsets), *m.counts, elem), (step, *m.strides, 1))
    return None if m.offsets[:1] == (start,) and actual == ordered(*dims) else f"it is not the box {box}"
