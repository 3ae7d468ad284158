"""The strategies of every layer as cells (boxes on engines), and what they cost beside their neighbours' (a Pairwise).

Needs a Problem, the shares of each strategy and the latency of each route. The additive model counts layers one after
another, each by its longest slice, and between neighbours the messages from one layout to the other: queues of both
ends and links, all messages at once. A message that has other layers between its producer and its reader has as long
as the shortest strategies of these take. Host segments take their time in any case and are not in the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from compiler.ops.boxes import box_elements, intersect
from compiler.partition.options_table import Option
from compiler.partition.pairwise import FORBIDDEN, Pairwise
from compiler.partition.problem import HOST_SLOT, Flow, Problem, Share
from compiler.plan.model import Box

Strategy = tuple[Share, ...]
Ints = NDArray[np.int64]
NOTHING: Box = (0, 0, 0, 0, 0, 0, 0, 0)  # an empty box
UNHELD = 1 << 60  # bits a second of a way that nothing holds up


@dataclass(frozen=True, slots=True)
class Cells:
    """One side of a flow, the cells of all strategies one after another. boxes: [cells, 8]; slots: [cells]; first:
    where each strategy's begin; work: ticks from when a reader has its input to its end, at the least."""

    boxes: Ints
    slots: Ints
    first: Ints
    work: Ints

    @property
    def key(self) -> bytes:
        return b"|".join(x.tobytes() for x in (self.boxes, self.slots, self.first, self.work))

    @property
    def strategy(self) -> Ints:
        """[cells]: the number of each one's strategy."""
        return np.repeat(np.arange(len(self.first)), np.diff([*self.first, len(self.slots)]))


class Roads:
    """Rates, latencies and links between slots as arrays; the host is the last index."""

    def __init__(self, problem: Problem, latency_ticks: Mapping[tuple[int, int], int]) -> None:
        n = problem.slots + 1
        self.host, self.unit = n - 1, problem.ref_khz * 1000
        self.latency = np.zeros((n, n), np.int64)
        # As its sender's bank, its receiver's and both allow.
        self.sent_rate, self.taken_rate, self.rate = (np.ones((n, n), np.int64) for _ in range(3))
        self.uses: dict[int, Ints] = {}
        for (i, j), links in problem.route.items():
            rates = [problem.links[k].bits_per_second for k in links]
            banks = {e: problem.bank_rate[problem.bank_of[e]] * 8 for e in (i, j) if e != HOST_SLOT}
            self.rate[i, j], self.latency[i, j] = min([*rates, *banks.values()]), latency_ticks[(i, j)]
            self.sent_rate[i, j] = min([*rates, *(banks[e] for e in (i,) if e in banks)], default=UNHELD)
            self.taken_rate[i, j] = min([*rates, *(banks[e] for e in (j,) if e in banks)], default=UNHELD)
            for k in links:
                self.uses.setdefault(k, np.zeros((n, n), np.int64))[i, j] = 1
        self.link_rate = {k: problem.links[k].bits_per_second for k in self.uses}

    def ticks(self, bits: Ints, source: Ints, target: Ints) -> Ints:
        """[sources, targets], rounded up."""
        rate = self.rate[source[:, None], target[None, :]]
        return -(-bits * self.unit // rate)

    def carried(self, bits: Ints, makers: Cells, readers: Cells) -> Ints:
        """[strategies of the makers, of the readers]: ticks of the link that has the most to carry. bits: [makers'
        cells, readers' cells]."""
        n, used = len(self.latency), sorted(self.uses)
        out = np.zeros((len(makers.first), len(readers.first)), np.int64)
        if not used:
            return out
        # Whole numbers below 2^53, so floats are exact.
        uses = np.stack([self.uses[k].reshape(-1) for k in used], axis=1).astype(np.float64)
        rates = np.array([self.link_rate[k] for k in used], np.int64)
        ends = [*makers.first[1:], len(makers.slots)]
        for s, (lo, hi) in enumerate(zip(makers.first, ends, strict=True)):
            between = np.zeros((len(readers.first), n * n))
            pair = makers.slots[lo:hi, None] * n + readers.slots[None, :]
            between[readers.strategy[None, :], pair] = bits[lo:hi]
            ticks = (between @ uses).astype(np.int64) * self.unit // rates
            out[s] = ticks.max(axis=1)
        return out


def passing(makers: Cells, readers: Cells, element_bits: int) -> Ints:
    """Bits from every cell to every cell, also of the same slot."""
    bits = np.full((len(makers.slots), len(readers.slots)), element_bits, np.int64)
    for axis in range(0, 8, 2):
        low = np.maximum(makers.boxes[:, None, axis], readers.boxes[None, :, axis])
        high = np.minimum(makers.boxes[:, None, axis + 1], readers.boxes[None, :, axis + 1])
        bits *= np.maximum(high - low, 0)
    return bits


@dataclass(frozen=True, slots=True)
class Rent:
    """A price of memory on chip: so many ticks for so many bytes."""

    ticks: int
    size_bytes: int

    def of(self, held_bytes: int) -> int:
        return held_bytes * self.ticks // self.size_bytes


FREE = Rent(0, 1)


class Strategies:
    """Lists and costs; earliest.py makes a bound of the lists."""

    def __init__(
        self,
        problem: Problem,
        latency_ticks: Mapping[tuple[int, int], int],
        choices: Mapping[int, Sequence[Strategy]],
    ) -> None:
        self.p, self.choices, self.rent = problem, choices, FREE
        self.roads = Roads(problem, latency_ticks)
        self.bits = {t: x.dtype.size_bytes * 8 for t, x in problem.boxes.graph.tensors.items()}
        self._known: dict[tuple[object, ...], Ints] = {}

    def model(self) -> Pairwise:
        """The additive model: a node a layer, an edge between neighbours."""
        p = self.p
        own = [self._own(x.index) for x in p.table.layers]
        least = np.cumsum([0, *(int(c.min()) for c in own)])
        edges: list[tuple[int, int, Ints]] = []
        for f in p.flows:
            if f.producer == HOST_SLOT:
                if f.consumers:
                    own[f.consumers[0]] += self._exchange(self.host_cells(f), self.readers(f, f.consumers[0]), f)[0]
                continue
            if f.to_host:
                own[f.producer] += self._exchange(self.makers(f.producer), self.host_cells(f), f)[:, 0]
            for c in f.consumers:
                cost = self._exchange(self.makers(f.producer), self.readers(f, c), f)
                between = int(least[c] - least[f.producer + 1])
                edges.append((f.producer, c, np.maximum(0, cost - between)))
        for group in p.stuck:
            for a, b in pairwise(group):
                slots = [np.array([s[0].slot for s in self.choices[x]]) for x in (a, b)]
                edges.append((a, b, np.where(slots[0][:, None] == slots[1][None, :], 0, FORBIDDEN)))
        return Pairwise.of(own, edges)

    def _own(self, layer: int) -> Ints:
        """Ticks of each strategy of the layer: its longest slice, and partial sums on their way and added."""
        out = np.zeros(len(self.choices[layer]), np.int64)
        for k, shares in enumerate(self.choices[layer]):
            work: dict[tuple[int, bool], int] = {}
            for s in shares:
                late = s.option.role == "reduce"
                work[(s.slot, late)] = work.get((s.slot, late), 0) + s.option.ticks
            out[k] = max((t for (_, late), t in work.items() if not late), default=0)
            if any(late for _, late in work):
                out[k] += max(t for (_, late), t in work.items() if late) + self._gathering(layer, shares)
        return out

    def _gathering(self, layer: int, shares: Strategy) -> int:
        """Ticks in which the partial sums pass, by the queue that takes longest."""
        boxes, roads = self.p.boxes, self.roads
        sent: dict[int, int] = {}
        got: dict[int, int] = {}
        late = 0
        for r in (s for s in shares if s.option.role == "reduce"):
            for s in (s for s in shares if s.option.role == "partial" and s.slot != r.slot):
                common = intersect(boxes.made(layer, s.key), boxes.made(layer, r.key))
                if common is not None:
                    ticks = -(-32 * box_elements(common) * roads.unit // int(roads.rate[s.slot, r.slot]))
                    sent[s.slot] = sent.get(s.slot, 0) + ticks
                    got[r.slot] = got.get(r.slot, 0) + ticks
                    late = max(late, int(roads.latency[s.slot, r.slot]))
        return max([0, *sent.values(), *got.values()]) + late

    def _cells(self, strategies: Sequence[Sequence[tuple[Box, int, int]]]) -> Cells:
        flat = [c for s in strategies for c in s]
        first = np.cumsum([0, *(len(s) for s in strategies)])[:-1]
        boxes = np.array([b for b, _, _ in flat], np.int64).reshape(len(flat), 8)
        return Cells(
            boxes, np.array([e for _, e, _ in flat], np.int64), first, np.array([w for _, _, w in flat], np.int64)
        )

    def makers(self, layer: int) -> Cells:
        made = self.p.boxes.made
        return self._cells(
            [
                [(made(layer, s.key), s.slot, 0) for s in own if s.option.role != "partial"]
                for own in self.choices[layer]
            ]
        )

    def readers(self, flow: Flow, layer: int) -> Cells:
        """A cell that reads none of the tensor has an empty box."""
        reads = self.p.boxes.reads
        return self._cells(
            [
                [
                    (reads(layer, s.key).get(flow.tensor, NOTHING), s.slot, self._least(layer, s))
                    for s in own
                    if s.option.role != "reduce"
                ]
                for own in self.choices[layer]
            ]
        )

    def host_cells(self, flow: Flow) -> Cells:
        return self._cells([[(self.p.boxes.whole(flow.tensor), self.roads.host, 0)]])

    def _exchange(self, makers: Cells, readers: Cells, flow: Flow) -> Ints:
        """[strategies of the maker, of the reader]: ticks from one layout to the other."""
        key = ("exchange", makers.key, readers.key, self.bits[flow.tensor])
        if key not in self._known:
            self._known[key] = self._exchanged(makers, readers, self.bits[flow.tensor])
        return self._known[key]

    def _exchanged(self, makers: Cells, readers: Cells, element_bits: int) -> Ints:
        roads, rows, columns = self.roads, makers.first, readers.first
        bits = passing(makers, readers, element_bits)
        bits[makers.slots[:, None] == readers.slots[None, :]] = 0
        ticks = roads.ticks(bits, makers.slots, readers.slots)
        sent = np.maximum.reduceat(np.add.reduceat(ticks, columns, axis=1), rows, axis=0)
        got = np.maximum.reduceat(np.add.reduceat(ticks, rows, axis=0), columns, axis=1)
        if makers.slots[0] == roads.host:  # it sends to all at once
            sent = np.zeros_like(sent)
        if readers.slots[0] == roads.host:
            got = np.zeros_like(got)
        out = np.maximum(sent, got)
        for k, uses in roads.uses.items():
            over = bits * uses[makers.slots[:, None], readers.slots[None, :]]
            if over.any():
                carried = np.add.reduceat(np.add.reduceat(over, columns, axis=1), rows, axis=0)
                out = np.maximum(out, -(-carried * roads.unit // roads.link_rate[k]))
        late = np.where(bits > 0, roads.latency[makers.slots[:, None], readers.slots[None, :]], 0)
        return out + np.maximum.reduceat(np.maximum.reduceat(late, columns, axis=1), rows, axis=0)

    def workers(self, layer: int) -> Cells:
        """The cells of each strategy that do the layer's work; their boxes say nothing here."""
        return self._cells(
            [
                [(NOTHING, s.slot, self._least(layer, s)) for s in own if s.option.role != "reduce"]
                for own in self.choices[layer]
            ]
        )

    def loading(self, layer: int) -> Ints:
        """[3, cells of workers]: Option.load_ticks; where weights may stay on chip or come over links only that there
        are loads behind the data."""
        out = [
            (0, 0, 1) if self.kept(layer, s) is not None or s.option.memory != "stream" else s.option.load_ticks
            for own in self.choices[layer]
            for s in own
            if s.option.role != "reduce"
        ]
        return np.array(out, np.int64).T

    def adders(self, layer: int, strategy: int) -> tuple[Cells, Cells] | None:
        """Partial sums of a strategy, and the cells that add them up; None where there are none."""
        own, made = self.choices[layer][strategy], self.p.boxes.made
        late = [(made(layer, s.key), s.slot, s.option.least_ticks) for s in own if s.option.role == "reduce"]
        if not late:
            return None
        return self._cells([[(made(layer, s.key), s.slot, 0) for s in own if s.option.role == "partial"]]), self._cells(
            [late]
        )

    def _least(self, layer: int, share: Share) -> int:
        """Ticks of a share at the least; a whole layer's weights may stay on chip, at the rent for their bytes."""
        kept, least = self.kept(layer, share), share.option.least_ticks
        return least if kept is None else min(least, kept.least_ticks + self.rent.of(kept.resident_bytes))

    def kept(self, layer: int, share: Share) -> Option | None:
        """The option of a whole layer whose weights stay on chip."""
        return self.p.table.resident(layer, self.p.kind_of[share.slot]) if not share.split else None
