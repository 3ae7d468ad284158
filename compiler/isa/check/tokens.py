"""Needs a core's columns; gives the order its tokens force; proves markings balanced, bounded and live on this core.

The body is a periodic marked graph: wait number w of an iteration takes post number w - marking, which may lie some
iterations back. An edge (a -> b, d) says: b of iteration i starts after a of iteration i - d has completed. Paths do
not depend on i, so one clock a instruction, relative to its iteration, decides happens-before for the whole run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.isa.check.findings import Findings
from compiler.isa.check.view import QUEUES, CoreView
from compiler.isa.encoding import Ints
from compiler.isa.table import Queue

NEVER = -(1 << 60)  # clock entry: nothing of that queue is known to be complete
_ROUNDS = 64


@dataclass(slots=True)
class LocalOrder:
    """order: (n,) instruction indices, every edge of distance 0 points forward. clock: (n, 6) how many instructions
    of each queue have completed before it starts, counted from the start of its own iteration (negative: earlier ones).
    edges: predecessor, distance of each token edge by instruction."""

    order: Ints
    clock: Ints
    edges: list[list[tuple[int, int]]]


def _semaphores(view: CoreView, mask: str) -> dict[tuple[int, int], Ints]:
    """(queue of the instruction, other queue) -> instruction indices that wait or post, in queue order."""
    bits, queue = view.head(mask), view.head("queue")
    return {
        (q, other): np.flatnonzero((queue == q) & (bits >> other & 1 == 1))
        for q in range(QUEUES)
        for other in range(QUEUES)
        if q != other
    }


def token_edges(view: CoreView, findings: Findings) -> list[list[tuple[int, int]]] | None:
    """The token edges into each instruction, or None (with findings) where posts and waits do not balance."""
    posts, waits = _semaphores(view, "post"), _semaphores(view, "wait")
    edges: list[list[tuple[int, int]]] = [[] for _ in range(view.count)]
    balanced = True
    for (source, target), posted in posts.items():
        taken, marking = waits[(target, source)], view.core.marking[source][target]
        name = f"{Queue(source).name}->{Queue(target).name}"
        if not 0 <= marking <= 255:
            findings.add("FVC324", f"{name} starts with {marking} tokens; 0..255 fit", view.name)
            balanced = False
        elif len(posted) != len(taken):
            what = f"an iteration posts {len(posted)} tokens {name} and takes {len(taken)}"
            findings.add("FVC324", what, view.name)
            balanced = False
        elif not len(posted) and marking:
            findings.add("FVC324", f"{name} starts with {marking} tokens that nothing takes", view.name)
            balanced = False
        else:
            number = np.arange(len(taken)) - marking
            sources = posted[number % max(len(posted), 1)].tolist()
            back = (-(number // max(len(posted), 1))).tolist()
            for target_index, source_index, distance in zip(taken.tolist(), sources, back, strict=True):
                edges[target_index].append((source_index, distance))
    for queue in range(QUEUES):
        if view.core.marking[queue][queue]:
            findings.add("FVC324", f"{Queue(queue).name} has tokens to itself", view.name)
            balanced = False
    return edges if balanced else None


def topological(view: CoreView, edges: list[list[tuple[int, int]]], findings: Findings) -> Ints | None:
    """One order of an iteration that every edge of distance 0 obeys, or None (with a finding) on a deadlock."""
    at = view.first.tolist()
    end = (view.first + view.length).tolist()
    done = bytearray(view.count)
    order: list[int] = []
    moved = True
    while moved:
        moved = False
        for q in range(QUEUES):
            k = at[q]
            while k < end[q] and all(d or done[p] for p, d in edges[k]):
                done[k] = 1
                order.append(k)
                k += 1
            moved |= k != at[q]
            at[q] = k
    if len(order) == view.count:
        return np.array(order, np.int64)
    stuck = [view.where(at[q])[0] for q in range(QUEUES) if at[q] < end[q]]
    findings.add("FVC325", "the tokens of this core deadlock: each of these waits for another", *stuck)
    return None


def _relative_clocks(view: CoreView, edges: list[list[tuple[int, int]]], order: Ints) -> Ints | None:
    """Least fixed point of: clock[b] >= clock[a] - d * lengths, and a itself complete. None if it does not settle."""
    n = view.count
    length = view.length.tolist()
    queue, position = view.head("queue").tolist(), view.position.tolist()
    none = [NEVER] * QUEUES
    clocks: list[list[int]] = [none] * n
    last_of_queue: list[list[int]] = [none] * QUEUES
    sequence = order.tolist()
    for _ in range(_ROUNDS):
        changed = False
        # What the queue knew at the end of the iteration before, seen from this one.
        running = [[c if c == NEVER else c - length[q] for q, c in enumerate(row)] for row in last_of_queue]
        for k in sequence:
            q = queue[k]
            now = running[q]
            if edges[k]:
                now = list(now)
                for a, d in edges[k]:
                    for j, c in enumerate(clocks[a]):
                        if c != NEVER:
                            c -= d * length[j]
                            if c > now[j]:
                                now[j] = c
                    qa = queue[a]
                    c = position[a] + 1 - d * length[qa]
                    if c > now[qa]:
                        now[qa] = c
                running[q] = now
            if now != clocks[k]:
                changed = True
            clocks[k] = now
        last_of_queue = running
        if not changed:
            result = np.array(clocks, np.int64).reshape(n, QUEUES)
            result[np.arange(n), view.head("queue")] = view.position
            return result
    return None


def _bounded(view: CoreView, clock: Ints, findings: Findings) -> None:
    """The most tokens a semaphore can hold: posts up to each post, less the waits that must have started before it."""
    posts, waits = _semaphores(view, "post"), _semaphores(view, "wait")
    for (source, target), posted in posts.items():
        taken = waits[(target, source)]
        if not len(posted):
            continue
        length = max(int(view.length[target]), 1)
        known = clock[posted, target]
        laps = known // length
        started = laps * len(taken) + np.searchsorted(view.position[taken], known - laps * length)
        most = view.core.marking[source][target] + np.arange(len(posted)) + 1 - started
        worst = int(np.argmax(np.where(known <= NEVER // 2, 1 << 40, most)))
        name = f"{Queue(source).name}->{Queue(target).name}"
        if known[worst] <= NEVER // 2:
            what = f"nothing bounds the tokens {name}: {Queue(source).name} can run ahead for ever"
            findings.add("FVC324", what, *view.where(int(posted[worst])))
        elif most[worst] > 255:
            findings.add(
                "FVC324", f"{name} can hold {int(most[worst])} tokens; 255 fit", *view.where(int(posted[worst]))
            )


def local_order(view: CoreView, findings: Findings) -> LocalOrder | None:
    """The order of a core by its own tokens, or None with findings (FVC324 tokens, FVC325 deadlock)."""
    edges = token_edges(view, findings)
    if edges is None:
        return None
    order = topological(view, edges, findings)
    if order is None:
        return None
    clock = _relative_clocks(view, edges, order)
    if clock is None:
        findings.add("FVC324", f"the order of the tokens does not settle within {_ROUNDS} iterations", view.name)
        return None
    _bounded(view, clock, findings)
    return LocalOrder(order, clock, edges)
