"""A compiled program before encoding: what the scheduler writes and the container stores.

One `DeviceProgram` a device, one `CoreProgram` an engine on it. All plain data; nothing here decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compiler.isa.table import Queue

if TYPE_CHECKING:
    from compiler.isa.stream.program import Fabric

Marking = tuple[tuple[int, ...], ...]  # [from queue][to queue] tokens, 6 x 6


@dataclass(slots=True)
class Instruction:
    """One instruction; `fields` by the names of its Op (absent = 0)."""

    op: str
    queue: Queue
    fields: dict[str, int]
    flags: int = 0
    wait: int = 0  # bit mask over Queue: semaphores q -> this queue
    post: int = 0  # bit mask over Queue: semaphores this queue -> q
    stage: int = 0
    packet: int = 0
    debug: int = 0


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """A tiled engine as hardware: what the binary's hardware description says and the checker holds it to."""

    id: str  # "u280-0/SLR1/0"
    die: str  # "SLR1"
    tm: int
    tn: int
    act_bytes: int
    wgt_bytes: int
    acc_bytes: int
    tab_bytes: int
    vector_lanes: int
    ld_bytes_per_cycle: int
    st_bytes_per_cycle: int
    clock_khz: int
    bank: str  # DRAM bank that serves it
    bank_bytes_per_second: int  # its peak x burst efficiency
    dram_bytes: int  # its share of the bank's capacity, CONST + WORK


@dataclass(frozen=True, slots=True)
class Channel:
    """A bounded FIFO from one rank to another; `capacity` messages of at most `max_bytes`.

    `links` are ids of the shared links on its route (see Topology), in order."""

    id: int
    source_rank: int
    target_rank: int
    capacity: int
    max_bytes: int
    transport: str  # "SLL" | "Ethernet" | "PCIe" | …
    links: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LinkSpec:
    """One direction of one shared link as the timing sees it."""

    id: str  # "u280-0>u280-1", "u280-0/SLR0>SLR1", "host>u280-0"
    bits_per_second: int
    latency_ns: int


@dataclass(frozen=True, slots=True)
class DebugRow:
    """What an instruction belongs to: ONNX node, its tensor and the box of it (storage4 ranges) that it produces."""

    node: str  # ONNX node name, or "" for transport rows
    task: str  # layer slice, "conv1#0"
    tensor: str  # tensor whose box is written or sent, or ""
    box: tuple[int, ...]  # n0,n1,c0,c1,h0,h1,w0,w1 in storage4 coordinates (half-open), or ()
    role: str  # "output": the result is that final box; "partial", "input", "weights", "transport", …


@dataclass(frozen=True, slots=True)
class Packet:
    """One output tile's run of instructions in each queue: relocatable as a unit."""

    id: int
    task: str
    tile: int


@dataclass(frozen=True, slots=True)
class HostMessage:
    """One message between host and core: bytes of a tensor box, in the order in which a frame's messages pass."""

    channel: int
    tag: int
    tensor: str
    dtype: str
    shape: tuple[int, ...]  # ONNX shape of the tensor
    offsets: tuple[int, ...]  # start byte of the box in the dense tensor
    counts: tuple[int, int, int]  # n2, n1, n0 (elements)
    strides: tuple[int, int, int]  # bytes in the dense tensor
    elem: int
    to_core: bool
    stage: int  # the message of iteration i belongs to frame i - stage
    replica: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """A tensor buffer in WORK memory: which tensor box lies where (storage4 box, dense), with its frame slots."""

    tensor: str
    dtype: str
    box: tuple[int, ...]
    address: int
    bytes: int
    depth: int


@dataclass(slots=True)
class CoreProgram:
    rank: int
    engine: EngineSpec
    queues: dict[Queue, list[Instruction]]
    marking: Marking  # tokens at the start of an iteration (and at its end)
    constants: bytes  # CONST image
    work_bytes: int
    packets: list[Packet]
    debug: list[DebugRow]
    memory_map: list[Placement]
    symbols: dict[str, tuple[int, int]]  # name -> (CONST offset, bytes): weights, biases, tables
    folding: list[dict[str, object]]  # per task: layer, engine, die, tile, memory, modes, cycles


@dataclass(slots=True)
class DeviceProgram:
    name: str  # "u280-0"
    cores: list[CoreProgram]
    channels: list[Channel]  # all channels of the cluster that start or end here
    links: list[LinkSpec]  # all links these channels use
    host: list[HostMessage] = field(default_factory=list)
    outputs: dict[str, str] = field(default_factory=dict)  # graph output -> root tensor (whole model)
    aliases: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)  # alias -> (root, shape)
    replicas: int = 1  # frame f of the user goes to replica f mod replicas, whose own frame number is f // replicas
    stages: int = 0  # deepest stage of the whole cluster, host included
    note: dict[str, object] = field(default_factory=dict)  # model hash, versions, seed, gap
    fabric: Fabric | None = None  # the device's streaming engines

    @property
    def ranks(self) -> list[int]:
        """Ranks of its cores and of its fabric."""
        return [c.rank for c in self.cores] + ([] if self.fabric is None else [self.fabric.rank])
