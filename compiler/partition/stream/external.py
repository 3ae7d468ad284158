"""Weights in DRAM: which layers' first, what reading them bounds, and how a plan says that they stand there.

Needs a graph and boards. A layer's weights are read once for every position of its result, so a bit on the chip saves
the more reading the more positions there are: the layers of few positions leave first, of these the small ones, as a
layer reads from one bank.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import Conv, Graph
from compiler.isa.stream.table import DRAM, MEMORIES
from compiler.ops.stream.conv import weight_bits
from compiler.ops.stream.lower import Option
from compiler.ops.stream.sliced import Join
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.copies import rates
from compiler.partition.stream.joined import Merged, Reading
from compiler.partition.stream.problem import TYPES, Problem, amounts
from compiler.partition.stream.reading import SHARES_BITS, positions, rate_of, read_bits, read_bytes
from compiler.partition.stream.slicing import refuted
from compiler.partition.stream.told import ON_CHIP
from compiler.plan.model import Plan
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster

BY_BANKS = "all weights through all memory banks"
BY_READING = "prices on the merged die, reading through all memory banks counted, on one device width converters too"
EXTERNAL = MEMORIES[DRAM]  # --memory external
EVEN_PERCENT = 80  # of all banks' reading that is counted on: layers do not spread evenly
MOST_NAMED = 5  # layers in a note
EXACT = 400  # parts of an interval: the bound of the reading is known to one of them


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


def read_at_least(p: Problem, bytes_per_second: int, bound_ps: int, plan_ps: int) -> int:
    """The highest interval up to `plan_ps` below which not everything fits all dies as one while the weights that stand
    in DRAM come through all banks as one; `bound_ps` where no layer may have them there, or no more is proved. On one
    device width converters are counted, too.

    bytes_per_second: of all banks. A shorter interval leaves room for fewer on the chip, and time to read less."""
    if p.together or not any(o.fold.memory == DRAM for own in p.every for o in own):
        return bound_ps
    whole = [read_bytes(n) for n in p.nodes]
    cycle = p.cycle()
    layers = [
        (np.array([o.cycles * cycle for o in own]), np.array([amounts(o) for o in own], np.int64), _reads(own, size))
        for own, size in zip(p.every, whole, strict=True)
    ]
    dies = [sum(b[r] for b in p.budgets) for r in range(len(TYPES))]

    def nothing_fits(t_ps: int) -> bool:
        room = bytes_per_second * t_ps // PS_PER_SECOND
        unit = max(1, room >> SHARES_BITS)
        groups = []
        for times, taken, read in layers:
            quick = times <= t_ps
            columns = np.column_stack([taken[quick], read[quick] // unit])
            groups.append([[columns] if len(columns) else None])
        reading = Reading(ceil_div(room, unit), [size // unit for size in whole])
        if refuted(groups, np.array([*dies, reading.room], np.int64)):
            return True
        return len(p.devices) == 1 and Merged(p, t_ps, reading).refuted()

    low, high = bound_ps - 1, plan_ps  # none below the bound; at `high` there may be one
    step = max(1, plan_ps // EXACT)
    middle = plan_ps - step  # that the plan is the best is likely
    while high - low > step:
        if nothing_fits(middle):
            low = middle
        else:
            high = middle
        middle = (low + high) // 2
    return max(bound_ps, low + 1)


def _reads(options: tuple[Option, ...], size: int) -> NDArray[np.int64]:
    """Bytes a frame that each option of a layer reads of its weights, at least."""
    return np.array([size if o.fold.memory == DRAM else 0 for o in options], np.int64)


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
