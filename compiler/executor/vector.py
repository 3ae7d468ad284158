"""The vector instructions: VREQ, VBIN, VACC, VPOOL, VSUM, VCOPY, VFILL, VARG, exactly as docs/machine.md writes them.

Each `build_*` checks what does not depend on data and returns the closure that executes the instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.exact import binary_table, to_bytes
from compiler.executor.faults import ILLEGAL, Fault
from compiler.executor.mac import window_fits
from compiler.executor.makers import Pairs, Requantisers, Tables
from compiler.executor.memory import Action, Memory, dense_strides, fields_of
from compiler.isa.program import Instruction
from compiler.isa.table import (
    KIND_ADD,
    KIND_MUL,
    MODE_FIXED,
    MODE_FP32,
    MODE_THRESHOLD,
    POOL_AVERAGE,
    POOL_MAX,
    VBIN_ENTRY_BYTES,
    Flag,
    Space,
)

I32 = np.dtype("<i4")
VREQ_ENTRY = np.dtype([("scale", "<i4"), ("shift", "u1"), ("mode", "u1"), ("steps", "<u2"), ("add", "<i8")])
VPOOL_ENTRY = np.dtype([("xs", "<f4"), ("ys", "<f4"), ("zx", "<i2"), ("zy", "<i2"), ("zero", "S4")])
AccHook = Callable[[int, NDArray[np.int32]], None]


def _type_range(unsigned: bool) -> tuple[int, int]:
    return (0, 255) if unsigned else (-128, 127)


def _clamp_range(ins: Instruction, f: dict[str, int]) -> tuple[int, int]:
    """lo and hi; Fault unless they are a range of the result type."""
    low, high = _type_range(bool(ins.flags & Flag.Y_UNSIGNED))
    if not low <= f["lo"] <= f["hi"] <= high:
        raise Fault(ILLEGAL, f"clamps to [{f['lo']}, {f['hi']}], no range within [{low}, {high}]")
    return f["lo"], f["hi"]


def build_vreq(memory: Memory, ins: Instruction, hook: AccHook | None = None) -> Action:
    """Requantisation of [m][count] int32 to bytes; `hook(frame, acc)` sees the accumulators before it."""
    f = fields_of(ins)
    m, count = f["m"], f["count"]
    lo, hi = _clamp_range(ins, f)
    acc = memory[Space.ACC].dense(f["acc_addr"], (m, count), I32, align=4)
    dst = memory[Space.ACT].dense(f["dst_addr"], (m, count), write=True)
    tab = memory[Space.TAB].dense(f["tab_addr"], (m,), VREQ_ENTRY, align=4)
    zero_point = f["zero_point"]
    sums, makers = memory[Space.ACT].sums(f["dst_addr"], (m, count), (count, 1)), memory[Space.ACT].makers
    known: list[tuple[bytes, int]] = []  # the entries of the first frame and the number of the first row

    def steps_of(entry: Any, frame: int) -> NDArray[np.int32]:
        """The thresholds of an entry."""
        part = memory[Space.TAB].range(f["tab_addr"] + int(entry["add"]), 4 * int(entry["steps"]), frame)
        return np.frombuffer(part.tobytes(), I32)

    def remember(a: NDArray[Any], e: NDArray[Any], frame: int) -> None:
        """Marks the result with its accumulators and functions. Entries that change from frame to frame are no
        function of a channel: their results count as made by nobody."""
        assert sums is not None and makers is not None
        lists = {int(k): steps_of(e[k], frame) for k in np.flatnonzero(e["mode"] == MODE_THRESHOLD)}
        content = e.tobytes() + b"".join(s.tobytes() for s in lists.values())
        if not known:
            known.append((content, makers.add(Requantisers(e.copy(), lists, lo, hi, zero_point))))
        if content == known[0][0]:
            sums.put(a, known[0][1] + np.arange(m, dtype=np.int32)[:, None])

    def fixed(a: NDArray[Any], e: NDArray[Any], frame: int) -> NDArray[np.uint8]:
        if (e["shift"] > 63).any():
            raise Fault(ILLEGAL, f"has a requantiser shift of {int(e['shift'].max())}")
        v = a.astype(np.int64)
        v *= e["scale"].astype(np.int64)[:, None]
        v += e["add"][:, None]
        v >>= e["shift"].astype(np.int64)[:, None]
        return np.clip(v, lo, hi, out=v).astype(np.uint8)

    def real(a: NDArray[Any], e: NDArray[Any], frame: int) -> NDArray[np.uint8]:
        scale = np.ascontiguousarray(e["scale"]).view(np.float32)
        if not np.isfinite(scale).all():
            raise Fault(ILLEGAL, "has a float requantiser scale that is not finite")
        v = a.astype(np.float32)
        with np.errstate(over="ignore"):
            v *= scale[:, None]
        np.rint(v, out=v)
        # The clamp stands before the zero point, so that the sum is exact at every magnitude.
        np.clip(v, lo - zero_point, hi - zero_point, out=v)
        v += zero_point
        return v.astype(np.int16).astype(np.uint8)

    def threshold(a: NDArray[Any], e: NDArray[Any], frame: int) -> NDArray[np.uint8]:
        out = np.empty(a.shape, np.uint8)
        for i, entry in enumerate(e):
            steps = steps_of(entry, frame)
            if (steps[1:] < steps[:-1]).any():
                raise Fault(ILLEGAL, f"has thresholds of channel {i} that do not ascend")
            out[i] = to_bytes(int(entry["scale"]) + np.searchsorted(steps, a[i], side="right"), lo, hi)
        return out

    kernels = {MODE_FIXED: fixed, MODE_THRESHOLD: threshold, MODE_FP32: real}

    def run(frame: int) -> None:
        a, e = acc.read(frame), tab.read(frame)
        if hook is not None:
            hook(frame, a)
        modes = np.unique(e["mode"])
        if modes[-1] > MODE_FP32:
            raise Fault(ILLEGAL, f"has requantiser mode {modes[-1]}")
        if len(modes) == 1:
            dst.write(kernels[int(modes[0])](a, e, frame), frame)
        else:
            out = np.empty(a.shape, np.uint8)
            for mode in modes:
                rows = np.flatnonzero(e["mode"] == mode)
                out[rows] = kernels[int(mode)](a[rows], e[rows], frame)
            dst.write(out, frame)
        if sums is not None:
            remember(a, e, frame)

    return run


def build_vbin(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    if f["kind"] not in (KIND_ADD, KIND_MUL):
        raise Fault(ILLEGAL, f"has kind {f['kind']}")
    lo, hi = _clamp_range(ins, f)
    counts = (f["n2"], f["n1"], f["n0"])
    a = memory[Space.ACT].box(f["a_addr"], counts, (f["a_s2"], f["a_s1"], f["a_s0"]))
    b = memory[Space.ACT].box(f["b_addr"], counts, (f["b_s2"], f["b_s1"], f["b_s0"]))
    dst = memory[Space.ACT].dense(f["dst_addr"], counts, write=True)
    tab = memory[Space.TAB].dense(f["tab_addr"], (VBIN_ENTRY_BYTES,), align=4)
    signs = bool(ins.flags & Flag.X_UNSIGNED), bool(ins.flags & Flag.W_UNSIGNED)
    sums, makers = memory[Space.ACT].sums(f["dst_addr"], counts, dense_strides(counts)), memory[Space.ACT].makers
    known: list[tuple[NDArray[np.uint8], int]] = []  # the table of the first frame and its number

    def run(frame: int) -> None:
        table = binary_table(f["kind"], tab.read(frame).tobytes(), *signs, lo, hi)
        index = a.read(frame).astype(np.uint16)
        index <<= 8
        index |= b.read(frame)
        dst.write(table[index], frame)
        if sums is not None and makers is not None:
            if not known:
                known.append((table, makers.add(Pairs(table))))
            if table is known[0][0] or np.array_equal(table, known[0][0]):
                sums.put(0, known[0][1])

    return run


def build_vacc(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    dst = memory[Space.ACC].dense(f["dst_addr"], (f["count"],), I32, write=True, align=4)
    src = memory[Space.ACC].dense(f["src_addr"], (f["count"],), I32, align=4)

    def run(frame: int) -> None:
        dst.write(dst.read(frame) + src.read(frame), frame)

    return run


def build_vpool(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    window_fits(f)
    lo, hi = _clamp_range(ins, f)
    c, oh, ow, sh, sw = f["c"], f["oh"], f["ow"], f["sh"], f["sw"]
    unsigned = bool(ins.flags & Flag.X_UNSIGNED)
    src = memory[Space.ACT].dense(f["src_addr"], (c, f["in_h"], f["in_w"]))
    dst = memory[Space.ACT].dense(f["dst_addr"], (c, oh, ow), write=True)
    taps = [(i * f["dh"], j * f["dw"]) for i in range(f["kh"]) for j in range(f["kw"])]

    def slices(tile: NDArray[Any]) -> list[NDArray[Any]]:
        rows, cols = (oh - 1) * sh + 1, (ow - 1) * sw + 1
        return [tile[..., y : y + rows : sh, x : x + cols : sw] for y, x in taps]

    def run_max(frame: int) -> None:
        tile = src.read(frame).view(np.uint8 if unsigned else np.int8)
        best: NDArray[Any] | None = None
        for part in slices(tile):
            best = part.copy() if best is None else np.maximum(best, part, out=best)
        assert best is not None
        dst.write(np.clip(best, lo, hi).view(np.uint8), frame)

    if f["kind"] == POOL_MAX:
        return run_max
    if f["kind"] != POOL_AVERAGE:
        raise Fault(ILLEGAL, f"has kind {f['kind']}")

    tab = memory[Space.TAB].dense(f["tab_addr"], (1,), VPOOL_ENTRY, align=4)

    def region(name: str) -> NDArray[np.bool_]:
        inside = np.zeros((f["in_h"], f["in_w"]), np.bool_)
        inside[f[f"{name}_top"] : f[f"{name}_bottom"], f[f"{name}_left"] : f[f"{name}_right"]] = True
        return inside

    valid = region("valid")
    divisor = np.sum([p.astype(np.int64) for p in slices(region("count"))], axis=0)
    if (divisor == 0).any():
        raise Fault(ILLEGAL, "divides an average by zero taps")
    raw = np.arange(256)
    values = raw if unsigned else np.where(raw < 128, raw, raw - 256)

    def run_average(frame: int) -> None:
        e = tab.read(frame)[0]
        xs, ys = e["xs"], e["ys"]
        if not (np.isfinite(xs) and np.isfinite(ys) and ys > 0):
            raise Fault(ILLEGAL, f"has the scales {xs} and {ys}")
        dequantised = xs * (values - int(e["zx"])).astype(np.float32)
        tile = np.where(valid, dequantised[src.read(frame)], np.float32(0))
        total = np.zeros((c, oh, ow), np.float32)
        for part in slices(tile):
            total += part
        y = (total / divisor.astype(np.float32)) / ys + np.float32(int(e["zy"]))
        dst.write(to_bytes(np.rint(y), lo, hi), frame)

    return run_average


def build_vsum(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    init, with_bias = bool(ins.flags & Flag.INIT), bool(ins.flags & Flag.BIAS)
    if with_bias and not init:
        raise Fault(ILLEGAL, "has BIAS without INIT")
    src = memory[Space.ACT].dense(f["src_addr"], (f["c"], f["count"]))
    acc = memory[Space.ACC].dense(f["acc_addr"], (f["c"],), I32, write=True, align=4)
    bias = memory[Space.TAB].dense(f["tab_addr"], (f["c"],), I32, align=4) if with_bias else None
    kind = np.uint8 if ins.flags & Flag.X_UNSIGNED else np.int8

    def run(frame: int) -> None:
        total = src.read(frame).view(kind).sum(axis=1, dtype=np.int64).astype(np.int32)
        if not init:
            total = acc.read(frame) + total
        elif bias is not None:
            total = bias.read(frame) + total
        acc.write(total, frame)

    return run


def build_vcopy(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    counts = (f["n3"], f["n2"], f["n1"], f["n0"])
    src = memory[Space.ACT].box(f["src_addr"], counts, tuple(f[f"src_s{i}"] for i in (3, 2, 1, 0)))
    dst = memory[Space.ACT].box(f["dst_addr"], counts, tuple(f[f"dst_s{i}"] for i in (3, 2, 1, 0)), write=True)
    makers = memory[Space.ACT].makers
    src_sums, dst_sums = (
        memory[Space.ACT].sums(f[f"{side}_addr"], counts, tuple(f[f"{side}_s{i}"] for i in (3, 2, 1, 0)))
        for side in ("src", "dst")
    )
    if not ins.flags & Flag.TABLE:

        def run(frame: int) -> None:
            values = src.read(frame).copy()
            if src_sums is None or dst_sums is None or not src_sums.known.any():
                dst.write(values, frame)
                return
            moved = src_sums.copy()
            dst.write(values, frame)
            dst_sums.put(moved.values, moved.makers, moved.known)

        return run
    if f["table_stride"] not in (0, 256):
        raise Fault(ILLEGAL, f"has table_stride {f['table_stride']}, which is neither 0 nor 256")
    tables = f["n3"] if f["table_stride"] else 1
    tab = memory[Space.TAB].dense(f["tab_addr"], (tables, 256), align=4)
    known: list[tuple[bytes, int]] = []  # the tables of the first frame and the number of the first

    def run_table(frame: int) -> None:
        table, x = tab.read(frame), src.read(frame)
        if tables == 1:
            dst.write(table[0][x], frame)
        else:
            dst.write(table[np.arange(tables)[:, None, None, None], x], frame)
        if dst_sums is not None and makers is not None:
            if not known:
                known.append((table.tobytes(), makers.add(Tables(table.copy()))))
            if table.tobytes() == known[0][0]:
                dst_sums.put(0, known[0][1] + np.arange(tables, dtype=np.int32)[:, None, None, None])

    return run_table


def build_vfill(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    dst = memory[Space.ACT].dense(f["dst_addr"], (f["count"],), write=True)

    def run(frame: int) -> None:
        dst.write(f["value"], frame)

    return run


def build_varg(memory: Memory, ins: Instruction) -> Action:
    f = fields_of(ins)
    outer, axis, inner = f["outer"], f["axis"], f["inner"]
    src = memory[Space.ACT].dense(f["src_addr"], (outer, axis, inner))
    dst = memory[Space.ACT].dense(f["dst_addr"], (outer, inner), np.dtype("<i8"), write=True)
    kind = np.uint8 if ins.flags & Flag.X_UNSIGNED else np.int8
    last = bool(ins.flags & Flag.LAST)

    def run(frame: int) -> None:
        x = src.read(frame).view(kind)
        index = axis - 1 - x[:, ::-1].argmax(axis=1) if last else x.argmax(axis=1)
        dst.write(index, frame)

    return run


BUILDERS: dict[str, Callable[[Memory, Instruction], Action]] = {
    "VBIN": build_vbin,
    "VACC": build_vacc,
    "VPOOL": build_vpool,
    "VSUM": build_vsum,
    "VCOPY": build_vcopy,
    "VFILL": build_vfill,
    "VARG": build_varg,
}
