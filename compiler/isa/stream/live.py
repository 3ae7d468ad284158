"""A network of processes that runs as frames come: the same rules as `flow.Network.play`, each actor in a frame of its
own, and the frames at the ends of the network given from outside, one after the other.

Needs a network whose outer streams (`network.Timed.bridges`) lack a writer or a reader and count whole frames; gives
the times at which frames are written to and given back by these streams, as soon as they follow from what is known.
Times that come in may lie anywhere: what is solved depends only on the rules, not on the order of the calls.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from compiler.isa.stream.flow import Network


class Live:
    """Plays a network. `news` gathers (outer stream, time): a frame written to it, or its slot given back."""

    def __init__(self, net: Network, outer: Iterable[int]) -> None:
        self.net, self.outer = net, set(outer)
        self.frame = [0] * len(net.actors)
        self.there = [0] * len(net.streams)  # words written of all frames, as far as their times are known
        self.free = [0] * len(net.streams)  # places given back
        self.news: list[tuple[int, int]] = []

    def written(self, stream: int, ps: int) -> list[tuple[int, int]]:
        """A frame stands on an outer stream from `ps` on; what else is known by that."""
        frame = self.there[stream]
        self._open(stream, frame)
        self.net.streams[stream].written[frame][0] = ps
        self.there[stream] += 1
        return self._run(self.net.streams[stream].consumer)

    def given_back(self, stream: int, ps: int) -> list[tuple[int, int]]:
        """The slot of the oldest frame on an outer stream is free from `ps` on; what else is known by that."""
        frame = self.free[stream]
        self._open(stream, frame)
        self.net.streams[stream].freed[frame][0] = ps
        self.free[stream] += 1
        return self._run(self.net.streams[stream].producer)

    def _open(self, stream: int, frame: int) -> None:
        s = self.net.streams[stream]
        while len(s.written) <= frame:
            s.written.append(np.empty(s.words, np.int64))
            s.freed.append(np.empty(s.words, np.int64))

    def _run(self, first: int) -> list[tuple[int, int]]:
        self.news = []
        todo = [first]
        while todo:
            k = todo.pop()
            if k >= 0:
                todo += self._advance(k)
        return self.news

    def _advance(self, k: int) -> set[int]:
        """Solves all firings of an actor that everything is known for; the neighbours that this lets go on."""
        net, a = self.net, self.net.actors[k]
        woken: set[int] = set()
        while True:
            f = self.frame[k]
            if len(a.starts) == f:
                a.starts.append(np.empty(len(a.cost_ps), np.int64))
            first, last = a.fired, len(a.cost_ps)
            for i in a.inputs:
                there = self.there[i.stream] - f * net.streams[i.stream].words
                last = min(last, int(np.searchsorted(i.need, there, side="right")))
            for o in a.outputs:
                s = net.streams[o.stream]
                if s.depth is not None:
                    room = self.free[o.stream] - f * s.words + s.depth
                    last = min(last, int(np.searchsorted(o.made, room, side="right")))
            if last <= first:
                return woken
            for stream in [i.stream for i in a.inputs] + [o.stream for o in a.outputs]:
                self._open(stream, f)
            ends = net._solve(a, f, first, last)
            a.fired = last
            for o in a.outputs:
                s = net.streams[o.stream]
                done, upto = self.there[o.stream] - f * s.words, int(o.made[last - 1])
                if upto > done:
                    s.written[f][done:upto] = ends[o.maker[done:upto] - first] + (a.latency_ps + s.delay_ps)
                    self.there[o.stream] = f * s.words + upto
                    woken.add(s.consumer)
                    if o.stream in self.outer:
                        self.news.append((o.stream, int(s.written[f][0])))
            for i in a.inputs:
                s = net.streams[i.stream]
                done, upto = self.free[i.stream] - f * s.words, int(np.searchsorted(i.freer, last, side="left"))
                if upto > done:
                    s.freed[f][done:upto] = ends[i.freer[done:upto] - first] + s.delay_ps
                    self.free[i.stream] = f * s.words + upto
                    woken.add(s.producer)
                    if i.stream in self.outer:
                        self.news.append((i.stream, int(s.freed[f][0])))
            if last == len(a.cost_ps):
                a.end_ps = int(a.starts[f][-1] + a.cost_ps[-1])
                a.fired = 0
                self.frame[k] = f + 1
                self._forget(k, f)

    def _forget(self, k: int, f: int) -> None:
        """Times that no rule reaches back to, once both ends of a stream are past the frame: a reader may end before
        the last words, that no window reaches, are written."""
        net, none = self.net, np.zeros(0, np.int64)
        a = net.actors[k]
        a.starts[f] = none
        for stream in [i.stream for i in a.inputs] + [o.stream for o in a.outputs]:
            s = net.streams[stream]
            ends = [self.frame[e] for e in (s.producer, s.consumer) if e >= 0]
            last = min(ends) - 1  # the frame that both have done
            if last < 0:
                continue
            s.written[last] = none
            old = last - 2 - (0 if s.depth is None else s.depth // max(1, s.words) + 1)
            if old >= 0:
                s.freed[old] = none
