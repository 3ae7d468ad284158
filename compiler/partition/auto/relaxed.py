"""A lower bound on the interval over all splits: which dies stream, which layers, with which folds. Proved by prices.

Needs streaming options and, by pool of dies, the least time of each layer on any engine that such a die holds. At an
interval T and any prices of resources and of tiled time, every plan pays for each layer at least its cheapest option
that keeps T, or its cheapest tiled time, and has no more to spend than what each die is worth: its resources if it
streams, T of its time if it is tiled, whichever is more. Where layers cost more than that, T is refuted; all in
integers. An option that no die holds is none. Links, wires, bridges, FIFOs are left out, so the bound holds with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import ArgMax, Binary, Conv, GlobalAverage, Graph, Node, Pool, Table
from compiler.isa.program import EngineSpec
from compiler.isa.stream.network import cycle_ps
from compiler.ops.stream.lower import undominated
from compiler.partition.auto.sides import held
from compiler.partition.engines import pool_candidates
from compiler.partition.layout import places
from compiler.partition.mixed.part import Offers
from compiler.partition.stream.problem import TYPES, amounts
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster

SCALE = 1 << 40  # what all dies together are worth at equal prices
ROUNDS = 120  # of prices
STEP = 1.0
STEPS = 14  # of bisection
DEAR = 1 << 60  # of what cannot be had
MOST_SUBSETS = 40  # which dies stream: so many cases are refuted one by one, else all at once

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Relaxed:
    """cycles, rows: of each layer's streaming options, quickest first; tiled_ps: by layer and pool. budgets: by die;
    pool: of each die. whole: all dies may stream, too."""

    cycle_ps: int
    cycles: tuple[Integers, ...]
    rows: tuple[Integers, ...]
    tiled_ps: Integers
    budgets: Integers
    pool: tuple[int, ...]
    whole: bool

    def bound_ps(self, floor_ps: int, high_ps: int) -> int:
        """No split has a shorter interval, as far as that can be told between these two."""
        low, high = floor_ps, high_ps  # what is refuted is below
        if high <= low or self.refuted(high - 1):
            return high
        for _ in range(STEPS):
            middle = (low + high) // 2
            if middle <= low:
                break
            if self.refuted(middle):
                low = middle
            else:
                high = middle
        return low

    def refuted(self, t_ps: int) -> bool:
        """Whether no split keeps t_ps, proved."""
        keep = [int(np.searchsorted(c, t_ps // self.cycle_ps, side="right")) for c in self.cycles]
        options = [rows[:k] for rows, k in zip(self.rows, keep, strict=True)]
        most = max([1, *(len(o) for o in options)])
        streams = np.zeros((len(options), most, len(TYPES)), np.int64)
        able = np.zeros((len(options), most), np.bool_)
        for k, own in enumerate(options):
            streams[k, : len(own)], able[k, : len(own)] = own, True
        worth = self._worth(t_ps)
        return all(self._priced_out(streams, able, w) for w in worth)

    def _worth(self, t_ps: int) -> list[tuple[Integers, Integers]]:
        """(what each die is worth as a streaming one, as a tiled one) in resources and then picoseconds by pool; a case
        of which dies stream each, one case with both open where there are many."""
        dies, pools = len(self.pool), self.tiled_ps.shape[1]
        streams = np.concatenate([self.budgets, np.zeros((dies, pools), np.int64)], axis=1)
        tiled = np.zeros_like(streams)
        for d, p in enumerate(self.pool):
            tiled[d, len(TYPES) + p] = t_ps
        kinds = [(p, *b) for p, b in zip(self.pool, self.budgets.tolist(), strict=True)]
        alike = [[d for d in range(dies) if kinds[d] == k] for k in dict.fromkeys(kinds)]
        cases = prod(len(a) + 1 for a in alike)
        if cases > MOST_SUBSETS:
            return [(streams, tiled)]
        out = []
        for case in np.ndindex(*(len(a) + 1 for a in alike)):
            chosen = [d for n, a in zip(case, alike, strict=True) for d in a[:n]]
            if 0 < len(chosen) < dies + self.whole:
                own = tiled.copy()
                own[chosen] = streams[chosen]
                out.append((own, own))
        return out

    def _priced_out(self, streams: Integers, able: NDArray[np.bool_], worth: tuple[Integers, Integers]) -> bool:
        """Whether some prices make the layers dearer than the dies are worth."""
        total = np.maximum(worth[0].sum(axis=0), worth[1].sum(axis=0))
        share = np.where(total > 0, 1.0, 0.0)
        share /= share.sum()
        pools = self.tiled_ps.shape[1]
        layers = np.arange(len(able))
        for turn in range(ROUNDS):
            prices = np.array([int(s * SCALE) // max(1, int(t)) for s, t in zip(share, total, strict=True)], np.int64)
            stream = np.where(able, streams @ prices[: len(TYPES)], DEAR)
            tiled = np.where(total[len(TYPES) :] > 0, self.tiled_ps * prices[len(TYPES) :], DEAR)
            first, second = stream.argmin(axis=1), tiled.argmin(axis=1)
            a, b = stream[layers, first], tiled[layers, second]
            cost = sum(min(int(x), int(y)) for x, y in zip(a, b, strict=True))
            values = np.maximum(worth[0] @ prices, worth[1] @ prices)
            if cost > int(values.sum()):
                return True
            in_time = b < a
            use = np.zeros(len(total))
            use[: len(TYPES)] = streams[layers, first][~in_time].sum(axis=0)
            for p in range(pools):
                use[len(TYPES) + p] = self.tiled_ps[in_time & (second == p), p].sum()
            as_tiled = (worth[1] @ prices > worth[0] @ prices)[:, None]
            supply = np.where(as_tiled, worth[1], worth[0]).sum(axis=0)
            over = (use - supply) / np.maximum(total, 1)
            if (use <= supply).all():
                return False
            share = share * np.exp(STEP / (1 + turn) ** 0.5 * (over - over.max()))
            share = np.where(total > 0, np.maximum(share / share.sum(), 1e-6), 0.0)
        return False


def relaxation(graph: Graph, cluster: Cluster, offers: Offers, memory: str, whole: bool) -> Relaxed:
    """The relaxation over every engine of the candidates' table and every streaming option; whole: the case in which
    all dies stream is in it."""
    here = places(cluster, None)
    pools = sorted({p.pool for p in here})
    tiled = np.zeros((len(graph.nodes), len(pools)), np.int64)
    for q, pool in enumerate(pools):
        own = [p for p in here if p.pool == pool]
        specs = {(c.spec.tm, c.spec.tn, c.spec.vector_lanes): c.spec for c in pool_candidates(cluster, own, memory)}
        for k, node in enumerate(graph.nodes):
            tiled[k, q] = min((least_ps(graph, node, s) for s in specs.values()), default=DEAR >> 20)
    budgets = [[getattr(cluster.die(p.ref).usable, t) for t in TYPES] for p in here]
    cycles, rows = [], []
    for n in graph.nodes:
        options = held(undominated(offers[n.name] or ()), budgets)
        cycles.append(np.array([o.cycles for o in options], np.int64))
        rows.append(np.array([amounts(o) for o in options], np.int64).reshape(len(options), len(TYPES)))
    cycle = max(cycle_ps(d.clock_khz) for dev in cluster.devices for d in dev.board.dies)
    return Relaxed(
        cycle,
        tuple(cycles),
        tuple(rows),
        tiled,
        np.array(budgets, np.int64),
        tuple(pools.index(p.pool) for p in here),
        whole,
    )


def least_ps(graph: Graph, node: Node, spec: EngineSpec) -> int:
    """Picoseconds that a layer takes at least on an engine, alone or in slices: its multiplications with every lane at
    work that the array can give them, and then its results through the vector unit. Memory and links take more."""
    lanes, tm, tn = spec.vector_lanes, spec.tm, spec.tn
    results = graph.tensors[node.y].elements
    if isinstance(node, Conv):
        n, m, h, w = node.y_shape
        taps = node.weight.shape[2] * node.weight.shape[3]
        inputs = node.weight.shape[1]
        if node.groups > 1 and inputs == 1:
            rows = min(m * taps, ceil_div(m, tm) * ceil_div(taps, tn))
        else:
            rows = node.groups * ceil_div(m // node.groups, tm) * (inputs * taps) // tn
        cycles = n * h * w * rows + results // lanes
    elif isinstance(node, Pool):
        cycles = results * prod(node.kernel) // lanes
    elif isinstance(node, GlobalAverage):
        cycles = prod(node.x_shape) // lanes
    elif isinstance(node, ArgMax):
        cycles = prod(node.dims) // lanes
    elif isinstance(node, Binary | Table):
        cycles = results // lanes
    else:
        cycles = 0
    return int(cycles * PS_PER_SECOND // (spec.clock_khz * 1000))
