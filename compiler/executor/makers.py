"""What made a byte of ACT: the function of a requantiser, of an operation on pairs, or of a table look-up.

VREQ, VBIN and VCOPY through a table apply one function to every element of a channel. A run in which tensors are
compared numbers these functions and marks each byte with the one that made it, so that verification can compare whole
functions with the model's, not only their values at the inputs at hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Requantisers:
    """Entries of a VREQ, one a row: `entries` (m,) as VREQ_ENTRY, `steps` the thresholds of rows that have them."""

    entries: Array
    steps: dict[int, Array]
    lo: int
    hi: int
    zero_point: int

    @property
    def rows(self) -> int:
        return len(self.entries)

    def content(self) -> tuple[object, ...]:
        """Equal for equal functions."""
        steps = b"".join(s.tobytes() for s in self.steps.values())
        return (self.entries.tobytes(), steps, self.lo, self.hi, self.zero_point)


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The result bytes of a VBIN for every (a byte) * 256 + (b byte)."""

    table: Array
    rows: int = 1

    def content(self) -> tuple[object, ...]:
        return (self.table.tobytes(),)


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The tables of a VCOPY, (rows, 256) result bytes by the operand's byte."""

    tables: Array

    @property
    def rows(self) -> int:
        return len(self.tables)

    def content(self) -> tuple[object, ...]:
        return (self.tables.tobytes(),)


Maker = Requantisers | Pairs | Tables


@dataclass(slots=True)
class Makers:
    """All functions of a run; row r of a maker has the number `add` gave it plus r. Number 0 is nobody."""

    items: list[Maker] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    next: int = 1

    def add(self, maker: Maker) -> int:
        start = self.next
        self.items.append(maker)
        self.starts.append(start)
        self.next += maker.rows
        return start
