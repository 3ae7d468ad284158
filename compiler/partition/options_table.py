"""The one option table: everything that can be done with a layer is an option, a vector of what it takes.

Tiled slices are its only rows now; a streaming engine, a replica or an XFER share is one more `Option` with other
entries, and neither the solver nor the bound nor the constraint families change.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from compiler.partition.grids import Grid, Split
from compiler.plan.model import Box


@dataclass(frozen=True, slots=True)
class Option:
    """One way to do a share of one layer on one kind of engine.

    share: this option does `share[0]` of `share[1]` equal units of the layer (whole: n of n).
    split: "" (whole), a factor ("Pm", "Pr"…: any number of its units) or a grid ("Pr=2,Pm=2": a cell).
    ticks: engine time a frame in reference-clock cycles, rounded down, as tensors mostly lie; least_ticks: however they
    lie, so that sums of it never exceed the real load; cycles: the engine's own. load_ticks: of the first loads that
    may come before the task's data, of all loads, and of those behind the data; however tensors lie.
    """

    layer: int
    kind: int
    split: str
    share: tuple[int, int]
    role: str
    memory: str
    cycles: int
    ticks: int
    least_ticks: int
    resident_bytes: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    constant_bytes: int = 0
    resources: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)  # of its own: lut, ff, bram18, uram, dsp
    tile: tuple[tuple[str, int], ...] = ()
    load_ticks: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class SplitRange:
    """How a layer may be cut: `units` granules of `quantum` along `axis`, `lo` to `extent` (the last may be less)."""

    factor: str  # Pb | Pr | Pc | Pm | Pn
    axis: int  # storage axis of the output; -1 for input channels (Pn)
    extent: int
    quantum: int

    @property
    def units(self) -> int:
        return -(-self.extent // self.quantum)

    def bounds(self, first: int, count: int) -> tuple[int, int]:
        """[from, to) of `count` units that start at unit `first`."""
        return (first * self.quantum, min(self.extent, (first + count) * self.quantum))


@dataclass(slots=True)
class Layer:
    """One engine layer of the graph as the solver sees it."""

    index: int
    name: str
    op: str
    box: Box
    splits: tuple[SplitRange, ...]
    producers: tuple[int, ...]  # layers whose output it reads
    output_bits: int
    reduce_extent: int = 0  # input channels that a full slice sums over
    cuts: tuple[Split, ...] = ()  # every legal cut
    grids: dict[str, Grid] = field(default_factory=dict)  # even cuts over a number of engines, by name


@dataclass(slots=True)
class OptionTable:
    """All options of all layers, by layer and kind."""

    layers: list[Layer]
    options: list[Option] = field(default_factory=list)
    by_key: dict[tuple[int, int], list[Option]] = field(default_factory=dict)
    cells: dict[tuple[int, int, str, int], Option] = field(default_factory=dict)

    def add(self, option: Option) -> None:
        self.options.append(option)
        self.by_key.setdefault((option.layer, option.kind), []).append(option)

    def of(self, layer: int, kind: int) -> list[Option]:
        return self.by_key.get((layer, kind), [])

    def whole(self, layer: int, kind: int) -> Option | None:
        """The cheapest unsliced option that streams its weights."""
        best = [o for o in self.of(layer, kind) if not o.split and o.memory == "stream"]
        return min(best, key=lambda o: o.ticks, default=None)

    def resident(self, layer: int, kind: int) -> Option | None:
        """The cheapest unsliced option that holds its weights on chip."""
        best = [o for o in self.of(layer, kind) if not o.split and o.memory == "resident"]
        return min(best, key=lambda o: o.ticks, default=None)

    def cell(self, layer: int, kind: int, grid: str, cell: int) -> Option | None:
        """The option of one cell of a grid."""
        return self.cells.get((layer, kind, grid, cell))

    def slice(self, layer: int, kind: int, split: str, units: int) -> Option | None:
        """The cheapest option that does exactly `units` units by `split`."""
        best = [o for o in self.of(layer, kind) if o.split == split and o.share[0] == units]
        return min(best, key=lambda o: (o.ticks, o.resident_bytes), default=None)


def undominated(options: Iterable[Option]) -> list[Option]:
    """Options that no other of the same layer, kind, split and share beats in time and in memory."""
    kept: list[Option] = []
    for o in sorted(
        options, key=lambda o: (o.layer, o.kind, o.split, o.share, o.ticks, o.resident_bytes, o.read_bytes)
    ):
        same = (
            p
            for p in kept
            if (p.layer, p.kind, p.split, p.share, p.role) == (o.layer, o.kind, o.split, o.share, o.role)
        )
        if not any(p.ticks <= o.ticks and p.resident_bytes <= o.resident_bytes for p in same):
            kept.append(o)
    return kept
