"""The time of one frame under an allocation, quick enough to be asked thousands of times.

Needs a Problem and the latency of each route; guarantees ticks near the prediction's (within a few per cent; host
segments left out), and remembers the best allocations that it has seen.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler.ops.boxes import box_elements, intersect
from compiler.partition.boxes import Key
from compiler.partition.problem import HOST_SLOT, Allocation, Flow, Problem, Share, ticks_of_bits

MOST_KEPT = 16
Message = tuple[int, int, int, int]  # the maker's number, its slot, ticks on the way, ticks of latency


class Clock:
    """Makespan of one frame under an allocation: cores in order, messages after the last store of their producer and
    through the queues of both ends in order. A message is what its target needs of one piece: halos of row slices."""

    def __init__(self, problem: Problem, latency_ticks: Mapping[tuple[int, int], int]) -> None:
        self.p, self.latency = problem, latency_ticks
        self.work = 0  # tasks and messages timed so far
        self.inputs: dict[int, list[int]] = {x.index: [] for x in problem.table.layers}
        for f, flow in enumerate(problem.flows):
            for c in flow.consumers:
                self.inputs[c].append(f)
        self.rate: dict[tuple[int, int], int] = {}
        for pair, links in problem.route.items():
            self.rate[pair] = min((problem.links[k].bits_per_second for k in links), default=0)
        self._kept: dict[int, tuple[Share, ...]] = {}  # so that no other strategy gets the same id
        self._known: dict[tuple[int, ...], dict[int, list[Message]]] = {}
        self.best: dict[int, Allocation] = {}  # by makespan, the MOST_KEPT least

    def makespan(self, allocation: Allocation) -> int:
        """Ticks; the allocation is remembered if it is among the best so far."""
        value = self.timed(allocation)
        if value not in self.best and (len(self.best) < MOST_KEPT or value < max(self.best)):
            self.best[value] = allocation
            if len(self.best) > MOST_KEPT:
                del self.best[max(self.best)]
        return value

    def timed(self, allocation: Allocation) -> int:
        """Ticks; nothing is remembered but messages."""
        p = self.p
        free = [0] * p.slots
        sent, taken = [0] * p.slots, [0] * p.slots
        ends: dict[int, list[tuple[int, int]]] = {HOST_SLOT: [(HOST_SLOT, 0)]}  # of a layer's results: (slot, end)
        messages = [self._messages(f, allocation) for f in range(len(p.flows))]

        def moved(m: Message, j: int, ready: int) -> int:
            self.work += 1
            i, ticks = m[1], m[2]
            if i != HOST_SLOT:
                ready = max(ready, sent[i])
                sent[i] = ready + ticks
            tail = ready + ticks + m[3]
            if j != HOST_SLOT:
                tail = taken[j] = max(tail, taken[j] + ticks)
            return tail

        def arrival(f: int, slot: int) -> int:
            made, last = ends[p.flows[f].producer], 0
            for m in messages[f].get(slot, ()):
                end = made[m[0]][1]
                last = max(last, end if m[1] == slot else moved(m, slot, end))
            return last

        here: dict[tuple[int, int], int] = {}
        end_all = 0
        for layer in p.table.layers:
            partial: list[tuple[int, int, Key]] = []
            out: list[tuple[int, int]] = []
            for s in allocation[layer.index]:
                ready = 0
                if s.option.role == "reduce":
                    own = p.boxes.made(layer.index, s.key)
                    for slot, end, key in partial:
                        common = intersect(p.boxes.made(layer.index, key), own)
                        if common is not None:
                            m = self._message(0, slot, s.slot, box_elements(common) * 32)
                            ready = max(ready, end if slot == s.slot else moved(m, s.slot, end))
                else:
                    for f in self.inputs[layer.index]:
                        if (f, s.slot) not in here:
                            here[(f, s.slot)] = arrival(f, s.slot)
                        ready = max(ready, here[(f, s.slot)])
                self.work += 1
                end = max(ready, free[s.slot]) + s.option.ticks
                free[s.slot] = end
                if s.option.role == "partial":
                    partial.append((s.slot, end, s.key))
                else:
                    out.append((s.slot, end))
                end_all = max(end_all, end)
            ends[layer.index] = out
        for f, flow in enumerate(p.flows):
            if flow.to_host and flow.producer != HOST_SLOT:
                end_all = max(end_all, arrival(f, HOST_SLOT))
        return end_all

    def _messages(self, f: int, allocation: Allocation) -> dict[int, list[Message]]:
        """By target slot: the flow's messages between the strategies of its producer and its consumers."""
        flow = self.p.flows[f]
        ends = [allocation[x] for x in (flow.producer, *flow.consumers) if x != HOST_SLOT]
        key = (f, *map(id, ends))
        got = self._known.get(key)
        if got is None:
            self._kept.update((id(shares), shares) for shares in ends)
            got = self._known[key] = self._between(flow, allocation)
        return got

    def _between(self, flow: Flow, allocation: Allocation) -> dict[int, list[Message]]:
        boxes = self.p.boxes
        makers: list[tuple[int, tuple[int, Key] | None]] = [(HOST_SLOT, None)]
        if flow.producer != HOST_SLOT:
            made = [s for s in allocation[flow.producer] if s.option.role != "partial"]
            makers = [(s.slot, (flow.producer, s.key)) for s in made]
        readers: dict[int, tuple[tuple[int, Key], ...]] = {}
        for c in flow.consumers:
            for s in allocation[c]:
                if s.option.role != "reduce":
                    readers[s.slot] = (*readers.get(s.slot, ()), (c, s.key))
        if flow.to_host:
            readers[HOST_SLOT] = ()
        out: dict[int, list[Message]] = {}
        for slot, who in readers.items():
            out[slot] = []
            for k, (source, maker) in enumerate(makers):
                if source == slot:
                    out[slot].append((k, source, 0, 0))
                elif bits := boxes.bits(flow.tensor, maker, who):
                    out[slot].append(self._message(k, source, slot, bits))
        return out

    def _message(self, k: int, i: int, j: int, bits: int) -> Message:
        if i == j:
            return (k, i, 0, 0)
        rate = self.rate[(i, j)]
        return (k, i, ticks_of_bits(bits, rate, self.p.ref_khz) if rate else 0, self.latency[(i, j)])
