"""What all operator families share: where tensors lie (View), instructions without tokens (Proto), tiles (Step).

A family turns a task (a box of a layer on an engine) into Steps. One step is one load group, the CX instructions
that it feeds and, where a result tile is finished, its stores. The scheduler adds tokens, stages and the bases of
the rings: addresses in WGT and TAB are relative to the step's block, all others are final.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod

from compiler.ir.graph import Graph, Node, Shape4, storage4
from compiler.isa.program import EngineSpec
from compiler.isa.table import Flag, Space
from compiler.plan.model import Box
from cost_models.primitives import contiguous_runs, dma_bus_bytes, dma_cycles

ALIGN_BYTES = 64
Tile = dict[str, int]


def align(value: int, to: int = ALIGN_BYTES) -> int:
    return -(-value // to) * to


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def whole_box(shape: Shape4) -> Box:
    return (0, shape[0], 0, shape[1], 0, shape[2], 0, shape[3])


def box_sizes(box: Sequence[int]) -> Shape4:
    return (box[1] - box[0], box[3] - box[2], box[5] - box[4], box[7] - box[6])


def box_elements(box: Sequence[int]) -> int:
    return prod(box_sizes(box))


def intersect(a: Sequence[int], b: Sequence[int]) -> Box | None:
    """The common box, or None where it is empty."""
    r = tuple(max(a[i], b[i]) if i % 2 == 0 else min(a[i], b[i]) for i in range(8))
    if any(r[i] >= r[i + 1] for i in range(0, 8, 2)):
        return None
    return r  # type: ignore[return-value]


def bounding(a: Sequence[int] | None, b: Sequence[int]) -> Box:
    """The least box that holds both."""
    if a is None:
        return tuple(b)  # type: ignore[return-value]
    return tuple(min(a[i], b[i]) if i % 2 == 0 else max(a[i], b[i]) for i in range(8))  # type: ignore[return-value]


def tensor_shape4(graph: Graph, name: str) -> Shape4:
    return storage4(graph.tensors[name].shape)


@dataclass(frozen=True, slots=True)
class View:
    """A tensor box in DRAM: dense in storage4 order from `address`; `tensor` names it in debug rows."""

    tensor: str
    space: Space
    address: int
    box: Box
    elem: int
    depth: int = 1
    frame_stride: int = 0

    @property
    def strides(self) -> Shape4:
        """Bytes between neighbours along each storage axis."""
        _, c, h, w = box_sizes(self.box)
        return (c * h * w * self.elem, h * w * self.elem, w * self.elem, self.elem)

    def at(self, n: int, c: int, h: int, w: int) -> int:
        """Byte address of an element given by its storage4 coordinates."""
        s, b = self.strides, self.box
        return self.address + (n - b[0]) * s[0] + (c - b[2]) * s[1] + (h - b[4]) * s[2] + (w - b[6]) * s[3]

    def dram(self) -> dict[str, int]:
        return {"depth": self.depth, "frame_stride": self.frame_stride}


@dataclass(slots=True)
class Proto:
    """An instruction without tokens. `ahead`: a load that needs no earlier result. `result`: writes the result slot."""

    op: str
    fields: dict[str, int]
    flags: int = 0
    cycles: int = 0
    bus_bytes: int = 0
    role: str = ""
    tensor: str = ""
    box: tuple[int, ...] = ()
    ahead: bool = False
    result: bool = False


@dataclass(slots=True)
class Step:
    """One load group with its computation; with stores it ends a packet. wgt, tab: ordinal of the ring block used."""

    loads: list[Proto] = field(default_factory=list)
    cx: list[Proto] = field(default_factory=list)
    stores: list[Proto] = field(default_factory=list)
    wgt: int = -1
    tab: int = -1


@dataclass(frozen=True, slots=True)
class TaskTimeline:
    """Durations of a task step by step, in cycles of its engine's clock, and the bytes its bank is busy for.

    `ld_cycles[i]` = ld_ahead[i] + ld_main[i], `cx_cycles[i]` = cx_head[i] + cx_tail[i] (see cost_models.pipeline).
    """

    ld_ahead: tuple[int, ...]
    ld_main: tuple[int, ...]
    cx_head: tuple[int, ...]
    cx_tail: tuple[int, ...]
    st: tuple[int, ...]
    ld_bus_bytes: tuple[int, ...]
    st_bus_bytes: tuple[int, ...]

    @property
    def ld_cycles(self) -> tuple[int, ...]:
        return tuple(a + b for a, b in zip(self.ld_ahead, self.ld_main, strict=True))

    @property
    def cx_cycles(self) -> tuple[int, ...]:
        return tuple(a + b for a, b in zip(self.cx_head, self.cx_tail, strict=True))

    @property
    def st_cycles(self) -> tuple[int, ...]:
        return self.st


def timeline_of(steps: Sequence[Step]) -> TaskTimeline:
    """The timeline that the instructions of these steps take."""
    ahead, main, head, tail, st, ldb, stb = [], [], [], [], [], [], []
    for s in steps:
        a = m = h = t = 0
        for p in s.loads:
            if p.ahead:
                a += p.cycles
            else:
                m += p.cycles
        after = False
        for p in s.cx:
            after = after or p.result
            if after:
                t += p.cycles
            else:
                h += p.cycles
        ahead.append(a)
        main.append(m)
        head.append(h)
        tail.append(t)
        st.append(sum(p.cycles for p in s.stores))
        ldb.append(sum(p.bus_bytes for p in s.loads))
        stb.append(sum(p.bus_bytes for p in s.stores))
    return TaskTimeline(tuple(ahead), tuple(main), tuple(head), tuple(tail), tuple(st), tuple(ldb), tuple(stb))


class Constants:
    """The CONST image of a core as it grows; a costing run uses one that only counts."""

    def __init__(self, keep: bool = True) -> None:
        self.keep = keep
        self.image = bytearray()
        self.symbols: dict[str, tuple[int, int]] = {}
        self._size = 0

    def add(self, name: str, size_bytes: int, make: Callable[[], bytes]) -> int:
        """Offset of a new region of `size_bytes`, aligned to 64; the same name gives the same region again."""
        known = self.symbols.get(name)
        if known is not None:
            return known[0]
        offset = align(self._size)
        self.symbols[name] = (offset, size_bytes)
        self._size = offset + size_bytes
        if self.keep:
            data = make()
            if len(data) != size_bytes:
                raise AssertionError(f"constant {name}: {len(data)} bytes made, {size_bytes} announced")
            self.image.extend(bytes(offset - len(self.image)))
            self.image.extend(data)
        return offset


@dataclass(slots=True)
class Task:
    """One slice of a layer on an engine, with everything its lowering needs."""

    graph: Graph
    node: Node
    name: str
    role: str
    box: Box
    reduce_from: int
    reduce_to: int
    engine: EngineSpec
    tile: Tile
    memory: str
    view: Callable[[str], View]
    constants: Constants
    partials: tuple[str, ...] = ()  # names of the int32 tensors that a reduce slice adds
    resident_addr: int = 0  # WGT address of its resident weights
    notes: dict[str, object] = field(default_factory=dict)  # folding metadata that the family adds


def dense_view(graph: Graph, name: str) -> View:
    """A whole tensor at address 0: what a cost is computed with."""
    t = graph.tensors.get(name)
    if t is None:
        return View(name, Space.WORK, 0, whole_box(storage4(graph.constants[name].shape)), 1)
    return View(name, Space.WORK, 0, whole_box(storage4(t.shape)), t.dtype.size_bytes)


def unsigned_flag(graph: Graph, name: str, flag: Flag) -> int:
    """`flag` if the 8-bit tensor (or constant) is unsigned, else 0."""
    t = graph.tensors.get(name)
    if t is not None:
        return int(flag) if t.dtype.value == "u8" else 0
    return int(flag) if graph.constants[name].dtype.kind == "u" else 0


def limits(graph: Graph, name: str) -> tuple[int, int]:
    """Least and greatest value of an 8-bit tensor."""
    return (0, 255) if unsigned_flag(graph, name, Flag.Y_UNSIGNED) else (-128, 127)


Dims = Sequence[tuple[int, int, int]]  # (count, DRAM stride, scratchpad stride), outermost first, in bytes


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
    return _dma_time(
        *counts, *strides, elem, engine.ld_bytes_per_cycle, engine.bank_bytes_per_second, engine.clock_khz
    )  # type: ignore[call-arg]


def store_time(engine: EngineSpec, counts: Sequence[int], strides: Sequence[int], elem: int) -> tuple[int, int]:
    return _dma_time(
        *counts, *strides, elem, engine.st_bytes_per_cycle, engine.bank_bytes_per_second, engine.clock_khz
    )  # type: ignore[call-arg]


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
    offset = task.constants.add(f"{task.name}/{name}", data_bytes, make)
    view = View("", Space.CONST, offset, (0, 1, 0, 1, 0, 1, 0, data_bytes), 1)
    (proto,) = load(
        task.engine, view, offset, space, scratch_addr, ((data_bytes, 1, 1),), role, ahead=True, flags=flags
    )
    return proto


def box_dims(sizes: Shape4, dram: Shape4, scratch: Shape4) -> Dims:
    return [(sizes[i], dram[i], scratch[i]) for i in range(4)]


def dense_strides(sizes: Shape4, elem: int = 1) -> Shape4:
    return (sizes[1] * sizes[2] * sizes[3] * elem, sizes[2] * sizes[3] * elem, sizes[3] * elem, elem)
