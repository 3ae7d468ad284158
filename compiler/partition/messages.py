"""Messages between cores and the host, in order of time: TX queues, links that they share, RX queues.

Needs the plan's channels, offered in the one global order; gives when each has left its sender and when all of it has
arrived. A message waits for its sender's TX queue, its receiver's RX queue and the slot that the reader of a frame
before leaves; a channel holds CHUNKS of it before the receiver takes any. Where many set out together (one frame, or a
plan without stages), their chunks take turns on the links; in a staged steady state a link is slower by the share that
others take.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

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
    arrived_ps: int = -1  # not yet


class Messages:
    """All messages of one play. tx_ps, rx_ps: when an engine's queues are free. sent, arrived: by channel and frame."""

    def __init__(
        self,
        channels: Sequence[ChannelPlan],
        engines: Iterable[str],
        links: Mapping[str, tuple[int, int]],
        crowd: Mapping[tuple[str, str], float],
        banks: Sequence[Mapping[str, int]],
        meeting: bool,
    ) -> None:
        """links: bits a second and nanoseconds of each; crowd: (engine, link) -> share of the time that others than the
        engine keep the link busy; banks: of each channel, the picoseconds for which its message keeps the banks of its
        ends busy; meeting: messages share links and banks as they meet, in order of time."""
        self.channels, self.links, self.banks, self.meeting = channels, links, banks, meeting
        self.tx_ps = dict.fromkeys(engines, 0)
        self.rx_ps = dict.fromkeys(self.tx_ps, 0)
        self.sent: dict[Key, int] = {}
        self.arrived: dict[Key, int] = {}
        self.read: dict[Key, int] = {}  # when the last reader has loaded it
        self._busy = {k: Calendar() for k in (*links, *(b for ends in banks for b in ends))}
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
        self._heap: list[tuple[int, int, _Chunk]] = []  # those that may set out: (when, serial, …)
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
        if c.source != HOST:
            self._outgoing[c.source].extend(chunks)
        if c.target != HOST:
            self._incoming[c.target].extend(chunks)
        for m in chunks if HOST in (c.source, c.target) else chunks[:1]:
            self._offer(m)
        if not self.meeting:  # queues alone decide: the global order gives the same times as that of time
            self.play(((index, frame),))

    def play(self, needed: Iterable[Key]) -> None:
        """Passes messages on, the earliest first, until these have arrived."""
        for key in needed:
            while self._heap and key not in self.arrived:
                self._step()

    def play_all(self) -> None:
        """Passes on all that have been sent."""
        while self._heap:
            self._step()

    def _step(self) -> None:
        _, _, m = heappop(self._heap)
        if m.end_ps < 0:
            self._transmit(m)

    def _offer(self, m: _Chunk) -> None:
        """Onto the heap if it may set out: the first of its TX queue, its place in the channel free; also the first of
        its RX queue, where it is too large for the channel and where the host, which sends what the receiver takes, is
        its source."""
        c = self.channels[m.channel]
        if m.end_ps >= 0 or (c.source != HOST and self._outgoing[c.source][0] is not m):
            return
        if m.place is not None and m.place.arrived_ps < 0:
            return
        tied = c.source == HOST or m.bytes > CHUNKS * CHUNK_BYTES
        if tied and c.target != HOST and self._incoming[c.target][0] is not m:
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
        ends = {bank: ps * size // max(1, total) for bank, ps in self.banks[m.channel].items()}
        m.moving_ps = max(transfer_ps(size, rate) if rate else 0, *ends.values(), 0)
        begin = 0 if c.target == HOST else max(self.rx_ps[c.target], self._room(m))
        m.start_ps = max(self._earliest(m), begin - latency if c.source == HOST else 0)
        m.end_ps = m.start_ps + m.moving_ps
        if self.meeting:
            for link in c.route:
                taken = self._busy[link].take(m.start_ps, transfer_ps(size, self.links[link][0]))
                m.end_ps = max(m.end_ps, taken)
            for bank, ps in ends.items():
                m.end_ps = max(m.end_ps, self._busy[bank].take(m.start_ps, ps))
        if size > CHUNKS * CHUNK_BYTES and c.target != HOST:
            first = max(begin, m.start_ps + latency)
            m.end_ps = max(m.end_ps, first + m.moving_ps - m.moving_ps * CHUNKS * CHUNK_BYTES // size)
        if m.last:
            self.sent[(m.channel, m.frame)] = m.end_ps
        if c.source != HOST:
            self.tx_ps[c.source] = m.end_ps
            queue = self._outgoing[c.source]
            queue.popleft()
            if queue:
                self._offer(queue[0])
        if c.target == HOST:
            self._arrive(m, m.end_ps + latency)
        else:
            self._receive(c.target)

    def _receive(self, engine: str) -> None:
        """The receiver's half of all messages that are under way and whose turn it is."""
        queue = self._incoming[engine]
        while queue and queue[0].end_ps >= 0:
            m = queue.popleft()
            latency = self._ways[m.channel][1]
            begin = max(self.rx_ps[engine], self._room(m), m.start_ps + latency)
            self.rx_ps[engine] = max(begin + m.moving_ps, m.end_ps + latency)
            self._arrive(m, self.rx_ps[engine])
        if queue:
            self._offer(queue[0])

    def _arrive(self, m: _Chunk, at: int) -> None:
        m.arrived_ps = at
        if m.last:
            self.arrived[(m.channel, m.frame)] = at
        queue = self._outgoing.get(self.channels[m.channel].source)
        if queue and queue[0].place is m:
            self._offer(queue[0])
