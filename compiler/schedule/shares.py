"""XFER as messages: shares of weight or input blocks in the order in which they pass the queues, and what guards them.

Needs a plan whose tasks share weights or inputs (LayerPlan.xfer) and stand at stage 0. Block by block, every share
passes along its hops; messages of one block stand together in the global order. That order stays one that all cores can
follow: the blocks of a layer stand before what its tasks send, and only its first block of weights before what the
layer before it sends, so that it comes while that layer still computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Graph
from compiler.isa.canonical import canonical_fields
from compiler.isa.program import Instruction
from compiler.isa.table import Queue
from compiler.ops import share_bounds, shared_blocks
from compiler.ops.shares import SHARE_GRAIN_BYTES
from compiler.plan.model import LayerPlan, Plan, XferPlan
from compiler.schedule.flow import Flow
from cost_models.primitives import ceil_div

Depend = tuple[Queue, int, Queue, int, int]  # producer, its index, consumer, its index, iterations between
Place = tuple[int, int, int]  # order of the task that comes next, kind, number


@dataclass(frozen=True, slots=True)
class ShareMessage:
    """Bytes [lo, hi) of weight block `block` (counted by task) of the tasks at both ends; `owner` loads them. inputs:
    of an input block."""

    place: Place
    owner: str
    block: int
    source: int
    target: int
    source_task: str
    target_task: str
    lo: int
    hi: int
    inputs: bool = False
    tag: int = 0

    @property
    def bytes(self) -> int:
        return self.hi - self.lo


def share_messages(graph: Graph, plan: Plan, flow: Flow, most_bytes: int) -> list[ShareMessage]:
    """All share messages of a replica, in the global order; tags are still to be given."""
    out: list[ShareMessage] = []
    ranks = {e.id: e.rank for e in plan.engines}
    for layer in plan.layers:
        for group in layer.xfer:
            own = [s for s in layer.slices if s.task in group.tasks and s.replica == flow.replica]
            if own:
                out += _group(graph, layer, group, flow, ranks, most_bytes)
    return sorted(out, key=lambda m: m.place)


def _group(
    graph: Graph, layer: LayerPlan, group: XferPlan, flow: Flow, ranks: dict[str, int], most_bytes: int
) -> list[ShareMessage]:
    slices = {s.task: s for s in layer.slices}
    node = next(n for n in graph.nodes if n.name == layer.name)
    first = slices[group.tasks[0]]
    reach = (first.reduce_from, first.reduce_to)
    blocks = shared_blocks(graph, node, first.role, first.box, reach, first.tile, inputs=group.inputs)
    task_on = {slices[t].engine: t for t in group.tasks}
    depth: dict[tuple[int, str], int] = {(k, slices[t].engine): 0 for k, t in enumerate(group.tasks)}
    for hop in group.hops:
        depth[(hop.share, hop.target)] = depth[(hop.share, hop.source)] + 1
    own_place = min(s.order for s in layer.slices if s.replica == flow.replica)
    early = None if group.inputs else _before(group, flow)  # inputs are not there before the layer begins
    out: list[ShareMessage] = []
    for b, (*_, grain, size) in enumerate(blocks):
        wave: list[tuple[tuple[int, int, int, int], ShareMessage]] = []
        for k, hop in enumerate(group.hops):
            lo, hi = share_bounds(size, hop.share, len(group.tasks), grain)
            for c, (a, z) in enumerate(_chunks(lo, hi, most_bytes)):
                message = ShareMessage(
                    (0, 0, 0), group.tasks[hop.share], b, ranks[hop.source], ranks[hop.target], task_on[hop.source],
                    task_on[hop.target], a, z, group.inputs,
                )  # fmt: skip
                wave.append(((depth[(hop.share, hop.source)] + c, c, hop.share, k), message))
        head = (early, 1) if b == 0 and early is not None else (own_place, 0)
        for _, m in sorted(wave, key=lambda x: x[0]):
            out.append(replace(m, place=(*head, len(out))))
    return out


def _before(group: XferPlan, flow: Flow) -> int | None:
    """The order of the first slice of the layer that all tasks of the group come behind on their cores, -1 if they come
    first; None if there is no one such layer, or its slices wait for each other."""
    before: set[str | None] = set()
    for tasks in flow.tasks.values():
        names = [t.slice.task for t in tasks]
        for task in group.tasks:
            if task in names:
                k = names.index(task)
                before.add(tasks[k - 1].node.name if k else None)
    if len(before) != 1:
        return None
    name = before.pop()
    if name is None:
        return -1
    slices = [t.slice for tasks in flow.tasks.values() for t in tasks if t.node.name == name]
    return min(s.order for s in slices) if all(s.role == "full" for s in slices) else None


def _chunks(lo: int, hi: int, most_bytes: int) -> list[tuple[int, int]]:
    """[lo, hi) in parts of about equal size, each at most `most_bytes`."""
    count = ceil_div(hi - lo, most_bytes)
    step = ceil_div(ceil_div(hi - lo, count), SHARE_GRAIN_BYTES) * SHARE_GRAIN_BYTES
    return [(a, min(hi, a + step)) for a in range(lo, hi, step)]


def share_instruction(m: ShareMessage, outgoing: bool, channel: int) -> Instruction:
    """The TX or RX of a share at one end; its address is relative to the block."""
    space = "act" if m.inputs else "wgt"
    fields = {
        "elem": 1, "rank": m.target if outgoing else m.source, "channel": channel, space: 1, "depth": 1,
        "n2": 1, "n1": 1, "n0": m.bytes, "dram_s0": 1, "tag": m.tag, "bytes": m.bytes, "part_addr": m.lo,
    }  # fmt: skip
    queue = Queue.TX if outgoing else Queue.RX
    return Instruction(queue.name, queue, canonical_fields(queue.name, fields))


@dataclass(slots=True)
class Block:
    """A block of the ring of streamed weights: its size, the load of its bytes [lo, hi), the MACs that read it. Of a
    task's shared inputs: the same in ACT, and where there."""

    size: int = 0
    load: int = -1
    lo: int = 0
    hi: int = 0
    first_mac: int = -1
    last_mac: int = -1
    base: int = 0


@dataclass(frozen=True, slots=True)
class Passing:
    """A TX or RX of bytes [lo, hi) of a block, as an index into its queue."""

    queue: Queue
    at: int
    block: int
    lo: int
    hi: int


def guards(blocks: Sequence[Block], slots: Sequence[int], passed: Sequence[Passing]) -> list[Depend]:
    """Dependencies that keep shares and blocks apart: what arrived or was loaded before it is passed on or read, what
    was read and passed on before its bytes of the ring are filled again."""
    out: list[Depend] = []
    sent: dict[int, list[Passing]] = {}
    received: dict[int, list[Passing]] = {}
    for p in passed:
        (sent if p.queue == Queue.TX else received).setdefault(p.block, []).append(p)

    def free(k: int, lo: int, hi: int, queue: Queue, at: int) -> None:
        """The last readers of these bytes before block k: a MAC (only RX need wait for it: loads have credits), TX."""
        mac, passing = queue == Queue.RX, True
        for j, back in _before_in_slot(slots, k):
            if mac and blocks[j].size > lo:
                out.append((Queue.CX, blocks[j].last_mac, queue, at, back))
                mac = False
            if passing and (there := [p.at for p in sent.get(j, []) if p.lo < hi and lo < p.hi]):
                out.append((Queue.TX, max(there), queue, at, back))
                passing = False
            if not (mac or passing):
                return

    for k, block in enumerate(blocks):
        free(k, block.lo, block.hi, Queue.LD, block.load)
        for r in received.get(k, []):
            free(k, r.lo, r.hi, Queue.RX, r.at)
            out.append((Queue.RX, r.at, Queue.CX, block.first_mac, 0))
        for t in sent.get(k, []):
            source = next((r for r in received.get(k, []) if r.lo <= t.lo and t.hi <= r.hi), None)
            if source is None:
                out.append((Queue.LD, block.load, Queue.TX, t.at, 0))
            else:
                out.append((Queue.RX, source.at, Queue.TX, t.at, 0))
    return out


def input_guards(blocks: Sequence[Block], passed: Sequence[Passing]) -> list[Depend]:
    """The same for the input blocks of one task, which take two slots in turn. Its own load waits for its slot as any
    load does, and for what was sent from there; what others load comes behind it."""
    out: list[Depend] = []
    received = {k: [p for p in passed if p.queue == Queue.RX and p.block == k] for k in range(len(blocks))}
    sent = {k: [p for p in passed if p.queue == Queue.TX and p.block == k] for k in range(len(blocks))}
    for k, block in enumerate(blocks):
        if k >= 2 and sent[k - 2]:
            out.append((Queue.TX, max(p.at for p in sent[k - 2]), Queue.LD, block.load, 0))
        for r in received[k]:
            out.append((Queue.LD, block.load, Queue.RX, r.at, 0))
            out.append((Queue.RX, r.at, Queue.CX, block.first_mac, 0))
        for t in sent[k]:
            source = next((r for r in received[k] if r.lo <= t.lo and t.hi <= r.hi), None)
            if source is None:
                out.append((Queue.LD, block.load, Queue.TX, t.at, 0))
            else:
                out.append((Queue.RX, source.at, Queue.TX, t.at, 0))
    return out


def _before_in_slot(slots: Sequence[int], k: int) -> Iterator[tuple[int, int]]:
    """(block, iterations before) of those in block k's slot, the youngest first, down to block k itself."""
    for j in range(k - 1, -1, -1):
        if slots[j] == slots[k]:
            yield j, 0
    for j in range(len(slots) - 1, k - 1, -1):
        if slots[j] == slots[k]:
            yield j, 1
