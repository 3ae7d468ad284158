"""The decision in its smallest form: engine slots, pieces of layers on them, and boxes. No solver, no costs."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Layer name -> its pieces."""

    pieces: dict[str, tuple[Piece, ...]]


FACTORS = ("Pb", "Pr", "Pc", "Pm", "Pn")  # Super-LIP's names, in the order in which a strategy lists them


def strategy_of(pieces: Sequence[Piece], splits: Sequence[tuple[str, int, int, int]]) -> str:
    """The name of a layer's strategy: "whole", "Pm=2", "Pr=3,Pm=2"…; splits: (factor, storage axis or -1, …)."""
    if len(pieces) == 1:
        return "whole"
    partial = [p for p in pieces if p.role == "partial"]
    cells = partial or list(pieces)
    parts = {f: len({p.box[2 * axis : 2 * axis + 2] for p in cells}) for f, axis, *_ in splits if axis >= 0}
    parts["Pn"] = len({(p.reduce_from, p.reduce_to) for p in partial})
    return ",".join(f"{f}={parts[f]}" for f in FACTORS if parts.get(f, 1) > 1)


def cut(box: Box, axis: int, lo: int, hi: int) -> Box:
    """The box with storage axis `axis` restricted to [lo, hi)."""
    out = list(box)
    out[2 * axis], out[2 * axis + 1] = lo, hi
    return (out[0], out[1], out[2], out[3], out[4], out[5], out[6], out[7])
