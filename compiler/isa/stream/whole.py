"""One frame of a network solved with all its firings at once: too early at first, then put off until every rule holds.

Needs a `flow.Network` without circles whose earlier frames are solved; gives the starts of every firing of the frame.
First every process is as early as its data and the earlier frames allow, as if no FIFO filled in this frame; then
whoever meets a full FIFO is put off, and whoever waits for its words then, by turns against the streams and along them.
A correction never goes beyond the least solution, so the first times that keep all rules are that solution, firing by
firing what `Network` finds word by word. Most FIFOs put their writer off once, so a few turns do; None where the turns
take too long, as they do in a network that halts, which has no solution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compiler.isa.stream.counts import Ints

if TYPE_CHECKING:
    from compiler.isa.stream.flow import Input, Network, Output

EFFORT = 12  # of the work of one pass over all firings, before word by word is tried
CALL_WORK = 2000  # one correction costs as much as so many firings
CALLS = 30  # a stream, beside those that the firings are worth
NEXT_FIRINGS = 256  # that are looked at behind a correction, then twice as many, until nobody is put off

Range = tuple[int, int]  # firings from .. to


class Whole:
    """The frame `f` of a network in correction."""

    def __init__(self, net: Network, f: int) -> None:
        self.net, self.f = net, f
        self.starts: list[Ints] = [np.zeros(0, np.int64)] * len(net.actors)
        self.reads: dict[int, Input] = {i.stream: i for a in net.actors for i in a.inputs}
        self.writes: dict[int, Output] = {o.stream: o for a in net.actors for o in a.outputs}
        self.fuller: dict[int, Range] = {}  # stream -> firings of its reader that are later than its writer knows
        self.later: dict[int, Range] = {}  # stream -> firings of its writer that are later than its reader knows
        firings = sum(len(a.cost_ps) for a in net.actors)
        self.left = EFFORT * firings + CALLS * CALL_WORK * len(net.streams)

    def run(self) -> list[Ints] | None:
        """The starts by actor; None where it takes too long or the actors stand in a circle."""
        net = self.net
        order = net.order()
        if len(order) < len(net.actors):
            return None
        rank = {k: n for n, k in enumerate(order)}
        for k in order:
            self._early(k)
        joined = [k for k, s in enumerate(net.streams) if s.producer >= 0 and s.consumer >= 0]
        bounded = [k for k in joined if (d := net.streams[k].depth) is not None and d < net.streams[k].words]
        against = sorted(bounded, key=lambda s: -rank[net.streams[s].consumer])
        along = sorted(joined, key=lambda s: rank[net.streams[s].producer])
        self.fuller = {s: (0, len(net.actors[net.streams[s].consumer].cost_ps)) for s in bounded}
        while self.fuller or self.later:
            for s in against:
                if s in self.fuller:
                    self._put_off(net.streams[s].producer, *self._no_room(s, *self.fuller.pop(s)))
            for s in along:
                if s in self.later:
                    self._put_off(net.streams[s].consumer, *self._not_there(s, *self.later.pop(s)))
            if self.left < 0:
                return None
        return self.starts

    def _early(self, k: int) -> None:
        """A process as early as its data and the earlier frames allow."""
        net, a = self.net, self.net.actors[k]
        when = net.at_first(a, self.f)
        for i in a.inputs:
            s = net.streams[i.stream]
            if s.producer < 0:
                continue
            p, o = net.actors[s.producer], self.writes[i.stream]
            there = self.starts[s.producer] + p.cost_ps
            there = (there if o.each else there[o.maker]) + (p.latency_ps + s.delay_ps)
            np.maximum(when, i.needed(there), out=when)
        done = a.cost_ps.cumsum() - a.cost_ps
        when -= done
        np.maximum.accumulate(when, out=when)
        when += done
        self.starts[k] = when

    def _not_there(self, stream: int, lo: int, hi: int) -> tuple[int, Ints]:
        """From which firing on the reader waits until when, for words of the writer's firings lo..hi-1."""
        s, o, i = self.net.streams[stream], self.writes[stream], self.reads[stream]
        a = self.net.actors[s.producer]
        first = 0 if lo == 0 else int(o.made[lo - 1])
        begin = int(i.need.searchsorted(first + 1))
        end = int(i.need.searchsorted(int(o.made[hi - 1]), side="right"))
        word = i.need[begin:end] - 1
        maker = word if o.each else o.maker[word]
        return begin, self.starts[s.producer][maker] + a.cost_ps[maker] + (a.latency_ps + s.delay_ps)

    def _no_room(self, stream: int, lo: int, hi: int) -> tuple[int, Ints]:
        """From which firing on the writer waits until when, for places that the reader's firings lo..hi-1 give back."""
        s, o, i = self.net.streams[stream], self.writes[stream], self.reads[stream]
        b = self.net.actors[s.consumer]
        assert s.depth is not None
        first, last = (lo, hi) if i.each else (int(i.freer.searchsorted(lo)), int(i.freer.searchsorted(hi)))
        begin = int(o.made.searchsorted(first + 1 + s.depth))
        end = int(o.made.searchsorted(last + s.depth, side="right"))
        word = o.made[begin:end] - (1 + s.depth)
        freer = word if i.each else i.freer[word]
        return begin, self.starts[s.consumer][freer] + b.cost_ps[freer] + s.delay_ps

    def _put_off(self, k: int, first: int, until: Ints) -> None:
        """Has firings first.. of an actor start no earlier than `until`, and those behind them when these have ended;
        tells the neighbours."""
        self.left -= CALL_WORK + len(until)
        starts, cost = self.starts[k], self.net.actors[k].cost_ps
        end = first + len(until)
        late = until > starts[first:end]
        if not late.any():
            return
        lo = hi = at = first + int(late.argmax())
        size, free = end - lo, 0
        while at < len(starts):
            upto = min(len(starts), at + size)
            before = starts[at:upto]
            now = np.maximum(before, until[at - first :]) if upto <= end else before.copy()
            if at > lo:
                now[0] = max(int(now[0]), free)
            done = cost[at:upto].cumsum() - cost[at:upto]
            now -= done
            np.maximum.accumulate(now, out=now)
            now += done
            moved = now > before
            self.left -= upto - at
            if moved.any():
                hi = upto - int(moved[::-1].argmax())
            starts[at:upto] = now
            if hi < upto:
                break
            at, size, free = upto, max(NEXT_FIRINGS, 2 * size), int(now[-1] + cost[upto - 1])
        for i in self.net.actors[k].inputs:
            s = self.net.streams[i.stream]
            if s.producer >= 0 and s.depth is not None and s.depth < s.words:
                _more(self.fuller, i.stream, lo, hi)
        for o in self.net.actors[k].outputs:
            if self.net.streams[o.stream].consumer >= 0:
                _more(self.later, o.stream, lo, hi)


def _more(known: dict[int, Range], stream: int, lo: int, hi: int) -> None:
    a, b = known.get(stream, (lo, hi))
    known[stream] = min(a, lo), max(b, hi)
