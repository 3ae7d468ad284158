"""Costs of tasks, remembered by shape: the one door from the partitioner to compiler.ops.

Two nodes of the same geometry cost the same, whatever their weights; so the key leaves out names and array contents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from compiler.ir.graph import Conv, Copy, Graph, Node, Thresholds
from compiler.isa.program import EngineSpec
from compiler.ops.registry import bare
from compiler.partition.contention import Timeline, run
from compiler.partition.protocols import Ops
from compiler.plan.model import Box
from compiler.requant import entry_bytes

_NAMES = {"name", "x", "y", "a", "b", "xs", "params", "op"}


@dataclass(frozen=True, slots=True)
class TaskNumbers:
    """What one task takes: `cycles` alone on an idle core (what the plan states), `busy` from the barrier before it to
    its last store with first weights already there (what it adds to a core's interval), `least` the same with its
    tensors in the fewest runs of bytes (what it adds however they come to lie). `loads` is what its loads take at least
    with the bank to themselves: the first of those that may come before its data, all, and those behind the data."""

    cycles: int
    busy: int
    least: int
    loads: tuple[int, int, int]
    resident_bytes: int
    constant_bytes: int
    read_bytes: int
    write_bytes: int
    tile: tuple[tuple[str, int], ...]
    timeline: Timeline


class _FirstAhead:
    """A timeline whose first loads that need no earlier result are already done."""

    def __init__(self, t: Timeline) -> None:
        first = next((i for i, m in enumerate(t.ld_main) if m), 0)
        self.ld_main, self.cx_head, self.cx_tail, self.st = t.ld_main, t.cx_head, t.cx_tail, t.st
        self.ld_ahead = tuple(0 if i <= first else a for i, a in enumerate(t.ld_ahead))
        self.ld_bus_bytes = tuple(
            b * m // (a + m) if i <= first and a + m else b
            for i, (a, m, b) in enumerate(zip(t.ld_ahead, t.ld_main, t.ld_bus_bytes, strict=True))
        )
        self.st_bus_bytes = t.st_bus_bytes


def busy_cycles(timeline: Timeline, spec: EngineSpec) -> int:
    """Cycles from the barrier before a task to its last store with its first weights already there and the bank to
    itself. Barriers keep these spans of a core's tasks apart, so no interval is shorter than their sum."""
    rate = spec.bank_bytes_per_second / (spec.clock_khz * 1000)
    return int(run([_FirstAhead(timeline)], rate).end[0])


def least_loads(*timelines: Timeline) -> tuple[int, int, int]:
    """Cycles of loads, the least of these timelines: of the first group those that need no earlier result, of all
    groups, and from the first on that needs one."""
    first, total, behind = [], [], []
    for t in timelines:
        begin = next((i for i, m in enumerate(t.ld_main) if m), 0)
        first.append(t.ld_ahead[0])
        total.append(sum(t.ld_ahead) + sum(t.ld_main))
        behind.append(total[-1] - sum(t.ld_ahead[: begin + 1]))
    return min(first), min(total), min(behind)


def shape_key(graph: Graph, node: Node) -> tuple[object, ...]:
    """Everything of a node that a cost can depend on."""

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return (value.shape, value.dtype.str)
        if isinstance(value, tuple):
            return tuple(plain(v) for v in value)
        if isinstance(value, Thresholds):  # of which only the table space of a channel costs anything
            return entry_bytes(node) if isinstance(node, Conv) else None
        if isinstance(value, Copy):
            return (
                value.source,
                value.dims,
                value.src_offset,
                value.src_strides,
                value.dst_offset,
                value.dst_strides,
                value.table is None,
            )
        return value

    values = tuple(plain(getattr(node, f.name)) for f in fields(node) if f.name not in _NAMES)
    reads = tuple((t in graph.constants, graph.tensors[t].shape if t in graph.tensors else ()) for t in node.inputs)
    same = len(set(node.inputs))
    out = graph.tensors[node.y]
    return (type(node).__name__, values, reads, same, out.shape, out.dtype.value)


class CostBook:
    """Remembers costs for one graph."""

    def __init__(self, graph: Graph, ops: Ops) -> None:
        self.graph, self.ops = graph, ops
        self._shape: dict[str, int] = {}
        self._shapes: dict[tuple[object, ...], int] = {}
        self._known: dict[tuple[object, ...], TaskNumbers | None] = {}
        for node in graph.nodes:
            key = shape_key(graph, node)
            self._shape[node.name] = self._shapes.setdefault(key, len(self._shapes))

    def shape_class(self, node: Node) -> int:
        """Layers of one class cost the same everywhere."""
        return self._shape[node.name]

    def cost(
        self,
        node: Node,
        role: str,
        box: Box,
        reduce_range: tuple[int, int],
        spec: EngineSpec,
        memory: str,
        partials: int = 2,
    ) -> TaskNumbers | None:
        """The task's numbers, or None where the engine cannot hold a tile of it.

        partials: how many partial sums a reduce slice adds."""
        key = (self._shape[node.name], role, box, reduce_range, bare(spec), memory, partials)
        if key in self._known:
            return self._known[key]
        got = self.ops.task_cost(self.graph, node, role, box, reduce_range, spec, memory, partials)
        numbers: TaskNumbers | None = None
        if got is not None:
            numbers = TaskNumbers(
                cycles=got.cycles,
                busy=busy_cycles(got.usual, spec),
                least=min(busy_cycles(got.timeline, spec), busy_cycles(got.usual, spec)),
                loads=least_loads(got.timeline, got.usual),
                resident_bytes=got.resident_bytes,
                constant_bytes=got.constant_bytes,
                read_bytes=sum(got.usual.ld_bus_bytes),
                write_bytes=sum(got.usual.st_bus_bytes),
                tile=tuple(sorted(got.tile.items())),
                timeline=got.timeline,
            )
        self._known[key] = numbers
        return numbers
