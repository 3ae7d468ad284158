"""Seeded mutants of streaming binaries: a field of a unit, preload or stream, a constant, a die, a row, the metadata.

Like `mutants`, and judged by the same bench: what is changed is written again with its hashes and CRCs right.
"""

from __future__ import annotations

import copy
import random
import zlib
from dataclasses import replace
from typing import Any

from compiler.isa.program import Instruction
from compiler.isa.stream.program import Fabric
from compiler.isa.stream.table import BY_NAME, LAYOUTS
from tests.mutation.mutants import Kind, Programs, Unchanged, flip_file, host_message


def some_fabric(rng: random.Random, programs: Programs) -> Fabric:
    return rng.choice([p.fabric for p in programs if p.fabric is not None])


def net_field(rng: random.Random, programs: Programs) -> str:
    """Another value of one field: a neighbour, a bit, twice, half, none, the most."""
    ins: Instruction = rng.choice(some_fabric(rng, programs).text)
    name = rng.choice([f.name for f in BY_NAME[ins.op].fields])
    slot = next(s for s in LAYOUTS[ins.op].slots if s.field.name == name)
    old = ins.fields.get(name, 0)
    draws = (old + 1, old - 1, old ^ 1, 2 * old, old // 2, 0, slot.high, old ^ 1 << rng.randrange(16), old + 64)
    new = min(max(rng.choice(draws), slot.low), slot.high)
    if new == old:
        raise Unchanged
    ins.fields[name] = new
    return f"{ins.op} {name} {old} to {new}"


def net_constant(rng: random.Random, programs: Programs) -> str:
    """A bit of a weight, bias, threshold or requantiser; the CRC of its preload is made to agree."""
    fabric = some_fabric(rng, programs)
    if not fabric.constants:
        raise Unchanged
    raw, at, bit = bytearray(fabric.constants), rng.randrange(len(fabric.constants)), rng.randrange(8)
    raw[at] ^= 1 << bit
    fabric.constants = bytes(raw)
    for p in fabric.preloads():
        start, size = p.fields["offset"], p.fields["bytes"]
        if start <= at < start + size:
            p.fields["crc"] = zlib.crc32(fabric.constants[start : start + size])
    owner = next((n for n, (start, size) in fabric.symbols.items() if start <= at < start + size), "padding")
    return f"constant bit {at}.{bit} ({owner})"


def net_die(rng: random.Random, programs: Programs) -> str:
    fabric = some_fabric(rng, programs)
    k = rng.randrange(len(fabric.dies))
    name = rng.choice(("name", "clock_khz", "lut", "ff", "bram18", "uram", "dsp", "wires", "family"))
    old: Any = getattr(fabric.dies[k], name)
    new: Any = f"{old}x" if isinstance(old, str) else old + rng.choice((1, -1))
    if new == -1:
        raise Unchanged
    fabric.dies[k] = replace(fabric.dies[k], **{name: new})
    return f"die {name} {old} to {new}"


def net_row(rng: random.Random, programs: Programs) -> str:
    """The row of a unit says something else, mostly what another row says."""
    fabric = some_fabric(rng, programs)
    k = rng.randrange(len(fabric.rows))
    name = rng.choice(("engine", "node", "role", "tensor", "dtype", "shape"))
    old = getattr(fabric.rows[k], name)
    others = sorted({getattr(r, name) for r in fabric.rows} - {old}, key=str)
    if name == "role":
        others = [r for r in ("output", "inner", "boundary") if r != old]
    if not others:
        raise Unchanged
    fabric.rows[k] = replace(fabric.rows[k], **{name: rng.choice(others)})
    return f"row {k} {name} {old}"


def net_order(rng: random.Random, programs: Programs) -> str:
    """Two instructions in each other's place, one dropped, or one twice."""
    text = some_fabric(rng, programs).text
    a, b, way = rng.randrange(len(text)), rng.randrange(len(text)), rng.randrange(3)
    what = text[a].op
    if way == 0:
        if text[a] == text[b]:
            raise Unchanged
        text[a], text[b] = text[b], text[a]
        return f"{text[a].op} and {text[b].op} swapped"
    if way == 1:
        del text[a]
        return f"{what} dropped"
    text.insert(a, copy.deepcopy(text[a]))
    return f"{what} repeated"


def net_symbol(rng: random.Random, programs: Programs) -> str:
    fabric = some_fabric(rng, programs)
    if not fabric.symbols:
        raise Unchanged
    name = rng.choice(sorted(fabric.symbols))
    start, size = fabric.symbols[name]
    fabric.symbols[name] = rng.choice(((start, size + 1), (start, size - 1), (start + 1, size), (start + 64, size)))
    return f"symbol {name}"


def net_folding(rng: random.Random, programs: Programs) -> str:
    """One number or name of the folding metadata; what a layer is called in ONNX is the model's matter."""
    rows = some_fabric(rng, programs).folding
    if not rows:
        raise Unchanged
    row = rng.choice(rows)
    name = rng.choice([n for n in sorted(row) if n not in ("op", "requantiser")])
    old: Any = row[name]
    if isinstance(old, list):
        row[name] = [*old[:-1], 2 * old[-1]] if old and isinstance(old[-1], int) else [*old, "bram"]
    else:
        row[name] = f"{old}x" if isinstance(old, str) else old + rng.choice((1, -1))
    return f"folding {name} {old}"


def net_requantiser(rng: random.Random, programs: Programs) -> str:
    """What the metadata says of a requantiser's entries."""
    rows = [r for r in some_fabric(rng, programs).folding if "multiplier" in (r.get("requantiser") or {})]  # type: ignore[operator]
    if not rows:
        raise Unchanged
    told: Any = rng.choice(rows)["requantiser"]
    name = rng.choice(("mode", "multiplier", "shift", "add"))
    k = rng.randrange(len(told[name]))
    told[name][k] += 1
    return f"requantiser {name} of channel {k}"


KINDS: tuple[Kind, ...] = (
    net_field, net_field, net_field, net_field, net_field, net_constant, net_constant, net_die, net_row, net_order,
    net_symbol, net_folding, net_requantiser, host_message, flip_file, flip_file,
)  # fmt: skip
