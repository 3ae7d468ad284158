"""Data type names of QONNX (INT4, UINT8, BIPOLAR, …) and the result of an estimate."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


class CaseError(ValueError):
    """A cost case that cannot be read: unknown operator, missing attribute, fold that does not divide."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cycles of one inference and resources; ff is None where the model does not speak of flip-flops."""

    cycles: int
    lut: int = 0
    ff: int | None = None
    bram18: int = 0
    uram: int = 0
    dsp: int = 0


LARGEST = 1 << 40  # of any attribute: far above hardware, small enough for exact floats
_WIDTHS = {"BINARY": 1, "BIPOLAR": 1, "TERNARY": 2, "FLOAT32": 32, "FLOAT16": 16}


def bits(name: str) -> int:
    """Bits of a QONNX data type name. CaseError if there is no such type."""
    if name in _WIDTHS:
        return _WIDTHS[name]
    found = re.fullmatch(r"(?:U?INT|SCALEDINT<)(\d+)>?", name) or re.fullmatch(r"FIXED<(\d+),\d+>", name)
    if found is None or len(found[1]) > 3 or not 1 <= int(found[1]) <= 256:
        raise CaseError(f"unknown data type {name!r}")
    return int(found[1])


def is_signed(name: str) -> bool:
    """Whether a QONNX data type has negative values."""
    return not (name.startswith("UINT") or name == "BINARY")


class Attributes:
    """Node attributes with the peer's defaults; a missing one without default is a CaseError."""

    def __init__(self, op: str, values: dict[str, Any]) -> None:
        self._op, self._values = op, values

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST:
            raise CaseError(f"{self._op}: attribute {name} must be an integer, got {str(value)[:40]!r}")
        return value

    def positive(self, name: str, default: int | None = None) -> int:
        value = self.integer(name, default)
        if value < 1:
            raise CaseError(f"{self._op}: attribute {name} must be at least 1, got {value}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise CaseError(f"{self._op}: attribute {name} must be a name, got {value!r}")
        return value

    def integers(self, name: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        value = self._values.get(name, default)
        if type(value) is int:
            value = [value]
        if not isinstance(value, (list, tuple)) or not all(type(v) is int and 0 <= v <= LARGEST for v in value):
            raise CaseError(f"{self._op}: attribute {name} must be integers, got {value!r}")
        return tuple(value)

    def names(self, name: str, single: str) -> tuple[str, ...]:
        """A list of names, or the one name of attribute `single` where the list is absent."""
        value = self._values.get(name)
        if value is None:
            return (self.text(single),)
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(v, str) for v in value):
            raise CaseError(f"{self._op}: attribute {name} must be a list of names, got {str(value)[:40]}")
        return tuple(value)

    def pair(self, name: str, default: tuple[int, int] | None = None, *, least: int = 1) -> tuple[int, int]:
        value = self.integers(name, default)
        if len(value) != 2 or min(value) < least:
            raise CaseError(f"{self._op}: attribute {name} must be [H, W] from {least} up, got {list(value)}")
        return (value[0], value[1])

    def fold(self, whole: str, parts: str, usual: int | None = None) -> int:
        """whole / parts (`usual` parts where absent); CaseError unless it divides."""
        a, b = self.positive(whole), self.positive(parts, usual)
        if a % b:
            raise CaseError(f"{self._op}: {parts} = {b} does not divide {whole} = {a}")
        return a // b


def is_versal(part: str) -> bool:
    """Whether a part number belongs to a family with DSP58, RAMB18E5 and URAM288E5."""
    return part[:4] in ("xcvc", "xcve", "xcvp", "xcvm", "xqvc", "xqvm") or part[:5] in ("xqrvc", "xcv80")
