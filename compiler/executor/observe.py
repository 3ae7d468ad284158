"""Hooks of a run: which elements of which tensor a store writes, so that a judge can compare every one of them.

A debug row with the role "output" stands on the ST that leaves a final box of a tensor in WORK memory. Which elements
these are follows from the memory map (the tensor box that lies dense at an address), not from the row's claim; the
claim is checked against it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.faults import ILLEGAL, Fault
from compiler.executor.host import numpy_dtype
from compiler.executor.memory import Memory, fields_of
from compiler.executor.transfer import dram_windows
from compiler.isa.program import CoreProgram, DebugRow, Instruction, Placement
from compiler.isa.table import Space

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """What one store wrote of a tensor: `values[i]` is the element at storage4 coordinates `coordinates[:, i]`.

    `box` is the box of the tensor that the core holds."""

    device: str
    engine: str
    rank: int
    index: int  # in the ST queue
    node: str
    frame: int  # the user's frame number
    tensor: str
    coordinates: Array  # int32 (4, elements)
    values: Array


OutputHook = Callable[[OutputPiece], None]
AccumulatorHook = Callable[[int, int, int, "NDArray[np.int32]"], None]


class OutputMap:
    """The output-role stores of one core."""

    def __init__(self, device: str, core: CoreProgram, hook: OutputHook) -> None:
        self.device = device
        self.core = core
        self.hook = hook
        self.placements: dict[str, list[Placement]] = {}
        for p in core.memory_map:
            self.placements.setdefault(p.tensor, []).append(p)

    def observer(
        self, ins: Instruction, index: int, memory: Memory, replica: int, replicas: int
    ) -> Callable[[int], None] | None:
        """What to call after this store with the core's frame number, or None if its row is no output row."""
        if not 0 <= ins.debug < len(self.core.debug):
            return None
        row = self.core.debug[ins.debug]
        if row.role != "output":
            return None
        f = fields_of(ins)
        windows = dram_windows(memory[Space.WORK], f)
        placement, coordinates = self._locate(row, f)
        dtype = numpy_dtype(placement.dtype)
        if dtype.itemsize != f["elem"]:
            raise Fault(ILLEGAL, f"stores {row.tensor} with elements of {f['elem']} bytes, its type is {dtype}")
        engine, rank = self.core.engine.id, self.core.rank

        def observe(frame: int) -> None:
            values = windows[frame % len(windows)].data.reshape(-1).view(dtype)
            self.hook(
                OutputPiece(
                    self.device,
                    engine,
                    rank,
                    index,
                    row.node,
                    frame * replicas + replica,
                    row.tensor,
                    coordinates,
                    values,
                )
            )

        return observe

    def _locate(self, row: DebugRow, f: dict[str, int]) -> tuple[Placement, Array]:
        """The placement that a store falls into, and the storage4 coordinates of its elements."""
        elem = f["elem"]
        counts, strides = (f["n2"], f["n1"], f["n0"]), (f["dram_s2"], f["dram_s1"], f["dram_s0"])
        steps = [np.arange(n, dtype=np.int64) * s for n, s in zip(counts, strides, strict=True)]
        address = (f["dram_addr"] + steps[0][:, None, None] + steps[1][:, None] + steps[2]).ravel()
        for placement in self.placements.get(row.tensor, []):
            inside = address - placement.address
            if inside.min() < 0 or inside.max() + elem > placement.bytes or len(placement.box) != 8:
                continue
            low, high = placement.box[0::2], placement.box[1::2]
            shape = tuple(b - a for a, b in zip(low, high, strict=True))
            if prod(shape) * elem > placement.bytes or (inside % elem).any():
                continue
            where = np.stack(np.unravel_index(inside // elem, shape)) + np.array(low)[:, None]
            box = row.box
            if len(box) != 8 or (where.min(axis=1) < box[0::2]).any() or (where.max(axis=1) >= box[1::2]).any():
                raise Fault(ILLEGAL, f"stores elements of {row.tensor} outside the box {list(box)} of its debug row")
            return placement, where.astype(np.int32)
        raise Fault(ILLEGAL, f"stores an output of {row.tensor} where the memory map has none of it")
