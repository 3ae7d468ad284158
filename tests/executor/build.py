"""Hand-assembled programs for the executor's tests: one core, instructions in strict sequence by tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from compiler.isa.program import (
    Channel,
    CoreProgram,
    DebugRow,
    DeviceProgram,
    EngineSpec,
    HostMessage,
    Instruction,
    Placement,
)
from compiler.isa.table import BY_NAME, HOST_RANK, Queue, Space

HOST_IN, HOST_OUT = 0, 1


def engine(scratch: int = 1 << 20) -> EngineSpec:
    return EngineSpec(
        id="dev-0/SLR0/0", die="SLR0", tm=16, tn=16, act_bytes=scratch, wgt_bytes=scratch, acc_bytes=scratch,
        tab_bytes=scratch, vector_lanes=16, ld_bytes_per_cycle=64, st_bytes_per_cycle=64, clock_khz=300_000,
        bank="HBM0", bank_bytes_per_second=10**10, dram_bytes=1 << 28,
    )  # fmt: skip


def ins(
    op: str, queue: Queue | None = None, *, flags: int = 0, stage: int = 0, debug: int = 0, **fields: int
) -> Instruction:
    return Instruction(
        op, BY_NAME[op].queues[0] if queue is None else queue, fields, flags=flags, stage=stage, debug=debug
    )


def in_sequence(order: list[Instruction]) -> tuple[dict[Queue, list[Instruction]], tuple[tuple[int, ...], ...]]:
    """Queues and marking that let the instructions run only one after the other, iteration after iteration."""
    queues: dict[Queue, list[Instruction]] = {q: [] for q in Queue}
    marking = [[0] * len(Queue) for _ in Queue]
    for before, after in zip(order, order[1:] + order[:1], strict=True):
        if before.queue != after.queue:
            before.post |= 1 << after.queue
            after.wait |= 1 << before.queue
    if order[-1].queue != order[0].queue:
        marking[order[-1].queue][order[0].queue] = 1
    for i in order:
        queues[i.queue].append(i)
    return queues, tuple(tuple(row) for row in marking)


def core(order: list[Instruction], *, constants: bytes = b"", work_bytes: int = 1 << 16, rank: int = 0,
         debug: list[DebugRow] | None = None, memory_map: list[Placement] | None = None) -> CoreProgram:  # fmt: skip
    queues, marking = in_sequence(order)
    return CoreProgram(
        rank=rank, engine=engine(), queues=queues, marking=marking, constants=constants, work_bytes=work_bytes,
        packets=[], debug=debug or [], memory_map=memory_map or [], symbols={}, folding=[],
    )  # fmt: skip


def flat(space: str, address: int, count: int, **more: int) -> dict[str, int]:
    """The DRAM fields of a dense run of bytes."""
    return {"dram_addr": address, "depth": 1, "n2": 1, "n1": 1, "n0": count, "dram_s0": 1, "elem": 1} | more


def load(dram: Space, address: int, count: int, scratch: Space, scratch_addr: int, **more: Any) -> Instruction:
    f = flat("", address, count) | {"dram_space": dram, "scratch_space": scratch, "scratch_addr": scratch_addr} | more
    return ins("LD", **f)


def store(scratch: Space, scratch_addr: int, count: int, address: int, **more: Any) -> Instruction:
    return ins("ST", **(flat("", address, count) | {"scratch_space": scratch, "scratch_addr": scratch_addr} | more))


def receive(
    address: int, count: int, *, channel: int = HOST_IN, tag: int = 1, rank: int = HOST_RANK, **more: Any
) -> Instruction:
    return ins(
        "RX", **(flat("", address, count) | {"rank": rank, "channel": channel, "tag": tag, "bytes": count} | more)
    )


def send(
    address: int, count: int, *, channel: int = HOST_OUT, tag: int = 2, rank: int = HOST_RANK, **more: Any
) -> Instruction:
    return ins(
        "TX", **(flat("", address, count) | {"rank": rank, "channel": channel, "tag": tag, "bytes": count} | more)
    )


def message(channel: int, tag: int, tensor: str, dtype: str, shape: tuple[int, ...], *, to_core: bool, stage: int = 0,
            replica: int = 0) -> HostMessage:  # fmt: skip
    elem = {"u8": 1, "s8": 1, "i32": 4, "i64": 8}[dtype]
    count = int(np.prod(shape))
    return HostMessage(
        channel, tag, tensor, dtype, shape, (0,), (1, 1, count), (0, 0, elem), elem, to_core, stage, replica
    )


def device(cores: list[CoreProgram], host: list[HostMessage], outputs: dict[str, str], *, capacity: int = 2,
           max_bytes: int = 1 << 20, channels: list[Channel] | None = None, stages: int = 0, replicas: int = 1,
           aliases: dict[str, tuple[str, tuple[int, ...]]] | None = None) -> DeviceProgram:  # fmt: skip
    if channels is None:
        channels = [
            Channel(HOST_IN, HOST_RANK, 0, capacity, max_bytes, "PCIe", ()),
            Channel(HOST_OUT, 0, HOST_RANK, capacity, max_bytes, "PCIe", ()),
        ]
    return DeviceProgram("dev-0", cores, channels, [], host, outputs, aliases or {}, replicas, stages)
