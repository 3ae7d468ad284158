"""Netlists as device programs: dies with what they may use, units and streams as instructions, channels, host messages.

Needs an assembly and the depths of its FIFOs; the programs lack constants (`compiler.schedule.stream` adds them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compiler.ir.graph import Graph
from compiler.isa.program import Channel, DeviceProgram, HostMessage, Instruction, LinkSpec
from compiler.isa.stream.program import Fabric, FabricDie
from compiler.isa.stream.table import LUTRAM
from compiler.isa.table import HOST_RANK, Queue
from compiler.ops.stream.lower import INNER_DEPTH
from compiler.ops.stream.netlists import HOST, Assembly, Link, Seat
from compiler.ops.stream.parts import view
from cost_models.network import payload_rate
from cost_models.primitives import ceil_div
from device_db.model import Cluster, DieRef, Resources
from device_db.topology import link_specs, route, transport

CHANNEL_FRAMES = 2  # messages (one a frame) that a channel holds


def full_route(cluster: Cluster, link: Link, seats: Mapping[str, Seat]) -> tuple[str, ...]:
    """A link's way from the sender's die to the receiver's, SLLs included."""
    a = seats[link.source_owner].ref if link.source_owner else None
    b = seats[link.target_owner].ref if link.target_owner else None
    return route(cluster, a, b)


def fabric_dies(cluster: Cluster, device: int) -> list[FabricDie]:
    """The dies of a device as streaming engines may use them: the network stack is paid where there are links."""
    dev = cluster.devices[device]
    linked = any(device in (x.a, x.b) for x in cluster.links)
    out = []
    for k, die in enumerate(dev.board.dies):
        have = die.usable
        if linked and k == dev.board.network_die:
            have = have - dev.board.network_cost
        wires = dev.board.sll_wires[k] if k < len(dev.board.sll_wires) else 0
        out.append(
            FabricDie(die.name, die.clock_khz, max(0, have.lut), max(0, have.ff), max(0, have.bram18),
                      max(0, have.uram), max(0, have.dsp), wires, dev.board.family)
        )  # fmt: skip
    return out


def programs_of(
    graph: Graph,
    cluster: Cluster,
    assembly: Assembly,
    interval_ps: int,
    depths: Mapping[str, list[int]],
    memories: Mapping[str, list[int]],
) -> list[DeviceProgram]:
    """Device programs without constants: enough for timing and for every check but that of the memories.

    interval_ps: of a frame, for the messages that a channel holds. depths, memories: of each layer's FIFOs in the
    order of `Assembly.wires_of`; absent: INNER_DEPTH in LUTRAM.
    """
    specs = link_specs(cluster)
    # One message a frame; credits for all that is under way on the longest way, there and back.
    slowest_ps = max((1000 * sum(specs[name][1] for name in x.route) for x in assembly.links), default=0)
    capacity = CHANNEL_FRAMES + ceil_div(2 * slowest_ps, max(1, interval_ps))
    out = []
    for net in assembly.nets:
        units = [d.instruction(die) for d, die in zip(net.drafts, net.dies, strict=True)]
        for k, ins in enumerate(units):
            ins.debug = k
        seen: dict[str, int] = {}
        streams = []
        for w in net.wires:
            number = seen.setdefault(w.owner, 0)
            seen[w.owner] += 1
            mine = depths.get(w.owner, [])
            depth = mine[number] if number < len(mine) else INNER_DEPTH
            kind = memories.get(w.owner, [])
            f = {"source": w.source[0], "source_port": w.source[1], "target": w.target[0], "target_port": w.target[1]}
            f |= {"pe": w.port.pe, "bits": w.port.bits, "signed": int(w.port.signed), "words": w.port.words}
            f |= {"depth": depth, "hops": w.hops, "memory": kind[number] if number < len(kind) else LUTRAM}
            streams.append(Instruction("CON", Queue.CTL, f))
        end = Instruction("RUN", Queue.CTL, {"units": len(units), "preloads": 0, "streams": len(streams)})
        dies = [_less(d, assembly, DieRef(net.device, k)) for k, d in enumerate(fabric_dies(cluster, net.device))]
        fabric = Fabric(net.rank, dies, [*units, *streams, end], b"", {}, net.rows, banks=net.banks)
        own = [x for x in assembly.links if net.device in (x.source, x.target)]
        ranks = {n.device: n.rank for n in assembly.nets} | {HOST: HOST_RANK}
        channels = [_channel(x, ranks, capacity) for x in own]
        names = sorted({name for x in own for name in x.route})
        host = [_host_message(graph, x) for x in own if HOST in (x.source, x.target)]
        out.append(
            DeviceProgram(
                cluster.devices[net.device].name, [], channels, [_link_spec(n, *specs[n]) for n in names], host,
                replicas=assembly.copies, fabric=fabric,
            )
        )  # fmt: skip
    return out


def _less(die: FabricDie, assembly: Assembly, ref: DieRef) -> FabricDie:
    """A die's budget for what is estimated: what measured layers take beyond their estimates is off it already."""
    budget = Resources(die.lut, die.ff, die.bram18, die.uram, die.dsp)
    for layer, more in assembly.excess.items():
        if assembly.dies[layer] == ref:
            budget = budget - more
    b = budget
    return replace(
        die, lut=max(0, b.lut), ff=max(0, b.ff), bram18=max(0, b.bram18), uram=max(0, b.uram), dsp=max(0, b.dsp)
    )


def _link_spec(name: str, bits_per_second: int, latency_ns: int) -> LinkSpec:
    """A link as streams see it: of a network link what its packets leave for the payload."""
    rate = payload_rate(bits_per_second) if transport(name) == "Ethernet" else bits_per_second
    return LinkSpec(name, rate, latency_ns)


def _channel(x: Link, ranks: Mapping[int, int], capacity: int) -> Channel:
    kinds = [transport(name) for name in x.route]
    kind = next((k for k in ("PCIe", "Ethernet") if k in kinds), "SLL")
    return Channel(x.id, ranks[x.source], ranks[x.target], capacity, x.bytes, kind, x.route)


def _host_message(graph: Graph, x: Link) -> HostMessage:
    """One message a frame, in the order of the stream: n, h, w, c."""
    t = graph.tensors[x.tensor]
    n, c, h, w = view(graph, x.tensor)
    size = t.dtype.size_bytes
    strides = (w * size if h > 1 else 0, size if w > 1 else 0, h * w * size if c > 1 else 0)
    offsets = tuple(k * c * h * w * size for k in range(n))
    return HostMessage(
        x.id,
        x.id,
        x.tensor,
        t.dtype.value,
        t.shape,
        offsets,
        (h, w, c),
        strides,
        size,
        x.source == HOST,
        0,
        x.copy,
    )
