"""Needs engines; gives the hardware fingerprint and a field by field comparison; independent of names and placement."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields

from compiler.isa.program import EngineSpec

# What the hardware is, not what it is called: `id` names a place in a cluster.
FINGERPRINT_FIELDS = tuple(f.name for f in fields(EngineSpec) if f.name != "id")


def fingerprint(engines: Sequence[EngineSpec]) -> bytes:
    """SHA-256 over "name=value\\n" of every field but `id`, engine by engine, each engine closed by an empty line."""
    text = "".join("".join(f"{n}={getattr(e, n)}\n" for n in FINGERPRINT_FIELDS) + "\n" for e in engines)
    return hashlib.sha256(text.encode("utf-8")).digest()


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
