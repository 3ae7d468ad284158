"""Walks that see every slot: a first plan where the cheap walks are too many to list.

Needs a FixedCase whose connections form a tree; yields walks through the slots, branch after branch, each branch left
the way it was entered but the last. Guarantees nothing but that every step follows a connection.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.floorplan.problem import FixedCase
from compiler.floorplan.tree import slot_tree

MOST_STARTS = 6


def tours(case: FixedCase, starts: frozenset[int]) -> Iterator[tuple[int, ...]]:
    """Whole walks, those from the ends of the tree first; the deepest branch of a slot is its last."""
    if slot_tree(case) is None:
        return
    near: dict[int, list[int]] = {s: [] for s in case.slots}
    for a, b in case.link:
        if (b, a) in case.link:
            near[a].append(b)

    def depth(s: int, before: int) -> int:
        return 1 + max((depth(t, s) for t in near[s] if t != before), default=0)

    def walk(s: int, before: int, back: bool) -> list[int]:
        out = [s]
        branches = sorted((t for t in near[s] if t != before), key=lambda t: (depth(t, s), t))
        for t in branches:
            last = t == branches[-1] and not back
            out += walk(t, s, not last)
            if not last:
                out.append(s)
        return out

    order = sorted(starts, key=lambda s: (-depth(s, -1), len(near[s]), s))
    for s in order[:MOST_STARTS]:
        whole = tuple(walk(s, -1, False))
        if set(whole) == set(case.slots):
            yield whole
