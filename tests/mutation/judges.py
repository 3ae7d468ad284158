"""The judges of a broken binary, in the order in which a user meets them: reader, static checker, the device (which
refuses another hardware description than its own), the rules of the machine executor, comparison with ONNX Runtime."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from compiler.executor.verify import verify_programs
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from compiler.isa.fingerprint import compare_fabric, compare_hardware
from compiler.isa.stream.program import FabricDie
from device_db.errors import FvcError
from tests.mutation.equivalent import same_results
from tests.mutation.mutants import KINDS, Kind, Programs, Unchanged, mutate

Accumulators = dict[tuple[int, int], bytes]
DRAWS = 20  # of one kind, before the next one is tried
JUDGES = ("reader", "checker", "device", "machine", "comparison", "equivalent", "survivor")


@dataclass(frozen=True, slots=True)
class Verdict:
    """judge: who caught it, "equivalent" (no mutant, see equivalent.py) or "survivor". equal: whether the accumulators
    of one that was not caught are all those of the original. digest: SHA-256 of the files. code: what refused them."""

    kind: str
    judge: str
    what: str
    equal: bool = False
    digest: str = ""
    code: str = ""


class Bench:
    """The judges over one bundle: its model, host segments and stress inputs (all-minimum, all-maximum, random)."""

    def __init__(
        self, programs: Programs, model: bytes, host: dict[str, bytes], frames: int = 8, kinds: tuple[Kind, ...] = KINDS
    ) -> None:
        self.programs, self.model, self.host, self.frames, self.kinds = programs, model, host, frames, kinds
        self.hardware = [c.engine for p in programs for c in p.cores]
        self.dies = _dies(programs)
        self.original = [write_device(p) for p in programs]
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

    def mutant(self, seed: int, kinds: tuple[Kind, ...]) -> tuple[str, str, list[bytes]]:
        """Kind, what was done and the files of mutant `seed`: of the kind that the seed asks for, or of the next one
        that has something to change in this bundle."""
        rng = random.Random(seed)
        for turn in range(len(kinds)):
            kind = kinds[(seed + turn) % len(kinds)]
            for _ in range(DRAWS):
                try:
                    what, files = mutate(kind, rng, self.programs)
                except Unchanged:
                    continue
                if files != self.original:
                    return kind.__name__, what, files
        raise AssertionError("nothing to change")

    def judge(
        self,
        seed: int,
        kinds: tuple[Kind, ...] | None = None,
        orders: tuple[int | None, ...] = (None,),
        checker: bool = True,
    ) -> Verdict:
        """Without the checker, the executor has to judge what the checker would have refused."""
        kind, what, files = self.mutant(seed, kinds or self.kinds)
        digest = sha256(b"".join(files)).hexdigest()

        def by(judge: str, code: str = "", equal: bool = False) -> Verdict:
            return Verdict(kind, judge, what, equal, digest, code)

        try:
            programs = [read_device(f) for f in files]
        except FvcError as error:
            return by("reader", error.code)
        if checker and (findings := check_programs(programs)):
            return by("checker", findings[0].code)
        found = [c.engine for p in programs for c in p.cores]
        if compare_hardware(self.hardware, found) or compare_fabric(self.dies, _dies(programs)):
            return by("device")
        equal = True
        for order in orders:
            try:
                passed, accumulators = self.compare(programs, order)
            except FvcError as error:
                return by("machine", error.code)
            if not passed:
                return by("comparison")
            equal = equal and accumulators == self.accumulators
        return by("equivalent" if equal and same_results(self.programs, programs) else "survivor", equal=equal)


def _dies(programs: Programs) -> list[FabricDie]:
    return [d for p in programs if p.fabric is not None for d in p.fabric.dies]
