"""What each share of a layer makes and reads, and the bits that therefore pass from one share to another.

Needs the graph's needs (`Ops.input_boxes`) and the table's cuts; guarantees that the bits are those of the channels
that build.py makes of the same shares: halos of row slices, not the whole tensor.
"""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.ops.boxes import box_elements, hull, intersect, whole_box
from compiler.partition.options_table import Layer, OptionTable
from compiler.partition.pieces import cut
from compiler.partition.protocols import Ops
from compiler.plan.model import Box

Key = tuple[str, int, int, str]  # split, first, units, role


class Boxes:
    """Boxes by share, each worked out once."""

    def __init__(self, graph: Graph, ops: Ops, table: OptionTable) -> None:
        self.graph, self.ops, self.layers = graph, ops, table.layers
        self._made: dict[tuple[int, Key], Box] = {}
        self._reads: dict[tuple[int, Key], dict[str, Box]] = {}
        self._bits: dict[tuple[object, ...], int] = {}

    def task(self, layer: int, key: Key) -> tuple[Box, int, int]:
        """Output box and input channels of a share."""
        return task_of(self.layers[layer], self.layers[layer].reduce_extent, key)

    def made(self, layer: int, key: Key) -> Box:
        """The box of the layer's output (or of its partial sum) that the share makes."""
        got = self._made.get((layer, key))
        if got is None:
            got = self._made[(layer, key)] = self.task(layer, key)[0]
        return got

    def reads(self, layer: int, key: Key) -> dict[str, Box]:
        """The boxes of tensors that the share reads; a reduce share reads partial sums only."""
        got = self._reads.get((layer, key))
        if got is None:
            box, lo, hi = self.task(layer, key)
            node = self.graph.nodes[layer]
            got = {} if key[3] == "reduce" else self.ops.input_boxes(self.graph, node, key[3], box, (lo, hi))
            self._reads[(layer, key)] = got
        return got

    def whole(self, tensor: str) -> Box:
        """All of a tensor."""
        from compiler.ir.graph import storage4

        return whole_box(storage4(self.graph.tensors[tensor].shape))

    def bits(self, tensor: str, maker: tuple[int, Key] | None, readers: tuple[tuple[int, Key], ...]) -> int:
        """Bits of `tensor` from a maker (None: the host) to the engine of these readers (none: the host)."""
        at = (tensor, maker, readers)
        got = self._bits.get(at)
        if got is None:
            have = self.whole(tensor) if maker is None else self.made(*maker)
            needs = [self.reads(*r).get(tensor) for r in readers] if readers else [self.whole(tensor)]
            parts = [c for n in needs if n is not None and (c := intersect(have, n)) is not None]
            element = self.graph.tensors[tensor].dtype.size_bytes * 8
            got = self._bits[at] = box_elements(hull(parts)) * element if parts else 0
        return got


def task_of(layer: Layer, extent: int, key: Key) -> tuple[Box, int, int]:
    """(output box, first and end of its input channels) of a share of the layer."""
    split, first, units, _ = key
    grid = layer.grids.get(split)
    if grid is not None:
        c = grid.cells[first]
        return c.box, c.reduce_from, c.reduce_to
    for r in layer.splits:
        if r.factor == split:
            lo, hi = r.bounds(first, units)
            return (layer.box, lo, hi) if r.axis < 0 else (cut(layer.box, r.axis, lo, hi), 0, extent)
    return layer.box, 0, extent
