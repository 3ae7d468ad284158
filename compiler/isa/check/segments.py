"""Needs strided boxes of one address space; cuts the space at every edge that occurs; guarantees exact footprints.

After compression a box is a set of segment numbers, a slice where it is contiguous: every byte of a segment is
touched by the same boxes, so judging segments judges bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.isa.encoding import Ints

Where = slice | Ints


def rows_of(address: int, counts: Ints, strides: Ints, run: int) -> tuple[Ints, int]:
    """A box as (start of each contiguous row, row length), merged as far as strides allow, starts ascending."""
    address += int(np.minimum((counts - 1) * strides, 0).sum())
    dims = sorted((abs(int(s)), int(c)) for c, s in zip(counts, strides, strict=True) if c > 1 and s != 0)
    rest: list[tuple[int, int]] = []
    for stride, count in dims:
        if stride <= run and not rest:
            run = (count - 1) * stride + run  # rows that touch or overlap are one row
        else:
            rest.append((stride, count))
    starts = np.array([address], np.int64)
    for stride, count in rest:
        starts = (starts[None, :] + np.arange(count, dtype=np.int64)[:, None] * stride).reshape(-1)
    return np.unique(starts), run


@dataclass(slots=True)
class Segments:
    """`edges`: ascending cut points; segment k is [edges[k], edges[k+1]). `where`: the segments of each box given."""

    edges: Ints
    where: list[Where]

    @property
    def count(self) -> int:
        return max(len(self.edges) - 1, 0)


def compress(boxes: list[tuple[Ints, int]]) -> Segments:
    """Cuts at the edges of all boxes (`rows_of`)."""
    if not boxes:
        return Segments(np.zeros(0, np.int64), [])
    cuts = np.concatenate([np.concatenate([s, s + run]) for s, run in boxes])
    edges = np.unique(cuts)
    starts = np.concatenate([s for s, _ in boxes])
    ends = np.concatenate([s + run for s, run in boxes])
    low, high = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    where: list[Where] = []
    at = 0
    for s, _ in boxes:
        a, b = low[at : at + len(s)], high[at : at + len(s)]
        at += len(s)
        if len(s) == 1 or (a[1:] <= b[:-1]).all():
            where.append(slice(int(a[0]), int(b[-1])))
            continue
        width = b - a
        ends_of = np.cumsum(width)
        index = np.repeat(a - (ends_of - width), width) + np.arange(int(ends_of[-1]))
        where.append(np.unique(index))
    return Segments(edges, where)
