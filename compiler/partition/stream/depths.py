"""FIFO depths from the timed netlist: no deadlock, and the interval that the slowest unit allows.

They are what the FIFOs hold in a steady schedule, which proves both. Where there is none near the interval, the netlist
is played: FIFOs of branches that meet again have no bound at first, and what they held is their depth; all others are
as deep as shift registers are for free, and grow together until the interval is that of the slowest unit; then each
shrinks to what it held.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.ir.graph import Graph
from compiler.isa.stream.flow import Stuck
from compiler.isa.stream.network import CROSSING_CYCLES, Timed, Work, build, held
from compiler.isa.stream.steady import FREE_DEPTH, steady_near
from compiler.isa.stream.table import BRAM, LUTRAM, URAM
from compiler.ops.stream.joins import LEAST_DEPTH
from compiler.ops.stream.lower import INNER_DEPTH
from compiler.ops.stream.netlists import Assembly, Wire
from compiler.ops.stream.programs import programs_of
from device_db.model import Cluster

DEEPEST_TRY = 4096
SETTLED_PERMILLE = 1002
LUTRAM_WORDS, URAM_BITS = 256, 1 << 19
SETTLE_FRAMES, MOST_FRAMES = 2, 24


@dataclass(frozen=True, slots=True)
class Depths:
    """Words and memory of every FIFO, by the layer that owns it; the interval that they give. steady: a steady schedule
    proves it, else it was played."""

    words: dict[str, list[int]]
    memory: dict[str, list[int]]
    interval_ps: int
    steady: bool = True


def fifo_memory(depth: int, width_bits: int, has_uram: bool) -> int:
    """Where a FIFO stands: LUTRAM while it is shallow, URAM where it is large and the board has some."""
    if depth <= LUTRAM_WORDS:
        return LUTRAM
    return URAM if has_uram and depth * width_bits >= URAM_BITS else BRAM


def play(timed: Timed, most: int = MOST_FRAMES) -> int:
    """Plays until two results in a row are equally far apart; the interval in picoseconds. Raises Stuck."""
    net = timed.network
    gaps: list[int] = []
    last = None
    for _ in range(most):
        net.play(1)
        done = max((net.actors[k].end_ps for k in timed.sinks), default=0)
        if last is not None:
            gaps.append(done - last)
        last = done
        if len(gaps) >= SETTLE_FRAMES and max(gaps[-SETTLE_FRAMES:]) - min(gaps[-SETTLE_FRAMES:]) <= gaps[-1] // 1000:
            break
    return max(gaps[-SETTLE_FRAMES:], default=0)


def derive(graph: Graph, cluster: Cluster, assembly: Assembly, target_ps: int, work: Sequence[Work]) -> Depths:
    """Depths at which the netlist reaches `target_ps`, or as near as deeper FIFOs bring it."""
    wires = [(p, i, w) for p, net in enumerate(assembly.nets) for i, w in enumerate(net.wires)]
    joins = {(p, i) for p, i, w in wires if w.joins}
    paced = [Work(w.name, w.inputs, w.outputs, w.time_ps) for w in work]
    proved = _steady(graph, cluster, assembly, target_ps, paced, wires)
    if proved is not None:
        return proved
    depth = FREE_DEPTH
    best: tuple[int, Timed, int] | None = None
    while True:
        given = {(p, i): least_depth(w, depth) for p, i, w in wires}
        timed = build(_programs(graph, cluster, assembly, target_ps, wires, given), paced, joins)
        try:
            interval = play(timed)
        except Stuck:
            interval = 0
        if interval and (best is None or interval * 1000 < best[0] * 999):
            best = (interval, timed, depth)
        if (interval and interval * 1000 <= target_ps * SETTLED_PERMILLE) or depth >= DEEPEST_TRY:
            break
        depth *= 4
    assert best is not None
    interval, timed, depth = best
    given = {}
    for p, i, w in wires:
        most = timed.network.occupancy(timed.streams[(p, i)])
        given[(p, i)] = max(LEAST_DEPTH, most + 1) if w.joins else least_depth(w, min(depth, max(LEAST_DEPTH, most)))
    return replace(_collect(wires, given, interval, _urams(cluster, assembly)), steady=False)


def _steady(
    graph: Graph,
    cluster: Cluster,
    assembly: Assembly,
    target_ps: int,
    work: Sequence[Work],
    wires: list[tuple[int, int, Wire]],
) -> Depths | None:
    """The depths of a steady schedule, less what the writers' pipelines hold; None where none was found. Weights out of
    DRAM have room for what is under way: a single frame takes them quicker than the schedule."""
    programs = programs_of(graph, cluster, assembly, target_ps, {}, {})
    timed = build(programs, work, {(p, i) for p, i, _ in wires})
    found = steady_near(timed.network, target_ps)
    if found is None:
        return None
    units = [p.fabric.units() if p.fabric is not None else [] for p in programs]
    given = {}
    for p, i, w in wires:
        source = units[p][w.source[0]]
        least = least_depth(w, LEAST_DEPTH) if source.op == "MEM" else LEAST_DEPTH
        given[(p, i)] = max(least, found.needs[timed.streams[(p, i)]] - held(source))
    return _collect(wires, given, found.period_ps, _urams(cluster, assembly))


def shortest(assembly: Assembly) -> dict[str, list[int]]:
    """The shortest FIFOs of a netlist that is played for one frame, by owner: of weights out of DRAM with room for what
    is under way, as these alone are bounded then."""
    out: dict[str, list[int]] = {}
    for net in assembly.nets:
        for w in net.wires:
            reads = net.drafts[w.source[0]].op == "MEM"
            out.setdefault(w.owner, []).append(least_depth(w, LEAST_DEPTH) if reads else INNER_DEPTH)
    return out


def least_depth(wire: Wire, depth: int) -> int:
    """A stream that crosses boundaries needs room for what is under way, there and back."""
    return depth + (2 * wire.hops * CROSSING_CYCLES + 2 if wire.hops else 0)


def _urams(cluster: Cluster, assembly: Assembly) -> list[bool]:
    """Of each netlist: whether its board has URAM."""
    return [any(die.raw.uram > 0 for die in cluster.devices[net.device].board.dies) for net in assembly.nets]


def _collect(
    wires: list[tuple[int, int, Wire]], given: dict[tuple[int, int], int], interval_ps: int, urams: Sequence[bool]
) -> Depths:
    words: dict[str, list[int]] = {}
    memory: dict[str, list[int]] = {}
    for p, i, w in wires:
        words.setdefault(w.owner, []).append(given[(p, i)])
        memory.setdefault(w.owner, []).append(fifo_memory(given[(p, i)], w.port.width_bits, urams[p]))
    return Depths(words, memory, interval_ps)


def _programs(
    graph: Graph,
    cluster: Cluster,
    assembly: Assembly,
    interval_ps: int,
    wires: list[tuple[int, int, Wire]],
    given: dict[tuple[int, int], int],
) -> list:  # type: ignore[type-arg]
    d = _collect(wires, given, 0, _urams(cluster, assembly))
    return programs_of(graph, cluster, assembly, interval_ps, d.words, d.memory)
