"""What the partitioner asks of its neighbours, as protocols: tests give small fakes, `defaults.py` the real rooms."""

from __future__ import annotations

from typing import Protocol

from compiler.ir.graph import Graph, Node
from compiler.isa.program import EngineSpec
from compiler.partition.contention import Timeline
from compiler.plan.model import Box
from device_db.model import DieRef


class Cost(Protocol):
    """What one task takes of its engine a frame."""

    @property
    def cycles(self) -> int: ...  # a frame on an idle engine, alone on its bank

    @property
    def tile(self) -> dict[str, int]: ...

    @property
    def timeline(self) -> Timeline: ...  # with its operands dense, as no buffer is faster to move

    @property
    def usual(self) -> Timeline: ...  # with its operands in buffers as they mostly are

    @property
    def resident_bytes(self) -> int: ...  # scratchpad bytes that it holds for ever

    @property
    def constant_bytes(self) -> int: ...  # DRAM bytes for weights and tables


class Ops(Protocol):
    """The operator room: costs, needs and legal splits of a node."""

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
    ) -> Cost | None: ...

    def input_boxes(
        self, graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int]
    ) -> dict[str, Box]: ...

    def splits(self, graph: Graph, node: Node) -> list[tuple[str, int, int, int]]:
        """(factor, storage axis of the output or -1, extent, quantum) of each legal split."""
        ...

    def resident_budget_bytes(self, engine: EngineSpec) -> int: ...


class Routes(Protocol):
    """The topology: which links a message takes; None is the host."""

    def route(self, source: DieRef | None, target: DieRef | None) -> tuple[str, ...]: ...

    def transfer_ps(self, links: tuple[str, ...], bits: int) -> int: ...
