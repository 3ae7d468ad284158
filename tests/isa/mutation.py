"""Mutants of a bundle's binaries, and the judges in the order in which a user meets them.

Text mutants are written anew, so that every hash and golden CRC fits them: only their meaning can betray them. Flips in
tables and constants get new SHA-256s only, as someone who edits a file would do.
"""

from __future__ import annotations

import copy
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compiler.executor.faults import MachineError
from compiler.executor.machine import Machine
from compiler.isa import decode, read_device, write_device
from compiler.isa.check import check_programs
from compiler.isa.encoding import encode
from compiler.isa.file import read_header, repair_hashes
from compiler.isa.layout import LAYOUTS
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.sections import SectionType
from compiler.isa.table import Queue
from device_db.errors import FvcError

Frames = list[dict[str, np.ndarray[Any, Any]]]
# What a driver obeys; names, notes and timing figures are not the program.
FLIPPED_SECTIONS = (
    SectionType.CONSTANTS,
    SectionType.CORES,
    SectionType.QUEUES,
    SectionType.RELOCATIONS,
    SectionType.SYMBOLS,
    SectionType.MEMORY_MAP,
    SectionType.PACKETS,
    SectionType.HOST_IO,
    SectionType.OUTPUTS,
    SectionType.CHANNELS,
    SectionType.GOLDEN,
    SectionType.DEBUG,
    SectionType.HARDWARE,
    SectionType.DEVICE,
)
_ADDRESSES = (
    "dram_addr",
    "scratch_addr",
    "act_addr",
    "wgt_addr",
    "acc_addr",
    "tab_addr",
    "dst_addr",
    "src_addr",
    "a_addr",
    "b_addr",
)
_LENGTHS = (
    *("n3", "n2", "n1", "n0", "m", "n", "c", "count", "bytes", "oh", "ow", "kh", "kw", "in_h", "in_w", "axis"),
    *("pad_top", "pad_left", "pad_bottom", "pad_right", "depth", "groups", "frame_stride", "dram_s1", "dram_s2"),
    *("scratch_s1", "scratch_s2"),
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """kind and a sentence; `files` the binaries, one of them changed."""

    kind: str
    what: str
    files: list[bytes]


@dataclass(slots=True)
class Place:
    """A mutable copy of the bundle with one instruction picked."""

    programs: list[DeviceProgram]
    device: int
    queue: list[Instruction]
    index: int
    name: str

    @property
    def instruction(self) -> Instruction:
        return self.queue[self.index]


def _pick(programs: list[DeviceProgram], rng: random.Random, want: Callable[[Instruction], bool]) -> Place | None:
    spots = [
        (d, c, q, k)
        for d, p in enumerate(programs)
        for c, core in enumerate(p.cores)
        for q, body in core.queues.items()
        for k, i in enumerate(body)
        if want(i)
    ]
    if not spots:
        return None
    d, c, q, k = rng.choice(spots)
    copies = [copy.deepcopy(p) if n == d else p for n, p in enumerate(programs)]
    core = copies[d].cores[c]
    return Place(
        copies, d, core.queues[q], k, f"{copies[d].name} core {core.rank} {q.name}[{k}] {core.queues[q][k].op}"
    )


def _written(place: Place, files: list[bytes]) -> list[bytes]:
    return [write_device(p) if n == place.device else files[n] for n, p in enumerate(place.programs)]


def flip_text(programs, files, rng) -> Mutant:
    """One to three bits of one instruction; what the decoder refuses is given to the reader as it is."""
    place = _pick(programs, rng, lambda i: True)
    words = encode([place.instruction])
    bits = [
        (rng.randrange(len(words)), rng.randrange(4), rng.randrange(64)) for _ in range(rng.choice((1, 1, 1, 2, 3)))
    ]
    for word, lane, bit in bits:
        words[word, lane] ^= np.uint64(1 << bit)
    what = f"{place.name}: flips {bits}"
    try:
        place.queue[place.index] = decode(words)[0]
        return Mutant("flipped text", what, _written(place, files))
    except FvcError:
        data = bytearray(files[place.device])
        text = next(e for e in read_header(bytes(data)).sections if e.type == SectionType.TEXT)
        whole = np.frombuffer(bytes(data[text.offset : text.offset + text.size]), "<u8").reshape(-1, 4)
        first = next(
            k
            for k in range(len(whole))
            if np.array_equal(whole[k : k + len(words)], encode([_original(programs, place)]))
        )
        data[text.offset + 32 * first : text.offset + 32 * (first + len(words))] = words.astype("<u8").tobytes()
        return Mutant(
            "flipped text", what, [repair_hashes(bytes(data)) if n == place.device else f for n, f in enumerate(files)]
        )


def _original(programs: list[DeviceProgram], place: Place) -> Instruction:
    for core in programs[place.device].cores:
        mutated = next(c for c in place.programs[place.device].cores if c.rank == core.rank)
        for q, body in mutated.queues.items():
            if body is place.queue:
                return core.queues[q][place.index]
    raise AssertionError


def flip_section(programs, files, rng) -> Mutant:
    """One bit of a table or of the constants, SHA-256s repaired."""
    device = rng.randrange(len(files))
    data = bytearray(files[device])
    sections = [e for e in read_header(files[device]).sections if e.type in FLIPPED_SECTIONS and e.size > 16]
    entry = rng.choice(sections)
    low = 0 if entry.type == SectionType.CONSTANTS else 16
    at, bit = entry.offset + rng.randrange(low, entry.size), rng.randrange(8)
    data[at] ^= 1 << bit
    what = f"{programs[device].name}: {entry.name} byte {at - entry.offset} bit {bit}"
    return Mutant(
        "flipped table", what, [repair_hashes(bytes(data)) if n == device else f for n, f in enumerate(files)]
    )


def drop_token(programs, files, rng) -> Mutant:
    """One wait or post less; sometimes one post more; sometimes a matching pair less."""
    style = rng.choices(("wait", "post", "more", "pair"), (3, 3, 2, 1))[0]
    if style == "more":
        place = _pick(programs, rng, lambda i: True)
        other = rng.choice([q for q in Queue if q != place.instruction.queue])
        place.instruction.post |= 1 << other
        return Mutant("tokens", f"{place.name}: posts to {other.name} too", _written(place, files))
    place = _pick(programs, rng, lambda i: bool(i.wait if style == "wait" else i.post))
    i = place.instruction
    mask = i.wait if style == "wait" else i.post
    other = rng.choice([q for q in Queue if mask >> q & 1])
    if style == "wait":
        i.wait &= ~(1 << other)
    else:
        i.post &= ~(1 << other)
    what = f"{place.name}: no {style} {other.name}"
    if style == "pair":
        core = next(c for c in place.programs[place.device].cores if any(b is place.queue for b in c.queues.values()))
        waits = [w for w in core.queues[other] if w.wait >> i.queue & 1]
        rng.choice(waits).wait &= ~(1 << i.queue)
    return Mutant("tokens", what, _written(place, files))


def swap(programs, files, rng) -> Mutant:
    place = _pick(programs, rng, lambda i: True)
    body, k = place.queue, place.index
    if len(body) < 2:
        return drop_instruction(programs, files, rng)
    j = k + 1 if k + 1 < len(body) and rng.random() < 0.7 else rng.choice([n for n in range(len(body)) if n != k])
    if rng.random() < 0.5:  # tokens stay where they are: only the work changes places
        for name in ("wait", "post"):
            a, b = getattr(body[k], name), getattr(body[j], name)
            setattr(body[k], name, b)
            setattr(body[j], name, a)
    body[k], body[j] = body[j], body[k]
    return Mutant("swapped", f"{place.name}: swapped with {j}", _written(place, files))


def drop_instruction(programs, files, rng) -> Mutant:
    place = _pick(programs, rng, lambda i: True)
    i = place.instruction
    if rng.random() < 0.5:  # its tokens stay behind on a SYNC
        place.queue[place.index] = Instruction("SYNC", i.queue, {}, 0, i.wait, i.post, 0, i.packet, i.debug)
    else:
        del place.queue[place.index]
    return Mutant("dropped", f"{place.name}: gone", _written(place, files))


def shift_address(programs, files, rng) -> Mutant:
    place = _pick(programs, rng, lambda i: any(n in i.fields for n in _ADDRESSES))
    f = place.instruction.fields
    name = rng.choice([n for n in _ADDRESSES if n in f])
    by = rng.choice((1, 4, 8, 16, 64, 128, 256, 1024, 4096)) * rng.choice((-1, 1))
    slot = next(s for s in LAYOUTS[place.instruction.op].slots if s.field.name == name)
    f[name] = min(max(f[name] + by, slot.low), slot.high) if f[name] + by >= 0 else f[name] - by
    return Mutant("shifted", f"{place.name}: {name} {by:+d}", _written(place, files))


def wrong_length(programs, files, rng) -> Mutant:
    place = _pick(programs, rng, lambda i: any(n in i.fields for n in _LENGTHS))
    f = place.instruction.fields
    name = rng.choice([n for n in _LENGTHS if n in f])
    slot = next(s for s in LAYOUTS[place.instruction.op].slots if s.field.name == name)
    value = rng.choice([v for v in (f[name] + 1, f[name] - 1, f[name] * 2, f[name] // 2) if v != f[name]])
    f[name] = min(max(value, slot.low), slot.high) if min(max(value, slot.low), slot.high) != f[name] else f[name] + 1
    return Mutant("length", f"{place.name}: {name} = {f[name]}", _written(place, files))


KINDS = (flip_text, flip_text, flip_text, flip_section, drop_token, swap, drop_instruction, shift_address, wrong_length)


def mutants(files: list[bytes], count: int, seed: int) -> Iterator[Mutant]:
    """`count` different mutants, kinds in turn; equal seeds give equal mutants."""
    rng = random.Random(seed)
    programs = [read_device(f) for f in files]
    seen = {hashlib.sha256(b"".join(files)).digest()}
    made = 0
    while made < count:
        mutant = KINDS[made % len(KINDS)](programs, files, rng)
        digest = hashlib.sha256(b"".join(mutant.files)).digest()
        if digest not in seen:
            seen.add(digest)
            made += 1
            yield mutant


def observe(programs: list[DeviceProgram], host: dict[str, bytes], frames: Frames) -> list[Any]:
    """What a run computes: outputs by frame, and the accumulators of each core by frame, whatever their order."""
    sums: Counter[tuple[int, int, bytes]] = Counter()

    def accumulator(rank: int, index: int, frame: int, acc: np.ndarray[Any, Any]) -> None:
        sums[rank, frame, hashlib.sha256(np.ascontiguousarray(acc).tobytes() + str(acc.shape).encode()).digest()] += 1

    results = Machine(programs).run(frames, host, on_accumulator=accumulator)
    outputs = [{name: (v.dtype.str, v.shape, v.tobytes()) for name, v in r.items()} for r in results]
    return [outputs, sums]


@dataclass(slots=True)
class Verdicts:
    """Mutants by kind and judge; survivors by name, with whether all that they compute is equal."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    survivors: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def add(self, mutant: Mutant, judge: str) -> None:
        self.counts.setdefault(mutant.kind, Counter())[judge] += 1

    @property
    def total(self) -> int:
        return sum(sum(c.values()) for c in self.counts.values())

    def table(self) -> str:
        judges = ("reader", "checker", "executor", "survived")
        lines = [f"{'':14s}" + "".join(f"{j:>10s}" for j in judges)]
        for kind, c in sorted(self.counts.items()):
            lines.append(f"{kind:14s}" + "".join(f"{c[j]:10d}" for j in judges))
        lines.append(f"{'all':14s}" + "".join(f"{sum(c[j] for c in self.counts.values()):10d}" for j in judges))
        return "\n".join([*lines, *(f"survivor: {s}" for s in self.survivors)])


def judge(mutant: Mutant, host: dict[str, bytes], frames: Frames, truth: list[Any], verdicts: Verdicts) -> None:
    """Reader, then checker, then executor on the stress frames; what passes all of them survives."""
    try:
        programs = [read_device(f) for f in mutant.files]
    except FvcError:
        verdicts.add(mutant, "reader")
        return
    if check_programs(programs):
        verdicts.add(mutant, "checker")
        return
    try:
        same = observe(programs, host, frames) == truth
    except MachineError:
        same = False
    if same:
        verdicts.survivors.append(f"{mutant.kind}: {mutant.what}")
    verdicts.add(mutant, "survived" if same else "executor")
