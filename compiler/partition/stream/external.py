"""Weights in DRAM: what reading them bounds, and how a plan says that they stand there."""

from __future__ import annotations

from dataclasses import replace

from compiler.ir.graph import Conv, Graph
from compiler.isa.stream.table import DRAM, MEMORIES
from compiler.ops.stream.conv import weight_bits
from compiler.ops.stream.memory import banks_of
from compiler.ops.stream.sliced import Join
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from cost_models.primitives import PS_PER_SECOND
from device_db.model import Cluster

BY_BANKS = "all weights through all memory banks"
EXTERNAL = MEMORIES[DRAM]  # --memory external
MOST_NAMED = 5  # layers in a note


def reading_ps(graph: Graph, cluster: Cluster, options: PartitionOptions, devices: int) -> int:
    """Where all weights are to stand in DRAM: no frame of a copy takes less, whatever the folds and banks. Else 0."""
    if options.memory != EXTERNAL:
        return 0
    given = {f[0] for f in options.folds}
    bits = sum(
        n.weight.size * weight_bits(n) * n.y_shape[0] * n.y_shape[2] * n.y_shape[3]
        for n in graph.nodes
        if isinstance(n, Conv) and not isinstance(n, Join) and n.name not in given
    )
    rate = sum(b.bytes_per_second for d in range(devices) for b in banks_of(cluster.devices[d].board))
    return bits * PS_PER_SECOND // (8 * rate)


def external_told(plan: Plan) -> Plan:
    """The plan with a note which layers read their weights from DRAM because the chip is too small."""
    names = [x.name for x in plan.layers if any(s.memory == EXTERNAL for s in x.slices)]
    text = f"weights of {len(names)} layers stand in DRAM, as not all fit the chip: {', '.join(names[:MOST_NAMED])}"
    text += ", …" if len(names) > MOST_NAMED else ""
    return replace(plan, solver=replace(plan.solver, notes=(*plan.solver.notes, text)))
