"""Mutants that are none: an entry of VREQ or VBIN with other numbers and the same results on all operands there can be.

No judge can tell such a mutant from the original, and none needs to. The criterion shares nothing with the judges: the
two entries are evaluated one after the other on every whole number that the channel's accumulator can be, or on every
pair of bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from compiler.isa.program import CoreProgram, DeviceProgram, Instruction
from compiler.isa.stream.program import Fabric
from compiler.isa.table import KIND_ADD, MODE_FIXED, MODE_FP32, Flag, Queue

Programs = list[DeviceProgram]
_ENTRY = struct.Struct("<iBBHq")  # word, shift, mode, steps, add
_MOST = 1 << 24  # accumulators tried for one channel


def same_results(original: Programs, mutant: Programs) -> bool:
    """Whether the programs differ in nothing but such entries (and the CRC instructions that cover them)."""
    changed = 0
    for a, b in zip(original, mutant, strict=True):
        for p, q in zip(a.cores, b.cores, strict=True):
            if p.constants != q.constants:
                if len(p.constants) != len(q.constants) or not _same_entries(p, q.constants):
                    return False
                changed += 1
            if _without_constants(p) != _without_constants(q):
                return False
        if a.fabric is not None and b.fabric is not None and a.fabric != b.fabric:
            if not _same_netlist(a.fabric, b.fabric):
                return False
            changed += 1
    names = [n for n in DeviceProgram.__dataclass_fields__ if n not in ("cores", "fabric")]
    same = all(getattr(a, n) == getattr(b, n) for a, b in zip(original, mutant, strict=True) for n in names)
    return same and changed > 0


def _same_netlist(one: Fabric, two: Fabric) -> bool:
    """Netlists that differ in the order of their streams, in bits of a bias that its accumulators drop, and in entries
    of equal results, alone."""

    def without(fabric: Fabric) -> tuple[Any, ...]:
        text = [(i.op, {**i.fields, "crc": 0}) for i in fabric.text]
        streams = sorted(sorted(f.items()) for op, f in text if op == "CON")
        return [t for t in text if t[0] != "CON"], streams, fabric.dies, fabric.rows, fabric.symbols, fabric.folding

    if len(one.constants) != len(two.constants) or without(one) != without(two):
        return False
    before, after = np.frombuffer(one.constants, np.uint8), np.frombuffer(two.constants, np.uint8)
    for at in np.flatnonzero(before != after).tolist():
        p = next((i.fields for i in one.preloads() if 0 <= at - i.fields["offset"] < i.fields["bytes"]), None)
        if p is None:
            return False
        ins, start = one.units()[p["unit"]], p["offset"]
        row = next((f for f in one.folding if f["layer"] == one.rows[p["unit"]].node), {})
        if ins.op in ("MVAU", "VVAU") and p["slot"] == 1:
            word = start + (at - start) // 4 * 4
            a, b = (int.from_bytes(c[word : word + 4], "little") for c in (one.constants, two.constants))
            if (a - b) % (1 << ins.fields["y_bits"]):
                return False
        elif ins.op == "REQ" and "acc_lo" in (row.get("requantiser") or {}):  # type: ignore[operator]
            proof: Any = row["requantiser"]
            k = (at - start) // 16
            ends = [proof[n][k % len(proof[n])] for n in ("acc_lo", "acc_hi")]
            acc = np.arange(ends[0], ends[1] + 1)
            a2, b2 = (_results(c[start + 16 * k :][:16], acc, ins.fields) for c in (one.constants, two.constants))
            if len(acc) > _MOST or not np.array_equal(a2, b2):
                return False
        else:
            return False
    return True


def _without_constants(core: CoreProgram) -> dict[str, Any]:
    facts = {n: getattr(core, n) for n in CoreProgram.__dataclass_fields__ if n not in ("constants", "queues")}
    facts["queues"] = [
        (i.op, i.flags, i.wait, i.post, i.stage, i.packet, i.debug, {**i.fields, "expect": 0})
        for q in Queue
        for i in core.queues.get(q, ())
    ]
    return facts


def _same_entries(core: CoreProgram, constants: bytes) -> bool:
    """Every differing byte lies in a VREQ entry of a table "int32 by channel, then an entry by channel", or in the one
    fixed entry of an addition."""
    before, after = np.frombuffer(core.constants, np.uint8), np.frombuffer(constants, np.uint8)
    done: set[int] = set()
    for at in np.flatnonzero(before != after).tolist():
        name, (start, size) = next((n, s) for n, s in core.symbols.items() if s[0] <= at < s[0] + s[1])
        task, _, label = name.rpartition("/")
        if size == 32 and label.startswith("table"):
            vbin = next((i for i in core.queues[Queue.CX] if i.op == "VBIN" and core.debug[i.debug].task == task), None)
            if vbin is None or not _same_pairs(core.constants[start:][:32], constants[start:][:32], vbin):
                return False
            continue
        m = size // 20
        offset = start + 4 * m + (at - start - 4 * m) // 16 * 16
        if not label.startswith("table") or size % 20 or at < start + 4 * m:
            return False
        if offset not in done and not _same_entry(core, task, core.constants[offset:][:16], constants[offset:][:16]):
            return False
        done.add(offset)
    return True


def _same_pairs(before: bytes, after: bytes, vbin: Instruction) -> bool:
    """Equal results of two fixed entries of an addition of every two bytes."""
    results = []
    for raw in (before, after):
        mode, shift, _, _, _, ma, mb, add = struct.unpack("<BBhhhiiq", raw[:24])
        if mode != MODE_FIXED or vbin.fields["kind"] != KIND_ADD or shift > 62 or raw[2:8] + raw[24:] != bytes(14):
            return False
        a, b = (
            np.arange(256) if vbin.flags & flag else np.arange(-128, 128) for flag in (Flag.X_UNSIGNED, Flag.W_UNSIGNED)
        )
        value = (a[:, None] * ma + b[None, :] * mb + add) >> shift
        results.append(np.clip(value, vbin.fields["lo"], vbin.fields["hi"]))
    return np.array_equal(*results)


def _same_entry(core: CoreProgram, task: str, before: bytes, after: bytes) -> bool:
    """Equal results on the accumulators of every channel of the task that has the entry `before`."""
    row: Any = next(r for r in core.folding if r["task"] == task)["requantiser"]
    word, shift, mode, steps, add = _ENTRY.unpack(before)
    if steps or "acc_lo" not in row:
        return False
    scale = [b - (1 << 32) if b >> 31 else b for b in row["scale_bits"]]
    channels = [
        k
        for k in range(len(row["mode"]))
        if row["mode"][k] == mode
        and (word, shift, add)
        == ((row["multiplier"][k], row["shift"][k], row["add"][k]) if mode == MODE_FIXED else (scale[k], 0, 0))
    ]
    vreq = next(i for i in core.queues[Queue.CX] if i.op == "VREQ" and core.debug[i.debug].task == task)
    for k in channels:
        low, high = row["acc_lo"][k], row["acc_hi"][k]
        if high - low >= _MOST:
            return False
        acc = np.arange(low, high + 1)
        if not np.array_equal(_results(before, acc, vreq.fields), _results(after, acc, vreq.fields)):
            return False
    return bool(channels)


def _results(entry: bytes, acc: np.ndarray[Any, Any], fields: dict[str, int]) -> np.ndarray[Any, Any]:
    word, shift, mode, steps, add = _ENTRY.unpack(entry)
    if mode == MODE_FIXED and not steps and shift < 63:
        return np.clip((acc * word + add) >> shift, fields["lo"], fields["hi"])
    if mode == MODE_FP32 and not (steps or shift or add):
        scale = np.frombuffer(struct.pack("<i", word), "<f4")[0]
        return np.clip(np.rint(acc.astype(np.float32) * scale) + fields["zero_point"], fields["lo"], fields["hi"])
    return np.full(1, -1000)  # no form that is tried out here: equal to nothing
