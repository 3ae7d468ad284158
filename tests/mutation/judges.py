"""The judges of a broken binary, in the order in which a user meets them: reader, static checker, the rules of the
machine executor, comparison of every tensor with ONNX Runtime."""

from __future__ import annotations

import random
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from compiler.executor.verify import verify_programs
from compiler.isa.check import check_programs
from compiler.isa.container import read_device, write_device
from device_db.errors import FvcError
from tests.mutation.mutants import KINDS, Kind, Programs, Unchanged, mutate

Accumulators = dict[tuple[int, int], bytes]
JUDGES = ("reader", "checker", "machine", "comparison", "survivor")


@dataclass(frozen=True, slots=True)
class Verdict:
    """judge: who caught it, or "survivor". equal: whether a survivor's accumulators are all those of the original."""

    kind: str
    judge: str
    what: str
    equal: bool = False


class Bench:
    """The judges over one bundle: its model, host segments and stress inputs (all-minimum, all-maximum, random)."""

    def __init__(self, programs: Programs, model: bytes, host: dict[str, bytes], frames: int = 8) -> None:
        self.programs, self.model, self.host, self.frames = programs, model, host, frames
        self.seen = {self._digest([write_device(p) for p in programs])}
        findings = check_programs(programs)
        assert not findings, findings
        passed, self.accumulators = self.compare(programs)
        assert passed

    @staticmethod
    def _digest(files: list[bytes]) -> bytes:
        return sha256(b"".join(files)).digest()

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
        """Kind, what was done and the files of mutant `seed`; no two mutants of a bench are equal."""
        rng, kind = random.Random(seed), kinds[seed % len(kinds)]
        while True:
            try:
                what, files = mutate(kind, rng, self.programs)
            except Unchanged:
                continue
            if (digest := self._digest(files)) not in self.seen:
                self.seen.add(digest)
                return kind.__name__, what, files

    def judge(
        self,
        seed: int,
        kinds: tuple[Kind, ...] = KINDS,
        orders: tuple[int | None, ...] = (None,),
        checker: bool = True,
    ) -> Verdict:
        """Without the checker, the executor has to judge what the checker would have refused."""
        kind, what, files = self.mutant(seed, kinds)
        try:
            programs = [read_device(f) for f in files]
        except FvcError as error:
            return Verdict(kind, "reader", f"{what} ({error.code})")
        if checker and (findings := check_programs(programs)):
            return Verdict(kind, "checker", f"{what} ({findings[0].code})")
        equal = True
        for order in orders:
            try:
                passed, accumulators = self.compare(programs, order)
            except FvcError as error:
                return Verdict(kind, "machine", f"{what} ({error.code})")
            if not passed:
                return Verdict(kind, "comparison", what)
            equal = equal and accumulators == self.accumulators
        return Verdict(kind, "survivor", what, equal)
