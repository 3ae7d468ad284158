"""Moving kernels between a few slots at a time until every slot and every boundary is within its limit.

Needs a JointCase, its ladder and any placement in the ladder's versions; each round frees the kernels of a slot that is
over (or that stands at a boundary that is) and of one to three others, and places them again with everything charged
and the sum of all overflows least. Guarantees a placement without overflow, or None.
"""

from __future__ import annotations

import random

from compiler.floorplan.budget import Clock
from compiler.floorplan.ladder import Ladder
from compiler.floorplan.line_model import PARTS, LineModel
from compiler.floorplan.problem import JointCase
from compiler.floorplan.versions import Placement, used
from compiler.partition.constraints.rows import link_bits

MOST_KERNELS = 90
NEAR = 3  # slots to either side that one wave of rounds takes its partners from
STALE = 40  # rounds in a row that gain nothing: given up


def beyond(amount: int, bound: int) -> int:
    """How much over a bound, in ten-thousandths of it, rounded up."""
    return -(-max(0, amount - bound) * PARTS // max(1, bound))


def overflow(case: JointCase, placement: Placement) -> list[int]:
    """How much each slot is over, in ten-thousandths of its capacity, summed over the resource types."""
    use = used(case, placement)
    return [sum(beyond(u, c) for u, c in zip(use[s], case.capacity[s], strict=True)) for s in case.slots]


def crowded(case: JointCase, options: Ladder, placement: Placement) -> list[int]:
    """How much each boundary is over, in ten-thousandths of its limit; a closed one that is crossed counts an edge as
    the whole of it."""
    wires, bits, edges = ([0] * len(case.boundaries) for _ in range(3))
    for i, (src, dst) in enumerate(case.edges):
        low, high = sorted((placement[src][0], placement[dst][0]))
        for b in range(low, high):
            wires[b] += options.wires[i]
            bits[b] += options.bits[i]
            edges[b] += 1
    out = []
    for b, boundary in enumerate(case.boundaries):
        if boundary.wires is not None:
            out.append(beyond(wires[b], boundary.wires))
        elif boundary.bits_per_cycle is not None:
            out.append(beyond(bits[b], link_bits(boundary.bits_per_cycle, options.interval)))
        else:
            out.append(edges[b] * PARTS)
    return out


def repair(
    case: JointCase, options: Ladder, placement: Placement, clock: Clock, rounds: int, seconds: float
) -> Placement | None:
    """A placement without overflow, or None when the rounds did not reach one. Deterministic for a seed."""
    rng = random.Random(clock.settings.seed)
    line = [(s, s + 1) for s in case.slots]
    slots, between = overflow(case, placement), crowded(case, options, placement)
    stale = 0
    for turn in range(rounds):
        total = sum(slots) + sum(between)
        if not total:
            return placement
        if clock.left <= 0 or stale > STALE:
            return None
        chosen = _chosen(placement, slots, between, room(case, placement), rng, turn)
        kernels = [v for v, (s, _) in enumerate(placement) if s in chosen]
        stay = {v: s for v, (s, _) in enumerate(placement) if s not in chosen}
        offered = dict.fromkeys(kernels, frozenset(chosen))
        model = LineModel(case, options, kernels, line, stay, slots_of=offered, overflow=True, crowding=any(between))
        model.hint({v: placement[v][0] for v in kernels})
        _, found = model.solve(clock, seconds, least_cut=False, random_seed=clock.settings.seed + turn)
        stale += 1
        if found is None:
            continue
        moved = tuple(found.get(v, placement[v]) for v in case.nodes)
        new = overflow(case, moved), crowded(case, options, moved)
        if sum(new[0]) + sum(new[1]) <= total:
            stale = 0 if sum(new[0]) + sum(new[1]) < total else stale
            placement, (slots, between) = moved, new
    return None if sum(slots) + sum(between) else placement


def room(case: JointCase, placement: Placement) -> list[float]:
    """Free share of each slot's scarcest resource type."""
    use = used(case, placement)
    return [
        min(1 - u / max(1, c) for u, c in zip(use[s], case.capacity[s], strict=True) if c or u)
        if any(case.capacity[s])
        else 0.0
        for s in case.slots
    ]


def _chosen(
    placement: Placement, slots: list[int], between: list[int], free: list[float], rng: random.Random, turn: int
) -> set[int]:
    """A place that is over and its partners: by turns the roomiest, neighbours on the line, and any."""
    count = [0] * len(slots)
    for s, _ in placement:
        count[s] += 1
    worst = list(slots)
    for b, amount in enumerate(between):  # what crosses a boundary may come from afar, but most of it stands beside it
        worst[b] += amount
        worst[b + 1] += amount
    top = max(worst)
    at = rng.choices(range(len(worst)), weights=[(w / top) ** 2 for w in worst])[0]
    others = [s for s in range(len(slots)) if s != at]
    if turn % 3 == 0:
        pool = sorted(others, key=lambda s: (slots[s] > 0, -free[s] - 0.02 * rng.random()))
    else:
        pool = [s for s in others if turn % 3 == 2 or abs(s - at) <= NEAR]
        pool = rng.sample(pool, len(pool))
    chosen, members = {at}, count[at]
    for s in pool:
        if len(chosen) < 2 + turn % 2 and members + count[s] <= MOST_KERNELS:
            chosen.add(s)
            members += count[s]
    return chosen
