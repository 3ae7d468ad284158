"""How early every slice of every strategy can be over, and every layer: what no prediction of a latency plan is below.

Needs the lists of strategies (strategies.py); guarantees ticks that hold for the prediction (docs/machine.md, Time) of
every plan made of them. What is used of it, and nothing else:

  core   the tasks of an engine follow one another in the order of the layers; a task takes at least its `least_ticks`
         after its data is there and the task before it on its engine is over.
  TX     what a task sends leaves after its end, one message after another, in the order of the receivers' ranks, each
         for at least its bits over the slowest of its links and the sender's bank.
  RX     an engine takes messages one after another, those of one tensor in the order of the slices that made them, each
         after its head is there (the route's latency after it set out) and for at least its bits over the slowest of
         its links and the receiver's bank; none is there before its tail (the latency after it has left).
  links  all messages over a link take at least their bits together over its rate.

The host is a sender and a receiver with a queue for every engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compiler.partition.pairwise import FORBIDDEN
from compiler.partition.problem import HOST_SLOT, Flow
from compiler.partition.solve.strategies import Cells, Ints, Strategies, passing

NEVER = np.int64(-FORBIDDEN)  # of what need not be waited for
PARTIAL_BITS = 32


@dataclass(frozen=True, slots=True)
class Ends:
    """When they are over at the earliest. cells: each slice that makes some of a layer's output, by strategy; last: of
    each strategy all of them."""

    cells: Ints
    last: Ints


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

    def __init__(self, strategies: Strategies) -> None:
        self.known, self.roads = strategies, strategies.roads
        self._waits: dict[tuple[object, ...], Waits] = {}

    def layer(self, layer: int, inputs: Sequence[tuple[Flow, Ends]]) -> Ends:
        """Ends of a layer whose input tensors come from these.

        For each strategy of a producer all that it says is put together, then the least is taken over the strategies:
        a plan has one of them. What several inputs say may be of strategies that no plan has at once."""
        known = self.known
        own = known.workers(layer)
        begin, last = np.zeros(len(own.slots), np.int64), np.maximum.reduceat(own.work, own.first)
        for flow, ends in inputs:
            makers = known.host_cells(flow) if flow.producer == HOST_SLOT else known.makers(flow.producer)
            w = self.waits(makers, known.readers(flow, layer), known.bits[flow.tensor])
            rows = makers.first
            starts = np.maximum.reduceat(ends.cells[:, None] + w.wait, rows, axis=0)
            starts = np.maximum(starts, ends.last[:, None] + w.sync)
            over = np.maximum.reduceat(starts + own.work[None, :], own.first, axis=1)
            over = np.maximum(over, ends.last[:, None] + w.lag)
            over = np.maximum(over, np.minimum.reduceat(ends.cells, rows)[:, None] + w.shared)
            begin, last = np.maximum(begin, starts.min(axis=0)), np.maximum(last, over.min(axis=0))
        return self._gathered(layer, own, begin + own.work, last)

    def at_host(self, flow: Flow, ends: Ends) -> int:
        """When the host has all of the flow."""
        makers = self.known.makers(flow.producer)
        w = self.waits(makers, self.known.host_cells(flow), self.known.bits[flow.tensor])
        first = np.minimum.reduceat(ends.cells, makers.first)
        all_there = np.maximum.reduceat(ends.cells + w.wait[:, 0], makers.first)
        all_there = np.maximum(all_there, np.maximum(ends.last + w.lag[:, 0], first + w.shared[:, 0]))
        return int(np.maximum(all_there, ends.last).min())

    def _gathered(self, layer: int, own: Cells, cells: Ints, last: Ints) -> Ends:
        """The ends of a layer's results: where they are sums of partial ones, those of the slices that add these up.
        A partial sum that is there last is added by some slice after that."""
        made: list[Ints] = []
        out = last.copy()
        for k, (lo, hi) in enumerate(pairwise([*own.first, len(own.slots)])):
            adders = self.known.adders(layer, k)
            if adders is None:
                made.append(cells[lo:hi])
            else:
                partials, sums = adders
                w = self.waits(partials, sums, PARTIAL_BITS)
                made.append((cells[lo:hi, None] + w.wait).max(axis=0) + sums.work)
                out[k] += sums.work.min()
            out[k] = max(out[k], made[-1].max())
        return Ends(np.concatenate(made), out)

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
