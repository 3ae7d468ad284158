"""Moving kernels between a few slots at a time until no slot is over its capacity.

Needs a JointCase, its ladder and a placement that keeps every boundary; each round frees the kernels of the slot that
is most over and of one or two others, and places them again with every boundary charged and the overflow least.
Guarantees a placement without overflow, or None.
"""

from __future__ import annotations

import random

from compiler.floorplan.budget import Clock
from compiler.floorplan.ladder import Ladder
from compiler.floorplan.line_model import PARTS, LineModel
from compiler.floorplan.problem import JointCase

Placement = tuple[tuple[int, int], ...]
MOST_KERNELS = 90


def overflow(case: JointCase, placement: Placement) -> list[int]:
    """How much each slot is over, in ten-thousandths of its capacity, summed over the resource types, rounded up."""
    use = [[0] * len(case.resources) for _ in case.slots]
    for v, (s, k) in enumerate(placement):
        for r, amount in enumerate(case.versions[v][k]):
            use[s][r] += amount
    return [
        sum(-(-max(0, u - c) * PARTS // max(1, c)) for u, c in zip(use[s], case.capacity[s], strict=True))
        for s in case.slots
    ]


def room(case: JointCase, placement: Placement) -> list[float]:
    """Free share of each slot's scarcest resource type."""
    use = [[0] * len(case.resources) for _ in case.slots]
    for v, (s, k) in enumerate(placement):
        for r, amount in enumerate(case.versions[v][k]):
            use[s][r] += amount
    return [
        min(1 - u / max(1, c) for u, c in zip(use[s], case.capacity[s], strict=True) if c or u)
        if any(case.capacity[s])
        else 0.0
        for s in case.slots
    ]


def repair(
    case: JointCase, options: Ladder, placement: Placement, clock: Clock, rounds: int, seconds: float
) -> Placement | None:
    """A placement without overflow, or None when the rounds did not reach one. Deterministic for a seed."""
    rng = random.Random(clock.settings.seed)
    line = [(s, s + 1) for s in case.slots]
    for turn in range(rounds):
        over = overflow(case, placement)
        if not any(over):
            return placement
        if clock.left <= 0:
            return None
        worst = max(case.slots, key=lambda s: (over[s], -s))
        free = room(case, placement)
        others = sorted(
            (s for s in case.slots if s != worst), key=lambda s: (over[s] > 0, -free[s] - 0.02 * rng.random())
        )
        chosen = {worst}
        wanted = 2 + turn % 2
        pool = others if turn % 3 == 0 else rng.sample(others, len(others))
        for s in pool:
            members = [v for v, (at, _) in enumerate(placement) if at in chosen or at == s]
            if len(chosen) < wanted and len(members) <= MOST_KERNELS:
                chosen.add(s)
        kernels = [v for v, (s, _) in enumerate(placement) if s in chosen]
        stay = {v: s for v, (s, _) in enumerate(placement) if s not in chosen}
        model = LineModel(
            case, options, kernels, line, stay, slots_of=dict.fromkeys(kernels, frozenset(chosen)), overflow=True
        )
        model.hint({v: placement[v][0] for v in kernels})
        _, found = model.solve(clock, seconds, least_cut=False, random_seed=clock.settings.seed + turn)
        if found is None:
            continue
        moved = tuple(found.get(v, placement[v]) for v in case.nodes)
        if sum(overflow(case, moved)) <= sum(over):
            placement = moved
    return placement if not any(overflow(case, placement)) else None
