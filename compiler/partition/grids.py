"""Even cuts of a layer by one factor or several: the cells of Super-LIP's <Pb, Pr, Pc, Pm, Pn>, as boxes.

Needs a layer's output box and its legal splits; guarantees cells that cover the output once, each within a row, column
or channel quantum of an even share, in an order in which equal grids of neighbouring layers put the same part of a
tensor on the same engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import lcm

from compiler.partition.pieces import FACTORS, cut
from compiler.plan.model import Box

Split = tuple[str, int, int, int]  # factor, storage axis of the output (-1: input channels), extent, quantum
CHANNEL_STEP = 8  # channels are cut at multiples of this where that leaves every slice two of them


@dataclass(frozen=True, slots=True)
class Cell:
    """One piece of a grid: its task, and the place (of `Grid.places`) that does it."""

    role: str  # full | partial | reduce
    box: Box
    reduce_from: int
    reduce_to: int
    place: int


@dataclass(frozen=True, slots=True)
class Grid:
    """An even cut over `places` engines; cells in order of places, reduce cells last."""

    name: str  # "Pr=2", "Pr=2,Pm=2", "Pn=3"
    places: int
    cells: tuple[Cell, ...]

    @property
    def partials(self) -> int:
        """How many partial sums each reduce cell adds."""
        work = [c for c in self.cells if c.role == "partial"]
        return len({(c.reduce_from, c.reduce_to) for c in work})


def bounds(extent: int, quantum: int, parts: int, factor: str = "") -> tuple[int, ...] | None:
    """parts + 1 rising bounds from 0 to `extent` on multiples of `quantum`; None where there are too few of them."""
    step = quantum
    if factor in ("Pm", "Pn") and extent >= 2 * parts * lcm(quantum, CHANNEL_STEP):
        step = lcm(quantum, CHANNEL_STEP)
    units = -(-extent // step)
    if units < parts:
        return None
    return tuple(min(extent, units * i // parts * step) for i in range(parts + 1))


def allowed(splits: Sequence[Split], factor: str) -> int:
    """Into how many slices at most a factor may cut a layer: 0 if the operator does not allow it at all."""
    return max((-(-extent // quantum) for f, _, extent, quantum in splits if f == factor), default=0)


def make_grid(box: Box, splits: Sequence[Split], wanted: Mapping[str, int], reduce_extent: int) -> Grid | None:
    """The grid of these factors (those of 1 are left out), or None where a factor is not allowed or too large."""
    known = {f: (axis, extent, quantum) for f, axis, extent, quantum in splits}
    used = [f for f in FACTORS if wanted.get(f, 1) > 1]
    ranges: list[list[tuple[int, int]]] = []
    for f in used:
        points = bounds(known[f][1], known[f][2], wanted[f], f) if f in known else None
        if points is None:
            return None
        ranges.append(list(pairwise(points)))
    cells: list[Cell] = []
    sharers: dict[Box, list[int]] = {}  # by result, the places with partial sums of it
    for place, choice in enumerate(product(*ranges)):
        own, reach = box, (0, reduce_extent)
        for f, (lo, hi) in zip(used, choice, strict=True):
            if f == "Pn":
                reach = (lo, hi)
            else:
                own = cut(own, known[f][0], lo, hi)
        cells.append(Cell("partial" if "Pn" in used else "full", own, *reach, place))
        sharers.setdefault(own, []).append(place)
    places = len(cells)
    if "Pn" in used:
        for own, at in sharers.items():
            parts = _scattered(own, known, len(at)) or [own]
            cells += [
                Cell("reduce", part, 0, reduce_extent, k) for part, k in zip(parts, at[-len(parts) :], strict=True)
            ]
    name = ",".join(f"{f}={wanted[f]}" for f in used)
    return Grid(name, places, tuple(cells)) if used else None


def _scattered(box: Box, known: Mapping[str, tuple[int, int, int]], parts: int) -> list[Box] | None:
    """A result in even parts, one for each engine that has partial sums of it (reduce-scatter); None if no factor
    allows so many. known: axis, extent and quantum of each factor."""
    for f in ("Pm", "Pr", "Pc", "Pb"):
        if f in known:
            axis, _, quantum = known[f]
            lo, hi = box[2 * axis], box[2 * axis + 1]
            points = bounds(hi - lo, quantum, parts, f)
            if points is not None:
                return [cut(box, axis, lo + a, lo + b) for a, b in pairwise(points)]
    return None
