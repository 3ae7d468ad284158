"""Needs the fields of an instruction; gives fields that mean nothing their one legal value (docs/machine.md).

For whoever writes programs: the checker refuses other values and does not use this.
"""

from __future__ import annotations

from compiler.isa.table import POOL_MAX, Flag

_COUNTED = (
    *((f"n{d}", f"{side}_s{d}") for side in ("dram", "a", "b") for d in (2, 1, 0)),
    *((f"n{d}", f"{side}_s{d}") for side in ("src", "dst") for d in (3, 2, 1, 0)),
)
_WINDOWS = (("oh", "sh"), ("ow", "sw"), ("kh", "dh"), ("kw", "dw"))
_REGIONS = tuple(f"{kind}_{side}" for kind in ("valid", "count") for side in ("top", "left", "bottom", "right"))


def canonical_fields(op: str, fields: dict[str, int], flags: int = 0) -> dict[str, int]:
    """A copy of `fields` in canonical form; the instruction's effect is the same."""
    f = dict(fields)
    for count, stride in _COUNTED:
        if stride in f and f.get(count, 0) == 1:
            f[stride] = 0
    if op in ("LD", "ST"):
        if f.get("n2") == 1:
            f["scratch_s2"] = 0
        if f.get("n1", 0) + f.get("pad_top", 0) + f.get("pad_bottom", 0) == 1:
            f["scratch_s1"] = 0
        if not any(f.get(f"pad_{side}", 0) for side in ("top", "bottom", "left", "right")):
            f.pop("fill", None)
    if op in ("LD", "ST", "TX", "RX") and f.get("depth", 0) <= 1:
        f["depth"], f["frame_stride"] = 1, 0
    for count, step in _WINDOWS:
        if f.get(count) == 1 and step in f:
            f[step] = 1
    if op in ("MAC", "VSUM") and not flags & Flag.BIAS:
        f["tab_addr"] = 0
    if op == "VCOPY":
        if not flags & Flag.TABLE:
            f["tab_addr"] = f["table_stride"] = 0
        if f.get("n3") == 1:
            f["table_stride"] = 0
    if op == "VPOOL" and f.get("kind", 0) == POOL_MAX:
        f.update(dict.fromkeys((*_REGIONS, "tab_addr"), 0))
    return f
