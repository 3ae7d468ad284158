"""How much of a bank is in use when: what a transfer beside others gets of it, and when it therefore ends.

Needs spans of time with what each wants of the bank; gives the end of a transfer that goes on beside them. Shares are
max-min in bytes that arrive: a message whose runs are shorter than a burst takes `weight` bytes of the bank for one
byte, so beside a load it gets `weight` times as much. Any unit of time will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Span = tuple[int, int, float, float]  # begin, end, share of the bank that it wants, weight
Others = tuple[Sequence[Span], Sequence[Span]]  # beside loads, beside stores
ALONE: Others = ((), ())


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
    message alone keeps the engine's bank busy; bytes_per_second: of each bank."""

    bank_of: Mapping[str, str]
    ps: Sequence[Mapping[str, int]]
    bytes_per_second: Mapping[str, int] = field(default_factory=dict)

    def of(self, channel: int) -> dict[str, int]:
        """Picoseconds for which a message keeps each bank busy."""
        out: dict[str, int] = {}
        for engine, ps in self.ps[channel].items():
            out[self.bank_of[engine]] = out.get(self.bank_of[engine], 0) + ps
        return out
