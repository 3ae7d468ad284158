"""What the netlists of a plan are made of: seats of layers, units and streams of a device, links between devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from compiler.ir.graph import Graph
from compiler.isa.stream.ports import Port, ports
from compiler.isa.stream.program import FabricBank, UnitRow
from compiler.ops.stream.parts import Draft, Fold
from device_db.model import Cluster, DieRef, Resources

HOST = -1  # as a device


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a layer stands and how it is folded."""

    ref: DieRef
    fold: Fold


def own_name(layer: str, copy: int) -> str:
    """What a layer of a copy of the net is called among its seats, owners and FIFOs; the first copy's have the layer's
    name. The separator stands in no name that a file of a model shows."""
    return f"{layer}\x1f{copy}" if copy else layer


@dataclass(frozen=True, slots=True)
class Bridging:
    """How the boundary of a region is built: bridges on one die; their stages and frame slots.

    frames: by (tensor, whether it leaves)."""

    die: int
    stage: int
    lag: int
    frames: Mapping[tuple[str, bool], int]


@dataclass(slots=True)
class Wire:
    """A stream of a fabric: (unit, port) to (unit, port), and the layer whose FIFO it is."""

    source: tuple[int, int]
    target: tuple[int, int]
    owner: str
    port: Port
    hops: int = 0
    joins: bool = False  # its reader waits for another stream too
    tensor: str = ""  # what it carries, where it comes from another engine


@dataclass(slots=True)
class Net:
    """One device's netlist in the making."""

    device: int
    rank: int
    drafts: list[Draft] = field(default_factory=list)
    dies: list[int] = field(default_factory=list)  # a die a unit
    owners: list[str] = field(default_factory=list)  # a layer (`own_name`) a unit
    rows: list[UnitRow] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    banks: list[FabricBank] = field(default_factory=list)  # where weights stand in DRAM: all of the device's
    waiting: list[tuple[tuple[int, int], tuple[int, int], str]] = field(default_factory=list)

    def add(self, draft: Draft, die: int, owner: str, engine: str, role: str) -> int:
        """Its number. The layer that it belongs to is told without its copy, which host messages tell."""
        self.drafts.append(draft)
        self.dies.append(die)
        self.owners.append(owner)
        self.rows.append(UnitRow(engine, owner.partition("\x1f")[0], role, "", "", ()))
        return len(self.drafts) - 1

    def port(self, unit: int, port: int) -> Port:
        return ports(self.drafts[unit].instruction()).outputs[port]

    def wire(self, source: tuple[int, int], target: tuple[int, int], owner: str) -> None:
        hops = abs(self.dies[source[0]] - self.dies[target[0]])
        self.wires.append(Wire(source, target, owner, self.port(*source), hops))


@dataclass(frozen=True, slots=True)
class Link:
    """A tensor from one device (or the host) to another, one message a frame."""

    id: int
    tensor: str
    source: int  # device or HOST
    target: int
    source_owner: str  # layer that sends, "" the host
    target_owner: str
    bytes: int
    bits: int
    route: tuple[str, ...]  # network and PCIe links
    copy: int = 0  # of the net


@dataclass(slots=True)
class Assembly:
    """All netlists of a plan, and the channels between them."""

    nets: list[Net]
    links: list[Link]
    excess: dict[str, Resources] = field(default_factory=dict)  # layer -> what it takes beyond its units' estimate
    dies: dict[str, DieRef] = field(default_factory=dict)  # of each layer
    copies: int = 1

    def wires_of(self, owner: str) -> list[Wire]:
        """The streams whose FIFOs belong to a layer, in order."""
        return [w for n in self.nets for w in n.wires if w.owner == owner]


def engine_id(cluster: Cluster, graph: Graph, layer: str, ref: DieRef, copy: int = 0) -> str:
    """ "u280-0/SLR1/7": device, die, and the layer's number in the graph; copies count on."""
    number = next(k for k, n in enumerate(graph.nodes) if n.name == layer)
    return f"{cluster.die_name(ref)}/{number + copy * len(graph.nodes)}"
