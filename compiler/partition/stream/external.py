"""Weights in DRAM: which layers' first, what reading them bounds, and how a plan says that they stand there.

Needs a graph and boards. A layer's weights are read once for every position of its result, so a bit on the chip saves
the more reading the more positions there are: the layers of few positions leave first, of these the small ones, as a
layer reads from one bank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from compiler.ir.graph import Conv, Graph
from compiler.isa.stream.table import DRAM, MEMORIES
from compiler.ops.stream.conv import weight_bits
from compiler.ops.stream.memory import banks_of
from compiler.ops.stream.sliced import Join
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.copies import rates
from compiler.partition.stream.problem import Problem
from compiler.partition.stream.told import ON_CHIP
from compiler.plan.model import Plan
from cost_models.primitives import PS_PER_SECOND
from device_db.model import Cluster

BY_BANKS = "all weights through all memory banks"
EXTERNAL = MEMORIES[DRAM]  # --memory external
EVEN_PERCENT = 80  # of all banks' reading that is counted on: layers do not spread evenly
MOST_NAMED = 5  # layers in a note


class Order:
    """The layers with weights in the order in which they should leave the chip."""

    def __init__(self, graph: Graph, cluster: Cluster, devices: int) -> None:
        weighted = [n for n in graph.nodes if isinstance(n, Conv) and not isinstance(n, Join)]
        weighted.sort(key=lambda n: (positions(n), n.weight.size * weight_bits(n), n.name))
        self.layers = [n.name for n in weighted]
        self.bits = [read_bits(n) for n in weighted]
        self.rate = rate_of(cluster, devices)

    def first(self, count: int) -> frozenset[str]:
        return frozenset(self.layers[:count])

    def read_in(self, ps: int) -> int:
        """How many of the first layers all banks together read in this time."""
        count, room = 0, self.rate * 8 * ps * EVEN_PERCENT // (100 * PS_PER_SECOND)
        while count < len(self.layers) and room >= self.bits[count]:
            room -= self.bits[count]
            count += 1
        return count

    def fewest(self, problem: Callable[[frozenset[str]], Problem]) -> int:
        """The fewest that have to leave: with less, all dies as one are too small for the smallest engines."""
        low, high = 1, len(self.layers)
        while low < high:
            middle = (low + high) // 2
            if too_small(problem(self.first(middle))):
                low = middle + 1
            else:
                high = middle
        return low


def positions(node: Conv) -> int:
    """Times a frame that all weights of a layer pass."""
    return node.y_shape[0] * node.y_shape[2] * node.y_shape[3]


def read_bits(node: Conv) -> int:
    """Bits of weights that a layer reads a frame."""
    return int(node.weight.size) * weight_bits(node) * positions(node)


def rate_of(cluster: Cluster, devices: int) -> int:
    """Bytes a second of all banks together."""
    return sum(b.bytes_per_second for d in range(devices) for b in banks_of(cluster.devices[d].board))


def too_small(p: Problem) -> bool:
    """Whether prices prove that the smallest engines of all layers do not fit the merged die."""
    return not rates(p, 0, most=1)


def reading_ps(graph: Graph, cluster: Cluster, options: PartitionOptions, devices: int) -> int:
    """Where all weights are to stand in DRAM: no frame of a copy takes less, whatever the folds and banks. Else 0."""
    if options.memory != EXTERNAL:
        return 0
    given = {f[0] for f in options.folds}
    nodes = [n for n in graph.nodes if isinstance(n, Conv) and not isinstance(n, Join) and n.name not in given]
    return sum(map(read_bits, nodes)) * PS_PER_SECOND // (8 * rate_of(cluster, devices))


def styles_told(external: frozenset[str], options: PartitionOptions) -> str:
    """What a proof over these layers' memory styles says of them."""
    if options.memory == EXTERNAL:
        return "weights in DRAM of each layer"
    return ON_CHIP if not external else f"{ON_CHIP}, and in DRAM of {len(external)} layers of fewest positions"


def external_told(plan: Plan) -> Plan:
    """The plan with a note which layers read their weights from DRAM because the chip is too small."""
    names = [x.name for x in plan.layers if any(s.memory == EXTERNAL for s in x.slices)]
    text = f"weights of {len(names)} layers stand in DRAM, as not all fit the chip: {', '.join(names[:MOST_NAMED])}"
    text += ", …" if len(names) > MOST_NAMED else ""
    return replace(plan, solver=replace(plan.solver, notes=(*plan.solver.notes, text)))
