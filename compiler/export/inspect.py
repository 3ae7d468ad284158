"""What `fvc inspect` shows of a binary: facts as plain data, and the same as text, like objdump."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.sections import RELOCATION_TYPES
from compiler.isa.stream.program import Fabric
from compiler.isa.table import Queue
from device_db.errors import FvcError

_MAX_DIFFERENCES = 50
_MAX_LISTED = 8  # longer lists stand in the JSON form


def read_binary(path: Path) -> bytes:
    """The file's bytes. Raises FVC002."""
    try:
        return path.read_bytes()
    except OSError as problem:
        raise FvcError("FVC002", f"cannot read the binary: {problem.strerror}", where=(str(path),)) from None


def describe(path: Path, parts: Sequence[str]) -> dict[str, Any]:
    """The parts asked for (headers, disasm, folding, relocations, roofline) as plain data; raises FVC3xx on damage."""
    from compiler.isa.container import read_device

    data = read_binary(path)
    program = read_device(data)
    facts: dict[str, Any] = {"device": program.name}
    if "headers" in parts:
        facts["headers"] = _headers(data, program)
    if "disasm" in parts:
        facts["disasm"] = [
            {
                "rank": c.rank,
                "engine": c.engine.id,
                "queues": {q.name: _listing(c.queues.get(q, []), c.debug) for q in Queue},
            }
            for c in program.cores
        ]
        if program.fabric is not None:
            facts["netlist"] = _netlist(program.fabric)
    if "folding" in parts:
        facts["folding"] = [row for core in program.cores for row in core.folding]
        if program.fabric is not None:
            facts["folding"] += program.fabric.folding
    if "relocations" in parts:
        facts["relocations"] = _relocations(data)
    if "roofline" in parts:
        from compiler.export.roofline import pictures, roofline

        facts["roofline"] = {"layers": [r.as_json() for r in roofline([program])], "pictures": pictures([program])}
    return facts


def _headers(data: bytes, program: DeviceProgram) -> dict[str, Any]:
    from compiler.isa.file import read_header

    header = read_header(data)
    return {
        "container": f"{header.major}.{header.minor}",
        "isa": header.isa_version,
        "bytes": header.file_bytes,
        "fingerprint": header.fingerprint.hex(),
        "replicas": program.replicas,
        "stages": program.stages,
        "note": program.note,
        "sections": [
            {"name": s.name, "offset": s.offset, "bytes": s.size, "critical": s.critical, "sha256": s.sha256.hex()}
            for s in header.sections
        ],
        "cores": [
            {
                "rank": c.rank,
                "engine": asdict(c.engine),
                "const_bytes": len(c.constants),
                "work_bytes": c.work_bytes,
                "packets": len(c.packets),
                "instructions": {q.name: len(c.queues.get(q, [])) for q in Queue},
                "mix": dict(sorted(Counter(i.op for q in c.queues.values() for i in q).items())),
            }
            for c in program.cores
        ],
        "fabric": None if program.fabric is None else _fabric(program.fabric),
        "channels": [asdict(c) for c in program.channels],
        "host_messages": len(program.host),
    }


def _fabric(fabric: Fabric) -> dict[str, Any]:
    return {
        "rank": fabric.rank,
        "dies": [asdict(d) for d in fabric.dies],
        "units": len(fabric.units()),
        "preloads": len(fabric.preloads()),
        "streams": len(fabric.streams()),
        "const_bytes": len(fabric.constants),
        "mix": dict(sorted(Counter(i.op for i in fabric.units()).items())),
    }


def _netlist(fabric: Fabric) -> dict[str, Any]:
    from compiler.isa.stream.words import listing

    lines = []
    for k, i in enumerate(fabric.text):
        row = fabric.rows[i.debug] if i.op not in ("PRE", "CON", "RUN") and i.debug < len(fabric.rows) else None
        lines.append(f"{k:6d}  {listing(i)}" + ("" if row is None else f"  ; {row.node} {row.role}".rstrip()))
    return {"rank": fabric.rank, "words": lines}


def _listing(instructions: Sequence[Instruction], debug: Sequence[Any]) -> list[str]:
    from compiler.isa.asm import disassemble_one

    lines = []
    for k, instruction in enumerate(instructions):
        row = debug[instruction.debug] if 0 <= instruction.debug < len(debug) else None
        told = f"  ; {row.task or row.node} {row.role}".rstrip() if row is not None and (row.task or row.node) else ""
        lines.append(f"{k:6d}  {disassemble_one(instruction)}{told}")
    return lines


def _relocations(data: bytes) -> dict[str, Any]:
    from compiler.isa.reader import read_image, relocations_of

    found = relocations_of(read_image(data))
    kinds = Counter(int(t) for t in found.type)
    rows = [
        {
            "type": RELOCATION_TYPES[int(t)],
            "lane": int(lane),
            "shift": int(s),
            "bits": int(b),
            "core": int(c),
            "addend": int(a),
        }
        for t, lane, s, b, c, a in zip(
            found.type, found.lane, found.shift, found.bits, found.core, found.addend, strict=True
        )
    ]
    return {"counts": {RELOCATION_TYPES[t]: n for t, n in sorted(kinds.items())}, "rows": rows}


def render(facts: dict[str, Any]) -> str:
    """The facts as text."""
    lines = [f"device {facts['device']}"]
    if "headers" in facts:
        lines += _headers_text(facts["headers"])
    for core in facts.get("disasm", ()):
        lines += ["", f"core {core['rank']} {core['engine']}"]
        for queue, listing in core["queues"].items():
            lines += [f" {queue}: {len(listing)} instructions", *(f"  {line}" for line in listing)]
    if "netlist" in facts:
        listed = facts["netlist"]["words"]
        lines += ["", f"netlist, rank {facts['netlist']['rank']}: {len(listed)} instructions"]
        lines += [f"  {line}" for line in listed]
    if "folding" in facts:
        lines += ["", "folding"]
        lines += ["  " + ", ".join(f"{k} {_flat(v)}" for k, v in row.items()) for row in facts["folding"]]
    if "relocations" in facts:
        table = facts["relocations"]
        lines += ["", "relocations: " + ", ".join(f"{n} {kind}" for kind, n in table["counts"].items())]
        lines += [
            f"  lane {r['lane']:7d} bit {r['shift']:2d}+{r['bits']:<2d} "
            f"{r['type']:8s} core {r['core']} addend {r['addend']}"
            for r in table["rows"]
        ]
    if "roofline" in facts:
        lines += _roofline_text(facts["roofline"])
    return "\n".join(lines)


def _roofline_text(found: dict[str, Any]) -> list[str]:
    from compiler.export.roofline import HEAD, Row, cells

    if not found["layers"]:
        return ["", "no layer on a tiled engine"]
    lines = [line for picture in found["pictures"] for line in ("", *picture.split("\n"))]
    rows = [HEAD, *(cells(Row(*r.values())) for r in found["layers"])]
    wide = [max(len(r[k]) for r in rows) for k in range(len(HEAD) - 1)]
    texts = (0, 7)  # names stand left, figures right
    return [*lines, ""] + [
        "  ".join(f"{c:<{w}s}" if k in texts else f"{c:>{w}s}" for k, (c, w) in enumerate(zip(r, wide, strict=False)))
        + f"  {r[-1]}"
        for r in rows
    ]


def _headers_text(h: dict[str, Any]) -> list[str]:
    lines = [
        f"container {h['container']}, instruction set {h['isa']}, {h['bytes']:,} bytes",
        f"hardware fingerprint {h['fingerprint']}",
        f"{h['replicas']} replicas, deepest stage {h['stages']}",
        f"{len(h['channels'])} channels, {h['host_messages']} host messages",
        *(f"  note {k}: {_flat(v)}" for k, v in sorted(h["note"].items())),
        "sections",
    ]
    for s in h["sections"]:
        need = "critical" if s["critical"] else "optional"
        lines.append(f"  {s['offset']:10,d} {s['bytes']:10,d}  {s['name']:14s} {need}  {s['sha256'][:16]}")
    for c in h["cores"]:
        e = c["engine"]
        lines += [
            f"core {c['rank']} {e['id']}: {e['tm']}x{e['tn']} MACs, {e['clock_khz'] / 1000:g} MHz, memory {e['bank']}",
            f"  ACT {e['act_bytes']:,}  WGT {e['wgt_bytes']:,}  ACC {e['acc_bytes']:,}  TAB {e['tab_bytes']:,} bytes",
            f"  CONST {c['const_bytes']:,}  WORK {c['work_bytes']:,} bytes, {c['packets']} packets",
            "  " + ", ".join(f"{q} {n}" for q, n in c["instructions"].items()) + " instructions",
            "  " + ", ".join(f"{n} {op}" for op, n in c["mix"].items()),
        ]
    if h["fabric"] is not None:
        f = h["fabric"]
        counts = f"{f['units']} units, {f['preloads']} preloads, {f['streams']} streams"
        lines += [f"netlist, rank {f['rank']}: {counts}, constants {f['const_bytes']:,} bytes"]
        lines += ["  " + ", ".join(f"{n} {op}" for op, n in f["mix"].items())]
        for d in f["dies"]:
            lines.append(f"  {d['name']}: {d['clock_khz'] / 1000:g} MHz, {d['wires']:,} wires to the next")
    return lines


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}={_flat(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)) and len(value) > _MAX_LISTED:
        return f"({len(value)} values)"
    return " ".join(map(_flat, value)) if isinstance(value, (list, tuple)) else str(value)


def compare(path: Path, other: Path) -> list[str]:
    """Differences of two binaries, one a line, at most fifty of each kind: hardware, sizes, instructions by task."""
    from compiler.isa.container import read_device
    from compiler.isa.fingerprint import compare_fabric, compare_hardware

    one, two = (read_device(read_binary(p)) for p in (path, other))
    lines = [f"device {one.name} -> {two.name}"] if one.name != two.name else []
    lines += compare_hardware([c.engine for c in one.cores], [c.engine for c in two.cores])
    lines += _fabric_differences(one.fabric, two.fabric, compare_fabric)
    for a, b in zip(one.cores, two.cores, strict=False):
        name = f"core {a.rank}"
        if a.constants != b.constants:
            changed = sum(x != y for x, y in zip(a.constants, b.constants, strict=False))
            sizes = f"{len(a.constants):,} -> {len(b.constants):,} bytes"
            lines.append(f"{name}: constants {sizes}, {changed:,} differ in the common part")
        if a.work_bytes != b.work_bytes:
            lines.append(f"{name}: work memory {a.work_bytes:,} -> {b.work_bytes:,} bytes")
        for queue in Queue:
            lines += _queue_differences(f"{name} {queue.name}", a.queues.get(queue, []), b.queues.get(queue, []))
    for label in ("channels", "links", "host", "outputs", "replicas", "stages", "note"):
        if getattr(one, label) != getattr(two, label):
            lines.append(f"{label} differ")
    if not lines and path.read_bytes() != other.read_bytes():
        lines.append("the files differ in bytes that no program reads (debug names, packets, folding)")
    return lines


def _fabric_differences(a: Fabric | None, b: Fabric | None, hardware: Callable[..., list[str]]) -> list[str]:
    """Of two netlists, or that one of the binaries has none."""
    from compiler.isa.stream.words import listing

    if a is None or b is None:
        return [] if a is b else [f"netlist: {'none' if a is None else 'one'} -> {'none' if b is None else 'one'}"]
    lines = hardware(a.dies, b.dies)
    if a.constants != b.constants:
        lines.append(f"netlist: constants {len(a.constants):,} -> {len(b.constants):,} bytes")
    return lines + _text_differences("netlist", [listing(i) for i in a.text], [listing(i) for i in b.text])


def _queue_differences(where: str, a: Sequence[Instruction], b: Sequence[Instruction]) -> list[str]:
    from compiler.isa.asm import disassemble_one

    return _text_differences(where, [disassemble_one(i) for i in a], [disassemble_one(i) for i in b])


def _text_differences(where: str, old: list[str], new: list[str]) -> list[str]:
    import difflib

    if old == new:
        return []
    lines = [f"{where}: {len(old)} -> {len(new)} instructions"]
    edits = list(difflib.unified_diff(old, new, lineterm="", n=0))[2:] if max(len(old), len(new)) <= 20_000 else []
    lines += [f"  {line}" for line in edits[:_MAX_DIFFERENCES]]
    if len(edits) > _MAX_DIFFERENCES:
        lines.append(f"  and {len(edits) - _MAX_DIFFERENCES} more lines")
    return lines
