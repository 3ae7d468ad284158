"""Judges what a plan's netlist takes of dies, boundaries and links: resources, wires, what crosses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from compiler.isa.check.findings import Findings
from compiler.partition.check.stream.netlist import Netlist, Own, Seat
from compiler.partition.check.stream.pieces import JOIN, PART, Model
from compiler.partition.check.stream.sums import Fifos, supply, taken
from compiler.plan.model import Box, ChannelPlan, EnginePlan
from device_db.model import RESOURCE_TYPES, Cluster, DieRef, Resources
from device_db.topology import die_path, route


def check_budgets(
    net: Netlist,
    cluster: Cluster,
    engines: Mapping[Own, EnginePlan],
    fifos: Fifos,
    excess: Mapping[Own, Resources],
    others: Mapping[tuple[str, int], int],
    found: Findings,
) -> dict[str, dict[str, int]]:
    """FVC203, FVC209, FVC220 for what an engine says of itself; gives the wires by boundary.

    excess: beyond the estimate, as measured. others: (device, die) -> wires to the next die that tiled engines and
    messages take."""
    use = taken(net, cluster, fifos)
    for own, e in engines.items():
        for t in RESOURCE_TYPES:
            use.pieces[own][t] += getattr(excess.get(own, Resources()), t)
        told, meant = [getattr(e.resources, t) for t in RESOURCE_TYPES], [use.pieces[own][t] for t in RESOURCE_TYPES]
        if told != meant:
            found.add("FVC220", f"resources {told}, its units and FIFOs take {meant}", f"engine {e.id}")
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    for own, more in excess.items():
        for t in RESOURCE_TYPES:
            use.dies[dies[f"{engines[own].device}/{engines[own].die}"]][t] += getattr(more, t)
    for ref, took in use.dies.items():
        have, where = supply(cluster, ref), cluster.die_name(ref)
        for t in RESOURCE_TYPES:
            if took[t] > getattr(have, t):
                what = f"{t.upper()} over budget on {where}: {took[t]:,} needed, {getattr(have, t):,} usable"
                found.add("FVC203", what, where)
    crossings: dict[str, dict[str, int]] = {}
    for (device, a, b), wires in use.wires.items():
        dev = cluster.devices[device]
        name = f"{cluster.die_name(DieRef(device, a))}>{dev.board.dies[b].name}"
        crossings[name] = {"wires": wires}
        limit = dev.board.sll_wires[min(a, b)] if min(a, b) < len(dev.board.sll_wires) else 0
        limit -= others.get((dev.name, min(a, b)), 0)
        if wires > limit:
            found.add("FVC209", f"SLL wires over budget on {name}: {wires:,} needed, {limit:,} there", name)
    return crossings


def channels_of(net: Netlist, model: Model, cluster: Cluster, seats: Mapping[Own, Seat]) -> list[ChannelPlan]:
    """What crosses: messages between devices and with the host, streams between dies of one."""
    of = {p.makes: p for p in model.pieces if p.kind == PART and not p.sums}
    whole = {p.node.name: p.makes for p in model.pieces if p.kind == JOIN}

    def told(tensor: str) -> tuple[str, Box]:
        """A row block's tensor is a box of the layer's."""
        if tensor in of:
            return whole[of[tensor].node.name], of[tensor].box
        n, c, h, w = model.view(tensor)
        return tensor, (0, n, 0, c, 0, h, 0, w)

    out = []
    for m in net.messages:
        a, b = (seats[own] if own is not None else None for own in (m.source, m.target))
        way = route(cluster, a.ref if a else None, b.ref if b else None)
        ends = a.engine if a else "host", b.engine if b else "host"
        out.append(ChannelPlan(*told(m.tensor), *ends, 8 * m.bytes, way, 0, 0, m.copy))
    for s in net.streams:
        source = net.units[s.end.unit].owner
        here, there = seats[source], seats[s.owner]
        if here.ref != there.ref:
            way = die_path(cluster, here.ref.device, here.ref.die, there.ref.die)
            bits = s.end.word.count * s.end.word.bits
            out.append(ChannelPlan(*told(s.tensor), here.engine, there.engine, bits, way, 0, 0, s.owner[0]))
    return out


def check_channels(told: Sequence[ChannelPlan], meant: Sequence[ChannelPlan], found: Findings) -> None:
    """FVC220: the plan's channels are these, in any order."""
    more, less = Counter(told), Counter(meant)
    for what, odd in (("that nothing needs", more - less), ("that the plan leaves out", less - more)):
        for c in odd:
            text = f"a channel {what}: {c.bits_per_frame:,} bits from {c.source} to {c.target} by {list(c.route)}"
            found.add("FVC220", text, f"channel of {c.tensor}")
