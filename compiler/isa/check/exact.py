"""Needs a core's columns and token edges; holds every token to the dependency it stands for (docs/machine.md, tokens).

A credit too few only makes a program slower, one too many may happen to race with nothing: both leave what is computed
as it is. So that no marking can be changed unnoticed, each is prescribed: the credits of the tile protocol as numbers,
the tokens of messages by the tensor they guard and by the frame in which its slot is filled or free again.
"""

from __future__ import annotations

import sys
from bisect import bisect_right

from compiler.isa.check.findings import Findings
from compiler.isa.check.runs import MOST_TOKENS, PAIRS, in_runs
from compiler.isa.check.tokens import LocalOrder
from compiler.isa.check.view import CoreView
from compiler.isa.program import Instruction
from compiler.isa.table import Queue, Space

Pair = tuple[Queue, Queue]
_LD, _CX, _ST, _TX, _RX, _CTL = (Queue.LD, Queue.CX, Queue.ST, Queue.TX, Queue.RX, Queue.CTL)
# Tokens before the first iteration, where an iteration passes any: two tiles in flight, two bodies ahead of END, and
# layer after layer, the first behind the last of the iteration before.
_CREDITS = {
    (_LD, _CX): 0,
    (_CX, _LD): 2,
    (_CX, _ST): 0,
    (_ST, _CX): 2,
    (_ST, _LD): 1,
    **{(q, _CTL): 0 for q in (_ST, _TX, _RX)},
    **{(_CTL, q): 2 for q in (_ST, _TX, _RX)},
}
_DATA = {(_ST, _TX), (_RX, _LD)}  # the second needs what the first wrote, in the same frame
_SPACE = {(_TX, _ST), (_LD, _RX)}  # the second writes the slot that the first read
# The same for parts of weight blocks: they lie in a ring of WGT, whose slots come round within an iteration or two.
_WGT_DATA = {(_LD, _TX), (_RX, _CX), (_RX, _TX)}
_WGT_SPACE = {(_TX, _LD), (_CX, _RX), (_TX, _RX)}
# And for parts of input blocks: the task's own load has waited for the slot, the others' parts come behind it.
_ACT_DATA = {(_LD, _TX), (_RX, _CX), (_RX, _TX)}
_ACT_BLOCK = {(_LD, _RX), (_TX, _LD)}


class _Places:
    """Which placements of the memory map an instruction and its task touch, and on which frame a task works."""

    def __init__(self, view: CoreView) -> None:
        spans = sorted((p.address, p.address + p.bytes) for p in view.core.memory_map)
        self.low, self.high = [a for a, _ in spans], [b for _, b in spans]
        self.rows = view.core.debug
        self.by_task: dict[str, set[int]] = {}
        self.stages = {
            self._task(i): i.stage for q in (_LD, _CX, _ST) for i in view.core.queues.get(q, ()) if i.op != "SYNC"
        }
        for i in view.core.queues.get(_LD, ()):
            if (at := self.own(i)) is not None:
                self.by_task.setdefault(self._task(i), set()).add(at)

    def _task(self, i: Instruction) -> str:
        return self.rows[i.debug].task

    def stage(self, i: Instruction) -> int:
        """A SYNC has stage 0 whatever its task: the task's."""
        return self.stages.get(self._task(i), 0) if i.op == "SYNC" else i.stage

    def frames(self, reader: Instruction, writer: Instruction) -> int:
        """Iterations after which the slot that one reads is the one that the other writes."""
        return writer.fields.get("depth", 1) - (self.stage(reader) - self.stage(writer))

    def own(self, i: Instruction) -> int | None:
        if i.op not in ("LD", "ST", "TX", "RX") or i.fields.get("dram_space", Space.WORK) != Space.WORK:
            return None
        if i.fields.get("wgt", 0) or i.fields.get("act", 0):
            return None
        at = i.fields.get("dram_addr", 0)
        k = bisect_right(self.low, at) - 1
        return k if k >= 0 and at < self.high[k] else None

    def shared(self, a: Instruction, b: Instruction) -> bool:
        """Whether both touch one placement; for a load, whether any load of its task does."""
        for load, other in ((a, b), (b, a)):
            if load.queue == _LD:
                return self.own(other) in self.by_task.get(self._task(load), ())
        return self.own(a) is not None and self.own(a) == self.own(b)


def _weights(i: Instruction) -> tuple[int, int] | None:
    """The bytes of WGT that an instruction touches."""
    f = i.fields
    if i.op in ("TX", "RX") and f.get("wgt", 0):
        return f.get("part_addr", 0), f.get("part_addr", 0) + f.get("n0", 0)
    if i.op == "LD" and f.get("scratch_space", 0) == Space.WGT:
        return f.get("scratch_addr", 0), f.get("scratch_addr", 0) + f.get("n0", 0)
    if i.op == "MAC":
        size = f.get("m", 0) * f.get("n", 0) * f.get("kh", 0) * f.get("kw", 0)
        return f.get("wgt_addr", 0), f.get("wgt_addr", 0) + size
    return None


def _guards_weights(earlier: Instruction, later: Instruction, distance: int) -> bool:
    """Whether a token passes on, or gives free, bytes of WGT that both instructions touch."""
    a, b = _weights(earlier), _weights(later)
    if a is None or b is None or min(a[1], b[1]) <= max(a[0], b[0]):
        return False
    return distance == 0 if (earlier.queue, later.queue) in _WGT_DATA else distance in (0, 1)


def _inputs(i: Instruction) -> tuple[int, int] | None:
    """The bytes of ACT from the first to the last that an instruction touches as an input."""
    f = i.fields
    if i.op in ("TX", "RX") and f.get("act", 0):
        return f.get("part_addr", 0), f.get("part_addr", 0) + f.get("n0", 0)
    if i.op == "LD" and f.get("scratch_space", 0) == Space.ACT:
        rows = f.get("n1", 0) + f.get("pad_top", 0) + f.get("pad_bottom", 0)
        run = f.get("n0", 0) + f.get("pad_left", 0) + f.get("pad_right", 0)
        reach = (f.get("n2", 0) - 1) * f.get("scratch_s2", 0) + (rows - 1) * f.get("scratch_s1", 0) + run
        return f.get("scratch_addr", 0), f.get("scratch_addr", 0) + reach
    if i.op == "MAC":
        size = f.get("groups", 0) * f.get("n", 0) * f.get("in_h", 0) * f.get("in_w", 0)
        return f.get("act_addr", 0), f.get("act_addr", 0) + size
    return None


class _Operands:
    """The input tiles that the MACs of a core read, and the last part that each layer sends."""

    def __init__(self, view: CoreView) -> None:
        self.rows = view.core.debug
        self.tiles = {(self.layer(i), _inputs(i)) for i in view.core.queues.get(_CX, ()) if i.op == "MAC"}
        sent = [i for i in view.core.queues.get(_TX, ()) if i.fields.get("act", 0)]
        self.last = {id(i) for i in {self.layer(i): i for i in sent}.values()}

    def layer(self, i: Instruction) -> str:
        """The layer of the instruction's task."""
        return self.rows[i.debug].task.rpartition("#")[0]

    def guards(self, earlier: Instruction, later: Instruction, distance: int) -> bool:
        """Whether a token passes a part of an input block on, or tells that the block's slot is free: the task's own
        part is there, or all is sent that lay there before (in a task's first load: that the task before had)."""
        pair = (earlier.queue, later.queue)
        if pair == (_TX, _LD) and later.wait >> _ST & 1:
            return distance in (0, 1) and id(earlier) in self.last
        a, b = _inputs(earlier), _inputs(later)
        if a is None or b is None or distance != 0:
            return False
        if pair in _ACT_DATA:
            return min(a[1], b[1]) > max(a[0], b[0])
        return self.together(earlier, later)

    def together(self, a: Instruction, b: Instruction) -> bool:
        """Whether both touch one input tile of their layer."""
        x, y, layer = _inputs(a), _inputs(b), self.layer(a)
        if x is None or y is None or layer != self.layer(b):
            return False
        own = (t for name, t in self.tiles if t is not None and name == layer)
        return any(t[0] <= min(x[0], y[0]) and max(x[1], y[1]) <= t[1] for t in own)

    def misplaced(self, view: CoreView) -> list[int]:
        """RX instructions with the first part of a block that do not wait for the task's own, others that do."""
        out: list[int] = []
        before: Instruction | None = None
        for k, i in enumerate(view.stream):
            if i.op == "RX":
                if i.fields.get("act", 0):
                    opens = before is None or not self.together(before, i)
                    if opens != bool(i.wait >> _LD & 1):
                        out.append(k)
                before = i
        return out


def _ahead(view: CoreView, order: LocalOrder, places: _Places) -> dict[Pair, int]:
    """By how many frames a queue may be ahead of another for free slots: as many as there are, but only one where the
    tokens for that are more than a semaphore counts."""
    total, there = dict.fromkeys(_SPACE, 0), dict.fromkeys(_SPACE, 0)
    for k, edges in enumerate(order.edges):
        for source, _ in edges:
            earlier, later = view.stream[source], view.stream[k]
            if earlier.fields.get("act", 0) or later.fields.get("act", 0):
                continue
            if (pair := (earlier.queue, later.queue)) in total:
                total[pair] += places.frames(earlier, later)
            elif (back := (later.queue, earlier.queue)) in there:
                there[back] += 1
    most = {(a, b): max(total[a, b] + view.core.marking[b][a], _CREDITS[_CTL, b] * there[a, b]) for a, b in total}
    return {pair: 1 if count > MOST_TOKENS else sys.maxsize for pair, count in most.items()}


def check_exact(view: CoreView, order: LocalOrder, findings: Findings) -> None:
    """FVC324: markings are those of the tile protocol; each token of a message guards its tensor, frame by frame."""
    for (a, b), wanted in _CREDITS.items():
        have = view.core.marking[a][b]
        if have != wanted and any(i.post >> b & 1 for i in view.core.queues.get(a, ())):
            findings.add("FVC324", f"{a.name}->{b.name} starts with {have} tokens, {wanted} expected", view.name)
    places, operands = _Places(view), _Operands(view)
    for k in operands.misplaced(view):
        findings.add(
            "FVC324", "not the first part of an input block waits for the task's own, and no other", *view.where(k)
        )
    ahead = _ahead(view, order, places)
    turns = {pair for a, b in PAIRS if in_runs(view, a, b) for pair in ((a, b), (b, a))}
    for k, edges in enumerate(order.edges):
        later = view.stream[k]
        for source, distance in edges:
            earlier = view.stream[source]
            pair = (earlier.queue, later.queue)
            if pair in _CREDITS:
                continue
            if earlier.fields.get("act", 0) or later.fields.get("act", 0):
                if pair not in _ACT_DATA | _ACT_BLOCK or not operands.guards(earlier, later, distance):
                    name = f"{pair[0].name}[{int(view.position[source])}] {distance} iterations before"
                    findings.add("FVC324", f"its token is that of {name}, of another input block", *view.where(k))
                continue
            if pair in turns:
                continue
            if pair in _DATA:
                wanted = places.stage(later) - places.stage(earlier)
            elif pair in _SPACE:
                wanted = min(ahead[pair], places.frames(earlier, later))
            elif pair in _WGT_DATA | _WGT_SPACE:
                if not _guards_weights(earlier, later, distance):
                    name = f"{pair[0].name}[{int(view.position[source])}] {distance} iterations before"
                    what = f"its token is that of {name}, which touches other bytes of WGT"
                    findings.add("FVC324", what, *view.where(k))
                continue
            else:
                findings.add("FVC324", f"no token passes from {pair[0].name} to {pair[1].name}", *view.where(k))
                continue
            barrier = "SYNC" in (earlier.op, later.op) or 0 in (earlier.fields.get("n0"), later.fields.get("n0"))
            if distance != wanted or not (barrier or places.shared(earlier, later)):
                name = f"{pair[0].name}[{int(view.position[source])}] {distance} iterations before"
                findings.add("FVC324", f"its token is that of {name}, which guards something else", *view.where(k))
