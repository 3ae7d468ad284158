"""A strictly periodic schedule of connected processes: the proof that a netlist neither halts nor falls behind.

Needs a `flow.Network`; firing k of frame f starts at starts[k] + f * period. Every rule of the network is "not before
another event", so playing as early as possible is at least as early as any schedule that keeps all rules: one that does
shows that FIFOs of these depths never halt and that a frame is done every period. It is made in one pass, without
back-pressure: units that compute are spread evenly over the period, what feeds them alone works just in time, all else
as early as it can; the depth of a FIFO is what it then holds. What it cannot schedule may still run: None proves
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np
from numpy.typing import NDArray

from compiler.isa.stream.counts import Ints
from compiler.isa.stream.flow import LONG_AGO, Actor, Network, Output
from cost_models.primitives import ceil_div

FREE_DEPTH = 32  # words of a shift register LUT: what a FIFO may hold for nothing
NEVER = np.iinfo(np.int64).max // 4
PERIODS_PERMILLE = (1000, 1001, 1002, 1005, 1010, 1020, 1050, 1100)  # of the period asked for, one after the other
FEW_WORDS = 1024  # a frame: of an actor that is not spread over the period where others wait for it
ROUNDS = 24  # of a window's reader and writer around one another; of a process around its own frame

Asked = dict[int, tuple[NDArray[np.bool_], Ints]]  # a stream: whether its reader wants a firing's word, and when first


@dataclass(frozen=True, slots=True, eq=False)
class Steady:
    """starts: a firing's start in frame 0, by actor. needs: the places that each stream must have."""

    period_ps: int
    starts: list[Ints]
    needs: list[int]


def steady(net: Network, period_ps: int, known: Asked | None = None) -> Steady | None:
    """The schedule at this period; None where this construction finds none. Streams with a depth keep it. known: kept
    from one period to the next."""
    order = net.order()
    if len(order) < len(net.actors) or any(
        int(a.cost_ps.sum()) > period_ps or (a.period_ps or 0) > period_ps for a in net.actors
    ):
        return None
    found = _Pacer(net, period_ps, order, {} if known is None else known).run()
    if found is None:
        return None
    needs = [_places(net, k, found, period_ps) for k in range(len(net.streams))]
    if any(s.depth is not None and need > s.depth for s, need in zip(net.streams, needs, strict=True)):
        return None
    return Steady(period_ps, found, needs)


def busiest_ps(net: Network) -> int:
    """Picoseconds a frame of the process that works longest, or between two frames of a source: no period is less."""
    return max((max(int(a.cost_ps.sum()), a.period_ps or 0) for a in net.actors), default=0)


def steady_near(net: Network, period_ps: int) -> Steady | None:
    """The schedule at the least of a few periods from this one upward that has one."""
    known: Asked = {}
    for permille in PERIODS_PERMILLE:
        found = steady(net, ceil_div(period_ps * permille, 1000), known)
        if found is not None:
            return found
    return None


def broken(net: Network, found: Steady) -> list[str]:
    """Every rule of the network that a schedule does not keep, read off the network alone."""
    out, period = [], found.period_ps
    for k, (a, start) in enumerate(zip(net.actors, found.starts, strict=True)):
        end = start + a.cost_ps
        if (start[1:] < end[:-1]).any() or start[0] + period < end[-1]:
            out.append(f"{a.name}: a firing starts before the one before has ended")
        if a.period_ps is not None and (start[0] < 0 or period < a.period_ps):
            out.append(f"{a.name}: starts before its frame is there")
        for i in a.inputs:
            s = net.streams[i.stream]
            if s.producer < 0:
                continue
            if (start < i.needed(_written(net, i.stream, found.starts))).any():
                out.append(f"{a.name}: reads {s.name} before it is written")
        for o in a.outputs:
            s = net.streams[o.stream]
            if s.depth is not None and s.consumer >= 0 and _places(net, o.stream, found.starts, period) > s.depth:
                out.append(f"{a.name}: writes {s.name} beyond its {s.depth} places")
        if len(start) != len(a.cost_ps):
            out.append(f"actor {k} has {len(start)} of {len(a.cost_ps)} firings")
    return out


def _written(net: Network, stream: int, starts: list[Ints]) -> Ints:
    """When the words of frame 0 are there."""
    s = net.streams[stream]
    a = net.actors[s.producer]
    o = next(o for o in a.outputs if o.stream == stream)
    return _there(starts[s.producer] + a.cost_ps, a, o, s.delay_ps)


def _there(end: Ints, a: Actor, o: Output, delay_ps: int) -> Ints:
    when: Ints = (end if o.each else end[o.maker]) + (a.latency_ps + delay_ps)
    return when


def _freed(net: Network, stream: int, starts: list[Ints]) -> Ints:
    """When the places of frame 0's words are free again."""
    s = net.streams[stream]
    a = net.actors[s.consumer]
    i = next(i for i in a.inputs if i.stream == stream)
    end = starts[s.consumer] + a.cost_ps
    when: Ints = (end if i.each else end[i.freer]) + s.delay_ps
    return when


def _places(net: Network, stream: int, starts: list[Ints], period_ps: int) -> int:
    """The least depth with which no firing of the writer meets a full FIFO: what it has then written, less what the
    reader has given back when it starts; frames before this one count."""
    s = net.streams[stream]
    if s.consumer < 0 or s.producer < 0:
        return 0
    freed, start = _freed(net, stream, starts), starts[s.producer]
    made = next(o.made for o in net.actors[s.producer].outputs if o.stream == stream)
    inside = made - np.searchsorted(freed, start, side="right")
    back, last = 1, int(freed[-1])
    while last - back * period_ps > int(start[0]):
        late = int(np.searchsorted(start, last - back * period_ps, side="left"))
        inside[:late] += len(freed) - np.searchsorted(freed, start[:late] + back * period_ps, side="right")
        back += 1
    return int(inside.max())


class _Pacer:
    """Starts of all actors, from sources to sinks."""

    def __init__(self, net: Network, period_ps: int, order: list[int], known: Asked) -> None:
        self.net, self.period, self.order, self.known = net, period_ps, order, known
        self.starts: list[Ints] = [np.zeros(0, np.int64)] * len(net.actors)
        self.there: dict[int, Ints] = {}  # stream -> when its words are there, until its reader has been placed
        self.chain: dict[int, list[int]] = {}  # paced actor -> what feeds it alone, its own feeder first
        self.feeds: set[int] = set()
        for k in order:
            if net.actors[k].paced and not self._waited_for(k):
                self.chain[k] = self._feeders(k)
                self.feeds |= set(self.chain[k])

    def _waited_for(self, k: int) -> bool:
        """Whether an actor has few words a frame, no window, and stands on one of several ways that meet again: spread
        over the period it would save a few places before and behind it, and cost a frame's on the ways beside it."""
        a = self.net.actors[k]
        if any(self._line(c) is not None for c in self._feeders(k)):
            return False
        own = [i.stream for i in a.inputs] + [o.stream for o in a.outputs]
        if any(self.net.streams[s].words > FEW_WORDS for s in own):
            return False
        behind, ways = {k}, [k]
        for n in ways:
            for o in self.net.actors[n].outputs:
                c = self.net.streams[o.stream].consumer
                if c >= 0 and c not in behind:
                    behind.add(c)
                    ways.append(c)
        return any(
            self.net.streams[i.stream].producer not in behind and not self._prefetched(i.stream)
            for n in ways[1:]
            for i in self.net.actors[n].inputs
        )

    def _feeders(self, k: int) -> list[int]:
        out: list[int] = []
        a = self.net.actors[k]
        while sum(not self._prefetched(i.stream) for i in a.inputs) == 1:
            above = self.net.streams[a.inputs[0].stream].producer
            if above < 0 or not self.net.actors[above].feeds or len(self.net.actors[above].outputs) != 1:
                break
            out.append(above)
            a = self.net.actors[above]
        return out

    def _prefetched(self, stream: int) -> bool:
        maker = self.net.streams[stream].producer
        return maker >= 0 and self.net.actors[maker].prefetches

    def run(self) -> list[Ints] | None:
        ahead = [k for k in self.order if self.net.actors[k].prefetches]
        for k in self.order:
            if k in self.feeds or self.net.actors[k].prefetches:
                continue
            if not (self._paced(k) if k in self.chain else self._early(k, None)) or not self._in_turn(k):
                return None
        if not all(self._just_in_time(k) for k in ahead):
            return None
        early = min((int(self.starts[k][0]) for k in ahead), default=0)
        return self.starts if early >= 0 else [x - early for x in self.starts]  # nothing is there before time 0

    def _in_turn(self, k: int) -> bool:
        """What fills a buffer of an actor waits for room there: rows may come faster than they are taken, and frames of
        its other buffers a few periods later."""
        lines = [i.stream for i in self.net.actors[k].inputs if self.net.streams[i.stream].line]
        for stream in lines:
            s = self.net.streams[stream]
            if s.depth is None or _places(self.net, stream, self.starts, self.period) <= s.depth:
                continue
            for i in self.net.actors[s.producer].inputs:
                self.there[i.stream] = _written(self.net, i.stream, self.starts)
            if not self._early(s.producer, self._room(stream, self.starts[k])):
                return False
            late = self.there.pop(stream)
            reads = next(i for i in self.net.actors[k].inputs if i.stream == stream)
            if (reads.needed(late) > self.starts[k]).any():
                return False
        return True

    def _just_in_time(self, k: int) -> bool:
        """What waits for nothing but room, as late as its reader allows; it may begin before all else."""
        a = self.net.actors[k]
        o = a.outputs[0]
        s = self.net.streams[o.stream]
        need = next(i.need for i in self.net.actors[s.consumer].inputs if i.stream == o.stream)
        reader = self.starts[s.consumer][np.searchsorted(need, np.arange(1, s.words + 1), side="left")]
        wanted = reader[o.made - 1] - (a.latency_ps + s.delay_ps)  # a firing makes one word
        late = _before(wanted - a.cost_ps, a.cost_ps, self.period)
        if late is None:
            return False
        self.starts[k] = late
        return True

    def _put(self, k: int, starts: Ints) -> None:
        a = self.net.actors[k]
        self.starts[k] = starts
        for i in a.inputs:
            self.there.pop(i.stream, None)
        for o in a.outputs:
            s = self.net.streams[o.stream]
            if s.consumer >= 0:
                self.there[o.stream] = _there(starts + a.cost_ps, a, o, s.delay_ps)

    def _data(self, a: Actor) -> Ints:
        """When what each firing needs is there."""
        when = np.full(len(a.cost_ps), LONG_AGO, np.int64)
        for i in a.inputs:
            if i.stream in self.there:
                np.maximum(when, i.needed(self.there[i.stream]), out=when)
        if a.period_ps is not None or when[0] == LONG_AGO:
            when[0] = max(int(when[0]), 0)
        return when

    def _early(self, k: int, floor: Ints | None) -> bool:
        """As early as the data (and `floor`) allow, one frame after the other."""
        a = self.net.actors[k]
        when = self._data(a)
        if floor is not None:
            np.maximum(when, floor, out=when)
        for _ in range(ROUNDS):
            starts = _after(when, a.cost_ps)
            wrapped = int(starts[-1] + a.cost_ps[-1]) - self.period
            if wrapped <= starts[0]:
                self._put(k, starts)
                return True
            when[0] = wrapped
        return False

    def _paced(self, k: int) -> bool:
        """An actor spread over the period, and before it what feeds it: each as late as the next one allows, up to the
        window, which reads ahead as far as its line buffer has room."""
        a, chain = self.net.actors[k], self.chain[k]
        spread = _spread(a.cost_ps, self.period)
        late = self._latest(spread, a, chain)
        if late is None:
            return False
        head = self.net.actors[chain[-1]] if chain else a
        gap = self._data(head) - (late[-1] if chain else spread)
        shift = int(gap.max())
        late = [x + shift for x in late]
        window = next((n for n, c in enumerate(chain) if self._line(c) is not None), None)
        ahead = chain[window + 1 :] if window is not None else []
        floors: dict[int, Ints] = {}
        for n, c in enumerate(ahead):
            reader = late[window] if window is not None and n == 0 else floors[ahead[n - 1]]
            room = self._room(self.net.actors[c].outputs[0].stream, reader)
            floors[c] = np.minimum(room, late[len(chain) - len(ahead) + n])
        for c in reversed(ahead):
            if not self._early(c, floors[c]):
                return False
        for c, starts in reversed(list(zip(chain, late, strict=True))):
            if c not in floors:
                self._put(c, starts)
        self._put(k, spread + shift)
        return True

    def _line(self, k: int) -> int | None:
        """The stream with a fixed depth that an actor of a chain reads: a window's line buffer."""
        stream = self.net.actors[k].inputs[0].stream if self.net.actors[k].inputs else -1
        return stream if stream >= 0 and self.net.streams[stream].line else None

    def _room(self, stream: int, reader: Ints) -> Ints:
        """When each firing of a stream's writer has room if its reader fires at `reader`: in the line buffer, or a FIFO
        that costs nothing."""
        s = self.net.streams[stream]
        a, b = self.net.actors[s.producer], self.net.actors[s.consumer]
        o = next(o for o in a.outputs if o.stream == stream)
        i = next(i for i in b.inputs if i.stream == stream)
        depth = s.depth if s.depth is not None and s.line else FREE_DEPTH
        freed = (reader + b.cost_ps)[i.freer] + s.delay_ps
        word = o.made - 1 - depth
        back = np.maximum(0, -(word // s.words))
        return _after(freed[word + back * s.words] - back * self.period, a.cost_ps)

    def _latest(self, spread: Ints, paced: Actor, chain: list[int]) -> list[Ints] | None:
        """The latest starts of the feeders at which the paced actor never waits; None where they do not settle."""
        late: list[Ints] = []
        below, starts = paced, spread
        bounds = [np.full(len(self.net.actors[c].cost_ps), NEVER, np.int64) for c in chain]
        for _ in range(ROUNDS):
            before, late = late, []
            below, starts = paced, spread
            for n, c in enumerate(chain):
                a = self.net.actors[c]
                bound = np.minimum(bounds[n], self._wanted(a, below, starts))
                own = _before(bound, a.cost_ps, self.period)
                if own is None:
                    return None
                late.append(own)
                below, starts = a, own
            for n, c in enumerate(chain[:-1]):  # room in the line buffer for what the reader must have read by then
                if self._line(c) is not None:
                    bounds[n] = np.minimum(bounds[n], self._given_back(chain[n + 1], c, late[n + 1]))
            if before and all(np.array_equal(x, y) for x, y in zip(before, late, strict=True)):
                return late
            if not chain or all(self._line(c) is None for c in chain):
                return late
        return None

    def _wanted(self, a: Actor, below: Actor, starts: Ints) -> Ints:
        """The latest start of each firing for what the next actor needs; NEVER where it writes nothing."""
        o, i = a.outputs[0], below.inputs[0]
        delay = a.latency_ps + self.net.streams[o.stream].delay_ps
        if o.each and i.each:
            return starts - delay - a.cost_ps
        if o.stream not in self.known:
            first = np.concatenate([[0], o.made[:-1]])  # the first word that a firing writes
            reader = np.searchsorted(i.need, np.minimum(first, len(i.freer) - 1) + 1, side="left")
            wanted = (o.made > first) & (reader < len(starts))  # what no window reaches is never wanted
            self.known[o.stream] = wanted, np.minimum(reader, len(starts) - 1)
        wanted, reader = self.known[o.stream]
        return np.where(wanted, starts[reader] - delay - a.cost_ps, NEVER)

    def _given_back(self, writer: int, reader: int, late: Ints) -> Ints:
        """The latest start of each firing of a line buffer's reader such that the words that are written at `late` find
        room: of this frame and, as the buffer is shared by neighbouring frames, of the next ones."""
        a, b = self.net.actors[writer], self.net.actors[reader]
        o, i = a.outputs[0], b.inputs[0]
        s = self.net.streams[o.stream]
        assert s.depth is not None
        later = np.arange(s.words, dtype=np.int64) + s.depth  # the word that takes the place of word j
        frames = later // s.words
        by = late[o.maker[later - frames * s.words]] + frames * self.period - s.delay_ps
        first = np.concatenate([[True], i.freer[1:] != i.freer[:-1]])  # `by` ascends: the first word is the tightest
        out = np.full(len(b.cost_ps), NEVER, np.int64)
        out[i.freer[first]] = by[first] - b.cost_ps[i.freer[first]]
        return out


def _spread(cost_ps: Ints, period_ps: int) -> Ints:
    """Starts from 0 with the idle time of a period spread evenly over the work."""
    done = np.cumsum(cost_ps) - cost_ps
    step = 0
    for c in np.unique(cost_ps[:1] if cost_ps.strides == (0,) else cost_ps):
        step = gcd(step, int(c))
    if step == 0:
        return done
    total = int(cost_ps.sum())
    whole, rest = divmod(period_ps, total)
    units, rest = total // step, rest // step
    extra = (done // step) * rest // units if rest * units < NEVER else np.zeros_like(done)
    starts: Ints = done * whole + extra * step
    return starts


def _after(earliest: Ints, cost_ps: Ints) -> Ints:
    """Starts one after the other, none before its `earliest`."""
    done = np.cumsum(cost_ps) - cost_ps
    starts: Ints = done + np.maximum.accumulate(earliest - done)
    return starts


def _before(latest: Ints, cost_ps: Ints, period_ps: int) -> Ints | None:
    """Starts one before the other, none after its `latest`, and the next frame's after this one's; None: no room."""
    done = np.cumsum(cost_ps) - cost_ps
    bound = latest.copy()
    for _ in range(ROUNDS):
        starts: Ints = done + np.minimum.accumulate((bound - done)[::-1])[::-1]
        top = int(starts[0]) + period_ps - int(cost_ps[-1])
        if starts[-1] <= top:
            return starts
        bound[-1] = min(int(bound[-1]), top)
    return None


__all__ = ["FREE_DEPTH", "Steady", "broken", "busiest_ps", "steady", "steady_near"]
