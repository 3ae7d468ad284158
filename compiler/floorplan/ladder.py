"""The options of a fold-and-place problem at one interval T, and the merged-die bound on T.

Needs a JointCase. `ladder` drops versions slower than T and versions that another at most as large makes needless;
`merged_bound` is the least T at which the kernels fit one die with the capacity of all, which every placement does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.floorplan.budget import Clock
from compiler.floorplan.prices import decide
from compiler.floorplan.problem import JointCase

MERGED_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Ladder:
    """Versions a kernel at interval T (indices into the case), amounts padded with inf; wires and bits an edge."""

    interval: int
    versions: tuple[tuple[int, ...], ...]
    amounts: NDArray[np.float64]
    wires: tuple[int, ...]
    bits: tuple[int, ...]


def fitting(case: JointCase, v: int) -> list[int]:
    """The versions of a kernel that some slot it may stand on holds."""
    sizes = {case.capacity[s] for s in case.allowed[v]}
    return [
        k
        for k, amount in enumerate(case.versions[v])
        if any(all(a <= c for a, c in zip(amount, size, strict=True)) for size in sizes)
    ]


def intervals(case: JointCase) -> list[int]:
    """The values T can take, ascending: cycles, none below any kernel's fastest that fits. Empty: none fits."""
    own = [[case.cycles[v][k] for k in fitting(case, v)] for v in case.nodes]
    if not all(own):
        return []
    least = max(min(c) for c in own)
    return sorted({c for row in own for c in row if c >= least})


def ladder(case: JointCase, interval: int) -> Ladder:
    """Options at T = interval; every kernel has one, for T from `intervals`."""
    kept: list[tuple[int, ...]] = []
    for v in case.nodes:
        offered = [k for k in fitting(case, v) if case.cycles[v][k] <= interval]
        kept.append(tuple(k for k in offered if not _dominated(case, v, k, offered)))
    amounts = np.full((len(kept), max(len(k) for k in kept), len(case.resources)), np.inf)
    for v, own in enumerate(kept):
        for i, k in enumerate(own):
            amounts[v, i] = case.versions[v][k]
    bits = tuple(case.out_bits[src] for src, _ in case.edges)
    from compiler.partition.constraints.rows import stream_wires

    return Ladder(interval, tuple(kept), amounts, tuple(stream_wires(b, interval) for b in bits), bits)


def _dominated(case: JointCase, v: int, k: int, offered: list[int]) -> bool:
    mine = case.versions[v][k]
    for other in offered:
        theirs = case.versions[v][other]
        if other != k and all(a <= b for a, b in zip(theirs, mine, strict=True)) and (theirs != mine or other < k):
            return True
    return False


def merged_fits(case: JointCase, options: Ladder, clock: Clock) -> bool:
    """Whether the kernels fit one die with the capacity of all; an undecided answer counts as fitting."""
    total = [sum(c[r] for c in case.capacity) for r in range(len(case.resources))]
    clock.charge(1e-3)
    known = decide(options.amounts, np.array([float(t) for t in total]), rounds=200)
    if known is not None:
        return known
    from ortools.sat.python import cp_model

    from compiler.partition.constraints.rows import resources

    model = cp_model.CpModel()
    offered = [[case.versions[v][k] for k in own] for v, own in enumerate(options.versions)]
    pick = [[model.new_bool_var("") for _ in own] for own in offered]
    for literals in pick:
        model.add_exactly_one(literals)
    for row in resources(offered, total, case.resources, "all slots"):
        model.add(row.expression(lambda v, i: pick[v][i]) <= row.bound)
    return clock.solve(model, MERGED_SECONDS)[0] != "INFEASIBLE"


def merged_bound(case: JointCase, values: list[int], clock: Clock) -> int | None:
    """The least T of `values` that the merged die does not refute (by bisection: options only grow with T)."""
    low, high = 0, len(values) - 1
    if not merged_fits(case, ladder(case, values[high]), clock):
        return None
    while low < high:
        middle = (low + high) // 2
        if merged_fits(case, ladder(case, values[middle]), clock):
            high = middle
        else:
            low = middle + 1
    return values[low]
