"""What the memory banks give is a resource of fold and place: seats whose weights in DRAM are read in their interval.

Needs a search for seats at an interval; an option's cycles have the quickest bank for themselves. What all readers of a
device ask of its banks is found when they are seated (`store`), so the search is asked again at longer intervals, with
the bytes that the banks give in each as one more resource, until no shorter one is found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache

from compiler.ir.graph import Graph, Node
from compiler.isa.stream.banks import frame_bytes
from compiler.isa.stream.table import DRAM
from compiler.ops.stream.lower import Option, lower
from compiler.ops.stream.memory import store
from compiler.ops.stream.netlists import Seat
from compiler.ops.stream.parts import Draft, Fold
from compiler.partition.stream.problem import Placement, Problem
from cost_models.primitives import PS_PER_SECOND, ceil_div

TURNS = 5  # of halving the distance between seats that were found and an interval that the banks do not keep
PARTS = (
    (1 << 30, 100),
    (2, 100),
    (2, 80),
)  # of what banks give: large readers come out even over the quick ones, or less
NEAR_PERMILLE = 10  # an interval so near to the best one is none to look for
UNIT_BYTES = 1024  # of the resource

Room = list[int]  # UNIT_BYTES that each die may read in an interval
Within = tuple[Room, int]  # what the dies may read, and the interval that is to be undercut
Search = Callable[[int, Within | None], Placement | None]  # from an interval up


@lru_cache(maxsize=1 << 14)
def reader_of(graph: Graph, node: Node, fold: Fold) -> Draft:
    """The unit that reads a layer's weights."""
    return next(u for u in lower(graph, node, fold).units if u.op == "MEM")


def asked(p: Problem, layer: int, option: Option) -> int:
    """UNIT_BYTES that an option reads a frame."""
    if option.fold.memory != DRAM:
        return 0
    return ceil_div(frame_bytes(reader_of(p.graph, p.nodes[layer], option.fold).fields), UNIT_BYTES)


def reading_ps(p: Problem, seats: Mapping[str, Seat]) -> list[int]:
    """Picoseconds a frame of the busiest bank, by device. Raises FVC208."""
    wanted: dict[int, dict[str, tuple[str, Draft]]] = {}
    for k, name in enumerate(p.names):
        seat = seats[name]
        if seat.fold.memory == DRAM:
            wanted.setdefault(seat.ref.device, {})[name] = (p.nodes[k].name, reader_of(p.graph, p.nodes[k], seat.fold))
    slowest = [0] * len(p.devices)
    for device, readers in wanted.items():
        banks = p.banks[device]
        load = [0] * len(banks)
        for name, place in store(p.devices[device], banks, readers).items():
            load[place.bank] += frame_bytes(readers[name][1].fields)
        times = [ceil_div(x * PS_PER_SECOND, b.bytes_per_second) for x, b in zip(load, banks, strict=True)]
        slowest[device] = max(times)
    return slowest


def within_banks(p: Problem, floor_ps: int, search: Search) -> Placement | None:
    """The seats of the shortest interval found, reading counted; the bound is that of the search without it."""
    first = search(floor_ps, None)
    if first is None:
        return None
    best, low, high = first, first.interval_ps, max(first.interval_ps, *reading_ps(p, first.seats))
    for _ in range(TURNS):
        if (high - low) * 1000 <= high * NEAR_PERMILLE:
            break
        middle = (low + high) // 2
        found = _read_in(p, middle, high, search)
        if found is None or found.interval_ps >= high:
            low = middle
        else:
            best, high = found, found.interval_ps
    return replace(best, interval_ps=high, bound_ps=first.bound_ps, at_bound=first.at_bound)


def _read_in(p: Problem, ps: int, below_ps: int, search: Search) -> Placement | None:
    """Seats at an interval or above it, with the time that they take; less is read where a bank would be late."""
    best: Placement | None = None
    for part in PARTS:
        found = search(ps, ([_gives(p, k, ps, *part) for k in range(len(p.refs))], below_ps))
        if found is None:
            continue
        real = max(found.interval_ps, *reading_ps(p, found.seats))
        if best is None or real < best.interval_ps:
            best = replace(found, interval_ps=real)
        if real <= max(ps, found.interval_ps):
            break
    return best


def _gives(p: Problem, die: int, ps: int, slowest: int, percent: int) -> int:
    """UNIT_BYTES that a die's share of its device's banks gives in an interval: a percentage of what those give that
    are no slower than 1/slowest of the quickest."""
    device = p.refs[die].device
    rates = [b.bytes_per_second for b in p.banks[device]]
    whole = sum(r for r in rates if r * slowest >= max(rates))
    here = sum(r.device == device for r in p.refs)
    return whole * percent * ps // (100 * PS_PER_SECOND * UNIT_BYTES * here)
