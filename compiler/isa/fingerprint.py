"""Needs engines; gives the hardware fingerprint and a field by field comparison; independent of names and placement."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields

from compiler.isa.program import EngineSpec
from compiler.isa.stream.program import FabricDie

# What the hardware is, not what it is called: `id` names a place in a cluster.
FINGERPRINT_FIELDS = tuple(f.name for f in fields(EngineSpec) if f.name != "id")


FABRIC_FIELDS = tuple(f.name for f in fields(FabricDie))


def fingerprint(engines: Sequence[EngineSpec], dies: Sequence[FabricDie] = ()) -> bytes:
    """SHA-256 over "name=value\\n" of every field but `id`, engine by engine, each engine closed by an empty line; then
    the same of every field of the dies of a fabric."""
    text = "".join("".join(f"{n}={getattr(e, n)}\n" for n in FINGERPRINT_FIELDS) + "\n" for e in engines)
    text += "".join("".join(f"{n}={getattr(d, n)}\n" for n in FABRIC_FIELDS) + "\n" for d in dies)
    return hashlib.sha256(text.encode("utf-8")).digest()


def compare_fabric(wanted: Sequence[FabricDie], found: Sequence[FabricDie]) -> list[str]:
    """As `compare_hardware`, die by die of a fabric."""
    lines = []
    if len(wanted) != len(found):
        lines.append(f"the binary wants streaming engines on {len(wanted)} dies, the device has {len(found)}")
    for a, b in zip(wanted, found, strict=False):
        for name in FABRIC_FIELDS:
            if getattr(a, name) != getattr(b, name):
                lines.append(f"die {a.name}: {name} {getattr(a, name)}, but the device has {getattr(b, name)}")
    return lines


def compare_hardware(wanted: Sequence[EngineSpec], found: Sequence[EngineSpec]) -> list[str]:
    """One line a difference, "core 1: tm 64, but the device has 32"; empty when they agree."""
    lines = []
    if len(wanted) != len(found):
        lines.append(f"the binary wants {len(wanted)} cores, the device has {len(found)}")
    for k, (a, b) in enumerate(zip(wanted, found, strict=False)):
        for name in FINGERPRINT_FIELDS:
            if getattr(a, name) != getattr(b, name):
                lines.append(f"core {k}: {name} {getattr(a, name)}, but the device has {getattr(b, name)}")
    return lines
