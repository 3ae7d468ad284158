"""Decoding: each instruction of a queue becomes a step, its semaphores as indices and its effect as a closure.

All that does not depend on data is checked here, once: queue, flags, stage, addresses, windows, channel ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.executor.channels import Fifo
from compiler.executor.faults import ILLEGAL, TOKENS, Fault, MachineError
from compiler.executor.mac import build_mac
from compiler.executor.makers import Makers
from compiler.executor.memory import Memory, core_memory, fields_of
from compiler.executor.observe import AccumulatorHook, OutputMap
from compiler.executor.transfer import build_crc, build_ld, build_rx, build_st, build_tx
from compiler.executor.vector import BUILDERS, build_vreq
from compiler.isa.program import CoreProgram, Instruction
from compiler.isa.table import BY_NAME, Flag, Queue, Space

QUEUES = len(Queue)
MAX_TOKENS = 255
ACTION, SEND, TAKE = 0, 1, 2


@dataclass(slots=True)
class Step:
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


class Agent:
    """One queue of one core: where it stands in the body and which iteration it is in."""

    __slots__ = ("core", "frames", "iteration", "number", "pc", "queue", "steps", "tokens")

    def __init__(self, number: int, core: Core, queue: Queue, steps: list[Step]) -> None:
        self.number = number
        self.core = core
        self.queue = queue
        self.steps = steps
        self.pc = 0
        self.iteration = 0
        self.tokens = core.tokens
        self.frames = core.frames


class Core:
    """One core of a run: memory, semaphores, and the frames of its replica."""

    def __init__(
        self, device: str, program: CoreProgram, replica: int, replicas: int, frames: int, makers: Makers | None = None
    ) -> None:
        self.device = device
        self.program = program
        self.replica = replica
        self.replicas = replicas
        self.frames = len(range(replica, frames, replicas))
        self.memory: Memory = core_memory(program)
        if makers is not None:
            self.memory[Space.ACT].keep_sums(makers)
        marking = program.marking
        if len(marking) != QUEUES or any(len(row) != QUEUES for row in marking):
            raise MachineError(ILLEGAL, "the marking is not 6 x 6", where=(program.engine.id,))
        self.tokens = [marking[a][b] for a in range(QUEUES) for b in range(QUEUES)]
        if min(self.tokens) < 0 or max(self.tokens) > MAX_TOKENS:
            raise MachineError(TOKENS, f"the marking holds more than {MAX_TOKENS} tokens", where=(program.engine.id,))


def decode(
    core: Core,
    queue: Queue,
    channels: dict[int, Fifo],
    deepest: int,
    outputs: OutputMap | None,
    acc_hook: AccumulatorHook | None,
) -> list[Step]:
    """The steps of one queue; raises MachineError where an instruction is illegal whatever the data."""
    steps = []
    for index, ins in enumerate(core.program.queues.get(queue, [])):
        try:
            steps.append(decode_one(core, queue, index, ins, channels, deepest, outputs, acc_hook))
        except Fault as fault:
            raise locate(fault, core.device, core.program, queue, index, None) from fault
    return steps


def decode_one(
    core: Core,
    queue: Queue,
    index: int,
    ins: Instruction,
    channels: dict[int, Fifo],
    deepest: int,
    outputs: OutputMap | None,
    acc_hook: AccumulatorHook | None,
) -> Step:
    """One instruction as a step; raises Fault."""
    op = BY_NAME.get(ins.op)
    if op is None or queue not in op.queues or ins.queue != queue:
        raise Fault(ILLEGAL, f"stands in queue {queue.name}")
    if ins.stage > deepest:
        raise Fault(ILLEGAL, f"has stage {ins.stage}, but the deepest stage is {deepest}")
    if ins.flags >> len(Flag) or (ins.wait | ins.post) >> QUEUES:
        raise Fault(ILLEGAL, "has reserved bits set")
    me, memory, rank = int(queue), core.memory, core.program.rank
    step = Step(
        index,
        tuple(q * QUEUES + me for q in range(QUEUES) if ins.wait >> q & 1),
        tuple((me * QUEUES + q, q) for q in range(QUEUES) if ins.post >> q & 1),
        ins.stage,
        bool(ins.flags & Flag.ONCE),
        ACTION,
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
            step.kind, step.send = SEND, build_tx(memory, ins)
            step.fifo.end(rank, f["rank"])
        else:
            step.kind, step.take = TAKE, build_rx(memory, ins)
            step.fifo.end(f["rank"], rank)
    return step


def _acc_observer(core: Core, index: int, hook: AccumulatorHook) -> Callable[[int, NDArray[np.int32]], None]:
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
