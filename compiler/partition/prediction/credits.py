"""What the credits of channels leave of the interval: a message holds one from its start until its tail is there.

Needs a plan, the graph and the cluster's links; gives a floor that no interval is below. It matters where frames are
small and routes long: with four messages in flight over 10 us of PCIe no frame follows another sooner than 2.5 us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from compiler.ir.graph import Graph, storage4
from compiler.ops import share_bounds
from compiler.ops.boxes import box_sizes, whole_box
from compiler.ops.dma import merge_dims
from compiler.partition.prediction.messages import CHUNK_BYTES, CHUNKS, HOST
from compiler.partition.prediction.passing import Group
from compiler.plan.model import Box, Plan
from cost_models.primitives import ceil_div, transfer_ps


def message_count(box: Box, elem: int, ends: tuple[Box, ...]) -> int:
    """Messages that a box of a tensor is sent in. ends: the boxes that its buffers at both ends hold, dense.

    A message has at most CHUNK_BYTES, and at both ends three dimensions."""
    sizes = box_sizes(box)
    for axis in range(4):
        inner = prod(sizes[axis + 1 :]) * elem
        if inner > CHUNK_BYTES:
            continue
        size = min(sizes[axis], CHUNK_BYTES // inner)
        size = ceil_div(sizes[axis], ceil_div(sizes[axis], size))
        trial = (*(1,) * axis, size, *sizes[axis + 1 :])
        if all(len(merge_dims(_dims(trial, box_sizes(end), elem), elem)) <= 3 for end in ends):
            return ceil_div(sizes[axis], size) * prod(sizes[:axis])
    return ceil_div(sizes[3], CHUNK_BYTES // elem) * prod(sizes[:3])


def _dims(sizes: tuple[int, ...], held: tuple[int, ...], elem: int) -> list[tuple[int, int, int]]:
    """(count, stride in a dense buffer of extents `held`, stride in the message), outermost first."""
    out: list[tuple[int, int, int]] = []
    there = packed = elem
    for count, extent in zip(reversed(sizes), reversed(held), strict=True):
        out.insert(0, (count, there, packed))
        there, packed = there * extent, packed * count
    return out


def credits_ps(
    plan: Plan,
    graph: Graph,
    links: Mapping[str, tuple[int, int]],
    stored: Mapping[str, Mapping[str, Box]],
    together: Sequence[Group] = (),
) -> int:
    """The least interval of a replica that the credits allow. links: bits a second and latency in ns; stored: by engine
    and tensor the box that its buffer holds; together: tasks whose weights pass the same channels, share by share."""
    held: dict[tuple[str, str], int] = {}
    for g in together:
        for hop in (h for h in g.hops if h.route):
            latency_ps, rate = 1000 * sum(links[k][1] for k in hop.route), min(links[k][0] for k in hop.route)
            pair = (hop.source, hop.target)
            for size, grain in zip(g.sizes, g.grains, strict=True):
                lo, hi = share_bounds(size, hop.share, len(g.tasks), grain)
                count = ceil_div(hi - lo, CHUNK_BYTES)
                held[pair] = held.get(pair, 0) + count * latency_ps + transfer_ps(hi - lo, rate)
    for c, count in zip(plan.channels, message_counts(plan, graph, stored), strict=True):
        if not c.route or (c.tensor not in graph.tensors and HOST in (c.source, c.target)):
            continue
        latency_ps = 1000 * sum(links[k][1] for k in c.route)
        moving_ps = transfer_ps(c.bits_per_frame // 8, min(links[k][0] for k in c.route))
        pair = (c.source, c.target)
        held[pair] = held.get(pair, 0) + count * latency_ps + moving_ps
    return max((ceil_div(ps, CHUNKS) for ps in held.values()), default=0)


def message_counts(plan: Plan, graph: Graph, stored: Mapping[str, Mapping[str, Box]]) -> list[int]:
    """Of each channel: how many messages a frame. stored: as of `credits_ps`."""
    out: list[int] = []
    for c in plan.channels:
        tensor = graph.tensors.get(c.tensor)
        if tensor is None and not (c.source in stored and c.target in stored):
            out.append(1)
            continue
        ends = tuple(
            stored[e][c.tensor] if e in stored else whole_box(storage4(graph.tensors[c.tensor].shape))
            for e in (c.source, c.target)
        )
        out.append(message_count(c.box, 4 if tensor is None else tensor.dtype.size_bytes, ends))
    return out
