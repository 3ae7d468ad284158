"""Ways to put a network on dies, each at the least interval that it reaches, measured on the same netlists.

in_order: one fold a layer, layers in the graph's order fill die after die. elastic_df: the same folds, placed by the
released formulation (fewest weighted crossings under the dies' limits, one direct connection an edge). fvc: folds and
places together. The first two take the least interval at which they find a place, by bisection.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.elastic_problem import TYPES, Streaming, amounts, fixed, joint, pick
from compiler.floorplan.budget import Clock, Settings
from compiler.floorplan.joint import start
from compiler.floorplan.solve import solve
from compiler.isa.stream.network import cycle_ps
from compiler.isa.stream.program import FabricDie
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.measure import crossing_wires, die_use, latency_ps, link_ps
from compiler.ops.stream.netlists import Seat
from compiler.ops.stream.programs import programs_of
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from cost_models.clock import reachable_khz
from cost_models.economics import economics
from device_db.errors import FvcError
from device_db.model import Resources
from device_db.topology import transport

RELEASED_SECONDS, JOINT_SECONDS = 1.5, 12.0  # deterministic: of one placement, of one whole search
LAST_SECONDS = 8.0  # of the released formulation at the interval that it ends with
HOST_SEGMENT_NS = 50  # so that the host hides no net
Place = list[tuple[int, int]]  # (slot, option) a layer


@dataclass(frozen=True, slots=True)
class Found:
    """interval in cycles; bound, status and proof as the solver gave them (of the crossings for elastic_df)."""

    place: Place
    interval: int
    details: dict[str, Any]


def steps(p: Streaming) -> list[int]:
    """Every interval at which something changes, ascending, none below the slowest layer's quickest fold."""
    least = max(own[0].cycles for own in p.options)
    return sorted({o.cycles for own in p.options for o in own if o.cycles >= least})


def least(p: Streaming, attempt: Callable[[int], Found | None]) -> Found | None:
    """Bisection over `steps`: what fails at one interval is taken to fail below it, as a user would."""
    values, best = steps(p), None
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        found = attempt(values[middle])
        if found is None:
            low = middle + 1
        else:
            best, high = found, min(middle, bisect_left(values, found.interval))
    return best


def in_order(p: Streaming, copies: int) -> Found | None:
    def attempt(interval: int) -> Found | None:
        picks = pick(p, interval)
        if picks is None:
            return None
        place: Place = []
        slot, left = 0, list(p.budget[0])
        for own, k in list(zip(p.options, picks, strict=True)) * copies:
            need = amounts(own[k])
            while any(a > b for a, b in zip(need, left, strict=True)):
                slot += 1
                if slot == len(p.refs):
                    return None
                left = list(p.budget[slot])
            left = [b - a for a, b in zip(need, left, strict=True)]
            place.append((slot, k))
        return Found(place, _slowest(p, place), {})

    return least(p, attempt)


def elastic_df(p: Streaming, copies: int) -> Found | None:
    def attempt(interval: int, seconds: float = RELEASED_SECONDS) -> Found | None:
        picks = pick(p, interval)
        if picks is None:
            return None
        answer = solve(fixed(p, picks, interval, "released", copies), Settings(limit=seconds))
        if not answer.assignment:
            return None
        place = [(s, k) for (s, _), k in zip(answer.assignment, picks * copies, strict=True)]
        details = {"status": answer.status, "crossing_cost": answer.objective, "crossing_cost_bound": answer.bound}
        return Found(place, _slowest(p, place), details)

    found = least(p, attempt)
    if found is None or found.details["status"] == "OPTIMAL":
        return found
    again = attempt(found.interval, LAST_SECONDS)
    return found if again is None or again.interval > found.interval else again


def fvc(p: Streaming, copies: int) -> Found | None:
    answer = solve(joint(p, "fvc", copies), Settings(limit=JOINT_SECONDS))
    if not answer.assignment or answer.objective is None:
        return None
    details = {"status": answer.status, "bound": answer.bound, "gap": answer.gap, "proved_by": answer.proved_by}
    return Found(list(answer.assignment), answer.objective, details)


FLOWS: dict[str, Callable[[Streaming, int], Found | None]] = {
    "in_order": in_order,
    "elastic_df": elastic_df,
    "fvc": fvc,
}


def merged(p: Streaming, copies: int) -> int | None:
    """No interval of so many copies is below this, whatever the flow; None: they do not fit at all."""
    found = start(joint(p, "", copies), Clock(Settings(limit=JOINT_SECONDS)))
    return None if found is None else found.values[found.low]


def _slowest(p: Streaming, place: Place) -> int:
    return max(p.options[i % len(p.nodes)][k].cycles for i, (_, k) in enumerate(place))


def measure(p: Streaming, found: Found) -> dict[str, Any]:
    """What the netlists of a placement take and give, all copies together: the same ruler for all flows."""
    n, ps, board = len(p.nodes), cycle_ps(p.clock_khz), p.cluster.devices[0].board
    copies = len(found.place) // n
    wires: Counter[str] = Counter()
    bits: Counter[str] = Counter()
    used: dict[tuple[str, str], Resources] = {}
    have: dict[tuple[str, str], FabricDie] = {}
    link_time: Counter[str] = Counter()
    latency = hops = streams = 0
    for c in range(copies):
        own = found.place[c * n : (c + 1) * n]
        seats = {x.name: Seat(p.refs[s], o[k].fold) for x, o, (s, k) in zip(p.nodes, p.options, own, strict=True)}
        assembly = assemble(p.graph, p.cluster, seats)
        programs = programs_of(p.graph, p.cluster, assembly, found.interval * ps, {}, {})
        wires.update(crossing_wires(programs))
        for name, (amount, time) in link_ps(programs).items():
            if transport(name) == "Ethernet":
                bits[name] += amount
                link_time[name] += time
        for program in programs:
            assert program.fabric is not None
            for die, taken in zip(program.fabric.dies, die_use(program), strict=True):
                key = (program.name, die.name)
                used[key], have[key] = used.get(key, Resources()) + taken, die
        latency = max(latency, latency_ps(programs, ()))
        hops = max([hops, *(w.hops for net in assembly.nets for w in net.wires)])
        streams += sum(w.hops for net in assembly.nets for w in net.wires)
    use, over = {}, []
    for (device, name), taken in used.items():
        raw = next(d.raw for d in board.dies if d.name == name)
        use[f"{device}/{name}"] = {t: getattr(taken, t) * 1000 // getattr(raw, t) for t in TYPES if getattr(raw, t)}
        over += [f"{device}/{name} {t}" for t in TYPES if getattr(taken, t) > getattr(have[device, name], t)]
    for name, amount in wires.items():
        pair = name.split("/")[1].split(">")
        low = min(next(k for k, d in enumerate(board.dies) if d.name == x) for x in pair)
        over += [f"{name} wires"] if amount > board.sll_wires[low] else []
    return {
        **row(
            p, copies, found.interval, max([found.interval * ps, *link_time.values()]), link_time, latency, use, hops
        ),
        "sll_wires": dict(sorted(wires.items())),
        "sll_streams": streams,
        "link_bits": dict(sorted(bits.items())),
        "over": over,
    }


def row(
    p: Streaming,
    copies: int,
    cycles: int,
    interval_ps: int,
    link_time: Mapping[str, int],
    latency_ps: int,
    use: Mapping[str, Mapping[str, int]],
    hops: int,
) -> dict[str, Any]:
    """Rate, latency, price and clock of `copies` copies that give a frame each in `interval_ps` (`cycles`, but for
    links). use: permille by die and resource; hops: die boundaries on the longest way of a stream."""
    board = p.cluster.devices[0].board
    khz, source = reachable_khz(board.family, -(-max(max(u.values()) for u in use.values()) // 10), hops)
    slower = max([cycles * cycle_ps(khz), *link_time.values()])
    powers, prices = zip(*((d.board.power_w, d.board.price_usd) for d in p.cluster.devices), strict=True)
    return {
        "copies": copies,
        "interval_cycles": cycles,
        "interval_us": round(interval_ps / 1e6, 3),
        "fps": round(copies * 1e12 / interval_ps, 1),
        "latency_ms": round(latency_ps / 1e9, 4),
        "clock_table_mhz": khz / 1000,
        "clock_table_source": source,
        "clock_table_fps": round(copies * 1e12 / slower, 1),
        "fps_per_kusd": round(copies * economics(powers, prices, interval_ps).frames_per_second_per_kusd, 2),
        "die_permille_of_raw": dict(use),
    }


def planned(p: Streaming, copies: int) -> dict[str, Any]:
    """`fvc partition --style streaming` as it is: FIFOs as deep as they must be, what room is left spent on latency.

    copies: those that fold and place ended with. The host's segments count next to nothing, as in the other flows."""
    options = PartitionOptions(
        style="streaming", replicas=copies, host_ns={s.name: HOST_SEGMENT_NS for s in p.graph.host_segments}
    )
    try:
        plan = partition(p.graph, p.cluster, options)
    except FvcError as error:
        return {"status": f"no plan: {error.code}"}
    raw = {(d.name, die.name): die.raw for d in p.cluster.devices for die in d.board.dies}
    taken: dict[tuple[str, str], Counter[str]] = {}
    for e in plan.engines:
        taken.setdefault((e.device, e.die), Counter()).update({t: getattr(e.resources, t) for t in TYPES})
    use = {
        f"{device}/{die}": {
            t: own[t] * 1000 // getattr(raw[device, die], t) for t in TYPES if getattr(raw[device, die], t)
        }
        for (device, die), own in sorted(taken.items())
    }
    streams = [sum(transport(x) == "SLL" for x in c.route) for c in plan.channels]
    predicted, ps = plan.predicted, cycle_ps(p.clock_khz)
    links = {k: x["bits_per_frame"] for k, x in predicted["links"].items() if transport(k) == "Ethernet"}
    pace = int(predicted["pace_ps"])
    shares = {k: pace * x["utilisation_permille"] // 1000 for k, x in predicted["links"].items()}
    return {
        "status": plan.solver.status,
        "gap": plan.solver.gap,
        "proved_by": plan.solver.proved_by,
        **row(p, copies, pace // ps, pace, shares, int(predicted["latency_ns"]) * 1000, use, max(streams, default=0)),
        "sll_wires": {k: x["wires"] for k, x in predicted["crossings"].items()},
        "sll_streams": sum(streams),
        "link_bits": links,
        "over": [],
    }
