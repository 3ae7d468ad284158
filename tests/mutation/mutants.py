"""Seeded mutants of a bundle's binaries: each kind breaks one thing and says what.

A mutant of a program is written again with every hash and golden CRC right, so that only its meaning can betray it. A
mutant of a file has its SHA-256s repaired, as someone who edits a file would do.
"""

from __future__ import annotations

import copy
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.isa.container import write_device
from compiler.isa.encoding import decode, encode
from compiler.isa.file import read_header, repair_hashes
from compiler.isa.layout import LAYOUTS
from compiler.isa.program import CoreProgram, DeviceProgram, Instruction
from compiler.isa.sections import SectionType
from compiler.isa.table import BY_NAME, Queue
from device_db.errors import FvcError

Programs = list[DeviceProgram]
LENGTHS = (
    *("n3", "n2", "n1", "n0", "m", "n", "c", "count", "bytes", "outer", "axis", "inner", "oh", "ow", "kh", "kw"),
    *("in_h", "in_w", "pad_top", "pad_left", "pad_bottom", "pad_right", "depth", "groups", "frame_stride"),
    *("dram_s1", "dram_s2", "scratch_s1", "scratch_s2"),
)
SHIFTS = (1, 4, 8, 16, 64, 128, 256, 1024, 4096)


class Unchanged(Exception):
    """This draw found nothing to change; draw again."""


class Damaged(Exception):
    """The mutant is a file that no program would be written to: program number `device` becomes `data`."""

    def __init__(self, what: str, device: int, data: bytes) -> None:
        super().__init__(what)
        self.what, self.device, self.data = what, device, data


def some_instruction(
    rng: random.Random, programs: Programs, want: Callable[[Instruction], object] = lambda i: True
) -> tuple[CoreProgram, list[Instruction], int]:
    """Every instruction that is wanted is as likely as another."""
    found = [
        (c, q, k) for p in programs for c in p.cores for q in c.queues.values() for k, i in enumerate(q) if want(i)
    ]
    if not found:
        raise Unchanged
    return rng.choice(found)


def flip_text(rng: random.Random, programs: Programs) -> str:
    """One to three bits of one instruction; words that do not decode go to the reader as they are."""
    core, queue, k = some_instruction(rng, programs)
    words = np.array(encode([queue[k]]))
    before, flat = words.copy(), words.reshape(-1)
    bits = [(rng.randrange(flat.size), rng.randrange(64)) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    for at, bit in bits:
        flat[at] ^= np.uint64(1 << bit)
    what = f"bits {[64 * at + bit for at, bit in bits]} of {queue[k].op}"
    try:
        changed = decode(words)
    except FvcError:
        changed = []
    if len(changed) == 1 and changed[0].queue == queue[k].queue:
        queue[k] = changed[0]
        return what
    device = next(d for d, p in enumerate(programs) if any(c is core for c in p.cores))
    data = bytearray(write_device(programs[device]))
    text = next(e for e in read_header(bytes(data)).sections if e.type == SectionType.TEXT)
    at = bytes(data).find(before.astype("<u8").tobytes(), text.offset)
    data[at : at + before.nbytes] = words.astype("<u8").tobytes()
    raise Damaged(what, device, repair_hashes(bytes(data)))


def flip_file(rng: random.Random, programs: Programs) -> str:
    """One bit of a section, all SHA-256s repaired; a small section is as likely as a large one."""
    device = rng.randrange(len(programs))
    data = bytearray(write_device(programs[device]))
    section = rng.choice([e for e in read_header(bytes(data)).sections if e.size])
    at, bit = rng.randrange(section.size), rng.randrange(8)
    data[section.offset + at] ^= 1 << bit
    raise Damaged(f"byte {at} bit {bit} of {section.name}", device, repair_hashes(bytes(data)))


def flip_constant(rng: random.Random, programs: Programs) -> str:
    """A bit of a weight, bias or table; where the draw says so, the CRC instruction is made to agree."""
    core = rng.choice([c for p in programs for c in p.cores if c.constants])
    raw, at, bit = bytearray(core.constants), rng.randrange(len(core.constants)), rng.randrange(8)
    raw[at] ^= 1 << bit
    core.constants = bytes(raw)
    agree = rng.random() < 0.4
    for ins in core.queues.get(Queue.CTL, []) if agree else []:
        if ins.op == "CRC":
            start = ins.fields.get("dram_addr", 0)
            ins.fields["expect"] = zlib.crc32(core.constants[start : start + ins.fields["bytes"]])
    owner = next((n for n, (start, size) in core.symbols.items() if start <= at < start + size), "padding")
    return f"constant bit {at}.{bit} ({owner}){', CRC agrees' if agree else ''}"


def drop_token(rng: random.Random, programs: Programs) -> str:
    """One wait or post less."""
    _, queue, k = some_instruction(rng, programs, lambda i: i.wait or i.post)
    ins = queue[k]
    name, q = rng.choice([(name, q) for name in ("wait", "post") for q in Queue if getattr(ins, name) >> q & 1])
    setattr(ins, name, getattr(ins, name) & ~(1 << q))
    return f"{ins.op} no longer has {name} {q.name}"


def add_token(rng: random.Random, programs: Programs) -> str:
    """One post more, sometimes with a wait for it."""
    core, queue, k = some_instruction(rng, programs)
    ins = queue[k]
    others = [q for q in Queue if q != ins.queue and core.queues.get(q) and not ins.post >> q & 1]
    if not others:
        raise Unchanged
    other = rng.choice(others)
    ins.post |= 1 << other
    free = [i for i in core.queues[other] if not i.wait >> ins.queue & 1]
    if free and rng.random() < 0.5:
        taker = rng.choice(free)
        taker.wait |= 1 << ins.queue
        return f"{ins.op} posts to {other.name} too, {taker.op} waits for it"
    return f"{ins.op} posts to {other.name} too"


def drop_pair(rng: random.Random, programs: Programs) -> str:
    """A post and a wait of one semaphore both go: balanced, but something is no longer ordered."""
    core = rng.choice([c for p in programs for c in p.cores])
    pairs = [(a, b) for a in Queue for b in Queue if any(i.post >> b & 1 for i in core.queues.get(a, []))]
    if not pairs:
        raise Unchanged
    a, b = rng.choice(pairs)
    post = rng.choice([i for i in core.queues[a] if i.post >> b & 1])
    wait = rng.choice([i for i in core.queues[b] if i.wait >> a & 1])
    post.post &= ~(1 << b)
    wait.wait &= ~(1 << a)
    return f"token {a.name}->{b.name} from {post.op} to {wait.op} dropped"


def marking(rng: random.Random, programs: Programs) -> str:
    """One token more or less at the start; semaphores in use are as likely as unused ones."""
    core = rng.choice([c for p in programs for c in p.cores])
    rows = [list(r) for r in core.marking]
    used = [(a, b) for a in Queue for b in Queue if any(i.post >> b & 1 for i in core.queues.get(a, []))]
    a, b = rng.choice(used) if used and rng.random() < 0.5 else (rng.randrange(6), rng.randrange(6))
    before, rows[a][b] = rows[a][b], max(0, rows[a][b] + rng.choice((-1, 1)))
    if rows[a][b] == before:
        raise Unchanged
    core.marking = tuple(tuple(r) for r in rows)
    return f"marking {Queue(a).name}->{Queue(b).name} {before} to {rows[a][b]}"


def swap(rng: random.Random, programs: Programs) -> str:
    """Two instructions of a queue, neighbours or not, with their tokens or leaving them where they were."""
    _, queue, a = some_instruction(rng, programs)
    b = (a + rng.choice((1, 1, 1, 2, 5, rng.randrange(len(queue))))) % len(queue)
    if a == b:
        raise Unchanged
    stay = rng.random() < 0.5
    if stay:
        for name in ("wait", "post"):
            first, second = getattr(queue[a], name), getattr(queue[b], name)
            setattr(queue[a], name, second)
            setattr(queue[b], name, first)
    queue[a], queue[b] = queue[b], queue[a]
    return f"{queue[a].op} and {queue[b].op} swapped in {queue[a].queue.name}{', tokens stay' if stay else ''}"


def _set(ins: Instruction, name: str, value: int) -> None:
    """The nearest value that the field can hold."""
    slot = next(s for s in LAYOUTS[ins.op].slots if s.field.name == name)
    value = min(max(value, slot.low), slot.high)
    if value == ins.fields.get(name, 0):
        raise Unchanged
    ins.fields[name] = value


def shift_address(rng: random.Random, programs: Programs) -> str:
    _, queue, k = some_instruction(rng, programs)
    names = [f.name for f in BY_NAME[queue[k].op].fields if f.name.endswith("_addr")]
    if not names:
        raise Unchanged
    name, by = rng.choice(names), rng.choice(SHIFTS) * rng.choice((-1, 1))
    if queue[k].fields.get(name, 0) + by < 0:
        by = -by
    _set(queue[k], name, queue[k].fields.get(name, 0) + by)
    return f"{queue[k].op} {name} {by:+d}"


def wrong_length(rng: random.Random, programs: Programs) -> str:
    _, queue, k = some_instruction(rng, programs)
    names = [f.name for f in BY_NAME[queue[k].op].fields if f.name in LENGTHS]
    if not names:
        raise Unchanged
    name = rng.choice(names)
    old = queue[k].fields.get(name, 0)
    _set(queue[k], name, rng.choice((old - 1, old + 1, old + 1, old + 2, old * 2, old // 2)))
    return f"{queue[k].op} {name} {old} to {queue[k].fields[name]}"


def drop_instruction(rng: random.Random, programs: Programs) -> str:
    """Gone, with its tokens or leaving them on a SYNC."""
    _, queue, k = some_instruction(rng, programs)
    i = queue[k]
    if rng.random() < 0.5:
        del queue[k]
        return f"{i.op} dropped"
    queue[k] = Instruction("SYNC", i.queue, {}, 0, i.wait, i.post, 0, i.packet, i.debug)
    return f"{i.op} dropped, tokens stay"


def repeat_instruction(rng: random.Random, programs: Programs) -> str:
    """Twice, the second time with its tokens or without."""
    _, queue, k = some_instruction(rng, programs)
    again = copy.deepcopy(queue[k])
    bare = rng.random() < 0.5
    if bare:
        again.wait = again.post = 0
    queue.insert(k + 1, again)
    return f"{again.op} repeated{', tokens once' if bare else ''}"


def host_message(rng: random.Random, programs: Programs) -> str:
    program = rng.choice([p for p in programs if p.host])
    k = rng.randrange(len(program.host))
    m = program.host[k]
    change: dict[str, Any] = rng.choice(
        [
            {"tag": m.tag + 1},
            {"stage": m.stage + 1},
            {"offsets": tuple(o + 1 for o in m.offsets)},
            {"counts": (m.counts[0], m.counts[1], m.counts[2] + 1)},
            {"strides": (m.strides[0], m.strides[1] + 1, m.strides[2])},
            {"to_core": not m.to_core},
            {"channel": m.channel + 1},
        ]
    )
    program.host[k] = replace(m, **change)
    return f"host message of {m.tensor}: {next(iter(change))}"


def _respelt(rng: random.Random, name: str, others: list[str]) -> str:
    """Another name: one character different, or one that stands elsewhere in the program."""
    others = sorted({o for o in others if o != name})
    if others and rng.random() < 0.3:
        return rng.choice(others)
    at = rng.randrange(len(name))
    return name[:at] + rng.choice([c for c in "aZ0/#_" if c != name[at]]) + name[at + 1 :]


def rename(rng: random.Random, programs: Programs) -> str:
    """One name, in one place or in all of its device: of a table row, a task, a tensor, a node, a symbol, a link."""
    d = rng.randrange(len(programs))
    known: list[str] = []
    _each_name(programs[d], lambda place, name: (known.append(name), name)[1])
    target = rng.randrange(len(known))
    old, new = known[target], _respelt(rng, known[target], known)
    everywhere, where, k = rng.random() < 0.5, "", -1

    def change(place: str, name: str) -> str:
        nonlocal k, where
        k += 1
        if k == target:
            where = place
        return new if k == target or (everywhere and name == old) else name

    programs[d] = _each_name(programs[d], change)
    return f"{where} {old!r} to {new!r}{' everywhere' if everywhere else ''}"


def _each_name(p: DeviceProgram, change: Callable[[str, str], str]) -> DeviceProgram:
    """The program with every name that is not empty replaced by change(place, name), in a fixed order."""

    def row(place: str, record: Any, *names: str) -> Any:
        new = {n: change(f"{place} {n}", getattr(record, n)) for n in names if getattr(record, n)}
        return replace(record, **new)

    for core in p.cores:
        core.engine = row("engine", core.engine, "id", "die", "bank")
        core.symbols = {change("symbol", name): span for name, span in core.symbols.items()}
        core.packets = [row("packet", x, "task") for x in core.packets]
        core.debug = [row("debug row", x, "node", "task", "tensor", "role") for x in core.debug]
        core.memory_map = [row("placement", x, "tensor", "dtype") for x in core.memory_map]
    channels = [
        replace(row("channel", c, "transport"), links=tuple(change("channel link", x) for x in c.links))
        for c in p.channels
    ]
    return replace(
        p,
        name=change("device", p.name),
        channels=channels,
        links=[row("link", x, "id") for x in p.links],
        host=[row("host message", x, "tensor", "dtype") for x in p.host],
        outputs={change("output", a): change("output root", b) for a, b in p.outputs.items()},
        aliases={change("alias", a): (change("alias root", b), s) for a, (b, s) in p.aliases.items()},
    )


def metadata(rng: random.Random, programs: Programs) -> str:
    """A row of the folding metadata says something else of what tables and text say too, or is missing."""
    core = rng.choice([c for p in programs for c in p.cores if c.folding])
    k = rng.randrange(len(core.folding))
    row = core.folding[k]
    if rng.random() < 0.1:
        del core.folding[k]
        if not core.folding:
            raise Unchanged  # a binary without this metadata is whole
        return f"row {k} dropped"
    name = rng.choice(
        [n for n in ("task", "layer", "engine", "die", "memory", "tm", "tn", "tiles", "stage") if n in row]
    )
    old = row[name]
    row[name] = _respelt(rng, old, []) if isinstance(old, str) else int(str(old)) + rng.choice((-1, 1))
    return f"{name} {old!r} to {row[name]!r}"


def geometry(rng: random.Random, programs: Programs) -> str:
    """A number of a table: a placement, a debug box, a packet's tile, a channel, a symbol, the hardware."""
    p = rng.choice(programs)
    core = rng.choice(p.cores)
    tables: list[tuple[str, list[Any], tuple[str, ...]]] = [
        ("placement", core.memory_map, ("address", "bytes", "depth", "box")),
        ("debug row", core.debug, ("box",)),
        ("packet", core.packets, ("id", "tile")),
        ("channel", p.channels, ("id", "source_rank", "target_rank", "capacity", "max_bytes")),
    ]
    place, records, names = rng.choice([t for t in tables if t[1]])
    k, name = rng.randrange(len(records)), rng.choice(names)
    value = getattr(records[k], name)
    by = rng.choice((-1, 1)) * rng.choice((1, 1, 2, 64))
    if isinstance(value, tuple):
        if not value:
            raise Unchanged
        at = rng.randrange(len(value))
        new: Any = (*value[:at], max(0, value[at] + by), *value[at + 1 :])
    else:
        new = max(0, value + by)
    if new == value:
        raise Unchanged
    records[k] = replace(records[k], **{name: new})
    return f"{place} {name} {value} to {new}"


Kind = Callable[[random.Random, Programs], str]
KINDS: tuple[Kind, ...] = (
    flip_text, flip_text, flip_text, flip_file, flip_file, flip_constant, flip_constant, drop_token, add_token,
    drop_pair, marking, swap, shift_address, wrong_length, drop_instruction, repeat_instruction, host_message, rename,
    metadata, geometry,
)  # fmt: skip
LOOSENING: tuple[Kind, ...] = (drop_pair, marking)  # what takes away order and leaves the rest as it is


def mutate(kind: Kind, rng: random.Random, programs: Programs) -> tuple[str, list[bytes]]:
    """What was done, and the files of all devices. Raises Unchanged."""
    mutant = copy.deepcopy(programs)
    try:
        what = kind(rng, mutant)
        return f"{kind.__name__}: {what}", [write_device(p) for p in mutant]
    except Damaged as damage:
        files = [damage.data if d == damage.device else write_device(p) for d, p in enumerate(mutant)]
        return f"{kind.__name__}: {damage.what}", files
