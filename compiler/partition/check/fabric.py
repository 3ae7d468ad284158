"""The plan checker's own sums over netlists: resources, wires, busy processes, one frame, links.

Needs the netlists that the checker assembled, the cluster, and the plan's channels; adds up what each unit and
stream is and does (`compiler.isa.stream`) without the partitioner's measures (`compiler.ops.stream.measure`), and takes
budgets from the device database, not from the netlists.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work, boundless, build
from compiler.isa.stream.program import Fabric
from compiler.isa.stream.resources import fifo_resources, stream_wires, unit_resources
from compiler.plan.model import ChannelPlan
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster, Resources
from device_db.topology import link_specs, transport

TYPES = ("lut", "ff", "bram18", "uram", "dsp")
Place = tuple[str, int]  # device, number of the die


@dataclass(slots=True)
class Sums:
    """What all netlists take, in resources by engine and by die, and in wires from a die to the next one."""

    engines: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    dies: defaultdict[Place, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wires: Counter[tuple[str, int, int]] = field(default_factory=Counter)


def sums(programs: Sequence[DeviceProgram]) -> Sums:
    """Unit by unit and FIFO by FIFO; a FIFO stands where its reader does and belongs to its engine."""
    out = Sums()
    for p in programs:
        assert p.fabric is not None
        at = [u.fields["die"] for u in p.fabric.units()]
        for unit, took in _parts(p.fabric):
            die = at[unit]
            for t in TYPES:
                out.engines[p.fabric.rows[unit].engine][t] += getattr(took, t)
                out.dies[(p.name, die)][t] += getattr(took, t)
        for con in p.fabric.streams():
            a, b = at[con.fields["source"]], at[con.fields["target"]]
            for low in range(min(a, b), max(a, b)):
                way = (low, low + 1) if a < b else (low + 1, low)
                out.wires[(p.name, *way)] += stream_wires(con.fields["pe"] * con.fields["bits"])
    return out


def _parts(fabric: Fabric) -> Iterator[tuple[int, Resources]]:
    """(unit, resources) of every unit, and of every FIFO under the unit that reads it."""
    units = fabric.units()
    family = [fabric.dies[u.fields["die"]].family for u in units]
    for k, u in enumerate(units):
        yield k, unit_resources(u, family[k])
    for con in fabric.streams():
        f = con.fields
        yield f["target"], fifo_resources(f["pe"] * f["bits"], f["depth"], f["memory"], family[f["target"]])


def budget(cluster: Cluster, device: int, die: int) -> Resources:
    """What a die has for engines: its usable part, without the network stack where one is needed."""
    board = cluster.devices[device].board
    networked = die == board.network_die and any(device in (x.a, x.b) for x in cluster.links)
    return board.dies[die].usable - (board.network_cost if networked else Resources())


def play(programs: Sequence[DeviceProgram], work: Sequence[Work]) -> tuple[int, int]:
    """Picoseconds a frame of the busiest process of any unit, counted firing by firing, and of one frame through empty
    netlists whose FIFOs never fill."""
    timed = build(programs, work, boundless(programs))
    busy = max(int(timed.network.actors[k].cost_ps.sum()) for actors in timed.units.values() for k in actors)
    timed.network.play(1)
    return busy, max(timed.network.actors[k].end_ps for k in timed.sinks)


def busiest_link_ps(cluster: Cluster, channels: Sequence[ChannelPlan]) -> int:
    """Picoseconds a frame of the network or PCIe link that takes longest for what the plan's channels carry."""
    rates = link_specs(cluster)
    bits: Counter[str] = Counter()
    for c in channels:
        for name in c.route:
            if name in rates and transport(name) != "SLL":
                bits[name] += c.bits_per_frame
    return max((ceil_div(n * PS_PER_SECOND, rates[name][0]) for name, n in bits.items()), default=0)
