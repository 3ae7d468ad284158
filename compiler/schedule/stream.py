"""Plan -> netlists: a streaming plan's fabrics with every constant, one program a device.

Needs a checked plan, its graph and cluster; decides nothing: seats and FIFO depths are the plan's, the order of units
and streams that of `compiler.ops.stream.assemble`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from compiler.ir.graph import Graph, Node
from compiler.isa.program import DeviceProgram, Instruction
from compiler.isa.stream.program import Fabric
from compiler.isa.table import Queue
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.lower import lower
from compiler.ops.stream.netlists import Net, Seat, own_name
from compiler.ops.stream.planned import depths_of, engines_of, expanded, seats_of
from compiler.ops.stream.programs import programs_of
from compiler.ops.stream.sliced import layer_of
from compiler.plan.model import Plan
from compiler.schedule.program import aliases_of
from device_db.model import Cluster

ALIGNMENT = 64


def schedule_streaming(graph: Graph, plan: Plan, cluster: Cluster) -> list[DeviceProgram]:
    """The programs of all devices of a streaming plan, devices in the cluster's order."""
    graph = expanded(graph, plan)
    seats = seats_of(plan, cluster)
    assembly = assemble(graph, cluster, seats, plan.options.get("measured", ()))
    words, memory = depths_of(plan)
    programs = programs_of(graph, cluster, assembly, int(plan.predicted["pace_ps"]), words, memory)
    for net, program in zip(assembly.nets, programs, strict=True):
        assert program.fabric is not None
        complete(graph, plan, program.fabric, net, seats)
    outputs = {name: graph.root(name) for name in graph.outputs}
    return [replace(program, outputs=outputs, aliases=aliases_of(graph)) for program in programs]


def complete(
    graph: Graph, plan: Plan, fabric: Fabric, net: Net, seats: dict[str, Seat], messages: Sequence[Instruction] = ()
) -> None:
    """Fills a netlist's memories and writes its folding metadata; messages: of its bridges."""
    cycles = {s.engine: s.cycles for layer in plan.layers for s in layer.slices}
    engines = engines_of(plan)
    nodes = {own_name(n.name, c): n for c in range(max(1, plan.replicas)) for n in graph.nodes}
    _fill(fabric, net, messages)
    for name in dict.fromkeys(net.owners):
        e, node = engines[name], nodes[name]
        fabric.folding.append(
            {
                "layer": layer_of(node),
                **({} if layer_of(node) == node.name else {"task": node.name}),
                "op": node.op,
                "engine": e.id,
                "die": e.die,
                **e.fold,
                "variant": e.parameters["variant"],
                "memory": e.parameters["memory"],
                "fifo_depths": list(e.parameters["fifo_depths"]),
                "fifo_memories": list(e.parameters["fifo_memories"]),
                "cycles": cycles[e.id],
                **_proof(graph, node, seats[name]),
            }
        )


def _proof(graph: Graph, node: Node, seat: Seat) -> dict[str, object]:
    """How the layer meets its requantisation, and the proof's parameters."""
    notes = lower(graph, node, seat.fold).notes
    if "proof" in notes:
        return {"requantiser": notes["proof"]()}  # type: ignore[operator]
    return {"requantiser": notes["requantiser"]} if "requantiser" in notes else {}


def _fill(fabric: Fabric, net: Net, messages: Sequence[Instruction] = ()) -> None:
    """Makes every constant and the preloads that bring it to its unit."""
    data = bytearray()
    preloads: list[Instruction] = []
    for unit, draft in enumerate(net.drafts):
        for slot, (name, make) in sorted(draft.slots.items()):
            data += bytes(-len(data) % ALIGNMENT)
            body = make()
            key = name if name not in fabric.symbols else f"{name}#{unit}"
            fabric.symbols[key] = (len(data), len(body))
            f = {"unit": unit, "slot": slot, "offset": len(data), "bytes": len(body), "crc": zlib.crc32(body)}
            preloads.append(Instruction("PRE", Queue.CTL, f))
            data += body
    fabric.constants = bytes(data)
    units, streams = fabric.units(), fabric.streams()
    run = {"units": len(units), "preloads": len(preloads), "streams": len(streams), "messages": len(messages)}
    fabric.text = [*units, *preloads, *streams, *messages, Instruction("RUN", Queue.CTL, run)]
