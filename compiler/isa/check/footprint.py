"""Needs a core's columns; lists every memory access of every instruction as a strided box of bytes; the checker's own
reading of docs/machine.md, shared with no other room.

Box k covers address + sum(index * stride) + [0, run) for index < counts, with up to four dimensions. MAC and VPOOL
touch their whole input tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.isa.check.view import CoreView
from compiler.isa.encoding import Group, Ints
from compiler.isa.table import POOL_AVERAGE, Flag, Space

DIMENSIONS = 4
_I32, _I64 = 4, 8


@dataclass(frozen=True, slots=True)
class Accesses:
    """Parallel arrays, one entry an access. `slots`, `slot_stride`: frame slots of WORK boxes, else 1 and 0."""

    instruction: Ints
    space: Ints
    write: Ints  # 0 or 1
    address: Ints
    counts: Ints  # (k, 4)
    strides: Ints  # (k, 4)
    run: Ints  # bytes
    slots: Ints
    slot_stride: Ints

    @property
    def low(self) -> Ints:
        """(k,) lowest byte of slot 0, relative to nothing."""
        below: Ints = np.minimum((self.counts - 1) * self.strides, 0).sum(axis=1)
        return self.address + below

    @property
    def high(self) -> Ints:
        """(k,) one past the highest byte over all slots."""
        reach: Ints = np.maximum((self.counts - 1) * self.strides, 0).sum(axis=1)
        end: Ints = self.address + reach + self.run + (self.slots - 1) * self.slot_stride
        return end

    def take(self, index: Ints) -> Accesses:
        names = ("instruction", "space", "write", "address", "counts", "strides", "run", "slots", "slot_stride")
        return Accesses(*(getattr(self, n)[index] for n in names))


class _Collector:
    def __init__(self) -> None:
        self.parts: list[tuple[Ints, ...]] = []

    def add(
        self,
        group: Group,
        space: Space | Ints,
        write: bool,
        address: Ints,
        dims: tuple[tuple[Ints, Ints], ...],
        run: Ints | int,
        *,
        slots: Ints | int = 1,
        slot_stride: Ints | int = 0,
        where: Ints | None = None,
    ) -> None:
        """`where`: rows of the group that have this access; None for all."""
        k = len(group.index)
        rows = np.arange(k) if where is None else where
        counts, strides = np.ones((k, DIMENSIONS), np.int64), np.zeros((k, DIMENSIONS), np.int64)
        for d, (count, stride) in enumerate(dims):
            counts[:, d], strides[:, d] = count, stride
        flat = (space, int(write), address, run, slots, slot_stride)
        s, w, a, r, n, ns = (np.broadcast_to(np.asarray(v, np.int64), (k,))[rows] for v in flat)
        self.parts.append((group.index[rows], s, w, a, counts[rows], strides[rows], r, n, ns))

    def dense(
        self, group: Group, space: Space, write: bool, address: Ints, size: Ints, where: Ints | None = None
    ) -> None:
        self.add(group, space, write, address, (), size, where=where)

    def result(self) -> Accesses:
        if not self.parts:
            e, e2 = np.zeros(0, np.int64), np.zeros((0, DIMENSIONS), np.int64)
            return Accesses(e, e, e, e, e2, e2, e, e, e)
        return Accesses(*(np.concatenate([p[i] for p in self.parts]) for i in range(9)))


def _dram_box(c: _Collector, g: Group, space: Space | Ints, write: bool) -> None:
    f = g.fields
    real = np.flatnonzero((f["n2"] > 0) & (f["n1"] > 0) & (f["n0"] > 0))
    dims = ((f["n2"], f["dram_s2"]), (f["n1"], f["dram_s1"]), (f["n0"], f["dram_s0"]))
    c.add(g, space, write, f["dram_addr"], dims, f["elem"], slots=np.maximum(f["depth"], 1),
          slot_stride=f["frame_stride"], where=real)  # fmt: skip


def _message(c: _Collector, g: Group, write: bool) -> None:
    """The near end of a message: a box of WORK, or a run of WGT or ACT."""
    f = g.fields
    dims = ((f["n2"], f["dram_s2"]), (f["n1"], f["dram_s1"]), (f["n0"], f["dram_s0"]))
    real = (f["n2"] > 0) & (f["n1"] > 0) & (f["n0"] > 0)
    c.add(g, Space.WORK, write, f["dram_addr"], dims, f["elem"], slots=np.maximum(f["depth"], 1),
          slot_stride=f["frame_stride"], where=np.flatnonzero(real & (f["wgt"] == 0) & (f["act"] == 0)))  # fmt: skip
    for space, name in ((Space.WGT, "wgt"), (Space.ACT, "act")):
        c.dense(g, space, write, f["part_addr"], f["n0"], np.flatnonzero(real & (f[name] == 1)))


def _transfers(c: _Collector, view: CoreView) -> None:
    if g := view.group("LD"):
        f = g.fields
        _dram_box(c, g, f["dram_space"], False)
        rows, columns = f["n1"] + f["pad_top"] + f["pad_bottom"], f["n0"] + f["pad_left"] + f["pad_right"]
        dims = ((f["n2"], f["scratch_s2"]), (rows, f["scratch_s1"]))
        c.add(g, f["scratch_space"], True, f["scratch_addr"], dims, columns * f["elem"])
    if g := view.group("ST"):
        f = g.fields
        _dram_box(c, g, Space.WORK, True)
        dims = ((f["n2"], f["scratch_s2"]), (f["n1"], f["scratch_s1"]))
        c.add(g, f["scratch_space"], False, f["scratch_addr"], dims, f["n0"] * f["elem"])
    if g := view.group("TX"):
        _message(c, g, False)
    if g := view.group("RX"):
        _message(c, g, True)
    if g := view.group("CRC"):
        c.dense(g, Space.CONST, False, g.fields["dram_addr"], g.fields["bytes"])


def _accumulating(c: _Collector, view: CoreView, g: Group, address: Ints, words: Ints, biases: Ints) -> None:
    """The accumulator and bias accesses of MAC and VSUM."""
    flags = view.head("flags")[g.index]
    c.dense(g, Space.ACC, True, address, words * _I32)
    c.dense(g, Space.ACC, False, address, words * _I32, np.flatnonzero((flags & Flag.INIT) == 0))
    c.dense(g, Space.TAB, False, g.fields["tab_addr"], biases * _I32, np.flatnonzero((flags & Flag.BIAS) != 0))


def _compute(c: _Collector, view: CoreView) -> None:
    if g := view.group("MAC"):
        f = g.fields
        c.dense(g, Space.ACT, False, f["act_addr"], f["groups"] * f["n"] * f["in_h"] * f["in_w"])
        c.dense(g, Space.WGT, False, f["wgt_addr"], f["m"] * f["n"] * f["kh"] * f["kw"])
        _accumulating(c, view, g, f["acc_addr"], f["m"] * f["oh"] * f["ow"], f["m"])
    if g := view.group("VSUM"):
        f = g.fields
        c.dense(g, Space.ACT, False, f["src_addr"], f["c"] * f["count"])
        _accumulating(c, view, g, f["acc_addr"], f["c"], f["c"])
    if g := view.group("VREQ"):
        f = g.fields
        c.dense(g, Space.ACC, False, f["acc_addr"], f["m"] * f["count"] * _I32)
        c.dense(g, Space.ACT, True, f["dst_addr"], f["m"] * f["count"])
        c.dense(g, Space.TAB, False, f["tab_addr"], f["m"] * 16)
    if g := view.group("VACC"):
        f = g.fields
        c.dense(g, Space.ACC, False, f["dst_addr"], f["count"] * _I32)
        c.dense(g, Space.ACC, False, f["src_addr"], f["count"] * _I32)
        c.dense(g, Space.ACC, True, f["dst_addr"], f["count"] * _I32)


def _moving(c: _Collector, view: CoreView) -> None:
    one = 1
    if g := view.group("VBIN"):
        f = g.fields
        for side in ("a", "b"):
            dims = tuple((f[f"n{d}"], f[f"{side}_s{d}"]) for d in (2, 1, 0))
            c.add(g, Space.ACT, False, f[f"{side}_addr"], dims, one)
        c.dense(g, Space.ACT, True, f["dst_addr"], f["n2"] * f["n1"] * f["n0"])
        c.dense(g, Space.TAB, False, f["tab_addr"], np.full(len(g.index), 32))
    if g := view.group("VPOOL"):
        f = g.fields
        c.dense(g, Space.ACT, False, f["src_addr"], f["c"] * f["in_h"] * f["in_w"])
        c.dense(g, Space.ACT, True, f["dst_addr"], f["c"] * f["oh"] * f["ow"])
        average = np.flatnonzero(f["kind"] == POOL_AVERAGE)
        c.dense(g, Space.TAB, False, f["tab_addr"], np.full(len(g.index), 16), average)
    if g := view.group("VCOPY"):
        f = g.fields
        for side, write in (("src", False), ("dst", True)):
            dims = tuple((f[f"n{d}"], f[f"{side}_s{d}"]) for d in (3, 2, 1, 0))
            c.add(g, Space.ACT, write, f[f"{side}_addr"], dims, one)
        tables = np.where(f["table_stride"] > 0, f["n3"], 1)
        mapped = np.flatnonzero((view.head("flags")[g.index] & Flag.TABLE) != 0)
        c.dense(g, Space.TAB, False, f["tab_addr"], tables * 256, mapped)
    if g := view.group("VFILL"):
        c.dense(g, Space.ACT, True, g.fields["dst_addr"], g.fields["count"])
    if g := view.group("VARG"):
        f = g.fields
        c.dense(g, Space.ACT, False, f["src_addr"], f["outer"] * f["axis"] * f["inner"])
        c.dense(g, Space.ACT, True, f["dst_addr"], f["outer"] * f["inner"] * _I64)


def accesses_of(view: CoreView) -> Accesses:
    """Every access of the core's instructions, reads before writes of one instruction, sorted by instruction."""
    c = _Collector()
    _transfers(c, view)
    _compute(c, view)
    _moving(c, view)
    everything = c.result()
    return everything.take(np.lexsort((everything.write, everything.instruction)))
