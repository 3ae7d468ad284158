"""Tasks that share weights or inputs (XFER): who passes which share of a block to whom, in the order of the queues.

Needs a plan and its graph; gives the groups of tasks and, of each, its messages with their places in the one global
order. They are counted by credits.py and played by sharing.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compiler.ir.graph import Graph
from compiler.ops import registry, share_bounds
from compiler.ops.shares import SHARE_GRAIN_BYTES
from compiler.partition.prediction.messages import CHUNK_BYTES
from compiler.plan.model import HopPlan, Plan, SlicePlan
from cost_models.primitives import ceil_div


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that share weights, or inputs: engine and first steps of blocks by task, sizes of the blocks and at what
    multiples of bytes they are cut, hops.

    place: the order before whose results its blocks stand; early: the same of the first block, which may stand before
    what the layer before it sends, None if it does not."""

    tasks: tuple[str, ...]
    engines: tuple[str, ...]
    starts: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    grains: tuple[int, ...]
    hops: tuple[HopPlan, ...]
    place: int = 0
    early: int | None = None
    inputs: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """A message of weights or inputs: bytes [lo, hi) of a block, loaded by the task `owner` of its group; engines at
    its ends."""

    group: int
    block: int
    owner: int
    source: str
    target: str
    route: tuple[str, ...]
    lo: int
    hi: int
    place: tuple[int, int, int]  # order, kind, number


def groups_of(plan: Plan, graph: Graph) -> list[Group]:
    """The groups of a plan."""
    out: list[Group] = []
    before = _layers_before(plan)
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        slices = {s.task: s for s in layer.slices}
        for x in layer.xfer:
            own = [slices[t] for t in x.tasks]
            blocks = [
                registry.block_steps(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to), s.tile, inputs=x.inputs)
                for s in own
            ]
            starts = tuple(tuple(step for step, _, _ in b) for b in blocks)
            sizes, grains = tuple(size for _, _, size in blocks[0]), tuple(grain for _, grain, _ in blocks[0])
            behind = {before[t] for t in x.tasks}
            early = behind.pop() if len(behind) == 1 and not x.inputs else None
            place = min(s.order for s in layer.slices if s.replica == own[0].replica)
            engines = tuple(s.engine for s in own)
            out.append(Group(x.tasks, engines, starts, sizes, grains, x.hops, place, early, x.inputs))
    return out


def _layers_before(plan: Plan) -> dict[str, int | None]:
    """Of each task the order of the layer before it on its engine; -1 if there is none, None if its slices wait for
    each other."""
    orders: dict[tuple[str, int], int | None] = {}
    for layer in plan.layers:
        for s in layer.slices:
            of = [x for x in layer.slices if x.replica == s.replica]
            orders[layer.name, s.replica] = min(x.order for x in of) if all(x.role == "full" for x in of) else None
    listed: list[tuple[SlicePlan, str]] = [(s, layer.name) for layer in plan.layers for s in layer.slices]
    last: dict[str, int | None] = {}
    out: dict[str, int | None] = {}
    for s, name in sorted(listed, key=lambda x: (x[0].order, x[0].engine, x[0].task)):
        out[s.task] = last.get(s.engine, -1)
        last[s.engine] = orders[name, s.replica]
    return out


def shares_of(groups: Sequence[Group]) -> Iterator[Share]:
    """The messages of one frame: block by block, each share wave by wave along its hops."""
    for number, g in enumerate(groups):
        depth: dict[tuple[int, str], int] = dict.fromkeys(enumerate(g.engines), 0)
        behind: list[int] = []
        for hop in g.hops:
            behind.append(depth[(hop.share, hop.source)])
            depth[(hop.share, hop.target)] = behind[-1] + 1
        count = 0
        for block, size in enumerate(g.sizes):
            wave: list[tuple[tuple[int, int, int, int], HopPlan, int, int]] = []
            for k, hop in enumerate(g.hops):
                lo, hi = share_bounds(size, hop.share, len(g.tasks), g.grains[block])
                for c, (a, b) in enumerate(_parts(lo, hi)):
                    wave.append(((behind[k] + c, c, hop.share, k), hop, a, b))
            place = (g.early, 1) if block == 0 and g.early is not None else (g.place, 0)
            for _, hop, a, b in sorted(wave, key=lambda w: w[0]):
                yield Share(number, block, hop.share, hop.source, hop.target, hop.route, a, b, (*place, count))
                count += 1


def _parts(lo: int, hi: int) -> list[tuple[int, int]]:
    """[lo, hi) in messages of about equal size, whole grains."""
    count = ceil_div(hi - lo, CHUNK_BYTES)
    if not count:
        return []
    step = ceil_div(ceil_div(hi - lo, count), SHARE_GRAIN_BYTES) * SHARE_GRAIN_BYTES
    return [(a, min(hi, a + step)) for a in range(lo, hi, step)]
