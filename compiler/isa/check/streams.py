"""The static checker of netlists: shapes, rates, widths, memories, budgets, boundaries, and freedom from deadlock.

Needs the programs of all devices as read; shares nothing with the scheduler that writes them nor the executor that runs
them. What a unit is comes from `ports`, when it moves words from `rates`, what it takes from `resources`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from compiler.ir.graph import storage4
from compiler.isa.check.findings import Findings
from compiler.isa.check.metadata import check_metadata
from compiler.isa.program import Channel, DeviceProgram, HostMessage, Instruction
from compiler.isa.stream.banks import readers, reads_dram, stored_bytes
from compiler.isa.stream.copies import copies_of
from compiler.isa.stream.flow import Stuck
from compiler.isa.stream.network import build
from compiler.isa.stream.ports import Illegal, Port, Ports, container_bytes, ports
from compiler.isa.stream.program import Fabric, UnitRow
from compiler.isa.stream.rates import least_buffer
from compiler.isa.stream.resources import fifo_resources, stream_wires, unit_resources
from compiler.isa.stream.steady import broken, busiest_ps, steady_near
from compiler.isa.stream.table import BRIDGES, DRAM, URAM
from compiler.isa.table import HOST_RANK
from cost_models.finn import CaseError
from device_db.model import RESOURCE_TYPES, Resources

PLAYED_FRAMES = 3
SLOWER = (1, 2, 8)  # periods, as multiples of the slowest unit's, for which a steady schedule is looked for
_MEMORY_LIMIT = {"MVAU": DRAM, "VVAU": DRAM}
FRAME = ("images", "channels", "in_h", "in_w")  # of a bridge: its tensor's storage4
_BYTES = {"u8": 1, "s8": 1, "s16": 2, "i32": 4, "i64": 8}


def check_fabrics(programs: Sequence[DeviceProgram], channels: dict[int, Channel], findings: Findings) -> None:
    """Every rule that the netlists of a plan without cores break. `channels`: all of the cluster, already checked by
    themselves."""
    ends: dict[int, dict[str, Instruction]] = {}
    for p in programs:
        if p.stages != 0:
            findings.add("FVC340", f"deepest stage {p.stages}; a netlist has 0", p.name)
        if p.fabric is None:
            findings.add("FVC340", "no netlist beside those of other devices", p.name)
            return
    if programs[0].replicas > sum(len(p.host) for p in programs):
        findings.add("FVC340", f"{programs[0].replicas} copies of the net, fewer host messages", programs[0].name)
        return
    for p in programs:
        assert p.fabric is not None
        if check_netlist(p.name, p.fabric, findings):
            _boundaries(p, p.fabric, channels, ends, findings)
            for k, ins in enumerate(p.fabric.text):
                if ins.op in (*BRIDGES, "MSG"):
                    findings.add("FVC346", "a bridge without cores that it leads to", f"{p.name}, word {k}: {ins.op}")
    if findings.kept:
        return
    _pairs(channels, ends, findings)
    if not findings.kept:
        check_outputs(programs, findings)
    if not findings.kept:
        check_halts(programs, findings)
    if not findings.kept:
        for p in programs:
            assert p.fabric is not None
            check_metadata(p.name, p.fabric, findings)


def check_netlist(device: str, fabric: Fabric, findings: Findings) -> bool:
    """All rules of one netlist by itself; False if its units cannot be looked at further."""
    if not _grammar(device, fabric, findings):
        return False
    known = _units(device, fabric, findings)
    if known is None:
        return False
    _streams(device, fabric, known, findings)
    _memories(device, fabric, known, findings)
    _banks(device, fabric, findings)
    _budgets(device, fabric, findings)
    _rows(device, fabric, findings)
    _folding(device, fabric, findings)
    return True


def _grammar(device: str, fabric: Fabric, findings: Findings) -> bool:
    """Units, then preloads by unit and slot, then streams, then messages, then one RUN that counts them."""
    rank = {"PRE": 1, "CON": 2, "MSG": 3, "RUN": 4}
    order = [rank.get(i.op, 0) for i in fabric.text]
    end = fabric.text[-1] if fabric.text else None
    names = ("units", "preloads", "streams", "messages")
    counts = {name: order.count(k) for k, name in enumerate(names)}
    good = order == sorted(order) and order.count(4) == 1 and end is not None and end.fields == counts
    if not good:
        what = "units, preloads, streams, messages and RUN are not in order, or RUN counts others"
        findings.add("FVC340", what, device)
    keys = [(p.fields["unit"], p.fields["slot"]) for p in fabric.preloads()]
    if keys != sorted(set(keys)):
        findings.add("FVC340", "the preloads are not in order, or one stands there twice", device)
        good = False
    if len(fabric.rows) != counts["units"]:
        findings.add("FVC340", f"{len(fabric.rows)} rows for {counts['units']} units", device)
        good = False
    for k, i in enumerate(fabric.units()):
        if i.debug != k:
            findings.add("FVC340", f"unit {k} names row {i.debug}", device)
            good = False
    if any(i.debug for i in fabric.text if i.op in rank):
        findings.add("FVC340", "a preload, stream, message or RUN names a row", device)
        good = False
    if not fabric.dies or any(d.clock_khz < 1 for d in fabric.dies) or fabric.dies[-1].wires:
        findings.add("FVC340", "a die without a clock, or wires beyond the last die", device)
        good = False
    return good


def _where(device: str, fabric: Fabric, unit: int) -> tuple[str, ...]:
    row = fabric.rows[unit]
    return (f"{device}, unit {unit} ({fabric.units()[unit].op})", *((f"ONNX node {row.node}",) if row.node else ()))


def _units(device: str, fabric: Fabric, findings: Findings) -> list[Ports] | None:
    """FVC341: every unit can be built."""
    out: list[Ports] = []
    for k, ins in enumerate(fabric.units()):
        f = ins.fields
        try:
            found = ports(ins)
            if f["die"] >= len(fabric.dies):
                raise Illegal(f"it stands on die {f['die']} of {len(fabric.dies)}")
            if f.get("variant", 0) > 1 or f.get("memory", 0) > _MEMORY_LIMIT.get(ins.op, URAM):
                raise Illegal("its variant or memory is unknown")
            if ins.op == "WIN" and f["depth"] < least_buffer(f):
                raise Illegal(f"its line buffer has {f['depth']} words, {least_buffer(f)} needed")
            unit_resources(ins, fabric.dies[f["die"]].family)
            out.append(found)
        except (Illegal, CaseError, ZeroDivisionError) as problem:
            findings.add("FVC341", f"this unit cannot be built: {problem}", *_where(device, fabric, k))
    return out if len(out) == len(fabric.rows) else None


def fits(source: Port, target: Port) -> bool:
    """Whether every value of one port is one of the other; elements may be widened on arrival."""
    if source.bits == 1 and source.signed:  # bipolar
        return target.signed and (target.bits == 1 or target.bits >= 2)
    if source.signed == target.signed:
        return source.bits <= target.bits and not (target.bits == 1 and target.signed)
    return target.signed and source.bits < target.bits


def _streams(device: str, fabric: Fabric, known: list[Ports], findings: Findings) -> None:
    """FVC342: every port is one end of one stream, and both ends agree on it."""
    units = fabric.units()
    used: set[tuple[str, int, int]] = set()
    for k, con in enumerate(fabric.streams()):
        f = con.fields
        where = f"{device}, stream {k} from unit {f['source']} to unit {f['target']}"
        if max(f["source"], f["target"]) >= len(units):
            findings.add("FVC342", "a stream ends at a unit that is not there", where)
            continue
        a, b = known[f["source"]].outputs, known[f["target"]].inputs
        if f["source_port"] >= len(a) or f["target_port"] >= len(b):
            findings.add("FVC342", "a stream ends at a port that is not there", where)
            continue
        for key in (("out", f["source"], f["source_port"]), ("in", f["target"], f["target_port"])):
            if key in used:
                findings.add("FVC342", "two streams end at one port", where)
            used.add(key)
        source, target = a[f["source_port"]], b[f["target_port"]]
        own = Port(f["pe"], f["bits"], bool(f["signed"]), f["words"])
        if own != source:
            findings.add("FVC342", f"the stream is {own}, its source gives {source}", where)
        elif (target.pe, target.words) != (own.pe, own.words) or not fits(own, target):
            findings.add("FVC342", f"the stream is {own}, its target takes {target}", where)
        hops = abs(units[f["source"]].fields["die"] - units[f["target"]].fields["die"])
        if f["hops"] != hops or f["depth"] < 1 or f["memory"] > URAM:
            findings.add("FVC342", f"{f['hops']} crossings told, {hops} there; {f['depth']} words deep", where)
    for k, p in enumerate(known):
        ends = [("in", k, j) for j in range(len(p.inputs))] + [("out", k, j) for j in range(len(p.outputs))]
        if any(key not in used for key in ends):
            findings.add("FVC342", "a port has no stream", *_where(device, fabric, k))


def _banks(device: str, fabric: Fabric, findings: Findings) -> None:
    """FVC348: weights in DRAM lie in banks that are there and hold them, none upon another, are read at the bank's die,
    and go to the one unit that multiplies with them, word by word."""
    if bool(fabric.banks) != bool(readers(fabric)):
        findings.add("FVC348", "memory banks without a reader, or readers without banks", device)
        return
    for row in fabric.banks:
        if row.die >= len(fabric.dies) or min(row.bytes_per_second, row.port_bits, row.capacity_bytes) < 1:
            findings.add("FVC348", f"memory bank {row.name} has no die, rate, port or capacity", device)
    units = fabric.units()
    lies: dict[int, list[tuple[int, int, int]]] = {}
    for k, ins in enumerate(units):
        f = ins.fields
        if ins.op != "MEM":
            continue
        if f["bank"] >= len(fabric.banks):
            findings.add("FVC348", f"memory bank {f['bank']} is not there", *_where(device, fabric, k))
            continue
        bank, end = fabric.banks[f["bank"]], f["address"] + stored_bytes(f)
        if f["die"] != bank.die:
            findings.add("FVC348", f"the port of {bank.name} is on another die", *_where(device, fabric, k))
        if end > bank.capacity_bytes:
            what = f"its weights end at byte {end:,} of {bank.name}, which has {bank.capacity_bytes:,}"
            findings.add("FVC348", what, *_where(device, fabric, k))
        lies.setdefault(f["bank"], []).append((f["address"], end, k))
    for spans in lies.values():
        for (_, end, _), (start, _, k) in pairwise(sorted(spans)):
            if start < end:
                findings.add("FVC348", "its weights lie upon those of another unit", *_where(device, fabric, k))
    for con in fabric.streams():
        f = con.fields
        if max(f["source"], f["target"]) >= len(units):
            continue
        a, b = units[f["source"]], units[f["target"]]
        wanted = reads_dram(b) and f["target_port"] == 1
        one_turn = a.op == "MEM" and a.fields["turns"] == b.fields.get("pixels")
        alike = wanted and one_turn and a.fields["x_bits"] == b.fields["w_bits"]
        if (a.op == "MEM" or wanted) and not alike:
            findings.add("FVC348", "weights out of DRAM do not go to the unit that multiplies with them, turn by turn",
                         *_where(device, fabric, f["target"]))  # fmt: skip


def _memories(device: str, fabric: Fabric, known: list[Ports], findings: Findings) -> None:
    """FVC343: every memory is filled once with as many bytes as it has; the constants are used once, front to back."""
    given: dict[int, dict[int, int]] = {}
    at = 0
    for p in fabric.preloads():
        f = p.fields
        given.setdefault(f["unit"], {})[f["slot"]] = f["bytes"]
        start = at + -at % 64
        if f["offset"] != start or any(fabric.constants[at:start]):
            findings.add("FVC343", "the preloads do not follow one another", f"{device}, unit {f['unit']}")
        at = f["offset"] + f["bytes"]
    if at != len(fabric.constants):
        findings.add("FVC343", "constants that no unit takes", device)
    if [tuple(v) for v in fabric.symbols.values()] != [
        (p.fields["offset"], p.fields["bytes"]) for p in fabric.preloads()
    ]:
        findings.add("FVC343", "the symbols are not those of the preloads", device)
    for k, unit in enumerate(known):
        have = given.pop(k, {})
        for slot, (size, exact) in unit.slots.items():
            got = have.pop(slot, 0)
            if got < size or (exact and got != size):
                what = f"memory {slot} is filled with {got} bytes, it has {size}"
                findings.add("FVC343", what, *_where(device, fabric, k))
        if have:
            findings.add("FVC343", f"memory {min(have)} is not there", *_where(device, fabric, k))
    if given:
        findings.add("FVC343", f"a preload of unit {min(given)}, which is not there", device)


def _budgets(device: str, fabric: Fabric, findings: Findings) -> None:
    """FVC344: what stands on a die fits it, and what crosses a boundary finds its wires."""
    units = fabric.units()
    used = [Resources() for _ in fabric.dies]
    wires: dict[tuple[int, int], int] = {}
    for ins in units:
        die = ins.fields["die"]
        used[die] = used[die] + unit_resources(ins, fabric.dies[die].family)
    for con in fabric.streams():
        f = con.fields
        if max(f["source"], f["target"]) >= len(units):
            continue
        a, b = (units[f[k]].fields["die"] for k in ("source", "target"))
        used[b] = used[b] + fifo_resources(f["pe"] * f["bits"], f["depth"], f["memory"], fabric.dies[b].family)
        step = 1 if b > a else -1
        for k in range(a, b, step):
            wires[(k, k + step)] = wires.get((k, k + step), 0) + stream_wires(f["pe"] * f["bits"])
    for die, have, need in zip(range(len(used)), fabric.dies, used, strict=True):
        for t in RESOURCE_TYPES:
            if getattr(need, t) > getattr(have, t):
                what = f"{t.upper()}: {getattr(need, t):,} needed, {getattr(have, t):,} usable"
                findings.add("FVC344", what, f"{device}/{fabric.dies[die].name}")
    for (a, b), crossing in sorted(wires.items()):
        if crossing > fabric.dies[min(a, b)].wires:
            what = f"SLL wires: {crossing:,} needed, {fabric.dies[min(a, b)].wires:,} there"
            findings.add("FVC344", what, f"{device}/{fabric.dies[a].name}>{fabric.dies[b].name}")


def _rows(device: str, fabric: Fabric, findings: Findings) -> None:
    """FVC340: a row that names a tensor says its type and shape, and the unit gives as many elements; a piece's row as
    many as its box has."""
    for k, row in enumerate(fabric.rows):
        bridge = fabric.units()[k].op in BRIDGES
        told = row.role in ("output", "piece") or bridge
        if (row.role == "piece") != bool(row.box) or (row.role == "piece" and not _lies(row)):
            what = f"a piece {list(row.box)} by axes {list(row.axes)} of {row.tensor}{list(row.shape)}"
            findings.add("FVC340", what, *_where(device, fabric, k))
            continue
        if (
            row.role not in ("output", "piece", "inner", "boundary")
            or told != bool(row.tensor)
            or told != bool(row.dtype)
        ):
            findings.add("FVC340", f"role {row.role!r} of tensor {row.tensor!r}", *_where(device, fabric, k))
        elif bridge:
            if row.role != "boundary" or not _holds(fabric.units()[k].fields, row.dtype, row.shape):
                what = f"{row.tensor}{list(row.shape)} of {row.dtype} is not what the bridge holds"
                findings.add("FVC340", what, *_where(device, fabric, k))
        elif told and (row.dtype not in _BYTES or not _gives(fabric.units()[k], _sizes(row.box) or row.shape)):
            what = f"{row.tensor}{list(row.shape)} is not what the unit gives"
            findings.add("FVC340", what, *_where(device, fabric, k))


def _folding(device: str, fabric: Fabric, findings: Findings) -> None:
    """FVC340: the folding metadata has the engines, layers and dies of the units (units at a port stand elsewhere)."""
    if not fabric.folding:
        return
    units = fabric.units()
    own = {(r.engine, r.node, fabric.dies[i.fields["die"]].name) for r, i in zip(fabric.rows, units, strict=True)
           if r.role != "boundary"}  # fmt: skip
    told = {(str(f.get("engine")), str(f.get("layer")), str(f.get("die"))) for f in fabric.folding}
    names = {(e, n) for e, n, _ in told}
    strange = [r.node for r in fabric.rows if (r.engine, r.node) not in names]
    if own != told or strange or len(told) != len(fabric.folding):
        findings.add("FVC340", "the folding metadata has other engines, layers or dies than the units", device)
    if any(e != f"{device}/{die}/{e.rpartition('/')[2]}" for e, _, die in told):
        findings.add("FVC340", "an engine's name does not say where it stands", device)


def _sizes(box: Sequence[int]) -> tuple[int, ...]:
    return tuple(b - a for a, b in zip(box[0::2], box[1::2], strict=True))


def _lies(row: UnitRow) -> bool:
    """Whether a piece's box lies in its tensor, and its axes are an order of the four."""
    if len(row.box) != 8 or sorted(row.axes) != [0, 1, 2, 3] or min(row.shape, default=1) < 1:
        return False
    inside = zip(row.box[0::2], row.box[1::2], storage4(row.shape), strict=True)
    return all(0 <= a < b <= n for a, b, n in inside)


def _gives(ins: Instruction, shape: tuple[int, ...]) -> bool:
    out = ports(ins).outputs
    return bool(out) and out[0].pe * out[0].words == prod(shape)


def _holds(f: dict[str, int], dtype: str, shape: tuple[int, ...]) -> bool:
    """Whether a bridge's frame is a tensor of this type and shape."""
    size = _BYTES.get(dtype, 0)
    typed = container_bytes(f["bits"]) == size and (bool(f["signed"]) == (dtype != "u8") or f["bits"] < 8 * size)
    return typed and min(shape, default=1) > 0 and storage4(shape) == tuple(f[k] for k in FRAME)


def _boundaries(
    program: DeviceProgram,
    fabric: Fabric,
    channels: dict[int, Channel],
    ends: dict[int, dict[str, Instruction]],
    findings: Findings,
) -> None:
    """FVC346: SRC and SNK stand at the ends of their channels, one each; the host's messages are theirs."""
    for k, ins in enumerate(fabric.units()):
        if ins.op not in ("SRC", "SNK"):
            continue
        f = ins.fields
        c = channels.get(f["channel"])
        way = (f["rank"], fabric.rank) if ins.op == "SRC" else (fabric.rank, f["rank"])
        if c is None or (c.source_rank, c.target_rank) != way or f["bytes"] != c.max_bytes:
            what = f"channel {f['channel']} does not lead there, or has messages of another size"
            findings.add("FVC346", what, *_where(program.name, fabric, k))
        elif ins.op in ends.setdefault(c.id, {}):
            findings.add("FVC346", f"channel {c.id} has two ends of a kind", *_where(program.name, fabric, k))
        else:
            ends[c.id][ins.op] = ins
    seen: set[int] = set()
    for m in program.host:
        where = f"{program.name}, host message of {m.tensor}"
        c = channels.get(m.channel)
        wanted = (HOST_RANK, fabric.rank) if m.to_core else (fabric.rank, HOST_RANK)
        if c is None or (c.source_rank, c.target_rank) != wanted or m.channel in seen:
            findings.add("FVC346", f"channel {m.channel} is not the host's, or carries two tensors", where)
            continue
        seen.add(m.channel)
        if not 0 <= m.replica < program.replicas:
            findings.add("FVC346", f"it is for copy {m.replica} of {program.replicas}", where)
        unit = ends.get(m.channel, {}).get("SRC" if m.to_core else "SNK")
        if unit is None or unit.fields["tag"] != m.tag or m.stage or not _whole(m, unit.fields):
            findings.add("FVC346", "the message is not the tensor in the order of the stream", where)


def _whole(m: HostMessage, f: dict[str, int]) -> bool:
    """Whether the message is all of its tensor, in the order n, h, w, c."""
    if m.dtype not in _BYTES or min(m.shape, default=1) < 1:
        return False
    n, c, h, w = storage4(m.shape)
    if len(m.offsets) != n:
        return False
    size = _BYTES[m.dtype]
    strides = tuple(s if k > 1 else 0 for s, k in zip((w * size, size, h * w * size), (h, w, c), strict=True))
    offsets = tuple(k * c * h * w * size for k in range(n))
    alike = (m.counts, m.strides, tuple(m.offsets), m.elem) == ((h, w, c), strides, offsets, size)
    signed = m.dtype != "u8"
    typed = container_bytes(f["bits"]) == size and (bool(f["signed"]) == signed or f["bits"] < 8 * size)
    return alike and typed and (f["pixels"], f["channels"]) == (n * h * w, c)


def _pairs(channels: dict[int, Channel], ends: dict[int, dict[str, Instruction]], findings: Findings) -> None:
    """FVC346: every channel has both its ends, which move the same frames, and all have as many credits."""
    if len({c.capacity for c in channels.values()}) > 1:
        findings.add("FVC346", "channels differ in capacity")
    for c in channels.values():
        mine = ends.get(c.id, {})
        wanted = {"SRC"} if c.source_rank == HOST_RANK else {"SNK"} if c.target_rank == HOST_RANK else {"SRC", "SNK"}
        if set(mine) != wanted:
            findings.add(
                "FVC346", f"the channel has the ends {sorted(mine)}, it needs {sorted(wanted)}", f"channel {c.id}"
            )
        elif len(mine) == 2:
            a, b = mine["SNK"].fields, mine["SRC"].fields
            if any(a[k] != b[k] for k in ("bits", "signed", "pixels", "channels", "tag", "bytes")):
                findings.add("FVC346", "its ends move other frames", f"channel {c.id}")


def check_outputs(programs: Sequence[DeviceProgram], findings: Findings) -> None:
    """FVC347: every copy of the net stands by itself and makes each tensor once, no two pieces of it overlap, and every
    output of the graph that the host does not make reaches it from each. Beside cores there is one copy."""
    netlists = [p for p in programs if p.fabric is not None]
    mixed = any(p.cores for p in programs)
    copy_of, strange = copies_of(netlists)
    for at, k in strange[:8]:
        fabric = netlists[at].fabric
        assert fabric is not None
        findings.add("FVC347", "the unit serves no copy of the net, or several", *_where(netlists[at].name, fabric, k))
    copies = range(programs[0].replicas)
    by_cores = {row.tensor for p in programs for core in p.cores for row in core.debug if row.role == "output"}
    made: list[set[str]] = [set(by_cores) for _ in copies]
    pieces: list[dict[str, list[tuple[int, ...]]]] = [{} for _ in copies]
    for at, p in enumerate(netlists):
        assert p.fabric is not None
        for k, row in enumerate(p.fabric.rows):
            if row.role == "piece":
                others = pieces[copy_of[(at, k)]].setdefault(row.tensor, [])
                if any(_overlap(row.box, box) for box in others):
                    findings.add("FVC347", f"a piece of {row.tensor} is made twice", *_where(p.name, p.fabric, k))
                others.append(row.box)
            if row.role != "output":
                continue
            own = made[copy_of[(at, k)]]
            if row.tensor in own:
                findings.add("FVC347", f"{row.tensor} is made twice", *_where(p.name, p.fabric, k))
            own.add(row.tensor)
    for copy in copies:
        for name in sorted(set(pieces[copy]) - made[copy]):
            findings.add("FVC347", f"{name} is made in pieces that nothing puts together", programs[0].name)
        if made[copy] != made[0]:
            other = sorted(made[copy] ^ made[0])[0]
            findings.add("FVC347", f"copies 0 and {copy} do not both make {other}", programs[0].name)
        moved = [(m.tensor, m.to_core) for p in programs for m in p.host if m.replica == copy]
        twice = next((t for k, (t, to_core) in enumerate(moved) if not to_core and (t, to_core) in moved[:k]), None)
        if twice is not None and not mixed:
            findings.add("FVC347", f"copy {copy} sends {twice} to the host twice", programs[0].name)
        arrives = {tensor for tensor, to_core in moved if not to_core}
        for name, root in programs[0].outputs.items():
            if root in made[copy] and root not in arrives:
                of = f" of copy {copy}" if len(copies) > 1 else ""
                findings.add("FVC347", f"output {name}{of} never reaches the host", programs[0].name)
    if any((p.outputs, p.aliases) != (programs[0].outputs, programs[0].aliases) for p in programs):
        findings.add("FVC347", "the binaries disagree on outputs or aliases", programs[0].name)


def _overlap(a: Sequence[int], b: Sequence[int]) -> bool:
    ends = zip(a[0::2], a[1::2], b[0::2], b[1::2], strict=True)
    return all(low < other_high and other_low < high for low, high, other_low, other_high in ends)


def _circle(fabric: Fabric) -> list[int]:
    """Units on a circle of streams, or none."""
    units = len(fabric.units())
    after: list[list[int]] = [[] for _ in range(units)]
    into = [0] * units
    for con in fabric.streams():
        after[con.fields["source"]].append(con.fields["target"])
        into[con.fields["target"]] += 1
    ready = [k for k in range(units) if not into[k]]
    while ready:
        for k in after[ready.pop()]:
            into[k] -= 1
            if not into[k]:
                ready.append(k)
    return [k for k in range(units) if into[k]]


def check_halts(programs: Sequence[DeviceProgram], findings: Findings) -> None:
    """FVC345: no circle of streams, and no FIFO too small for what must wait in it."""
    for p in programs:
        if p.fabric is None:
            continue
        circle = _circle(p.fabric)
        if circle:
            findings.add("FVC345", "the units feed each other in a circle", *_where(p.name, p.fabric, circle[0]))
            return
    network = build(programs).network
    busy = busiest_ps(network)
    for times in SLOWER:  # a steady schedule at any period is a proof, and soon made
        found = steady_near(network, busy * times)
        if found is not None and not broken(network, found):
            return
    try:
        network.play(PLAYED_FRAMES)
    except Stuck as stuck:
        findings.add("FVC345", "the netlist comes to a halt: units wait for each other", *stuck.waiting[:8])
