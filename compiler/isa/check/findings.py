"""Needs nothing; holds what the checker has to say, a bounded number of findings a rule, in a fixed order."""

from __future__ import annotations

from dataclasses import dataclass, field

PER_CODE = 20  # findings kept of one code; the rest is counted


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule. `where`: device, core, queue and index, ONNX node, as "--> " lines of an error block."""

    code: str
    what: str
    where: tuple[str, ...] = ()
    help: tuple[str, ...] = ()
    severity: str = "error"  # "error" | "warning"

    @property
    def message(self) -> str:
        return self.what


@dataclass(slots=True)
class Findings:
    """Collects findings; keeps the first PER_CODE of each code."""

    kept: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, code: str, what: str, *where: str) -> None:
        self.counts[code] = self.counts.get(code, 0) + 1
        if self.counts[code] <= PER_CODE:
            self.kept.append(Finding(code, what, where))

    def full(self, code: str) -> bool:
        return self.counts.get(code, 0) >= PER_CODE

    def result(self) -> list[Finding]:
        """All kept findings in the order found, then one line a code of which more were found."""
        more = [
            Finding(code, f"and {count - PER_CODE} more of this kind")
            for code, count in self.counts.items()
            if count > PER_CODE
        ]
        return self.kept + more
