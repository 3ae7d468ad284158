"""Slices of a layer as layers of their own: `expand` puts parts and a join in the place of a convolution.

Needs a graph and a cut a layer; gives a graph of the same tensors, in which a cut layer is a `Part` for every block of
rows and columns of its matrix and a `Join` behind them. Parts of whole columns (Pm: the PE side) requantise their own
channels, which the join puts side by side. Parts of some columns (Pn: the SIMD side) leave int32 sums, which the join
adds and requantises. Everything behind (folds, places, netlists, judges) sees layers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import product

import numpy as np

from compiler.ir.graph import Conv, DType, Graph, HostSegment, Node, Shape4, Step, Tensor
from compiler.ops.boxes import whole_box
from compiler.ops.stream.parts import view

Box = tuple[int, int, int, int, int, int, int, int]
MOST_PARTS = 64  # of one layer: CAT and ADD take eight streams, two levels of them as many


@dataclass(frozen=True, slots=True, order=True)
class Cut:
    """Into how many blocks of rows (output channels) and of columns (input channels) a layer's matrix is cut."""

    rows: int = 1
    columns: int = 1

    @property
    def name(self) -> str:
        """ "Pm=2", "Pn=3", "Pm=2,Pn=3"; "whole"."""
        told = [f"{f}={n}" for f, n in (("Pm", self.rows), ("Pn", self.columns)) if n > 1]
        return ",".join(told) or "whole"

    @property
    def parts(self) -> int:
        return self.rows * self.columns


WHOLE = Cut()
WIDEST_INPUT = 1 << 16  # greatest x - zero point of 16 bits


@dataclass(frozen=True, slots=True, eq=False)
class Part(Conv):
    """A block of a layer's matrix; x_shape and weight are the block's own.

    Its result stands in the operator's order n, m, h, w whatever the layer's axes are."""

    layer: str = ""
    first: int = 0  # of the channels of x that it reads
    of: int = 0  # channels that x has
    box: Box = (0, 0, 0, 0, 0, 0, 0, 0)  # of the layer's result, or of what its sums belong to
    reduce: tuple[int, int] = (0, 0)  # input channels that it sums over; (0, 0): all
    number: int = 0  # of `slices` of the layer, the join counted
    slices: int = 1

    @property
    def crops(self) -> bool:
        return self.x_shape[1] != self.of


@dataclass(frozen=True, slots=True, eq=False)
class Join(Conv):
    """What makes a cut layer's result of its parts: all fields of `Conv` are the whole layer's."""

    layer: str = ""
    parts: tuple[str, ...] = ()  # tensors, row block by row block
    rows: tuple[int, ...] = ()  # channels of each row block
    columns: int = 1  # parts that are added to one row block
    number: int = 0
    slices: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.parts


def layer_of(node: Node) -> str:
    """The layer of the model that a node of an expanded graph belongs to."""
    return node.layer if isinstance(node, Part | Join) else node.name


def task_of(node: Node, copy: int = 0) -> str:
    """The slice that a node of a copy of the net is: "conv1#0" of an uncut layer; slices count on from copy to copy."""
    if isinstance(node, Part | Join):
        return f"{node.layer}#{copy * node.slices + node.number}"
    return f"{node.name}#{copy}"


def role_of(graph: Graph, node: Node) -> tuple[str, Box, tuple[int, int]]:
    """What a slice does, to which box of the layer's result, over which input channels ((0, 0): all)."""
    if isinstance(node, Part):
        return "partial" if node.reduce != (0, 0) else "full", node.box, node.reduce
    role = "full" if not isinstance(node, Join) else "reduce" if node.columns > 1 else "gather"
    return role, whole_box(view(graph, node.y)), (0, 0)


def bounds(extent: int, parts: int) -> tuple[int, ...]:
    """parts + 1 rising bounds from 0 to `extent`: even where that divides, else on multiples of a power of two that
    divides the extent and leaves four of them a part, so that several channels still pass at once."""
    step = 1
    while extent % parts and extent % (2 * step) == 0 and extent // (2 * step) >= 4 * parts:
        step *= 2
    return tuple(extent // step * k // parts * step for k in range(parts + 1))


def most(node: Node) -> Cut:
    """Into how many blocks of rows and of columns a layer can be cut: (1, 1) for what is no matrix.

    Grouped convolutions are cut between groups, whose columns belong to them alone."""
    if not isinstance(node, Conv) or isinstance(node, Part | Join):
        return WHOLE
    if node.groups > 1 or long_sums(node):
        return Cut(node.groups if node.groups > 1 else node.weight.shape[0], 1)
    return Cut(node.weight.shape[0], node.weight.shape[1])


@lru_cache(maxsize=4096)
def long_sums(node: Conv) -> bool:
    """Whether sums of columns may leave the 32 bits that a part sends."""
    if not node.wide:
        return False
    w = np.abs(node.weight.astype(np.int64)).reshape(len(node.weight), -1).sum(axis=1)
    return int(w.max()) * WIDEST_INPUT >= 2**31


def legal(node: Node, cut: Cut) -> bool:
    """Whether a layer can be cut so."""
    limit = most(node)
    return 1 <= cut.rows <= limit.rows and 1 <= cut.columns <= limit.columns and cut.parts <= MOST_PARTS


Cuts = tuple[tuple[str, Cut], ...]  # by layer, in the order of their names


def as_cuts(cuts: Mapping[str, Cut]) -> Cuts:
    return tuple(sorted((name, cut) for name, cut in cuts.items() if cut != WHOLE))


@lru_cache(maxsize=64)
def expand(graph: Graph, cuts: Cuts) -> Graph:
    """The graph with these layers cut; itself where none is. Every cut must be `legal`."""
    if not cuts:
        return graph
    wanted = dict(cuts)
    steps: list[Step] = []
    tensors = dict(graph.tensors)
    for step in graph.steps:
        cut = wanted.pop(step.name, WHOLE)
        if cut == WHOLE or isinstance(step, HostSegment):
            steps.append(step)
            continue
        assert isinstance(step, Conv) and legal(step, cut), step.name
        parts, made = _parts(graph, step, cut)
        tensors |= made
        steps += parts
    assert not wanted, wanted
    return replace(graph, steps=tuple(steps), tensors=tensors)


@lru_cache(maxsize=256)
def _parts(graph: Graph, node: Conv, cut: Cut) -> tuple[tuple[Conv, ...], dict[str, Tensor]]:
    """Parts and join of a layer, and the tensors between: the same objects in every expanded graph."""
    unit = node.weight.shape[0] // node.groups  # rows that stay together
    per_group = node.weight.shape[1]
    rows = bounds(node.groups if node.groups > 1 else unit, cut.rows)
    columns = bounds(per_group, cut.columns)
    whole = whole_box(view(graph, node.y))
    base = {f.name: getattr(node, f.name) for f in fields(Conv)}
    axis = node.axes[1]
    parts: list[Part] = []
    made: dict[str, Tensor] = {}
    for number, (i, j) in enumerate(product(range(cut.rows), range(cut.columns))):
        low, high = rows[i], rows[i + 1]
        a, b = (low * unit, high * unit) if node.groups > 1 else (low, high)
        first, last = (low * per_group, high * per_group) if node.groups > 1 else (columns[j], columns[j + 1])
        take = slice(None) if node.groups > 1 else slice(first, last)
        box = list(whole)
        box[2 * axis : 2 * axis + 2] = a, b
        y = graph.tensors[node.y]
        shape: Shape4 = (node.y_shape[0], b - a, *node.y_shape[2:])
        if cut.columns > 1:
            tensor = Tensor(f"{node.name}.partial{number}", shape, DType.I32)
        else:
            tensor = Tensor(f"{node.name}.rows{number}", shape, y.dtype, y.quant, y.levels)
        made[tensor.name] = tensor
        own = {
            "name": f"{node.name}#{number}",
            "y": tensor.name,
            "weight": node.weight[a:b, take],  # many cuts are looked at: none copies the weights
            "bias": node.bias[a:b] if j == 0 else np.zeros(b - a, node.bias.dtype),
            "scale": node.scale[a:b],
            "x_shape": (node.x_shape[0], last - first, *node.x_shape[2:]),
            "y_shape": shape,
            "number": number,
            "slices": cut.parts + 1,
            "groups": high - low if node.groups > 1 else 1,
            "thresholds": None if cut.columns > 1 or node.thresholds is None else
            replace(node.thresholds, values=node.thresholds.values[a:b]),
        }  # fmt: skip
        reduce = (first, last) if cut.columns > 1 else (0, 0)
        (n0, n1, c0, c1, h0, h1, w0, w1) = box
        place: Box = (n0, n1, c0, c1, h0, h1, w0, w1)
        parts.append(Part(**base | own, layer=node.name, first=first, of=node.x_shape[1], box=place, reduce=reduce))
    return (*parts, _join(node, cut, parts)), made


def _join(node: Conv, cut: Cut, parts: list[Part]) -> Join:
    base = {f.name: getattr(node, f.name) for f in fields(Conv)}
    rows = tuple(p.weight.shape[0] for p in parts[:: cut.columns])
    own = {"name": f"{node.name}#{len(parts)}", "layer": node.name, "parts": tuple(p.y for p in parts)}
    count = len(parts)
    return Join(**base | own, rows=rows, columns=cut.columns, number=count, slices=count + 1)


__all__ = ["MOST_PARTS", "WHOLE", "Cut", "Cuts", "Join", "Part", "as_cuts", "bounds", "expand", "layer_of", "legal",
           "most", "role_of", "task_of"]  # fmt: skip
