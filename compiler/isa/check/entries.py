"""Needs a core's accesses and order; follows constants from CONST into TAB and judges the entries that are read there.

CONST never changes, so what a table load brings is known: requantiser, binary and pooling entries and thresholds are
judged byte by byte. Threshold lists are found only so; they come back as further reads of TAB.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from compiler.isa.check.findings import Findings
from compiler.isa.check.footprint import DIMENSIONS, Accesses
from compiler.isa.check.tokens import LocalOrder
from compiler.isa.check.view import CoreView
from compiler.isa.encoding import Ints
from compiler.isa.program import Instruction
from compiler.isa.table import (
    KIND_ADD,
    MODE_FIXED,
    MODE_FP32,
    MODE_THRESHOLD,
    POOL_AVERAGE,
    VREQ_ENTRY_BYTES,
    Flag,
    Space,
)

Bytes = NDArray[np.uint8]
_VREQ = np.dtype([("word", "<i4"), ("shift", "u1"), ("mode", "u1"), ("steps", "<u2"), ("add", "<i8")])
_VBIN = struct.Struct("<BBhhh4s4s8s8s")
_VPOOL = struct.Struct("<ffhhI")


class Tab:
    """TAB as far as constants fill it: bytes, and which of them are known."""

    def __init__(self, size: int) -> None:
        self.data: Bytes = np.zeros(size, np.uint8)
        self.known: NDArray[np.bool_] = np.zeros(size, np.bool_)

    def load(self, constants: Bytes, i: Instruction) -> None:
        """A LD into TAB; one from WORK makes its bytes unknown."""
        f = i.fields
        rows = np.add.outer(np.arange(f["n2"]) * f["scratch_s2"], np.arange(f["n1"]) * f["scratch_s1"])
        inner = np.arange(f["n0"] * f["elem"])
        target = (f["scratch_addr"] + rows[..., None] + inner).reshape(-1)
        if f["dram_space"] != Space.CONST or f["pad_top"] or f["pad_left"] or f["pad_bottom"] or f["pad_right"]:
            self.known[target] = False
            return
        outer = np.add.outer(np.arange(f["n2"]) * f["dram_s2"], np.arange(f["n1"]) * f["dram_s1"])
        columns = np.add.outer(np.arange(f["n0"]) * f["dram_s0"], np.arange(f["elem"])).reshape(-1)
        source = (f["dram_addr"] + outer[..., None] + columns).reshape(-1)
        self.data[target] = constants[source]
        self.known[target] = True

    def read(self, address: int, size: int) -> bytes | None:
        if not self.known[address : address + size].all():
            return None
        return self.data[address : address + size].tobytes()


def _finite(*values: float) -> bool:
    return bool(np.isfinite(values).all())


def judge_vreq(raw: bytes, zero_point: int, tab_bytes: int, address: int) -> tuple[str | None, list[tuple[int, int]]]:
    """What is wrong with m entries, or None; and the (offset from tab_addr, bytes) of each threshold list."""
    e = np.frombuffer(raw, _VREQ)
    mode, shift, steps, add = e["mode"], e["shift"], e["steps"].astype(np.int64), e["add"]
    fixed, threshold, fp32 = mode == MODE_FIXED, mode == MODE_THRESHOLD, mode == MODE_FP32
    scale = e["word"].copy().view(np.float32)
    if (mode > MODE_FP32).any():
        return f"requantiser mode {int(mode.max())}", []
    if (shift > 63).any() or ((shift != 0) & ~fixed).any() or ((steps != 0) & ~threshold).any():
        return "a requantiser entry has a shift above 63 or a field that its mode does not use", []
    if (fp32 & (add != 0)).any() or not np.isfinite(scale[fp32]).all() or (scale[fp32] < 0).any():
        return "a float32 requantiser entry has an offset, or a scale that is negative or not finite", []
    if zero_point and not fp32.any():
        return "zero_point must be 0 where no entry is float32", []
    # 64-bit arithmetic of the fixed form: |acc * M| <= 2^62, so the offset has the rest.
    if (fixed & (np.abs(add.astype(np.float64)) > float(1 << 62))).any():
        return "a fixed-point offset may overflow 64 bits", []
    lists = [(int(add[k]), 4 * int(steps[k])) for k in np.flatnonzero(threshold & (steps > 0))]
    unused = threshold & (steps == 0) & (add != 0)
    if unused.any():
        return "a threshold entry without steps has an offset", []
    for offset, size in lists:
        if offset % 4 or address + offset < 0 or address + offset + size > tab_bytes:
            return f"thresholds at TAB byte {address + offset} lie outside TAB or not at a multiple of 4", []
    return None, lists


def judge_vbin(raw: bytes, kind: int) -> str | None:
    """What is wrong with the 32-byte entry of this kind of VBIN, or None."""
    mode, shift, a_zero, b_zero, y_zero, word_a, word_b, last, rest = _VBIN.unpack(raw)
    if mode not in (MODE_FIXED, MODE_FP32):
        return f"entry of mode {mode}"
    if any(rest):
        return "reserved bytes of the entry are not zero"
    add, fixed = kind == KIND_ADD, mode == MODE_FIXED
    # An addition has its zero points in the constant, a multiplication one factor; fixed forms have zy in it too.
    if (add and (a_zero or b_zero)) or ((add or fixed) and y_zero) or (not add and any(word_b)):
        return "a field that kind and mode do not use is not 0"
    if not add and not fixed and any(last):
        return "a field that kind and mode do not use is not 0"
    if fixed:
        return "entry shift above 63" if shift > 63 else None
    if shift:
        return "a float32 entry has a shift"
    if any(last[4:]) or not _finite(*struct.unpack("<fff", word_a + word_b + last[:4])):
        return "a float32 entry has a constant that is not finite, or bytes after it"
    return None


def judge_vpool(raw: bytes) -> str | None:
    xs, ys, _, _, zero = _VPOOL.unpack(raw)
    if zero:
        return "reserved bytes of the entry are not zero"
    return None if _finite(xs, ys) and xs > 0 and ys > 0 else "scales must be finite and positive"


def _uncounted(i: Instruction) -> bool:
    """Whether some window of an average has no tap inside the count region."""
    f = i.fields
    for o, s, k, d, low, high in (
        ("oh", "sh", "kh", "dh", "count_top", "count_bottom"),
        ("ow", "sw", "kw", "dw", "count_left", "count_right"),
    ):
        taps = np.add.outer(np.arange(f[o]) * f[s], np.arange(f[k]) * f[d])
        if not ((taps >= f[low]) & (taps < f[high])).any(axis=1).all():
            return True
    return False


def check_entries(view: CoreView, order: LocalOrder, accesses: Accesses, findings: Findings) -> Accesses:
    """Judges every entry read from TAB (FVC329); returns the accesses with those of the threshold lists added."""
    rank = np.empty(view.count, np.int64)
    rank[order.order] = np.arange(view.count)
    touching = np.unique(accesses.instruction[accesses.space == Space.TAB])
    tab = Tab(view.size_of(Space.TAB))
    constants = np.frombuffer(view.core.constants, np.uint8)
    sequence = touching[np.argsort(rank[touching], kind="stable")].tolist()
    for k in sequence:
        if view.stream[k].op == "LD" and view.stream[k].flags & Flag.ONCE:
            tab.load(constants, view.stream[k])
    extra: list[tuple[int, int, int]] = []
    verdicts: dict[tuple[object, ...], tuple[str | None, list[tuple[int, int]]]] = {}
    for k in sequence:
        i = view.stream[k]
        f = i.fields
        if i.op == "LD":
            if not i.flags & Flag.ONCE:
                tab.load(constants, i)
            continue
        wrong: str | None = None
        if i.op == "VREQ" and (raw := tab.read(f["tab_addr"], VREQ_ENTRY_BYTES * f["m"])) is not None:
            key = (raw, f["zero_point"], f["tab_addr"])
            if key not in verdicts:
                verdicts[key] = judge_vreq(raw, f["zero_point"], len(tab.data), f["tab_addr"])
            wrong, lists = verdicts[key]
            for offset, size in lists:
                extra.append((k, f["tab_addr"] + offset, size))
                steps = tab.read(f["tab_addr"] + offset, size)
                if steps is not None and (np.diff(np.frombuffer(steps, "<i4").astype(np.int64)) < 0).any():
                    wrong = "thresholds do not ascend"
        elif i.op == "VBIN" and (raw := tab.read(f["tab_addr"], 32)) is not None:
            wrong = judge_vbin(raw, f["kind"])
        elif i.op == "VPOOL" and f["kind"] == POOL_AVERAGE:
            raw = tab.read(f["tab_addr"], 16)
            wrong = judge_vpool(raw) if raw is not None else None
            if wrong is None and _uncounted(i):
                wrong = "an average divides by zero taps"
        if wrong:
            findings.add("FVC329", f"{i.op}: {wrong}", *view.where(k))
    return _with_reads(accesses, extra)


def _with_reads(accesses: Accesses, extra: list[tuple[int, int, int]]) -> Accesses:
    """The accesses and further dense reads of TAB: (instruction, address, bytes)."""
    if not extra:
        return accesses
    rows = np.array(extra, np.int64)
    n = len(rows)

    def join(old: Ints, new: Ints) -> Ints:
        return np.concatenate([old, new])

    return Accesses(
        join(accesses.instruction, rows[:, 0]),
        join(accesses.space, np.full(n, Space.TAB)),
        join(accesses.write, np.zeros(n, np.int64)),
        join(accesses.address, rows[:, 1]),
        join(accesses.counts, np.ones((n, DIMENSIONS), np.int64)),
        join(accesses.strides, np.zeros((n, DIMENSIONS), np.int64)),
        join(accesses.run, rows[:, 2]),
        join(accesses.slots, np.ones(n, np.int64)),
        join(accesses.slot_stride, np.zeros(n, np.int64)),
    )
