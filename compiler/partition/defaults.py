"""The real neighbours behind protocols.py: compiler.ops and device_db.topology."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Graph, Node
from compiler.isa.program import EngineSpec
from compiler.ops import registry
from compiler.partition.contention import Timeline
from compiler.plan.model import Box
from cost_models.primitives import message_ps
from device_db.model import Cluster, DieRef
from device_db.topology import link_specs, route


@dataclass(frozen=True, slots=True)
class RealCost:
    """A TaskCost together with its timeline."""

    cycles: int
    resident_bytes: int
    constant_bytes: int
    tile: dict[str, int]
    timeline: Timeline
    usual: Timeline


class RealOps:
    """compiler.ops as the Ops protocol."""

    def task_cost(
        self,
        graph: Graph,
        node: Node,
        role: str,
        box: Box,
        reduce_range: tuple[int, int],
        engine: EngineSpec,
        memory: str,
        partials: int,
    ) -> RealCost | None:
        got = registry.task_cost(graph, node, role, box, reduce_range, engine, memory, partials)
        if got is None:
            return None
        t = registry.task_timeline(graph, node, role, box, reduce_range, engine, got.tile, memory, partials)
        stored = registry.likely_stored(graph, node, role, box, reduce_range)
        usual = registry.task_timeline(graph, node, role, box, reduce_range, engine, got.tile, memory, partials, stored)
        return RealCost(got.cycles, got.resident_bytes, got.constant_bytes, got.tile, t, usual)

    def input_boxes(
        self, graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int]
    ) -> dict[str, Box]:
        return registry.input_boxes(graph, node, role, box, reduce_range)

    def splits(self, graph: Graph, node: Node) -> list[tuple[str, int, int, int]]:
        s = registry.splits(graph, node)
        out = [(c.factor, c.axis, c.extent, c.quantum) for c in s.cuts]
        return [*out, ("Pn", -1, s.reduce, 1)] if s.reduce else out

    def resident_budget_bytes(self, engine: EngineSpec) -> int:
        return registry.resident_budget_bytes(engine)


class ClusterRoutes:
    """Routes of one cluster, remembered."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.specs = link_specs(cluster)
        self._known: dict[tuple[DieRef | None, DieRef | None], tuple[str, ...]] = {}

    def route(self, source: DieRef | None, target: DieRef | None) -> tuple[str, ...]:
        key = (source, target)
        if key not in self._known:
            self._known[key] = route(self.cluster, source, target)
        return self._known[key]

    def transfer_ps(self, links: tuple[str, ...], bits: int) -> int:
        """Picoseconds of a message alone on its route."""
        if not links:
            return 0
        rate = min(self.specs[k][0] for k in links)
        return message_ps(-(-bits // 8), rate, sum(self.specs[k][1] for k in links))
