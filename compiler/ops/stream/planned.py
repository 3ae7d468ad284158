"""A streaming plan read back: seats, folds and FIFO depths of its layers."""

from __future__ import annotations

from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.ops.stream.assemble import Seat
from compiler.ops.stream.parts import Fold
from compiler.plan.model import EnginePlan, Plan
from device_db.model import Cluster, DieRef


def seats_of(plan: Plan, cluster: Cluster) -> dict[str, Seat]:
    """Layer -> die and fold, as the plan has them."""
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    engines = {e.id: e for e in plan.engines}
    out = {}
    for layer in plan.layers:
        e = engines[layer.slices[0].engine]
        out[layer.name] = Seat(_ref(dies, e), fold_of(e))
    return out


def _ref(dies: dict[str, DieRef], e: EnginePlan) -> DieRef:
    return dies[f"{e.device}/{e.die}"]


def fold_of(e: EnginePlan) -> Fold:
    """A streaming engine's fold."""
    variant, memory = VARIANTS.index(e.parameters["variant"]), MEMORIES.index(e.parameters["memory"])
    return Fold(e.fold["pe"], e.fold["simd"], variant, memory)


def depths_of(plan: Plan) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Layer -> depths and memories of its FIFOs."""
    engines = {e.id: e for e in plan.engines}
    words, memory = {}, {}
    for layer in plan.layers:
        p = engines[layer.slices[0].engine].parameters
        words[layer.name] = list(p["fifo_depths"])
        memory[layer.name] = [MEMORIES.index(m) for m in p["fifo_memories"]]
    return words, memory
