"""Tiles of operators that work element by element or channel by channel: boxes cut along one axis.

A candidate cuts one storage axis into blocks; the axes inside stay whole (so transfers are long runs), those
outside are walked one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compiler.ops.boxes import box_sizes
from compiler.plan.model import Box
from cost_models.primitives import ceil_div

_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
MOST_TILES = 4096


def cut(box: Box, axis: int, size: int) -> Iterator[Box]:
    """The boxes of a tiling, in storage order."""
    lo, hi = box[2 * axis], box[2 * axis + 1]
    outer: list[list[int]] = [[]]
    for a in range(axis):
        outer = [[*o, i, i + 1] for o in outer for i in range(box[2 * a], box[2 * a + 1])]
    rest = box[2 * axis + 2 :]
    for o in outer:
        for start in range(lo, hi, size):
            yield (*o, start, min(start + size, hi), *rest)  # type: ignore[misc]


def tiles_of(box: Box, axis: int, size: int) -> int:
    sizes = box_sizes(box)
    count = ceil_div(sizes[axis], size)
    for a in range(axis):
        count *= sizes[a]
    return count


def cuts(box: Box, fit: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """Candidate (axis, size) whose tiles satisfy `fit(axis, size)`, outermost axis first; empty if none does."""
    sizes = box_sizes(box)
    found: dict[tuple[int, int], None] = {}
    for axis in range(4):
        extent = sizes[axis]
        if extent == 1 and axis < 3 and any(s > 1 for s in sizes[axis + 1 :]):
            continue
        if not fit(axis, 1):
            continue
        lo, hi = 1, extent
        while lo < hi:
            mid = (lo + hi + 1) // 2
            lo, hi = (mid, hi) if fit(axis, mid) else (lo, mid - 1)
        fewest = ceil_div(extent, lo)
        for split in _SPLITS:
            size = ceil_div(extent, min(extent, fewest * split))
            found.setdefault((axis, size))
        if fewest <= 16:
            break
    return list(found)


def uniform_makespan(tiles: int, ld: int, cx: int, st: int, bank: int = 0) -> int:
    """Makespan of equal tiles, double-buffered; bank: cycles of the bank that a tile's transfers take."""
    return ld + cx + st + (tiles - 1) * max(ld, cx, st, bank)


def extents(sizes: Sequence[int], axis: int, size: int) -> tuple[int, int, int, int]:
    """Extents of an inner tile of a cut."""
    return tuple(1 if a < axis else (min(size, s) if a == axis else s) for a, s in enumerate(sizes))  # type: ignore[return-value]
