"""Who gets how much of links and banks while: transfers side by side, max-min fair, re-shared as they come and go.

Needs capacities; moves flows on in time. A flow of `amount` bytes loads each of its resources with `weight` bytes for
one of its own (runs shorter than a burst) and takes at most its cap. Times are picoseconds, rates bytes a picosecond.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, inf

Uses = tuple[tuple[int, float], ...]  # (resource, weight)
_EQUAL = 1 + 1e-9


class Flow:
    """What moves. `due`: when it is over at its present rate."""

    __slots__ = ("cap", "due", "last", "left", "rate", "uses")

    def __init__(self, amount: float, cap: float, uses: Uses) -> None:
        self.left, self.cap, self.uses = amount, cap, uses
        self.rate = 0.0
        self.last = 0
        self.due = inf


class Fluid:
    """All flows of one moment. A resource can be shared out beyond what it has only in what its flows would take."""

    def __init__(self, capacity: Sequence[float]) -> None:
        self.capacity = tuple(capacity)
        self.flows: dict[Flow, None] = {}
        self._wanted = [0.0] * len(self.capacity)  # of each resource, by its flows at their caps
        self._on: list[dict[Flow, None]] = [{} for _ in self.capacity]
        self._changed = False  # a resource that is short of what is wanted has other flows than before

    def start(self, flow: Flow, now: int) -> None:
        """A flow sets out."""
        self.flows[flow] = None
        flow.last = now
        for r, weight in flow.uses:
            self._wanted[r] += flow.cap * weight
            self._on[r][flow] = None
        if self._short(flow.uses):
            self._changed = True
        else:
            self._set(flow, flow.cap, now)

    def stop(self, flow: Flow) -> None:
        """A flow is over."""
        del self.flows[flow]
        if self._short(flow.uses):
            self._changed = True
        for r, weight in flow.uses:
            del self._on[r][flow]
            self._wanted[r] = self._wanted[r] - flow.cap * weight if self._on[r] else 0.0

    def next_due(self, now: int) -> float:
        """When the first flow will be over, if none sets out before. now: up to when all that came or went is known."""
        if self._changed:
            self._changed = False
            self._share(now)
        return min((f.due for f in self.flows), default=inf)

    def over(self, now: float) -> list[Flow]:
        """Flows that are over now, in the order in which they set out."""
        return [f for f in self.flows if f.due <= now]

    def _short(self, uses: Uses) -> bool:
        return any(self._wanted[r] > self.capacity[r] * _EQUAL for r, _ in uses)

    def _set(self, flow: Flow, rate: float, now: int) -> None:
        if rate == flow.rate and flow.due != inf:
            return
        if flow.left != inf:
            flow.left -= flow.rate * (now - flow.last)
            flow.due = now + max(0, ceil(flow.left / rate - 1e-3)) if rate else inf
        flow.last, flow.rate = now, rate

    def _share(self, now: int) -> None:
        short = [r for r, wanted in enumerate(self._wanted) if wanted > self.capacity[r] * _EQUAL]
        held = {f: None for r in short for f in self._on[r]}
        for flow, rate in max_min(held, {r: self.capacity[r] for r in short}).items():
            self._set(flow, rate, now)
        for flow in self.flows:
            if flow not in held:
                self._set(flow, flow.cap, now)


def max_min(flows: Iterable[Flow], capacity: dict[int, float]) -> dict[Flow, float]:
    """Rates that rise together until each flow meets its cap or a resource is full; other resources do not matter."""
    left, load = dict(capacity), dict.fromkeys(capacity, 0.0)
    still: dict[Flow, list[tuple[int, float]]] = {f: [(r, w) for r, w in f.uses if r in left] for f in flows}
    for uses in still.values():
        for r, w in uses:
            load[r] += w
    rates: dict[Flow, float] = {}
    while still:
        level = min((left[r] / load[r] for r in left if load[r] > 1e-12), default=inf)
        done = {f: f.cap for f in still if f.cap <= level * _EQUAL}
        if not done:
            full = {r for r in left if load[r] > 1e-12 and left[r] / load[r] <= level * _EQUAL}
            done = {f: level for f, uses in still.items() if any(r in full for r, _ in uses)}
        for f, rate in done.items():
            rates[f] = rate
            for r, w in still.pop(f):
                left[r] = max(0.0, left[r] - rate * w)
                load[r] -= w
    return rates
