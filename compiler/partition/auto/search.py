"""The search for a plan with both styles: from estimates of both sides (`sides`) to plans, which correct the estimates.

Needs the tiled plan and the interval to beat; the best candidate by the estimate is planned with `plan_split`, what its
two sides really take corrects the estimate, and so on while one may still be worth it. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from compiler.ir.graph import Graph
from compiler.isa.stream.network import cycle_ps
from compiler.ops.stream.programs import fabric_dies
from compiler.partition.auto.sides import Candidate, Run, Sides, runs_of
from compiler.partition.costs import CostBook
from compiler.partition.defaults import RealOps
from compiler.partition.mixed.compose import plan_split
from compiler.partition.mixed.part import Offers, Part
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.problem import TYPES
from compiler.plan.model import Plan
from cost_models.primitives import cycles_ps
from device_db.errors import FvcError
from device_db.model import Cluster

TRIES = 6  # plans
WORTH = 0.98  # of the interval so far: candidates that promise less are left
FILL, LEAST_FILL, MOST_FILL = 0.8, 0.4, 0.95  # of the streaming dies: what joins layers needs room too
LESS = 0.88  # times the share where they could not keep it: folds come in steps, so one layer may double the interval
NEAR = 0.98  # of a candidate's interval: the streaming side is not asked to be quicker


@dataclass(slots=True)
class Split:
    """The search over one graph, cluster and options."""

    graph: Graph
    cluster: Cluster
    options: PartitionOptions
    offers: Offers
    tiled: Plan
    floor_ps: int  # the host's own time, or --interval

    def best(self, below_ps: int) -> Plan | None:
        """The best plan of candidates that promise less; it may miss what was promised. None where there is none."""
        sides, fill, book = self.sides(), FILL, CostBook(self.graph, RealOps())
        tried: set[tuple[Run, tuple[int, ...]]] = set()
        best: Plan | None = None
        for _ in range(TRIES):
            limit = below_ps if best is None else int(best.predicted["interval_ns"]) * 1000
            offered = [c for r in self.runs() if (c := sides.best(r, fill, limit * WORTH)) is not None]
            offered = [c for c in offered if (c.run, c.layers) not in tried]
            if not offered:
                break
            chosen = self._chosen(offered)
            tried.add((chosen.run, chosen.layers))
            plan = self.plan(sides, chosen, book)
            if plan is None:
                fill = max(LEAST_FILL, fill * LESS)
                continue
            if best is None or _figures(plan) < _figures(best):
                best = plan
            ratio = max(chosen.interval_ps, self.floor_ps) / _pace(plan)
            fill = min(MOST_FILL, max(LEAST_FILL, fill * (max(LESS, ratio) if ratio < 1 else 1.03)))
            busy = max(
                (row["busy_permille"] for row in plan.predicted["dies"].values() if "busy_cycles" in row), default=0
            )
            real = busy * int(plan.predicted["interval_ns"])
            sides.tiled_ps = sides.tiled_ps * min(1.5, max(0.7, real / max(1.0, sides.elsewhere_ps(chosen))))
        return best

    def _chosen(self, offered: list[Candidate]) -> Candidate:
        """Of those that promise about the shortest interval the one with the fewest devices that stream, then with the
        least that passes bridges."""
        refs = self.cluster.dies
        times = [max(c.interval_ps, self.floor_ps) for c in offered]
        near = [c for c, t in zip(offered, times, strict=True) if t * WORTH <= min(times)]
        return min(
            near,
            key=lambda c: (
                refs[c.run.last].device - refs[c.run.first].device,
                c.crossing_bytes,
                c.run.first,
                c.run.last,
            ),
        )

    def plan(self, sides: Sides, chosen: Candidate, book: CostBook) -> Plan | None:
        """The candidate as a plan, if there is one: each device with a part of the layers; where that is slower than it
        was to be, layers on any die of the run. Frames are kept whole between devices, so parts are quicker to pass."""
        refs = self.cluster.dies
        groups: dict[int, list[int]] = {}
        for k in range(chosen.run.first, chosen.run.last + 1):
            groups.setdefault(refs[k].device, []).append(k)
        names = [n.name for n in self.graph.nodes]
        floor = max(self.floor_ps, int(chosen.interval_ps * NEAR))
        lines = [tuple(refs[k].die for k in line) for line in groups.values()]
        best = None
        dealt = sides.dealt(chosen, list(groups.values()))
        if len(dealt) == len(groups):
            parts = [
                Part(device, line, tuple(names[x] for x in own))
                for device, line, own in zip(groups, lines, dealt, strict=True)
            ]
            best = self._made(parts, floor, book, free=False)
            if len(groups) == 1 or (best is not None and _pace(best) <= floor / NEAR / WORTH):
                return best
        every = tuple(names[x] for x in chosen.layers)
        parts = [Part(device, line, every) for device, line in zip(groups, lines, strict=True)]
        other = self._made(parts, floor, book, free=True)
        return min((p for p in (best, other) if p is not None), key=_figures, default=None)

    def _made(self, parts: list[Part], floor_ps: int, book: CostBook, free: bool) -> Plan | None:
        brief = replace(self.options, time_limit_s=self.options.time_limit_s / TRIES)
        try:
            return plan_split(self.graph, self.cluster, brief, parts, self.offers, book, floor_ps, free)
        except FvcError as refusal:
            if refusal.exit_code != 1:
                raise
            return None

    def sides(self) -> Sides:
        """Estimates by what the tiled plan's engines take."""
        refs = self.cluster.dies
        budgets, cycle = [], 1
        for device in range(len(self.cluster.devices)):
            for die in fabric_dies(self.cluster, device):
                budgets.append([getattr(die, t) for t in TYPES])
                cycle = max(cycle, cycle_ps(die.clock_khz))
        size = {f"{e.device}/{e.die}": _macs(self.tiled, e.id) for e in self.tiled.engines}
        rates = [size.get(self.cluster.die_name(ref), 0.0) for ref in refs]
        mean = sum(rates) / max(1, sum(1 for r in rates if r))
        rates = [(r or mean) / mean for r in rates]
        speed = {self.cluster.die_name(ref): r for ref, r in zip(refs, rates, strict=True)}
        clock = {e.id: int(e.parameters["clock_khz"]) for e in self.tiled.engines}
        stands = {e.id: f"{e.device}/{e.die}" for e in self.tiled.engines}
        tasks = self.tiled.predicted["tasks"]
        took = [
            sum(
                cycles_ps(int(tasks[s.task]["steady_cycles"]), clock[s.engine]) * speed[stands[s.engine]]
                for s in layer.slices
            )
            for layer in self.tiled.layers
        ]
        return Sides(self.graph, self.offers, cycle, budgets, rates, took)

    def runs(self) -> list[Run]:
        """Runs of dies, one of those that are alike: with the fewest devices in part."""
        refs = self.cluster.dies
        number = {n.name: k for k, n in enumerate(self.graph.nodes)}
        kept: dict[tuple[object, ...], tuple[int, Run]] = {}
        for r in runs_of(len(refs)):
            inside = [refs[k] for k in range(r.first, r.last + 1)]
            must, never = set(), set()
            for layer, place in self.options.anchors:
                allowed = [d for d in refs if place in (self.cluster.die_name(d), self.cluster.devices[d.device].name)]
                here = [d in inside for d in allowed]
                if layer in number and all(here):
                    must.add(number[layer])
                elif layer in number and not any(here):
                    never.add(number[layer])
            parted = sum(
                1
                for d, device in enumerate(self.cluster.devices)
                if 0 < sum(1 for x in inside if x.device == d) < len(device.board.dies)
            )
            alike = tuple(sorted((self.cluster.devices[x.device].board.name, x.die) for x in inside))
            key = (alike, tuple(sorted(must)), tuple(sorted(never)))
            if key not in kept or parted < kept[key][0]:
                kept[key] = parted, replace(r, must=frozenset(must), never=frozenset(never))
        return [r for _, r in kept.values()]


def _figures(plan: Plan) -> tuple[int, int]:
    return int(plan.predicted["interval_ns"]), int(plan.predicted["latency_ns"])


def _pace(plan: Plan) -> int:
    """Picoseconds a frame of the slowest region."""
    return max(r.pace_ps for r in plan.regions)


def _macs(plan: Plan, engine: str) -> float:
    e = next(e for e in plan.engines if e.id == engine)
    return float(e.fold["tm"] * e.fold["tn"] * int(e.parameters["clock_khz"]))


def why_not(graph: Graph, cluster: Cluster, options: PartitionOptions, tiled: Plan | None) -> str:
    """Why no plan with both styles is looked for, or ""."""
    if options.replicas != 1:
        return "plans with both styles hold one copy of the net"
    if any(n > 1 for _, n in options.force_split):
        return "layers that stream beside tiled ones are whole"
    if options.measured:
        return "what is measured counts in streaming plans alone"
    if options.forbidden_cuts:
        return "with layers that must stand together"
    if options.memory == "external":
        return "weights of layers that stream stand on the chip"
    if len(cluster.dies) < 2:
        return "one die holds one style"
    if len({d.board.family for d in cluster.devices}) > 1:
        return "the boards are of several families"
    if tiled is None:
        return "there is no tiled plan to begin with"
    if len(graph.nodes) < 2:
        return "one layer is of one style"
    return ""
