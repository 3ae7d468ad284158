"""Needs a core's columns; judges tokens of messages that go in runs, where a semaphore cannot hold one a message.

A queue that fills slots and one that empties them take turns: the last instruction of a run posts, the first of the run
that answers waits, its last posts back. What they guard is proved as for any tokens (races); here it is held that they
are in turn, stand where tasks or runs begin and end, and are as many as docs/machine.md says.
"""

from __future__ import annotations

from compiler.isa.check.view import CoreView
from compiler.isa.program import Instruction
from compiler.isa.table import Queue

MOST_TOKENS = 255  # that a semaphore counts
PAIRS = ((Queue.ST, Queue.TX), (Queue.RX, Queue.LD))  # the first fills the slots that the second empties


def in_runs(view: CoreView, filling: Queue, emptying: Queue) -> bool:
    """Whether the tokens between both queues are those of runs, on a core that may have them: its slots, or two
    iterations of what fills them, are more than a semaphore counts."""
    queue = filling if filling == Queue.RX else emptying
    own = [i for i in view.core.queues.get(queue, ()) if not i.fields.get("wgt", 0)]
    slots = {(view.core.debug[i.debug].task, view.core.debug[i.debug].tensor): i.fields.get("depth", 1) for i in own}
    there, free = view.core.marking[filling][emptying], view.core.marking[emptying][filling]
    if max(sum(slots.values()), 2 * len(slots)) <= MOST_TOKENS:
        return False
    if there > MOST_TOKENS // 2 or there + free > MOST_TOKENS:
        return False
    if any(i.fields.get("act", 0) for i in own):  # the same semaphore tells of blocks: as many as stand in both
        return True
    runs = _runs(view, filling, emptying)
    staged = any(i.stage for queue in view.core.queues.values() for i in queue)
    fit = free <= runs if staged else (there, free) == (0, min(runs, MOST_TOKENS))
    return fit and 0 < runs == _runs(view, emptying, filling)


def _runs(view: CoreView, queue: Queue, other: Queue) -> int:
    """Runs that the queue has towards the other, in each of which it waits and posts once; 0 where that is not so."""
    own = [i for i in view.core.queues.get(queue, ()) if not i.fields.get("wgt", 0)]  # those have tokens of their own
    waits, posts = [bool(i.wait >> other & 1) for i in own], [bool(i.post >> other & 1) for i in own]
    if queue in (Queue.TX, Queue.RX):  # every message belongs to one: behind its end another begins
        good = waits == [*posts[-1:], *posts[:-1]]
    else:
        first, last = _task_ends(view, own, queue)
        turns = [t for w, p in zip(waits, posts, strict=True) for t in (*["wait"] * w, *["post"] * p)]
        good = all(turns[k] != turns[k - 1] for k in range(len(turns)))
        good &= all(k in first for k, w in enumerate(waits) if w) and all(k in last for k, p in enumerate(posts) if p)
    return sum(posts) if good else 0


def _task_ends(view: CoreView, own: list[Instruction], queue: Queue) -> tuple[set[int], set[int]]:
    """First and last instruction of each task: of loads those of its inputs, or the SYNC in their place."""
    rows = view.core.debug
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for k, i in enumerate(own):
        row = rows[i.debug]
        if queue == Queue.ST or i.op == "SYNC" or row.role == "input":
            first.setdefault(row.task, k)
            last[row.task] = k
    return set(first.values()), set(last.values())
