"""A planner for tests only: whole layers dealt round robin over a few engines, with or without slices and stages."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace

from compiler.ir.graph import Conv, Graph, HostSegment, Node, storage4
from compiler.isa.program import EngineSpec
from compiler.ops import input_boxes, partial_name, splits, task_cost
from compiler.ops.boxes import intersect, whole_box
from compiler.plan.model import (
    SCHEMA,
    Box,
    EnginePlan,
    HostSegmentPlan,
    LayerPlan,
    Plan,
    ResourcePlan,
    SlicePlan,
    SolverPlan,
)

BIG = EngineSpec(
    "", "SLR0", 64, 48, 4 << 20, 3 << 20, 2 << 20, 65536, 64, 64, 64, 300_000, "HBM0", 51_750_000_000, 1 << 30
)
SMALL = EngineSpec(
    "", "SLR0", 16, 16, 96 << 10, 64 << 10, 64 << 10, 16384, 16, 16, 16, 200_000, "HBM0", 9_600_000_000, 1 << 30
)
TINY = EngineSpec("", "SLR0", 8, 8, 16 << 10, 16 << 10, 8 << 10, 4096, 8, 8, 8, 200_000, "HBM0", 9_600_000_000, 1 << 30)


def engine_plan(spec: EngineSpec, rank: int, device: str, die: str, replica: int = 0) -> EnginePlan:
    name = f"{device}/{die}/{rank}"
    spec = replace(spec, id=name, die=die)
    return EnginePlan(
        name,
        rank,
        device,
        die,
        "tiled",
        {"tm": spec.tm, "tn": spec.tn},
        asdict(spec),
        ResourcePlan(0, 0, 0, 0, 0),
        replica,
    )


class Toy:
    """cores: (device, die) of each engine. pipelined: a consumer on another core lags one frame.

    pm, pn: shares of every layer that allows it (pn: convolutions with partial sums). resident: weights where they fit.
    """

    def __init__(
        self, graph: Graph, spec: EngineSpec, cores: list[tuple[str, str]], *, pipelined: bool = True, pm: int = 1,
        pn: int = 1, resident: bool = False, replicas: int = 1, spread: int = 3,
    ) -> None:  # fmt: skip
        self.graph, self.spec, self.cores, self.spread = graph, spec, cores, spread
        self.pipelined, self.pm, self.pn, self.resident, self.replicas = pipelined, pm, pn, resident, replicas
        self.order = 0

    def plan(self) -> Plan:
        engines, per_replica = [], []
        for r in range(self.replicas):
            for device, die in self.cores:
                engines.append(engine_plan(self.spec, len(engines), device, die, r))
            per_replica.append([e for e in engines if e.replica == r])
        layers: dict[str, list[SlicePlan]] = {}
        hosts: dict[str, HostSegmentPlan] = {}
        for r in range(self.replicas):
            self._replica(r, per_replica[r], layers, hosts)
        nodes = {n.name: n for n in self.graph.nodes}
        return Plan(
            SCHEMA, {}, {}, {}, SolverPlan("FEASIBLE", 0, 0, 0.0, "", (), 0, 1), tuple(engines),
            tuple(LayerPlan(n, nodes[n].op, "toy", tuple(s)) for n, s in layers.items()), (), tuple(hosts.values()), {},
            self.replicas,
        )  # fmt: skip

    def _replica(self, r, engines, layers, hosts) -> None:
        made: dict[str, list[tuple[Box, str, int]]] = {}
        room = {e.id: self.spec.wgt_bytes // 2 for e in engines}

        def stage_of(reads, engine: str) -> int:
            stage = 0
            for tensor, box in reads:
                for b, e, s in made.get(self.graph.root(tensor), []):
                    if intersect(b, box) is not None:
                        stage = max(stage, s + (1 if self.pipelined and e != engine else 0))
            return stage

        for name in self.graph.inputs:
            root = self.graph.root(name)
            if root in self.graph.tensors:
                made[root] = [(whole_box(storage4(self.graph.tensors[root].shape)), "host", 0)]
        for k, step in enumerate(self.graph.steps):
            if isinstance(step, HostSegment):
                reads = [
                    (n, whole_box(storage4(self.graph.tensors[self.graph.root(n)].shape)))
                    for n in step.inputs
                    if self.graph.root(n) in self.graph.tensors
                ]
                stage = stage_of(reads, "host")
                if step.name in hosts:
                    stage = max(stage, hosts[step.name].stage)
                hosts.setdefault(
                    step.name, HostSegmentPlan(step.name, step.nodes, step.reason, stage, self.order, 1000)
                )
                self.order += 1
                for n in step.outputs:
                    root = self.graph.root(n)
                    if root in self.graph.tensors:
                        made[root] = [(whole_box(storage4(self.graph.tensors[root].shape)), "host", stage)]
                continue
            home = k // self.spread
            known = layers.setdefault(step.name, [])
            known.extend(self._layer(step, home, engines, r, made, stage_of, room, len(known)))

    def _layer(self, node: Node, home, engines, r, made, stage_of, room, first: int) -> list[SlicePlan]:
        box = whole_box(storage4(self.graph.tensors[node.y].shape))
        sp = splits(self.graph, node)
        out: list[SlicePlan] = []
        made[node.y] = []

        def add(role: str, b: Box, k0: int, k1: int, engine, reads, partials: int = 2) -> None:
            stage = stage_of(reads, engine.id)
            memory, cost = "stream", None
            spec = replace(self.spec, id=engine.id, die=engine.die)
            if self.resident and isinstance(node, Conv) and role != "reduce":
                cost = task_cost(self.graph, node, role, b, (k0, k1), spec, "resident")
                if cost is not None and cost.resident_bytes + 64 <= room[engine.id]:
                    room[engine.id] -= cost.resident_bytes + 64
                    memory = "resident"
                else:
                    cost = None
            cost = cost or task_cost(self.graph, node, role, b, (k0, k1), spec, "stream", partials)
            assert cost is not None, (node.name, role, b)
            out.append(
                SlicePlan(
                    f"{node.name}#{first + len(out)}",
                    engine.id,
                    role,
                    b,
                    k0,
                    k1,
                    stage,
                    self.order,
                    memory,
                    cost.tile,
                    cost.cycles,
                    r,
                )
            )
            self.order += 1

        shares = _shares(sp.channels, self.pm, sp.quantum) if self.pm > 1 and sp.channels else None
        if self.pn > 1 and sp.reduce >= self.pn:
            parts = []
            for i, (k0, k1) in enumerate(_shares(sp.reduce, self.pn, 1)):
                e = engines[(home + i) % len(engines)]
                reads = list(input_boxes(self.graph, node, "partial", box, (k0, k1)).items())
                add("partial", box, k0, k1, e, reads)
                made[partial_name(node.name, i)] = [(box, e.id, out[-1].stage)]
                parts.append((partial_name(node.name, i), box))
            boxes = [box] if shares is None else [_channels(box, sp.axis, a, b) for a, b in shares]
            for i, b in enumerate(boxes):
                e = engines[(home + i) % len(engines)]
                add("reduce", b, 0, 0, e, [(n, b) for n, _ in parts], len(parts))
                made[node.y].append((b, e.id, out[-1].stage))
            return out
        for i, (a, b) in enumerate(shares or [(box[2 * sp.axis], box[2 * sp.axis + 1])]):
            own = _channels(box, sp.axis, a, b)
            e = engines[(home + i) % len(engines)]
            add("full", own, 0, 0, e, list(input_boxes(self.graph, node, "full", own).items()))
            made[node.y].append((own, e.id, out[-1].stage))
        return out


def _shares(total: int, parts: int, quantum: int) -> list[tuple[int, int]]:
    units = total // quantum
    parts = min(parts, units)
    cuts = [units * i // parts * quantum for i in range(parts + 1)]
    cuts[-1] = total
    return list(itertools.pairwise(cuts))


def _channels(box: Box, axis: int, a: int, b: int) -> Box:
    out = list(box)
    out[2 * axis], out[2 * axis + 1] = a, b
    return tuple(out)  # type: ignore[return-value]
