"""The second objective: at the interval that was found, quicker folds where a frame waits for them.

Needs the seats of a netlist that fits; gives seats on the same dies, no layer slower than it was, whose netlist has the
same interval, no more crossings and a shorter latency. Room is spent in rounds: `waits` says how long the frame waits
for each layer, the folds that save most of that for the least of what is left on their die are taken, and the netlist
is measured anew. What FIFOs take beyond the shortest is kept free as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work
from compiler.isa.stream.table import DRAM
from compiler.ops.stream.lower import Option
from compiler.ops.stream.measure import die_use, pace_ps
from compiler.ops.stream.netlists import Assembly, Seat
from compiler.partition.stream.over import SLL_WIRES, over_budget
from compiler.partition.stream.problem import TYPES, Problem, amounts
from compiler.partition.stream.waits import waited_ps
from cost_models.clock import TABLE
from cost_models.primitives import ceil_div
from device_db.model import Cluster

RESERVE = 200  # of the room one part is kept free: quicker layers may need deeper FIFOs
PLAYS = 7  # frames that are played: most of the time this takes
LEAST_SHARE = 1 / 16  # of the room left that a round may spend; halved where a netlist came out over it or no quicker
WORTH_PERMILLE = 995  # of the latency: a step that does less ends the search

Limits = list[list[int]]  # die, resource type
Bare = tuple[Assembly, list[DeviceProgram]]


@dataclass(frozen=True, slots=True)
class Step:
    """Seats and what one frame takes through their netlist."""

    seats: dict[str, Seat]
    latency_ps: int


class Quickening:
    """Seats of one plan made quicker within limits. netlist: that of seats, without the depths of FIFOs."""

    def __init__(
        self, cluster: Cluster, p: Problem, netlist: Callable[[Mapping[str, Seat]], Bare], work: Sequence[Work],
        pace_ps: int,
    ) -> None:  # fmt: skip
        self.cluster, self.p, self._netlist = cluster, p, netlist
        self.work, self.pace_ps = work, pace_ps
        self.die = {r: k for k, r in enumerate(p.refs)}
        self.layer = dict(zip(p.names, p.options, strict=True))
        self.every = dict(zip(p.names, p.every, strict=True))

    def steps(self, seats: Mapping[str, Seat], final: list[DeviceProgram], limits: Limits) -> list[Step]:
        """Seats of ever shorter latency, the given ones first; `final`: the netlists of those, with all FIFOs."""
        assembly, programs = self._netlist(seats)
        latency, waits = waited_ps(assembly, programs, self.work)
        out = [Step(dict(seats), latency)]
        deep, used = self._use(final), self._use(programs)
        room = [
            [max(b, most - most // RESERVE - max(0, d - b)) for most, d, b in zip(*rows, strict=True)]
            for rows in zip(limits, deep, used, strict=True)
        ]
        share, plays = 1 / 2, 1
        while plays < PLAYS and share >= LEAST_SHARE:
            left = [[int((m - u) * share) for m, u in zip(*rows, strict=True)] for rows in zip(room, used, strict=True)]
            moved = self._moved(out[-1].seats, waits, left)
            if moved is None:
                break
            assembly, programs = self._netlist(moved)
            if not self._fine(programs, room):
                share /= 2
                continue
            latency, other = waited_ps(assembly, programs, self.work)
            plays += 1
            if latency >= out[-1].latency_ps:
                share /= 2
                continue
            worth = latency * 1000 < out[-1].latency_ps * WORTH_PERMILLE
            out.append(Step(moved, latency))
            waits, used = other, self._use(programs)
            if not worth:
                break
        return out

    def _use(self, programs: list[DeviceProgram]) -> Limits:
        """What netlists take of each die of the problem."""
        out = [[0] * len(TYPES) for _ in self.p.refs]
        names = _numbers(self.p)
        for program in programs:
            assert program.fabric is not None
            for die, used in zip(program.fabric.dies, die_use(program), strict=True):
                if (program.name, die.name) in names:  # on the others stand tiled engines
                    out[names[program.name, die.name]] = [getattr(used, t) for t in TYPES]
        return out

    def _fine(self, programs: list[DeviceProgram], room: Limits) -> bool:
        """Within the room of each die and the wires of each boundary, and no slower in the steady state."""
        within = all(u <= m for rows in zip(self._use(programs), room, strict=True) for u, m in zip(*rows, strict=True))
        wires = not any(x.what == SLL_WIRES for x in over_budget(self.cluster, programs))
        return pace_ps(programs) <= self.pace_ps and within and wires

    def _moved(self, seats: Mapping[str, Seat], waits: Mapping[str, int], left: Limits) -> dict[str, Seat] | None:
        """The seats with quicker folds for what is left; None where nothing fits. Best first by time saved for the
        share of the room that it takes; a layer moves once."""
        left = [list(row) for row in left]
        moves: list[tuple[float, str, Option, list[int]]] = []
        for name, ps in sorted(waits.items()):
            own = next(o for o in self.every[name] if o.fold == seats[name].fold)
            k = self.die[seats[name].ref]
            for o in self.layer[name]:
                to_bank = o.fold.memory == DRAM and own.fold.memory != DRAM  # would only make others' reading slower
                if o.cycles >= own.cycles or to_bank:
                    continue
                more = [a - b for a, b in zip(amounts(o), amounts(own), strict=True)]
                if any(m > max(0, have) for m, have in zip(more, left[k], strict=True)):
                    continue
                saved = ps * (own.cycles - o.cycles) / own.cycles
                cost = max((m / have for m, have in zip(more, left[k], strict=True) if m > 0), default=0.0)
                moves.append((saved / (cost + 1e-4), name, o, more))
        moves.sort(key=lambda m: (-m[0], m[1], m[2].cycles, m[2].fold))
        out = dict(seats)
        done: set[str] = set()
        for _, name, o, more in moves:
            row = left[self.die[seats[name].ref]]
            if name in done or any(m > max(0, have) for m, have in zip(more, row, strict=True)):
                continue
            done.add(name)
            out[name] = replace(seats[name], fold=o.fold)
            for r, m in enumerate(more):
                row[r] -= m
        return out if done else None


def _numbers(p: Problem) -> dict[tuple[str, str], int]:
    """(device, die) -> its number among the dies of the problem."""
    return {(p.devices[r.device], d.name): k for k, (r, d) in enumerate(zip(p.refs, p.dies, strict=True))}


def limits(p: Problem, cluster: Cluster, final: list[DeviceProgram], whole: bool) -> Limits:
    """What quicker layers may take a die in all: its budget; unless `whole`, no more than leaves the plan's fullest die
    on the step of the clock table (`cost_models.clock`) that it is on."""
    if whole:
        return [list(b) for b in p.budgets]
    raw = [cluster.devices[r.device].board.dies[r.die].raw for r in p.refs]
    names = _numbers(p)
    percent = 0
    for program in final:
        assert program.fabric is not None
        for die, used in zip(program.fabric.dies, die_use(program), strict=True):
            have = raw[names[program.name, die.name]]
            shares = [ceil_div(100 * getattr(used, t), getattr(have, t)) for t in TYPES if getattr(have, t)]
            percent = max(percent, *shares)
    table = TABLE.get(p.dies[0].family, TABLE["ultrascale+"])
    step = next((s.utilisation_percent for s in table if percent <= s.utilisation_percent), 100)
    return [
        [min(most, getattr(have, t) * step // 100) for most, t in zip(b, TYPES, strict=True)]
        for b, have in zip(p.budgets, raw, strict=True)
    ]
