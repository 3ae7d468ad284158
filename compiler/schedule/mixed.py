"""Plan -> programs where tiled and streaming engines stand side by side.

Needs a checked plan with regions, its graph and cluster. The cores are those of the tiled view, in which a region is
one step; a device's regions are one netlist, whose bridges send and take the same messages as the cores do.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.ir.graph import Graph
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.stream.table import BOX, BRIDGES
from compiler.isa.table import Queue
from compiler.ops.region import Region
from compiler.ops.stream.netlists import Net
from compiler.ops.stream.planned import depths_of, seats_of
from compiler.ops.stream.project import projected
from compiler.ops.stream.regions import fabrics, joined
from compiler.plan.model import Plan, RegionPlan
from compiler.schedule.messages import Message
from compiler.schedule.program import Cores, device_program, schedule_cores
from compiler.schedule.stream import complete
from device_db.model import Cluster


def schedule_mixed(graph: Graph, plan: Plan, cluster: Cluster) -> list[DeviceProgram]:
    """The programs of all devices of a mixed plan, devices in the cluster's order."""
    tiled, view = projected(plan, graph, cluster)
    seats = seats_of(plan, cluster)
    assembly = joined(graph, cluster, plan.regions, seats, plan.options.get("measured", ()))
    words, memory = depths_of(plan)
    bare = fabrics(graph, cluster, assembly, words, memory)
    refs = {s.rank: s.ref for s in view.host_segments if isinstance(s, Region)}
    cores = schedule_cores(view, tiled, cluster, refs)
    nets = {p.name: (net, p.fabric) for net, p in zip(assembly.nets, bare, strict=True)}
    out = []
    for device in cluster.devices:
        ranks = [e.rank for e in sorted(tiled.engines, key=lambda e: e.rank) if e.device == device.name]
        net, fabric = nets.get(device.name, (None, None))
        if fabric is not None:
            assert net is not None
            fabric.dies = [
                replace(d, wires=w) for d, w in zip(fabric.dies, free_wires(plan, cluster, device.name), strict=True)
            ]
            own = [r for r in plan.regions if r.device == device.name]
            complete(graph, plan, fabric, net, seats, bridge_messages(cores, net, own))
            ranks.append(fabric.rank)
        if ranks:
            made = device_program(view, plan, cluster, cores, device.name, ranks, graph)
            out.append(replace(made, fabric=fabric))
    return out


def bridge_messages(cores: Cores, net: Net, regions: list[RegionPlan]) -> list[Instruction]:
    """What the bridges of a netlist send and take, in the one global order."""
    region = {name: r.name for r in regions for name in r.layers}
    unit = {
        (row.tensor, region[row.node], draft.op): k
        for k, (row, draft) in enumerate(zip(net.rows, net.drafts, strict=True))
        if draft.op in BRIDGES
    }
    out = []
    for part in cores.messages.values():
        for m in part:
            if not isinstance(m, Message):
                continue
            t = m.transfer
            ends = [("BRO", t.piece.region, t.target)] if m.source == net.rank else []
            ends += [("BRI", t.region, t.piece.rank)] if m.target == net.rank else []
            for op, name, other in ends:
                f = {"unit": unit[(t.piece.tensor, name, op)], "rank": other, "tag": m.tag, "bytes": m.bytes}
                f |= {"channel": cores.channels[(m.source, m.target)].id, "stage": t.piece.stage}
                f |= dict(zip(BOX, m.box, strict=True))
                out.append(Instruction("MSG", Queue.CTL, f))
    return out


def free_wires(plan: Plan, cluster: Cluster, device: str) -> list[int]:
    """By die: the wires to the next one that the ports of tiled engines and the stream of messages leave."""
    from device_db.topology import SLL_STREAM_WIRES, memory_wires

    board = next(d.board for d in cluster.devices if d.name == device)
    at = {d.name: k for k, d in enumerate(board.dies)}
    bank = {b.name: b.die for b in board.banks}
    left = [w - SLL_STREAM_WIRES for w in board.sll_wires]
    for e in plan.engines:
        if e.style == "tiled" and e.device == device:
            a, b = sorted((at[e.die], bank[e.parameters["bank"]]))
            bits = max(e.parameters["ld_bytes_per_cycle"], e.parameters["st_bytes_per_cycle"]) * 8
            for k in range(a, b):
                left[k] -= memory_wires(bits)
    return [max(0, w) for w in left] + [0] * (len(board.dies) - len(left))


__all__ = ["bridge_messages", "free_wires", "schedule_mixed"]
