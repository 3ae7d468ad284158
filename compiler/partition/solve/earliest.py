"""How early every slice of every strategy can be over, and every layer: what no prediction of a latency plan is below.

Needs the lists of strategies (strategies.py); guarantees ticks that hold for the prediction (docs/machine.md, Time) of
every plan made of them. What is used of it, and nothing else:

  core   the tasks of an engine follow one another in the order of the layers; a task takes at least its `least_ticks`
         after its data is there and the task before it on its engine is over. Loads follow one another too; only those
         in front of the first load of data pass the end of the task before, and without them a task takes longer.
  TX     what a task sends leaves after its end, one message after another, in the order of the receivers' ranks, each
         for at least its bits over the slowest of its links and the sender's bank.
  RX     an engine takes messages one after another, those of one tensor in the order of the slices that made them, each
         after its head is there (the route's latency after it set out) and for at least its bits over the slowest of
         its links and the receiver's bank; none is there before its tail (the latency after it has left).
  links  all messages over a link take at least their bits together over its rate.

The host is a sender and a receiver with a queue for every engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np

from compiler.partition.pairwise import FORBIDDEN
from compiler.partition.problem import HOST_SLOT, Flow
from compiler.partition.solve.strategies import Cells, Ints, Strategies, passing

NEVER = np.int64(-FORBIDDEN)  # of what need not be waited for
PARTIAL_BITS = 32


@dataclass(frozen=True, slots=True)
class Ends:
    """When they are over at the earliest, by strategy of a layer (or of the host, which has one). cells: each slice
    that makes some of the layer's output; last: all of these.

    Of all layers so far: free: [strategies, engines] the tasks of an engine; loaded: its loads. Of those so far that
    something waits for (heard): done: the tasks of an engine; upto: all; total: the sum over the engines of when each
    is through with them, which grows by all that a layer takes, however that is shared out."""

    cells: Ints
    last: Ints
    free: Ints
    loaded: Ints
    done: Ints
    upto: Ints
    total: Ints


@dataclass(frozen=True, slots=True)
class Waits:
    """From the ends of a maker's strategies s (slices m) to a reader's strategies t (slices n), in ticks.

    wait: [m, n] from the end of m to the beginning of n. sync: [s, n] from the last end of s to the beginning of n,
    where n comes after all of s. lag: [s, t] from the last end of s to the end of some slice of t. shared: [s, t] from
    the first end of s to the end of some slice of t, by what a link has to carry. NEVER where nothing is sure."""

    wait: Ints
    sync: Ints
    lag: Ints
    shared: Ints


class Earliest:
    """Ends of one layer after the other; every layer of a form is looked at once."""

    def __init__(self, strategies: Strategies, flows: Sequence[Flow]) -> None:
        self.known, self.roads = strategies, strategies.roads
        self._waits: dict[tuple[object, ...], Waits] = {}
        none = np.zeros(1, np.int64)
        engines = np.zeros((1, self.roads.host), np.int64)
        self.before = Ends(none, none, engines, engines, engines, none, none)  # those of the layer before
        self.ends: list[Ends] = []
        self.heard = self._heard(flows)

    def _heard(self, flows: Sequence[Flow]) -> dict[int, int]:
        """Of every layer the first reader that in all its strategies, and in all of the layer's, comes after every
        slice of it. Layers without are left out."""
        out: dict[int, int] = {}
        for flow in flows:
            if flow.producer != HOST_SLOT:
                for reader in sorted(flow.consumers):
                    if self._flow(flow, reader).lag.min() > NEVER:
                        out[flow.producer] = reader
                        break
        return out

    def _flow(self, flow: Flow, reader: int) -> Waits:
        known = self.known
        makers = known.host_cells(flow) if flow.producer == HOST_SLOT else known.makers(flow.producer)
        return self.waits(makers, known.readers(flow, reader), known.bits[flow.tensor])

    def layer(self, inputs: Mapping[Flow, int]) -> Ends:
        """Ends of the next layer. inputs: its tensors; of those from the host, when that has them.

        For each strategy of a producer all that it says is put together, then the least is taken over the strategies:
        a plan has one of them. What several inputs say may be of strategies that no plan has at once. What the layer
        before says (of engines and of all layers so far) is put together with what it says as a producer.

        The last slice of all layers that are heard by this one or an earlier one belongs to a layer that this one is
        the first to hear: a reader of any other comes later, and is one of these layers."""
        known, layer, before = self.known, len(self.ends), self.before
        own, loading = known.workers(layer), known.loading(layer)
        first, loads, behind = loading
        begin, last = np.zeros(len(own.slots), np.int64), np.maximum.reduceat(own.work, own.first)
        starts = before.free[:, own.slots]
        over = np.full((len(starts), len(own.first)), NEVER)
        newly = [f for f in inputs if f.producer != HOST_SLOT and self.heard.get(f.producer) == layer]
        all_heard = all(self.heard[x] <= layer for x in range(layer) if x in self.heard)
        sync, lag = self._newly(newly, layer) if newly and all_heard else (None, None)
        for flow, ready in inputs.items():
            w = self._flow(flow, layer)
            if flow.producer == HOST_SLOT:
                at = np.array([ready], np.int64)
                each, whole, rows = at, at, np.zeros(1, np.int64)
            else:
                ends, rows = self.ends[flow.producer], known.makers(flow.producer).first
                each, whole = ends.cells, ends.last
            there = np.maximum.reduceat(each[:, None] + w.wait, rows, axis=0)
            there = np.maximum(there, whole[:, None] + w.sync)
            there_over = np.maximum(whole[:, None] + w.lag, np.minimum.reduceat(each, rows)[:, None] + w.shared)
            if flow.producer == layer - 1:
                starts, over = np.maximum(starts, there), np.maximum(over, there_over)
            else:
                there_over = np.maximum(there_over, np.maximum.reduceat(there + own.work, own.first, axis=1))
                begin, last = np.maximum(begin, there.min(axis=0)), np.maximum(last, there_over.min(axis=0))
        if sync is not None and lag is not None:
            starts = np.maximum(starts, before.upto[:, None] + sync)
            over = np.maximum(over, before.upto[:, None] + lag)
        starts = np.maximum(starts, begin)
        begin = starts.min(axis=0)
        loaded = before.loaded[:, own.slots]
        alone = loaded + first + own.work
        ended = np.maximum(starts + own.work, alone)
        over = np.maximum(over, np.maximum.reduceat(ended, own.first, axis=1))
        last = np.maximum(last, over.min(axis=0))
        cells = np.maximum(begin + own.work, alone.min(axis=0))
        loaded_all = np.maximum(loaded.min(axis=0) + loads, np.where(behind > 0, begin + behind, 0))
        self.before = self._stood(own, cells, last, loaded_all, over, ended)
        self.ends.append(self.before)
        return self.before

    def _newly(self, flows: Sequence[Flow], layer: int) -> tuple[Ints, Ints]:
        """(sync, lag) from the last end of all these flows' producers; [strategies of the layer before, …] where that
        is among them, else [1, …]."""
        syncs, lags = [], []
        for flow in flows:
            w, joint = self._flow(flow, layer), flow.producer == layer - 1
            syncs.append(w.sync if joint else w.sync.min(axis=0)[None, :])
            lags.append(w.lag if joint else w.lag.min(axis=0)[None, :])
        return reduce(np.minimum, syncs), reduce(np.minimum, lags)

    def at_host(self, flow: Flow) -> int:
        """When the host has all of the flow."""
        makers, ends = self.known.makers(flow.producer), self.ends[flow.producer]
        w = self.waits(makers, self.known.host_cells(flow), self.known.bits[flow.tensor])
        first = np.minimum.reduceat(ends.cells, makers.first)
        all_there = np.maximum.reduceat(ends.cells + w.wait[:, 0], makers.first)
        all_there = np.maximum(all_there, np.maximum(ends.last + w.lag[:, 0], first + w.shared[:, 0]))
        return int(np.maximum(all_there, ends.last).min())

    def _stood(self, own: Cells, cells: Ints, last: Ints, loaded: Ints, over: Ints, ended: Ints) -> Ends:
        """All ends of the next layer. Where its results are sums of partial ones, slices that add these up make them; a
        partial sum that is there last is added by some slice after that. over, ended: [strategies of the layer before,
        of this one], [of the layer before, slices]."""
        layer, before, n = len(self.ends), self.before, len(own.first)
        heard = layer in self.heard
        free, loads, done = (
            np.repeat(x.min(axis=0)[None, :], n, axis=0) for x in (before.free, before.loaded, before.done)
        )
        at = own.strategy, own.slots
        free[at], loads[at] = np.maximum(free[at], cells), np.maximum(loads[at], loaded)
        if heard:
            done[at] = np.maximum(done[at], cells)
        made: list[Ints] = []
        out, more = last.copy(), np.zeros(n, np.int64)
        for k, (lo, hi) in enumerate(pairwise([*own.first, len(own.slots)])):
            made.append(cells[lo:hi])
            adders = self.known.adders(layer, k)
            if adders is not None:
                partials, sums = adders
                begin = (cells[lo:hi, None] + self.waits(partials, sums, PARTIAL_BITS).wait).max(axis=0)
                made[-1] = begin + sums.work
                free[k, sums.slots], loads[k, sums.slots] = made[-1], np.maximum(loads[k, sums.slots], begin)
                if heard:
                    done[k, sums.slots] = made[-1]
                out[k] += sums.work.min()
                more[k] = sums.work.sum()
            out[k] = max(out[k], made[-1].max())
        upto, total = (np.broadcast_to(x.min(), n) for x in (before.upto, before.total))
        if heard:
            sums_of = before.total[:, None] + np.add.reduceat(own.work, own.first)
            later = np.maximum(0, ended - before.done[:, own.slots])
            standing = before.done.sum(axis=1)[:, None] + np.add.reduceat(later, own.first, axis=1)
            sums_of = np.maximum(sums_of, standing) + more
            even = -(-sums_of // self.roads.host)
            total = sums_of.min(axis=0)
            upto = np.maximum(out, np.maximum(np.maximum(before.upto[:, None], over), even).min(axis=0))
        return Ends(np.concatenate(made), out, free, loads, done, upto, total)

    def waits(self, makers: Cells, readers: Cells, element_bits: int) -> Waits:
        """Those between two lists of strategies; a slice reads what its box has in common with a maker's."""
        key = (makers.key, readers.key, element_bits)
        if key not in self._waits:
            self._waits[key] = self._between(makers, readers, element_bits)
        return self._waits[key]

    def _between(self, makers: Cells, readers: Cells, element_bits: int) -> Waits:
        roads, rows, columns = self.roads, makers.first, readers.first
        a, b = makers.slots[:, None], readers.slots[None, :]
        bits = passing(makers, readers, element_bits)
        here = a == b  # the engine does one after the other, whether that reads what this makes or not
        far = (bits > 0) & ~here
        moved = np.where(far, bits, 0) * roads.unit
        sending, taking, late = moved // roads.sent_rate[a, b], moved // roads.taken_rate[a, b], roads.latency[a, b]
        behind = sending * 0 if makers.slots[0] == roads.host else _before(sending, readers)
        alone = behind + late + np.maximum(sending, taking)
        if readers.slots[0] != roads.host:
            taking = _rest(taking, makers)
        wait = np.where(here, 0, np.where(far, behind + late + np.maximum(sending, taking), NEVER))
        alone = np.where(here, 0, np.where(far, alone, NEVER))
        sync = np.minimum.reduceat(alone, rows, axis=0)
        ended = np.where(alone > NEVER, alone + readers.work[None, :], NEVER)
        lag = np.minimum.reduceat(np.maximum.reduceat(ended, columns, axis=1), rows, axis=0)
        tail = np.where(far, late + readers.work[None, :], -NEVER)
        tail = np.minimum.reduceat(np.minimum.reduceat(tail, columns, axis=1), rows, axis=0)
        carried = roads.carried(np.where(far, bits, 0), makers, readers)
        return Waits(wait, sync, lag, np.where(tail < -NEVER, carried + tail, NEVER))


def _before(sending: Ints, readers: Cells) -> Ints:
    """[m, n]: what the sender of m sends of the tensor to readers of the strategy with lower ranks than n's."""
    order = np.lexsort((readers.slots, readers.strategy))
    ordered = sending[:, order]
    so_far = np.cumsum(ordered, axis=1) - ordered
    so_far -= so_far[:, readers.first][:, readers.strategy]
    out = np.empty_like(sending)
    out[:, order] = so_far
    return out


def _rest(taking: Ints, makers: Cells) -> Ints:
    """[m, n]: what n takes of the tensor from the slices of the strategy from m on."""
    so_far = np.cumsum(taking, axis=0) - taking
    so_far -= so_far[makers.first][makers.strategy]
    rest: Ints = np.add.reduceat(taking, makers.first, axis=0)[makers.strategy] - so_far
    return rest
