"""Seeded mutants of a bundle's binaries, and the judges in the order in which a user meets them.

A mutant of a program is written again with every hash and golden CRC right, so that only what it says is wrong; a
mutant of a file has its section hashes repaired. The judges: reader, static checker, machine executor (a broken rule
of the machine), comparison with ONNX Runtime.
"""

from __future__ import annotations

import copy
import random
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.executor.verify import verify_programs
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.isa.encoding import decode, encode
from compiler.isa.file import read_header, repair_hashes
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.table import BY_NAME, Queue
from device_db.errors import FvcError

Programs = list[DeviceProgram]
Accumulators = dict[tuple[int, int], bytes]
JUDGES = ("reader", "checker", "machine", "comparison", "survivor")
LENGTHS = ("n0", "n1", "n2", "n3", "m", "n", "c", "count", "bytes", "outer", "axis", "inner", "oh", "ow", "kh", "kw")


class Unchanged(Exception):
    """This draw found nothing to change; draw again."""


def some_queue(rng: random.Random, programs: Programs, least: int = 1) -> list[Instruction]:
    queues = [q for p in programs for c in p.cores for q in c.queues.values() if len(q) >= least]
    return rng.choice(queues)


def some_instruction(rng: random.Random, programs: Programs) -> tuple[list[Instruction], int]:
    """Every instruction is as likely as another."""
    all_of_them = [(q, k) for p in programs for c in p.cores for q in c.queues.values() for k in range(len(q))]
    return rng.choice(all_of_them)


def flip_bit(rng: random.Random, programs: Programs) -> str:
    """One bit of one instruction's words, as encoded."""
    queue, k = some_instruction(rng, programs)
    words = np.array(encode([queue[k]]))
    at, bit = rng.randrange(words.size), rng.randrange(64)
    words.reshape(-1)[at] ^= np.uint64(1 << bit)
    changed = decode(words)  # the reader's judgement may fall here
    if len(changed) != 1:
        raise FvcError("FVC310", "the word is no longer one instruction")
    old, queue[k] = queue[k], changed[0]
    return f"bit {64 * at + bit} of {old.op}"


def drop_token(rng: random.Random, programs: Programs) -> str:
    queue, k = some_instruction(rng, programs)
    ins = queue[k]
    bits = [(name, q) for name in ("wait", "post") for q in range(len(Queue)) if getattr(ins, name) >> q & 1]
    if not bits:
        raise Unchanged
    name, q = rng.choice(bits)
    setattr(ins, name, getattr(ins, name) & ~(1 << q))
    return f"{ins.op} no longer has {name} {Queue(q).name}"


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


def swap(rng: random.Random, programs: Programs) -> str:
    queue = some_queue(rng, programs, 2)
    a = rng.randrange(len(queue))
    b = (a + rng.choice((1, 1, 2, 5))) % len(queue)
    if a == b or queue[a] == queue[b]:
        raise Unchanged
    queue[a], queue[b] = queue[b], queue[a]
    return f"{queue[a].op} and {queue[b].op} swapped in {queue[a].queue.name}"


def shift_address(rng: random.Random, programs: Programs) -> str:
    queue, k = some_instruction(rng, programs)
    names = [f.name for f in BY_NAME[queue[k].op].fields if f.name.endswith("_addr")]
    if not names:
        raise Unchanged
    name, by = rng.choice(names), rng.choice((-64, -4, -1, 1, 4, 16, 64, 4096))
    value = queue[k].fields.get(name, 0) + by
    if value < 0:
        raise Unchanged
    queue[k].fields[name] = value
    return f"{queue[k].op} {name} {by:+d}"


def wrong_length(rng: random.Random, programs: Programs) -> str:
    queue, k = some_instruction(rng, programs)
    names = [f.name for f in BY_NAME[queue[k].op].fields if f.name in LENGTHS]
    if not names:
        raise Unchanged
    name, by = rng.choice(names), rng.choice((-1, 1, 1, 2))
    value = queue[k].fields.get(name, 0) + by
    if value < 0:
        raise Unchanged
    queue[k].fields[name] = value
    return f"{queue[k].op} {name} {by:+d}"


def drop_instruction(rng: random.Random, programs: Programs) -> str:
    queue, k = some_instruction(rng, programs)
    return f"{queue.pop(k).op} dropped"


def repeat_instruction(rng: random.Random, programs: Programs) -> str:
    queue, k = some_instruction(rng, programs)
    if not (queue[k].wait or queue[k].post or queue[k].op in ("TX", "RX")):
        raise Unchanged  # loading or checking the same twice is no fault
    queue.insert(k, copy.deepcopy(queue[k]))
    return f"{queue[k].op} repeated"


def constant_byte(rng: random.Random, programs: Programs) -> str:
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


def marking(rng: random.Random, programs: Programs) -> str:
    core = rng.choice([c for p in programs for c in p.cores])
    rows = [list(r) for r in core.marking]
    a, b = rng.randrange(6), rng.randrange(6)
    before, rows[a][b] = rows[a][b], max(0, rows[a][b] + rng.choice((-1, 1)))
    if tuple(map(tuple, rows)) == core.marking:
        raise Unchanged
    core.marking = tuple(tuple(r) for r in rows)
    return f"marking {Queue(a).name}->{Queue(b).name} {before} to {rows[a][b]}"


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
    if "strides" in change and m.counts[1] == 1:
        raise Unchanged
    program.host[k] = replace(m, **change)
    return f"host message of {m.tensor}: {next(iter(change))}"


def file_byte(rng: random.Random, programs: Programs) -> str:
    """A bit of a critical section (the optional ones describe and do nothing), all section hashes repaired."""
    k = rng.randrange(len(programs))
    data = bytearray(write_device(programs[k]))
    sections = [e for e in read_header(bytes(data)).sections if e.critical and e.size]
    section = rng.choice(sections)
    at = section.offset + rng.randrange(section.size)
    data[at] ^= 1 << rng.randrange(8)
    programs[k] = read_device(repair_hashes(bytes(data)))
    return f"file byte {at} in {section.name}"


Kind = Callable[[random.Random, Programs], str]
KINDS: tuple[Kind, ...] = (
    flip_bit, flip_bit, flip_bit, drop_token, swap, shift_address, wrong_length, drop_instruction, repeat_instruction,
    constant_byte, host_message, file_byte,
)  # fmt: skip
# Both ends of a token dropped, or a credit more or less, may leave a program that is as legal as before: where another
# chain of tokens gives the same order. So these are caught, or must be right in every order.
LOOSENING: tuple[Kind, ...] = (drop_pair, marking)


class Bench:
    """The judges over one bundle: its model, host segments and stress inputs (all-minimum, all-maximum, random)."""

    def __init__(self, programs: Programs, model: bytes, host: dict[str, bytes], frames: int = 8) -> None:
        self.programs, self.model, self.host, self.frames = programs, model, host, frames
        findings = check_programs(programs)
        assert not findings, findings
        passed, self.accumulators = self.compare(programs)
        assert passed

    def compare(self, programs: Programs, order_seed: int | None = None) -> tuple[bool, Accumulators]:
        """Does every tensor agree; and the accumulators of each (rank, frame) in program order."""
        seen: dict[tuple[int, int], list[tuple[int, bytes]]] = {}

        def hook(rank: int, index: int, frame: int, acc: np.ndarray[Any, Any]) -> None:
            seen.setdefault((rank, frame), []).append((index, acc.tobytes()))

        report = verify_programs(
            programs, self.model, self.host, frames=self.frames, order_seed=order_seed, on_accumulator=hook
        )
        return report.passed, {k: b"".join(a for _, a in sorted(v)) for k, v in seen.items()}

    def judge(
        self,
        seed: int,
        kinds: tuple[Kind, ...] = KINDS,
        orders: tuple[int | None, ...] = (None,),
        checker: bool = True,
    ) -> tuple[str, str, bool]:
        """(judge that caught mutant `seed` or "survivor", what it is, are all accumulators equal).

        Without the checker, the executor has to judge what the checker would have refused."""
        rng = random.Random(seed)
        while True:
            mutant = copy.deepcopy(self.programs)
            kind = kinds[seed % len(kinds)]
            name = kind.__name__
            try:
                name = f"{name}: {kind(rng, mutant)}"
                mutant = [read_device(write_device(p)) for p in mutant]
            except Unchanged:
                continue
            except FvcError as error:
                return "reader", f"{name} ({error.code})", False
            if mutant != self.programs:
                break
        if checker and (findings := check_programs(mutant)):
            return "checker", f"{name} ({findings[0].code})", False
        equal = True
        for order in orders:
            try:
                passed, accumulators = self.compare(mutant, order)
            except FvcError as error:
                return "machine", f"{name} ({error.code})", False
            if not passed:
                return "comparison", name, False
            equal = equal and accumulators == self.accumulators
        return "survivor", name, equal
