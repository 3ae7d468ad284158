"""The timing of connected processes with bounded FIFOs: the least times that meet every rule, frame by frame.

Needs processes and streams (from `rates`, with times in picoseconds); gives the start of every firing. Every rule has
the form "not before another event", so the least solution is unique, and play as early as possible reaches it whatever
the order; a cycle of rules has no solution: that is deadlock. Later frames never hold earlier ones up, because every
FIFO gives back its places in order: the frames are solved one after the other.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np

from compiler.isa.stream.counts import Ints
from compiler.isa.stream.whole import Whole

LONG_AGO = np.iinfo(np.int64).min // 4
ROUNDS = 8  # of an actor and who brings it words ahead around one another


@dataclass(slots=True, eq=False)
class Stream:
    """One FIFO: `words` a frame, at most `depth` under way; a word is there `delay_ps` after it was written, a place
    is free `delay_ps` after it was given back. depth None: no bound."""

    name: str
    words: int
    depth: int | None
    delay_ps: int = 0
    line: bool = False  # within a unit: a line buffer, its depth is fixed
    producer: int = -1  # process
    consumer: int = -1
    written: list[Ints] = field(default_factory=list)  # a frame each: when word j is there
    freed: list[Ints] = field(default_factory=list)  # when the place of word j is free again
    there: int = 0  # words of the frame in play whose times are known
    free: int = 0  # and places


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    stream: int
    need: Ints
    freer: Ints
    each: bool = False  # a word a firing: need is 1…n, freer 0…n−1

    def needed(self, there: Ints) -> Ints:
        """When what each firing needs of the stream is there, LONG_AGO where that is nothing; there: by word."""
        if self.each:
            return there
        needed = there[self.need - 1]
        return needed if self.need[0] > 0 else np.where(self.need > 0, needed, LONG_AGO)


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    stream: int
    made: Ints
    maker: Ints
    each: bool = False


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
    paced: bool = False  # computes: a steady schedule spreads its work evenly (`steady`)
    prefetches: bool = False  # only waits for room: a steady schedule has it work just in time for its one reader
    feeds: bool = False  # only moves words: a steady schedule has it work just in time
    starts: list[Ints] = field(default_factory=list)
    fired: int = 0  # firings of the frame in play that are solved
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

    def stream(self, name: str, words: int, depth: int | None, delay_ps: int = 0, line: bool = False) -> int:
        self.streams.append(Stream(name, words, depth, delay_ps, line))
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
        found = Whole(self, f).run()
        if found is None:
            self._word_by_word()
            return
        for a, starts in zip(self.actors, found, strict=True):
            a.starts.append(starts)
            a.end_ps = int(starts[-1] + a.cost_ps[-1])
            if f:
                a.starts[f - 1] = np.zeros(0, np.int64)
        for s in self.streams:
            s.written.append(np.zeros(0, np.int64))
            s.freed.append(np.zeros(0, np.int64))
        for a in self.actors:
            ends = a.starts[f] + a.cost_ps
            for i in a.inputs:
                s = self.streams[i.stream]
                s.freed[f] = (ends if i.each else ends[i.freer]) + s.delay_ps
                _forget(s.freed, s)

    def _word_by_word(self) -> None:
        """Each firing is solved once: an actor goes on as far as the words and places go that are known by then."""
        f = self.frames
        for s in self.streams:
            s.written.append(np.empty(s.words, np.int64))
            s.freed.append(np.empty(s.words, np.int64))
            s.there = s.free = 0
            for kept in (s.written, s.freed):
                _forget(kept, s)
        for a in self.actors:
            a.starts.append(np.empty(len(a.cost_ps), np.int64))
            a.fired = 0
            if len(a.starts) > 1:
                a.starts[-2] = np.zeros(0, np.int64)
        rank = [len(self.actors)] * len(self.actors)
        for n, k in enumerate(self.order()):
            rank[k] = n
        now, later = sorted((r, k) for k, r in enumerate(rank)), set[int]()
        queued = set(range(len(self.actors)))
        while now:  # from sources to sinks; who is woken from further down waits for the next turn
            r, number = heapq.heappop(now)
            queued.discard(number)
            for other in self._advance(self.actors[number], f):
                if rank[other] > r:
                    if other not in queued:
                        queued.add(other)
                        heapq.heappush(now, (rank[other], other))
                else:
                    later.add(other)
            if not now and later:
                now, queued = sorted((rank[k], k) for k in later), set(later)
                later.clear()
        stuck = [k for k, a in enumerate(self.actors) if a.fired < len(a.cost_ps)]
        if stuck:
            raise Stuck(self._circle(stuck[0]))
        for a in self.actors:
            a.end_ps = int(a.starts[f][-1] + a.cost_ps[-1])

    def order(self) -> list[int]:
        """Actors from sources to sinks; without those in and behind a circle of streams."""
        waits = [sum(self.streams[i.stream].producer >= 0 for i in a.inputs) for a in self.actors]
        ready = [k for k, w in enumerate(waits) if w == 0]
        for k in ready:
            for o in self.actors[k].outputs:
                c = self.streams[o.stream].consumer
                if c >= 0:
                    waits[c] -= 1
                    if waits[c] == 0:
                        ready.append(c)
        return ready

    def _advance(self, a: Actor, f: int) -> list[int]:
        """Solves the firings that everything is known for; the neighbours that this lets go on."""
        first, last = a.fired, len(a.cost_ps)
        ahead: Input | None = None
        for i in a.inputs:
            maker = self.streams[i.stream].producer
            if ahead is None and maker >= 0 and self.actors[maker].prefetches:
                ahead = i
            else:
                there = self.streams[i.stream].there
                last = min(last, there if i.each else int(i.need.searchsorted(there, side="right")))
        for o in a.outputs:
            s = self.streams[o.stream]
            if s.depth is not None:
                room = s.free + s.depth
                last = min(last, room if o.each else int(o.made.searchsorted(room, side="right")))
        if last <= first:
            return []
        ends: Ints | None = None
        if ahead is not None:
            known = int(np.searchsorted(ahead.need, self.streams[ahead.stream].there, side="right"))
            if known < last:
                ends = self._with_prefetch(a, ahead, f, first, last)
                last = last if ends is not None else known
            if last <= first:
                return []
        if ends is None:
            ends = self._solve(a, f, first, last)
        a.fired = last
        woken: list[int] = []
        for o in a.outputs:
            s = self.streams[o.stream]
            upto = int(o.made[last - 1])
            if upto > s.there:
                own = ends if o.each else ends[o.maker[s.there : upto] - first]
                s.written[f][s.there : upto] = own + (a.latency_ps + s.delay_ps)
                s.there = upto
                woken.append(s.consumer)
        for i in a.inputs:
            s = self.streams[i.stream]
            upto = last if i.each else int(i.freer.searchsorted(last, side="left"))
            if upto > s.free:
                s.freed[f][s.free : upto] = (ends if i.each else ends[i.freer[s.free : upto] - first]) + s.delay_ps
                s.free = upto
                if s.depth is not None and s.depth < s.words:
                    woken.append(s.producer)
        return [n for n in woken if n >= 0]

    def _with_prefetch(self, a: Actor, ahead: Input, f: int, first: int, last: int) -> Ints | None:
        """Ends of the firings first..last-1 of an actor together with who only waits for room to bring it words: the
        actor as if these were there, then they as it makes room, and again with their times while they are late. Every
        round is at most as late as the least solution, so the first one that keeps all rules is it; by turns where that
        takes too many. None: not both can go on to the end."""
        s = self.streams[ahead.stream]
        b, words, places = self.actors[s.producer], int(ahead.need[last - 1]), s.free
        upto = int(np.searchsorted(ahead.freer, last, side="left"))
        begin, o = b.fired, b.outputs[0]
        if s.depth is None or words - s.depth > upto or len(b.cost_ps) != s.words or b.inputs or len(b.outputs) != 1:
            return None
        s.written[f][s.there : words] = LONG_AGO
        some = int(np.searchsorted(ahead.need[first:last], 0, side="right"))
        needed = ahead.need[first + some : last] - 1
        for _ in range(ROUNDS):
            ends = self._solve(a, f, first, last)
            s.freed[f][places:upto] = ends[ahead.freer[places:upto] - first] + s.delay_ps
            made = self._solve(b, f, begin, words)
            s.written[f][begin:words] = made[o.maker[begin:words] - begin] + (b.latency_ps + s.delay_ps)
            if (s.written[f][needed] <= a.starts[f][first + some : last]).all():
                b.fired = s.there = words
                return ends
        return self._by_turns(a, ahead, f, first, last)

    def _by_turns(self, a: Actor, ahead: Input, f: int, first: int, last: int) -> Ints | None:
        """As `_with_prefetch`, where the FIFO is shorter than the way to its reader and back: as many words as have
        places, the firings that these let go on, and so forth. None: neither goes on."""
        s = self.streams[ahead.stream]
        assert s.depth is not None
        b, words = self.actors[s.producer], int(ahead.need[last - 1])
        made, fired, places, maker = s.there, first, s.free, b.outputs[0].maker
        ends = np.empty(last - first, np.int64)
        while fired < last:
            upto = min(words, places + s.depth)
            if upto > made:
                when = self._solve(b, f, made, upto)
                s.written[f][made:upto] = when[maker[made:upto] - made] + (b.latency_ps + s.delay_ps)
            to = min(last, int(ahead.need.searchsorted(upto, side="right")))
            if to == fired:
                return None
            ends[fired - first : to - first] = self._solve(a, f, fired, to)
            freed = int(ahead.freer.searchsorted(to, side="left"))
            s.freed[f][places:freed] = ends[ahead.freer[places:freed] - first] + s.delay_ps
            made, fired, places = upto, to, freed
        b.fired = s.there = words
        return ends

    def _solve(self, a: Actor, f: int, first: int, last: int) -> Ints:
        """Starts of the firings first..last-1; gives their ends."""
        cost = a.cost_ps[first:last]
        starts = a.starts[f]
        earliest = np.empty(last - first, np.int64)
        earliest.fill(LONG_AGO)
        if first:
            earliest[0] = starts[first - 1] + a.cost_ps[first - 1]
        else:
            earliest[0] = max(a.end_ps, 0 if a.period_ps is None else a.period_ps * f)
        for i in a.inputs:
            when, need = self.streams[i.stream].written[f], i.need[first:last]
            if i.each:
                np.maximum(earliest, when[first:last], out=earliest)
            elif need[0] > 0:
                np.maximum(earliest, when[need - 1], out=earliest)
            elif need[-1] > 0:
                some = int(np.searchsorted(need, 0, side="right"))
                np.maximum(earliest[some:], when[need[some:] - 1], out=earliest[some:])
        for o in a.outputs:
            s = self.streams[o.stream]
            if s.depth is not None:
                if o.each and first >= s.depth:
                    room = s.freed[f][first - s.depth : last - s.depth]
                else:
                    room = self._room(s, o.made[first:last], f)
                np.maximum(earliest, room, out=earliest)
        ends = cost.cumsum()
        done = ends - cost
        late = np.maximum.accumulate(earliest - done)
        starts[first:last] = done + late
        ends += late
        return ends

    def at_first(self, a: Actor, f: int) -> Ints:
        """When each firing of an actor may start at the earliest, as far as earlier frames say."""
        when = np.empty(len(a.cost_ps), np.int64)
        when.fill(LONG_AGO)
        when[0] = max(a.end_ps, 0 if a.period_ps is None else a.period_ps * f)
        for o in a.outputs:
            s = self.streams[o.stream]
            if f and s.depth is not None:
                full = int(o.made.searchsorted(s.depth, side="right"))
                np.maximum(when[:full], self._earlier(s, o.made[:full] - 1 - s.depth, f), out=when[:full])
        return when

    def _room(self, s: Stream, made: Ints, f: int) -> Ints:
        """When the place for the last word that each firing writes is free."""
        assert s.depth is not None
        word = made - 1 - s.depth  # counted from this frame's first word
        if int(word[0]) >= 0:
            return s.freed[f][word]
        out = np.full(len(word), LONG_AGO, np.int64)
        split = int(np.searchsorted(word, 0, side="left"))
        out[split:] = s.freed[f][word[split:]]
        if f:
            out[:split] = self._earlier(s, word[:split], f)
        return out

    def _earlier(self, s: Stream, word: Ints, f: int) -> Ints:
        """When the places of words of earlier frames are free: -1 is the last one before frame `f`."""
        out = np.full(len(word), LONG_AGO, np.int64)
        if not len(word):
            return out
        back = (s.words - 1 - word) // s.words  # frames before this one
        inside = word + back * s.words
        for frame in range(int(back[-1]), min(f, int(back[0])) + 1):
            pick = slice(*np.searchsorted(-back, [-frame, -frame + 1]))
            out[pick] = s.freed[f - frame][inside[pick]]
        return out

    def _circle(self, number: int) -> list[str]:
        """Names around a circle of waiting through this actor: its neighbours by full and empty streams."""
        near = {number}
        for s in self.streams:
            if number in (s.producer, s.consumer):
                near |= {s.producer, s.consumer}
        return [self.actors[n].name for n in sorted(near) if n >= 0]

    def written(self, stream: int) -> Ints:
        """When each word of the last frame was there."""
        s = self.streams[stream]
        a = self.actors[s.producer]
        o = next(o for o in a.outputs if o.stream == stream)
        ends = a.starts[-1] + a.cost_ps
        return (ends if o.each else ends[o.maker]) + (a.latency_ps + s.delay_ps)

    def occupancy(self, stream: int) -> int:
        """The most words that were in a stream at once in the last frame: written or being written, not given back.

        Earlier frames count as far as the stream remembers them (two where it has no bound)."""
        s = self.streams[stream]
        written = self.written(stream) - s.delay_ps
        inside = np.arange(1, s.words + 1) - np.searchsorted(s.freed[-1], written, side="right")
        for freed in s.freed[:-1]:
            if len(freed):
                inside += s.words - np.searchsorted(freed, written, side="right")
        return int(inside.max())


def _forget(kept: list[Ints], s: Stream) -> None:
    """Frames that no bound reaches back to are forgotten."""
    back = 2 if s.depth is None else s.depth // max(1, s.words) + 2
    if len(kept) > back:
        kept[len(kept) - back - 1] = np.zeros(0, np.int64)
