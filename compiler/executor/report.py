"""What a verification found: as objects, as the JSON of verify.json, as JUnit XML, as text."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any
from xml.sax.saxutils import escape, quoteattr

SCHEMA = "fvc.verify/1"


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One element that differs; `index` in the tensor's ONNX shape. `batched`: `frame` counts over the whole run.

    `channel`: of an accumulator, the channel whose weights and bias it is made of.
    """

    frame: int
    index: tuple[int, ...]
    expected: int | float | bool
    got: int | float | bool
    node: str
    source: str  # engine and instruction, or the host
    batched: bool = False
    channel: int | None = None

    def shifted(self, first: int) -> Mismatch:
        return replace(self, frame=self.frame + first, batched=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "frame": self.frame,
            "index": list(self.index),
            "expected": _plain(self.expected),
            "got": _plain(self.got),
            "node": self.node,
            "source": self.source,
            **({} if self.channel is None else {"channel": self.channel}),
        }

    def __str__(self) -> str:
        at = f"frame {self.frame} {list(self.index)}" + ("" if self.channel is None else f", channel {self.channel}")
        return f"{at}: expected {self.expected}, got {self.got} ({self.source})"


def _plain(value: int | float | bool) -> int | float | bool | str:
    """The value as JSON has it: NaN and the infinities as text."""
    return value if isfinite(value) else str(value)


@dataclass(slots=True)
class Accumulators:
    """The int32 values that a tensor was requantised from: `wanted` over all frames, `compared` of these."""

    wanted: int = 0
    compared: int = 0
    mismatches: int = 0
    first: list[Mismatch] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return self.compared == self.wanted and not self.mismatches

    def as_json(self) -> dict[str, Any]:
        return {
            "wanted": self.wanted,
            "compared": self.compared,
            "mismatches": self.mismatches,
            "first": [m.as_json() for m in self.first],
        }


@dataclass(slots=True)
class TensorResult:
    """One tensor of the model.

    kind: engine (stored by binaries), host (host segment), alias (other shape of a compared tensor), index (of a table
    look-up, part of it on engines), constant, missing (nobody claims it). `elements` over all frames, `compared`
    of these; `problem` is a difference of type or shape. `accumulators`: where engines requantise it.
    `functions`: of its channels that are the model's for every operand.
    """

    tensor: str
    kind: str
    elements: int = 0
    compared: int = 0
    mismatches: int = 0
    root: str = ""
    problem: str = ""
    engines: set[str] = field(default_factory=set)
    first: list[Mismatch] = field(default_factory=list)
    accumulators: Accumulators | None = None
    functions: int = 0

    @property
    def covered(self) -> bool:
        return self.kind != "missing" and self.compared == self.elements

    @property
    def passed(self) -> bool:
        exact = self.accumulators is None or self.accumulators.passed
        return self.covered and exact and not self.mismatches and not self.problem

    def failure(self) -> str:
        """Why it did not pass, in one line, or ''."""
        if self.kind == "missing":
            return "no binary and no host segment makes this tensor"
        if self.problem:
            return self.problem
        if self.mismatches:
            return f"{self.mismatches} of {self.elements} elements differ; first: {self.first[0] if self.first else ''}"
        if self.compared != self.elements:
            return f"only {self.compared} of {self.elements} elements were compared"
        a = self.accumulators
        if a is not None and a.mismatches:
            return f"{a.mismatches} of {a.wanted} accumulators differ; first: {a.first[0] if a.first else ''}"
        if a is not None and not a.passed:
            return f"only {a.compared} of {a.wanted} accumulators were compared"
        return ""


@dataclass(slots=True)
class VerifyReport:
    """The verdict. `mismatches` counts differing elements, and each tensor that fails in another way as one more."""

    inputs: list[str]
    tensors: list[TensorResult]
    instructions: dict[str, int] = field(default_factory=dict)
    macs: int = 0
    levels_seen: int = 0
    levels_possible: int = 0
    mismatches: int = 0
    elements: int = 0
    accumulators: Accumulators = field(default_factory=Accumulators)

    def settle(self) -> None:
        """Adds up the tensors."""
        self.elements = sum(t.compared for t in self.tensors)
        self.mismatches = sum(t.mismatches or int(not t.passed) for t in self.tensors)
        known = [t.accumulators for t in self.tensors if t.accumulators is not None]
        self.accumulators = Accumulators(
            sum(a.wanted for a in known), sum(a.compared for a in known), sum(a.mismatches for a in known)
        )

    @property
    def frames(self) -> int:
        return len(self.inputs)

    @property
    def passed(self) -> bool:
        return bool(self.tensors) and self.elements > 0 and all(t.passed for t in self.tensors)

    def failures(self) -> list[TensorResult]:
        return [t for t in self.tensors if not t.passed]

    def as_json(self) -> dict[str, Any]:
        """The content of verify.json: deterministic, no times."""
        kinds = sorted({t.kind for t in self.tensors})
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "gate": "A: every element of every tensor of model.int.onnx equals ONNX Runtime at ORT_DISABLE_ALL, "
            "and every accumulator that is requantised",
            "inputs": self.inputs,
            "frames": self.frames,
            "tensors": len(self.tensors),
            "tensors_by_kind": {k: sum(t.kind == k for t in self.tensors) for k in kinds},
            "elements": self.elements,
            "mismatches": self.mismatches,
            "accumulators": {"elements": self.accumulators.compared, "mismatches": self.accumulators.mismatches},
            "functions": sum(t.functions for t in self.tensors),
            "requantiser_levels": {"seen": self.levels_seen, "possible": self.levels_possible},
            "instructions": dict(sorted(self.instructions.items())),
            "macs": self.macs,
            "compared": [
                {"tensor": t.tensor, "kind": t.kind, "elements": t.compared, "engines": sorted(t.engines)}
                | ({} if t.accumulators is None else {"accumulators": t.accumulators.compared})
                | ({"functions": t.functions} if t.functions else {})
                for t in self.tensors
            ],
            "failures": [
                {
                    "tensor": t.tensor,
                    "kind": t.kind,
                    "what": t.failure(),
                    "elements": t.elements,
                    "compared": t.compared,
                    "mismatches": t.mismatches,
                    "first": [m.as_json() for m in t.first],
                }
                | ({} if t.accumulators is None else {"accumulators": t.accumulators.as_json()})
                for t in self.failures()
            ],
        }

    def junit(self) -> str:
        """JUnit XML: a test case a tensor."""
        failures = self.failures()
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            f'<testsuite name="fvc verify" tests="{len(self.tensors)}" failures="{len(failures)}" errors="0">',
        ]
        for t in self.tensors:
            head = f"  <testcase classname={quoteattr('fvc.' + t.kind)} name={quoteattr(t.tensor)}"
            if t.passed:
                lines.append(head + "/>")
                continue
            detail = "\n".join(str(m) for m in [*t.first, *(t.accumulators.first if t.accumulators else ())])
            message = quoteattr(t.failure())
            lines.append(f"{head}><failure message={message}>{escape(detail)}</failure></testcase>")
        return "\n".join([*lines, "</testsuite>", ""])

    def text(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{len(self.tensors)} tensors, {self.elements} elements over {self.frames} frames "
            f"compared with ONNX Runtime: {self.mismatches} mismatches"
        ]
        if self.accumulators.wanted:
            lines.append(f"{self.accumulators.compared} accumulators: {self.accumulators.mismatches} mismatches")
        for t in self.failures()[:10]:
            lines.append(f"  {t.tensor} ({t.kind}): {t.failure()}")
        return "\n".join(lines)
