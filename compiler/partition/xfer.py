"""XFER (Super-LIP) as a decision: which tasks share weights or inputs, over which hops, and what a block then takes.

Needs the cells of an even cut, or pieces on engines; guarantees groups whose tasks take equal blocks in equal order,
and hops over which every share reaches every task once, each passed on by an engine that has it already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Conv, Graph, Node
from compiler.ops import input_share_name, input_share_of, share_bounds, share_name, share_of, shared_blocks
from compiler.partition.grids import Cell, Grid
from compiler.partition.pieces import Piece
from compiler.plan.model import Box, HopPlan, SlicePlan, XferPlan
from cost_models.primitives import transfer_ps

Route = Callable[[str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Hop:
    """One share from one engine to another; `depth`: how many hops it has behind it."""

    share: int
    source: str
    target: str
    depth: int
    route: tuple[str, ...]


def weights_of(node: Node, role: str, box: Box, reduce_from: int, reduce_to: int) -> tuple[int, ...] | None:
    """What tells the weights of one task from those of another of the layer; None for tasks without weights."""
    if not isinstance(node, Conv) or role == "reduce":
        return None
    axis = node.axes[1]
    return (*box[2 * axis : 2 * axis + 2], reduce_from, reduce_to)


def input_of(node: Node, role: str, box: Box, reduce_from: int, reduce_to: int) -> tuple[int, ...] | None:
    """What tells the input of one task from that of another of the layer; None for tasks whose output channels do not
    all need the same input."""
    if not isinstance(node, Conv) or role == "reduce" or node.groups > 1:
        return None
    axis = node.axes[1]
    return (*box[: 2 * axis], *box[2 * axis + 2 :], reduce_from, reduce_to)


def key_of(node: Node, item: Cell | Piece | SlicePlan, *, inputs: bool) -> tuple[int, ...] | None:
    """`input_of` or `weights_of` a task."""
    told = input_of if inputs else weights_of
    return told(node, item.role, item.box, item.reduce_from, item.reduce_to)


def sharing(node: Node, grid: Grid, sharers: int, *, inputs: bool = False) -> list[str] | None:
    """By cell: its style when every `sharers` cells with equal weights (inputs: equal input) share them; None if they
    cannot be dealt out so."""
    members: dict[tuple[int, ...], list[int]] = {}
    styles = ["stream"] * len(grid.cells)
    for i, c in enumerate(grid.cells):
        key = key_of(node, c, inputs=inputs)
        if key is not None:
            members.setdefault(key, []).append(i)
    named = input_share_name if inputs else share_name
    for own in members.values():
        if len(own) < sharers or len(own) % sharers:
            return None
        for k, i in enumerate(own):
            styles[i] = named(k % sharers, sharers)
    return styles if members else None


def sizes_of_groups(node: Node, grid: Grid, *, inputs: bool = False) -> tuple[int, ...]:
    """Numbers of sharers worth trying: all cells with equal weights (inputs: input), and pairs of neighbours."""
    count: dict[tuple[int, ...], int] = {}
    for c in grid.cells:
        key = key_of(node, c, inputs=inputs)
        if key is not None:
            count[key] = count.get(key, 0) + 1
    most = min(count.values(), default=1)
    return tuple(dict.fromkeys(n for n in (most, 2) if n > 1 and most % n == 0))


def shared_name(grid: Grid, sharers: int, *, inputs: bool = False) -> str:
    """The name of the grid with shared weights or inputs."""
    return f"{grid.name},{'xfer-inputs' if inputs else 'xfer'}={sharers}"


def sharers_of(style: str) -> tuple[int, int, bool]:
    """(index from 0, sharers, whether it is inputs that they share) of a task's style; (0, 1, False) where none are."""
    k, n = share_of(style)
    return (k, n, False) if n > 1 else (*input_share_of(style), input_share_of(style)[1] > 1)


def groups(node: Node, items: Sequence[Cell | Piece | SlicePlan], styles: Sequence[str]) -> list[list[int]]:
    """Indices of the tasks of each group, in order of their shares."""
    open_groups: dict[tuple[bool, tuple[int, ...]], list[int]] = {}
    out: list[list[int]] = []
    for i, (c, style) in enumerate(zip(items, styles, strict=True)):
        k, n, inputs = sharers_of(style)
        key = key_of(node, c, inputs=inputs)
        if n == 1 or key is None:
            continue
        if k == 0:
            open_groups[(inputs, key)] = []
            out.append(open_groups[(inputs, key)])
        open_groups[(inputs, key)].append(i)
    return out


def hops_of(engines: Sequence[str], route: Route) -> list[Hop]:
    """Every share to every engine along a tree of shortest next steps: neighbour to neighbour on a chain, both ways
    round a ring, rows and columns of a torus; among equal steps the one whose links have carried least. In the order
    in which a block's messages pass the queues."""
    way = {(a, b): route(a, b) for a in engines for b in engines if a != b}
    out: list[Hop] = []
    carried: dict[str, int] = {}
    for k, owner in enumerate(engines):
        depth = {owner: 0}
        while len(depth) < len(engines):
            *_, a, b = min(
                (len(way[(a, b)]), depth[a], max((carried.get(x, 0) for x in way[(a, b)]), default=0), i, j, a, b)
                for i, a in enumerate(engines)
                if a in depth
                for j, b in enumerate(engines)
                if b not in depth
            )
            out.append(Hop(k, a, b, depth[a], way[(a, b)]))
            depth[b] = depth[a] + 1
            for x in way[(a, b)]:
                carried[x] = carried.get(x, 0) + 1
    return sorted(out, key=lambda h: (h.depth, h.share))


def block_ps(
    hops: Sequence[Hop], size_bytes: int, grain_bytes: int, links: Mapping[str, tuple[int, int]], stream: int
) -> int:
    """Picoseconds from when every share of a block is loaded until all of it is everywhere, nothing else under way.
    links: bits a second and nanoseconds of each; stream: bits a second of a core's own end."""
    sharers = 1 + max(h.share for h in hops)
    busy: dict[str, int] = {}
    latency = 0
    reached: dict[tuple[int, str], int] = {}
    for h in hops:
        lo, hi = share_bounds(size_bytes, h.share, sharers, grain_bytes)
        rate = min([stream, *(links[x][0] for x in h.route)])
        took = transfer_ps(hi - lo, rate)
        for queue in (f"tx {h.source}", f"rx {h.target}"):
            busy[queue] = busy.get(queue, 0) + took
        for x in h.route:
            busy[x] = busy.get(x, 0) + transfer_ps(hi - lo, links[x][0])
        at = reached.get((h.share, h.source), 0) + sum(links[x][1] for x in h.route) * 1000
        reached[(h.share, h.target)] = at
        latency = max(latency, at)
    return max(busy.values()) + latency


def settle_styles(graph: Graph, node: Node, pieces: Sequence[Piece]) -> list[str]:
    """The styles of a layer's pieces, "stream" for those of a group whose tasks do not take equal blocks."""
    styles = [p.memory for p in pieces]
    for own in groups(node, pieces, styles):
        inputs = sharers_of(styles[own[0]])[2]
        blocks = {
            shared_blocks(graph, node, p.role, p.box, (p.reduce_from, p.reduce_to), dict(p.tile), inputs=inputs)
            for p in (pieces[i] for i in own)
        }
        if len(blocks) > 1 or len({pieces[i].slot for i in own}) < len(own):
            for i in own:
                styles[i] = "stream"
    return styles


def xfer_plans(graph: Graph, node: Node, slices: Sequence[SlicePlan], route: Route) -> tuple[XferPlan, ...]:
    """The plan's record of a layer's groups."""
    out: list[XferPlan] = []
    for own in groups(node, slices, [s.memory for s in slices]):
        first = slices[own[0]]
        inputs, reach = sharers_of(first.memory)[2], (first.reduce_from, first.reduce_to)
        size = [0] * len(own)
        for *_, grain, block in shared_blocks(graph, node, first.role, first.box, reach, first.tile, inputs=inputs):
            for k in range(len(own)):
                lo, hi = share_bounds(block, k, len(own), grain)
                size[k] += hi - lo
        hops = hops_of([slices[i].engine for i in own], route)
        plans = tuple(HopPlan(h.share, h.source, h.target, size[h.share] * 8, h.route) for h in hops)
        out.append(XferPlan(tuple(slices[i].task for i in own), plans, inputs))
    return tuple(out)


def renamed(plans: Sequence[XferPlan], names: Mapping[str, str]) -> tuple[XferPlan, ...]:
    """The same with other task names."""
    return tuple(replace(p, tasks=tuple(names[t] for t in p.tasks)) for p in plans)
