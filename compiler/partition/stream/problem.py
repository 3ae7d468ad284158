"""The streaming problem as numbers: layers with their options, dies with their budgets, what lies between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from compiler.ir.graph import Graph, Node
from compiler.isa.stream.banks import frame_bytes, word_ps
from compiler.isa.stream.network import cycle_ps
from compiler.isa.stream.program import FabricBank, FabricDie
from compiler.isa.stream.table import BRAM, DRAM, LUTRAM, MEMORIES, URAM, VARIANTS
from compiler.ops.stream.lower import Option, excess, legal_folds, lower, price, priced, signature, undominated
from compiler.ops.stream.memory import banks_of
from compiler.ops.stream.netlists import Seat, own_name
from compiler.ops.stream.parts import stream_inputs
from compiler.ops.stream.programs import fabric_dies
from compiler.ops.stream.sliced import Part, layer_of
from compiler.partition.options import PartitionOptions
from device_db.errors import FvcError
from device_db.model import RESOURCE_TYPES as TYPES
from device_db.model import Cluster, DieRef
from device_db.topology import link_specs, route, transport

Budgets = Sequence[Sequence[int]]  # die, resource type
WISHES = {"bram": (LUTRAM, BRAM), "uram": (LUTRAM, URAM), "external": (DRAM,)}  # --memory; auto: any


@dataclass(frozen=True, slots=True)
class Placement:
    """Seats by layer, the interval at which they were found, what all dies as one allow, and whether that is met."""

    seats: dict[str, Seat]
    interval_ps: int
    bound_ps: int
    at_bound: bool


@dataclass(slots=True)
class Problem:
    """Layers with their options, dies with their budgets."""

    graph: Graph
    nodes: tuple[Node, ...]
    every: list[tuple[Option, ...]]  # options of each layer, quickest first
    options: list[tuple[Option, ...]]  # of these, those that none beats
    devices: list[str]
    refs: list[DieRef]
    dies: list[FabricDie]
    budgets: list[tuple[int, ...]]  # by die
    wires: list[int]  # by die: to the next one on the same device
    edges: list[tuple[int, int, int]]  # producer, consumer, bits a frame
    anchors: dict[int, set[int]]
    together: list[tuple[int, int]]
    link_bits_per_second: list[int]  # a device: towards the next one, 0 where there is no link
    out_bits: list[int]  # a layer: of its result, a frame
    seconds: float
    seed: int
    workers: int
    names: list[str] = field(default_factory=list)  # a layer: `own_name` of it, copy by copy
    copies: int = 1
    banks: list[list[FabricBank]] = field(default_factory=list)  # a device: those that weights may stand in

    def __post_init__(self) -> None:
        self.names = self.names or [n.name for n in self.nodes]

    def cycle(self) -> int:
        """Picoseconds of the slowest cycle on the dies: what an option's cycles are counted in."""
        return max(cycle_ps(d.clock_khz) for d in self.dies)


def amounts(option: Option) -> tuple[int, ...]:
    return tuple(getattr(option.resources, t) for t in TYPES)


def make_problem(
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    devices: int,
    copies: int = 1,
    home: Callable[[Node], Graph] | None = None,
    external: frozenset[str] = frozenset(),
) -> Problem:
    """The problem of so many copies of the net on the first `devices` of a cluster. home: the graph in which a node is
    priced, `graph` unless said otherwise. external: layers whose weights may stand in DRAM, too. Raises FVC206, FVC208,
    FVC214, FVC218."""
    refs, dies = [], []
    for d in range(devices):
        for k, die in enumerate(fabric_dies(cluster, d)):
            refs.append(DieRef(d, k))
            dies.append(die)
    budgets = [tuple(getattr(die, t) for t in TYPES) for die in dies]
    families = {d.family for d in dies}
    family = sorted(families)[0]
    uram = any(d.uram for d in dies)
    everywhere = [banks_of(cluster.devices[d].board) for d in range(devices)]
    banks = [b for own in everywhere for b in own]
    if options.memory == "external" and not banks:
        raise FvcError(
            "FVC208",
            "--memory external: no board has a memory bank for weights",
            where=(", ".join(d.name for d in cluster.devices[:devices]),),
            help=("use --memory auto, bram or uram", "use boards with DRAM"),
            exit_code=1,
        )
    outside = external if options.memory != "external" else frozenset(layer_of(n) for n in graph.nodes)
    outside = outside if banks else frozenset()
    cycle = max(cycle_ps(d.clock_khz) for d in dies)
    kinds = _kinds(banks)
    every: list[tuple[Option, ...]] = []
    best: list[tuple[Option, ...]] = []
    known: dict[object, tuple[tuple[Option, ...], tuple[Option, ...]]] = {}
    given = {f[0]: f for f in options.folds}
    for n in graph.nodes:
        if n.name in given:
            asked = _given(graph, n, given[n.name], family, uram, options.measured, devices)
            every.append(tuple(_read(graph, n, o, kinds, cycle) for o in asked))
            best.append(undominated(every[-1]))
            continue
        own = graph if home is None else home(n)
        free = layer_of(n) in outside
        alike = (signature(own, n), free) if isinstance(n, Part) else None
        if alike not in known or alike is None:
            measured = tuple(m for m in options.measured if m[0] == n.name)
            reads = (kinds, cycle) if free else None
            known[alike] = _on_offer(own, n, family, uram, measured, devices, reads, options.memory)
        every.append(known[alike][0])
        best.append(known[alike][1])
    number = {n.name: k for k, n in enumerate(graph.nodes)}
    edges = edges_of(graph, graph.nodes)
    cuts = [(number[a], number[b]) for a, b in options.forbidden_cuts if a in number and b in number]
    anchors = _anchors(graph, cluster, options, refs)
    starts = [c * len(graph.nodes) for c in range(copies)]
    return Problem(
        graph, graph.nodes * copies, every * copies, best * copies,
        [d.name for d in cluster.devices[:devices]], refs, dies, budgets,
        [d.wires for d in dies], [(s + a, s + b, bits) for s in starts for a, b, bits in edges],
        {s + n: here for s in starts for n, here in anchors.items()}, [(s + a, s + b) for s in starts for a, b in cuts],
        [link_rate(cluster, d) for d in range(devices)], [graph.tensors[n.y].bytes * 8 for n in graph.nodes] * copies,
        options.time_limit_s, options.seed, options.workers,
        [own_name(n.name, c) for c in range(copies) for n in graph.nodes], copies, everywhere,
    )  # fmt: skip


def edges_of(graph: Graph, nodes: Sequence[Node]) -> list[tuple[int, int, int]]:
    """(producer, consumer, bits a frame) of the tensors between these nodes, by their numbers."""
    maker = {n.y: k for k, n in enumerate(nodes)}
    return [
        (maker[tensor], k, graph.tensors[tensor].bytes * 8)
        for k, n in enumerate(nodes)
        for tensor in dict.fromkeys(stream_inputs(graph, n))
        if tensor in maker
    ]


def dies_at(cluster: Cluster, refs: Sequence[DieRef], place: str) -> set[int]:
    """The dies, by number, that an anchor's place names: a die or a device."""
    return {k for k, r in enumerate(refs) if place in (cluster.die_name(r), cluster.devices[r.device].name)}


def in_memory(options: tuple[Option, ...], wish: str) -> tuple[Option, ...]:
    """Those whose weights stand as --memory asks (shallow ones in LUTRAM at any rate); all where none do."""
    wanted = WISHES.get(wish, ())
    return tuple(o for o in options if o.fold.memory in wanted) or options


@lru_cache(maxsize=1024)
def _on_offer(
    graph: Graph, node: Node, family: str, uram: bool, measured: tuple[tuple[Any, ...], ...], devices: int,
    reads: tuple[tuple[FabricBank, ...], int] | None, memory: str,
) -> tuple[tuple[Option, ...], tuple[Option, ...]]:  # fmt: skip
    """The options of a layer, and those that none beats. reads: banks, if its weights may stand there, and a cycle;
    memory: that of --memory."""
    whole = priced(graph, node, family, uram, measured, devices, reads is not None)
    if reads is not None:
        whole = tuple(sorted((_read(graph, node, o, *reads) for o in whole), key=lambda o: o.cycles))
    asked = in_memory(whole, memory)
    return asked, undominated(asked)


def _kinds(banks: Sequence[FabricBank]) -> tuple[FabricBank, ...]:
    """One of each kind of banks: no other one reads quicker."""
    return tuple({(b.bytes_per_second, b.port_bits): b for b in reversed(banks)}.values())


def _read(graph: Graph, node: Node, option: Option, banks: Sequence[FabricBank], cycle: int) -> Option:
    """An option with the cycles that its weights take from the quickest bank, which it then has for itself."""
    if option.fold.memory != DRAM:
        return option
    mem = next(u.fields for u in lower(graph, node, option.fold).units if u.op == "MEM")
    words = mem["words"] * mem["turns"]
    reading = min((words * word_ps(mem, b, frame_bytes(mem), cycle) for b in banks), default=0)
    return replace(option, cycles=max(option.cycles, reading // cycle))


def link_rate(cluster: Cluster, device: int) -> int:
    """Bits a second from a device to the next one, over as many links as it takes."""
    ends = [
        DieRef(d, cluster.devices[d].board.network_die or 0) for d in (device, device + 1) if d < len(cluster.devices)
    ]
    if len(ends) < 2:
        return 0
    try:
        way = route(cluster, *ends)
    except ValueError:
        return 0
    specs = link_specs(cluster)
    return min((specs[name][0] for name in way if transport(name) != "SLL"), default=0)


def _given(
    graph: Graph, n: Node, fold: tuple[str, int, int, str, str], family: str, uram: bool,
    measured: tuple[tuple[Any, ...], ...], devices: int,
) -> tuple[Option, ...]:  # fmt: skip
    """The options of a layer whose fold is given. Raises FVC218 if these dies have none."""
    _, pe, simd, memory, variant = fold
    found = [
        replace(o := price(graph, n, f, family, devices), resources=o.resources + excess(graph, n, f, family, measured))
        for f in legal_folds(graph, n, uram, memory == MEMORIES[DRAM])
        if (f.pe, f.simd) == (pe, simd) and memory in ("", MEMORIES[f.memory]) and variant in ("", VARIANTS[f.variant])
    ]
    if not found:
        raise FvcError(
            "FVC218",
            f"PE={pe}, SIMD={simd} {memory} {variant}".rstrip() + " cannot be built here",
            where=(f"layer '{n.name}'",),
            help=("take the entry out of the fold file",),
        )
    return tuple(sorted(found, key=lambda o: o.cycles))


def _anchors(graph: Graph, cluster: Cluster, options: PartitionOptions, refs: list[DieRef]) -> dict[int, set[int]]:
    out: dict[int, set[int]] = {}
    slices: dict[str, list[int]] = {}
    for k, n in enumerate(graph.nodes):
        slices.setdefault(layer_of(n), []).append(k)
    for layer, place in options.anchors:
        if layer not in slices:
            near = get_close_matches(layer, slices, 3, 0.0)
            raise FvcError("FVC206", f"--anchor names no layer: '{layer}'", help=(f"nearest are {', '.join(near)}",))
        here = dies_at(cluster, refs, place)
        if not here:
            known = ", ".join(dict.fromkeys(cluster.die_name(r) for r in refs))
            raise FvcError("FVC206", f"--anchor names no die of the cluster: '{place}'", help=(f"one of {known}",))
        out |= dict.fromkeys(slices[layer], here)
    return out


__all__ = [
    "TYPES", "Budgets", "Placement", "Problem", "amounts", "dies_at", "edges_of", "in_memory", "link_rate",
    "make_problem",
]  # fmt: skip
