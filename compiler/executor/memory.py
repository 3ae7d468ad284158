"""Memory of one core: bytes, a stamp a byte, and bounds that are checked when an instruction is decoded.

A `Region` is one address space. `Region.box` gives an instruction its strided window once, so that executing it is
a copy between two views; reading a byte that nobody wrote for the frame at hand is a `Fault` that names the address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.faults import BAD_ADDRESS, ILLEGAL, UNWRITTEN, Fault
from compiler.executor.makers import Makers
from compiler.isa.program import CoreProgram, Instruction
from compiler.isa.table import BY_NAME, Space

Array = NDArray[Any]
Action = Callable[[int], None]  # executes an instruction for a frame number
ELEMENT: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 4: np.dtype("<u4"), 8: np.dtype("<u8")}


def fields_of(ins: Instruction) -> dict[str, int]:
    """Every field of the instruction's table row; absent ones are 0."""
    return {f.name: ins.fields.get(f.name, 0) for f in BY_NAME[ins.op].fields}


def collapse(counts: tuple[int, ...], strides: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The same addresses with as few dimensions as possible: unit counts dropped, dense neighbours merged."""
    out: list[tuple[int, int]] = []
    for n, s in zip(counts, strides, strict=True):
        if n == 1:
            continue
        if out and out[-1][1] == n * s:
            out[-1] = (out[-1][0] * n, s)
        else:
            out.append((n, s))
    if not out:
        out = [(1, 1)]
    return tuple(n for n, _ in out), tuple(s for _, s in out)


def dense_strides(counts: tuple[int, ...], itemsize: int = 1) -> tuple[int, ...]:
    """Byte strides of a row-major array."""
    strides = [itemsize]
    for n in reversed(counts[1:]):
        strides.append(strides[-1] * n)
    return tuple(reversed(strides))


NEVER, ALWAYS = 0, 255  # stamps: a byte that nobody wrote; one that holds for every frame (ONCE)


def stamp(frame: int) -> int:
    """What a byte written for this frame is marked with."""
    return 1 + frame % 254


@dataclass(frozen=True, slots=True)
class Window:
    """A strided window of a region: `data` for values, `stamps` for which frame wrote them (None: read-only memory)."""

    region: Region
    address: int
    data: Array
    stamps: Array | None
    requantised: Array | None = None  # flags of Sums, where the region keeps them

    def read(self, frame: int) -> Array:
        """The values; Fault unless every byte of them was written for this frame (or ONCE, for all frames)."""
        if self.stamps is not None:
            good = self.stamps == stamp(frame)
            if not good.all():
                good |= self.stamps == ALWAYS
                if not good.all():
                    raise self._unwritten(good)
        return self.data

    def write(self, values: Array | int, frame: int) -> None:
        self.mark(stamp(frame))
        self.data[...] = values

    def mark(self, value: int) -> None:
        if self.stamps is not None:
            self.stamps[...] = value
        if self.requantised is not None:
            self.requantised[...] = False

    def _unwritten(self, good: Array) -> Fault:
        """The Fault for the first byte of this window, in window order, that the frame may not read."""
        assert self.stamps is not None
        at = np.argwhere(~good)
        first = tuple(int(i) for i in at[0])
        address = self.address + sum(i * s for i, s in zip(first, self.stamps.strides, strict=True))
        return unwritten(self.region.name, address, int(self.stamps[first]), len(at))


def unwritten(region: str, address: int, mark: int, count: int) -> Fault:
    """The Fault for a byte that was never written, or was left by another frame."""
    why = "was never written" if mark == NEVER else "holds what another frame left"
    return Fault(UNWRITTEN, f"reads {region} byte {address}, which {why} ({count} such bytes)")


@dataclass(frozen=True, slots=True)
class Sums:
    """Where a byte comes from: `known` whether a function of `Makers` made it, int32 `makers` which one, and int32
    `values` of which accumulator, if that is a requantiser."""

    values: Array
    makers: Array
    known: Array

    def copy(self) -> Sums:
        return Sums(self.values.copy(), self.makers.copy(), self.known.copy())

    def put(self, values: Array | int, makers: Array | int, known: Array | bool = True) -> None:
        self.values[...] = values
        self.makers[...] = makers
        self.known[...] = known


class Region:
    """One address space of a core: `size` bytes, read-only if `image` is given."""

    def __init__(self, name: str, size: int, image: bytes | None = None) -> None:
        self.name = name
        self.size = size
        self.read_only = image is not None
        self.data: Array = np.zeros(size, np.uint8) if image is None else np.frombuffer(image, np.uint8)
        self.stamps: Array | None = None if image is not None else np.zeros(size, np.uint8)
        self._sums: Sums | None = None
        self.makers: Makers | None = None

    def keep_sums(self, makers: Makers) -> None:
        """From now on every byte carries what it was made from and by; call it before any `box`."""
        self.makers = makers
        self._sums = Sums(np.zeros(self.size, np.int32), np.zeros(self.size, np.int32), np.zeros(self.size, np.bool_))

    def sums(self, address: int, counts: tuple[int, ...], strides: tuple[int, ...]) -> Sums | None:
        """What is behind a box of bytes that `box` has found legal; None where nothing is kept."""
        if self._sums is None:
            return None
        wide = tuple(4 * s for s in strides)
        return Sums(
            np.ndarray(counts, np.int32, self._sums.values, 4 * address, wide),
            np.ndarray(counts, np.int32, self._sums.makers, 4 * address, wide),
            np.ndarray(counts, np.bool_, self._sums.known, address, strides),
        )

    def box(
        self,
        address: int,
        counts: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any] | type = np.uint8,
        *,
        write: bool = False,
        align: int = 1,
    ) -> Window:
        """The window of elements at address + sum(index * stride); strides in bytes, negative ones too.

        Raises Fault: out of bounds, an empty box, a misaligned address, a write to a read-only region, or a write
        that visits an address twice by a zero stride.
        """
        dt = np.dtype(dtype)
        if min(counts, default=1) < 1:
            raise Fault(ILLEGAL, f"has an empty box {counts}")
        if address % align or (
            dt.itemsize > 1 and any(s % align for n, s in zip(counts, strides, strict=True) if n > 1)
        ):
            raise Fault(BAD_ADDRESS, f"uses {self.name} address {address}, which is no multiple of {align}")
        if write and self.read_only:
            raise Fault(BAD_ADDRESS, f"writes to {self.name}, which is read-only")
        reach = [(n - 1) * s for n, s in zip(counts, strides, strict=True)]
        low = address + sum(r for r in reach if r < 0)
        high = address + sum(r for r in reach if r > 0) + dt.itemsize
        if low < 0 or high > self.size:
            raise Fault(BAD_ADDRESS, f"touches {self.name} bytes [{low}, {high}) of {self.size}")
        if write and any(s == 0 and n > 1 for n, s in zip(counts, strides, strict=True)):
            raise Fault(ILLEGAL, f"writes the same byte of {self.name} more than once")
        data: Array = np.ndarray(counts, dt, self.data, address, strides)
        stamps: Array | None = None
        if self.stamps is not None:
            c, s = collapse((*counts, dt.itemsize), (*strides, 1))
            stamps = np.ndarray(c, np.uint8, self.stamps, address, s)
            if self._sums is not None:
                return Window(self, address, data, stamps, np.ndarray(c, np.bool_, self._sums.known, address, s))
        return Window(self, address, data, stamps)

    def dense(
        self,
        address: int,
        counts: tuple[int, ...],
        dtype: np.dtype[Any] | type = np.uint8,
        *,
        write: bool = False,
        align: int = 1,
    ) -> Window:
        """A row-major window without gaps."""
        strides = dense_strides(counts, np.dtype(dtype).itemsize)
        return self.box(address, counts, strides, dtype, write=write, align=align)

    def range(self, address: int, size: int, frame: int) -> Array:
        """Written bytes [address, address + size), found while executing (threshold lists)."""
        if size == 0:
            return self.data[:0]
        return self.dense(address, (size,)).read(frame)


Memory = dict[Space, Region]


def core_memory(core: CoreProgram) -> Memory:
    """The six address spaces of a core as its program and its hardware description say."""
    e = core.engine
    return {
        Space.CONST: Region("CONST", len(core.constants), core.constants),
        Space.WORK: Region("WORK", core.work_bytes),
        Space.ACT: Region("ACT", e.act_bytes),
        Space.WGT: Region("WGT", e.wgt_bytes),
        Space.ACC: Region("ACC", e.acc_bytes),
        Space.TAB: Region("TAB", e.tab_bytes),
    }
