"""What a netlist takes and how long: resources and wires of every die, bits of links, bytes of banks, busy times.

Prices of one unit and one FIFO are the cost model's (`compiler.isa.stream.resources`), supply is the device database's.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compiler.isa.program import Instruction
from compiler.isa.stream.network import cycle_ps
from compiler.isa.stream.resources import fifo_resources, unit_resources
from compiler.isa.stream.table import BY_NAME, MEMORIES
from compiler.isa.table import Queue
from compiler.partition.check.stream.netlist import Netlist, Own, Placed, Seat, engine_of, rate_of
from compiler.partition.check.stream.pieces import Model
from compiler.partition.check.stream.words import Fold
from compiler.plan.model import EnginePlan
from cost_models.network import payload_rate
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import RESOURCE_TYPES, Cluster, DieRef, Resources
from device_db.topology import link_specs, transport

HANDSHAKE_WIRES = 2  # valid and ready
Fifos = Mapping[Own, tuple[Sequence[int], Sequence[str]]]  # depths and memories, in the order of `Netlist.fifos`


def fifos_of(engines: Mapping[Own, EnginePlan]) -> Fifos:
    """Depths and memories as the plan's engines tell them."""
    return {own: (e.parameters["fifo_depths"], e.parameters["fifo_memories"]) for own, e in engines.items()}


def fifo_each(net: Netlist, fifos: Fifos) -> list[tuple[int, str]]:
    """Depth and memory of every stream of a netlist."""
    own = {owner: iter(zip(*both, strict=True)) for owner, both in fifos.items()}
    return [next(own[s.owner]) for s in net.streams]


def instruction(unit: Placed) -> Instruction:
    """The unit as the netlist of a binary has it, numbers of channels apart."""
    return _plain(unit.op, {**unit.fields, "die": unit.ref.die})


def _plain(op: str, f: Mapping[str, int]) -> Instruction:
    return Instruction(op, Queue.CTL, {x.name: f.get(x.name, 0) for x in BY_NAME[op].fields})


@dataclass(slots=True)
class Taken:
    """Resources by piece and by die; SLL wires from a die of a device to the next one, each way by itself."""

    pieces: defaultdict[Own, Counter[str]]
    dies: defaultdict[DieRef, Counter[str]]
    wires: Counter[tuple[int, int, int]]


def taken(net: Netlist, cluster: Cluster, fifos: Fifos) -> Taken:
    """Unit by unit and FIFO by FIFO: a FIFO stands where its reader does. A stream that crosses a boundary takes its
    word in whole bytes and a handshake, on every boundary between the two dies."""
    out = Taken(defaultdict(Counter), defaultdict(Counter), Counter())

    def add(own: Own, ref: DieRef, more: Resources) -> None:
        for t in RESOURCE_TYPES:
            out.pieces[own][t] += getattr(more, t)
            out.dies[ref][t] += getattr(more, t)

    def family(ref: DieRef) -> str:
        return cluster.devices[ref.device].board.family

    for u in net.units:
        add(u.owner, u.ref, unit_resources(instruction(u), family(u.ref)))
    for s, (depth, memory) in zip(net.streams, fifo_each(net, fifos), strict=True):
        here, there = net.units[s.end.unit].ref, net.units[s.target].ref
        add(s.owner, there, fifo_resources(s.end.word.bits, depth, MEMORIES.index(memory), family(there)))
        way = 1 if there.die > here.die else -1
        for die in range(here.die, there.die, way):
            out.wires[(here.device, die, die + way)] += ceil_div(s.end.word.bits, 8) * 8 + HANDSHAKE_WIRES
    return out


def measured_excess(
    model: Model, cluster: Cluster, seats: Mapping[Own, Seat], rows: Sequence[Sequence[Any]]
) -> dict[Own, Resources]:
    """What pieces take beyond the estimate of their own units where Vivado has measured them at this very fold.

    rows: (layer, PE, SIMD, memory or "", variant or "", five amounts)."""
    out: dict[Own, Resources] = {}
    for p in model.pieces:
        for (copy, key), seat in seats.items():
            same = [r for r in rows if key == p.key == r[0] and _at(seat.fold, r)]
            if same:
                family = cluster.devices[seat.ref.device].board.family
                more = Resources(*same[0][5:])
                for u in engine_of(model, p, seat.fold).units:
                    more = more - unit_resources(_plain(u.op, u.fields), family)
                out[(copy, key)] = more
    return out


def _at(fold: Fold, row: Sequence[Any]) -> bool:
    _, pe, simd, memory, variant = row[:5]
    same = (pe, simd) == (fold.pe, fold.simd)
    return same and memory in ("", fold.memory) and variant in ("", fold.variant)


def supply(cluster: Cluster, ref: DieRef) -> Resources:
    """What a die has for engines: its usable share, without the network stack where there are links."""
    board = cluster.devices[ref.device].board
    networked = ref.die == board.network_die and any(ref.device in (x.a, x.b) for x in cluster.links)
    return board.dies[ref.die].usable - (board.network_cost if networked else Resources())


@dataclass(frozen=True, slots=True)
class Loads:
    """Picoseconds a round (a frame of every copy) of engines, links and banks, with bits and bytes that pass."""

    engines: dict[Own, int]
    links: dict[str, tuple[int, int]]  # bits, picoseconds
    banks: dict[str, tuple[int, int, int]]  # bytes, picoseconds of the bank, of the slowest of its readers

    @property
    def slowest_ps(self) -> int:
        links, banks = (ps for _, ps in self.links.values()), (b[2] for b in self.banks.values())
        return max(*self.engines.values(), *links, *banks, 0)


def loads(net: Netlist, cluster: Cluster) -> Loads:
    """The slowest unit of every piece; every link and bank by what passes it."""
    engines: dict[Own, int] = {}
    for u in net.units:
        if u.op != "MEM":
            engines[u.owner] = max(engines.get(u.owner, 0), u.cycles * cycle_ps(cluster.die(u.ref).clock_khz))
    bits: Counter[str] = Counter()
    for m in net.messages:
        for name in m.route:
            bits[name] += 8 * m.bytes
    rates = {k: link_rate(k, row[0]) for k, row in link_specs(cluster).items()}
    links = {k: (b, ceil_div(b * PS_PER_SECOND, rates[k])) for k, b in sorted(bits.items())}
    return Loads(engines, links, _banks(net, cluster))


def link_rate(name: str, bits_per_second: int) -> int:
    """Payload bits a second of a link: packets take their share of a network's."""
    return payload_rate(bits_per_second) if transport(name) == "Ethernet" else bits_per_second


def _banks(net: Netlist, cluster: Cluster) -> dict[str, tuple[int, int, int]]:
    """Readers share a bank by their bytes, and take no word quicker than its port gives it."""
    load: Counter[str] = Counter()
    name = {k: f"{cluster.devices[net.units[k].ref.device].name}/{bank.name}" for k, (_, bank) in net.banks.items()}
    for k in net.banks:
        f = net.units[k].fields
        load[name[k]] += f["turns"] * f["words"] * ceil_div(f["pe"] * f["x_bits"], 8)
    out: dict[str, tuple[int, int, int]] = {}
    for k, (_, bank) in net.banks.items():
        f, rate = net.units[k].fields, rate_of(bank)
        words, total = f["turns"] * f["words"], load[name[k]]
        port_cycles = ceil_div(8 * ceil_div(f["pe"] * f["x_bits"], 8), bank.port_bits)
        word_ps = max(
            ceil_div(total * PS_PER_SECOND, rate * words),
            port_cycles * cycle_ps(cluster.die(net.units[k].ref).clock_khz),
        )
        slowest = max(out.get(name[k], (0, 0, 0))[2], word_ps * words)
        out[name[k]] = total, ceil_div(total * PS_PER_SECOND, rate), slowest
    return dict(sorted(out.items()))
