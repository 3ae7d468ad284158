"""Tokens for dependencies between two queues: as few posts and waits as a running prefix allows.

A dependency says that instruction j of the consuming queue, in iteration t, needs instruction i of the producing queue
of iteration t - d to be complete. Queues run in order, so a wait for i covers everything before i: only where the
running maximum grows is a token passed. The k-th wait takes the k-th post, hence both are strictly increasing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX_TOKENS = 255


@dataclass(frozen=True, slots=True)
class Passing:
    """Instructions that post and that wait, ascending, and the tokens before the first iteration."""

    posts: tuple[int, ...]
    waits: tuple[int, ...]
    marking: int


def pass_tokens(dependencies: Iterable[tuple[int, int, int]], length: int) -> Passing:
    """(i, j, d) triples -> tokens; `length`: instructions of the producing queue. d < 0 raises ValueError.

    Instances of the producing queue are numbered t * length + i. With r(j) the greatest instance, relative to the
    iteration, that anything up to j needs, a token is passed where r grows from one consumer to the next (round the
    body: what follows j in the iteration before counts as r - length).
    """
    wanted: dict[int, int] = {}
    for i, j, d in dependencies:
        if d < 0 or not 0 <= i < length:
            raise ValueError(f"dependency on instruction {i} of {length}, {d} iterations back")
        r = i - d * length
        if r > wanted.get(j, r - 1):
            wanted[j] = r
    if not wanted:
        return Passing((), (), 0)
    consumers = sorted(wanted)
    running = max(wanted.values()) - length  # what the iteration before has waited for already
    posts, waits, marking = [], [], 0
    for j in consumers:
        r = wanted[j]
        if r <= running:
            continue
        running = r
        posts.append(r % length)
        waits.append(j)
        if r < 0:
            marking += -(r // length)
    return Passing(tuple(sorted(posts)), tuple(waits), marking)


@dataclass(frozen=True, slots=True)
class RingUse:
    """One block of a double-buffered ring: the load group that fills it, the last group that reads it."""

    load_group: int
    last_group: int


def ring_slots(uses: Sequence[RingUse], groups: int) -> tuple[list[int], int]:
    """Slot (0 or 1) of each block in order, and how many empty load groups to add at the end of the body.

    Load group g starts when group g - 2 is complete, so a block may take its predecessor's slot only if two groups lie
    between; otherwise it takes the other one. The first block of the next iteration follows the last one likewise.
    """
    slots: list[int] = []
    loose: list[int] = []  # blocks that may as well take the predecessor's slot
    for k, use in enumerate(uses):
        slots.append(k % 2)
        if k and use.load_group >= uses[k - 1].last_group + 2:
            loose.append(k)
    if len(uses) < 2 or slots[-1] != slots[0]:
        if len(uses) == 1 and uses[0].load_group + groups < uses[0].last_group + 2:
            return slots, 1 + uses[0].last_group + 1 - uses[0].load_group - groups
        return slots, 0
    if uses[0].load_group + groups >= uses[-1].last_group + 2:
        return slots, 0
    if loose:
        turn = loose[0]
        return slots[:turn] + [1 - s for s in slots[turn:]], 0
    return slots, uses[-1].last_group + 2 - uses[0].load_group - groups
