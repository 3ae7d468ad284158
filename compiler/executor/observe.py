"""Hooks of a run: which elements of which tensor a store writes, so that a judge can compare every one of them.

A debug row with the role "output" stands on the ST that leaves a final box of a tensor in WORK memory. Which elements
these are follows from the memory map (the tensor box that lies dense at an address), never from the row's claim.
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
from compiler.executor.memory import Memory, Sums, fields_of
from compiler.executor.transfer import dram_windows
from compiler.isa.program import CoreProgram, Instruction, Placement
from compiler.isa.table import Space

Array = NDArray[Any]


class Place:
    """The elements of a tensor that a store covers: a strided walk through a placement's box.

    `offset` and `strides` count elements within the dense box; `counts` is (n2, n1, n0).
    """

    def __init__(self, box: tuple[int, ...], offset: int, counts: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.box = box
        self.offset = offset
        self.counts = counts
        self.strides = strides
        self._index: dict[tuple[int, ...], Array] = {}

    def inside(self) -> Array:
        """Offsets within the box, shape `counts`."""
        steps = [np.arange(n, dtype=np.int64) * s for n, s in zip(self.counts, self.strides, strict=True)]
        return self.offset + steps[0][:, None, None] + steps[1][:, None] + steps[2]

    def coordinates(self) -> Array:
        """storage4 coordinates, (4, *counts)."""
        low, high = self.box[0::2], self.box[1::2]
        where = np.unravel_index(self.inside(), tuple(b - a for a, b in zip(low, high, strict=True)))
        return np.stack([w + a for w, a in zip(where, low, strict=True)])

    def select(self, tensor: Array) -> Array:
        """The elements of a contiguous `tensor` in storage4 shape: a view where the walk is linear, else a copy.

        Raises Fault if the box does not lie in the tensor."""
        start = self._start(tensor.shape)
        if start is None:
            return tensor.reshape(-1)[self._flat(tensor.shape)]
        size = tensor.itemsize
        steps = tuple(s * size for s in self.strides)
        return np.ndarray(self.counts, tensor.dtype, tensor, (start + self.offset) * size, steps)

    def mark(self, flags: NDArray[np.bool_]) -> None:
        """Sets the flags (storage4 shape, contiguous) of these elements."""
        if self._start(flags.shape) is None:
            flags.reshape(-1)[self._flat(flags.shape)] = True
        else:
            self.select(flags)[...] = True

    def flat(self, shape: tuple[int, ...]) -> Array:
        """Flat indices of the elements in a tensor of this storage4 shape, shape `counts`."""
        start = self._start(shape)
        return self._flat(shape) if start is None else start + self.inside()

    def _start(self, shape: tuple[int, ...]) -> int | None:
        """Where the box begins in the flat tensor if it is one contiguous run of it, else None."""
        low, high = self.box[0::2], self.box[1::2]
        if any(a < 0 or b > n for a, b, n in zip(low, high, shape, strict=True)):
            raise Fault(ILLEGAL, f"has a memory map with box {list(self.box)} outside a tensor of shape {list(shape)}")
        partial = [i for i, (a, b, n) in enumerate(zip(low, high, shape, strict=True)) if b - a != n]
        if partial and any(b - a != 1 for a, b in list(zip(low, high, strict=True))[: partial[-1]]):
            return None
        return int(np.ravel_multi_index(low, shape))

    def _flat(self, shape: tuple[int, ...]) -> Array:
        if shape not in self._index:
            self._index[shape] = np.ravel_multi_index(tuple(self.coordinates()), shape)
        return self._index[shape]


@dataclass(frozen=True, slots=True)
class OutputPiece:
    """What one store wrote: `values` has the shape of `place.counts`, in the order of `place`.

    `sums`: the accumulators that these values were requantised from, where the run keeps them.
    """

    device: str
    engine: str
    rank: int
    index: int  # in the ST queue, or the number of the unit
    node: str
    frame: int  # the user's frame number
    tensor: str
    place: Place
    values: Array
    sums: Sums | None = None
    what: str = "ST"  # "unit" of a netlist


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
        placement, place = self._locate(row.tensor, f)
        dtype = numpy_dtype(placement.dtype)
        if dtype.itemsize != f["elem"]:
            raise Fault(ILLEGAL, f"stores {row.tensor} with elements of {f['elem']} bytes, its type is {dtype}")
        views = [w.data.view(dtype) for w in windows]
        engine, rank = self.core.engine.id, self.core.rank
        sums = None
        if f["scratch_space"] == Space.ACT and f["elem"] == 1:
            counts, strides = (f["n2"], f["n1"], f["n0"]), (f["scratch_s2"], f["scratch_s1"], 1)
            sums = memory[Space.ACT].sums(f["scratch_addr"], counts, strides)

        def observe(frame: int) -> None:
            user = frame * replicas + replica
            values = views[frame % len(views)]
            self.hook(OutputPiece(self.device, engine, rank, index, row.node, user, row.tensor, place, values, sums))

        return observe

    def _locate(self, tensor: str, f: dict[str, int]) -> tuple[Placement, Place]:
        """The placement that a store falls into, and the elements of the tensor that it covers."""
        elem = f["elem"]
        counts, strides = (f["n2"], f["n1"], f["n0"]), (f["dram_s2"], f["dram_s1"], f["dram_s0"])
        reach = [(n - 1) * s for n, s in zip(counts, strides, strict=True)]
        low = f["dram_addr"] + sum(min(r, 0) for r in reach)
        high = f["dram_addr"] + sum(max(r, 0) for r in reach) + elem
        for p in self.placements.get(tensor, []):
            if len(p.box) != 8 or low < p.address or (f["dram_addr"] - p.address) % elem:
                continue
            size = prod(b - a for a, b in zip(p.box[0::2], p.box[1::2], strict=True)) * elem
            if high <= p.address + size and not any(s % elem for n, s in zip(counts, strides, strict=True) if n > 1):
                steps = tuple(s // elem if n > 1 else 0 for n, s in zip(counts, strides, strict=True))
                return p, Place(p.box, (f["dram_addr"] - p.address) // elem, counts, steps)
        raise Fault(ILLEGAL, f"stores an output of {tensor} where the memory map has none of it")
