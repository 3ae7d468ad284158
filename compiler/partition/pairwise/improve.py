"""Better choices: most nodes at once, exactly, while a few keep the strategy that they have.

Needs a Pairwise and a choice; guarantees one that costs no more. Which nodes are held is what elimination says: those
whose table would be too large, others by turns.
"""

from __future__ import annotations

import random

from compiler.partition.pairwise.eliminate import Order, eliminate, order_of
from compiler.partition.pairwise.problem import Pairwise


def improve(problem: Pairwise, chosen: tuple[int, ...], largest: int, rounds: int, seed: int) -> tuple[int, ...]:
    """Until `rounds` in a row have changed nothing, at most ten times as many."""
    lottery = random.Random(seed)
    edges = [(e.a, e.b) for e in problem.edges]
    sizes = [c.size for c in problem.costs]
    value, idle = problem.value(chosen), 0
    for _ in range(10 * rounds):
        held = _held(sizes, edges, largest, lottery)
        if not held:
            rounds = 1
        kept = {v: chosen[v] for v in held}
        rest = [(a, b) for a, b in edges if a not in kept and b not in kept]
        order = order_of([1 if v in kept else n for v, n in enumerate(sizes)], rest, largest)
        steps = tuple((v, scope) for v, scope in order.steps if v not in kept)
        done = eliminate(problem, Order(steps, ()), kept)
        if done.constant < value:
            best = done.extend(dict(kept))
            chosen, value, idle = tuple(best[v] for v in range(len(sizes))), done.constant, 0
        else:
            idle += 1
        if idle >= rounds:
            break
    return chosen


def _held(sizes: list[int], edges: list[tuple[int, int]], largest: int, lottery: random.Random) -> set[int]:
    """Nodes to hold so that no table is too large: those that stand in the way, drawn among the busiest."""
    held: set[int] = set()
    while True:
        free = [(a, b) for a, b in edges if a not in held and b not in held]
        order = order_of([1 if v in held else n for v, n in enumerate(sizes)], free, largest)
        left = [v for v in order.left if v not in held]
        if not left:
            return held
        degree: dict[int, int] = dict.fromkeys(left, 0)
        for a, b in free:
            for v in (a, b):
                if v in degree:
                    degree[v] += 1
        top = sorted(left, key=lambda v: (-degree[v], v))[: max(3, len(left) // 2)]
        held.add(lottery.choice(top))
