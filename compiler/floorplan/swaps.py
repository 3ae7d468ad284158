"""Kernels moved and swapped, one step at a time, until no slot and no boundary is over: a tabu search.

Needs a JointCase, its ladder and any placement in the ladder's versions. Each step takes a slot or a boundary that is
over, looks at every move of one of its kernels and at every swap with another kernel, each in the versions that fit
best, and takes what leaves least over, even if that is more than before; a kernel that moved rests for some steps, and
what stays over weighs more and more. Guarantees a placement without overflow, or None; deterministic for a seed.
"""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from compiler.floorplan.budget import Clock
from compiler.floorplan.ladder import Ladder
from compiler.floorplan.problem import JointCase
from compiler.floorplan.versions import Placement
from compiler.partition.constraints.rows import link_bits

STEP_SECONDS = 2e-4  # deterministic price of one step, and more by kernel that is looked at
PAIR_SECONDS = 1.5e-7
REST = (3, 12)  # steps for which a kernel that moved stays
HEAVIER = 0.3  # what a row that is over gains in weight where no step makes it better
MOST_WEIGHT = 50.0
NEVER = 1e18

Floats = NDArray[np.float64]


class Swaps:
    """State of one search; loads, limits and what crosses are whole numbers in doubles, exact below 2**53."""

    def __init__(self, case: JointCase, options: Ladder, placement: Placement, seed: int) -> None:
        self.case, self.options = case, options
        self.rng = random.Random(seed)
        nodes, slots = len(case.versions), len(case.slot_ids)
        self.all = np.arange(nodes)
        self.amounts = np.where(np.isinf(options.amounts), NEVER, options.amounts)  # kernel, option, type
        self.capacity = np.array(case.capacity, dtype=float)
        self.scale = 1.0 / np.maximum(self.capacity, 0.5)
        self.weight = np.ones_like(self.capacity)
        self.at = np.array([s for s, _ in placement])
        self.option = np.array([options.versions[v].index(k) for v, (_, k) in enumerate(placement)])
        self.load = np.zeros_like(self.capacity)
        np.add.at(self.load, self.at, self.amounts[self.all, self.option])
        self.barred = np.ones((nodes, slots), dtype=bool)
        for v, allowed in enumerate(case.allowed):
            self.barred[v, list(allowed)] = False
        self.rest = np.zeros(nodes, dtype=int)
        self._boundaries()

    def _boundaries(self) -> None:
        """Boundaries that may bind, and what each kernel's edges put on them from each slot."""
        case, options = self.case, self.options
        nodes, slots = len(case.versions), len(case.slot_ids)
        limits, weights, places = [], [], []
        for b, boundary in enumerate(case.boundaries):
            if boundary.wires is not None:
                limit, each = boundary.wires, list(options.wires)
            elif boundary.bits_per_cycle is not None:
                limit, each = link_bits(boundary.bits_per_cycle, options.interval), list(options.bits)
            else:
                limit, each = 0, [1] * len(case.edges)
            if sum(each) > limit:
                limits.append(float(limit))
                weights.append(each)
                places.append(b)
        self.limit = np.array(limits)
        self.pressure = np.ones(len(limits))
        self.relief = 1.0 / np.maximum(self.limit, 0.5)
        line = np.arange(slots)
        low, high = np.minimum(line[:, None], line[None]), np.maximum(line[:, None], line[None])
        self.between = np.array([(low <= b) & (b < high) for b in places], dtype=float).reshape(-1, slots, slots)
        self.between = np.ascontiguousarray(self.between.transpose(1, 2, 0))  # slot, slot, boundary
        self.near: list[list[tuple[int, Floats]]] = [[] for _ in range(nodes)]
        self.crossing = np.zeros(len(limits))
        for i, (src, dst) in enumerate(case.edges):
            if src == dst:
                continue
            weight = np.array([float(w[i]) for w in weights])
            self.near[src].append((dst, weight))
            self.near[dst].append((src, weight))
            self.crossing += weight * self.between[self.at[src], self.at[dst]]
        self.put = np.zeros((nodes, slots, len(limits)))
        for v in range(nodes):
            for w, weight in self.near[v]:
                self.put[v] += weight * self.between[:, self.at[w]]

    def run(self, clock: Clock, seconds: float) -> Placement | None:
        """Steps until nothing is over or the deterministic seconds are spent."""
        end = max(0.0, clock.left - seconds)
        step = 0
        while clock.left > end:
            over = np.maximum(self.load - self.capacity, 0) * self.scale
            beyond = np.maximum(self.crossing - self.limit, 0) * self.relief
            if not over.any() and not beyond.any():
                return tuple(
                    (int(s), self.options.versions[v][k])
                    for v, (s, k) in enumerate(zip(self.at, self.option, strict=True))
                )
            step += 1
            kernels = self._kernels(over, beyond)
            clock.charge(STEP_SECONDS + PAIR_SECONDS * len(kernels) * len(self.all))
            self._step(kernels, over, beyond, step)
        return None

    def _kernels(self, over: Floats, beyond: Floats) -> NDArray[np.int64]:
        """Those of a slot that is over, or at the ends of what crosses a boundary that is."""
        worst = [float(x) for x in (over * self.weight).sum(axis=1)] + [float(x) for x in beyond * self.pressure]
        chosen = self.rng.choices(range(len(worst)), weights=worst)[0]
        if chosen < len(over):
            return np.flatnonzero(self.at == chosen)
        b = chosen - len(over)
        ends = [
            v
            for v in range(len(self.near))
            if any(self.between[self.at[v], self.at[w], b] and weight[b] for w, weight in self.near[v])
        ]
        return np.array(ends)

    def _slot_cost(self, load: Floats, slots: NDArray[np.int64]) -> Floats:
        return np.asarray(
            (np.maximum(load - self.capacity[slots], 0) * self.scale[slots] * self.weight[slots]).sum(axis=-1)
        )

    def _cut_cost(self, crossing: Floats) -> Floats:
        return np.asarray((np.maximum(crossing - self.limit, 0) * self.relief * self.pressure).sum(axis=-1))

    def _step(self, kernels: NDArray[np.int64], over: Floats, beyond: Floats, step: int) -> None:
        slots = np.arange(len(self.capacity))
        now = (over * self.weight).sum(axis=1)
        cut = float((beyond * self.pressure).sum())
        own = self.at[kernels]
        mine = self.amounts[self.all, self.option]
        left = self.load[own] - mine[kernels]  # kernel, type: its slot without it
        # One kernel to any slot, in any version.
        there = self.load[None] - np.where((slots == own[:, None])[:, :, None], mine[kernels][:, None], 0)
        cost = self._slot_cost(there[:, :, None] + self.amounts[kernels][:, None], slots[None, :, None])
        stays = slots == own[:, None]
        cost[stays, self.option[kernels]] = np.inf  # no move at all
        version = cost.argmin(axis=2)
        away = self._slot_cost(left, own) - now[own]
        move = cost.min(axis=2) - now[None] + np.where(stays, 0, away[:, None])
        if len(self.limit):
            change = self.put[kernels] - self.put[kernels, own][:, None]
            move = move + self._cut_cost(self.crossing + change) - cut
        move = np.where(self.barred[kernels], np.inf, move)
        # Two kernels change places, each in its best version there.
        theirs = self.at
        here = self._slot_cost(left[:, None, None] + self.amounts[None], own[:, None, None])
        rest = self.load[theirs] - mine
        yonder = self._slot_cost(rest[None, :, None] + self.amounts[kernels][:, None], theirs[None, :, None])
        swap = here.min(axis=2) + yonder.min(axis=2) - now[own][:, None] - now[theirs][None]
        if len(self.limit):
            change = self.put[kernels][:, theirs] - self.put[kernels, own][:, None]
            change = change + self.put[:, own].transpose(1, 0, 2) - self.put[self.all, theirs][None]
            for i, v in enumerate(kernels):
                for w, weight in self.near[v]:
                    change[i, w] += 2 * weight * self.between[self.at[v], self.at[w]]
            swap = swap + self._cut_cost(self.crossing + change) - cut
        same = theirs[None] == own[:, None]
        swap = np.where(same | self.barred[kernels][:, theirs] | self.barred[:, own].T, np.inf, swap)
        # The best that is not resting.
        resting = self.rest > step
        move = np.where(resting[kernels][:, None], np.inf, move)
        swap = np.where(resting[kernels][:, None] | resting[None], np.inf, swap)
        best_move, best_swap = float(move.min()), float(swap.min())
        least = min(best_move, best_swap)
        if least >= -1e-12:
            self.weight = np.minimum(self.weight + HEAVIER * (over > 0), MOST_WEIGHT)
            self.pressure = np.minimum(self.pressure + HEAVIER * (beyond > 0), MOST_WEIGHT)
        if least >= NEVER:
            return
        if best_move <= best_swap:
            i, t = self._one(move, best_move)
            self._put(int(kernels[i]), t, int(version[i, t]), step)
        else:
            i, w = self._one(swap, best_swap)
            a, b = int(own[i]), int(theirs[w])
            k, j = int(yonder[i, w].argmin()), int(here[i, w].argmin())
            self._put(int(kernels[i]), b, k, step)
            self._put(w, a, j, step)

    def _one(self, table: Floats, least: float) -> tuple[int, int]:
        found = np.argwhere(table <= least + 1e-12)
        i, j = found[self.rng.randrange(len(found))]
        return int(i), int(j)

    def _put(self, v: int, slot: int, option: int, step: int) -> None:
        old = int(self.at[v])
        self.load[old] -= self.amounts[v, self.option[v]]
        self.load[slot] += self.amounts[v, option]
        if old != slot and len(self.limit):
            self.crossing += self.put[v, slot] - self.put[v, old]
            for w, weight in self.near[v]:
                self.put[w] += weight * (self.between[:, slot] - self.between[:, old])
        self.at[v], self.option[v] = slot, option
        self.rest[v] = step + self.rng.randint(*REST)
