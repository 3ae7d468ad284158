"""Loads and stores: strided boxes as LD and ST instructions of three dimensions, with their durations.

Dims list (count, DRAM stride, scratchpad stride) in bytes, outermost first; neighbours that lie end to end on both
sides are fused, what remains beyond three dimensions becomes several instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from compiler.ir.graph import Shape4
from compiler.isa.program import EngineSpec
from compiler.isa.table import Space
from compiler.ops.base import Proto, Task, View
from cost_models.primitives import contiguous_runs, dma_bus_bytes, dma_cycles

Dims = Sequence[tuple[int, int, int]]


def merge_dims(dims: Dims, elem: int) -> list[tuple[int, int, int]]:
    """The same elements in the same order with fewer dimensions; the innermost is dense in the scratchpad."""
    out: list[tuple[int, int, int]] = []
    for count, dram, scratch in dims:
        if count == 1:
            continue
        if out and out[-1][1] == dram * count and out[-1][2] == scratch * count:
            out[-1] = (out[-1][0] * count, dram, scratch)
        else:
            out.append((count, dram, scratch))
    if not out or out[-1][2] != elem:
        out.append((1, elem, elem))
    return out


@lru_cache(maxsize=65536)
def _dma_time(
    n2: int, n1: int, n0: int, s2: int, s1: int, s0: int, elem: int, port: int, bank: int, clock: int
) -> tuple[int, int]:
    runs, run = contiguous_runs(n2, n1, n0, s2, s1, s0, elem)
    return dma_cycles(runs, run, port, bank, clock), dma_bus_bytes(runs, run)


def load_time(engine: EngineSpec, counts: Sequence[int], strides: Sequence[int], elem: int) -> tuple[int, int]:
    """(cycles, bank bytes) of one LD with counts (n2, n1, n0) and DRAM strides in bytes."""
    return _dma_time(*counts, *strides, elem, engine.ld_bytes_per_cycle, engine.bank_bytes_per_second, engine.clock_khz)


def store_time(engine: EngineSpec, counts: Sequence[int], strides: Sequence[int], elem: int) -> tuple[int, int]:
    return _dma_time(*counts, *strides, elem, engine.st_bytes_per_cycle, engine.bank_bytes_per_second, engine.clock_khz)


Timer = Callable[[EngineSpec, Sequence[int], Sequence[int], int], tuple[int, int]]


def box_time(timer: Timer, engine: EngineSpec, sizes: Shape4, strides: Shape4) -> tuple[int, int]:
    """(cycles, bank bytes) of an 8-bit tile: whole images are one run, else three dimensions of one image."""
    if sizes[0] > 1:
        return timer(engine, (1, 1, sizes[0] * sizes[1] * sizes[2] * sizes[3]), (0, 0, 1), 1)
    return timer(engine, sizes[1:], strides[1:], 1)


def _boxes(dims: Dims, elem: int) -> list[tuple[int, int, tuple[int, int, int], tuple[int, int, int], int, int]]:
    """Splits merged dims into <= 3-D boxes: (DRAM offset, scratch offset, counts, DRAM strides, scratch s2, s1)."""
    merged = merge_dims(dims, elem)
    inner = merged[-3:]
    while len(inner) < 3:
        inner.insert(0, (1, 0, 0))
    counts = (inner[0][0], inner[1][0], inner[2][0])
    drams = (inner[0][1], inner[1][1], inner[2][1])
    offsets = [(0, 0)]
    for count, dram, scratch in merged[:-3]:
        offsets = [(d + i * dram, s + i * scratch) for d, s in offsets for i in range(count)]
    return [(d, s, counts, drams, inner[0][2], inner[1][2]) for d, s in offsets]


def load(
    engine: EngineSpec,
    view: View,
    dram_addr: int,
    space: Space,
    scratch_addr: int,
    dims: Dims,
    role: str,
    *,
    ahead: bool = False,
    flags: int = 0,
    box: tuple[int, ...] = (),
) -> list[Proto]:
    """LDs that copy the elements of `dims` without padding (several where more than three dimensions remain)."""
    out = []
    for d, s, counts, drams, s2, s1 in _boxes(dims, view.elem):
        cycles, bus = load_time(engine, counts, drams, view.elem)
        fields = {
            "dram_space": int(view.space),
            "scratch_space": int(space),
            "elem": view.elem,
            "dram_addr": dram_addr + d,
            "n2": counts[0],
            "n1": counts[1],
            "n0": counts[2],
            "dram_s2": drams[0],
            "dram_s1": drams[1],
            "dram_s0": drams[2],
            "scratch_addr": scratch_addr + s,
            "scratch_s2": s2,
            "scratch_s1": s1,
            "depth": view.depth,
            "frame_stride": view.frame_stride,
        }
        out.append(Proto("LD", fields, flags, cycles, bus, role, view.tensor, box, ahead))
    return out


def padded_load(
    engine: EngineSpec, view: View, dram_addr: int, scratch_addr: int, dims: list[tuple[int, int, int]],
    pads: tuple[int, int, int, int], fill: int,
) -> Proto:  # fmt: skip
    """One LD of a 3-D box into a padded tile; pads are top, bottom, left, right. The tile's strides are in `dims`."""
    counts, strides = tuple(d[0] for d in dims), tuple(d[1] for d in dims)
    cycles, bus = load_time(engine, counts, strides, view.elem)
    fields = {
        "dram_space": int(view.space),
        "scratch_space": int(Space.ACT),
        "elem": view.elem,
        "fill": fill,
        "pad_top": pads[0],
        "dram_addr": dram_addr,
        "n2": counts[0],
        "n1": counts[1],
        "n0": counts[2],
        "dram_s2": strides[0],
        "dram_s1": strides[1],
        "dram_s0": strides[2],
        "scratch_addr": scratch_addr,
        "scratch_s2": dims[0][2],
        "scratch_s1": dims[1][2],
        "pad_left": pads[2],
        "pad_bottom": pads[1],
        "pad_right": pads[3],
        "depth": view.depth,
        "frame_stride": view.frame_stride,
    }
    return Proto("LD", fields, 0, cycles, bus, "input", view.tensor)


def store(
    engine: EngineSpec,
    view: View,
    dram_addr: int,
    space: Space,
    scratch_addr: int,
    dims: Dims,
    box: tuple[int, ...],
    role: str = "output",
) -> list[Proto]:
    """STs that copy the elements of `dims` to DRAM; `box` goes to the first one only if it is the only one."""
    out = []
    boxes = _boxes(dims, view.elem)
    for d, s, counts, drams, s2, s1 in boxes:
        cycles, bus = store_time(engine, counts, drams, view.elem)
        fields = {
            "scratch_space": int(space),
            "elem": view.elem,
            "dram_addr": dram_addr + d,
            "n2": counts[0],
            "n1": counts[1],
            "n0": counts[2],
            "dram_s2": drams[0],
            "dram_s1": drams[1],
            "dram_s0": drams[2],
            "scratch_addr": scratch_addr + s,
            "scratch_s2": s2,
            "scratch_s1": s1,
            "depth": view.depth,
            "frame_stride": view.frame_stride,
        }
        out.append(Proto("ST", fields, 0, cycles, bus, role, view.tensor, box if len(boxes) == 1 else ()))
    return out


def load_const(
    task: Task, name: str, data_bytes: int, make: Callable[[], bytes], space: Space, scratch_addr: int, role: str,
    flags: int = 0,
) -> Proto:  # fmt: skip
    """One LD of a constant region as a single burst run; it needs no earlier result."""
    offset = task.constants.add(f"{task.name}/{name}", data_bytes, make, f"{task.name}/{role}")
    view = View("", Space.CONST, offset, (0, 1, 0, 1, 0, 1, 0, data_bytes), 1)
    (proto,) = load(
        task.engine, view, offset, space, scratch_addr, ((data_bytes, 1, 1),), role, ahead=True, flags=flags
    )
    return proto


def box_dims(sizes: Shape4, dram: Shape4, scratch: Shape4) -> Dims:
    return [(sizes[i], dram[i], scratch[i]) for i in range(4)]
