"""What a layer's engine is made of before it has a place: units, inner streams, constants still to be made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import gcd

from compiler.ir.graph import DType, Graph, Node, Tensor, storage4
from compiler.isa.program import Instruction
from compiler.isa.stream.table import BY_NAME
from compiler.isa.table import Queue
from device_db.errors import FvcError

Constant = Callable[[], bytes]
End = tuple[int, int]  # unit of the engine, port


@dataclass(frozen=True, slots=True, order=True)
class Fold:
    """How a layer is folded: rows or channels at once, columns or taps at once, unit variant, where weights stand."""

    pe: int
    simd: int = 1
    variant: int = 0  # stream.table.HLS | RTL
    memory: int = 0  # stream.table.LUTRAM | BRAM | URAM | DRAM


@dataclass(frozen=True, slots=True)
class Element:
    """Type of a tensor's elements in a stream: one signed bit is bipolar."""

    bits: int
    signed: bool


@dataclass(slots=True)
class Draft:
    """One unit: its fields without a die, and what fills its memories, by slot: name and bytes."""

    op: str
    fields: dict[str, int]
    slots: dict[int, tuple[str, Constant]] = field(default_factory=dict)
    role: str = "inner"

    def instruction(self, die: int = 0) -> Instruction:
        given = {"die": die, **self.fields}
        return Instruction(self.op, Queue.CTL, {f.name: given.get(f.name, 0) for f in BY_NAME[self.op].fields})


@dataclass(slots=True)
class Engine:
    """A layer as hardware: `inputs` by the node's non-constant inputs, `output` the tensor's stream."""

    units: list[Draft] = field(default_factory=list)
    streams: list[tuple[End, End]] = field(default_factory=list)
    inputs: list[End] = field(default_factory=list)
    output: End = (0, 0)
    notes: dict[str, object] = field(default_factory=dict)  # folding metadata: proofs of the requantisers
    piece: int | None = None  # the unit that gives its tensor, or a block of it, in the operator's order n, h, w, c

    def unit(self, op: str, fields: dict[str, int], slots: dict[int, tuple[str, Constant]] | None = None) -> int:
        self.units.append(Draft(op, fields, slots or {}))
        return len(self.units) - 1

    def after(self, unit: int, source: End | None) -> End:
        """Connects port 0 of a unit behind `source`, or makes it the engine's next input; gives its output."""
        if source is None:
            self.inputs.append((unit, 0))
        else:
            self.streams.append((source, (unit, 0)))
        return (unit, 0)


def element(tensor: Tensor) -> Element:
    """Bits and sign of a tensor's elements: of its levels where they are known, else of its type.

    A tensor of 16 bits has nine at least, so that its messages are what its type says."""
    if tensor.levels is not None:
        least = 9 if tensor.dtype == DType.S16 else 1
        return Element(max(least, tensor.levels.bits), tensor.levels.signed)
    return Element(8 * tensor.dtype.size_bytes, tensor.dtype != DType.U8)


def x_fields(e: Element) -> dict[str, int]:
    return {"x_bits": e.bits, "x_signed": int(e.signed)}


def y_fields(e: Element) -> dict[str, int]:
    return {"y_bits": e.bits, "y_signed": int(e.signed)}


def view(graph: Graph, name: str) -> tuple[int, int, int, int]:
    """n, c, h, w of a tensor."""
    return storage4(graph.tensors[name].shape)


def stream_inputs(graph: Graph, node: Node) -> list[str]:
    """Tensors that a layer reads as streams, in the order of its ports."""
    return [name for name in node.inputs if name not in graph.constants]


def refuse(node_name: str, op: str, why: str) -> FvcError:
    """A layer that no streaming engine has."""
    return FvcError(
        "FVC214",
        f"no streaming engine for layer '{node_name}' ({op}): {why}",
        help=("use --style auto, which leaves such layers to tiled engines", "use --style tiled"),
        exit_code=1,
    )


@lru_cache(maxsize=1024)
def divisors(n: int) -> tuple[int, ...]:
    """Ascending."""
    return tuple(d for d in range(1, n + 1) if n % d == 0)


def signed_bits(low: int, high: int) -> int:
    """Bits of the narrowest two's complement that holds low..high."""
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length() if high > 0 else 0) + 1


def fewest_lanes(pe: int, elements: int, cycles: int) -> int:
    """The least divisor of `pe` that passes `elements` in three quarters of `cycles`: without slack the streams behind
    it would be as slow as the unit itself, and every wait would be lost."""
    return next(d for d in divisors(pe) if 4 * (elements // d) <= 3 * cycles or d == pe)


def narrow(engine: Engine, at: End, pe: int, lanes: int, elements: int, x: Element) -> End:
    """A width converter where the lanes differ; two, by way of what divides both, where neither divides the other."""
    if pe == lanes:
        return at
    if pe % lanes and lanes % pe:
        at, pe = narrow(engine, at, pe, gcd(pe, lanes), elements, x), gcd(pe, lanes)
    f = {"pe": pe, "pe_out": lanes, **x_fields(x), "elements": elements}
    return engine.after(engine.unit("DWC", f), at)
