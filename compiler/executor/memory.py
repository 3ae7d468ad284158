"""Memory of one core: bytes, a written-mask a byte, and bounds that are checked when an instruction is decoded.

A `Region` is one address space. `Region.box` gives an instruction its strided window once, so that executing it is
a copy between two views; reading a byte that nobody wrote is a `Fault` that names the address.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.faults import BAD_ADDRESS, ILLEGAL, UNWRITTEN, Fault
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


@dataclass(frozen=True, slots=True)
class Window:
    """A strided window of a region: `data` for values, `mask` for what of it was written (None: all of it)."""

    region: Region
    address: int
    data: Array
    mask: Array | None
    counts: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> Array:
        """The values; raises a Fault if one byte of them was never written."""
        if self.mask is not None and not self.mask.all():
            raise self.unwritten()
        return self.data

    def write(self, values: Array | int) -> None:
        self.data[...] = values
        if self.mask is not None:
            self.mask[...] = True

    def unwritten(self) -> Fault:
        """The Fault for the first unwritten byte of this window, in window order."""
        assert self.mask is not None
        at = np.argwhere(~self.mask)
        mask_strides = self.mask.strides
        address = self.address + int(sum(int(i) * s for i, s in zip(at[0], mask_strides, strict=True)))
        return Fault(
            UNWRITTEN, f"reads {self.region.name} byte {address}, which was never written ({len(at)} such bytes)"
        )


class Region:
    """One address space of a core: `size` bytes, read-only if `image` is given."""

    def __init__(self, name: str, size: int, image: bytes | None = None) -> None:
        self.name = name
        self.size = size
        self.read_only = image is not None
        self.data: Array = np.zeros(size, np.uint8) if image is None else np.frombuffer(image, np.uint8)
        self.written: Array | None = None if image is not None else np.zeros(size, np.bool_)

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
        mask: Array | None = None
        if self.written is not None:
            c, s = collapse((*counts, dt.itemsize), (*strides, 1))
            mask = np.ndarray(c, np.bool_, self.written, address, s)
        return Window(self, address, data, mask, counts, strides)

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
        strides = [np.dtype(dtype).itemsize]
        for n in reversed(counts[1:]):
            strides.append(strides[-1] * n)
        return self.box(address, counts, tuple(reversed(strides)), dtype, write=write, align=align)

    def range(self, address: int, size: int) -> Array:
        """Written bytes [address, address + size), found while executing (threshold lists)."""
        if address < 0 or address + size > self.size:
            raise Fault(BAD_ADDRESS, f"touches {self.name} bytes [{address}, {address + size}) of {self.size}")
        if self.written is not None and not self.written[address : address + size].all():
            first = address + int(np.argmin(self.written[address : address + size]))
            raise Fault(UNWRITTEN, f"reads {self.name} byte {first}, which was never written")
        return self.data[address : address + size]


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
