"""One core's program: tasks as tiles with their tokens, transfers, and the control queue.

Needs the tasks of a rank in plan order, its buffers and messages; guarantees a body whose markings return to where
they began. Tile tokens follow docs/machine.md; everything between layers and transfers goes through pass_tokens.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compiler.ir.graph import Graph, storage4
from compiler.isa.canonical import canonical_fields
from compiler.isa.program import CoreProgram, DebugRow, EngineSpec, Instruction, Packet
from compiler.isa.table import Queue, Space
from compiler.ops import (
    Constants,
    Proto,
    Step,
    Task,
    View,
    lower,
    resident_budget_bytes,
    resident_bytes,
    tab_slot_bytes,
    wgt_slot_bytes,
)
from compiler.ops.boxes import whole_box
from compiler.schedule.buffers import Buffers
from compiler.schedule.flow import Flow, TaskRef
from compiler.schedule.messages import Message, transport_instruction
from compiler.schedule.shares import Block, Passing, ShareMessage, guards, input_guards, share_instruction
from compiler.schedule.tokens import RingUse, pass_tokens, ring_slots
from compiler.schedule.windows import ITERATIONS_AHEAD, Place, message_tokens

CREDITS = 2  # load groups and result tiles in flight
MESSAGES = ((Queue.ST, Queue.TX), (Queue.RX, Queue.LD))  # the first fills the slots that the second empties
Pair = tuple[Queue, Queue]


@dataclass(slots=True)
class TaskSpan:
    """Where a task's instructions stand: its first load of activations, last such load, first and last store.
    order: its own place in the plan."""

    order: int
    first_load: int = -1
    last_load: int = -1
    first_store: int = -1
    last_store: int = -1


@dataclass(slots=True)
class _Group:
    """A load group and the CX instructions that it feeds, as queue indices; ring blocks that it reads."""

    loads: list[int] = field(default_factory=list)
    first_cx: int = -1
    last_cx: int = -1


@dataclass(slots=True)
class _Patch:
    """A ring-relative address still to be based: instruction, field, ring block."""

    instruction: Instruction
    name: str
    block: int


class CoreBuilder:
    """Collects the queues of one core."""

    def __init__(self, graph: Graph, flow: Flow, engine: EngineSpec, rank: int, buffers: Buffers) -> None:
        self.graph, self.flow, self.engine, self.rank, self.buffers = graph, flow, engine, rank, buffers
        self.queues: dict[Queue, list[Instruction]] = {q: [] for q in Queue}
        self.dependencies: dict[Pair, list[tuple[int, int, int]]] = {}
        self.places: dict[Queue, dict[int, Place]] = {q: {} for pair in MESSAGES for q in pair}
        self.constants = Constants()
        self.constant_views: dict[str, View] = {}
        self.packets: list[Packet] = []
        self.rows: dict[DebugRow, int] = {}
        self.spans: dict[str, TaskSpan] = {}
        self.folding: list[dict[str, object]] = []
        self.groups: list[_Group] = []
        self.rings: dict[Space, list[list[int]]] = {Space.WGT: [], Space.TAB: []}  # [load group, last group] a block
        self.patches: dict[Space, list[_Patch]] = {Space.WGT: [], Space.TAB: []}
        self.resident_used = 0
        self.blocks: list[Block] = []  # of the ring of weights, as `rings` has them
        self.blocks_of: dict[str, list[int]] = {}
        self.passed: list[Passing] = []
        self.inputs: dict[str, list[Block]] = {}  # input blocks of the tasks that share them, and what passes of them
        self.inputs_passed: dict[str, list[Passing]] = {}

    # -- tables -------------------------------------------------------------------------------------------------

    def row(self, node: str, task: str, tensor: str, box: tuple[int, ...], role: str) -> int:
        key = DebugRow(node, task, tensor, box, role)
        return self.rows.setdefault(key, len(self.rows))

    def emit(self, i: Instruction) -> int:
        self.queues[i.queue].append(i)
        return len(self.queues[i.queue]) - 1

    def depend(self, producer: Queue, i: int, consumer: Queue, j: int, distance: int) -> None:
        self.dependencies.setdefault((producer, consumer), []).append((i, j, distance))

    def constant_view(self, name: str) -> View:
        """Where a constant operand lies in CONST."""
        view = self.constant_views.get(name)
        if view is None:
            data = self.graph.constants[name]
            offset = self.constants.add(f"constant/{name}", data.nbytes, data.tobytes)
            view = View(name, Space.CONST, offset, whole_box(storage4(data.shape)), data.itemsize)
            self.constant_views[name] = view
        return view

    def view(self, name: str) -> View:
        if name in self.graph.constants and name not in self.buffers.views:
            return self.constant_view(name)
        return self.buffers.views[name]

    # -- tasks --------------------------------------------------------------------------------------------------

    def add_task(self, ref: TaskRef) -> None:
        """Lowers a task and lays its tiles into the queues."""
        s = ref.slice
        reduce_range = (s.reduce_from, s.reduce_to) if s.role == "partial" else _whole_range(ref)
        task = Task(
            self.graph, ref.node, s.task, s.role, s.box, *reduce_range, self.engine, s.tile, s.memory, self.view,
            self.constants, ref.partials, 2 * wgt_slot_bytes(self.engine) + self.resident_used,
        )  # fmt: skip
        if s.memory == "resident":
            self.resident_used += resident_bytes(self.graph, ref.node, s.role, s.box, reduce_range)
        steps = lower(task)
        if not any(not p.ahead for p in steps[0].loads):
            steps[0].loads.append(Proto("SYNC", {}))
        span = self.spans[s.task] = TaskSpan(s.order)
        self._lay(ref, steps, span)
        self._record(ref, task, steps)

    def _lay(self, ref: TaskRef, steps: list[Step], span: TaskSpan) -> None:
        stage, task = ref.slice.stage, ref.slice.task
        blocks: dict[tuple[Space, int], int] = {}
        packet = self._packet(task, 0)
        waiting_result = True
        tile = 0
        for number, step in enumerate(steps):
            if step.loads:
                self._close_group()
                self.groups.append(_Group())
            here = len(self.groups) - 1
            for space, ordinal in ((Space.WGT, step.wgt), (Space.TAB, step.tab)):
                if ordinal >= 0:
                    block = blocks.get((space, ordinal))
                    if block is None:
                        block = blocks[(space, ordinal)] = len(self.rings[space])
                        self.rings[space].append([here, here])
                        if space == Space.WGT:
                            self.blocks.append(Block())
                            self.blocks_of.setdefault(task, []).append(block)
                    self.rings[space][block][1] = here
            group = self.groups[here]
            for p in step.loads:
                at = self._emit_proto(ref, p, Queue.LD, packet, step, blocks)
                group.loads.append(at)
                if not p.ahead:
                    span.first_load = at if span.first_load < 0 else span.first_load
                    span.last_load = at
            for p in step.cx:
                at = self._emit_proto(ref, p, Queue.CX, packet, step, blocks)
                i = self.queues[Queue.CX][at]
                if group.first_cx < 0:
                    group.first_cx = at
                    i.wait |= 1 << Queue.LD
                group.last_cx = at
                if p.result and waiting_result:
                    i.wait |= 1 << Queue.ST
                    waiting_result = False
            if step.stores:
                self.queues[Queue.CX][group.last_cx].post |= 1 << Queue.ST
                stores = [self._emit_proto(ref, p, Queue.ST, packet, step, blocks) for p in step.stores]
                self.queues[Queue.ST][stores[0]].wait |= 1 << Queue.CX
                self.queues[Queue.ST][stores[-1]].post |= 1 << Queue.CX
                span.first_store = stores[0] if span.first_store < 0 else span.first_store
                span.last_store = stores[-1]
                waiting_result = True
                tile += 1
                if number + 1 < len(steps):
                    packet = self._packet(task, tile)
        assert span.last_store >= 0 and span.first_load >= 0, (task, stage)

    def _packet(self, task: str, tile: int) -> int:
        self.packets.append(Packet(len(self.packets), task, tile))
        return len(self.packets) - 1

    def _emit_proto(
        self, ref: TaskRef, p: Proto, queue: Queue, packet: int, step: Step, blocks: dict[tuple[Space, int], int]
    ) -> int:
        tensor = p.tensor
        debug = self.row(ref.node.name, ref.slice.task, tensor, p.box, p.role or "sync")
        stage = 0 if p.op == "SYNC" else ref.slice.stage
        i = Instruction(p.op, queue, canonical_fields(p.op, p.fields, p.flags), p.flags, 0, 0, stage, packet, debug)
        wgt, tab = blocks.get((Space.WGT, step.wgt), -1), blocks.get((Space.TAB, step.tab), -1)
        if p.op == "LD":
            space = Space(p.fields["scratch_space"])
            if space == Space.WGT and wgt >= 0:
                self.patches[space].append(_Patch(i, "scratch_addr", wgt))
            elif space == Space.TAB:
                self.patches[space].append(_Patch(i, "scratch_addr", tab))
        else:
            if "wgt_addr" in p.fields and wgt >= 0:
                self.patches[Space.WGT].append(_Patch(i, "wgt_addr", wgt))
            if "tab_addr" in p.fields and tab >= 0:
                self.patches[Space.TAB].append(_Patch(i, "tab_addr", tab))
        at = self.emit(i)
        if step.act >= 0:
            self._input_block(ref.slice.task, step, p, at)
        if wgt >= 0:
            block = self.blocks[wgt]
            if p.op == "LD" and p.fields["scratch_space"] == Space.WGT:
                block.load, block.lo = at, p.fields.get("scratch_addr", 0)
                block.hi = block.lo + p.fields["n0"]
            elif "wgt_addr" in p.fields:
                block.size = p.fields["m"] * p.fields["n"] * p.fields["kh"] * p.fields["kw"]
                block.first_mac, block.last_mac = at if block.first_mac < 0 else block.first_mac, at
        return at

    def _input_block(self, task: str, step: Step, p: Proto, at: int) -> None:
        """Notes what an instruction does with a block of the task's shared inputs."""
        own = self.inputs.setdefault(task, [])
        if step.act == len(own):
            own.append(Block(base=step.act_base))
        block = own[step.act]
        if p.op == "LD" and p.fields["scratch_space"] == Space.ACT:
            block.load = at
        elif p.op == "MAC":
            block.first_mac, block.last_mac = at if block.first_mac < 0 else block.first_mac, at

    def _close_group(self) -> None:
        """Writes the tokens of the youngest load group."""
        if not self.groups:
            return
        g = self.groups[-1]
        loads, cx = self.queues[Queue.LD], self.queues[Queue.CX]
        loads[g.loads[0]].wait |= 1 << Queue.CX
        loads[g.loads[-1]].post |= 1 << Queue.CX
        cx[g.last_cx].post |= 1 << Queue.LD

    def _empty_group(self) -> None:
        self._close_group()
        debug = self.row("", "", "", (), "sync")
        packet = self._packet("", 0)
        g = _Group()
        g.loads.append(self.emit(Instruction("SYNC", Queue.LD, {}, packet=packet, debug=debug)))
        g.first_cx = g.last_cx = self.emit(
            Instruction("SYNC", Queue.CX, {}, wait=1 << Queue.LD, packet=packet, debug=debug)
        )
        self.groups.append(g)

    def _record(self, ref: TaskRef, task: Task, steps: list[Step]) -> None:
        s, tile = ref.slice, ref.slice.tile
        self.folding.append(
            {
                "layer": ref.node.name,
                "op": ref.node.op,
                "task": s.task,
                "role": s.role,
                "engine": self.engine.id,
                "die": self.engine.die,
                "tm": self.engine.tm,
                "tn": self.engine.tn,
                "tr": tile.get("r", 0),
                "tc": tile.get("c", 0),
                "tile": dict(sorted(tile.items())),
                "tiles": sum(1 for x in steps if x.stores),
                "memory": s.memory,
                "stage": s.stage,
                "cycles": s.cycles,
                "requantiser": task.notes.get("requantiser", {}),
            }
        )

    # -- dependencies between layers and transfers ----------------------------------------------------------------

    def add_messages(self, messages: Sequence[Message | ShareMessage], channel_of: Callable[[int, int], int]) -> None:
        """TX and RX of this core in the global order, with what they wait for."""
        for m in messages:
            if isinstance(m, ShareMessage):
                if self.rank in (m.source, m.target):
                    self._pass_share(m, channel_of(m.source, m.target))
                continue
            t = m.transfer
            outgoing = t.piece.rank == self.rank
            if not outgoing and t.target != self.rank:
                continue
            view = self.buffers.views[t.piece.tensor]
            peer = t.target if outgoing else t.piece.rank
            i = transport_instruction(m, view, outgoing, channel_of(t.piece.rank, t.target), peer)
            i.debug = self.row("", t.piece.task or "", t.piece.tensor, m.box, "transport")
            at = self.emit(i)
            self.places[i.queue][at] = (t.piece.order, 1)
            if outgoing:
                span = self.spans[t.piece.task or ""]
                self.places[Queue.ST] |= dict.fromkeys((span.first_store, span.last_store), (span.order, 0))
                self.depend(Queue.ST, span.last_store, Queue.TX, at, 0)
                self.depend(Queue.TX, at, Queue.ST, span.first_store, view.depth)
            else:
                for task, stage in t.readers:
                    span = self.spans[task or ""]
                    self.places[Queue.LD] |= dict.fromkeys((span.first_load, span.last_load), (span.order, 0))
                    late = stage - t.piece.stage
                    self.depend(Queue.RX, at, Queue.LD, span.first_load, late)
                    self.depend(Queue.LD, span.last_load, Queue.RX, at, view.depth - late)

    def _pass_share(self, m: ShareMessage, channel: int) -> None:
        """One end of a share's message; what it waits for is known when the ring's slots are."""
        outgoing = m.source == self.rank
        i = share_instruction(m, outgoing, channel)
        i.debug = self.row("", m.owner, "", (), "transport")
        task = m.source_task if outgoing else m.target_task
        if m.inputs:
            i.fields["part_addr"] += self.inputs[task][m.block].base
            self.inputs_passed.setdefault(task, []).append(Passing(i.queue, self.emit(i), m.block, m.lo, m.hi))
            return
        block = self.blocks_of[task][m.block]
        self.patches[Space.WGT].append(_Patch(i, "part_addr", block))
        self.passed.append(Passing(i.queue, self.emit(i), block, m.lo, m.hi))

    def add_layers(self, refs: list[TaskRef]) -> None:
        """Layers of a core run one after the other: loads of activations wait for the stores of the layer before."""
        for k, ref in enumerate(refs):
            before = refs[k - 1].slice.task
            last, first = self.spans[before].last_store, self.spans[ref.slice.task].first_load
            self.depend(Queue.ST, last, Queue.LD, first, 0 if k else 1)
            sent = [p.at for p in self.inputs_passed.get(before, ()) if p.queue == Queue.TX]
            if sent:  # from ACT, whose bytes the next layer fills
                self.depend(Queue.TX, max(sent), Queue.LD, first, 0 if k else 1)
        for task, passed in self.inputs_passed.items():
            for dependency in input_guards(self.inputs[task], passed):
                self.depend(*dependency)

    def add_control(self) -> None:
        """The check of CONST and the end of the body, which waits for the last store and the last messages."""
        ctl = self.queues[Queue.CTL]
        debug = self.row("", "", "", (), "control")
        image = bytes(self.constants.image)
        if image:
            fields = {"dram_addr": 0, "bytes": len(image), "expect": zlib.crc32(image)}
            ctl.append(Instruction("CRC", Queue.CTL, fields, debug=debug))
        ctl.append(Instruction("END", Queue.CTL, {}, debug=debug))
        end = len(ctl) - 1
        for q in (Queue.ST, Queue.TX, Queue.RX):
            if self.queues[q]:
                self.depend(q, len(self.queues[q]) - 1, Queue.CTL, end, 0)
                self.depend(Queue.CTL, end, q, 0, ITERATIONS_AHEAD)

    # -- finish ---------------------------------------------------------------------------------------------------

    def finish(self) -> CoreProgram:
        """Bases of the rings, tokens between queues, markings."""
        real = len(self.groups)
        bases = {
            Space.WGT: (0, wgt_slot_bytes(self.engine)),
            Space.TAB: (0, tab_slot_bytes(self.engine)),
        }
        empty = 0
        for space, uses in self.rings.items():
            slots, extra = ring_slots([RingUse(*u) for u in uses], real)
            empty = max(empty, extra)
            if space == Space.WGT and self.passed:
                for dependency in guards(self.blocks, slots, self.passed):
                    self.depend(*dependency)
            for p in self.patches[space]:
                p.instruction.fields[p.name] = p.instruction.fields.get(p.name, 0) + bases[space][slots[p.block]]
        for _ in range(empty):
            self._empty_group()
        self._close_group()
        self.add_control()
        marking = [[0] * len(Queue) for _ in Queue]
        if self.groups:
            marking[Queue.CX][Queue.LD] = CREDITS
            marking[Queue.ST][Queue.CX] = CREDITS
        found = {pair: pass_tokens(wanted, len(self.queues[pair[0]])) for pair, wanted in self.dependencies.items()}
        for filling, emptying in MESSAGES:
            there, free = (filling, emptying), (emptying, filling)
            if there in found:
                found[there], found[free] = message_tokens(
                    self.dependencies[there], self.dependencies[free], self.places[filling], self.places[emptying],
                    (len(self.queues[filling]), len(self.queues[emptying])),
                )  # fmt: skip
        for (producer, consumer), passing in sorted(found.items()):
            for i in passing.posts:
                self.queues[producer][i].post |= 1 << consumer
            for j in passing.waits:
                self.queues[consumer][j].wait |= 1 << producer
            marking[producer][consumer] += passing.marking
        assert self.resident_used <= resident_budget_bytes(self.engine)
        return CoreProgram(
            rank=self.rank,
            engine=self.engine,
            queues=self.queues,
            marking=tuple(tuple(r) for r in marking),
            constants=bytes(self.constants.image),
            work_bytes=self.buffers.bytes,
            packets=self.packets,
            debug=list(self.rows),
            memory_map=list(self.buffers.placements),
            symbols=dict(self.constants.symbols),
            folding=self.folding,
        )


def _whole_range(ref: TaskRef) -> tuple[int, int]:
    """Input channels of a slice that is not a partial sum."""
    weight = getattr(ref.node, "weight", None)
    return (0, weight.shape[1]) if weight is not None else (0, 0)
