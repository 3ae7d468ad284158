"""The programs of all devices as one timed network: fabrics, channels over shared links, the host.

Needs programs whose netlists are legal; gives a `flow.Network`. Times are integer picoseconds; a cycle of a clock is
rounded up. A link that several channels share gives each the share of its bits. With R copies of the net a frame of the
network is one of each copy, so R of the user's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from compiler.isa.program import Channel, DeviceProgram, Instruction
from compiler.isa.stream.banks import word_times
from compiler.isa.stream.counts import count, index, same, times
from compiler.isa.stream.flow import Actor, Input, Network, Output
from compiler.isa.stream.ports import container_bytes, ports
from compiler.isa.stream.rates import LATENCY_CYCLES, MOVE_CYCLES, Behaviour, Process, behaviour
from compiler.isa.stream.table import BRIDGES
from compiler.isa.table import HOST_RANK
from cost_models.primitives import PS_PER_SECOND, ceil_div

PACED = ("MVAU", "VVAU", "POOL", "SRC", "BRI")
FEEDERS = ("PAD", "WIN", "CROP", "DWC")
CROSSING_CYCLES = 8  # registers at both sides of a boundary between dies (docs/machine.md)


@dataclass(frozen=True, slots=True)
class Work:
    """A host segment: tensors (roots) that it reads and makes, picoseconds a frame."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    time_ps: int


@dataclass(slots=True)
class Timed:
    """The network, and which actor or stream belongs to what."""

    network: Network
    streams: dict[tuple[int, int], int] = field(default_factory=dict)  # (program, CON number) -> stream
    units: dict[tuple[int, int], list[int]] = field(default_factory=dict)  # (program, unit) -> actors
    channels: dict[int, int] = field(default_factory=dict)  # channel -> actor
    sinks: list[int] = field(default_factory=list)  # actors whose end completes a frame
    behaviours: dict[tuple[int, int], Behaviour] = field(default_factory=dict)
    bridges: dict[tuple[int, int], int] = field(default_factory=dict)  # (program, BRI | BRO) -> stream of frames


def cycle_ps(clock_khz: int) -> int:
    """Picoseconds of one cycle, rounded up."""
    return ceil_div(1_000_000_000, clock_khz)


class _Builder:
    def __init__(
        self, programs: Sequence[DeviceProgram], work: Sequence[Work], unbounded: set[tuple[int, int]], live: bool
    ) -> None:
        self.programs, self.work, self.unbounded, self.live = programs, work, unbounded, live
        self.out = Timed(Network())
        self.channels: dict[int, Channel] = {c.id: c for p in programs for c in p.channels}
        self.links = {x.id: x for p in programs for x in p.links}
        self.ends: dict[tuple[int, str], tuple[int, Instruction]] = {}  # (channel, SRC | SNK) -> stream, unit
        self.host_tensor = {m.channel: m.tensor for p in programs for m in p.host}
        self.copy = {m.channel: m.replica for p in programs for m in p.host}
        self.copies = sorted(set(self.copy.values())) or [0]
        # The host serves one copy after the other.
        self.period_ps = sum(w.time_ps for w in work) * (programs[0].replicas if programs else 1)

    def run(self) -> Timed:
        for p, program in enumerate(self.programs):
            if program.fabric is not None:
                self._fabric(p)
        self._channels()
        return self.out

    def _fabric(self, p: int) -> None:
        fabric = self.programs[p].fabric
        assert fabric is not None
        net, units = self.out.network, fabric.units()
        clocks = [cycle_ps(d.clock_khz) for d in fabric.dies]
        ends: dict[tuple[int, str], int] = {}
        for number, con in enumerate(fabric.streams()):
            f = con.fields
            slow = max(clocks[units[k].fields["die"]] for k in (f["source"], f["target"]))
            delay = f["hops"] * CROSSING_CYCLES * slow
            name = f"{fabric.rank}:{f['source']}>{f['target']}"
            # What the writing unit's pipeline holds comes on top of the FIFO.
            depth = None if (p, number) in self.unbounded else f["depth"] + held(units[f["source"]])
            stream = net.stream(name, f["words"], depth, delay)
            self.out.streams[(p, number)] = stream
            ends[(f["source"], f"out{f['source_port']}")] = stream
            ends[(f["target"], f"in{f['target_port']}")] = stream
        known: dict[tuple[object, ...], Behaviour] = {}
        reading = word_times(fabric, clocks)
        for number, ins in enumerate(units):
            key = (ins.op, *(v for k, v in sorted(ins.fields.items()) if k not in ("die", "channel", "rank", "tag")))
            b = known.get(key)
            if b is None:
                b = known[key] = behaviour(ins)
            self.out.behaviours[(p, number)] = b
            own: dict[str, int] = {}
            for line, words in b.lines.items():
                per_frame = next(len(r.freer) for q in b.processes for r in q.reads if r.stream == line)
                own[line] = net.stream(f"{fabric.rank}:{number}.{line}", per_frame, words, line=True)
            if ins.op in BRIDGES:
                own["link"] = self._bridge(p, number, ins)
            if ins.op in ("SRC", "SNK"):
                words = (ports(ins).inputs or ports(ins).outputs)[0].words
                own["link"] = net.stream(f"{fabric.rank}:{number}.link", words, 2 * words)
                self.ends[(ins.fields["channel"], ins.op)] = (own["link"], ins)
            label = (
                f"{fabric.rows[number].node}: {ins.op} {number}" if number < len(fabric.rows) else f"{ins.op} {number}"
            )
            actors = []
            for process in b.processes:

                def find(name: str, number: int = number, own: dict[str, int] = own) -> int:
                    return own[name] if name in own else ends[(number, name)]

                actor = self._actor(process, label, number, clocks[ins.fields["die"]], find)
                actor.paced = ins.op in PACED or (ins.op == "BUF" and process is b.processes[-1])
                actor.feeds = ins.op in FEEDERS
                if ins.op == "MEM":
                    actor.prefetches, actor.period_ps = True, 0
                    actor.cost_ps = same(len(process.cost), reading[number])
                actors.append(net.actor(actor))
            self.out.units[(p, number)] = actors

    def _bridge(self, p: int, number: int, ins: Instruction) -> int:
        """The stream of whole frames at a bridge, and who gives or takes them at once where nobody else does."""
        net, one = self.out.network, np.array([1], np.int64)
        link = net.stream(f"bridge {p}:{number}", 1, ins.fields["frames"])
        self.out.bridges[(p, number)] = link
        if not self.live:
            none = np.zeros(1, np.int64)
            inputs = [] if ins.op == "BRI" else [Input(link, one, none)]
            outputs = [Output(link, one, none)] if ins.op == "BRI" else []
            end = net.actor(Actor(f"messages of bridge {number}", -1, one, 0, inputs, outputs))
            if ins.op == "BRO":
                self.out.sinks.append(end)
        return link

    @staticmethod
    def _actor(process: Process, label: str, unit: int, clock_ps: int, find) -> Actor:  # type: ignore[no-untyped-def]
        return Actor(
            label,
            unit,
            times(process.cost, clock_ps),
            process.latency_cycles * clock_ps,
            [Input(find(r.stream), r.need, r.freer, r.each) for r in process.reads],
            [Output(find(w.stream), w.made, w.maker, w.each) for w in process.writes],
        )

    def _channels(self) -> None:
        """An actor a channel that moves its words over the slowest link of its way, and the host's segments."""
        net = self.out.network
        load: dict[str, int] = {}
        bits: dict[int, int] = {}
        mine = {k for k, _ in self.ends}
        self.channels = {k: c for k, c in self.channels.items() if k in mine}  # the others are bridges' and cores'
        for c in self.channels.values():
            ins = self.ends[(c.id, "SRC" if c.target_rank != HOST_RANK else "SNK")][1]
            bits[c.id] = 8 * ins.fields["bytes"]
            for link in c.links:
                load[link] = load.get(link, 0) + bits[c.id]
        into_host: dict[tuple[int, str], list[tuple[int, int]]] = {}  # copy, tensor -> (stream, words)
        from_host: dict[tuple[int, str], list[tuple[int, int]]] = {}
        made = {name for w in self.work for name in w.outputs}
        read = {name for w in self.work for name in w.inputs}
        for c in sorted(self.channels.values(), key=lambda c: c.id):
            to_host, off_host = c.target_rank == HOST_RANK, c.source_rank == HOST_RANK
            stream_in = None if off_host else self.ends[(c.id, "SNK")][0]
            ins = self.ends[(c.id, "SNK" if off_host is False else "SRC")][1]
            words = ins.fields["pixels"] * ins.fields["channels"] // ins.fields["pe"]
            word_bits = 8 * container_bytes(ins.fields["bits"]) * ins.fields["pe"]
            cost = max(
                (
                    ceil_div(word_bits * load[k] * PS_PER_SECOND, self.links[k].bits_per_second * bits[c.id])
                    for k in c.links
                ),
                default=1,
            )
            delay = sum(self.links[k].latency_ns for k in c.links) * 1000
            every, turn = count(words), index(words)
            inputs, outputs = [], []
            tensor, copy = self.host_tensor.get(c.id, ""), self.copy.get(c.id, 0)
            if off_host:
                if tensor in made:
                    stream = net.stream(f"host: {tensor}", words, 2 * words)
                    from_host.setdefault((copy, tensor), []).append((stream, words))
                    inputs.append(Input(stream, every, turn, True))
            else:
                assert stream_in is not None
                inputs.append(Input(stream_in, every, turn, True))
            if to_host:
                stream = net.stream(f"to host: {tensor}", words, None, delay)
                into_host.setdefault((copy, tensor), []).append((stream, words))
                outputs.append(Output(stream, every, turn, True))
            else:
                stream = self.ends[(c.id, "SRC")][0]
                theirs = net.streams[stream].words
                net.streams[stream].delay_ps = delay
                net.streams[stream].depth = c.capacity * theirs
                made_words = every * theirs // words
                makers = np.searchsorted(made_words, count(theirs))
                outputs.append(Output(stream, made_words, makers, theirs == words))
            period = self.period_ps if off_host and tensor not in made else None
            actor = Actor(f"channel {c.id}", -1, same(words, cost), 0, inputs, outputs, period)
            self.out.channels[c.id] = net.actor(actor)
            if to_host and tensor not in read:
                end = net.actor(Actor(f"host takes {tensor}", -1, np.zeros(1, np.int64), 0,
                                      [Input(stream, np.array([words]), np.zeros(words, np.int64))], []))  # fmt: skip
                self.out.sinks.append(end)
        for copy in self.copies:
            self._segments(
                {tensor: ends for (k, tensor), ends in into_host.items() if k == copy},
                {tensor: ends for (k, tensor), ends in from_host.items() if k == copy},
            )

    def _segments(
        self, into_host: dict[str, list[tuple[int, int]]], from_host: dict[str, list[tuple[int, int]]]
    ) -> None:
        """The host's segments for the frames of one copy."""
        net = self.out.network
        between: dict[tuple[str, int], int] = {}
        for k, w in enumerate(self.work):
            for name in w.inputs:
                if any(name in other.outputs for other in self.work):
                    between[(name, k)] = net.stream(f"host: {name}", 1, 2)
        for k, w in enumerate(self.work):
            inputs = [
                Input(stream, np.array([words]), np.zeros(words, np.int64))
                for name in dict.fromkeys(w.inputs)
                for stream, words in into_host.get(name, ())
            ]
            inputs += [
                Input(between[(name, k)], np.array([1]), np.zeros(1, np.int64))
                for name in dict.fromkeys(w.inputs)
                if (name, k) in between
            ]
            outputs = [
                Output(stream, np.array([words]), np.zeros(words, np.int64))
                for name in w.outputs
                for stream, words in from_host.get(name, ())
            ]
            outputs += [
                Output(s, np.array([1]), np.zeros(1, np.int64)) for (name, _), s in between.items() if name in w.outputs
            ]
            period = None if inputs else self.period_ps
            end = net.actor(Actor(w.name, -1, np.array([w.time_ps]), 0, inputs, outputs, period))
            if not outputs:
                self.out.sinks.append(end)


def boundless(programs: Sequence[DeviceProgram]) -> set[tuple[int, int]]:
    """The streams whose FIFOs never fill where one frame's latency is asked for: all but those of weights out of DRAM,
    which would else be there before the frame is."""
    out = set()
    for p, program in enumerate(programs):
        if program.fabric is not None:
            units = program.fabric.units()
            streams = program.fabric.streams()
            out |= {(p, k) for k, con in enumerate(streams) if units[con.fields["source"]].op != "MEM"}
    return out


def held(ins: Instruction) -> int:
    """Words that the pipeline of a unit holds beside its FIFO."""
    return LATENCY_CYCLES.get(ins.op, MOVE_CYCLES)


def build(
    programs: Sequence[DeviceProgram],
    work: Sequence[Work] = (),
    unbounded: set[tuple[int, int]] | None = None,
    live: bool = False,
) -> Timed:
    """The network of legal programs. unbounded: (program, stream) pairs whose FIFO has no bound. live: frames come to
    the bridges and leave them as the caller says; otherwise at once."""
    return _Builder(programs, work, unbounded or set(), live).run()
