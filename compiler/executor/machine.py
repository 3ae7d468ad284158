"""The machine executor: runs the decoded instructions of all cores of all devices on bytes, tokens and messages.

Needs DevicePrograms (from the container), the host segments and the users' frames; guarantees the outputs of every
frame or a `MachineError` that names core, queue, index and ONNX node. It knows docs/machine.md and the instruction
table, and nothing of how programs are made: whatever order tokens and channels allow may be taken (`order_seed`).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.blas import pin_one_thread
from compiler.executor.channels import Fifo, fifos
from compiler.executor.faults import DEADLOCK, ILLEGAL, MESSAGE, TOKENS, Fault, MachineError
from compiler.executor.host import Host, Segment
from compiler.executor.mac import build_mac
from compiler.executor.memory import Memory, core_memory, fields_of
from compiler.executor.observe import AccumulatorHook, OutputHook, OutputMap
from compiler.executor.transfer import build_crc, build_ld, build_rx, build_st, build_tx
from compiler.executor.vector import BUILDERS, build_vreq
from compiler.isa.program import CoreProgram, DeviceProgram, Instruction
from compiler.isa.table import BY_NAME, HOST_RANK, Flag, Queue

Array = NDArray[Any]
QUEUES = len(Queue)
MAX_TOKENS = 255
_ACTION, _SEND, _TAKE = 0, 1, 2


@dataclass(slots=True)
class Counters:
    """What a run did: executed instructions by mnemonic, multiply-accumulates, message bytes."""

    instructions: dict[str, int] = field(default_factory=dict)
    macs: int = 0
    message_bytes: int = 0
    iterations: int = 0


@dataclass(slots=True)
class _Step:
    """One decoded instruction: semaphore indices to wait for and post, and what it does for a frame."""

    index: int
    waits: tuple[int, ...]
    posts: tuple[tuple[int, int], ...]  # (semaphore, queue that may wake)
    stage: int
    once: bool
    kind: int
    action: Callable[[int], None] | None
    send: Callable[[int], bytes] | None = None
    take: Callable[[int, bytes], None] | None = None
    fifo: Fifo | None = None
    tag: int = 0
    after: Callable[[int], None] | None = None  # observation of the stored result


class _Agent:
    """One queue of one core: where it stands in the body and which iteration it is in."""

    __slots__ = ("core", "frames", "iteration", "number", "pc", "queue", "steps", "tokens")

    def __init__(self, number: int, core: _Core, queue: Queue, steps: list[_Step]) -> None:
        self.number = number
        self.core = core
        self.queue = queue
        self.steps = steps
        self.pc = 0
        self.iteration = 0
        self.tokens = core.tokens
        self.frames = core.frames


class _Core:
    """One core of a run: memory, semaphores, and the frames of its replica."""

    def __init__(self, device: str, program: CoreProgram, replica: int, replicas: int, frames: int) -> None:
        self.device = device
        self.program = program
        self.replica = replica
        self.replicas = replicas
        self.frames = len(range(replica, frames, replicas))
        self.memory: Memory = core_memory(program)
        marking = program.marking
        if len(marking) != QUEUES or any(len(row) != QUEUES for row in marking):
            raise MachineError(ILLEGAL, "the marking is not 6 x 6", where=(program.engine.id,))
        self.tokens = [marking[a][b] for a in range(QUEUES) for b in range(QUEUES)]
        if min(self.tokens) < 0 or max(self.tokens) > MAX_TOKENS:
            raise MachineError(TOKENS, f"the marking holds more than {MAX_TOKENS} tokens", where=(program.engine.id,))


class Machine:
    """All cores of a cluster with their programs.

    hooks: `on_output(piece)` for every stored box whose debug row has the role "output"; `on_accumulator(rank, index,
    frame, acc)` for the int32 [m][count] that a VREQ reads.
    """

    def __init__(self, programs: list[DeviceProgram]) -> None:
        if not programs:
            raise MachineError(ILLEGAL, "there is no program to run")
        pin_one_thread()
        self.programs = programs
        self.replicas = max(1, programs[0].replicas)
        self.counters = Counters()
        ranks = [c.rank for p in programs for c in p.cores]
        if len(set(ranks)) != len(ranks) or HOST_RANK in ranks:
            raise MachineError(ILLEGAL, f"core ranks are not distinct: {ranks}")
        self._deepest = max((p.stages for p in programs), default=0)

    def run(
        self,
        frames: list[dict[str, Array]],
        host_segments: dict[str, bytes] | list[Segment] | None = None,
        on_output: OutputHook | None = None,
        order_seed: int | None = None,
        on_accumulator: AccumulatorHook | None = None,
    ) -> list[dict[str, Array]]:
        """Outputs of each frame, by ONNX name. frames: graph inputs by name, all in flight together.

        order_seed: None takes queue heads in a deterministic round robin; a number draws a random legal order.
        Raises MachineError on any violation of docs/machine.md.
        """
        host = self.run_host(frames, host_segments, on_output, order_seed, on_accumulator)
        return [host.result(f) for f in range(len(frames))]

    def run_host(
        self,
        frames: list[dict[str, Array]],
        host_segments: dict[str, bytes] | list[Segment] | None = None,
        on_output: OutputHook | None = None,
        order_seed: int | None = None,
        on_accumulator: AccumulatorHook | None = None,
    ) -> Host:
        """As `run`, but gives the host rank with every tensor that it saw."""
        if isinstance(host_segments, list):
            segments = host_segments
        else:
            segments = [Segment(name, model) for name, model in sorted((host_segments or {}).items())]
        per_replica = -(-len(frames) // self.replicas)
        self._iterations = per_replica + self._deepest if frames else 0
        channels = fifos(self.programs)
        try:
            host = Host(self.programs, channels, segments, frames, self._iterations)
        except Fault as fault:
            raise MachineError(fault.code, fault.what) from fault
        replica_of = self._replica_of_rank()
        cores = [
            _Core(p.name, c, replica_of.get(c.rank, 0), self.replicas, len(frames))
            for p in self.programs
            for c in p.cores
        ]
        agents: list[_Agent] = []
        for core in cores:
            outputs = OutputMap(core.device, core.program, on_output) if on_output else None
            for queue in Queue:
                steps = self._decode(core, queue, channels, outputs, on_accumulator)
                agents.append(_Agent(len(agents), core, queue, steps))
        self.counters = Counters(iterations=self._iterations)
        if frames:
            _Run(agents, host, channels, self._iterations, order_seed).loop()
            self._count(agents)
            self.counters.message_bytes = sum(f.sent_bytes for f in channels.values())
        return host

    def _replica_of_rank(self) -> dict[int, int]:
        """Ranks joined by channels belong together; the host's message table says which replica they are."""
        if self.replicas == 1:
            return {}
        neighbours: dict[int, list[int]] = {}
        channels = {ch.id: ch for p in self.programs for ch in p.channels}
        for ch in channels.values():
            if HOST_RANK not in (ch.source_rank, ch.target_rank):
                neighbours.setdefault(ch.source_rank, []).append(ch.target_rank)
                neighbours.setdefault(ch.target_rank, []).append(ch.source_rank)
        out: dict[int, int] = {}
        for message in (m for p in self.programs for m in p.host):
            channel = channels.get(message.channel)
            if channel is None:
                continue
            todo = [channel.target_rank if message.to_core else channel.source_rank]
            while todo:
                rank = todo.pop()
                if out.get(rank, message.replica) != message.replica:
                    raise MachineError(ILLEGAL, f"rank {rank} belongs to replicas {out[rank]} and {message.replica}")
                if rank not in out:
                    out[rank] = message.replica
                    todo += neighbours.get(rank, [])
        return out

    def _decode(
        self,
        core: _Core,
        queue: Queue,
        channels: dict[int, Fifo],
        outputs: OutputMap | None,
        acc_hook: AccumulatorHook | None,
    ) -> list[_Step]:
        steps = []
        for index, ins in enumerate(core.program.queues.get(queue, [])):
            try:
                steps.append(self._decode_one(core, queue, index, ins, channels, outputs, acc_hook))
            except Fault as fault:
                raise locate(fault, core.device, core.program, queue, index, None) from fault
        return steps

    def _decode_one(
        self,
        core: _Core,
        queue: Queue,
        index: int,
        ins: Instruction,
        channels: dict[int, Fifo],
        outputs: OutputMap | None,
        acc_hook: AccumulatorHook | None,
    ) -> _Step:
        op = BY_NAME.get(ins.op)
        if op is None or queue not in op.queues or ins.queue != queue:
            raise Fault(ILLEGAL, f"stands in queue {queue.name}")
        if ins.stage > self._deepest:
            raise Fault(ILLEGAL, f"has stage {ins.stage}, but the deepest stage is {self._deepest}")
        if ins.flags >> len(Flag) or (ins.wait | ins.post) >> QUEUES:
            raise Fault(ILLEGAL, "has reserved bits set")
        me, memory, rank = int(queue), core.memory, core.program.rank
        step = _Step(
            index,
            tuple(q * QUEUES + me for q in range(QUEUES) if ins.wait >> q & 1),
            tuple((me * QUEUES + q, q) for q in range(QUEUES) if ins.post >> q & 1),
            ins.stage,
            bool(ins.flags & Flag.ONCE),
            _ACTION,
            None,
        )
        if ins.op == "LD":
            step.action = build_ld(memory, ins)
        elif ins.op == "ST":
            step.action = build_st(memory, ins)
            if outputs is not None:
                step.after = outputs.observer(ins, index, memory, core.replica, core.replicas)
        elif ins.op == "MAC":
            step.action = build_mac(memory, ins)
        elif ins.op == "VREQ":
            step.action = build_vreq(memory, ins, _acc_observer(core, index, acc_hook) if acc_hook else None)
        elif ins.op in BUILDERS:
            step.action = BUILDERS[ins.op](memory, ins)
        elif ins.op == "CRC":
            step.action = build_crc(memory, ins)
        elif ins.op in ("TX", "RX"):
            f = fields_of(ins)
            if f["channel"] not in channels:
                raise Fault(ILLEGAL, f"names channel {f['channel']}, which does not exist")
            step.fifo, step.tag = channels[f["channel"]], f["tag"]
            if ins.op == "TX":
                step.kind, step.send = _SEND, build_tx(memory, ins)
                step.fifo.end(rank, f["rank"])
            else:
                step.kind, step.take = _TAKE, build_rx(memory, ins)
                step.fifo.end(f["rank"], rank)
        return step

    def _count(self, agents: list[_Agent]) -> None:
        """Executed instructions and MACs, counted from the program: each has its effect once a frame (or once)."""
        for agent in agents:
            for ins in agent.core.program.queues.get(agent.queue, []):
                times = min(agent.frames, 1) if ins.flags & Flag.ONCE else agent.frames
                self.counters.instructions[ins.op] = self.counters.instructions.get(ins.op, 0) + times
                if ins.op == "MAC":
                    f = ins.fields
                    self.counters.macs += times * f["m"] * f["n"] * f["kh"] * f["kw"] * f["oh"] * f["ow"]


def _acc_observer(core: _Core, index: int, hook: AccumulatorHook) -> Callable[[int, NDArray[np.int32]], None]:
    def observe(frame: int, acc: NDArray[np.int32]) -> None:
        hook(core.program.rank, index, frame * core.replicas + core.replica, acc)

    return observe


def describe(device: str, core: CoreProgram, queue: Queue, index: int) -> tuple[str, ...]:
    """Where an instruction stands, for error blocks: core, queue and index, ONNX node, task and tensor."""
    ins = core.queues[queue][index]
    lines = [
        f"{core.engine.id} (device {device}, rank {core.rank}) {queue.name}[{index}] {ins.op}, "
        f"packet {ins.packet}, stage {ins.stage}"
    ]
    if 0 <= ins.debug < len(core.debug):
        row = core.debug[ins.debug]
        if row.node or row.tensor:
            lines.append(f"ONNX node {row.node or '(transport)'}, task {row.task}, tensor {row.tensor} {list(row.box)}")
    return tuple(lines)


def locate(fault: Fault, device: str, core: CoreProgram, queue: Queue, index: int, frame: int | None) -> MachineError:
    """The fault of an instruction as the error users see."""
    ins = core.queues[queue][index]
    at = "" if frame is None else f" (frame {frame})"
    return MachineError(fault.code, f"{ins.op} {fault.what}{at}", where=describe(device, core, queue, index))


class _Run:
    """The event loop: agents that may have something to do, woken by tokens and messages."""

    def __init__(
        self, agents: list[_Agent], host: Host, channels: dict[int, Fifo], iterations: int, seed: int | None
    ) -> None:
        self.agents = agents
        self.host = host
        self.channels = channels
        self.iterations = iterations
        self.random = None if seed is None else random.Random(seed)
        self.by_end: dict[tuple[int, int], list[_Agent]] = {}
        self.by_core: dict[int, list[_Agent]] = {}
        for agent in agents:
            self.by_core.setdefault(id(agent.core), []).append(agent)
            for step in agent.steps:
                if step.fifo is not None:
                    ends = self.by_end.setdefault((step.fifo.spec.id, step.kind), [])
                    if agent not in ends:
                        ends.append(agent)
        self.ready: deque[_Agent] = deque()
        self.queued = [False] * len(agents)
        self.host_due = True

    def wake(self, agent: _Agent) -> None:
        if not self.queued[agent.number]:
            self.queued[agent.number] = True
            self.ready.append(agent)

    def loop(self) -> None:
        """Runs until nothing can move; raises the deadlock report if something was left to do."""
        for agent in self.agents:
            self.wake(agent)
        while self.ready or self.host_due:
            if self.host_due and (self.random is None or not self.ready or self.random.random() < 0.3):
                self.host_due = False
                self._advance_host()
            if not self.ready:
                continue
            if self.random is None:
                agent, limit = self.ready.popleft(), -1
            else:
                at = self.random.randrange(len(self.ready))
                self.ready[at], self.ready[-1] = self.ready[-1], self.ready[at]
                agent, limit = self.ready.pop(), self.random.choice((1, 2, 5, 30, -1))
            self.queued[agent.number] = False
            if self._advance(agent, limit):
                self.wake(agent)
        self._finish()

    def _advance_host(self) -> None:
        try:
            moved = self.host.advance()
        except Fault as fault:
            raise MachineError(fault.code, fault.what) from fault
        for channel in moved:
            for kind in (_SEND, _TAKE):
                for agent in self.by_end.get((channel, kind), ()):
                    self.wake(agent)

    def _advance(self, agent: _Agent, limit: int) -> bool:
        """Runs the queue until it blocks or `limit` instructions are done; True if it could go on."""
        steps, tokens, frames, core = agent.steps, agent.tokens, agent.frames, agent.core
        if not steps:
            agent.iteration = self.iterations
            return False
        siblings = self.by_core[id(core)]
        pc, length = agent.pc, len(steps)
        try:
            while agent.iteration < self.iterations:
                if limit == 0:
                    return True
                step = steps[pc]
                for s in step.waits:
                    if not tokens[s]:
                        return False
                frame = agent.iteration - step.stage
                if 0 <= frame < frames and not (step.once and frame):
                    fifo = step.fifo
                    if fifo is None:
                        if step.action is not None:
                            step.action(frame)
                            if step.after is not None:
                                step.after(frame)
                    elif step.kind == _SEND:
                        if fifo.full:
                            return False
                        assert step.send is not None
                        fifo.send(step.tag, step.send(frame))
                        self._moved(fifo.spec.target_rank, fifo.spec.id, _TAKE)
                    else:
                        if not fifo.messages:
                            return False
                        assert step.take is not None
                        step.take(frame, fifo.take(step.tag))
                        self._moved(fifo.spec.source_rank, fifo.spec.id, _SEND)
                for s in step.waits:
                    tokens[s] -= 1
                for s, q in step.posts:
                    tokens[s] += 1
                    if tokens[s] > MAX_TOKENS:
                        raise Fault(
                            TOKENS,
                            f"posts token {tokens[s]} to queue {Queue(q).name}; a semaphore counts to {MAX_TOKENS}",
                        )
                    self.wake(siblings[q])
                pc += 1
                limit -= 1
                if pc == length:
                    pc = 0
                    agent.iteration += 1
        except Fault as fault:
            frame = (agent.iteration - steps[pc].stage) * core.replicas + core.replica
            raise locate(fault, core.device, core.program, agent.queue, steps[pc].index, frame) from fault
        finally:
            agent.pc = pc
        return False

    def _moved(self, rank: int, channel: int, kind: int) -> None:
        if rank == HOST_RANK:
            self.host_due = True
        else:
            for agent in self.by_end.get((channel, kind), ()):
                self.wake(agent)

    def _finish(self) -> None:
        stuck = [a for a in self.agents if a.iteration < self.iterations]
        if stuck or not self.host.finished:
            lines = [self._blocked(a) for a in stuck] + self.host.waiting()
            raise MachineError(DEADLOCK, f"deadlock: {len(stuck)} queues wait for ever", where=tuple(lines[:40]))
        for core in {id(a.core): a.core for a in self.agents}.values():
            marking = [n for row in core.program.marking for n in row]
            for s, (start, end) in enumerate(zip(marking, core.tokens, strict=True)):
                if start != end:
                    pair = f"{Queue(s // QUEUES).name}->{Queue(s % QUEUES).name}"
                    raise MachineError(
                        TOKENS,
                        f"semaphore {pair} starts with {start} tokens and ends with {end}",
                        where=(core.program.engine.id,),
                    )
        for fifo in self.channels.values():
            if fifo.messages:
                raise MachineError(
                    MESSAGE, f"channel {fifo.spec.id} still holds {len(fifo.messages)} messages that nobody takes"
                )

    def _blocked(self, agent: _Agent) -> str:
        step = agent.steps[agent.pc]
        where = describe(agent.core.device, agent.core.program, agent.queue, agent.pc)[0]
        empty = [Queue(s // QUEUES).name for s in step.waits if not agent.tokens[s]]
        if empty:
            return f"{where}, iteration {agent.iteration}: waits for a token from {', '.join(empty)}"
        if step.fifo is not None:
            what = "room in" if step.kind == _SEND else "a message from"
            return f"{where}, iteration {agent.iteration}: waits for {what} channel {step.fifo.spec.id}"
        return f"{where}, iteration {agent.iteration}"
