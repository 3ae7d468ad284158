"""WORK memory of a core: one buffer a tensor, the bounding box of what the core makes and receives, dense.

Nothing is shared between tensors. A buffer has as many frame slots as frames of it can be alive: a piece used d stages
after it was made needs d + 1, and what is sent or received has at least two, so that transfers overlap with work.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Graph
from compiler.isa.program import Placement
from compiler.isa.table import Space
from compiler.ops import View
from compiler.ops.boxes import align, bounding, box_elements, intersect
from compiler.plan.model import Box
from compiler.schedule.flow import Flow

PARTIAL_DTYPE = "i32"


@dataclass(frozen=True, slots=True)
class Buffers:
    """The buffers of one core: views by tensor name, the memory map, bytes in all."""

    views: dict[str, View]
    placements: tuple[Placement, ...]
    bytes: int


def dtype_of(graph: Graph, tensor: str) -> tuple[str, int]:
    """(name of the element type, bytes an element); tensors that the graph does not know are partial sums."""
    t = graph.tensors.get(tensor)
    return (t.dtype.value, t.dtype.size_bytes) if t is not None else (PARTIAL_DTYPE, 4)


def plan_buffers(graph: Graph, flow: Flow, rank: int) -> Buffers:
    """Buffers of a core in order of first appearance: received tensors, then made ones, task by task."""
    boxes: dict[str, Box] = {}
    depths: dict[str, int] = {}

    def use(tensor: str, box: Box, depth: int) -> None:
        boxes[tensor] = bounding(boxes.get(tensor), box)
        depths[tensor] = max(depths.get(tensor, 1), depth)

    for t in flow.transfers:
        if t.target == rank:
            last = max(stage for _, stage in t.readers)
            use(t.piece.tensor, t.box, max(2, last - t.piece.stage + 1))
        if t.piece.rank == rank:
            use(t.piece.tensor, t.piece.box, 2)
    for task in flow.tasks.get(rank, []):
        use(task.output, task.slice.box, 1)
        for tensor, box in task.reads:
            for p in flow.pieces.get(tensor, []):
                if p.rank == rank and intersect(p.box, box) is not None:
                    use(tensor, p.box, task.slice.stage - p.stage + 1)
    views: dict[str, View] = {}
    placements = []
    address = 0
    for tensor, box in boxes.items():
        dtype, elem = dtype_of(graph, tensor)
        size = box_elements(box) * elem
        stride, depth = align(size), depths[tensor]
        views[tensor] = View(tensor, Space.WORK, address, box, elem, depth, stride if depth > 1 else 0)
        placements.append(Placement(tensor, dtype, box, address, size, depth))
        address += stride * depth
    return Buffers(views, tuple(placements), address)
