"""Units and streams of one layer before they have a place: fields, words, cycles, and the legality of every word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import gcd


class Illegal(Exception):
    """A layer that cannot be built so; the text says why."""


@dataclass(frozen=True, slots=True)
class Fold:
    """PE and SIMD, the variant ("hls", "rtl") and where weights stand ("lutram", "bram", "uram", "external")."""

    pe: int
    simd: int
    variant: str
    memory: str


@dataclass(frozen=True, slots=True)
class Element:
    """Bits and sign of an element; one signed bit is bipolar."""

    bits: int
    signed: bool


@dataclass(frozen=True, slots=True)
class Word:
    """A stream: elements a word, what they are, elements a frame. Raises Illegal where words do not come out even."""

    lanes: int
    element: Element
    elements: int

    def __post_init__(self) -> None:
        if self.lanes < 1 or self.elements < 1 or self.elements % self.lanes:
            raise Illegal(f"words of {self.lanes} elements in a stream of {self.elements}")

    @property
    def count(self) -> int:
        """Words a frame."""
        return self.elements // self.lanes

    @property
    def bits(self) -> int:
        """Bits a word."""
        return self.lanes * self.element.bits


@dataclass(frozen=True, slots=True)
class Flow:
    """A stream where it leaves a unit of the layer: port 0."""

    unit: int
    word: Word


@dataclass(frozen=True, slots=True)
class Want:
    """Input `number` of the layer, in words of so many elements."""

    number: int
    word: Word


@dataclass(frozen=True, slots=True)
class Unit:
    op: str
    fields: dict[str, int]
    cycles: int  # a frame


@dataclass(frozen=True, slots=True)
class Inner:
    """A stream between two units of a layer."""

    source: Flow
    target: int
    port: int


@dataclass(slots=True)
class Engine:
    """A layer as hardware. wants: input -> the unit, its port and the word it takes; inner: in the order of FIFOs."""

    units: list[Unit] = field(default_factory=list)
    inner: list[Inner] = field(default_factory=list)
    wants: dict[int, tuple[int, int, Word]] = field(default_factory=dict)
    gives: Flow | None = None

    @property
    def cycles(self) -> int:
        """Of the slowest unit."""
        return max(u.cycles for u in self.units)

    def put(self, op: str, fields: dict[str, int], out: Word, *sources: Flow | Want, cycles: int | None = None) -> Flow:
        """A unit whose ports read `sources`; it works a cycle a word of its longest stream, unless told otherwise."""
        flow = Flow(len(self.units), out)
        longest = max(out.count, *(s.word.count for s in sources)) if sources else out.count
        self.units.append(Unit(op, fields, longest if cycles is None else cycles))
        for port, source in enumerate(sources):
            self.join(source, flow.unit, port)
        return flow

    def join(self, source: Flow | Want, unit: int, port: int) -> None:
        if isinstance(source, Want):
            self.wants[source.number] = (unit, port, source.word)
        else:
            self.inner.append(Inner(source, unit, port))

    def convert(self, at: Flow | Want, lanes: int) -> Flow | Want:
        """Words of `lanes` elements: within a layer always by way of what divides both."""
        common = gcd(at.word.lanes, lanes)
        for step in (common, lanes):
            if step != at.word.lanes:
                at = self.put("DWC", converter(at.word, step), Word(step, at.word.element, at.word.elements), at)
        return at


def converter(word: Word, lanes: int) -> dict[str, int]:
    """The fields of a width converter."""
    f = {"pe": word.lanes, "pe_out": lanes, "x_bits": word.element.bits, "x_signed": int(word.element.signed)}
    return f | {"elements": word.elements}


def typed(prefix: str, e: Element) -> dict[str, int]:
    """The two fields of an element: "x_bits", "x_signed"."""
    return {f"{prefix}_bits": e.bits, f"{prefix}_signed": int(e.signed)}


def divides(part: int, whole: int, what: str) -> None:
    """Raises Illegal unless `part` divides `whole`."""
    if part < 1 or whole % part:
        raise Illegal(f"{what} {part} does not divide {whole}")


def range_bits(low: int, high: int) -> int:
    """Bits of the two's complement that holds low..high."""
    bits = 1
    while not -(1 << bits - 1) <= low <= high < 1 << bits - 1:
        bits += 1
    return bits


def fewest_lanes(lanes: int, elements: int, cycles: int) -> int:
    """The fewest lanes that pass all elements in three quarters of so many cycles; all of them where none do."""
    return next((d for d in divisors(lanes) if 4 * (elements // d) <= 3 * cycles), lanes)


def divisors(n: int) -> Iterable[int]:
    return (d for d in range(1, n + 1) if n % d == 0)
