"""Copies of a network as streaming engines on the dies of a cluster, as the floorplanner's two kinds of problem.

Needs a low-bit graph and a cluster of one kind of board in a chain. `joint` offers every legal fold of every layer
(fold and place, fvc); `fixed` has one fold a layer (the released Elastic-DF formulation). Both see the same dies, the
same share held back for what joins layers, the same streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.floorplan.problem import Boundary, Connection, Edge, FixedCase, JointCase
from compiler.ir.graph import Graph, Node
from compiler.ops.stream.lower import Option, ladder
from compiler.ops.stream.parts import stream_inputs
from compiler.ops.stream.programs import fabric_dies
from compiler.partition.constraints.rows import stream_wires
from device_db.model import Cluster, DieRef
from device_db.topology import link_specs, transport

TYPES = ("lut", "ff", "bram18", "uram", "dsp")
SLL_COST, LINK_COST = 1, 10  # of an edge, as in finn-plus 1.6.1 platforms.py
PASSING_WIRES = 1000  # of each SLL boundary a network link of the device: what may pass on its way to the port's die


@dataclass(frozen=True)
class Streaming:
    """Layers with their options (quickest first), dies in the order of the line, edges with bits a frame."""

    graph: Graph
    cluster: Cluster
    nodes: tuple[Node, ...]
    options: tuple[tuple[Option, ...], ...]
    refs: tuple[DieRef, ...]
    budget: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[int, int], ...]
    bits: tuple[int, ...]  # of a node's result, a frame, as messages carry it: whole bytes an element
    clock_khz: int
    link_bits_per_cycle: int

    @property
    def total(self) -> tuple[int, ...]:
        return tuple(sum(b[r] for b in self.budget) for r in range(len(TYPES)))


def amounts(option: Option) -> tuple[int, ...]:
    return tuple(getattr(option.resources, t) for t in TYPES)


def streaming(graph: Graph, cluster: Cluster, held_percent: int) -> Streaming:
    """held_percent: of every die, for FIFOs, converters and duplicators between layers."""
    board = cluster.devices[0].board
    refs, budget = [], []
    for d in range(len(cluster.devices)):
        dies = list(enumerate(fabric_dies(cluster, d)))
        port_up = board.network_die is not None and 2 * board.network_die >= len(dies) - 1
        if (d == 0) != port_up:  # the first device ends at its port, the others start there
            dies.reverse()
        for k, die in dies:
            refs.append(DieRef(d, k))
            budget.append(tuple(getattr(die, t) * (100 - held_percent) // 100 for t in TYPES))
    uram = any(b[TYPES.index("uram")] for b in budget)
    maker = {n.y: k for k, n in enumerate(graph.nodes)}
    between = []
    for k, n in enumerate(graph.nodes):
        between += [(maker[x], k) for x in dict.fromkeys(stream_inputs(graph, n)) if x in maker]
    clock = min(die.clock_khz for die in board.dies)
    rates = [rate for name, (rate, _) in link_specs(cluster).items() if transport(name) == "Ethernet"]
    return Streaming(
        graph, cluster, graph.nodes, tuple(ladder(graph, n, board.family, uram) for n in graph.nodes), tuple(refs),
        tuple(budget), tuple(between), tuple(8 * graph.tensors[n.y].bytes for n in graph.nodes), clock,
        min(rates) // (1000 * clock) if rates and len(cluster.devices) > 1 else 0,
    )  # fmt: skip


def _sll(p: Streaming, a: DieRef, b: DieRef) -> int:
    """Wires between two neighbouring dies, less what may only pass."""
    board = p.cluster.devices[a.device].board
    links = (a.device > 0) + (a.device + 1 < len(p.cluster.devices))
    return max(0, board.sll_wires[min(a.die, b.die)] - PASSING_WIRES * links)


def names(p: Streaming, copies: int) -> tuple[str, ...]:
    return tuple(f"{n.name}@{c}" for c in range(copies) for n in p.nodes)


def edges(p: Streaming, copies: int) -> list[tuple[int, int]]:
    n = len(p.nodes)
    return [(c * n + src, c * n + dst) for c in range(copies) for src, dst in p.edges]


def joint(p: Streaming, name: str, copies: int) -> JointCase:
    """Fold and place: every option of every layer of every copy; the copies share nothing but the dies."""
    boundaries = []
    for a, b in zip(p.refs, p.refs[1:], strict=False):
        boundaries.append(
            Boundary(_sll(p, a, b), None) if a.device == b.device else Boundary(None, p.link_bits_per_cycle)
        )
    everywhere = frozenset(range(len(p.refs)))
    return JointCase(
        name, TYPES, names(p, copies), p.bits * copies,
        tuple(tuple(o.cycles for o in own) for own in p.options) * copies,
        tuple(tuple(amounts(o) for o in own) for own in p.options) * copies, tuple(edges(p, copies)),
        tuple(range(len(p.refs))), p.budget, tuple(boundaries), (everywhere,) * (copies * len(p.nodes)),
        tuple(r.device for r in p.refs),
    )  # fmt: skip


def pick(p: Streaming, interval: int) -> list[int] | None:
    """One fold a layer that keeps the interval: that which takes the least share of the scarcest resource of all dies
    together; None if a layer has none."""
    total = [max(1, t) for t in p.total]
    out = []
    for own in p.options:
        ranked = []
        for k, o in enumerate(own):
            if o.cycles <= interval:
                shares = [a / t for a, t in zip(amounts(o), total, strict=True)]
                ranked.append((max(shares), sum(shares), k))
        if not ranked:
            return None
        out.append(min(ranked)[2])
    return out


def fixed(p: Streaming, picks: Sequence[int], interval: int, name: str, copies: int) -> FixedCase:
    """The released formulation: kernels of known resources, edges between neighbouring dies (cost 1) or the port dies
    of neighbouring devices (cost 10), no way round over a third die."""
    at = {r: s for s, r in enumerate(p.refs)}
    board = p.cluster.devices[0].board
    connections = []
    for a, s in at.items():
        if a.die + 1 < len(board.dies):
            t = at[DieRef(a.device, a.die + 1)]
            wires = board.sll_wires[a.die]
            connections += [Connection(s, t, SLL_COST, wires, None), Connection(t, s, SLL_COST, wires, None)]
        after = at.get(DieRef(a.device + 1, a.die))
        if a.die == board.network_die and after is not None:
            rate = 1000 * p.clock_khz * p.link_bits_per_cycle
            connections += [Connection(s, after, LINK_COST, None, rate), Connection(after, s, LINK_COST, None, rate)]
    streams = []
    for src, dst in edges(p, copies):
        bits = p.bits[src % len(p.nodes)]
        bps = -(-bits * 1000 * p.clock_khz // interval)
        streams.append(Edge(src, dst, stream_wires(bits, interval), bps))
    everywhere = frozenset(range(len(p.refs)))
    versions = tuple((amounts(own[k]),) for own, k in zip(p.options, picks, strict=True)) * copies
    return FixedCase(
        name, TYPES, names(p, copies), versions, tuple(streams), tuple(range(len(p.refs))), p.budget, p.budget, (),
        tuple(connections), (everywhere,) * (copies * len(p.nodes)), (),
    )  # fmt: skip
