"""What all operator families share: where tensors lie (View), instructions without tokens (Proto), tiles (Step).

A family turns a task (a box of a layer on an engine) into Steps. One step is one load group, the CX instructions
that it feeds and, where a result tile is finished, its stores. The scheduler adds tokens, stages and the bases of
the rings: addresses in WGT and TAB are relative to the step's block, all others are final.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compiler.ir.graph import Graph, Node, Shape4, storage4
from compiler.isa.program import EngineSpec
from compiler.isa.table import Flag, Space
from compiler.ops.boxes import align, box_sizes, whole_box
from compiler.plan.model import Box

Tile = dict[str, int]
COUNT_LIMIT = 0xFFFF  # channels, rows, columns and taps of a tile stand in instruction fields of 16 bits


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
    """One load group with its computation; with stores it ends a packet. wgt, tab: ordinal of the ring block used;
    act, act_base: where the task shares its input, the ordinal of the input block used, and its place in ACT."""

    loads: list[Proto] = field(default_factory=list)
    cx: list[Proto] = field(default_factory=list)
    stores: list[Proto] = field(default_factory=list)
    wgt: int = -1
    tab: int = -1
    act: int = -1
    act_base: int = 0


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
        self._known: dict[str, int] = {}
        self._numbers: Counter[str] = Counter()
        self._size = 0

    def add(self, key: str, size_bytes: int, make: Callable[[], bytes], label: str = "") -> int:
        """Offset of a new region of `size_bytes`, aligned to 64; the same key gives the same region again.

        Its symbol is the key, or `label` with the number of regions that had the label before."""
        known = self._known.get(key)
        if known is not None:
            return known
        offset = self._known[key] = align(self._size)
        name = f"{label}{self._numbers[label]}" if label else key
        self._numbers[label] += 1
        self.symbols[name] = (offset, size_bytes)
        self._size = offset + size_bytes
        if self.keep:
            data = make()
            if len(data) != size_bytes:
                raise AssertionError(f"constant {key}: {len(data)} bytes made, {size_bytes} announced")
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

    @property
    def pricing(self) -> bool:
        """Only durations are wanted: nothing need be proved or packed."""
        return not self.constants.keep


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
