"""Hand-made programs for the simulator. Clock 1 GHz, so a cycle is 1000 ps and a byte a cycle is 1 GB/s."""

from __future__ import annotations

from compiler.isa.program import (
    Channel,
    CoreProgram,
    DebugRow,
    DeviceProgram,
    EngineSpec,
    HostMessage,
    Instruction,
    LinkSpec,
)
from compiler.isa.table import Queue, Space

CYCLE = 1000
SETUP = 32  # cycles before an LD or ST moves its first byte
FILL = 16  # cycles of the vector unit's pipeline
FAST = 10**15  # a bank that never limits
LD, CX, ST, TX, RX, CTL = Queue


def engine(
    rank: int, *, bank: str = "", rate: int = FAST, ld: int = 64, st: int = 64, khz: int = 1_000_000
) -> EngineSpec:
    return EngineSpec(
        f"dev/SLR{rank}/0", f"SLR{rank}", 8, 8, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 10, ld, st, khz,
        bank or f"bank{rank}", rate, 1 << 30,
    )  # fmt: skip


def bits(*queues: Queue) -> int:
    return sum(1 << q for q in queues)


def load(size: int, wait: int = 0, post: int = 0, **more: int) -> Instruction:
    space = more.pop("space", Space.WORK)
    fields = {"dram_space": space, "elem": 1, "n2": 1, "n1": 1, "n0": size, "dram_s0": 1, "depth": 1}
    return Instruction("LD", LD, fields, wait=wait, post=post, **more)


def store(size: int, wait: int = 0, post: int = 0, **more: int) -> Instruction:
    fields = {"elem": 1, "n2": 1, "n1": 1, "n0": size, "dram_s0": 1, "depth": 1}
    return Instruction("ST", ST, fields, wait=wait, post=post, **more)


def vector(cycles: int, wait: int = 0, post: int = 0, **more: int) -> Instruction:
    """A VACC of so many cycles on the 10 lanes of `engine`."""
    return Instruction("VACC", CX, {"count": (cycles - FILL) * 10}, wait=wait, post=post, **more)


def message(op: str, channel: int, size: int, wait: int = 0, post: int = 0, **more: int) -> Instruction:
    fields = {"elem": 1, "n2": 1, "n1": 1, "n0": size, "dram_s0": 1, "depth": 1, "channel": channel, "bytes": size}
    return Instruction(op, TX if op == "TX" else RX, fields, wait=wait, post=post, **more)


def marking(**tokens: int) -> tuple[tuple[int, ...], ...]:
    """marking(CX_LD=2): two tokens from CX to LD."""
    grid = [[0] * 6 for _ in range(6)]
    for pair, count in tokens.items():
        source, target = pair.split("_")
        grid[Queue[source]][Queue[target]] = count
    return tuple(map(tuple, grid))


def core(
    rank: int,
    *instructions: Instruction,
    tokens: tuple[tuple[int, ...], ...] | None = None,
    spec: EngineSpec | None = None,
    debug: list[DebugRow] | None = None,
) -> CoreProgram:
    queues: dict[Queue, list[Instruction]] = {q: [] for q in Queue}
    for ins in instructions:
        queues[ins.queue].append(ins)
    return CoreProgram(rank, spec or engine(rank), queues, tokens or marking(), b"", 0, [], debug or [], [], {}, [])


def device(
    *cores: CoreProgram,
    channels: list[Channel] | None = None,
    links: list[LinkSpec] | None = None,
    host: list[HostMessage] | None = None,
    stages: int = 0,
    replicas: int = 1,
) -> DeviceProgram:
    return DeviceProgram("dev", list(cores), channels or [], links or [], host or [], stages=stages, replicas=replicas)


def link(name: str, bytes_per_cycle: int, latency_cycles: int = 0) -> LinkSpec:
    return LinkSpec(name, bytes_per_cycle * 8 * 10**9, latency_cycles)


def tile_core(
    rank: int, loads: int, compute: int, stores: int, credits: int = 2, spec: EngineSpec | None = None
) -> CoreProgram:
    """One tile a frame by the tile protocol of docs/machine.md."""
    return core(
        rank,
        load(loads, bits(CX), bits(CX)),
        vector(compute, bits(LD, ST), bits(LD, ST)),
        store(stores, bits(CX), bits(CX)),
        tokens=marking(CX_LD=credits, ST_CX=credits),
        spec=spec,
    )
