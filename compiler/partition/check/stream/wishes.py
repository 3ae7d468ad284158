"""Judges a streaming plan against what was asked for: limits, copies, cuts, memory, anchors, folds, forbidden cuts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.ir.graph import Conv
from compiler.isa.check.findings import Findings
from compiler.isa.stream.table import DRAM, MEMORIES
from compiler.partition.check.options import check_limits
from compiler.partition.check.stream.netlist import Own
from compiler.partition.check.stream.pieces import JOIN, Model
from compiler.partition.check.stream.seats import fold_of
from compiler.plan.model import EnginePlan, Plan


def check_wishes(plan: Plan, model: Model, engines: Mapping[Own, EnginePlan], found: Findings) -> None:
    """FVC220. engines: of all pieces of all copies, copy by copy."""
    o = plan.options
    check_limits(plan, found)
    if o.get("replicas", 1) not in (0, plan.replicas):
        found.add("FVC220", f"{plan.replicas} replicas, {o.get('replicas', 1)} asked for", "options.replicas")
    wanted = {f: n for f, n in o.get("force_split", ()) if n > 1}
    if wanted and all(x.strategy == "whole" for x in plan.layers):
        found.add("FVC220", "no layer is cut, though --force-split asks for it", "options.force_split")
    given = {f[0] for f in o.get("folds", ())}
    free = {p.key for p in model.pieces if isinstance(p.node, Conv) and p.kind != JOIN and p.node.name not in given}
    outside = {fold_of(e).memory == MEMORIES[DRAM] for (_, key), e in engines.items() if key in free}
    memory = o.get("memory", "auto")
    if (memory == MEMORIES[DRAM] and False in outside) or (memory in ("bram", "uram") and True in outside):
        where = "on the chip" if memory == MEMORIES[DRAM] else "in DRAM"
        found.add("FVC220", f"weights {where}, {memory} asked for", "options.memory")
    layer = {p.key: p.node.name for p in model.pieces}
    for copy in range(plan.replicas):
        place: dict[str, list[EnginePlan]] = {}
        for (c, key), e in engines.items():
            if c == copy:
                place.setdefault(layer[key], []).append(e)
        _of_layers(o, place, found)


def anchored(engines: Sequence[EnginePlan], where: str) -> bool:
    """Whether there are engines, and all on that device or die."""
    return bool(engines) and all(where in (e.device, f"{e.device}/{e.die}") for e in engines)


def _of_layers(o: dict[str, Any], place: dict[str, list[EnginePlan]], found: Findings) -> None:
    """Anchors, given folds and forbidden cuts of one copy; place: its engines by layer."""
    for name, where in o.get("anchors", ()):
        if not anchored(place.get(name, []), where):
            found.add("FVC220", f"'{name}' does not stand on {where}", "options.anchors")
    for name, pe, simd, memory, variant in o.get("folds", ()):
        own = place.get(name, [])
        e = own[0] if len(own) == 1 else None
        have = None if e is None else (e.fold["pe"], e.fold["simd"], e.parameters["memory"], e.parameters["variant"])
        if have is None or have[:2] != (pe, simd) or memory not in ("", have[2]) or variant not in ("", have[3]):
            found.add("FVC220", f"'{name}' has not the fold PE={pe}, SIMD={simd} asked for", "options.folds")
    for a, b in o.get("forbidden_cuts", ()):
        ends = [f"{e.device}/{e.die}" for x in (a, b) for e in place.get(x, ())]
        if len(set(ends)) > 1:
            found.add("FVC220", f"'{a}' and '{b}' stand on different dies", "options.forbidden_cuts")
