"""The netlists of a whole plan: every layer's engine on its die, the streams between them, boundaries between devices.

Needs for each layer its die and fold; guarantees one fabric a device that has a layer, whose units and streams stand in
one order that the plan, the scheduler and the checker share: engine by engine in the graph's order, within an engine
what receives (SRC), what adapts widths (DWC), its own units, what hands on (DUP), what sends (SNK).

A tensor comes once to a device however many layers there read it: the first of them has the receiver and hands it on.
Several copies of the net follow one another, each with streams and channels of its own (`own_name`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import gcd, prod
from typing import Any

from compiler.ir.graph import Conv, Graph, HostSegment, Node
from compiler.isa.stream.banks import reads_dram
from compiler.isa.stream.ports import container_bytes, frame_memory, ports
from compiler.isa.stream.program import UnitRow
from compiler.isa.stream.rates import unit_cycles
from compiler.isa.stream.table import DRAM
from compiler.isa.table import HOST_RANK
from compiler.ops.boxes import whole_box
from compiler.ops.stream.joins import steps
from compiler.ops.stream.lower import excess, lower
from compiler.ops.stream.memory import Stored, banks_of, store
from compiler.ops.stream.netlists import HOST, Assembly, Bridging, Link, Net, Seat, engine_id, own_name
from compiler.ops.stream.parts import Draft, element, fewest_lanes, stream_inputs, view
from compiler.ops.stream.sliced import Join, Part, layer_of, task_of
from device_db.model import Cluster, DieRef
from device_db.topology import route


class _Assembler:
    def __init__(
        self, graph: Graph, cluster: Cluster, seats: Mapping[str, Seat], whole: Graph, bridging: Bridging | None
    ) -> None:
        self.graph, self.cluster, self.seats, self.numbered, self.bridging = graph, cluster, seats, whole, bridging
        used = sorted({s.ref.device for s in seats.values()})
        self.nets = {d: Net(d, rank) for rank, d in enumerate(used)}
        self.links: list[Link] = []
        self.copy = 0  # of the net, that is in the making
        self.readers: dict[str, list[tuple[str, int]]] = {}  # tensor -> (layer, number of its stream)
        self.host_reads: set[str] = set()
        self.ends: dict[tuple[int, str], list[tuple[int, int]]] = {}  # (device, tensor) -> free ends of its stream
        self.inputs: dict[str, list[tuple[int, int]]] = {}
        self.stored: dict[str, Stored] = {}  # layer (`own_name`) -> where its weights lie in DRAM
        self.whole = {n.layer: n.y for n in graph.nodes if isinstance(n, Join)}  # layer that is cut -> its result
        for n in graph.nodes:
            for k, name in enumerate(stream_inputs(graph, n)):
                self.readers.setdefault(name, []).append((n.name, k))
        for s in graph.host_segments:
            self.host_reads |= {graph.root(name) for name in s.inputs}
        self.host_reads |= {graph.root(name) for name in graph.outputs}
        self.host_reads |= {n.y for n in graph.nodes if n.y not in self.readers}  # a stream must end somewhere

    def run(self) -> Assembly:
        host_made = {self.graph.root(name) for name in self.graph.inputs}
        for step in self.graph.steps:
            if isinstance(step, HostSegment):
                host_made |= {self.graph.root(name) for name in step.outputs}
        copies = len(self.seats) // max(1, len(self.graph.nodes))
        self._store(copies)
        for self.copy in range(copies):
            self.ends.clear()
            for node in self.graph.nodes:
                self._engine(node, host_made)
        known = {own_name(n.name, c): (n, c) for c in range(copies) for n in self.graph.nodes}
        for net in self.nets.values():
            net.rows = [
                replace(row, node=layer_of(known[owner][0]), task=task_of(*known[owner]))
                for row, owner in zip(net.rows, net.owners, strict=True)
            ]
        return Assembly(list(self.nets.values()), self.links, copies=copies)

    def _store(self, copies: int) -> None:
        """Banks for all weights that stand in DRAM."""
        wanted: dict[int, dict[str, tuple[str, Draft]]] = {}
        for node in self.graph.nodes:
            for own in (own_name(node.name, c) for c in range(copies)):
                seat = self.seats[own]
                if seat.fold.memory == DRAM:
                    found = next(u for u in lower(self.graph, node, seat.fold).units if u.op == "MEM")
                    wanted.setdefault(seat.ref.device, {})[own] = (node.name, found)
        for device, readers in sorted(wanted.items()):
            dev = self.cluster.devices[device]
            self.nets[device].banks = banks_of(dev.board)
            self.stored |= store(dev.name, self.nets[device].banks, readers)

    def _seat(self, layer: str) -> Seat:
        return self.seats[own_name(layer, self.copy)]

    def _engine(self, node: Node, host_made: set[str]) -> None:
        owner = own_name(node.name, self.copy)
        seat = self.seats[owner]
        net = self.nets[seat.ref.device]
        name = engine_id(self.cluster, self.numbered, node.name, seat.ref, self.copy)
        engine = lower(self.graph, node, seat.fold)
        reads = stream_inputs(self.graph, node)
        wanted = [ports(engine.units[u].instruction()).inputs[p] for u, p in engine.inputs]
        cycles = max(unit_cycles(draft.instruction()) for draft in engine.units)
        for k, tensor in enumerate(reads):
            if (net.device, tensor) not in self.ends:
                self._receive(net, owner, name, tensor, wanted[k].pe, cycles, host_made)
        sources = [self.ends[(net.device, tensor)].pop(0) for tensor in reads]
        for k, source in enumerate(sources):
            sources[k] = self._adapt(net, seat.ref.die, owner, name, reads[k], source, wanted[k].pe, cycles)
        base = len(net.drafts)
        for draft in engine.units:
            if draft.op == "MEM":  # where its bank's port is
                at = self.stored[owner]
                draft.fields |= {"bank": at.bank, "address": at.address}
                net.add(draft, net.banks[at.bank].die, owner, name, "boundary")
            else:
                net.add(draft, seat.ref.die, owner, name, "inner")
        for tensor, source, (unit, port) in zip(reads, sources, engine.inputs, strict=True):
            net.wire(source, (base + unit, port), owner)
            net.wires[-1].tensor = tensor
            net.wires[-1].joins = _waits(engine.units[unit])
        for (a, p), (b, q) in engine.streams:
            net.wire((base + a, p), (base + b, q), owner)
            net.wires[-1].joins = _waits(engine.units[b])
        end = (base + engine.output[0], engine.output[1])
        if not isinstance(node, Part):
            made = self.graph.tensors[node.y]
            net.rows[end[0]] = UnitRow(name, node.name, "output", node.y, made.dtype.value, made.shape)
        if engine.piece is not None and isinstance(node, Conv):
            self._piece(net, base + engine.piece, name, node)
        self._hand_on(net, owner, name, node.y, end)

    def _piece(self, net: Net, unit: int, engine: str, node: Conv) -> None:
        """A unit that gives a box of a layer's result, or all of it in another order; sums of some columns are none."""
        if isinstance(node, Part) and node.reduce != (0, 0):
            return
        tensor = self.whole.get(layer_of(node), node.y)
        made = self.graph.tensors[tensor]
        box = node.box if isinstance(node, Part) else whole_box(view(self.graph, tensor))
        row = UnitRow(engine, node.name, "piece", tensor, made.dtype.value, made.shape, "", box, node.axes)
        net.rows[unit] = row

    def _local(self, device: int, tensor: str) -> int:
        """Streams of a tensor that layers on a device read."""
        return sum(1 for layer, _ in self.readers.get(tensor, ()) if self._seat(layer).ref.device == device)

    def _receive(
        self, net: Net, owner: str, engine: str, tensor: str, pe: int, cycles: int, host_made: set[str]
    ) -> None:
        """The receiver of a tensor that comes from the host (from another device its sender made the link). It stands
        where the port is; a reader on another die gets no wider words there than it takes in `cycles`."""
        link = next((x for x in self.links if (x.tensor, x.target, x.copy) == (tensor, net.device, self.copy)), None)
        if link is None:
            assert tensor in host_made, tensor
            link = self._link(tensor, HOST, net.device, "", owner)
        # A reader of whole windows may take words that are no part of a position: it converts.
        lanes = gcd(pe, view(self.graph, tensor)[1])
        port = self._port_die(net, "SRC", link)
        here = [self._seat(layer).ref for layer, _ in self.readers[tensor]]
        if any(ref.die != port for ref in here if ref.device == net.device):
            lanes = fewest_lanes(lanes, prod(view(self.graph, tensor)), cycles)
        unit = self._port(net, "SRC", link, lanes, owner, engine)
        net.waiting.append(((unit, 0), (unit, 0), ""))
        self._fan(net, owner, engine, tensor, (unit, 0), [], self._local(net.device, tensor))

    def _port_die(self, net: Net, op: str, link: Link) -> int:
        """The die of the unit at one end of a link: the one that has the port, or where the bridges stand."""
        if self.bridging is not None:
            return self.bridging.die
        board = self.cluster.devices[net.device].board
        other = link.source if op == "SRC" else link.target
        die = board.pcie_die if other == HOST else board.network_die
        assert die is not None
        return die

    def _port(self, net: Net, op: str, link: Link, pe: int, owner: str, engine: str) -> int:
        """The unit at one end of a link."""
        die = self._port_die(net, op, link)
        if self.bridging is None:
            return net.add(self._boundary(op, link, pe), die, owner, engine, "boundary")
        t = self.graph.tensors[link.tensor]
        unit = net.add(self._bridge(link.tensor, pe, op == "SNK", self.bridging), die, owner, engine, "")
        net.rows[unit] = UnitRow(engine, owner, "boundary", t.name, t.dtype.value, t.shape)
        return unit

    def _bridge(self, tensor: str, pe: int, out: bool, b: Bridging) -> Draft:
        n, c, h, w = view(self.graph, tensor)
        e = element(self.graph.tensors[tensor])
        f = {"pe": pe, "bits": e.bits, "signed": int(e.signed), "frames": b.frames[(tensor, out)]}
        f |= {"stage": b.stage + (b.lag if out else 0), "images": n, "channels": c, "in_h": h, "in_w": w}
        device = next(iter(self.nets))
        f["memory"] = frame_memory(f, self.cluster.devices[device].board.dies[b.die].raw.uram > 0)
        return Draft("BRO" if out else "BRI", f)

    def _boundary(self, op: str, link: Link, pe: int) -> Draft:
        n, c, h, w = view(self.graph, link.tensor)
        e = element(self.graph.tensors[link.tensor])
        other = link.source if op == "SRC" else link.target
        rank = HOST_RANK if other == HOST else self.nets[other].rank
        return Draft(op, {
            "pe": pe, "bits": e.bits, "signed": int(e.signed), "pixels": n * h * w, "channels": c, "rank": rank,
            "channel": link.id, "tag": link.id, "bytes": link.bytes,
        })  # fmt: skip

    def _link(self, tensor: str, source: int, target: int, source_owner: str, target_owner: str) -> Link:
        t = self.graph.tensors[tensor]
        size = t.elements * container_bytes(element(t).bits)
        ways = _network(self.cluster, source, target)
        link = Link(
            len(self.links), tensor, source, target, source_owner, target_owner, size, 8 * size, ways, self.copy
        )
        self.links.append(link)
        return link

    def _adapt(
        self,
        net: Net,
        die: int,
        owner: str,
        engine: str,
        tensor: str,
        source: tuple[int, int],
        pe: int,
        cycles: int,
    ) -> tuple[int, int]:
        """Width converters from what a stream has to `pe`; cycles: what the reader takes a frame."""
        first = net.port(*source)
        for want in steps(first.pe, pe, first.words * first.pe, max(cycles, first.words)):
            have = net.port(*source)
            f = {"pe": have.pe, "pe_out": want, "x_bits": have.bits, "x_signed": int(have.signed)}
            unit = net.add(Draft("DWC", f | {"elements": have.words * have.pe}), die, owner, engine, "inner")
            net.wire(source, (unit, 0), owner)
            net.wires[-1].tensor = tensor
            source = (unit, 0)
        return source

    def _hand_on(self, net: Net, owner: str, engine: str, tensor: str, end: tuple[int, int]) -> None:
        """To the readers on this device, to each other device that has some, and to the host."""
        targets = sorted({self._seat(layer).ref.device for layer, _ in self.readers.get(tensor, ())} - {net.device})
        links = []
        for device in targets:
            first = next(layer for layer, _ in self.readers[tensor] if self._seat(layer).ref.device == device)
            links.append(self._link(tensor, net.device, device, owner, own_name(first, self.copy)))
        if tensor in self.host_reads:
            links.append(self._link(tensor, net.device, HOST, owner, ""))
        self._fan(net, owner, engine, tensor, end, links, self._local(net.device, tensor))

    def _fan(
        self, net: Net, owner: str, engine: str, tensor: str, end: tuple[int, int], links: list[Link], local: int
    ) -> None:
        """Duplicates a stream for its readers; senders stand on the die that has the port."""
        count = local + len(links)
        ends = [end]
        if count > 1:
            p = net.port(*end)
            n, c, h, w = view(self.graph, tensor)
            f = {"pe": p.pe, "x_bits": p.bits, "x_signed": int(p.signed)}
            f |= {"pixels": n * h * w, "channels": c, "outputs": count}
            # Behind a receiver it stands where the port is, not where the engine does.
            role = "boundary" if net.rows[end[0]].role == "boundary" else "inner"
            unit = net.add(Draft("DUP", f), net.dies[end[0]], owner, engine, role)
            net.wire(end, (unit, 0), owner)
            ends = [(unit, k) for k in range(count)]
        for link, source in zip(links, ends, strict=False):
            unit = self._port(net, "SNK", link, net.port(*source).pe, owner, engine)
            net.wire(source, (unit, 0), owner)
        self.ends[(net.device, tensor)] = ends[len(links) :]


def _waits(draft: Draft) -> bool:
    """Whether a unit waits for several streams of tensors; weights out of DRAM are there when they are wanted."""
    ins = draft.instruction()
    return len(ports(ins).inputs) > 1 and not reads_dram(ins)


def _network(cluster: Cluster, source: int, target: int) -> tuple[str, ...]:
    """Links between the port dies: SLLs are streams of the fabrics themselves."""

    def port(device: int, other: int) -> DieRef | None:
        if device == HOST:
            return None
        board = cluster.devices[device].board
        die = board.pcie_die if other == HOST else board.network_die
        if die is None:
            raise ValueError(f"{cluster.devices[device].name} has no network port")
        return DieRef(device, die)

    return route(cluster, port(source, target), port(target, source))


def assemble(
    graph: Graph,
    cluster: Cluster,
    seats: Mapping[str, Seat],
    measured: Sequence[Sequence[Any]] = (),
    whole: Graph | None = None,
    bridging: Bridging | None = None,
) -> Assembly:
    """The netlists of a placement, seats by `own_name` of every layer of every copy. measured: see `lower.excess`;
    whole: the graph that engines are numbered by; bridging: the graph is a region on one device, and its boundary is
    one of bridges.

    Raises FVC214, ValueError if devices are not connected."""
    out = _Assembler(graph, cluster, seats, whole or graph, bridging).run()
    for own in [(n, own_name(n.name, c)) for c in range(out.copies) for n in graph.nodes] if measured else ():
        n, name = own
        seat = seats[name]
        family = cluster.devices[seat.ref.device].board.family
        out.excess[name], out.dies[name] = excess(graph, n, seat.fold, family, measured), seat.ref
    return out
