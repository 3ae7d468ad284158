"""Needs all cores' columns and all devices' tables; proves that channels, links, ranks and host messages fit together,
that every TX has its RX, and that no core waits for ever for another.

TX and RX of a channel have the same stages in the same order, so a message is sent and taken in one iteration, and
filtering by which frames exist (first and last iterations) leaves the pairing as it is. Credits and tokens only bind
an iteration to itself and earlier ones. So the cluster is free of deadlock if and only if the edges of distance 0 of
one iteration have no cycle. The host sends as soon as there is room and always takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

from compiler.isa.check.findings import Findings
from compiler.isa.check.tokens import LocalOrder
from compiler.isa.check.view import CoreView
from compiler.isa.program import Channel, DeviceProgram, HostMessage
from compiler.isa.table import HOST_RANK

Node = tuple[int, int]  # index of the core view, instruction


@dataclass(frozen=True, slots=True)
class End:
    """One end of a message: what both ends must agree on, and which instruction it is (None for the host)."""

    tag: int
    size: int
    stage: int
    tensor: str
    box: tuple[int, ...]
    task: str
    node: Node | None
    where: tuple[str, ...]
    bridge: bool = False  # of a netlist


@dataclass(slots=True)
class Traffic:
    """Messages of one iteration by channel, in the order in which each side sends and takes them."""

    sent: dict[int, list[End]] = field(default_factory=dict)
    taken: dict[int, list[End]] = field(default_factory=dict)


def check_devices(programs: Sequence[DeviceProgram], findings: Findings) -> dict[int, Channel]:
    """Ranks, channels and links over all devices; all channels by id."""
    ranks: dict[int, str] = {}
    channels: dict[int, Channel] = {}
    names: set[str] = set()
    links: dict[str, object] = {}
    for p in programs:
        if p.name in names:
            findings.add("FVC331", f"two binaries are of device {p.name}", p.name)
        names.add(p.name)
        for rank in p.ranks:
            if rank in ranks or not 0 <= rank < HOST_RANK:
                findings.add("FVC331", f"rank {rank} is taken by {ranks.get(rank, 'the host')}", p.name)
            ranks[rank] = p.name
        for link in p.links:
            if links.setdefault(link.id, link) != link or link.bits_per_second < 1:
                findings.add("FVC331", f"link {link.id}: devices disagree, or it has no bandwidth", p.name)
    netlists = {p.fabric.rank for p in programs if p.fabric is not None}  # their regions may send to each other
    for p in programs:
        here = set(p.ranks)
        known = {link.id for link in p.links}
        seen: set[int] = set()
        for c in p.channels:
            where = f"{p.name}, channel {c.id}"
            if c.id in seen or channels.setdefault(c.id, c) != c:
                findings.add("FVC331", "the channel stands there twice, or devices disagree on it", where)
            seen.add(c.id)
            if not here & {c.source_rank, c.target_rank}:
                findings.add("FVC331", "the channel neither starts nor ends on this device", where)
            loop = c.source_rank == c.target_rank and c.source_rank not in netlists
            if loop or c.capacity < 1:
                findings.add("FVC331", "the channel has no room or leads from a core to itself", where)
            for end in (c.source_rank, c.target_rank):
                if end != HOST_RANK and end not in ranks:
                    findings.add("FVC331", f"the channel leads to rank {end}, which no binary has", where)
            missing = [name for name in c.links if name not in known]
            if missing:
                findings.add("FVC331", f"the channel runs over link {missing[0]}, which is not described", where)
    sizes = sorted({(c.capacity, c.max_bytes) for c in channels.values()})
    if len(sizes) > 1 and (not netlists or any(p.cores for p in programs)):  # netlists alone send whole frames
        findings.add("FVC331", f"channels differ in capacity or message size: {sizes[0]} and {sizes[1]}")
    _same_everywhere(programs, findings)
    return channels


def _same_everywhere(programs: Sequence[DeviceProgram], findings: Findings) -> None:
    first = programs[0]
    for p in programs[1:]:
        for name in ("outputs", "aliases", "replicas", "stages"):
            if getattr(p, name) != getattr(first, name):
                findings.add("FVC331", f"{p.name} and {first.name} disagree on {name}", p.name)
    if first.replicas < 1:
        findings.add("FVC331", "there must be at least one replica", first.name)


def _host_size(m: HostMessage) -> int:
    return len(m.offsets) * prod(m.counts) * m.elem


def gather_traffic(
    programs: Sequence[DeviceProgram],
    views: Sequence[CoreView],
    channels: dict[int, Channel],
    findings: Findings,
    bridges: Sequence[tuple[bool, int, End]] = (),
) -> Traffic:
    """All message ends, each checked against its channel (FVC330); every channel of a device carries some (FVC331).

    bridges: (whether it is sent, channel, end) of the messages of netlists."""
    traffic = Traffic()
    for outgoing, channel, end in bridges:
        (traffic.sent if outgoing else traffic.taken).setdefault(channel, []).append(end)
    known = {p.name: {c.id for c in p.channels} for p in programs}
    for v, view in enumerate(views):
        rank = view.core.rank
        for op, ends in (("TX", traffic.sent), ("RX", traffic.taken)):
            if (group := view.group(op)) is None:
                continue
            for k in group.index.tolist():
                i = view.stream[k]
                f = i.fields
                c = channels.get(f["channel"]) if f["channel"] in known[view.device] else None
                own, peer = ("source_rank", "target_rank") if op == "TX" else ("target_rank", "source_rank")
                if c is None or getattr(c, own) != rank or getattr(c, peer) != f["rank"]:
                    findings.add("FVC330", f"{op} names a channel or rank that is not this core's", *view.where(k))
                    continue
                if f["bytes"] > c.max_bytes:
                    findings.add("FVC330", f"{f['bytes']} bytes, the channel takes {c.max_bytes}", *view.where(k))
                row = view.core.debug[i.debug] if i.debug < len(view.core.debug) else None
                end = End(f["tag"], f["bytes"], i.stage, row.tensor if row else "", row.box if row else (),
                          row.task if row else "", (v, k), view.where(k))  # fmt: skip
                ends.setdefault(c.id, []).append(end)
    for p in programs:
        for m in p.host:
            where = (f"{p.name}, host message of {m.tensor}, channel {m.channel}",)
            c = channels.get(m.channel)
            if c is None or (c.source_rank if m.to_core else c.target_rank) != HOST_RANK:
                findings.add("FVC330", "the host message names a channel that is not the host's", *where)
                continue
            side = traffic.sent if m.to_core else traffic.taken
            side.setdefault(c.id, []).append(End(m.tag, _host_size(m), m.stage, m.tensor, (), "", None, where))
    idle = sorted(channels.keys() - traffic.sent.keys() - traffic.taken.keys())
    if idle:
        findings.add("FVC331", f"no message ever passes channel {idle[0]}")
    return traffic


def check_pairs(traffic: Traffic, findings: Findings) -> None:
    """Every message has its other end: same size, tag, stage, tensor, in the same order (FVC330)."""
    for channel in sorted(traffic.sent.keys() | traffic.taken.keys()):
        sent, taken = traffic.sent.get(channel, []), traffic.taken.get(channel, [])
        if len(sent) != len(taken):
            end = (sent or taken)[0]
            what = f"channel {channel}: an iteration sends {len(sent)} messages and takes {len(taken)}"
            findings.add("FVC330", what, *end.where)
            continue
        for a, b in zip(sent, taken, strict=True):
            for name in ("tag", "size", "stage"):
                if getattr(a, name) != getattr(b, name):
                    what = f"channel {channel}: sent with {name} {getattr(a, name)}, taken with {getattr(b, name)}"
                    findings.add("FVC330", what, *a.where, *b.where)
            if a.tensor != b.tensor or (a.box and b.box and a.box != b.box):
                what = f"channel {channel}: sent as {a.tensor} {a.box}, taken as {b.tensor} {b.box}"
                findings.add("FVC330", what, *a.where, *b.where)
            # A message to the host or a bridge is of the task that made it; one from there is of none.
            if a.task != b.task and b.node is not None and not b.bridge:
                findings.add("FVC330", f"channel {channel}: sent by task {a.task!r}, taken as of {b.task!r}", *b.where)


def check_deadlock(
    views: Sequence[CoreView],
    orders: Sequence[LocalOrder],
    traffic: Traffic,
    channels: dict[int, Channel],
    findings: Findings,
    loose: dict[Node, list[Node]] | None = None,
) -> None:
    """FVC325 unless one iteration of all cores can be put in an order that tokens, messages and credits obey.

    loose: messages of bridges, and what each waits for in the same iteration beside its other end."""
    extra: dict[Node, list[Node]] = {}
    for channel, sent in traffic.sent.items():
        taken = traffic.taken[channel]
        capacity = channels[channel].capacity
        for k, (a, b) in enumerate(zip(sent, taken, strict=True)):
            if a.node and b.node:
                extra.setdefault(b.node, []).append(a.node)
            if k >= capacity and a.node and (credit := taken[k - capacity].node):
                extra.setdefault(a.node, []).append(credit)
    waiting = {n: [*before, *extra.get(n, ())] for n, before in (loose or {}).items()}
    heads = [(v, q) for v in range(len(views)) for q in range(6)]
    at = {(v, q): int(views[v].first[q]) for v, q in heads}
    stop = {(v, q): int(views[v].first[q] + views[v].length[q]) for v, q in heads}
    done = [bytearray(view.count) for view in views]
    for v, k in waiting:
        done += [bytearray() for _ in range(v + 1 - len(done))]
        done[v].extend(bytes(max(0, k + 1 - len(done[v]))))
    moved = True
    while moved:
        moved = False
        for n in [n for n, before in waiting.items() if all(done[v][k] for v, k in before)]:
            done[n[0]][n[1]] = 1
            del waiting[n]
            moved = True
        for v, q in heads:
            k, end, mine, edges = at[v, q], stop[v, q], done[v], orders[v].edges
            while (
                k < end and all(d or mine[p] for p, d in edges[k]) and all(done[w][p] for w, p in extra.get((v, k), ()))
            ):
                mine[k] = 1
                k += 1
            moved |= k != at[v, q]
            at[v, q] = k
    stuck = [views[v].where(at[v, q])[0] for v, q in heads if at[v, q] < stop[v, q]]
    stuck += [f"message {k} of a bridge" for _, k in waiting]
    if stuck:
        findings.add("FVC325", "the cores deadlock: each of these waits for another", *stuck[:12])


def in_order(ends: Sequence[tuple[bool, int, End]]) -> dict[Node, list[Node]]:
    """Of each message of a bridge: the one before it at the same end of its channel."""
    out: dict[Node, list[Node]] = {}
    before: dict[tuple[bool, int], Node] = {}
    for outgoing, channel, end in ends:
        assert end.node is not None
        out[end.node] = [before[(outgoing, channel)]] if (outgoing, channel) in before else []
        before[(outgoing, channel)] = end.node
    return out
