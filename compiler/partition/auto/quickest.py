"""The search for a plan with both styles whose single frame is quick: `--objective latency`.

Needs a `Split` over the tiled latency plan; candidates are runs of layers on runs of dies at an interval T, ranked by
an estimate of one frame: the streaming side takes T for the frame itself and, layer after layer, the part of it that
passes before a window is full; the tiled side what its tasks take in the tiled plan, longer as it has fewer dies. The
best one becomes a plan, its two sides correct the estimate, and so on. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from compiler.ir.graph import Conv, GlobalAverage, Move, Node, Pool
from compiler.partition.auto.search import FILL, LEAST_FILL, LESS, WORTH, Split
from compiler.partition.auto.sides import Candidate, Numbers, Run, Sides
from compiler.partition.costs import CostBook
from compiler.partition.defaults import RealOps
from compiler.partition.stream.problem import link_rate
from compiler.plan.model import Plan
from cost_models.primitives import PS_PER_SECOND, cycles_ps
from device_db.topology import SLL_STREAM_BITS

TRIES = 6  # plans
STEPS, RATIO = 16, 1.3  # intervals that are looked at: each so many times the one before
DIES_POWER = 0.7  # a frame on half of the dies takes less than twice as long: not all of a layer is shared by all
QUICKER = 0.75  # of the estimate: what is left of the dies makes layers quicker
WHOLE = 0.25  # of T: a layer of one position, which takes less than the slowest and begins when its input is whole
OFFERS = 3  # of a run of dies


class Offer(NamedTuple):
    """A candidate with what its frame takes by the estimate: in all, on tiled engines, on streaming ones."""

    frame_ps: float
    candidate: Candidate
    outside_ps: float
    inside_ps: float


def waits_for(node: Node) -> float:
    """The part of a frame that has to come before a layer's first result; of T."""
    if isinstance(node, GlobalAverage):
        return WHOLE
    if isinstance(node, Move):
        return 0.0 if node.op == "Concat" else 1.0  # the others pass through frame buffers
    if not isinstance(node, Conv | Pool):
        return 0.0
    height = node.x_shape[2]
    if height == 1:
        return WHOLE
    kernel = node.weight.shape[2] if isinstance(node, Conv) else node.kernel[0]
    ahead = (kernel - 1) * node.dilations[0] - node.pads[0]
    return min(1.0, max(0.0, ahead / height))


@dataclass(slots=True)
class Quickest:
    """The search over one Split, whose tiled plan is that of the least latency."""

    split: Split
    longer: float = 1.0  # corrections: of the tiled side, of the streaming side
    quicker: float = QUICKER
    _least: dict[tuple[Run, float], Numbers] = field(default_factory=dict)

    def best(self, below_ps: int) -> Plan | None:
        """The best plan of candidates that promise less; it may miss what was promised. None where there is none."""
        split = self.split
        sides, fill, book = split.sides(), FILL, CostBook(split.graph, RealOps())
        alone, waits = self._alone_ps(), self._waits(sides)
        rest = max(0.0, int(split.tiled.predicted["latency_ns"]) * 1000 - alone.sum())  # host, PCIe, messages
        tried: set[tuple[Run, tuple[int, ...]]] = set()
        best: Plan | None = None
        for _ in range(TRIES):
            limit = below_ps if best is None else min(below_ps, int(best.predicted["latency_ns"]) * 1000)
            offers = [o for r in split.runs() for o in self._offers(sides, r, fill, below_ps, alone, waits)]
            offers = [o for o in offers if (o.candidate.run, o.candidate.layers) not in tried]
            chosen = min(offers, key=lambda o: (o.frame_ps, o.candidate.run.first, o.candidate.first), default=None)
            if chosen is None or chosen.frame_ps + rest >= limit * WORTH:
                break
            tried.add((chosen.candidate.run, chosen.candidate.layers))
            plan = split.plan(sides, chosen.candidate, book)
            if plan is None:
                fill = max(LEAST_FILL, fill * LESS)
                continue
            took = int(plan.predicted["latency_ns"]) * 1000
            if best is None or took < int(best.predicted["latency_ns"]) * 1000:
                best = plan
            streams = sum(r.latency_ps for r in plan.regions)
            self.quicker *= corrected(streams / max(1.0, chosen.inside_ps))
            self.longer *= corrected((took - rest - streams) / max(1.0, chosen.outside_ps))
        return best

    def _offers(
        self, sides: Sides, run: Run, fill: float, below_ps: int, alone: Numbers, waits: Numbers
    ) -> list[Offer]:
        """The best candidates on these dies."""
        if (run, fill) not in self._least:
            self._least[run, fill] = least_ps(sides, run, fill, below_ps)
        least = self._least[run, fill]
        begin, end, crossing = sides.windows
        dies = len(sides.budgets)
        devices = {self.split.cluster.dies[k].device for k in range(run.first, run.last + 1)}
        sums = np.concatenate([[0.0], np.where(sides.streamable, alone, 0.0).cumsum()])
        outside = (alone.sum() - (sums[end] - sums[begin])) * (dies / (dies - (run.last - run.first + 1))) ** DIES_POWER
        outside = self.longer * outside + crossing * 8 / self._bits_per_second(run) * PS_PER_SECOND
        inside = self.quicker * least * (len(devices) + waits)
        frame = outside + inside
        out = []
        for k in [int(k) for k in np.argsort(frame, kind="stable")[:OFFERS] if np.isfinite(least[k])]:
            a, b = int(begin[k]), int(end[k])
            layers = tuple(x for x in range(a, b) if sides.streamable[x])
            found = Candidate(run, a, b, layers, float(least[k]), int(crossing[k]))
            out.append(Offer(float(frame[k]), found, float(outside[k]), float(inside[k])))
        return out

    def _bits_per_second(self, run: Run) -> float:
        """Between the two sides: over SLLs where they share a device, else over a link."""
        refs = self.split.cluster.dies
        device = refs[run.first].device
        here = [k for k, ref in enumerate(refs) if ref.device == device]
        if here[0] < run.first or run.last < here[-1]:
            return float(SLL_STREAM_BITS * self.split.cluster.die(refs[run.first]).clock_khz * 1000)
        others = [d for d in (device - 1, device) if d >= 0]
        return float(max([link_rate(self.split.cluster, d) for d in others if d >= 0] + [1]))

    def _alone_ps(self) -> Numbers:
        """What a frame takes for each layer in the tiled plan."""
        plan = self.split.tiled
        clock = {e.id: int(e.parameters["clock_khz"]) for e in plan.engines}
        tasks = plan.predicted["tasks"]
        took = [
            max(cycles_ps(int(tasks[s.task]["latency_cycles"]), clock[s.engine]) for s in layer.slices)
            for layer in plan.layers
        ]
        return np.array(took, np.float64)

    def _waits(self, sides: Sides) -> Numbers:
        """Of every window: the parts of T that a frame waits on its longest way, one layer after the other."""
        nodes = self.split.graph.nodes
        root = self.split.graph.root
        maker = {n.y: k for k, n in enumerate(nodes)}
        before = [[maker[t] for t in map(root, n.inputs) if t in maker] for n in nodes]
        own = [waits_for(n) for n in nodes]
        longest: dict[int, Numbers] = {}
        for a in sides.cuts:
            ways = np.zeros(len(nodes))
            for k in range(a, len(nodes)):
                ways[k] = own[k] + max((ways[p] for p in before[k] if p >= a), default=0.0)
            longest[a] = np.maximum.accumulate(ways)
        begin, end, _ = sides.windows
        return np.array([longest[int(a)][int(b) - 1] for a, b in zip(begin, end, strict=True)])


def corrected(ratio: float) -> float:
    """Half of the way (by factors) from an estimate to what came out: candidates are not alike."""
    return float(min(2.0, max(0.5, ratio)) ** 0.5)


def least_ps(sides: Sides, run: Run, fill: float, below_ps: int) -> Numbers:
    """Of every window: the least interval at which all of its layers that can stream do so on the run; infinity where
    none is below."""
    begin, end, _ = sides.windows
    out = np.full(len(begin), np.inf)
    t = below_ps / RATIO**STEPS
    for _ in range(STEPS):
        slow = np.concatenate([[0], (sides.streamable & ~sides.at(int(t))[1]).cumsum()])
        fine = sides.fits(run, fill, int(t), keep_up=False) & (slow[end] == slow[begin])
        out = np.where(np.isinf(out) & fine, t, out)
        t *= RATIO
    return out
