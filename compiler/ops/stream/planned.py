"""A streaming plan read back: seats, folds and FIFO depths of its layers."""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.ops.stream.assemble import Seat, own_name
from compiler.ops.stream.parts import Fold
from compiler.plan.model import EnginePlan, Plan
from device_db.model import Cluster, DieRef


def seats_of(plan: Plan, cluster: Cluster) -> dict[str, Seat]:
    """Layer (`own_name`: of every copy) -> die and fold, as the plan has them."""
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    return {name: Seat(_ref(dies, e), fold_of(e)) for name, e in engines_of(plan).items()}


def engines_of(plan: Plan) -> dict[str, EnginePlan]:
    """The engine of every layer of every copy, copy by copy in the plan's order of layers."""
    engines = {e.id: e for e in plan.engines}
    parts = [(layer.name, s) for layer in plan.layers for s in layer.slices]
    return {own_name(n, c): engines[s.engine] for c in range(plan.replicas) for n, s in parts if s.replica == c}


def copy_of(seats: dict[str, Seat], graph: Graph, copy: int) -> dict[str, Seat]:
    """The seats of one copy, under the layers' own names."""
    return {n.name: seats[own_name(n.name, copy)] for n in graph.nodes}


def _ref(dies: dict[str, DieRef], e: EnginePlan) -> DieRef:
    return dies[f"{e.device}/{e.die}"]


def fold_of(e: EnginePlan) -> Fold:
    """A streaming engine's fold."""
    variant, memory = VARIANTS.index(e.parameters["variant"]), MEMORIES.index(e.parameters["memory"])
    return Fold(e.fold["pe"], e.fold["simd"], variant, memory)


def depths_of(plan: Plan) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Layer (`own_name`) -> depths and memories of its FIFOs."""
    words, memory = {}, {}
    for name, e in engines_of(plan).items():
        words[name] = list(e.parameters["fifo_depths"])
        memory[name] = [MEMORIES.index(m) for m in e.parameters["fifo_memories"]]
    return words, memory
