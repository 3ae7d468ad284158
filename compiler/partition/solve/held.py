"""Weights of whole layers that stay on chip: which of an allocation, and whether layers should be whole for it.

Needs a Problem; guarantees that an engine holds no more than there is room for, and allocations that are no slower by
the clock than they were. The search before times whole layers as if their weights were streamed.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.partition.options_table import Option
from compiler.partition.problem import Allocation, Problem, Share
from compiler.partition.solve.clock import Clock

Held = dict[tuple[int, int], tuple[Share, ...]]


def keep_weights(problem: Problem, allocation: Allocation, known: Held | None = None) -> Allocation:
    """Whole layers whose weights stay on chip: on each engine those that save most time a byte, while there is room.

    known: shares by layer and engine, so that equal ones are the same objects from call to call."""
    room = list(problem.resident_bytes)
    offers: list[tuple[float, int, Option]] = []
    for x, shares in allocation.items():
        if len(shares) == 1 and shares[0].split == "":
            kept = problem.table.resident(x, problem.kind_of[shares[0].slot])
            if kept is not None and kept.ticks < shares[0].option.ticks:
                offers.append((-(shares[0].option.ticks - kept.ticks) / kept.resident_bytes, x, kept))
    out = dict(allocation)
    known = {} if known is None else known
    for _, x, kept in sorted(offers, key=lambda o: o[:2]):
        share = allocation[x][0]
        size = -(-kept.resident_bytes // 64) * 64
        if size <= room[share.slot]:
            room[share.slot] -= size
            out[x] = known.setdefault((x, share.slot), (replace(share, option=kept),))
    return out


def held(
    problem: Problem,
    clock: Clock,
    allocation: Allocation,
    choices: dict[int, list[tuple[Share, ...]]],
    limit: int,
) -> tuple[int, Allocation]:
    """(ticks by the clock with weights on chip, allocation): one layer after the other is made whole, on each engine in
    turn, or as it was, where that is quicker; those that save most come first. limit: of the clock's work."""
    known: Held = {}
    start = allocation

    def timed(trial: Allocation) -> int:
        return clock.timed(keep_weights(problem, trial, known))

    stuck = {x for g in problem.stuck for x in g}
    offers: list[tuple[int, int, tuple[Share, ...]]] = []
    for x, own in choices.items():
        for shares in own if x not in stuck else ():
            kept = problem.table.resident(x, problem.kind_of[shares[0].slot]) if not shares[0].split else None
            if kept is not None:
                offers.append((kept.ticks - max(s.option.ticks for s in allocation[x]), x, shares))
    offers.sort(key=lambda o: (o[0], o[1], o[2][0].slot))
    value, before = timed(allocation), None
    while value != before:
        before = value
        for _, x, shares in offers:
            for trial in ({**allocation, x: shares}, {**allocation, x: start[x]}):
                if clock.work > limit:
                    return value, allocation
                if trial[x] is not allocation[x] and (got := timed(trial)) < value:
                    value, allocation = got, trial
    return value, allocation
