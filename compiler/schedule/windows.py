"""Tokens of messages between the queue that fills slots and the one that empties them, few enough for a semaphore.

As a rule each message has its tokens: one says that its data is there, one that its slot is free, as many frames ahead
as there are slots. Where those are more than a semaphore holds, slots are ahead by one frame; where even that is too
much, both queues go in *runs*: all instructions of the one between two of the other, in the one global order. The last
of a run posts, the first of the run that answers waits for it; the last of that one posts back, and so many runs are
under way as the semaphores hold together. Each wait is for something earlier in the global order, so that runs can no
more deadlock than messages do.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from compiler.schedule.tokens import MAX_TOKENS, Passing, pass_tokens

ITERATIONS_AHEAD = 2  # how far a queue may run ahead of the end of the body
Wanted = Sequence[tuple[int, int, int]]  # as pass_tokens has them
Place = tuple[int, int]  # in the global order: of the task, or of the one that made what is sent; 0 task, 1 message
Late = tuple[int, int]  # iterations by which it comes later, instruction


def message_tokens(
    data: Wanted,
    space: Wanted,
    filling: Mapping[int, Place],
    emptying: Mapping[int, Place],
    lengths: tuple[int, int],
    most: int = MAX_TOKENS,
) -> tuple[Passing, Passing]:
    """The tokens from the filling to the emptying queue (data is there) and back (the slot is free).

    filling, emptying: where the instructions of messages, and of the tasks that make or read them, stand in the global
    order; lengths: of both queues; most: tokens that a semaphore holds. `space` may want more, of instructions that are
    in neither.
    """

    def held(there: Passing, free: Passing) -> int:
        filled = _most_held(there, free, lengths[1], ITERATIONS_AHEAD)
        return max(filled, _most_held(free, there, lengths[0], ITERATIONS_AHEAD + 1))

    there, free = pass_tokens(data, lengths[0]), pass_tokens(space, lengths[1])
    if max(there.marking + free.marking, ITERATIONS_AHEAD * len(there.posts), held(there, free)) <= most:
        return there, free
    # Ahead by one frame is safe too: the iteration before waits for nothing of this one.
    near = pass_tokens([(i, j, min(d, 1)) for i, j, d in space], lengths[1])
    if held(there, near) <= most:
        return there, near
    others = [(i, j, d) for i, j, d in space if i not in emptying or j not in filling]
    slots = [(i, j, d) for i, j, d in space if i in emptying and j in filling]
    forth, back = _in_runs(data, slots, filling, emptying, most)
    return pass_tokens(forth, lengths[0]), pass_tokens([*back, *others], lengths[1])


def _most_held(tokens: Passing, back: Passing, length: int, laps: int) -> int:
    """The most tokens that can be under way, if all that holds the posting queue up is the tokens back, and END, by
    which the other is at most so many iterations behind; length: of the other queue."""
    most = tokens.marking
    for k, at in enumerate(tokens.posts):
        lap, number = divmod(bisect_right(back.waits, at) - 1 - back.marking, len(back.posts))
        taken = lap * len(tokens.waits) + bisect_right(tokens.waits, back.posts[number])
        most = max(most, tokens.marking + k + 1 - max(taken, (1 - laps) * len(tokens.waits)))
    return most


def _in_runs(
    data: Wanted, space: Wanted, filling: Mapping[int, Place], emptying: Mapping[int, Place], most: int
) -> tuple[Wanted, Wanted]:
    """The dependencies of both directions, one a run."""
    fill, empty, count = _runs(filling, emptying)
    # A run may lag behind the one that it answers as far as all that it needs is there.
    lag = min(most // 2, *(d * count + empty[j] - fill[i] for i, j, d in data))
    ahead = min(most - lag, count, *(d * count + fill[j] - empty[i] for i, j, d in space))
    fills, empties = _ends(fill, count), _ends(empty, count)
    return _tokens(fills, empties, lag), _tokens(empties, fills, ahead)


def _runs(filling: Mapping[int, Place], emptying: Mapping[int, Place]) -> tuple[dict[int, int], dict[int, int], int]:
    """(run of each filling instruction, of each emptying one, runs an iteration): run k empties what run k fills. -1 is
    the last run of the iteration before; as many as there are, the first of the next."""
    order = sorted([(p, 0, i) for i, p in filling.items()] + [(p, 1, i) for i, p in emptying.items()])
    fill: dict[int, int] = {}
    empty: dict[int, int] = {}
    run, before = -1, 1
    for _, queue, i in order:
        run += queue < before
        before = queue
        (empty if queue else fill)[i] = run
    open_end = not before and not order[0][1]  # the next iteration goes on with the same queue
    return fill, empty, run + 1 - open_end


def _ends(runs: Mapping[int, int], count: int) -> list[tuple[Late, Late]]:
    """First and last instruction of each run."""
    own: list[list[Late]] = [[] for _ in range(count)]
    for i, run in runs.items():
        own[run % count].append((-(run // count), i))
    return [(min(x), max(x)) for x in own]


def _tokens(posting: Sequence[tuple[Late, Late]], waiting: Sequence[tuple[Late, Late]], lag: int) -> Wanted:
    """Each run waits for the one that stands `lag` before its own number in the other queue."""
    out = []
    for k, ((late, j), _) in enumerate(waiting):
        lap, number = divmod(k - lag, len(posting))
        done, i = posting[number][1]
        out.append((i, j, late - lap - done))
    return out
