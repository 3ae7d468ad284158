"""Messages between cores and the host, in order of time: TX queues, links that they share, RX queues.

Needs the plan's channels, offered in the one global order; gives when each has left its sender and when all of it has
arrived. A message waits for its sender's TX queue, its receiver's RX queue and the slot that the reader of a frame
before leaves; a channel holds CHUNKS of it before the receiver takes any. Where many set out together (one frame, or a
plan without stages), their chunks take turns on the links and share banks with tasks (usage.py); in a staged steady
state a link is slower by the share that others take.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from compiler.partition.prediction.usage import Ends, Usage
from compiler.plan.model import ChannelPlan
from cost_models.primitives import transfer_ps

HOST = "host"
CHUNK_BYTES = 16 * 1024  # the scheduler's
CHUNKS = 4  # what its channels hold
Key = tuple[int, int]  # channel, frame


class Calendar:
    """When a link, or the host, is busy. Work that is entered later may use the gaps before work entered earlier."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def take(self, at: int, work: int) -> int:
        """The end of `work` that begins at `at` at the earliest and goes on whenever there is nothing else."""
        if not work:
            return at
        first = bisect_right(self.ends, at)
        behind, end, left = first, at, work
        while behind < len(self.starts):
            room = max(0, self.starts[behind] - end)
            if left <= room:
                break
            left -= room
            end = self.ends[behind]
            behind += 1
        end += left
        begin = min(at, self.starts[first]) if first < behind else at
        self.starts[first:behind], self.ends[first:behind] = [begin], [end]
        return end


@dataclass(slots=True, eq=False)
class _Chunk:
    """A part of a message. ps: when its data is there; when it sets out and has left; what it takes alone; when it has
    arrived. place: the chunk whose place in the channel it takes."""

    channel: int
    frame: int
    bytes: int
    last: bool
    place: _Chunk | None
    ready_ps: int
    start_ps: int = 0
    end_ps: int = -1  # not sent yet
    moving_ps: int = 0
    begin_ps: int = 0  # of the receiver's half
    arriving_ps: int = -1  # when that will be over, as it looks
    arrived_ps: int = -1  # not yet


class Messages:
    """All messages of one play. tx_ps, rx_ps: when an engine's queues are free. sent, arrived: by channel and frame."""

    def __init__(
        self,
        channels: Sequence[ChannelPlan],
        engines: Iterable[str],
        links: Mapping[str, tuple[int, int]],
        crowd: Mapping[tuple[str, str], float],
        ends: Ends,
        meeting: bool,
    ) -> None:
        """links: bits a second and nanoseconds of each; crowd: (engine, link) -> share of the time that others than the
        engine keep the link busy; meeting: messages share links and banks as they meet, in order of time, banks with
        the tasks that `usage` is told of."""
        self.channels, self.links, self.ends, self.meeting = channels, links, ends, meeting
        self.usage = Usage(ends) if meeting else None
        self.tx_ps = dict.fromkeys(engines, 0)
        self.rx_ps = dict.fromkeys(self.tx_ps, 0)
        self.sent: dict[Key, int] = {}
        self.arrived: dict[Key, int] = {}
        self.read: dict[Key, int] = {}  # when the last reader has loaded it
        self._busy = {k: Calendar() for k in links}
        self._ways = [
            (
                min((round(links[k][0] / (1 + crowd.get((c.source, k), 0.0))) for k in c.route), default=0),
                sum(links[k][1] for k in c.route) * 1000,
                -(-c.bits_per_frame // 8),
            )
            for c in channels
        ]
        self._depth = [c.target_stage - c.source_stage + 1 for c in channels]
        self._outgoing: dict[str, deque[_Chunk]] = {e: deque() for e in self.tx_ps}
        self._incoming: dict[str, deque[_Chunk]] = {e: deque() for e in self.tx_ps}
        self._heap: list[tuple[int, int, _Chunk]] = []  # those that may set out or have arrived: (when, serial, …)
        self._serial = 0

    def send(self, index: int, frame: int, ready_ps: int) -> None:
        """A message (all its chunks) whose data is there at `ready_ps` joins the queues of its ends."""
        c, size = self.channels[index], self._ways[index][2]
        count = max(1, -(-size // CHUNK_BYTES)) if self.meeting else 1
        chunks: list[_Chunk] = []
        for k in range(count):
            part = size * (k + 1) // count - size * k // count
            chunks.append(
                _Chunk(index, frame, part, k == count - 1, chunks[-CHUNKS] if k >= CHUNKS else None, ready_ps)
            )
        if c.source in self.tx_ps:
            self._outgoing[c.source].extend(chunks)
        if c.target in self.tx_ps:
            self._incoming[c.target].extend(chunks)
        for m in chunks[:1] if c.source in self.tx_ps and c.target in self.tx_ps else chunks:
            self._offer(m)
        if not self.meeting:  # queues alone decide: the global order gives the same times as that of time
            self.play(((index, frame),))

    def play(self, needed: Iterable[Key]) -> None:
        """Passes messages on, the earliest first, until these have arrived."""
        for key in needed:
            while self._heap and key not in self.arrived:
                self._step()

    def play_until(self, ps: int) -> None:
        """Passes on all that may set out before this."""
        while self._heap and self._heap[0][0] < ps:
            self._step()

    def play_all(self) -> None:
        """Passes on all that have been sent."""
        while self._heap:
            self._step()

    def _step(self) -> None:
        now, _, m = heappop(self._heap)
        if m.end_ps < 0:
            self._transmit(m)
        elif m.arriving_ps == now and m.arrived_ps < 0:
            self._received(m)

    def _offer(self, m: _Chunk) -> None:
        """Onto the heap if it may set out: the first of its TX queue, its place in the channel free; also the first of
        its RX queue, where it is too large for the channel and where the host, which sends what the receiver takes, is
        its source."""
        c = self.channels[m.channel]
        if m.end_ps >= 0 or (c.source in self.tx_ps and self._outgoing[c.source][0] is not m):
            return
        if m.place is not None and m.place.arrived_ps < 0:
            return
        tied = c.source not in self.tx_ps or m.bytes > CHUNKS * CHUNK_BYTES
        if tied and c.target in self.tx_ps and self._incoming[c.target][0] is not m:
            return
        self._serial += 1
        heappush(self._heap, (self._earliest(m), self._serial, m))

    def _earliest(self, m: _Chunk) -> int:
        """When its data, its sender and its place in the channel are ready."""
        free = self.tx_ps.get(self.channels[m.channel].source, 0)
        return max(m.ready_ps, free, m.place.arrived_ps if m.place is not None else 0)

    def _room(self, m: _Chunk) -> int:
        """When the reader of a frame before has left the slot that the message needs."""
        return self.read.get((m.channel, m.frame - max(2, self._depth[m.channel])), 0)

    def _transmit(self, m: _Chunk) -> None:
        """The sender's half of a chunk, then all receiver's halves that now can be."""
        c = self.channels[m.channel]
        rate, latency, total = self._ways[m.channel]
        size = m.bytes
        moving_ps = transfer_ps(size, rate) if rate else 0
        m.moving_ps = max([moving_ps, *(ps * size // max(1, total) for ps in self.ends.of(m.channel).values())])
        begin = 0 if c.target not in self.tx_ps else max(self.rx_ps[c.target], self._room(m))
        m.start_ps = max(self._earliest(m), begin - latency if c.source not in self.tx_ps else 0)
        m.end_ps = m.start_ps + m.moving_ps
        if self.meeting:
            for link in c.route:
                taken = self._busy[link].take(m.start_ps, transfer_ps(size, self.links[link][0]))
                m.end_ps = max(m.end_ps, taken)
        m.end_ps = self._beside(c.source, m, m.start_ps, m.end_ps)
        if size > CHUNKS * CHUNK_BYTES and c.target in self.tx_ps:
            first = max(begin, m.start_ps + latency)
            m.end_ps = max(m.end_ps, first + m.moving_ps - m.moving_ps * CHUNKS * CHUNK_BYTES // size)
        if m.last:
            self.sent[(m.channel, m.frame)] = m.end_ps
        if c.source in self.tx_ps:
            self.tx_ps[c.source] = m.end_ps
            queue = self._outgoing[c.source]
            queue.popleft()
            if queue:
                self._offer(queue[0])
        if c.target not in self.tx_ps:
            self._arrive(m, m.end_ps + latency)
        else:
            self._receive(c.target)

    def _receive(self, engine: str) -> None:
        """The receiver's half of the message whose turn it is, if it is under way."""
        queue = self._incoming[engine]
        while queue and queue[0].end_ps >= 0 and queue[0].arriving_ps < 0:
            m = queue[0]
            m.begin_ps = max(self.rx_ps[engine], self._room(m), m.start_ps + self._ways[m.channel][1])
            m.arriving_ps = self._received_by(m)
            if self.meeting:  # others that set out meanwhile may slow it
                self._serial += 1
                heappush(self._heap, (m.arriving_ps, self._serial, m))
                return
            self._taken(m)
        if queue:
            self._offer(queue[0])

    def _received_by(self, m: _Chunk) -> int:
        """When the receiver's half is over, beside what has set out so far."""
        latency = self._ways[m.channel][1]
        end = max(m.begin_ps + m.moving_ps, m.end_ps + latency)
        return self._beside(self.channels[m.channel].target, m, m.begin_ps, end)

    def _received(self, m: _Chunk) -> None:
        """It looked as if the receiver's half were over now."""
        again = self._received_by(m)
        if again - m.arriving_ps > (again - m.begin_ps) // 1000:
            m.arriving_ps = again
            self._serial += 1
            heappush(self._heap, (again, self._serial, m))
            return
        self._taken(m)
        self._receive(self.channels[m.channel].target)

    def _taken(self, m: _Chunk) -> None:
        engine = self.channels[m.channel].target
        self._incoming[engine].popleft()
        self.rx_ps[engine] = m.arriving_ps
        self._arrive(m, m.arriving_ps)

    def _beside(self, engine: str, m: _Chunk, begin: int, end: int) -> int:
        """When one half of a chunk, over by `end` if alone, is over beside the tasks of that engine."""
        if self.usage is None or engine not in self.tx_ps:
            return end
        sending = engine == self.channels[m.channel].source
        part = m.bytes / max(1, self._ways[m.channel][2])
        return self.usage.message((engine, sending), m.channel, part, begin, end, m.moving_ps)

    def _arrive(self, m: _Chunk, at: int) -> None:
        m.arrived_ps = at
        if m.last:
            self.arrived[(m.channel, m.frame)] = at
        queue = self._outgoing.get(self.channels[m.channel].source)
        if queue and queue[0].place is m:
            self._offer(queue[0])
