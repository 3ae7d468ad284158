"""The timing of connected processes with bounded FIFOs: the least times that meet every rule, frame by frame.

Needs processes and streams (from `rates`, with times in picoseconds); gives the start of every firing. Every rule has
the form "not before another event", so the least solution is unique, and play as early as possible reaches it whatever
the order; a cycle of rules has no solution: that is deadlock. Later frames never hold earlier ones up, because every
FIFO gives back its places in order: the frames are solved one after the other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from compiler.isa.stream.rates import Ints

LONG_AGO = np.iinfo(np.int64).min // 4


@dataclass(slots=True, eq=False)
class Stream:
    """One FIFO: `words` a frame, at most `depth` under way; a word is there `delay_ps` after it was written, a place
    is free `delay_ps` after it was given back. depth None: no bound."""

    name: str
    words: int
    depth: int | None
    delay_ps: int = 0
    producer: int = -1  # process
    consumer: int = -1
    written: list[Ints] = field(default_factory=list)  # a frame each: when word j is there
    freed: list[Ints] = field(default_factory=list)  # when the place of word j is free again


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    stream: int
    need: Ints
    freer: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    stream: int
    made: Ints
    maker: Ints


@dataclass(slots=True, eq=False)
class Actor:
    """A process of the network. `ready_ps(frame)` of a source is `period_ps * frame`."""

    name: str
    unit: int
    cost_ps: Ints
    latency_ps: int
    inputs: list[Input]
    outputs: list[Output]
    period_ps: int | None = None  # a source: frame f is not there before f * period
    starts: list[Ints] = field(default_factory=list)
    end_ps: int = LONG_AGO  # of the last firing of the frame before


class Stuck(Exception):
    """The network stands still: `waiting` names the processes that wait for one another."""

    def __init__(self, waiting: list[str]) -> None:
        super().__init__(", ".join(waiting))
        self.waiting = waiting


class Network:
    """Actors and streams, and the frames played so far."""

    def __init__(self) -> None:
        self.actors: list[Actor] = []
        self.streams: list[Stream] = []
        self.frames = 0

    def stream(self, name: str, words: int, depth: int | None, delay_ps: int = 0) -> int:
        self.streams.append(Stream(name, words, depth, delay_ps))
        return len(self.streams) - 1

    def actor(self, actor: Actor) -> int:
        number = len(self.actors)
        self.actors.append(actor)
        for i in actor.inputs:
            self.streams[i.stream].consumer = number
        for o in actor.outputs:
            self.streams[o.stream].producer = number
        return number

    def reset(self) -> None:
        """Forgets all frames."""
        self.frames = 0
        for s in self.streams:
            s.written.clear()
            s.freed.clear()
        for a in self.actors:
            a.starts.clear()
            a.end_ps = LONG_AGO

    def play(self, frames: int) -> None:
        """Adds frames. Raises Stuck."""
        for _ in range(frames):
            self._frame()
            self.frames += 1

    def _frame(self) -> None:
        f = self.frames
        for s in self.streams:
            s.written.append(np.full(s.words, LONG_AGO, np.int64))
            s.freed.append(np.full(s.words, LONG_AGO, np.int64))
            for kept in (s.written, s.freed):  # frames that no bound reaches back to are forgotten
                back = 2 if s.depth is None else s.depth // max(1, s.words) + 2
                if len(kept) > back:
                    kept[len(kept) - back - 1] = np.zeros(0, np.int64)
        for a in self.actors:
            a.starts.append(np.full(len(a.cost_ps), LONG_AGO, np.int64))
            if len(a.starts) > 1:
                a.starts[-2] = np.zeros(0, np.int64)
        due = deque(range(len(self.actors)))
        queued = [True] * len(self.actors)
        visits = 0
        limit_ps = self._limit(f)
        while due:
            number = due.popleft()
            queued[number] = False
            visits += 1
            a = self.actors[number]
            before = a.starts[f]
            after = self._solve(a, f)
            if np.array_equal(before, after):
                continue
            if int(after[-1]) > limit_ps:
                raise Stuck(self._circle(number))
            a.starts[f] = after
            for other in self._publish(a, f):
                if not queued[other]:
                    queued[other] = True
                    due.append(other)
        for a in self.actors:
            a.end_ps = int(a.starts[f][-1] + a.cost_ps[-1])

    def _limit(self, f: int) -> int:
        """No event of this frame can lie later if there is a solution: all costs and delays one after the other."""
        total = sum(int(a.cost_ps.sum()) + a.latency_ps * len(a.cost_ps) for a in self.actors)
        total += sum(2 * s.delay_ps * s.words for s in self.streams)
        before = max((a.end_ps + a.latency_ps for a in self.actors), default=0)
        sources = max((a.period_ps * f for a in self.actors if a.period_ps is not None), default=0)
        return max(before, sources, 0) + total

    def _solve(self, a: Actor, f: int) -> Ints:
        """The least starts of an actor's firings given what its neighbours do now."""
        earliest = np.full(len(a.cost_ps), LONG_AGO, np.int64)
        earliest[0] = max(a.end_ps, 0 if a.period_ps is None else a.period_ps * f)
        for i in a.inputs:
            when = self.streams[i.stream].written[f]
            some = i.need > 0
            np.maximum(earliest, np.where(some, when[i.need - 1], LONG_AGO), out=earliest)
        for o in a.outputs:
            s = self.streams[o.stream]
            if s.depth is not None:
                np.maximum(earliest, self._room(s, o.made, f), out=earliest)
        done = np.cumsum(a.cost_ps) - a.cost_ps
        starts: Ints = done + np.maximum.accumulate(earliest - done)
        return starts

    def _room(self, s: Stream, made: Ints, f: int) -> Ints:
        """When the place for the last word that each firing writes is free."""
        assert s.depth is not None
        word = made - 1 - s.depth  # counted from this frame's first word
        if s.depth < s.words or f == 0:
            here = np.where(word >= 0, s.freed[f][np.maximum(word, 0)], LONG_AGO)
            if f == 0 or int(word[0]) >= 0:
                return here
        else:
            here = np.full(len(word), LONG_AGO, np.int64)
        earlier = np.flatnonzero(word < 0)
        back = (s.words - 1 - word[earlier]) // s.words  # frames before this one
        inside = word[earlier] + back * s.words
        for frame in np.unique(back):
            if f - frame < 0:
                continue
            past = s.freed[f - int(frame)]
            pick = back == frame
            here[earlier[pick]] = past[inside[pick]]
        return here

    def _publish(self, a: Actor, f: int) -> list[int]:
        """Writes an actor's times into its streams; the neighbours that see a change."""
        starts = a.starts[f]
        ends = starts + a.cost_ps
        changed: list[int] = []
        for o in a.outputs:
            s = self.streams[o.stream]
            when = ends[o.maker] + (a.latency_ps + s.delay_ps)
            if not np.array_equal(when, s.written[f]):
                s.written[f] = when
                changed.append(s.consumer)
        for i in a.inputs:
            s = self.streams[i.stream]
            when = ends[i.freer] + s.delay_ps
            if not np.array_equal(when, s.freed[f]):
                s.freed[f] = when
                if s.depth is not None and (s.depth < s.words):
                    changed.append(s.producer)
        return [n for n in changed if n >= 0]

    def _circle(self, number: int) -> list[str]:
        """Names around a circle of waiting through this actor: its neighbours by full and empty streams."""
        near = {number}
        for s in self.streams:
            if number in (s.producer, s.consumer):
                near |= {s.producer, s.consumer}
        return [self.actors[n].name for n in sorted(near) if n >= 0]

    def occupancy(self, stream: int) -> int:
        """The most words that were in a stream at once in the last frame: written or being written, not given back.

        Earlier frames count as far as the stream remembers them (two where it has no bound)."""
        s = self.streams[stream]
        written = s.written[-1] - s.delay_ps
        inside = np.arange(1, s.words + 1) - np.searchsorted(s.freed[-1], written, side="right")
        for freed in s.freed[:-1]:
            if len(freed):
                inside += s.words - np.searchsorted(freed, written, side="right")
        return int(inside.max())
