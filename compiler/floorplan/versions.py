"""Other versions for kernels that stay where they are: quicker ones for a smaller interval, or a slower one.

Needs a JointCase and a placement; `quicker` may overload slots (repair or swaps see to that), `slower` never does.
"""

from __future__ import annotations

from compiler.floorplan.ladder import Ladder
from compiler.floorplan.problem import JointCase

Placement = tuple[tuple[int, int], ...]


def used(case: JointCase, plan: Placement) -> list[list[int]]:
    """What is used, by slot and type of resource."""
    use = [[0] * len(case.resources) for _ in case.slots]
    for v, (s, k) in enumerate(plan):
        for r, amount in enumerate(case.versions[v][k]):
            use[s][r] += amount
    return use


def quicker(case: JointCase, options: Ladder, plan: Placement) -> Placement:
    """The plan in the ladder's versions: kernels whose version is none of them take what overloads their slot least."""
    use = used(case, plan)
    out = list(plan)
    for v, (s, k) in enumerate(plan):
        if k in options.versions[v]:
            continue
        old, held = case.versions[v][k], case.capacity[s]
        rest = [u - a for u, a in zip(use[s], old, strict=True)]

        def load(other: int, v: int = v, rest: list[int] = rest, held: tuple[int, ...] = held) -> float:
            new = case.versions[v][other]
            return max((u + a) / max(1, c) for u, a, c in zip(rest, new, held, strict=True))

        best = min(options.versions[v], key=lambda other: (load(other), other))
        use[s] = [u + a for u, a in zip(rest, case.versions[v][best], strict=True)]
        out[v] = (s, best)
    return tuple(out)


def slower(case: JointCase, plan: Placement, interval: int) -> Placement | None:
    """The plan with one kernel at a version of exactly `interval` cycles, where its slot still holds it."""
    use = used(case, plan)
    for v, (s, k) in enumerate(plan):
        for other, cycles in enumerate(case.cycles[v]):
            new, old = case.versions[v][other], case.versions[v][k]
            if cycles == interval and all(
                u + a - b <= c for u, a, b, c in zip(use[s], new, old, case.capacity[s], strict=True)
            ):
                return (*plan[:v], (s, other), *plan[v + 1 :])
    return None
