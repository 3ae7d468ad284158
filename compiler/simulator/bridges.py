"""Netlists beside cores as the event loop sees them: a queue for each end of a channel, and a gate at each bridge.

Needs the programs and the wires of their channels; gives steps for the queues. A message is taken when its bridge has a
free slot; when all of a frame are there the gate tells the netlist, whose firings are solved by `isa.stream.live`
as far as they now follow: frames then are ready to be sent, and slots free, at times that the netlist says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from compiler.isa.program import Channel, DeviceProgram, Instruction
from compiler.isa.stream.live import Live
from compiler.isa.stream.network import build
from compiler.simulator.actors import LIVE, RX, TX, Actor, Semaphore, Step, Wire
from compiler.simulator.flows import Resource, Route
from cost_models.primitives import STREAM_BYTES_PER_CYCLE, ceil_div, cycles_ps

Told = list[tuple[Semaphore, int]]


@dataclass(slots=True)
class _Bridge:
    """`tokens`: what the netlist posts to (a slot is free, or the frame is there), by message; `gate`: the actor that
    tells it of whole frames; `waits`: what the gate waits for, by message."""

    stream: int
    out: bool
    stage: int
    name: str
    gate: Actor
    tokens: list[Semaphore] = field(default_factory=list)
    waits: list[Semaphore] = field(default_factory=list)


class Netlists:
    """All netlists beside cores."""

    def __init__(
        self, programs: Sequence[DeviceProgram], channels: Mapping[int, Channel], actor: Callable[[str], Actor]
    ) -> None:
        """actor: makes an actor of that name."""
        self.programs, self.channels = programs, channels
        self.timed = build(programs, live=True)
        self.live = Live(self.timed.network, self.timed.bridges.values())
        self.bridges: dict[tuple[int, int], _Bridge] = {}
        self.of_stream: dict[int, _Bridge] = {}
        self.ends: dict[tuple[int, int, bool], Actor] = {}  # (rank, channel, sends) -> its queue
        for p, program in enumerate(programs):
            if program.fabric is None:
                continue
            units = program.fabric.units()
            for m in program.fabric.messages():
                f = m.fields
                key = (p, f["unit"])
                u = units[f["unit"]]
                if key not in self.bridges:
                    name = f"{program.name} {u.op} {f['unit']}"
                    b = _Bridge(self.timed.bridges[key], u.op == "BRO", u.fields["stage"], name, actor(name))
                    self.bridges[key] = self.of_stream[b.stream] = b
                end = (program.fabric.rank, f["channel"], u.op == "BRO")
                if end not in self.ends:
                    arrow = "to" if u.op == "BRO" else "from"
                    self.ends[end] = actor(f"{program.name} netlist {arrow} channel {f['channel']}")

    @property
    def busiest_ps(self) -> int:
        """A frame of the process that works longest."""
        return max((int(a.cost_ps.sum()) for a in self.timed.network.actors), default=0)

    @property
    def instructions(self) -> int:
        return sum(len(p.fabric.text) for p in self.programs if p.fabric is not None)

    def busy_ps(self) -> dict[str, int]:
        """Engine -> picoseconds a frame of its busiest unit."""
        out: dict[str, int] = {}
        for (p, unit), actors in self.timed.units.items():
            fabric = self.programs[p].fabric
            assert fabric is not None
            engine = fabric.rows[unit].engine
            out[engine] = max(out.get(engine, 0), *(int(self.timed.network.actors[k].cost_ps.sum()) for k in actors))
        return out

    def wire(self, wires: Mapping[int, Wire], resources: Mapping[str, Resource]) -> dict[str, int]:
        """Writes the steps of all queues and gates; bytes a frame by link."""
        sent: dict[str, int] = {}
        for p, program in enumerate(self.programs):
            for m in program.fabric.messages() if program.fabric is not None else ():
                self._message(p, program, m, wires, resources, sent)
        for b in self.bridges.values():
            b.gate.body.append(
                Step(
                    LIVE, b.stage, False, tuple(b.waits), (), (), (), 0, 0, None, None, 0, -1, b.name, 0, self._gate(b)
                )
            )
        return sent

    def _message(
        self,
        p: int,
        program: DeviceProgram,
        m: Instruction,
        wires: Mapping[int, Wire],
        resources: Mapping[str, Resource],
        sent: dict[str, int],
    ) -> None:
        f, fabric = m.fields, program.fabric
        assert fabric is not None
        b, wire = self.bridges[(p, f["unit"])], wires[f["channel"]]
        queue = self.ends[(fabric.rank, f["channel"], b.out)]
        slots = fabric.units()[f["unit"]].fields["frames"]
        name = f"tag {f['tag']}"
        token = Semaphore(queue.index, "frame not made" if b.out else "bridge full", 0 if b.out else slots)
        passed = Semaphore(b.gate.index, "messages of the frame")
        b.tokens.append(token)
        b.waits.append(passed)
        route = None
        needs: tuple[Semaphore, ...] = (wire.heads, token)
        gives: tuple[Semaphore, ...] = (wire.credits, passed)
        if b.out:
            links = tuple(resources[k] for k in self.channels[f["channel"]].links)
            for k in links:
                sent[k.key] = sent.get(k.key, 0) + f["bytes"]
            die = fabric.dies[fabric.units()[f["unit"]].fields["die"]]
            least = cycles_ps(ceil_div(f["bytes"], STREAM_BYTES_PER_CYCLE), die.clock_khz)
            route = Route(f["bytes"], links, tuple(1.0 for _ in links), least)
            needs, gives = (wire.credits, token), (passed,)
        queue.body.append(
            Step(TX if b.out else RX, f["stage"], False, needs, (), (), gives, 0, 0, route, wire, 0, -1, name,
                 len(queue.body), None)
        )  # fmt: skip

    def _gate(self, b: _Bridge) -> Callable[[int], Told]:
        """What follows when a frame has come to a bridge, or has left it."""

        def tell(now: int) -> Told:
            news = self.live.given_back(b.stream, now) if b.out else self.live.written(b.stream, now)
            return [(token, ps) for stream, ps in news for token in self.of_stream[stream].tokens]

        return tell
