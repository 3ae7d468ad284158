"""The prediction of tasks that share their weights: the tile recurrence of each, block by block side by side.

Needs the steps of a group's tasks and the hops of its shares; gives when each ends. A block can be computed with when
its task's own share is loaded and all others have arrived: every hop waits for its sender's TX queue, for the share to
be there, for the links, for its receiver's RX queue and for the ring slot that the block before last leaves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field

from compiler.ir.graph import Graph
from compiler.ops import registry, share_bounds
from compiler.partition.prediction.messages import CHUNK_BYTES, CHUNKS, Calendar
from compiler.partition.prediction.recurrence import Core, Result, Steps
from compiler.plan.model import HopPlan, Plan
from cost_models.primitives import STREAM_BYTES_PER_CYCLE, ceil_div, cycles_ps, ps_cycles, transfer_ps

# Gives (its share is loaded, the ring's slot is free), takes (all of the block is there, all is sent on), in cycles.
Work = Generator[tuple[int, int], tuple[int, int], Result]


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that share weights: engine and first steps of blocks by task, sizes of the blocks, hops."""

    tasks: tuple[str, ...]
    engines: tuple[str, ...]
    starts: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    hops: tuple[HopPlan, ...]
    replica: int
    after: str  # the layer that all of them come behind on their engines; its results stand behind their first block


def groups_of(plan: Plan, graph: Graph) -> list[Group]:
    """The groups of a plan."""
    out: list[Group] = []
    before = _layers_before(plan)
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        slices = {s.task: s for s in layer.slices}
        for x in layer.xfer:
            own = [slices[t] for t in x.tasks]
            blocks = [
                registry.block_steps(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to), s.tile) for s in own
            ]
            starts = tuple(tuple(step for step, _ in b) for b in blocks)
            sizes = tuple(size for _, size in blocks[0])
            behind = {before.get(t, "") for t in x.tasks}
            after = behind.pop() if len(behind) == 1 else ""
            engines = tuple(s.engine for s in own)
            out.append(Group(x.tasks, engines, starts, sizes, x.hops, own[0].replica, after))
    return out


def _layers_before(plan: Plan) -> dict[str, str]:
    """Of each task the layer before it on its engine, if no slice of that waits for another."""
    plain = {layer.name for layer in plan.layers if all(s.role == "full" for s in layer.slices)}
    listed = sorted((s.order, s.engine, s.task, layer.name) for layer in plan.layers for s in layer.slices)
    last: dict[str, str] = {}
    out: dict[str, str] = {}
    for _, engine, task, name in listed:
        if last.get(engine, "") in plain:
            out[task] = last[engine]
        last[engine] = name
    return out


@dataclass(slots=True)
class Queues:
    """When the queues of the engines are free of shares, and the links; when the last shares of each channel (as many
    as it holds) arrived. In ps."""

    tx: dict[str, int] = field(default_factory=dict)
    rx: dict[str, int] = field(default_factory=dict)
    links: dict[str, Calendar] = field(default_factory=dict)
    room: dict[tuple[str, str], deque[int]] = field(default_factory=dict)


class Running:
    """A group of one frame under way. Its first block comes before anything is known of the tasks' data: it is passed
    when the tasks before on these cores have been played, before what those send."""

    def __init__(
        self,
        group: Group,
        cores: Mapping[str, Core],
        steps: Mapping[str, Steps],
        links: Mapping[str, tuple[int, int]],
        queues: Queues,
    ) -> None:
        self.group, self.cores, self.links, self.queues = group, cores, links, queues
        self.clock = [cores[e].clock_khz for e in group.engines]
        self.starts = [[0, 0] for _ in group.tasks]
        self.begun = [cores[e].st for e in group.engines]
        self.works = [
            _task(cores[e], steps[t], start, frozenset(first))
            for t, e, start, first in zip(group.tasks, group.engines, self.starts, group.starts, strict=True)
        ]
        self.asked = [next(w) for w in self.works]
        self.answers = self._pass(group.sizes[0])

    def finish(
        self, starts: Sequence[tuple[int, int]], floor: Mapping[str, tuple[int, int]]
    ) -> list[tuple[int, Result]]:
        """(when its core turned to it, what Core.task gives) of every task. starts: (data there, result's slot free) of
        each, in cycles; floor: ps at which TX and RX queue of an engine are free of what stands before the others."""
        for own, given in zip(self.starts, starts, strict=True):
            own[:] = given
        for e, (tx, rx) in floor.items():
            self.queues.tx[e], self.queues.rx[e] = max(self.queues.tx.get(e, 0), tx), max(self.queues.rx.get(e, 0), rx)
        out: list[tuple[int, Result]] = []
        for size in (*self.group.sizes[1:], 0):
            asked = []
            for w, answer, before, start in zip(self.works, self.answers, self.begun, starts, strict=True):
                try:
                    asked.append(w.send(answer))
                except StopIteration as end:
                    out.append((max(before, start[0]), end.value))
            if size:
                self.asked = asked
                self.answers = self._pass(size)
        return out

    def _pass(self, size: int) -> list[tuple[int, int]]:
        group, clock = self.group, self.clock
        there = {(k, e): cycles_ps(self.asked[k][0], clock[k]) for k, e in enumerate(group.engines)}
        free = [cycles_ps(slot, clock[k]) for k, (_, slot) in enumerate(self.asked)]
        at = {e: k for k, e in enumerate(group.engines)}
        arrived, sent = _pass(group, size, there, free, clock, at, self.links, self.queues)
        return [(ps_cycles(a, khz), ps_cycles(s, khz)) for a, s, khz in zip(arrived, sent, clock, strict=True)]


def _pass(
    group: Group,
    size: int,
    loaded: Mapping[tuple[int, str], int],
    free: Sequence[int],
    clock: Sequence[int],
    at: Mapping[str, int],
    links: Mapping[str, tuple[int, int]],
    queues: Queues,
) -> tuple[list[int], list[int]]:
    """(when all of a block is at each engine, when each has sent all of it on), in ps."""
    arrived, sent = [0] * len(free), [0] * len(free)
    there: dict[tuple[int, int, str], int] = {}
    depth: dict[tuple[int, str], int] = dict.fromkeys(enumerate(group.engines), 0)
    waves: list[tuple[tuple[int, int, int, int], HopPlan, int, int]] = []
    for k, hop in enumerate(group.hops):
        lo, hi = share_bounds(size, hop.share, len(group.tasks))
        count = ceil_div(hi - lo, CHUNK_BYTES)
        behind = depth[(hop.share, hop.source)]
        depth[(hop.share, hop.target)] = behind + 1
        for c in range(count):
            part = (hi - lo) * (c + 1) // count - (hi - lo) * c // count
            waves.append(((behind + c, c, hop.share, k), hop, c, part))
    for _, hop, c, part in sorted(waves, key=lambda w: w[0]):
        i, j = at[hop.source], at[hop.target]
        ready = there.get((hop.share, c, hop.source), loaded.get((hop.share, hop.source), 0))
        room = queues.room.setdefault((hop.source, hop.target), deque(maxlen=CHUNKS))
        credit = room[0] if len(room) == CHUNKS else 0
        begin = max(ready, queues.tx.get(hop.source, 0), credit)
        end = begin + cycles_ps(ceil_div(part, STREAM_BYTES_PER_CYCLE), clock[i])
        latency = 0
        for link in hop.route:
            rate, ns = links[link]
            latency += ns * 1000
            end = max(end, queues.links.setdefault(link, Calendar()).take(begin, transfer_ps(part, rate)))
        queues.tx[hop.source] = end
        tail = max(end + latency, queues.rx.get(hop.target, 0), free[j])
        queues.rx[hop.target] = tail
        there[(hop.share, c, hop.target)] = tail
        room.append(tail)
        arrived[j], sent[i] = max(arrived[j], tail), max(sent[i], end)
    return arrived, sent


def _task(core: Core, s: Steps, start: Sequence[int], starts: frozenset[int]) -> Work:
    """Core.task, stopping at each weight block until the others' shares of it are there. start: when its data is there
    and when its result's slot is free, known from the first stop on."""
    ld, cx, st = core.ld, core.cx, core.st
    closed, before, last = core.closed, core.before, core.last
    waiting = True
    group = loaded = held = 0
    block_ends = [closed, cx]  # when the MACs of the two blocks before were done
    sent = list(core.sent)
    for i, (ahead, main, head, tail, store) in enumerate(zip(s.ahead, s.main, s.head, s.tail, s.store, strict=True)):
        there = 0
        if ahead or main:
            ld = max(ld, closed)
            closed = cx
            if i in starts:
                block_ends.append(cx)
                ld = max(ld, sent[-2])
                ld += ahead
                there, gone = yield ld, max(block_ends[-3], sent[-2])
                sent.append(gone)
            else:
                ld += ahead
            if main:
                if waiting:
                    waiting = False
                    ld = max(ld, core.st, start[0])
                ld += main
                loaded = ld
            group = max(ld, there)
        cx = max(cx, group) + head
        if store:
            cx = max(cx, before) + tail
            st = max(st, cx)
            if start[1] > st:
                held += start[1] - st
                st = start[1]
            st += store
            before, last = last, st
        else:
            cx += tail
    core.ld, core.cx, core.st = ld, cx, st
    core.closed, core.before, core.last, core.sent = closed, before, last, (sent[-2], sent[-1])
    return loaded, st, held
