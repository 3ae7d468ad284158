"""Typed access to the fields of a problem file; every surprise is an FvcError that names file, case and field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, isfinite
from pathlib import Path
from typing import Any

from device_db.document import loads
from device_db.errors import FvcError

LARGEST = 1 << 52  # an amount beyond this is no count of anything on a chip
_MISSING = object()


def load(path: Path) -> Any:
    """The JSON document of a file; FVC002 unreadable, FVC240 no JSON."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise FvcError("FVC002", f"cannot read the problem: {problem}", where=(str(path),)) from None
    try:
        return loads(text)
    except ValueError as problem:
        raise FvcError(
            "FVC240",
            f"the problem is not JSON: {problem}",
            where=(str(path),),
            help=("docs/floorplan.md shows the format",),
        ) from None


@dataclass(frozen=True, slots=True)
class Field:
    """A value of the document and the way to it ("cases[2].nodes[7].versions[0].LUT")."""

    value: Any
    way: str
    file: str

    def wrong(self, what: str, *, code: str = "FVC241") -> FvcError:
        return FvcError(code, what, where=(f"{self.file}: {self.way}",), help=("docs/floorplan.md shows the format",))

    def __getitem__(self, key: str) -> Field:
        found = self.get(key)
        if found is None:
            raise self.wrong(f"the field '{key}' is missing")
        return found

    def get(self, key: str) -> Field | None:
        """The field of an object, None where it is absent."""
        found = self.mapping().get(key, _MISSING)
        return None if found is _MISSING else Field(found, f"{self.way}.{key}" if self.way else key, self.file)

    def mapping(self) -> Mapping[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong(f"an object is wanted, not {_kind(self.value)}")
        return self.value

    def items(self, least: int = 0) -> list[Field]:
        """The elements of a list of at least `least`."""
        if not isinstance(self.value, list):
            raise self.wrong(f"a list is wanted, not {_kind(self.value)}")
        if len(self.value) < least:
            raise self.wrong(f"at least {least} element is wanted")
        return [Field(v, f"{self.way}[{i}]", self.file) for i, v in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong(f"a text is wanted, not {_kind(self.value)}")
        return self.value

    def number(self) -> Fraction:
        """A finite number >= 0, as the decimal that it is written as."""
        v = self.value
        if isinstance(v, bool) or not isinstance(v, int | float):
            raise self.wrong(f"a number is wanted, not {_kind(v)}")
        if isinstance(v, float) and not isfinite(v):
            raise self.wrong("a finite number is wanted")
        if v < 0:
            raise self.wrong(f"{v} is negative")
        if v > LARGEST:
            raise self.wrong(f"{v} is too large: at most 2^52")
        return Fraction(str(v)) if isinstance(v, float) else Fraction(v)

    def demand(self) -> int:
        """A number >= 0, a fraction rounded up."""
        return ceil(self.number())

    def supply(self) -> int:
        """A number >= 0, a fraction rounded down."""
        return floor(self.number())

    def identity(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.wrong(f"an integer id is wanted, not {_kind(self.value)}")
        return self.value

    def known(self, index: Mapping[int, int], what: str) -> int:
        """The index of an id; FVC242 when nothing bears it."""
        i = self.identity()
        if i not in index:
            raise self.wrong(f"there is no {what} {i}", code="FVC242")
        return index[i]


def identities(fields: Sequence[Field], key: str, what: str) -> dict[int, int]:
    """id -> position; refuses an id that is used twice."""
    out: dict[int, int] = {}
    for i, f in enumerate(fields):
        own = f[key].identity()
        if own in out:
            raise f.wrong(f"{what} {own} is listed twice", code="FVC242")
        out[own] = i
    return out


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "an integer",
        float: "a number",
    }
    return "null" if value is None else names.get(type(value), type(value).__name__)
