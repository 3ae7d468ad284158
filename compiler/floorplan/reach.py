"""Shortest ways over the connections."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence


def within(steps: Mapping[int, Sequence[tuple[int, int]]], start: int) -> dict[int, int]:
    """Cost of the cheapest way from `start` to every slot it reaches; steps: slot -> (cost, next slot)."""
    found: dict[int, int] = {}
    heap = [(0, start)]
    while heap:
        d, s = heapq.heappop(heap)
        if s in found:
            continue
        found[s] = d
        for c, t in steps[s]:
            if t not in found:
                heapq.heappush(heap, (d + c, t))
    return found
