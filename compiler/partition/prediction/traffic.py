"""Messages on their way, in order of time: TX and RX queues, credits of channels, links and banks that they share.

Needs the machine of timing.py and the messages of all queues in order; tells its hooks what has left and what has
arrived. A message waits in its sender's queue until what it carries is there and its channel has room, moves beside all
that moves then (fluid.py), and is taken by its receiver's queue in its turn, as soon as its head is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from compiler.partition.prediction.fluid import Flow, Fluid, Uses
from compiler.partition.prediction.messages import CHUNKS
from compiler.partition.prediction.passing import Share
from cost_models.primitives import PS_PER_SECOND, STREAM_BYTES_PER_CYCLE

if TYPE_CHECKING:
    from compiler.partition.prediction.timing import Machine


@dataclass(frozen=True, slots=True)
class Way:
    """How messages of one channel or hop go; caps in bytes a picosecond, inf where nothing holds them up."""

    pair: tuple[str, str]
    latency_ps: int
    cap: float
    uses: Uses
    into_cap: float  # of the receiver's bank
    into: Uses
    spread: float  # bytes of the receiver's bank for one of the message


@dataclass(slots=True, eq=False)
class Message:
    """A message on its way. last: of its channel and frame, or of its share."""

    way: Way
    iteration: int
    frame: int
    size: float
    last: bool
    channel: int = -1
    share: Share | None = None
    ready: bool = False  # what it carries is there
    head: bool = False  # so much of it has arrived
    tail: bool = False
    written: bool = False


@dataclass(slots=True, eq=False)
class Queue:
    """A TX or RX queue: its messages in order, the next of them, whether that is under way. engine: None for others."""

    engine: str | None
    messages: list[Message] = field(default_factory=list)
    at: int = 0
    busy: bool = False


@dataclass(slots=True, eq=False)
class Met:
    """A message at a bank: since when, what share of it it wants, its bytes of the bank for one, when it was over."""

    begin: int
    share: float
    weight: float
    until: int = -1


class Hooks(Protocol):
    """What decides when queues go on, and is told what became of messages."""

    def opened(self, engine: str | None, iteration: int) -> bool: ...  # queues of the engine may begin the iteration
    def room(self, engine: str | None, m: Message) -> bool: ...  # what the message overwrites is no longer needed
    def counted(self, engine: str | None, iteration: int) -> None: ...  # one thing less to do in the iteration
    def left(self, m: Message) -> None: ...
    def taken(self, m: Message) -> None: ...


class Traffic:
    """Everything that moves, and the clock: what happens at which time. Times are picoseconds."""

    def __init__(self, machine: Machine, hooks: Hooks) -> None:
        self.m, self.hooks = machine, hooks
        self.now = 0
        self._heap: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._serial = count()
        per_second = machine.ends.bytes_per_second
        self.banks = {bank: k for k, bank in enumerate(per_second)}
        self.links = {link: len(self.banks) + k for k, link in enumerate(machine.links)}
        rates = [rate / PS_PER_SECOND for rate in per_second.values()]
        self.fluid = Fluid([*rates, *(bits / 8 / PS_PER_SECOND for bits, _ in machine.links.values())])
        self._moving: dict[Flow, tuple[Queue, Message, bool, list[Met]]] = {}
        self.met: dict[int, list[Met]] = {k: [] for k in self.banks.values()}  # of each bank, messages that moved there
        self.tx: dict[tuple[str, str], Queue] = {}
        self.rx: dict[tuple[str, str], Queue] = {}
        self._credit: dict[tuple[str, str], int] = {}

    def play(self) -> None:
        """Until nothing moves any more."""
        while True:
            due = self.fluid.next_due(self.now)
            first = self._heap[0][0] if self._heap else inf
            if due == first == inf:
                return
            if due <= first:
                self.now = int(due)
                for flow in self.fluid.over(due):
                    self._over(flow)
            else:
                self.now = int(first)
                while self._heap and self._heap[0][0] <= self.now:
                    _, _, what, arguments = heappop(self._heap)
                    what(*arguments)

    def tx_of(self, source: str, target: str = "") -> Queue | None:
        """The queue from which messages of this pair are sent; without a target, of an engine."""
        return self.tx.get((source, "") if source in self.m.clock else (source, target))

    def enqueue(self, message: Message) -> None:
        source, target = message.way.pair
        for queues, end in ((self.tx, source), (self.rx, target)):
            key = (end, "") if end in self.m.clock else (source, target)
            if key not in queues:
                queues[key] = Queue(end if end in self.m.clock else None)
            queues[key].messages.append(message)
        self._credit[message.way.pair] = CHUNKS

    def way(self, index: int) -> Way:
        c, ends = self.m.plan.channels[index], self.m.ends
        size = max(1, -(-c.bits_per_frame // 8))
        rates = self.fluid.capacity
        slowest = min((rates[self.links[k]] for k in c.route), default=inf)
        uses: list[tuple[int, float]] = [(self.links[k], 1.0) for k in c.route]
        cap, into_cap, spread = slowest, inf, 1.0
        into: Uses = ()
        if c.source in ends.bank_of and (ps := ends.ps[index].get(c.source, 0)):
            bank = self.banks[ends.bank_of[c.source]]
            uses.append((bank, ps * rates[bank] / size))
            cap = min(cap, size / ps)
        if c.target in ends.bank_of and (ps := ends.ps[index].get(c.target, 0)):
            bank = self.banks[ends.bank_of[c.target]]
            spread, into = ps * rates[bank] / size, ((bank, 1.0),)
            into_cap = min(rates[bank], slowest * spread)
        latency = sum(self.m.links[k][1] for k in c.route) * 1000
        return Way((c.source, c.target), latency, cap, tuple(uses), into_cap, into, spread)

    def hop(self, share: Share) -> Way:
        near = STREAM_BYTES_PER_CYCLE * self.m.clock[share.source] / 10**9
        cap = min([near, *(self.fluid.capacity[self.links[k]] for k in share.route)])
        latency = sum(self.m.links[k][1] for k in share.route) * 1000
        uses = tuple((self.links[k], 1.0) for k in share.route)
        return Way((share.source, share.target), latency, cap, uses, inf, (), 1.0)

    def at(self, ps: int, what: Callable[..., object], *arguments: Any) -> None:
        heappush(self._heap, (max(self.now, ps), next(self._serial), what, arguments))

    def send(self, queue: Queue | None) -> None:
        """The next message of a TX queue sets out if it can."""
        while queue is not None and not queue.busy and queue.at < len(queue.messages):
            m = queue.messages[queue.at]
            if not m.ready or not self._credit[m.way.pair] or not self.hooks.opened(queue.engine, m.iteration):
                return
            self._credit[m.way.pair] -= 1
            queue.busy = True
            self.at(self.now + m.way.latency_ps, self._head, m)
            self._flow(queue, m, m.size, m.way.cap, m.way.uses, True)

    def _flow(self, queue: Queue, m: Message, size: float, cap: float, uses: Uses, sending: bool) -> None:
        if cap == inf or not size:
            self._moved(queue, m, sending)
            return
        flow = Flow(size, cap, uses)
        met = [Met(self.now, cap * w / self.fluid.capacity[r], w) for r, w in uses if r in self.met]
        for (r, _), x in zip([u for u in uses if u[0] in self.met], met, strict=True):
            self.met[r].append(x)
        self._moving[flow] = (queue, m, sending, met)
        self.fluid.start(flow, self.now)

    def _over(self, flow: Flow) -> None:
        self.fluid.stop(flow)
        if flow not in self._moving:
            return
        queue, m, sending, met = self._moving.pop(flow)
        for x in met:
            x.until = self.now
        self._moved(queue, m, sending)

    def _moved(self, queue: Queue, m: Message, sending: bool) -> None:
        if not sending:
            m.written = True
            if m.tail:
                self._taken(m)
            return
        queue.busy = False
        queue.at += 1
        self.at(self.now + m.way.latency_ps, self._tail, m)
        self.hooks.counted(queue.engine, m.iteration)
        self.hooks.left(m)
        self.send(queue)

    def _head(self, m: Message) -> None:
        m.head = True
        self.receive(self._rx(m))

    def _tail(self, m: Message) -> None:
        m.tail = True
        if m.written:
            self._taken(m)

    def _rx(self, m: Message) -> Queue:
        source, target = m.way.pair
        return self.rx[(target, "") if target in self.m.clock else (source, target)]

    def receive(self, queue: Queue | None) -> None:
        """The next message of an RX queue is taken if it can be."""
        if queue is None or queue.busy or queue.at == len(queue.messages):
            return
        m = queue.messages[queue.at]
        if m.head and self.hooks.opened(queue.engine, m.iteration) and self.hooks.room(queue.engine, m):
            queue.busy = True
            self._flow(queue, m, m.size * m.way.spread, m.way.into_cap, m.way.into, False)

    def _taken(self, m: Message) -> None:
        queue = self._rx(m)
        queue.busy = False
        queue.at += 1
        source, target = m.way.pair
        self._credit[m.way.pair] += 1
        self.send(self.tx_of(source, target))
        self.hooks.counted(queue.engine, m.iteration)
        self.hooks.taken(m)
        self.receive(queue)
