"""What netlists take and how long they take, read off the programs: budgets, wires, links, busy units, one frame.

The partitioner's figures; the plan checker has netlists and sums of its own (`compiler.partition.check.stream`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.ir.graph import Graph
from compiler.isa.program import DeviceProgram
from compiler.isa.stream.banks import frame_bytes, word_times
from compiler.isa.stream.network import Work, boundless, build, cycle_ps
from compiler.isa.stream.rates import unit_cycles
from compiler.isa.stream.resources import fifo_resources, stream_wires, unit_resources
from compiler.ops.boxes import whole_box
from compiler.ops.stream.netlists import Assembly, Seat, engine_id, own_name
from compiler.ops.stream.parts import view
from compiler.ops.stream.programs import full_route
from compiler.ops.stream.sliced import Box, Join, Part
from compiler.plan.model import ChannelPlan
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster, Resources
from device_db.topology import die_path


def busy_ps(programs: Sequence[DeviceProgram]) -> dict[str, int]:
    """Engine id -> picoseconds a frame of its slowest unit, readers of DRAM apart (`bank_ps`)."""
    out: dict[str, int] = {}
    for p in programs:
        assert p.fabric is not None
        for ins, row in zip(p.fabric.units(), p.fabric.rows, strict=True):
            if ins.op == "MEM":
                continue
            ps = unit_cycles(ins) * cycle_ps(p.fabric.dies[ins.fields["die"]].clock_khz)
            out[row.engine] = max(out.get(row.engine, 0), ps)
    return out


def compute_ps(programs: Sequence[DeviceProgram]) -> dict[str, int]:
    """As `busy_ps`, of the units that compute alone: MVAU, VVAU, POOL, SUM, BIN."""
    out: dict[str, int] = {}
    for p in programs:
        assert p.fabric is not None
        for ins, row in zip(p.fabric.units(), p.fabric.rows, strict=True):
            if ins.op in ("MVAU", "VVAU", "POOL", "SUM", "BIN"):
                ps = unit_cycles(ins) * cycle_ps(p.fabric.dies[ins.fields["die"]].clock_khz)
                out[row.engine] = max(out.get(row.engine, 0), ps)
    return out


def link_ps(programs: Sequence[DeviceProgram]) -> dict[str, tuple[int, int]]:
    """Network or PCIe link -> (bits a frame, picoseconds that they take)."""
    rate = {x.id: x.bits_per_second for p in programs for x in p.links}
    bits: dict[str, int] = {}
    for c in {c.id: c for p in programs for c in p.channels}.values():
        for name in c.links:
            bits[name] = bits.get(name, 0) + 8 * c.max_bytes
    return {k: (b, ceil_div(b * PS_PER_SECOND, rate[k])) for k, b in sorted(bits.items())}


def bank_ps(programs: Sequence[DeviceProgram]) -> dict[str, tuple[int, int, int]]:
    """Memory bank "u280-0/HBM3" -> (bytes a frame, picoseconds that it is busy, those of the slowest of its readers,
    whose port may be narrower than the bank is quick)."""
    out: dict[str, tuple[int, int, int]] = {}
    for p in programs:
        assert p.fabric is not None
        times = word_times(p.fabric, [cycle_ps(d.clock_khz) for d in p.fabric.dies])
        for k, each in times.items():
            f = p.fabric.units()[k].fields
            bank = p.fabric.banks[f["bank"]]
            name = f"{p.name}/{bank.name}"
            size, _, slowest = out.get(name, (0, 0, 0))
            size += frame_bytes(f)
            busy = ceil_div(size * PS_PER_SECOND, bank.bytes_per_second)
            out[name] = size, busy, max(slowest, each * f["turns"] * f["words"])
    return dict(sorted(out.items()))


def pace_ps(programs: Sequence[DeviceProgram]) -> int:
    """Picoseconds a round of the slowest unit, link or reader of a memory bank."""
    return max(
        [
            *busy_ps(programs).values(),
            *(ps for _, ps in link_ps(programs).values()),
            *(ps for _, _, ps in bank_ps(programs).values()),
        ]
    )


def crossing_wires(programs: Sequence[DeviceProgram]) -> dict[str, int]:
    """Boundary "u280-0/SLR0>SLR1" -> wires that streams take of it, each direction by itself."""
    out: dict[str, int] = {}
    for p in programs:
        assert p.fabric is not None
        units, dies = p.fabric.units(), p.fabric.dies
        for con in p.fabric.streams():
            f = con.fields
            a, b = units[f["source"]].fields["die"], units[f["target"]].fields["die"]
            step = 1 if b > a else -1
            for k in range(a, b, step):
                name = f"{p.name}/{dies[k].name}>{dies[k + step].name}"
                out[name] = out.get(name, 0) + stream_wires(f["pe"] * f["bits"])
    return dict(sorted(out.items()))


def latency_ps(programs: Sequence[DeviceProgram], work: Sequence[Work]) -> int:
    """One frame through the empty machine whose FIFOs never fill."""
    timed = build(programs, work, boundless(programs))
    timed.network.play(1)
    return max(timed.network.actors[k].end_ps for k in timed.sinks)


def die_use(program: DeviceProgram) -> list[Resources]:
    """What units and FIFOs take of each die; a FIFO stands where its reader does."""
    fabric = program.fabric
    assert fabric is not None
    used = [Resources() for _ in fabric.dies]
    units = fabric.units()
    for ins in units:
        k = ins.fields["die"]
        used[k] = used[k] + unit_resources(ins, fabric.dies[k].family)
    for con in fabric.streams():
        f = con.fields
        k = units[f["target"]].fields["die"]
        used[k] = used[k] + fifo_resources(f["pe"] * f["bits"], f["depth"], f["memory"], fabric.dies[k].family)
    return used


def engine_use(program: DeviceProgram) -> dict[str, Resources]:
    """As `die_use`, by engine: a FIFO belongs to the engine of its reader."""
    fabric = program.fabric
    assert fabric is not None
    out: dict[str, Resources] = {}
    units = fabric.units()
    for ins, row in zip(units, fabric.rows, strict=True):
        family = fabric.dies[ins.fields["die"]].family
        out[row.engine] = out.get(row.engine, Resources()) + unit_resources(ins, family)
    for con in fabric.streams():
        f = con.fields
        row, family = fabric.rows[f["target"]], fabric.dies[units[f["target"]].fields["die"]].family
        more = fifo_resources(f["pe"] * f["bits"], f["depth"], f["memory"], family)
        out[row.engine] = out[row.engine] + more
    return out


def channels(graph: Graph, cluster: Cluster, assembly: Assembly, seats: Mapping[str, Seat]) -> list[ChannelPlan]:
    """What crosses: tensors between dies (streams) and between devices or host (messages)."""

    engines = {
        own_name(n.name, c): engine_id(cluster, graph, n.name, seats[own_name(n.name, c)].ref, c)
        for c in range(assembly.copies)
        for n in graph.nodes
        if own_name(n.name, c) in seats  # others stand on tiled engines
    } | {"": "host"}
    copies = {own_name(n.name, c): c for c in range(assembly.copies) for n in graph.nodes}
    whole = {n.layer: n.y for n in graph.nodes if isinstance(n, Join)}
    pieces = {n.y: (whole[n.layer], n.box) for n in graph.nodes if isinstance(n, Part) and n.reduce == (0, 0)}

    def told(tensor: str) -> tuple[str, Box]:
        """A row block's tensor is a box of the layer's."""
        return pieces[tensor] if tensor in pieces else (tensor, whole_box(view(graph, tensor)))

    out = []
    for x in assembly.links:
        out.append(
            ChannelPlan(*told(x.tensor), engines[x.source_owner], engines[x.target_owner], x.bits,
                        full_route(cluster, x, seats), 0, 0, x.copy)
        )  # fmt: skip
    for net in assembly.nets:
        for w in net.wires:
            a, b = net.owners[w.source[0]], net.owners[w.target[0]]
            if a == b or seats[a].ref == seats[b].ref:
                continue
            bits = w.port.words * w.port.width_bits
            way = die_path(cluster, net.device, seats[a].ref.die, seats[b].ref.die)
            out.append(ChannelPlan(*told(w.tensor), engines[a], engines[b], bits, way, 0, 0, copies[a]))
    return out
