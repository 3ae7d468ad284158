"""Budgets that a finished netlist with all its FIFOs and converters does not keep, and what is held back for them.

Needs device programs and the problem that they come from; guarantees that every resource of every die and all wires of
every boundary are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.isa.program import DeviceProgram
from compiler.isa.stream.resources import fifo_resources
from compiler.ops.stream.lower import Option
from compiler.ops.stream.measure import crossing_wires, die_use
from compiler.ops.stream.netlists import Assembly, Seat
from compiler.partition.stream.depths import Depths
from compiler.partition.stream.problem import TYPES, Problem, amounts
from cost_models.primitives import ceil_div
from device_db.model import Cluster, Resources

DEEP = 16  # a FIFO that takes more than this part of a die is placed with its reader
SHARES = 200  # of a die, one more each round for what is short
SLL_WIRES = "SLL wires"


@dataclass(frozen=True, slots=True)
class Over:
    """A budget that the netlists with their FIFOs do not keep; `what` is a resource or "SLL wires" to the next die."""

    device: str
    die: str
    what: str
    need: int
    have: int


def over_budget(cluster: Cluster, programs: list[DeviceProgram]) -> list[Over]:
    """Every budget that is not kept."""
    out = []
    for p in programs:
        assert p.fabric is not None
        used = die_use(p)
        for k, die in enumerate(p.fabric.dies):
            for t in TYPES:
                if getattr(used[k], t) > getattr(die, t):
                    out.append(Over(p.name, die.name, t.upper(), getattr(used[k], t), getattr(die, t)))
    for name, wires in crossing_wires(programs).items():
        device, pair = name.split("/")
        dies = next(p.fabric.dies for p in programs if p.name == device and p.fabric)
        low = min(next(k for k, d in enumerate(dies) if d.name == x) for x in pair.split(">"))
        if wires > dies[low].wires:
            out.append(Over(device, dies[low].name, SLL_WIRES, wires, dies[low].wires))
    return out


def with_deep_fifos(
    p: Problem, options: Sequence[tuple[Option, ...]], assembly: Assembly, depths: Depths
) -> list[tuple[Option, ...]]:
    """Options that carry the deep FIFOs before their layer, as the last netlist had them: another seat takes them
    along. Those of ways that wait for whole frames are too large to be kept back wherever the layer may come."""
    largest = [max(b[r] for b in p.budgets) for r in range(len(TYPES))]
    more: dict[str, Resources] = {}
    for net in assembly.nets:
        seen: dict[str, int] = {}
        for w in net.wires:
            k = seen.get(w.owner, 0)
            seen[w.owner] = k + 1
            depth, memory = depths.words[w.owner][k], depths.memory[w.owner][k]
            takes = fifo_resources(w.port.width_bits, depth, memory, p.dies[0].family)
            shares = [getattr(takes, t) * DEEP > have for t, have in zip(TYPES, largest, strict=True)]
            if any(shares):
                more[w.owner] = more.get(w.owner, Resources()) + takes
    more = {k: r for k, r in more.items() if all(getattr(r, t) <= m for t, m in zip(TYPES, largest, strict=True))}
    return [
        tuple(replace(o, resources=o.resources + more[name]) for o in own) if name in more else own
        for name, own in zip(p.names, options, strict=True)
    ]


def left(p: Problem, held: list[list[int]]) -> list[list[int]]:
    """The budgets without what is held back, by die."""
    return [[have - less for have, less in zip(b, h, strict=True)] for b, h in zip(p.budgets, held, strict=True)]


def hold_back(
    p: Problem,
    seats: dict[str, Seat],
    programs: list[DeviceProgram],
    over: list[Over],
    held: list[list[int]],
    turn: int,
) -> None:
    """Takes off the budgets what joins layers (FIFOs, converters, duplicators, boundary units), as the last netlist had
    it; a die that is over again gives up more."""
    names = {(p.devices[r.device], d.name): k for k, (r, d) in enumerate(zip(p.refs, p.dies, strict=True))}
    chosen = [[0] * len(TYPES) for _ in p.refs]
    for name, layer in zip(p.names, p.options, strict=True):
        seat = seats[name]
        option = next(o for o in layer if o.fold == seat.fold)
        k = p.refs.index(seat.ref)
        chosen[k] = [a + b for a, b in zip(chosen[k], amounts(option), strict=True)]
    for program in programs:
        assert program.fabric is not None
        for die, used in zip(program.fabric.dies, die_use(program), strict=True):
            if (program.name, die.name) not in names:
                continue
            k = names[(program.name, die.name)]
            for r, t in enumerate(TYPES):
                own = getattr(used, t) + p.budgets[k][r] - getattr(die, t) - chosen[k][r]
                held[k][r] = max(held[k][r], own)
    short: set[int] = set()
    for x in over:
        k = names[(x.device, x.die)]
        if x.what == SLL_WIRES:
            p.wires[k] = max(0, p.wires[k] - 2 * (x.need - x.have))
        elif turn:  # another placement joins others: what is short anywhere is kept back everywhere
            r = TYPES.index(x.what.lower())
            held[k][r] += ceil_div(turn * (x.need - x.have), 2)
            short.add(r)
    for k, budget in enumerate(p.budgets):
        for r in short:
            held[k][r] += budget[r] * turn // SHARES
