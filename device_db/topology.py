"""Ways through a cluster: which shared links a transfer crosses, and what each link gives.

Link ids, as `compiler.isa.program.LinkSpec` has them: "u280-0>u280-1" (network), "u280-0/SLR0>SLR1" (SLLs between
neighbouring dies), "host>u280-0" and "u280-0>host" (PCIe), "u280-0>switch" and "switch>u280-1" (a switch).
All routes are shortest and deterministic: among equals the one through the lower device indices.
"""

from __future__ import annotations

import itertools
from collections import deque

from device_db.model import SWITCH, Board, Cluster, DieRef, LinkSpecRow

# One stream a direction crosses each boundary between dies, shared by all channels that cross there: 512 data bits
# (the width of the network kernels' streams), and 64 wires of handshake, keep and channel number. Assumption of this
# project; what is left of the boundary's wires is for memory ports (MEMORY_PORT_WIRES).
SLL_STREAM_BITS = 512
SLL_STREAM_WIRES = 576
# Registers at both sides of the crossing and a small FIFO (AMD UG949: two to four pipeline stages a crossing).
SLL_CROSSING_CYCLES = 8
# Wires of one 256-bit AXI memory port across a boundary: 256 read and 256 write data bits, addresses, strobes, ids.
MEMORY_PORT_BITS = 256
MEMORY_PORT_WIRES = 800


def die_neighbours(board: Board, die: int) -> tuple[int, ...]:
    """Dies that share a boundary with `die`: the dies of a device stand in one column."""
    return tuple(k for k in (die - 1, die + 1) if 0 <= k < len(board.dies))


def die_path(cluster: Cluster, device: int, source: int, target: int) -> tuple[str, ...]:
    """SLL link ids from die to die of one device, boundary by boundary; empty on one die."""
    dev = cluster.devices[device]
    step = 1 if target > source else -1
    names = [dev.board.dies[k].name for k in range(source, target + step, step)] if source != target else []
    return tuple(f"{dev.name}/{a}>{b}" for a, b in itertools.pairwise(names))


def memory_wires(port_bits: int) -> int:
    """SLL wires (each direction counted once) of a memory port of `port_bits` that crosses a boundary."""
    return -(-port_bits // MEMORY_PORT_BITS) * MEMORY_PORT_WIRES


def device_neighbours(cluster: Cluster) -> dict[int, tuple[int, ...]]:
    """Directly linked devices of each device, ascending; SWITCH is a node too."""
    out: dict[int, set[int]] = {d: set() for d in range(len(cluster.devices))}
    for link in cluster.links:
        for a, b in ((link.a, link.b), (link.b, link.a)):
            out.setdefault(a, set()).add(b)
    return {d: tuple(sorted(n)) for d, n in sorted(out.items())}


def device_path(cluster: Cluster, source: int, target: int) -> tuple[int, ...] | None:
    """Devices (and SWITCH) from source to target, both included, by the fewest links; None if there is no way."""
    near = device_neighbours(cluster)
    came: dict[int, int] = {source: source}
    queue = deque([source])
    while queue and target not in came:
        here = queue.popleft()
        for there in near[here]:
            if there not in came:
                came[there] = here
                queue.append(there)
    if target not in came:
        return None
    path = [target]
    while path[-1] != source:
        path.append(came[path[-1]])
    return tuple(reversed(path))


def node_name(cluster: Cluster, device: int) -> str:
    """Name of a device, or "switch"."""
    return "switch" if device == SWITCH else cluster.devices[device].name


def route(cluster: Cluster, source: DieRef | None, target: DieRef | None) -> tuple[str, ...]:
    """Link ids from die to die, in order; None is the host. Empty within one die.

    Die hops to the network die, devices hop by hop (transit enters and leaves at the network die, no SLL), die hops
    again. ValueError if the devices are not connected.
    """
    if source is None and target is None:
        return ()
    if source is None:
        assert target is not None
        dev = cluster.devices[target.device]
        return (f"host>{dev.name}", *die_path(cluster, target.device, dev.board.pcie_die, target.die))
    if target is None:
        dev = cluster.devices[source.device]
        return (*die_path(cluster, source.device, source.die, dev.board.pcie_die), f"{dev.name}>host")
    if source.device == target.device:
        return die_path(cluster, source.device, source.die, target.die)
    path = device_path(cluster, source.device, target.device)
    out = cluster.devices[source.device].board.network_die
    into = cluster.devices[target.device].board.network_die
    if path is None or out is None or into is None:
        raise ValueError(f"no link between {node_name(cluster, source.device)} and {node_name(cluster, target.device)}")
    hops = tuple(f"{node_name(cluster, a)}>{node_name(cluster, b)}" for a, b in itertools.pairwise(path))
    return (
        *die_path(cluster, source.device, source.die, out),
        *hops,
        *die_path(cluster, target.device, into, target.die),
    )


def link_specs(cluster: Cluster) -> dict[str, LinkSpecRow]:
    """Every directed link of the cluster: id -> (bits a second, latency in ns), sorted by id."""
    out: dict[str, LinkSpecRow] = {}
    for dev in cluster.devices:
        dies = dev.board.dies
        for a, b in itertools.pairwise(dies):
            clock = min(a.clock_khz, b.clock_khz)
            row = (SLL_STREAM_BITS * clock * 1000, -(-SLL_CROSSING_CYCLES * 1_000_000 // clock))
            out[f"{dev.name}/{a.name}>{b.name}"] = row
            out[f"{dev.name}/{b.name}>{a.name}"] = row
        host = (dev.board.pcie_bytes_per_second * 8, dev.board.pcie_latency_ns)
        out[f"host>{dev.name}"] = host
        out[f"{dev.name}>host"] = host
    for link in cluster.links:
        a_name, b_name = node_name(cluster, link.a), node_name(cluster, link.b)
        for key in (f"{a_name}>{b_name}", f"{b_name}>{a_name}"):
            rate, latency = out.get(key, (0, 0))
            out[key] = (rate + link.bits_per_second, max(latency, link.latency_ns))
    return dict(sorted(out.items()))


def transport(link_id: str) -> str:
    """ "SLL", "PCIe" or "Ethernet": what a link id stands for."""
    if "/" in link_id:
        return "SLL"
    ends = link_id.split(">")
    return "PCIe" if "host" in ends else "Ethernet"


def wires_used(cluster: Cluster) -> dict[str, int]:
    """SLL wires that the inter-die stream takes of each directed boundary: id -> wires."""
    return {k: SLL_STREAM_WIRES for k in link_specs(cluster) if "/" in k}
