"""The decision in its smallest form: engine slots, pieces of layers on them, and boxes. No solver, no costs."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.isa.program import EngineSpec
from compiler.plan.model import Box
from device_db.model import DieRef, Resources

HOST = "host"


@dataclass(frozen=True, slots=True)
class Slot:
    """One engine that stands on a die: what `EnginePlan` is made of."""

    index: int
    ref: DieRef
    spec: EngineSpec
    resources: Resources
    bank_sharers: int  # cores of the plan that use the same bank, this one included
    replica: int = 0

    @property
    def id(self) -> str:
        return self.spec.id


@dataclass(frozen=True, slots=True)
class Piece:
    """A task to be: a box of a layer's output on a slot. Cost fields are those of its TaskCost."""

    role: str  # full | partial | reduce
    slot: int
    box: Box
    reduce_from: int
    reduce_to: int
    memory: str
    cycles: int
    tile: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """Layer name -> its pieces, and the name of its strategy ("whole", "Pm=2", "Pn=3")."""

    pieces: dict[str, tuple[Piece, ...]]

    def strategy(self, layer: str) -> str:
        p = self.pieces[layer]
        partial = sum(1 for x in p if x.role == "partial")
        if partial:
            return f"Pn={partial}"
        return "whole" if len(p) == 1 else f"Pm={len(p)}"


def cut(box: Box, axis: int, lo: int, hi: int) -> Box:
    """The box with storage axis `axis` restricted to [lo, hi)."""
    out = list(box)
    out[2 * axis], out[2 * axis + 1] = lo, hi
    return (out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7])
