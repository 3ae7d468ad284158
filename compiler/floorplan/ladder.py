"""The options of a fold-and-place problem at one interval T, and the merged-die bound on T.

Needs a JointCase. A ladder drops versions slower than T and versions that another at most as large makes needless;
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
NEVER = np.iinfo(np.int64).max

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Ladder:
    """Versions a kernel at interval T (indices into the case), amounts padded with inf; wires and bits an edge."""

    interval: int
    versions: tuple[tuple[int, ...], ...]
    amounts: NDArray[np.float64]
    wires: tuple[int, ...]
    bits: tuple[int, ...]


class Ladders:
    """The ladders of one case: which versions fit, and from which T on another one makes each needless, found once."""

    def __init__(self, case: JointCase) -> None:
        self.case = case
        known: dict[tuple[object, ...], _Rungs] = {}
        self.rungs: list[_Rungs] = []
        for v in case.nodes:
            key = case.versions[v], case.cycles[v], case.allowed[v]
            if key not in known:
                known[key] = _Rungs.of(case, v)
            self.rungs.append(known[key])

    def intervals(self) -> list[int]:
        """The values T can take, ascending: cycles, none below any kernel's fastest that fits. Empty: none fits."""
        own = [rungs.cycles.tolist() for rungs in self.rungs]
        if not all(own):
            return []
        least = max(min(c) for c in own)
        return sorted({c for row in own for c in row if c >= least})

    def at(self, interval: int) -> Ladder:
        """Options at T = interval; every kernel has one, for T from `intervals`."""
        from compiler.partition.constraints.rows import stream_wires

        case = self.case
        picks = [np.flatnonzero((r.cycles <= interval) & (r.needless > interval)) for r in self.rungs]
        amounts = np.full((len(picks), max(map(len, picks)), len(case.resources)), np.inf)
        for v, (rungs, pick) in enumerate(zip(self.rungs, picks, strict=True)):
            amounts[v, : len(pick)] = rungs.amounts[pick]
        bits = tuple(case.out_bits[src] for src, _ in case.edges)
        versions = tuple(tuple(r.versions[pick].tolist()) for r, pick in zip(self.rungs, picks, strict=True))
        return Ladder(interval, versions, amounts, tuple(stream_wires(b, interval) for b in bits), bits)


@dataclass(frozen=True, slots=True, eq=False)
class _Rungs:
    """The versions of one kernel that some slot it may stand on holds; `needless`: from this T on another one is there
    that takes no more of anything."""

    versions: Ints
    amounts: Ints  # version, resource
    cycles: Ints
    needless: Ints

    @classmethod
    def of(cls, case: JointCase, v: int) -> _Rungs:
        every = np.array(case.versions[v]).reshape(len(case.versions[v]), len(case.resources))
        sizes = {case.capacity[s] for s in case.allowed[v]}
        holds = [(every <= np.array(size)).all(axis=1) for size in sorted(sizes)]
        own = np.flatnonzero(np.any(holds, axis=0))
        amounts, cycles = every[own], np.array(case.cycles[v])[own]
        less = np.ones((len(own), len(own)), np.bool_)  # a version, another one that takes at least as much
        for r in range(amounts.shape[1]):
            less &= amounts[:, None, r] <= amounts[None, :, r]
        less &= ~less.T | np.triu(np.ones_like(less), 1)  # of equal ones the first stays
        needless = np.where(less, cycles[:, None], NEVER).min(axis=0, initial=NEVER)
        return cls(own, amounts, cycles, needless)


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


def merged_bound(ladders: Ladders, values: list[int], clock: Clock) -> int | None:
    """The least T of `values` that the merged die does not refute (by bisection: options only grow with T)."""
    low, high = 0, len(values) - 1
    if not merged_fits(ladders.case, ladders.at(values[high]), clock):
        return None
    while low < high:
        middle = (low + high) // 2
        if merged_fits(ladders.case, ladders.at(values[middle]), clock):
            high = middle
        else:
            low = middle + 1
    return values[low]
