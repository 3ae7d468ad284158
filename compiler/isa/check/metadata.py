"""What a netlist says of itself twice: folding metadata against units and streams, and one way to write each thing.

Needs a fabric that has passed every other rule. Guarantees that its folding rows name the folds,
memories and FIFO depths that are there, that what stands at a port is a boundary, that streams are widened
to whole bytes alone, and that no line buffer is larger than it can use.
"""

from __future__ import annotations

import struct

from compiler.isa.check.findings import Findings
from compiler.isa.stream.ports import Ports, ports
from compiler.isa.stream.program import Fabric
from compiler.isa.stream.rates import least_buffer, unit_cycles
from compiler.isa.stream.table import MEMORIES, URAM, VARIANTS
from compiler.isa.table import MODE_FIXED, MODE_FP32

BYTE = 8
WHOLE = (8, 32)  # operands and sums
_ENTRY = struct.Struct("<iBBHq")  # an entry of VREQ: word, shift, mode, steps, addend
_WEIGHTED = ("MVAU", "VVAU")


def check_metadata(device: str, fabric: Fabric, findings: Findings) -> None:
    """FVC340 for rows and metadata, FVC341 for buffers, FVC342 for streams."""
    known = [ports(i) for i in fabric.units()]
    _boundaries(device, fabric, findings)
    _streams(device, fabric, known, findings)
    _buffers(device, fabric, known, findings)
    _folding(device, fabric, findings)


def _boundaries(device: str, fabric: Fabric, findings: Findings) -> None:
    for k, (ins, row) in enumerate(zip(fabric.units(), fabric.rows, strict=True)):
        ends = ins.op in ("SRC", "SNK", "MEM")
        shared = ins.op in ("DUP", "DWC")  # a message may be for several, or widened
        if ends != (row.role == "boundary") and not (shared and row.role == "boundary"):
            findings.add("FVC340", f"a {ins.op} of role {row.role!r}", f"{device}, unit {k}")
        if row.role in ("inner", "boundary") and row.shape:
            findings.add("FVC340", f"role {row.role!r} with the shape {list(row.shape)}", f"{device}, unit {k}")


def _streams(device: str, fabric: Fabric, known: list[Ports], findings: Findings) -> None:
    units = fabric.units()
    ends = [(c.fields["target"], c.fields["target_port"]) for c in fabric.streams()]
    for k, (con, (unit, port)) in enumerate(zip(fabric.streams(), ends, strict=True)):
        if unit >= len(known) or port >= len(known[unit].inputs):
            continue
        have, want = con.fields["bits"], known[unit].inputs[port].bits
        message = units[unit].op == "SNK" and want % BYTE == 0
        if have != want and want not in WHOLE and not message and have > 1:
            findings.add("FVC342", f"a stream of {have} bits is widened to {want}", f"{device}, stream {k}")


def _buffers(device: str, fabric: Fabric, known: list[Ports], findings: Findings) -> None:
    for k, (ins, p) in enumerate(zip(fabric.units(), known, strict=True)):
        if ins.op == "WIN":
            most = least_buffer(ins.fields) + p.inputs[0].words
            if ins.fields["depth"] > most:
                what = f"its line buffer has {ins.fields['depth']} words, a window and a frame are {most}"
                findings.add("FVC341", what, f"{device}, unit {k} (WIN)")


def _folding(device: str, fabric: Fabric, findings: Findings) -> None:
    units = list(zip(fabric.units(), fabric.rows, strict=True))
    for told in fabric.folding:
        engine = told.get("engine")
        own = [i for i, r in units if r.engine == engine and r.role != "boundary"]
        fifos = [
            c.fields
            for c in fabric.streams()
            if c.fields["target"] < len(units) and units[c.fields["target"]][1].engine == engine
        ]
        depths, memories = [f["depth"] for f in fifos], [MEMORIES[min(f["memory"], URAM)] for f in fifos]
        wrong = []
        if told.get("fifo_depths") != depths:
            wrong.append(f"FIFO depths {told.get('fifo_depths')}, there are {depths}")
        for ins in own:
            f = ins.fields
            if ins.op in _WEIGHTED and f["memory"] < len(MEMORIES) and f["variant"] < len(VARIANTS):
                have = (f["pe"], f["simd"], VARIANTS[f["variant"]], MEMORIES[f["memory"]])
                said = tuple(told.get(n) for n in ("pe", "simd", "variant", "memory"))
                if said != have:
                    wrong.append(f"{said} of a unit that is {have}")
        if told.get("fifo_memories") != memories:
            wrong.append(f"FIFO memories {told.get('fifo_memories')}, there are {memories}")
        stores = [MEMORIES[i.fields["memory"]] for i in own if i.fields.get("memory", len(MEMORIES)) < len(MEMORIES)]
        if told.get("memory") not in [*stores, "lutram"]:  # lists: what the file says may be anything, also unhashable
            wrong.append(f"memory {told.get('memory')}, which no unit has")
        if told.get("simd") != 1 and not any(i.op in _WEIGHTED for i in own):
            wrong.append(f"simd {told.get('simd')} without weights")
        if own and told.get("pe") not in [i.fields.get("pe") for i in own]:
            wrong.append(f"pe {told.get('pe')}, which no unit has")
        if own and told.get("cycles") not in [unit_cycles(i) for i in own]:
            wrong.append(f"{told.get('cycles')} cycles, which no unit takes")
        wrong += [w for k, i in enumerate(fabric.units()) if i.op == "REQ" and fabric.rows[k].engine == engine
                  for w in _entries(fabric, k, told.get("requantiser"))]  # fmt: skip
        if wrong:
            findings.add("FVC340", f"the folding metadata tells {'; '.join(wrong)}", f"{device}, engine {engine}")


def _entries(fabric: Fabric, unit: int, told: object) -> list[str]:
    """What the metadata says of a requantiser against its entries (docs/machine.md, VREQ); one row may hold for all."""
    p = next((p.fields for p in fabric.preloads() if (p.fields["unit"], p.fields["slot"]) == (unit, 0)), None)
    if p is None:
        return []
    data = fabric.constants[p["offset"] : p["offset"] + p["bytes"] // _ENTRY.size * _ENTRY.size]
    have = list(_ENTRY.iter_unpack(data))
    names = ("mode", "multiplier", "shift", "add", "scale_bits", "acc_lo", "acc_hi")
    lists = [told.get(n) for n in names] if isinstance(told, dict) else []
    if not lists or not all(isinstance(v, list) and len(v) in (1, len(have)) for v in lists):
        return [f"of no requantiser with {len(have)} channels"]
    for k, (word, shift, mode, steps, add) in enumerate(have):
        said = {n: v[k % len(v)] for n, v in zip(names, lists, strict=True) if isinstance(v, list)}
        fits = said["mode"] == mode
        if mode == MODE_FIXED:
            fits = fits and (said["multiplier"], said["shift"], said["add"], 0) == (word, shift, add, steps)
        elif mode == MODE_FP32:
            fits = fits and (said["scale_bits"], 0, 0, 0) == (word % (1 << 32), shift, add, steps)
        if not fits:
            return [f"of channel {k} of the requantiser what is not so"]
    return []
