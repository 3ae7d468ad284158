"""Integer grids: which float tensors are scale * (integer - zero), and constants that are such tensors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend.onnxgraph import Node

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """What a quantiser promises of its result f = scale * (integer - zero), tensor `integer` holding whole floats.

    scale: float32, one value or one along `axis` of the tensor. lo, hi, step: of the integers; None where the operator
    does not clamp (Trunc). node: the quantiser, for messages.
    """

    integer: str
    scale: Array
    zero: int
    lo: int | None
    hi: int | None
    step: int
    node: str
    axis: int = -1  # -1: one scale
    parts: tuple[str, ...] = ()  # names of the nodes that the quantiser became

    @property
    def bounded(self) -> bool:
        return self.lo is not None and self.hi is not None


@dataclass(frozen=True, slots=True, eq=False)
class GridConstant:
    """A constant on a grid: value = scale * integers; `scale` broadcasts to the shape of `integers` (int32)."""

    integers: Array
    scale: Array
    node: str


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """Nodes that make `result` of `source` and together never decrease with it, though each alone might not say so."""

    source: str
    nodes: tuple[Node, ...]


@dataclass(slots=True)
class Grids:
    """Everything that `expand` remembers: grids by the quantiser's result, constants by name, composites by result."""

    tensors: dict[str, Grid] = field(default_factory=dict)
    constants: dict[str, GridConstant] = field(default_factory=dict)
    composites: dict[str, Composite] = field(default_factory=dict)
    inputs: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # annotated graph input -> lo, hi, step


def fit_container(lo: int, hi: int, zero: int, wide: bool = False) -> tuple[int, int] | None:
    """(shift, zero): stored = integer + shift in 8 bits with the zero point `zero`; None if the range is wider.

    wide: else in int16, where 16 bits without sign stand 32,768 lower.

    The zero point is taken out where the rest fits: signed real integers need no correction in a product.
    """
    if lo - zero >= -128 and hi - zero <= 127:
        return -zero, 0
    if lo - zero >= 0 and hi - zero <= 255:
        return -zero, 0
    if lo >= 0 and hi <= 255 and 0 <= zero <= 255:
        return 0, zero
    if lo >= -128 and hi <= 127 and -128 <= zero <= 127:
        return 0, zero
    if not wide:
        return None
    for shift in (-zero, 0, -lo - 2**15):
        if lo + shift >= -(2**15) and hi + shift < 2**15 and -(2**15) <= zero + shift < 2**15:
            return shift, zero + shift
    return None


def elem_of(lo: int, hi: int) -> int:
    """ONNX element type of the container of integers lo..hi: UINT8, INT8 if there are negative ones, else INT16."""
    if lo >= 0:
        return 2 if hi <= 255 else 5
    return 3 if lo >= -128 and hi <= 127 else 5


def annotated(datatype: str) -> tuple[int, int, int] | None:
    """(lo, hi, step) of a FINN data type name up to 16 bits; None for others."""
    fixed = {"BIPOLAR": (-1, 1, 2), "BINARY": (0, 1, 1), "TERNARY": (-1, 1, 1)}
    if datatype in fixed:
        return fixed[datatype]
    for name, signed in (("UINT", False), ("INT", True)):
        if datatype.startswith(name) and datatype[len(name) :].isdigit():
            bits = int(datatype[len(name) :])
            if 1 <= bits <= 16:
                return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1, 1) if signed else (0, (1 << bits) - 1, 1)
    return None


def whole(value: Array | np.float32) -> bool:
    return bool(np.isfinite(value).all() and np.all(value == np.rint(value)))
