"""What a cluster's runtime needs beside the binaries: who talks to whom over UDP, and how each card is wired.

Needs plan, cluster and programs; gives `export/network.json` (ranks, addresses, ports, sockets, bytes on the wire) and
`export/vitis/<device>.cfg` (the [connectivity] section for v++) where the plan stands on several devices. The stack is
VNx (Xilinx/xup_vitis_network_example): one `cmac` and one `networklayer` kernel a port, 512-bit streams whose TDEST is
the row of the socket table. `udp_gather_<i>` and `udp_scatter_<i>` stand for what packs a kernel's streams into
payloads and back; they are part of neither VNx nor FINN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compiler.export.finn import banks_read, memory_port, partitions
from compiler.ir.graph import Graph
from compiler.isa.program import Channel, DeviceProgram
from compiler.isa.table import HOST_RANK
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.netlists import HOST, Link, Seat, own_name
from compiler.ops.stream.planned import copy_of, expanded, seats_of
from compiler.plan.io import canonical_json
from compiler.plan.model import Plan
from cost_models.network import HEADER_BYTES, PAYLOAD_BYTES, packets, wire_bytes
from device_db.model import SWITCH, Cluster, MemoryBank
from device_db.topology import device_neighbours, device_path

SCHEMA = "fvc.network/1"
SOCKETS = 16  # rows of a socket table as VNx builds it; MAX_SOCKETS makes more
FIRST_PORT = 20_000
MASK = "255.255.0.0"


@dataclass(frozen=True, slots=True)
class Way:
    """A channel between devices: ports of both ends, the interface (QSFP port) each uses, devices on the way."""

    link: Link
    source_interface: int
    target_interface: int
    through: tuple[str, ...]

    @property
    def ports(self) -> tuple[int, int]:
        """UDP ports of sender and receiver."""
        return FIRST_PORT + 2 * self.link.id, FIRST_PORT + 2 * self.link.id + 1


def network_files(graph: Graph, plan: Plan, cluster: Cluster, programs: Sequence[DeviceProgram]) -> dict[str, bytes]:
    """export/network.json and export/vitis/…; nothing for a plan on one device."""
    graph = expanded(graph, plan)
    seats = seats_of(plan, cluster)
    assembly = assemble(graph, cluster, seats)
    if len(assembly.nets) < 2:
        return {}
    ranks = {net.device: net.rank for net in assembly.nets}
    ways = [_way(cluster, x) for x in assembly.links if HOST not in (x.source, x.target)]
    channels = {c.id: c for p in programs for c in p.channels}
    files = {"export/network.json": canonical_json(_tables(plan, cluster, ranks, ways, channels)).encode()}
    read = banks_read(assembly, cluster)
    kernels = _kernels(graph, seats, plan.replicas)
    for net in assembly.nets:
        inside = sorted({p for layer, p in kernels.items() if seats[layer].ref.device == net.device})
        dies = {kernels[layer]: cluster.die(s.ref).name for layer, s in seats.items() if kernels[layer] in inside}
        streams = _streams(graph, kernels, inside)
        text = _connectivity(cluster, net.device, dies, streams, ways, assembly.links, kernels,
                             {k: b for k, b in read.items() if kernels[k] in inside})  # fmt: skip
        files[f"export/vitis/{cluster.devices[net.device].name}.cfg"] = text.encode()
    return files


def _kernels(graph: Graph, seats: dict[str, Seat], copies: int) -> dict[str, int]:
    """Layer of a copy (`own_name`) -> its kernel; the kernels of copies follow one another."""
    out: dict[str, int] = {}
    for copy in range(copies):
        first = max(out.values(), default=-1) + 1
        own = partitions(graph, copy_of(seats, graph, copy))
        out |= {own_name(layer, copy): first + k for layer, k in own.items()}
    return out


def _way(cluster: Cluster, link: Link) -> Way:
    path = device_path(cluster, link.source, link.target)
    assert path is not None
    near = device_neighbours(cluster)

    def interface(device: int, other: int) -> int:
        return near[device].index(other) % max(1, cluster.devices[device].board.network_ports)

    inner = tuple(cluster.devices[d].name for d in path[1:-1] if d != SWITCH)
    return Way(link, interface(path[0], path[1]), interface(path[-1], path[-2]), inner)


def address(rank: int, interface: int) -> str:
    """IPv4 address of a rank's port: all in one network, so that neighbours find each other by ARP."""
    return f"10.{1 + rank // 250}.{interface}.{1 + rank % 250}"


def _mac(rank: int, interface: int) -> str:
    """A locally administered address."""
    return f"02:00:00:{rank >> 8 & 255:02x}:{rank & 255:02x}:{interface:02x}"


def sockets(ways: Sequence[Way], device: int, interface: int) -> list[tuple[Way, bool]]:
    """Rows of a port's socket table: what it sends, then what it receives."""
    out = [(w, True) for w in ways if (w.link.source, w.source_interface) == (device, interface)]
    return out + [(w, False) for w in ways if (w.link.target, w.target_interface) == (device, interface)]


def _interfaces(ways: Sequence[Way], device: int) -> list[int]:
    used = {w.source_interface for w in ways if w.link.source == device}
    return sorted(used | {w.target_interface for w in ways if w.link.target == device})


def _tables(
    plan: Plan, cluster: Cluster, ranks: dict[int, int], ways: Sequence[Way], channels: dict[int, Channel]
) -> dict[str, Any]:
    rows, tables, notes = [], {}, []
    for device, rank in sorted(ranks.items(), key=lambda x: x[1]):
        name = cluster.devices[device].name
        for i in _interfaces(ways, device):
            rows.append(
                {"rank": rank, "device": name, "interface": i, "address": address(rank, i), "mac": _mac(rank, i)}
            )
            table = []
            for k, (w, sends) in enumerate(sockets(ways, device, i)):
                other, far = (w.link.target, w.target_interface) if sends else (w.link.source, w.source_interface)
                mine, theirs = w.ports if sends else w.ports[::-1]
                table.append(
                    {"row": k, "direction": "send" if sends else "receive", "channel": w.link.id, "my_port": mine,
                     "their_rank": ranks[other], "their_address": address(ranks[other], far), "their_port": theirs}
                )  # fmt: skip
            tables[f"{name}/{i}"] = table
            if len(table) > SOCKETS:
                notes.append(f"{name}: port {i} has {len(table)} sockets: build networklayer with MAX_SOCKETS")
    if any(len(x.slices) > 1 for x in plan.layers):
        notes.append("layers are cut into slices, which are no nodes of FINN: kernels that hold some are fvc's own")
    traffic = []
    interval = plan.predicted["interval_ns"] * plan.replicas  # between two frames of a copy
    for w in ways:
        size = w.link.bytes
        traffic.append(
            {"channel": w.link.id, "tensor": w.link.tensor, "from_rank": ranks[w.link.source],
             "to_rank": ranks[w.link.target], "bytes_a_frame": size, "packets_a_frame": packets(size),
             "wire_bytes_a_frame": wire_bytes(size), "wire_bits_per_second": wire_bytes(size) * 8 * 10**9 // interval,
             "capacity_frames": channels[w.link.id].capacity, "through": list(w.through)}
        )  # fmt: skip
        if w.through:
            via = ", ".join(w.through)
            notes.append(f"channel {w.link.id} goes through {via}: VNx forwards nothing, connect the cards by a switch")
    host = {"rank": HOST_RANK, "device": "host"}
    return {
        "schema": SCHEMA, "stack": "VNx: UDP over 100 Gb/s Ethernet", "netmask": MASK, "ranks": [*rows, host],
        "packet": {"payload_bytes": PAYLOAD_BYTES, "overhead_bytes": HEADER_BYTES}, "sockets": tables,
        "channels": traffic, "notes": notes,
    }  # fmt: skip


def _streams(graph: Graph, kernels: dict[str, int], inside: Sequence[int]) -> list[tuple[int, int]]:
    """(kernel, kernel) of every stream between two kernels of a device, in the graph's order."""
    maker = {graph.root(n.y): n.name for n in graph.nodes}
    out = []
    for copy in range(len(kernels) // max(1, len(graph.nodes))):
        for n in graph.nodes:
            for x in dict.fromkeys(graph.root(x) for x in n.inputs):
                a, b = kernels.get(own_name(maker.get(x, ""), copy)), kernels[own_name(n.name, copy)]
                if a is not None and a != b and a in inside and b in inside:
                    out.append((a, b))
    return out


def _connectivity(
    cluster: Cluster, device: int, dies: dict[int, str], streams: Sequence[tuple[int, int]], ways: Sequence[Way],
    links: Sequence[Link], kernels: dict[str, int], read: dict[str, MemoryBank],
) -> str:  # fmt: skip
    """The text of a card's connectivity file. Kernels number their stream ports in the order in which they appear."""
    board = cluster.devices[device].board
    port_die = board.dies[board.network_die].name if board.network_die is not None else board.dies[0].name
    host_die = board.dies[board.pcie_die].name
    nk, slr, wires = [], [], []
    free: dict[tuple[str, str], int] = {}

    def end(kernel: str, kind: str) -> str:
        number = free.get((kernel, kind), 0)
        free[(kernel, kind)] = number + 1
        return f"{kernel}.{kind}_{number}"

    def cu(kernel: str, name: str, die: str) -> None:
        nk.append(f"nk={kernel}:1:{name}")
        slr.append(f"slr={name}:{die}")

    def sdp(k: int) -> str:
        return f"StreamingDataflowPartition_{k}"

    for k, die in sorted(dies.items()):
        cu(sdp(k), sdp(k), die)
    for i in _interfaces(ways, device):
        cu(f"cmac_{i}", f"cmac_{i}", port_die)
        cu("networklayer", f"networklayer_{i}", port_die)
        wires += [
            f"stream_connect=cmac_{i}.M_AXIS:networklayer_{i}.S_AXIS_eth2nl",
            f"stream_connect=networklayer_{i}.M_AXIS_nl2eth:cmac_{i}.S_AXIS",
        ]
        rows = sockets(ways, device, i)
        if any(sends for _, sends in rows):
            cu("udp_gather", f"udp_gather_{i}", port_die)
            wires.append(f"stream_connect=udp_gather_{i}.m_axis:networklayer_{i}.S_AXIS_sk2nl")
        if not all(sends for _, sends in rows):
            cu("udp_scatter", f"udp_scatter_{i}", port_die)
            wires.append(f"stream_connect=networklayer_{i}.M_AXIS_nl2sk:udp_scatter_{i}.s_axis")
        for k, (w, sends) in enumerate(rows):
            layer = w.link.source_owner if sends else w.link.target_owner
            kernel = sdp(kernels[layer])
            pair = (
                (end(kernel, "m_axis"), f"udp_gather_{i}.s_axis_{k}")
                if sends
                else (f"udp_scatter_{i}.m_axis_{k}", end(kernel, "s_axis"))
            )
            wires.append(f"stream_connect={pair[0]}:{pair[1]}")
    for a, b in streams:
        wires.append(f"stream_connect={end(sdp(a), 'm_axis')}:{end(sdp(b), 's_axis')}")
    for number, x in enumerate(x for x in links if x.source == HOST and x.target == device):
        cu(f"idma{number}", f"idma{number}", host_die)
        wires.append(f"stream_connect=idma{number}.m_axis_0:{end(sdp(kernels[x.target_owner]), 's_axis')}")
    for number, x in enumerate(x for x in links if x.target == HOST and x.source == device):
        cu(f"odma{number}", f"odma{number}", host_die)
        wires.append(f"stream_connect={end(sdp(kernels[x.source_owner]), 'm_axis')}:odma{number}.s_axis_0")
    first = sum(1 for x in links if x.source == HOST and x.target == device)
    sp = []
    for number, (layer, bank) in enumerate(read.items(), first):  # as FINN's Vitis flow reads external weights
        cu(f"idma{number}", f"idma{number}", board.dies[bank.die].name)
        sp.append(f"sp=idma{number}.m_axi_gmem0:{memory_port(bank)}")
        wires.append(f"stream_connect=idma{number}.m_axis_0:{end(sdp(kernels[layer]), 's_axis')}")
    blocks = [nk, slr, sp, wires] if sp else [nk, slr, wires]
    return "\n".join(["[connectivity]", *"\n\n".join("\n".join(b) for b in blocks).split("\n")]) + "\n"
