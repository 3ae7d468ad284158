"""Plan -> programs: the scheduler on one page.

Needs a checked plan, its graph and cluster; guarantees one DeviceProgram a device of the plan, whose queues follow
the plan's global order on every core, so that no plan can deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from compiler.ir.graph import Graph
from compiler.isa.program import Channel, CoreProgram, DeviceProgram, EngineSpec, HostMessage, LinkSpec
from compiler.isa.table import HOST_RANK
from compiler.plan.model import EnginePlan, Plan
from compiler.schedule.buffers import plan_buffers
from compiler.schedule.core import CoreBuilder
from compiler.schedule.flow import build_flow
from compiler.schedule.messages import CAPACITY_MESSAGES, MESSAGE_BYTES, Message, host_message, plan_messages
from compiler.schedule.shares import ShareMessage, share_messages
from device_db.model import Cluster, DieRef
from device_db.topology import link_specs, route, transport


def engine_spec(engine: EnginePlan) -> EngineSpec:
    """The hardware numbers of a planned engine."""
    given = dict(engine.parameters)
    given |= {"id": engine.id, "die": engine.die, "tm": engine.fold["tm"], "tn": engine.fold["tn"]}
    return EngineSpec(**{f.name: given[f.name] for f in fields(EngineSpec)})


def die_ref(cluster: Cluster, engine: EnginePlan) -> DieRef:
    """The die an engine stands on."""
    for ref in cluster.dies:
        device = cluster.devices[ref.device]
        if device.name == engine.device and cluster.die(ref).name == engine.die:
            return ref
    raise KeyError(f"{engine.device}/{engine.die}")


@dataclass(frozen=True, slots=True)
class Cores:
    """What tiled engines make of a plan: programs by rank, messages by replica in the global order, channels by pair of
    ranks."""

    programs: dict[int, CoreProgram]
    messages: dict[int, list[Message | ShareMessage]]
    channels: dict[tuple[int, int], Channel]


def schedule(graph: Graph, plan: Plan, cluster: Cluster) -> list[DeviceProgram]:
    """The programs of all devices of a plan, devices in the cluster's order, cores by rank."""
    if plan.regions:
        from compiler.schedule.mixed import schedule_mixed

        return schedule_mixed(graph, plan, cluster)
    if any(e.style == "streaming" for e in plan.engines):
        from compiler.schedule.stream import schedule_streaming

        return schedule_streaming(graph, plan, cluster)
    cores = schedule_cores(graph, plan, cluster, {})
    out = []
    for device in cluster.devices:
        ranks = [e.rank for e in sorted(plan.engines, key=lambda e: e.rank) if e.device == device.name]
        if ranks:
            out.append(device_program(graph, plan, cluster, cores, device.name, ranks, graph))
    return out


def schedule_cores(graph: Graph, plan: Plan, cluster: Cluster, others: Mapping[int, DieRef]) -> Cores:
    """The cores of a plan of tiled engines. others: ranks that are none, and the dies at which messages reach them."""
    engines = {e.rank: e for e in sorted(plan.engines, key=lambda e: e.rank)}
    messages: dict[int, list[Message | ShareMessage]] = {}
    builders: dict[int, CoreBuilder] = {}
    flows = [build_flow(graph, plan, r) for r in range(max(1, plan.replicas))]
    tag = 0
    for flow in flows:
        buffers = {rank: plan_buffers(graph, flow, rank) for rank in flow.tasks}
        for rank, refs in flow.tasks.items():
            builder = CoreBuilder(graph, flow, engine_spec(engines[rank]), rank, buffers[rank])
            for ref in refs:
                builder.add_task(ref)
            builders[rank] = builder
        shares = share_messages(graph, plan, flow, MESSAGE_BYTES)
        messages[flow.replica] = plan_messages(graph, flow, {r: b.views for r, b in buffers.items()}, shares, tag)
        tag += len(messages[flow.replica])
    dies = {rank: die_ref(cluster, e) for rank, e in engines.items()} | dict(others)
    channels = plan_channels(cluster, dies, [m for part in messages.values() for m in part])
    for flow in flows:
        for rank, refs in flow.tasks.items():
            builders[rank].add_messages(messages[flow.replica], lambda a, b: channels[(a, b)].id)
            builders[rank].add_layers(refs)
    return Cores({r: b.finish() for r, b in sorted(builders.items())}, messages, channels)


def device_program(
    graph: Graph, plan: Plan, cluster: Cluster, cores: Cores, name: str, ranks: Sequence[int], whole: Graph
) -> DeviceProgram:
    """One device with its cores. graph, plan: what its messages are of; whole: the model's own graph."""
    specs = link_specs(cluster)
    own = [c for c in cores.channels.values() if c.source_rank in ranks or c.target_rank in ranks]
    links = sorted({link for c in own for link in c.links})
    host = [
        host_message(graph, m, cores.channels[(m.source, m.target)].id, replica)
        for replica, part in cores.messages.items()
        for m in part
        if isinstance(m, Message) and HOST_RANK in (m.source, m.target) and _core_end(m) in ranks
    ]
    return DeviceProgram(
        name=name,
        cores=[cores.programs[r] for r in ranks if r in cores.programs],
        channels=own,
        links=[LinkSpec(name, *specs[name]) for name in links],
        host=host,
        outputs={name: whole.root(name) for name in whole.outputs},
        aliases=aliases_of(whole),
        replicas=max(1, plan.replicas),
        stages=_stages(plan),
        note=_note(whole, plan),
    )


def plan_channels(
    cluster: Cluster, refs: Mapping[int, DieRef], messages: Sequence[Message | ShareMessage]
) -> dict[tuple[int, int], Channel]:
    """One channel for each ordered pair of ranks that exchange messages, numbered in rank order. refs: dies by rank."""
    pairs = sorted({(m.source, m.target) for m in messages})
    out = {}
    for k, (source, target) in enumerate(pairs):
        links = route(cluster, refs.get(source), refs.get(target))
        kinds = [transport(link) for link in links]
        kind = next((k for k in ("PCIe", "Ethernet") if k in kinds), "SLL")
        out[(source, target)] = Channel(k, source, target, CAPACITY_MESSAGES, MESSAGE_BYTES, kind, links)
    return out


def _core_end(m: Message) -> int:
    """The rank of the core at which a message of the host begins or ends."""
    return m.target if m.source == HOST_RANK else m.source


def _stages(plan: Plan) -> int:
    stages = [s.stage for layer in plan.layers for s in layer.slices] + [h.stage for h in plan.host_segments]
    return max([*stages, *(r.stage + r.lag for r in plan.regions)], default=0)


def _note(graph: Graph, plan: Plan) -> dict[str, object]:
    return {
        "model": dict(sorted(plan.model.items())),
        "graph": graph.name,
        "seed": plan.solver.seed,
        "gap_ppm": round(plan.solver.gap * 1_000_000),
        "status": plan.solver.status,
    }


def aliases_of(graph: Graph) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Other names of tensors that the host may ask for, with their shapes."""
    asked = [*graph.outputs, *graph.inputs]
    for segment in graph.host_segments:
        asked += [*segment.inputs, *segment.outputs]
    out = {}
    for name in asked:
        root = graph.aliases.get(name)
        if root is None:
            continue
        if name in graph.tensors:
            out[name] = (root, graph.tensors[name].shape)
        elif name in graph.host_tensors:
            out[name] = (root, graph.host_tensors[name][1])
    return out


__all__ = [
    "HostMessage", "aliases_of", "device_program", "die_ref", "engine_spec", "plan_channels", "schedule",
    "schedule_cores",
]  # fmt: skip
