"""Messages between cores and the host in the staged steady state, one after another in the global order.

Needs the plan's channels; gives when each message has left its sender and when all of it has arrived. A message waits
for its sender's TX queue, its receiver's RX queue and the slot that the reader of a frame before leaves; a channel
holds CHUNKS of it before the receiver takes any; a link is slower by the share that others take. Where many messages
set out together (one frame, or a plan without stages) see meeting.py.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence

from compiler.partition.prediction.usage import Ends
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


class Messages:
    """All messages of one play. tx_ps, rx_ps: when an engine's queues are free. sent, arrived: by channel and frame."""

    def __init__(
        self,
        channels: Sequence[ChannelPlan],
        engines: Iterable[str],
        links: Mapping[str, tuple[int, int]],
        crowd: Mapping[tuple[str, str], float],
        ends: Ends,
    ) -> None:
        """links: bits a second and nanoseconds of each; crowd: (engine, link) -> share of the time that others than the
        engine keep the link busy."""
        self.channels = channels
        self.tx_ps = dict.fromkeys(engines, 0)
        self.rx_ps = dict.fromkeys(self.tx_ps, 0)
        self.sent: dict[Key, int] = {}
        self.arrived: dict[Key, int] = {}
        self.read: dict[Key, int] = {}  # when the last reader has loaded it
        self._ways: list[tuple[int, int, int]] = []  # bytes, picoseconds under way, of moving
        for i, c in enumerate(channels):
            size = -(-c.bits_per_frame // 8)
            rate = min((round(links[k][0] / (1 + crowd.get((c.source, k), 0.0))) for k in c.route), default=0)
            moving_ps = max([transfer_ps(size, rate) if rate else 0, *ends.of(i).values()])
            self._ways.append((size, sum(links[k][1] for k in c.route) * 1000, moving_ps))
        self._depth = [c.target_stage - c.source_stage + 1 for c in channels]

    def send(self, index: int, frame: int, ready_ps: int) -> None:
        """Passes a message on whose data is there at `ready_ps`."""
        c, key = self.channels[index], (index, frame)
        size, latency, moving = self._ways[index]
        received = c.target in self.rx_ps
        begin = 0
        if received:
            begin = max(self.rx_ps[c.target], self.read.get((index, frame - max(2, self._depth[index])), 0))
        # The host sends what the receiver takes.
        start = max(ready_ps, self.tx_ps[c.source] if c.source in self.tx_ps else begin - latency)
        end, begin = start + moving, max(begin, start + latency)
        if received and size > CHUNKS * CHUNK_BYTES:
            end = max(end, begin + moving - moving * CHUNKS * CHUNK_BYTES // size)
        self.sent[key] = end
        if c.source in self.tx_ps:
            self.tx_ps[c.source] = end
        self.arrived[key] = max(begin + moving, end + latency) if received else end + latency
        if received:
            self.rx_ps[c.target] = self.arrived[key]
