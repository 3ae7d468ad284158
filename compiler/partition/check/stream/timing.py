"""One frame through the checker's own netlist by the machine's rules (`compiler.isa.stream.network`)."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.isa.program import Channel, DeviceProgram, HostMessage, Instruction, LinkSpec
from compiler.isa.stream.network import Work, boundless, build
from compiler.isa.stream.program import Fabric, FabricBank, FabricDie
from compiler.isa.table import HOST_RANK, Queue
from compiler.partition.check.stream.netlist import Netlist, rate_of
from compiler.partition.check.stream.sums import Fifos, fifo_each, instruction, link_rate
from device_db.model import Cluster
from device_db.topology import link_specs

FIFO_WORDS = 32
MESSAGES = 2


def latency_ps(net: Netlist, cluster: Cluster, copies: int, work: Sequence[Work], fifos: Fifos | None = None) -> int:
    """Picoseconds of one frame (of every copy) through an empty netlist whose FIFOs never fill.

    Those of weights out of DRAM do, which else were there before the frame is. fifos: absent where there are none such.
    """
    depths = [FIFO_WORDS] * len(net.streams) if fifos is None else [d for d, _ in fifo_each(net, fifos)]
    programs = [_program(net, cluster, d, copies, depths) for d in sorted({u.ref.device for u in net.units})]
    timed = build(programs, work, boundless(programs))
    timed.network.play(1)
    return max(timed.network.actors[k].end_ps for k in timed.sinks)


def _program(net: Netlist, cluster: Cluster, device: int, copies: int, depths: Sequence[int]) -> DeviceProgram:
    own = [k for k, u in enumerate(net.units) if u.ref.device == device]
    number = {k: n for n, k in enumerate(own)}
    units = [instruction(net.units[k]) for k in own]
    for k, ins in zip(own, units, strict=True):
        if k in net.banks:
            ins.fields["bank"] = net.banks[k][0]
    streams = []
    for k, s in enumerate(net.streams):
        if s.target not in number:
            continue
        here, there = net.units[s.end.unit].ref, net.units[s.target].ref
        word = s.end.word
        f = {"source": number[s.end.unit], "source_port": s.end.port, "target": number[s.target], "target_port": s.port}
        f |= {"pe": word.lanes, "bits": word.element.bits, "signed": int(word.element.signed), "words": word.count}
        f |= {"depth": depths[k], "hops": abs(here.die - there.die)}
        streams.append(Instruction("CON", Queue.CTL, f))
    board = cluster.devices[device].board
    dies = [FabricDie(d.name, d.clock_khz, 0, 0, 0, 0, 0, 0, board.family) for d in board.dies]
    banks = [FabricBank(b.name, b.die, rate_of(b), b.capacity_bytes, b.port_bits) for b in board.banks]
    fabric = Fabric(device, dies, [*units, *streams], b"", {}, [], banks=banks)
    ports = {net.ports[k] for k in own if k in net.ports}
    channels, host, names = [], [], set()
    for k in sorted(ports):
        m = net.messages[k]
        ends = [HOST_RANK if d is None else d for d in (m.source_device, m.target_device)]
        channels.append(Channel(k, ends[0], ends[1], MESSAGES, m.bytes, "", m.route))
        names |= set(m.route)
        if HOST_RANK in ends:
            to_core = ends[0] == HOST_RANK
            host.append(HostMessage(k, k, m.tensor, "", (), (), (0, 0, 0), (0, 0, 0), 1, to_core, 0, m.copy))
    specs = link_specs(cluster)
    links = [LinkSpec(n, link_rate(n, specs[n][0]), specs[n][1]) for n in sorted(names)]
    return DeviceProgram(cluster.devices[device].name, [], channels, links, host, replicas=copies, fabric=fabric)
