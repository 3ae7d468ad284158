"""A closed-form estimate of a layer's cycles on an engine: good enough to rank engine candidates, never a bound.

Needs the node and the spec; uses cost_models.primitives only. The exact cost comes from compiler.ops.
"""

from __future__ import annotations

from math import prod

from compiler.ir.graph import ArgMax, Binary, Conv, GlobalAverage, Graph, Node, Pool, Table
from compiler.isa.program import EngineSpec
from cost_models.primitives import best_mac_mode, ceil_div


def estimate_cycles(graph: Graph, node: Node, spec: EngineSpec) -> int:
    """Busiest of MAC plus vector unit, load port, store port and bank for the whole layer."""
    out = graph.tensors[node.y].bytes
    read = sum(graph.tensors[t].bytes for t in dict.fromkeys(node.inputs) if t in graph.tensors)
    lanes = spec.vector_lanes
    compute, again = 0, 1
    if isinstance(node, Conv):
        n, m, h, w = node.y_shape
        kh, kw = node.weight.shape[2:]
        k = node.weight.shape[1]
        if (kh, kw) == (1, 1) and node.axes[1] != 1:
            mac = n * h * w * ceil_div(m, spec.tm) * ceil_div(k, spec.tn)
            vector = 2 * n * m * h * w // lanes
        else:
            mac = n * best_mac_mode(m, k, node.groups, kh, kw, h, w, spec.tm, spec.tn)[1]
            vector = n * m * h * w // lanes
        compute = mac + vector
        weights = node.weight.size
        tile_in = max(1, node.x_shape[1] * node.x_shape[2] * node.x_shape[3])
        visits = ceil_div(tile_in, max(1, spec.act_bytes // 3))
        read += weights * max(1, n) if 2 * weights <= spec.wgt_bytes else weights * max(1, min(visits, 64))
    elif isinstance(node, Pool):
        compute = prod(node.y_shape) * prod(node.kernel) // lanes
    elif isinstance(node, GlobalAverage):
        compute = prod(node.x_shape) // lanes
    elif isinstance(node, ArgMax):
        compute = prod(node.dims) // lanes
    elif isinstance(node, Binary | Table):
        compute = graph.tensors[node.y].elements // lanes
    else:
        compute = graph.tensors[node.y].elements // lanes
    bank = ceil_div((read + out) * spec.clock_khz * 1000, spec.bank_bytes_per_second)
    return max(compute, again * read // spec.ld_bytes_per_cycle, out // spec.st_bytes_per_cycle, bank)
