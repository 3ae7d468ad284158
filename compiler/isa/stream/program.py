"""A fabric before encoding: what the scheduler writes and the container stores. All plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from compiler.isa.program import Instruction


@dataclass(frozen=True, slots=True)
class FabricDie:
    """One die as the netlist's hardware: its clock, what streaming engines may use of it, and its crossings."""

    name: str  # "SLR1"
    clock_khz: int
    lut: int
    ff: int
    bram18: int
    uram: int
    dsp: int
    wires: int  # SLL wires a direction to the next die of the list, 0 for the last
    family: str  # "ultrascale+", "versal", …: which DSP slices it has


@dataclass(frozen=True, slots=True)
class FabricBank:
    """A memory bank that streaming engines read weights from."""

    name: str  # "HBM3"
    die: int  # row of FABRIC_DIES: where its port stands
    bytes_per_second: int  # what long bursts reach
    capacity_bytes: int
    port_bits: int


@dataclass(frozen=True, slots=True)
class UnitRow:
    """What a unit belongs to. role "output": its stream (port 0) is `tensor` in the order n, h, w, c of storage4; of a
    bridge (role "boundary"), too.

    role "piece": it is a box of the tensor that another unit gives as a whole; `axes` are the storage axes of its
    n, c, h, w.
    """

    engine: str  # "u280-0/SLR1/conv1"
    node: str  # ONNX node name
    role: str  # "output" | "piece" | "inner" | "boundary"
    tensor: str  # "" unless role is output or piece, or the unit a bridge
    dtype: str
    shape: tuple[int, ...]  # ONNX shape of the tensor
    task: str = ""  # the slice of the layer, "conv1#0"
    box: tuple[int, ...] = ()  # of a piece: storage4 bounds n0, n1, c0, c1, h0, h1, w0, w1
    axes: tuple[int, ...] = ()  # of a piece


@dataclass(slots=True)
class Fabric:
    """All streaming engines of one device. text: the units by number, then preloads, streams, messages and RUN."""

    rank: int
    dies: list[FabricDie]
    text: list[Instruction]
    constants: bytes
    symbols: dict[str, tuple[int, int]]  # name -> (offset, bytes) of constants
    rows: list[UnitRow]  # a row a unit
    folding: list[dict[str, object]] = field(default_factory=list)
    banks: list[FabricBank] = field(default_factory=list)  # all of the device's where weights stand in one, else none

    def units(self) -> list[Instruction]:
        """Units by number."""
        return [i for i in self.text if i.op not in ("PRE", "CON", "MSG", "RUN")]

    def streams(self) -> list[Instruction]:
        return [i for i in self.text if i.op == "CON"]

    def messages(self) -> list[Instruction]:
        """What the bridges send and take a frame, in order."""
        return [i for i in self.text if i.op == "MSG"]

    def preloads(self) -> list[Instruction]:
        return [i for i in self.text if i.op == "PRE"]
