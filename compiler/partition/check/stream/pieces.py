"""Who computes what: every layer, slice and join of a plan as a piece with the streams that it reads and makes.

A layer's strategy says into how many row and column blocks its matrix is cut; the plan's slices must be those blocks,
once each, with their join behind (docs/streaming.md, "Slices of a layer").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from compiler.ir.graph import Conv, DType, Graph, HostSegment, Node, storage4
from compiler.partition.check.stream.words import Element, Illegal
from compiler.plan.model import Box

MOST_PARTS = 64  # two levels of units with eight streams
PART, JOIN, WHOLE = "part", "join", "whole"


@dataclass(frozen=True, slots=True)
class Piece:
    """A layer, one block of its matrix, or the join of its blocks.

    reads: constants left out. rows, columns: half-open, of the whole matrix (columns: input channels; of a grouped
    layer those of its groups). blocks: of a join, the channels of each row block."""

    key: str
    node: Node
    kind: str
    reads: tuple[str, ...]
    makes: str
    box: Box
    reduce: tuple[int, int] = (0, 0)
    rows: tuple[int, int] = (0, 0)
    columns: tuple[int, int] = (0, 0)
    blocks: tuple[int, ...] = ()
    sums: bool = False  # a part of some columns, or the join of such: int32 sums
    number: int = 0  # of the layer's slices
    slices: int = 1  # of the layer, a copy

    @property
    def role(self) -> str:
        if self.kind == JOIN:
            return "reduce" if self.sums else "gather"
        return "partial" if self.sums else "full"

    def task(self, copy: int) -> str:
        """Slices count on from copy to copy; the one slice of a layer that is whole bears its copy's number."""
        return f"{self.node.name}#{copy * self.slices + self.number}"


@dataclass(slots=True)
class Model:
    """The graph with the plan's cuts: pieces in order, and every tensor's view."""

    graph: Graph
    pieces: list[Piece] = field(default_factory=list)
    order: dict[str, int] = field(default_factory=dict)  # a piece, or a host segment -> its place among all of them
    made: dict[str, tuple[tuple[int, int, int, int], Element]] = field(default_factory=dict)  # results of parts

    def view(self, tensor: str) -> tuple[int, int, int, int]:
        """n, c, h, w."""
        return self.made[tensor][0] if tensor in self.made else storage4(self.graph.tensors[tensor].shape)

    def elements(self, tensor: str) -> int:
        n, c, h, w = self.view(tensor)
        return n * c * h * w

    def element(self, tensor: str) -> Element:
        """As narrow as the levels that the tensor is known to have, else its type."""
        if tensor in self.made:
            return self.made[tensor][1]
        t = self.graph.tensors[tensor]
        if t.levels is not None:
            return Element(max(t.levels.bits, 9 if t.dtype == DType.S16 else 1), t.levels.signed)
        return Element(8 * t.dtype.size_bytes, t.dtype != DType.U8)

    def values(self, tensor: str) -> tuple[int, int]:
        """Least and greatest value of a tensor."""
        t = self.graph.tensors[tensor]
        if t.levels is not None:
            return t.levels.lo, t.levels.hi
        return t.dtype.range


def model_of(graph: Graph, strategies: Mapping[str, str]) -> Model:
    """strategies: of every layer. Raises Illegal for a cut that is not possible."""
    model = Model(graph)
    for step in graph.steps:
        if isinstance(step, HostSegment):
            model.order[step.name] = len(model.order)
            continue
        rows, columns = blocks_of(step, strategies[step.name])
        own = [_whole(model, step)] if rows * columns == 1 else _cut(model, step, rows, columns)
        for piece in own:
            model.pieces.append(piece)
            model.order[piece.key] = len(model.order)
    return model


def blocks_of(node: Node, strategy: str) -> tuple[int, int]:
    """Row and column blocks of a strategy "whole", "Pm=2", "Pn=3", "Pm=2,Pn=3". Raises Illegal."""
    count = {"Pm": 1, "Pn": 1}
    for text in [] if strategy == "whole" else strategy.split(","):
        name, _, number = text.partition("=")
        if name not in count or not number.isdecimal() or int(number) < 2:
            raise Illegal(f"strategy '{strategy}'")
        count[name] = int(number)
    rows, columns = count["Pm"], count["Pn"]
    told = ",".join(f"{k}={n}" for k, n in count.items() if n > 1) or "whole"
    most = (1, 1)
    if isinstance(node, Conv):
        most = (
            (node.groups, 1) if node.groups > 1 else (node.weight.shape[0], 1 if _long(node) else node.weight.shape[1])
        )
    if told != strategy or rows > most[0] or columns > most[1] or rows * columns > MOST_PARTS:
        raise Illegal(f"layer '{node.name}' cannot be cut by {strategy}")
    return rows, columns


def _long(node: Conv) -> bool:
    """Whether a row's sum of 16-bit inputs may leave the 32 bits in which parts of columns are sent."""
    if not node.wide:
        return False
    rows = node.weight.reshape(len(node.weight), -1).astype(np.int64)
    return bool((np.abs(rows).sum(axis=1) >= 1 << 15).any())


def _box(view: tuple[int, int, int, int]) -> Box:
    n, c, h, w = view
    return (0, n, 0, c, 0, h, 0, w)


def _whole(model: Model, node: Node) -> Piece:
    reads = tuple(name for name in node.inputs if name not in model.graph.constants)
    rows, columns = (node.weight.shape[0], node.x_shape[1]) if isinstance(node, Conv) else (0, 0)
    return Piece(node.name, node, WHOLE, reads, node.y, _box(model.view(node.y)), rows=(0, rows), columns=(0, columns))


def ends(extent: int, parts: int) -> list[int]:
    """Bounds of even parts; where they cannot be, on multiples of the greatest power of two that divides the extent and
    leaves four of them a part."""
    grain = 1
    while extent % parts and extent % (2 * grain) == 0 and extent >= 4 * parts * 2 * grain:
        grain *= 2
    return [extent // grain * k // parts * grain for k in range(parts + 1)]


def _cut(model: Model, node: Node, row_blocks: int, column_blocks: int) -> list[Piece]:
    assert isinstance(node, Conv)
    m, n = node.weight.shape[:2]
    each = m // node.groups  # rows of a group, which stay together
    starts = ends(node.groups, row_blocks) if node.groups > 1 else ends(m, row_blocks)
    slices, sums = row_blocks * column_blocks + 1, column_blocks > 1
    out: list[Piece] = []
    heights: list[int] = []
    for low, high in pairwise(starts):
        rows = (low * each, high * each) if node.groups > 1 else (low, high)
        heights.append(rows[1] - rows[0])
        for first, last in pairwise(ends(n, column_blocks)):
            columns = (low * n, high * n) if node.groups > 1 else (first, last)
            k = len(out)
            name = f"{node.name}.{'partial' if sums else 'rows'}{k}"
            shape = (node.y_shape[0], rows[1] - rows[0], node.y_shape[2], node.y_shape[3])
            model.made[name] = shape, Element(32, True) if sums else model.element(node.y)
            box = list(_box(model.view(node.y)))
            box[2 * node.axes[1] : 2 * node.axes[1] + 2] = rows
            a, b, c, d, e, f, g, h = box
            out.append(
                Piece(f"{node.name}#{k}", node, PART, (node.x,), name, (a, b, c, d, e, f, g, h),
                      columns if sums else (0, 0), rows, columns, (), sums, k, slices)
            )  # fmt: skip
    out.append(
        Piece(f"{node.name}#{len(out)}", node, JOIN, tuple(p.makes for p in out), node.y, _box(model.view(node.y)),
              (0, 0), (0, m), (0, n), tuple(heights), sums, len(out), slices)
    )  # fmt: skip
    return out


__all__ = ["JOIN", "PART", "WHOLE", "Model", "Piece", "blocks_of", "ends", "model_of"]
