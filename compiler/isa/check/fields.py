"""Needs a core's columns; judges every instruction alone: queue, flags, ranges, geometry, canonical forms, bounds.

Each rule is a mask over the instructions of one opcode and a sentence. A field that means nothing has one legal
value (docs/machine.md, "Canonical forms"), so that no bit of the text is without a judge.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compiler.isa.check.findings import Findings
from compiler.isa.check.footprint import Accesses, accesses_of
from compiler.isa.check.view import CoreView, report
from compiler.isa.encoding import Group, Ints
from compiler.isa.table import KIND_MUL, MAC_WINDOW, POOL_AVERAGE, POOL_MAX, Flag, Space

Mask = NDArray[np.bool_]
Rule = tuple[Mask, str]
_MOST_PIECES = float(1 << 26)  # of one box: beyond every tile, and a bound on what a proof of a hostile file costs
_HUGE = float(1 << 44)  # no address of any space reaches it, and int64 products stay exact below

_FLAGS: dict[str, int] = {
    "LD": Flag.ONCE,
    "MAC": Flag.INIT | Flag.BIAS | Flag.X_UNSIGNED | Flag.W_UNSIGNED,
    "VREQ": Flag.Y_UNSIGNED,
    "VBIN": Flag.X_UNSIGNED | Flag.W_UNSIGNED | Flag.Y_UNSIGNED,
    "VPOOL": Flag.X_UNSIGNED | Flag.Y_UNSIGNED,
    "VSUM": Flag.INIT | Flag.BIAS | Flag.X_UNSIGNED,
    "VCOPY": Flag.TABLE,
    "VARG": Flag.X_UNSIGNED | Flag.LAST,
    "CRC": Flag.ONCE,
}
_NO_FRAME = ("SYNC", "CRC", "END")


def _heads(view: CoreView, findings: Findings) -> None:
    queue, flags = view.head("queue"), view.head("flags")
    own = np.int64(1) << queue
    everything = np.arange(view.count)
    for name in ("wait", "post"):
        report(findings, view, everything, (view.head(name) & own) != 0, "FVC320", f"{name}s on its own queue")
    for op, group in view.columns.groups.items():
        legal = np.isin(queue[group.index], [int(q) for q in group.layout.op.queues])
        report(findings, view, group.index, ~legal, "FVC320", f"{op} does not belong into this queue")
        f = flags[group.index]
        report(
            findings, view, group.index, (f & ~_FLAGS.get(op, 0)) != 0, "FVC320", f"{op} has a flag it does not know"
        )
        if op in _NO_FRAME:
            late = view.head("stage")[group.index] != 0
            report(findings, view, group.index, late, "FVC321", f"{op} has a stage, but belongs to no frame")
        lone_bias = ((f & Flag.BIAS) != 0) & ((f & Flag.INIT) == 0)
        report(findings, view, group.index, lone_bias, "FVC320", f"{op} has BIAS without INIT")


def _strides(f: dict[str, Ints], counts: tuple[str, ...], strides: tuple[str, ...]) -> list[Rule]:
    return [((f[n] == 1) & (f[s] != 0), f"{s} must be 0 where {n} is 1") for n, s in zip(counts, strides, strict=True)]


def _injective(counts: list[Ints], strides: list[Ints], run: Ints | int) -> Mask:
    """Whether a box visits no byte twice: every stride steps over all that the smaller strides span."""
    c, s = np.stack(counts, axis=1), np.abs(np.stack(strides, axis=1))
    s = np.where(c == 1, np.int64(1) << 50, s)
    order = np.argsort(s, axis=1, kind="stable")
    c, s = np.take_along_axis(c, order, 1), np.take_along_axis(s, order, 1)
    span = np.broadcast_to(np.asarray(run, np.float64), (len(c),)).copy()
    good = np.ones(len(c), np.bool_)
    for d in range(c.shape[1]):
        many = c[:, d] > 1
        good &= ~many | (s[:, d] >= span)
        span = np.where(many, span + (c[:, d] - 1.0) * s[:, d], span)
    return good


def _dram(f: dict[str, Ints]) -> list[Rule]:
    counts, strides = ("n2", "n1", "n0"), ("dram_s2", "dram_s1", "dram_s0")
    span = f["elem"] + sum(np.abs((f[n] - 1.0) * f[s]) for n, s in zip(counts, strides, strict=True))
    return [
        (~np.isin(f["elem"], (1, 4, 8)), "elem must be 1, 4 or 8"),
        (f["depth"] == 0, "depth must be at least 1"),
        ((f["depth"] == 1) & (f["frame_stride"] != 0), "frame_stride must be 0 where depth is 1"),
        ((f["depth"] > 1) & (f["frame_stride"] < span), "frame slots lie on each other"),
        *_strides(f, counts, strides),
    ]


def _writes_dram(f: dict[str, Ints]) -> Rule:
    once = _injective([f["n2"], f["n1"], f["n0"]], [f["dram_s2"], f["dram_s1"], f["dram_s0"]], f["elem"])
    return (~once, "the DRAM box covers a byte twice")


def _positive(f: dict[str, Ints], *names: str) -> list[Rule]:
    return [(f[n] < 1, f"{n} must be at least 1") for n in names]


def _scratch(f: dict[str, Ints], rows: Ints, columns: Ints) -> list[Rule]:
    once = _injective([f["n2"], rows], [f["scratch_s2"], f["scratch_s1"]], columns * f["elem"])
    return [
        ((f["n2"] == 1) & (f["scratch_s2"] != 0), "scratch_s2 must be 0 where n2 is 1"),
        ((rows == 1) & (f["scratch_s1"] != 0), "scratch_s1 must be 0 where the padded n1 is 1"),
        (~once, "the scratchpad box covers a byte twice"),
    ]


def _ld(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    pads = f["pad_top"] + f["pad_bottom"] + f["pad_left"] + f["pad_right"]
    rows, columns = f["n1"] + f["pad_top"] + f["pad_bottom"], f["n0"] + f["pad_left"] + f["pad_right"]
    constant = f["dram_space"] == Space.CONST
    return [
        (f["dram_space"] > Space.WORK, "dram_space must be CONST or WORK"),
        ((f["scratch_space"] < Space.ACT) | (f["scratch_space"] > Space.TAB), "scratch_space is no scratchpad"),
        *_positive(f, "n2", "n1", "n0"),
        *_dram(f),
        *_scratch(f, rows, columns),
        ((pads > 0) & (f["elem"] != 1), "pads need elem 1"),
        ((pads == 0) & (f["fill"] != 0), "fill must be 0 without pads"),
        (constant & (f["depth"] > 1), "CONST has no frame slots"),
        (((flags & Flag.ONCE) != 0) & ~constant, "ONCE loads only constants"),
    ]


def _st(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    return [
        (~np.isin(f["scratch_space"], (Space.ACT, Space.ACC)), "scratch_space must be ACT or ACC"),
        *_positive(f, "n2", "n1", "n0"),
        *_dram(f),
        *_scratch(f, f["n1"], f["n0"]),
        _writes_dram(f),
    ]


def _message(f: dict[str, Ints], write: bool) -> list[Rule]:
    size = f["n2"] * 1.0 * f["n1"] * f["n0"] * f["elem"]
    barrier, wgt, act = f["bytes"] == 0, f["wgt"] == 1, f["act"] == 1
    part = wgt | act
    box = ("n2", "n1", "n0", "dram_addr", "dram_s2", "dram_s1", "dram_s0")
    rules = [
        (size != f["bytes"], "bytes is not n2*n1*n0*elem"),
        (barrier & (np.any([f[n] != 0 for n in box], axis=0)), "a barrier has a box"),
        (barrier & part, "a barrier names a scratchpad"),
        (wgt & act, "wgt and act exclude each other"),
        (~part & (f["part_addr"] != 0), "part_addr must be 0 without wgt or act"),
        (part & ((f["n2"] != 1) | (f["n1"] != 1) | (f["elem"] != 1)), "a part of a shared block is one run of bytes"),
        (
            part & ((f["dram_addr"] != 0) | (f["dram_s0"] != 1) & (f["n0"] > 1)),
            "DRAM fields mean nothing in a scratchpad",
        ),
        (part & (f["depth"] != 1), "a scratchpad has no frame slots"),
        *_dram(f),
    ]
    if write:
        twice, what = _writes_dram(f)
        rules.append((twice & ~barrier, what))
    return rules


def _window(f: dict[str, Ints]) -> list[Rule]:
    rules = _positive(f, "in_h", "in_w", "kh", "kw", "sh", "sw", "dh", "dw", "oh", "ow")
    for axis in ("h", "w"):
        need = (f[f"o{axis}"] - 1) * f[f"s{axis}"] + (f[f"k{axis}"] - 1) * f[f"d{axis}"] + 1
        rules.append((need > f[f"in_{axis}"], f"the window leaves the tile: in_{axis} is too small"))
        rules.append(((f[f"o{axis}"] == 1) & (f[f"s{axis}"] != 1), f"s{axis} must be 1 where o{axis} is 1"))
        rules.append(((f[f"k{axis}"] == 1) & (f[f"d{axis}"] != 1), f"d{axis} must be 1 where k{axis} is 1"))
    return rules


def _other_mode_is_quicker(f: dict[str, Ints], tm: int, tn: int) -> Mask:
    """docs/machine.md, "Time": the mode with fewer cycles, channel when they are level."""

    def blocks(count: Ints, size: int) -> Ints:
        return -(-count // size)

    groups = np.maximum(f["groups"], 1)
    taps = f["kh"] * f["kw"]
    a_group = blocks(f["m"] // groups, tm)
    channel = groups * a_group * blocks(f["n"], tn) * taps
    together = (groups == 1) | (f["n"] == 1)
    window = np.where(together, blocks(f["m"], tm), groups * a_group) * blocks(f["n"] * taps, tn)
    slower: Mask = (f["mode"] == MAC_WINDOW) != (window < channel)
    return slower


def _mac(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    return [
        (f["mode"] > MAC_WINDOW, "mode must be 0 or 1"),
        *_positive(f, "m", "n", "groups"),
        (f["m"] % np.maximum(f["groups"], 1) != 0, "m is no multiple of groups"),
        (((flags & Flag.BIAS) == 0) & (f["tab_addr"] != 0), "tab_addr must be 0 without BIAS"),
        *_window(f),
    ]


def _clamp(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    unsigned = (flags & Flag.Y_UNSIGNED) != 0
    low, high = np.where(unsigned, 0, -128), np.where(unsigned, 255, 127)
    return [((f["lo"] > f["hi"]) | (f["lo"] < low) | (f["hi"] > high), "lo..hi is no range of the result's type")]


def _vreq(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    return [*_positive(f, "m", "count"), *_clamp(f, flags)]


def _vbin(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    rules = [(f["kind"] > KIND_MUL, "kind must be 0 or 1"), *_positive(f, "n2", "n1", "n0"), *_clamp(f, flags)]
    for side in ("a", "b"):
        rules += _strides(f, ("n2", "n1", "n0"), (f"{side}_s2", f"{side}_s1", f"{side}_s0"))
    return rules


def _vacc(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    return _positive(f, "count")


def _vpool(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    average = f["kind"] == POOL_AVERAGE
    rules = [(f["kind"] > POOL_AVERAGE, "kind must be 0 or 1"), *_positive(f, "c"), *_window(f), *_clamp(f, flags)]
    for region in ("valid", "count"):
        for low, high, size in (("top", "bottom", "in_h"), ("left", "right", "in_w")):
            a, b = f[f"{region}_{low}"], f[f"{region}_{high}"]
            rules.append((average & ((a > b) | (b > f[size])), f"the {region} region leaves the tile"))
            rules.append((~average & ((a != 0) | (b != 0)), f"{region} fields must be 0 for max"))
    same = ((flags & Flag.X_UNSIGNED) != 0) == ((flags & Flag.Y_UNSIGNED) != 0)
    rules.append(((f["kind"] == POOL_MAX) & (f["tab_addr"] != 0), "tab_addr must be 0 for max"))
    rules.append(((f["kind"] == POOL_MAX) & ~same, "max changes no sign: X_UNSIGNED and Y_UNSIGNED go together"))
    return rules


def _vsum(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    bias = ((flags & Flag.BIAS) == 0) & (f["tab_addr"] != 0)
    return [*_positive(f, "c", "count"), (bias, "tab_addr must be 0 without BIAS")]


def _vcopy(f: dict[str, Ints], flags: Ints) -> list[Rule]:
    mapped = (flags & Flag.TABLE) != 0
    names = ("n3", "n2", "n1", "n0")
    once = _injective([f[n] for n in names], [f[f"dst_s{d}"] for d in (3, 2, 1, 0)], 1)
    return [
        *_positive(f, *names),
        (mapped & ~np.isin(f["table_stride"], (0, 256)), "table_stride must be 0 or 256"),
        (~mapped & ((f["table_stride"] != 0) | (f["tab_addr"] != 0)), "table fields must be 0 without TABLE"),
        ((f["n3"] == 1) & (f["table_stride"] != 0), "table_stride must be 0 where n3 is 1"),
        *_strides(f, names, ("src_s3", "src_s2", "src_s1", "src_s0")),
        *_strides(f, names, ("dst_s3", "dst_s2", "dst_s1", "dst_s0")),
        (~once, "the result box covers a byte twice"),
    ]


_RULES: dict[str, Callable[[dict[str, Ints], Ints], list[Rule]]] = {
    "LD": _ld,
    "ST": _st,
    "TX": lambda f, flags: _message(f, False),
    "RX": lambda f, flags: _message(f, True),
    "MAC": _mac,
    "VREQ": _vreq,
    "VBIN": _vbin,
    "VACC": _vacc,
    "VPOOL": _vpool,
    "VSUM": _vsum,
    "VCOPY": _vcopy,
    "VFILL": lambda f, flags: _positive(f, "count"),
    "VARG": lambda f, flags: _positive(f, "outer", "axis", "inner"),
    "CRC": lambda f, flags: _positive(f, "bytes"),
}
_SIZES: dict[str, tuple[tuple[str, ...], ...]] = {
    "MAC": (("groups", "n", "in_h", "in_w"), ("m", "n", "kh", "kw"), ("m", "oh", "ow")),
    "VREQ": (("m", "count"),),
    "VBIN": (("n2", "n1", "n0"),),
    "VPOOL": (("c", "in_h", "in_w"), ("c", "oh", "ow")),
    "VSUM": (("c", "count"),),
    "VARG": (("outer", "axis", "inner"),),
}


def _astronomic(group: Group) -> Mask:
    """Whether a size is beyond every memory; only then could int64 products of fields overflow."""
    bad = np.zeros(len(group.index), np.bool_)
    for names in _SIZES.get(group.layout.op.name, ()):
        bad |= np.prod([group.fields[n].astype(np.float64) for n in names], axis=0) > _HUGE
    for n in (0, 1, 2, 3):
        for prefix in ("dram", "scratch", "src", "dst", "a", "b"):
            if (s := group.fields.get(f"{prefix}_s{n}")) is not None and (c := group.fields.get(f"n{n}")) is not None:
                bad |= np.abs(s.astype(np.float64)) * c > _HUGE
    return bad


def _bounds(view: CoreView, accesses: Accesses, findings: Findings) -> None:
    for space in Space:
        index = np.flatnonzero(accesses.space == space)
        part = accesses.take(index)
        low, high, size = part.low, part.high, view.size_of(space)
        what = f"touches {space.name} bytes [{{}}, {{}}) of {size}"
        report(findings, view, part.instruction, (low < 0) | (high > size), "FVC322", what, (low, high))
        if space in (Space.ACC, Space.TAB):
            odd = part.address % 4 != 0
            if space == Space.ACC:
                odd |= (part.strides % 4 != 0).any(axis=1) | (part.run % 4 != 0)
            report(
                findings,
                view,
                part.instruction,
                odd,
                "FVC323",
                f"{space.name} address {{}} is no multiple of 4",
                (part.address,),
            )


def _apart(view: CoreView, accesses: Accesses, findings: Findings) -> None:
    """Operands and result of one instruction share no byte; accumulation in place apart (by spans)."""
    vector = np.flatnonzero((accesses.space == Space.ACT) | (accesses.space == Space.ACC))
    part = accesses.take(vector)
    low, high = part.low, part.high
    for distance in range(1, 4):
        same = part.instruction[distance:] == part.instruction[:-distance]
        mixed = part.write[distance:] != part.write[:-distance]
        alike = (low[distance:] == low[:-distance]) & (high[distance:] == high[:-distance])
        accumulates = alike & (part.space[distance:] == Space.ACC)
        shared = (low[distance:] < high[:-distance]) & (low[:-distance] < high[distance:])
        shared &= part.space[distance:] == part.space[:-distance]
        bad = same & mixed & shared & ~accumulates
        report(findings, view, part.instruction[distance:], bad, "FVC321", "its result lies on its operand")


def check_fields(view: CoreView, findings: Findings) -> Accesses | None:
    """Every rule that needs one instruction alone; the accesses if all of them are sound, else None."""
    before = sum(findings.counts.values())
    _heads(view, findings)
    engine = view.core.engine
    if (mac := view.group("MAC")) is not None and engine.tm > 0 and engine.tn > 0:
        slow = _other_mode_is_quicker(mac.fields, engine.tm, engine.tn)
        report(findings, view, mac.index, slow, "FVC321", "MAC: the other mode takes fewer cycles")
    flags = view.head("flags")
    for op, group in view.columns.groups.items():
        report(findings, view, group.index, _astronomic(group), "FVC322", f"{op} is larger than any memory")
        if op in _RULES:
            for mask, what in _RULES[op](group.fields, flags[group.index]):
                report(findings, view, group.index, mask, "FVC321", f"{op}: {what}")
    if sum(findings.counts.values()) != before:
        return None
    accesses = accesses_of(view)
    pieces = np.prod(accesses.counts.astype(np.float64), axis=1)
    report(findings, view, accesses.instruction, pieces > _MOST_PIECES, "FVC322", "its box has too many pieces")
    _bounds(view, accesses, findings)
    _apart(view, accesses, findings)
    return accesses if sum(findings.counts.values()) == before else None
