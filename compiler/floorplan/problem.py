"""Floorplan problems as frozen records: fixed kernels (FixedCase) and fold-and-place (JointCase).

Needs nothing; every index in here counts from 0 in file order of ids, amounts are integers (demand rounded up,
capacity down). Reading them from JSON is `read`'s work.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

Versions = tuple[tuple[tuple[int, ...], ...], ...]  # node, version, resource type


@dataclass(frozen=True, slots=True)
class Edge:
    """A stream between kernels: wires (bits wide) on an SLL, bits a second on a link."""

    src: int
    dst: int
    wires: int
    bps: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A directed link between two slots; a limit of None does not bind. `cost` in units of 1/FixedCase.cost_scale."""

    src: int
    dst: int
    cost: int
    max_wires: int | None
    max_bps: int | None


@dataclass(frozen=True, slots=True)
class Average:
    """Mean utilisation of the listed resource types in every slot: at most `limit`."""

    listed: tuple[int, ...]
    limit: Fraction


@dataclass(frozen=True)
class FixedCase:
    """Kernels with known resources: choose a version and a slot each, at the least sum of connection costs."""

    name: str
    resources: tuple[str, ...]
    node_names: tuple[str, ...]
    versions: Versions
    edges: tuple[Edge, ...]
    slot_ids: tuple[int, ...]
    capacity: tuple[tuple[int, ...], ...]  # slot, type
    budget: tuple[tuple[int, ...], ...]  # slot, type: floor(capacity * limit)
    averages: tuple[Average, ...]
    connections: tuple[Connection, ...]
    allowed: tuple[frozenset[int], ...]  # node -> slots
    together: tuple[tuple[int, ...], ...]  # groups of nodes that share a slot
    cost_scale: int = 1

    @cached_property
    def link(self) -> dict[tuple[int, int], Connection]:
        return {(c.src, c.dst): c for c in self.connections}

    @property
    def nodes(self) -> range:
        return range(len(self.versions))

    @property
    def slots(self) -> range:
        return range(len(self.slot_ids))


@dataclass(frozen=True, slots=True)
class Boundary:
    """Between two neighbours on the line: SLL wires, or bits a cycle of a link; None forbids every crossing."""

    wires: int | None
    bits_per_cycle: int | None

    @property
    def closed(self) -> bool:
        return self.wires is None and self.bits_per_cycle is None


@dataclass(frozen=True)
class JointCase:
    """Fold and place: versions with cycles, slots on a line, the least interval T = largest cycles picked."""

    name: str
    resources: tuple[str, ...]
    node_names: tuple[str, ...]
    out_bits: tuple[int, ...]
    cycles: tuple[tuple[int, ...], ...]  # node, version
    versions: Versions
    edges: tuple[tuple[int, int], ...]
    slot_ids: tuple[int, ...]
    capacity: tuple[tuple[int, ...], ...]
    boundaries: tuple[Boundary, ...]
    allowed: tuple[frozenset[int], ...]
    devices: tuple[int, ...]  # slot -> device, for the two-level search

    @property
    def nodes(self) -> range:
        return range(len(self.versions))

    @property
    def slots(self) -> range:
        return range(len(self.slot_ids))


Case = FixedCase | JointCase


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of one case. status: OPTIMAL (bound met), FEASIBLE, INFEASIBLE (proved) or UNKNOWN (limit reached).

    objective and bound: connection cost, or the interval in cycles; None where there is none.
    assignment: (slot index, version) a node, empty without a plan. details: what else a reader wants to know.
    """

    name: str
    status: str
    objective: int | None
    bound: int | None
    assignment: tuple[tuple[int, int], ...]
    proved_by: str
    proved_scope: tuple[str, ...]
    details: tuple[tuple[str, object], ...] = ()

    @property
    def gap(self) -> float | None:
        """(objective - bound) / objective; 0 when proven optimal, None without a plan."""
        if self.objective is None or self.bound is None:
            return None
        if self.objective <= self.bound:
            return 0.0
        return round((self.objective - self.bound) / self.objective, 6)
