"""How much of a bank is in use when: what a transfer beside others gets of it, and when it therefore ends.

Needs spans of time with what each wants of the bank; gives the end of a transfer that goes on beside them. Shares are
max-min in bytes that arrive: a message whose runs are shorter than a burst takes `weight` bytes of the bank for one
byte, so beside a load it gets `weight` times as much. Any unit of time will do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TASKS = 8  # the latest of a bank, that messages still meet
Span = tuple[int, int, float, float]  # begin, end, share of the bank that it wants, weight
Others = tuple[Sequence[Span], Sequence[Span]]  # beside loads, beside stores
ALONE: Others = ((), ())
Queue = tuple[str, bool]  # of an engine: TX (True) or RX


def through(spans: Sequence[Span], begin: int, work: int, share: float, weight: float = 1.0) -> int:
    """The end of what begins at `begin` and alone takes `work`, at `share` of the bank."""
    if share + sum(s for _, b, s, _ in spans if b > begin) <= 1.0:
        return begin + work
    now, left = begin, float(work)
    while True:
        others, until = [], 0
        for a, b, s, w in spans:
            if b <= now:
                continue
            if a <= now:
                others.append((s, w))
            edge = b if a <= now else a
            until = min(until or edge, edge)
        if not until:
            return now + round(left)
        speed = _speed(others, share, weight)
        if left <= (until - now) * speed:
            return now + round(left / speed)
        left -= (until - now) * speed
        now = until


def _speed(others: Sequence[tuple[float, float]], share: float, weight: float) -> float:
    """What part of `share` is left to one beside the others: those that want less than the common level get it all."""
    if not others or share <= 0.0 or share + sum(s for s, _ in others) <= 1.0:  # who moves nothing is never held up
        return 1.0
    room, total = 1.0, weight + sum(w for _, w in others)
    for s, w in sorted(others, key=lambda x: x[0] / x[1]):
        if s / w > room / total or share / weight <= s / w:
            break
        room, total = room - s, total - w
    return min(1.0, room / total * weight / share)


def later(spans: Sequence[Span], begin: int) -> list[Span]:
    """Those that are not over at `begin`, of spans of one queue in its order."""
    first = len(spans)
    while first and spans[first - 1][1] > begin:
        first -= 1
    return [spans[k] for k in range(first, len(spans))]


def during(spans: Sequence[Span], share: float) -> list[Span]:
    """This share as long as there is any of the spans."""
    out: list[Span] = []
    for a, b, _, _ in sorted(spans):
        if out and a <= out[-1][1]:
            out[-1] = (out[-1][0], max(b, out[-1][1]), share, 1.0)
        else:
            out.append((a, b, share, 1.0))
    return out


@dataclass(frozen=True, slots=True)
class Ends:
    """What messages take of banks. bank_of: engine -> bank; ps: of each channel, engine -> picoseconds for which its
    message alone keeps the engine's bank busy; weight: of each channel, bytes of its sender's bank for one of its own.
    """

    bank_of: Mapping[str, str]
    ps: Sequence[Mapping[str, int]]
    weight: Sequence[float]

    def of(self, channel: int) -> dict[str, int]:
        """Picoseconds for which a message keeps each bank busy."""
        out: dict[str, int] = {}
        for engine, ps in self.ps[channel].items():
            out[self.bank_of[engine]] = out.get(self.bank_of[engine], 0) + ps
        return out


class Usage:
    """The banks during one play: what has been sent and done so far. All times in picoseconds."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._queues: dict[str, list[Queue]] = {}  # TX and RX queues of each bank
        for engine, bank in ends.bank_of.items():
            self._queues.setdefault(bank, []).extend(((engine, True), (engine, False)))
        self._messages: dict[Queue, list[Span]] = {q: [] for queues in self._queues.values() for q in queues}
        self._tasks: dict[str, deque[Span]] = {b: deque(maxlen=TASKS) for b in self._queues}

    def message(self, queue: Queue, channel: int, part: float, begin: int, end: int, alone: int) -> int:
        """When a part of a message, over by `end` without others, is over beside tasks and other queues at this end;
        they will see it. alone: what it takes if nothing else moves. May be asked again for the latest one."""
        engine, sending = queue
        ps = round(self._ends.ps[channel].get(engine, 0) * part)
        if not ps or not alone:
            return end
        bank, weight = self._ends.bank_of[engine], self._ends.weight[channel] if sending else 1.0
        others = [s for s in self._tasks[bank] if s[1] > begin]
        for q in self._queues[bank]:
            if q != queue:
                others += later(self._messages[q], begin)
        if others:
            end = max(end, through(others, begin, alone, ps / alone, weight))
        spans = self._messages[queue]
        if spans and spans[-1][0] == begin:
            spans.pop()
        spans.append((begin, end, min(1.0, ps / alone), weight))
        return end

    def beside(self, engine: str, begin: int, end: int) -> list[Span]:
        """What messages want of the bank of an engine from `begin` on; none if none sets out before `end`."""
        spans = [s for q in self._queues[self._ends.bank_of[engine]] for s in later(self._messages[q], begin)]
        return spans if any(s[0] < end for s in spans) else []

    def forget(self, engines: Mapping[str, int]) -> None:
        """engine -> from when on its tasks may still ask."""
        least = min(engines.values(), default=0)
        for spans in self._messages.values():
            spans[:] = later(spans, least)

    def task(self, engine: str, begin: int, end: int, share: float) -> None:
        """A task takes this share of its bank on average."""
        self._tasks[self._ends.bank_of[engine]].append((begin, end, min(1.0, share), 1.0))

    def take_back(self, engine: str) -> None:
        """The latest task was only as it looked."""
        self._tasks[self._ends.bank_of[engine]].pop()
