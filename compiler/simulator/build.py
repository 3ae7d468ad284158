"""Programs into moving parts: needs DevicePrograms and host tasks, gives actors, resources and what a frame costs them.

Every instruction becomes a step with its duration worked out once; runs of fixed steps between which no token moves
become one (not for a trace). Nothing is shared with the scheduler or the prediction but cost_models.primitives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compiler.isa.program import Channel, CoreProgram, DeviceProgram, HostMessage, Instruction
from compiler.isa.table import HOST_RANK, Flag, Queue
from compiler.simulator.actors import (
    CLOSES,
    DMA,
    FIRST,
    FIXED,
    INPUT,
    LAST,
    RX,
    SEGMENT,
    SLOT,
    TX,
    Actor,
    Semaphore,
    Step,
    Wire,
)
from compiler.simulator.durations import Transfer, compute_cycles, mac_operations, transfer
from compiler.simulator.flows import Resource, Route
from compiler.simulator.host import HOST_FRAMES, HostTask, root_names, root_of
from cost_models.primitives import (
    DMA_SETUP_CYCLES,
    OTHER_CYCLES,
    PS_PER_SECOND,
    STREAM_BYTES_PER_CYCLE,
    ceil_div,
    cycles_ps,
)
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.simulator.bridges import Netlists

HOST = -1  # the core index of the host's actors


@dataclass(slots=True)
class TaskName:
    core: int
    rank: int
    task: str
    node: str
    compute_ps: int = 0  # what its instructions on CX take in all


@dataclass(slots=True)
class Built:
    """One machine at time 0. `closings` items end a frame. The per-frame figures leave ONCE instructions out."""

    actors: list[Actor] = field(default_factory=list)
    resources: dict[str, Resource] = field(default_factory=dict)
    tasks: list[TaskName] = field(default_factory=list)
    cores: list[CoreProgram] = field(default_factory=list)
    stages: int = 0
    closings: int = 0
    replicas: int = 1
    mac_operations: list[int] = field(default_factory=list)  # a frame, by core
    frame_bytes: dict[str, int] = field(default_factory=dict)  # a frame, by resource
    instructions: int = 0
    netlists: Netlists | None = None  # streaming engines beside cores
    floor_ps: int = 0  # what the longest queue takes a frame without any waiting: no interval is shorter


def broken(what: str, *where: str) -> FvcError:
    return FvcError("FVC490", what, where=where, help=("run `fvc check` on the bundle: it says what is wrong with it",))


def build(programs: Sequence[DeviceProgram], host: Sequence[HostTask], *, detail: bool) -> Built:
    """`detail`: keep every instruction a step of its own, for a trace."""
    return _Builder(programs, host, detail).build()


class _Builder:
    def __init__(self, programs: Sequence[DeviceProgram], host: Sequence[HostTask], detail: bool) -> None:
        self.programs, self.host, self.detail = programs, host, detail
        self.out = Built()
        self.semaphores: dict[tuple[int, int, int], Semaphore] = {}
        self.queue_actor: dict[tuple[int, Queue], Actor] = {}
        self.wires: dict[int, Wire] = {}
        self.channels: dict[int, Channel] = {}
        self.host_actor: dict[int, Actor] = {}
        self.messages: list[HostMessage] = [m for p in programs for m in p.host]

    def build(self) -> Built:
        out = self.out
        out.stages = max([p.stages for p in self.programs] + [m.stage for m in self.messages], default=0)
        out.replicas = max((p.replicas for p in self.programs), default=1)
        self._resources()
        homes: list[DeviceProgram] = []
        for program in self.programs:
            for core in program.cores:
                out.cores.append(core)
                homes.append(program)
        for index, core in enumerate(out.cores):
            for queue in Queue:
                if core.queues.get(queue):
                    self.queue_actor[index, queue] = self._actor(index, queue.name)
        for message in self.messages:
            if message.channel not in self.host_actor:
                arrow = (
                    f"host to channel {message.channel}" if message.to_core else f"channel {message.channel} to host"
                )
                self.host_actor[message.channel] = self._actor(HOST, arrow)
        if any(p.fabric is not None for p in self.programs):
            from compiler.simulator.bridges import Netlists

            out.netlists = Netlists(self.programs, self.channels, lambda name: self._actor(HOST, name))
        self._wire_channels()
        for index, core in enumerate(out.cores):
            self._core(index, core, homes[index])
        self._host()
        out.floor_ps = max((sum(map(alone_ps, actor.body)) for actor in out.actors), default=0)
        if out.netlists is not None:
            for link, size in out.netlists.wire(self.wires, out.resources).items():
                out.frame_bytes[link] += size
            out.floor_ps = max(out.floor_ps, out.netlists.busiest_ps)
            out.instructions += out.netlists.instructions
        if not out.closings:
            self._close_by_queues()
        return out

    def _actor(self, core: int, name: str) -> Actor:
        actor = Actor(len(self.out.actors), core, name)
        self.out.actors.append(actor)
        return actor

    def _resources(self) -> None:
        resources = self.out.resources
        for program in self.programs:
            for core in program.cores:
                e = core.engine
                if min(e.tm, e.tn, e.vector_lanes, e.ld_bytes_per_cycle, e.st_bytes_per_cycle, e.clock_khz) < 1:
                    raise broken(f"engine {e.id} has no array, lanes, port or clock")
                key = bank_key(program, core)
                known = resources.get(key)
                if known is None or known.capacity < core.engine.bank_bytes_per_second:
                    resources[key] = Resource(key, "bank", core.engine.bank_bytes_per_second)
            for link in program.links:
                if link.id not in resources:
                    rate = ceil_div(link.bits_per_second, 8)
                    resources[link.id] = Resource(link.id, "link", rate, link.latency_ns * 1000)
            for channel in program.channels:
                self.channels.setdefault(channel.id, channel)
        for resource in resources.values():
            if resource.capacity <= 0:
                raise broken(f"{resource.kind} {resource.key} moves no bytes a second")
        self.out.frame_bytes = dict.fromkeys(resources, 0)

    def _wire_channels(self) -> None:
        at_rank = {core.rank: index for index, core in enumerate(self.out.cores)}

        def end(channel: Channel, rank: int, queue: Queue) -> int:
            actor = self.host_actor.get(channel.id) if rank == HOST_RANK else None
            if rank != HOST_RANK and rank in at_rank:
                actor = self.queue_actor.get((at_rank[rank], queue))
            if self.out.netlists is not None and actor is None:
                actor = self.out.netlists.ends.get((rank, channel.id, queue == Queue.TX))
            return actor.index if actor else 0

        for channel in self.channels.values():
            source = end(channel, channel.source_rank, Queue.TX)
            target = end(channel, channel.target_rank, Queue.RX)
            for link in channel.links:
                if link not in self.out.resources:
                    raise broken(f"channel {channel.id} runs over link {link}, which no program describes")
            self.wires[channel.id] = Wire(
                Semaphore(target, "channel empty"),
                Semaphore(target, "channel empty"),
                Semaphore(source, "channel full", channel.capacity),
                sum(self.out.resources[link].latency_ps for link in channel.links),
            )

    def _semaphore(self, core: int, source: int, target: int) -> Semaphore:
        key = (core, source, target)
        if key not in self.semaphores:
            actor = self.queue_actor.get((core, Queue(target)))
            tokens = self.out.cores[core].marking[source][target]
            self.semaphores[key] = Semaphore(actor.index if actor else 0, Queue(source).name, tokens)
        return self.semaphores[key]

    def _masked(self, core: int, queue: int, mask: int, waiting: bool) -> tuple[Semaphore, ...]:
        others = [q for q in range(6) if mask >> q & 1]
        return tuple(self._semaphore(core, q, queue) if waiting else self._semaphore(core, queue, q) for q in others)

    def _core(self, index: int, core: CoreProgram, program: DeviceProgram) -> None:
        tasks: dict[str, int] = {}
        self.out.mac_operations.append(0)
        for queue in Queue:
            listed = core.queues.get(queue)
            if not listed:
                continue
            actor = self.queue_actor[index, queue]
            works = queue in (Queue.LD, Queue.CX, Queue.ST)  # the others carry rows of transport
            owners = [
                self._task(index, core, ins, tasks) if works and not ins.flags & Flag.ONCE else -1 for ins in listed
            ]
            first, last = {t: k for k, t in reversed(list(enumerate(owners)))}, {t: k for k, t in enumerate(owners)}
            self.out.instructions += len(listed)
            stages = {t: max(i.stage for i, o in zip(listed, owners, strict=True) if o == t) for t in first}
            for k, ins in enumerate(listed):
                task, mark = owners[k], 0
                if task >= 0:
                    mark = (FIRST if first[task] == k else 0) | (LAST if last[task] == k else 0)
                    if queue == Queue.LD and ins.wait >> Queue.RX & 1:
                        mark |= INPUT
                    if queue == Queue.ST and ins.wait & (1 << Queue.TX | 1 << Queue.CTL):
                        mark |= SLOT
                step = self._step(index, core, program, ins, k, mark, task)
                if task >= 0 and ins.op == "SYNC":  # it has no frame of its own: what it waits for is that of its task
                    step = step._replace(stage=stages[task])
                if queue == Queue.CX and task >= 0:
                    self.out.tasks[task].compute_ps += step.duration_ps
                if actor.body and not self.detail and _joins(actor.body[-1], step):
                    actor.body[-1] = _joined(actor.body[-1], step)
                else:
                    actor.body.append(step)

    def _task(self, index: int, core: CoreProgram, ins: Instruction, tasks: dict[str, int]) -> int:
        row = core.debug[ins.debug] if ins.debug < len(core.debug) else None
        if row is None or not row.task:
            return -1
        if row.task not in tasks:
            tasks[row.task] = len(self.out.tasks)
            self.out.tasks.append(TaskName(index, core.rank, row.task, row.node))
        return tasks[row.task]

    def _step(
        self, index: int, core: CoreProgram, program: DeviceProgram, ins: Instruction, k: int, mark: int, task: int
    ) -> Step:
        clock = core.engine.clock_khz
        one = cycles_ps(OTHER_CYCLES, clock)
        waits = self._masked(index, ins.queue, ins.wait, True)
        posts = self._masked(index, ins.queue, ins.post, False)
        once = bool(ins.flags & Flag.ONCE)
        kind, duration, route, wire = FIXED, one, None, None
        effect_waits: tuple[Semaphore, ...] = waits
        credits: tuple[Semaphore, ...] = ()
        if ins.op in ("LD", "ST"):
            load = ins.op == "LD"
            box = transfer(ins, core.engine.ld_bytes_per_cycle if load else core.engine.st_bytes_per_cycle)
            bank = self.out.resources[bank_key(program, core)]
            data_ps = cycles_ps(box.port_cycles - DMA_SETUP_CYCLES, clock)
            kind, duration = DMA, cycles_ps(DMA_SETUP_CYCLES, clock)
            route = Route(box.bus_bytes, (bank,), (1.0,), data_ps)
            self._count(bank, box.bus_bytes, once)
        elif ins.op in ("TX", "RX"):
            wire = self.wires.get(ins.fields.get("channel", 0))
            if wire is None:
                raise broken(f"{ins.op} uses a channel that no program describes", f"rank {core.rank}: {ins.fields}")
            channel = self.channels[ins.fields.get("channel", 0)]
            box = transfer(ins, 1)
            # A part of a weight or input block comes from the scratchpad: no bank is busy with it.
            shared = ins.fields.get("wgt", 0) or ins.fields.get("act", 0)
            near = None if shared else self.out.resources[bank_key(program, core)]
            if ins.op == "TX":
                kind, effect_waits = TX, (*waits, wire.credits)
                route = self._sending(channel, box, near, once, clock)
            else:
                kind, effect_waits, credits = RX, (*waits, wire.heads), (wire.credits,)
                slowest = min((self.out.resources[link].capacity for link in channel.links), default=0)
                least = ceil_div(box.data_bytes * PS_PER_SECOND, slowest) if slowest else 0
                if near is not None:
                    route = Route(box.bus_bytes, (near,), (1.0,), least)
                    self._count(near, box.bus_bytes, once)
        else:
            duration = cycles_ps(compute_cycles(ins, core.engine), clock)
            if ins.op == "MAC" and not once:
                self.out.mac_operations[index] += mac_operations(ins)
        return Step(
            kind, ins.stage, once, effect_waits, waits, posts, credits, duration, one, route, wire, mark, task,
            ins.op, k,
        )  # fmt: skip

    def _sending(
        self, channel: Channel, box: Transfer, bank: Resource | None, once: bool, clock_khz: int
    ) -> Route | None:
        links = tuple(self.out.resources[link] for link in channel.links)
        for link in links:
            self._count(link, box.data_bytes, once)
        if bank is None:
            least = cycles_ps(ceil_div(box.data_bytes, STREAM_BYTES_PER_CYCLE), clock_khz)
            return Route(box.data_bytes, links, tuple(1.0 for _ in links), least) if box.data_bytes else None
        self._count(bank, box.bus_bytes, once)
        if not links or not box.data_bytes:
            return Route(box.bus_bytes, (bank,), (1.0,))
        return Route(box.data_bytes, (bank, *links), (box.bus_bytes / box.data_bytes, *(1.0 for _ in links)))

    def _count(self, resource: Resource, size_bytes: int, once: bool) -> None:
        if not once:
            self.out.frame_bytes[resource.key] += size_bytes

    def _host(self) -> None:
        """Actors of the host: a sender or receiver a channel, and one a segment and replica, tied by semaphores."""
        roots = root_names(self.programs)
        replicas = range(max([m.replica for m in self.messages], default=self.out.replicas - 1) + 1)
        segments = {(k, r): self._actor(HOST, task.name) for k, task in enumerate(self.host) for r in replicas}
        readers: dict[str, list[int]] = {}
        makers: dict[str, int] = {}
        for k, task in enumerate(self.host):
            for name in dict.fromkeys(root_of(n, roots) for n in task.inputs):
                readers.setdefault(name, []).append(k)
            makers.update({root_of(n, roots): k for n in task.outputs})
        waits: dict[tuple[int, int], list[Semaphore]] = {key: [] for key in segments}
        posts: dict[tuple[int, int], list[Semaphore]] = {key: [] for key in segments}
        for message in self.messages:
            name = root_of(message.tensor, roots)
            if message.to_core:
                there: list[Semaphore] = []
                sent: list[Semaphore] = []
                if name in makers:
                    maker = (makers[name], message.replica)
                    there.append(Semaphore(self.host_actor[message.channel].index, "host segment"))
                    sent.append(Semaphore(segments[maker].index, "channel full", HOST_FRAMES))
                    posts[maker] += there
                    waits[maker] += sent
                self._feed(message, there, sent)
            else:
                given = [Semaphore(segments[k, message.replica].index, "channel empty") for k in readers.get(name, [])]
                for k, semaphore in zip(readers.get(name, []), given, strict=True):
                    waits[k, message.replica].append(semaphore)
                self._take(message, given)
        for name, made in makers.items():
            for reader in readers.get(name, []):
                for r in replicas if reader != made else ():
                    link = Semaphore(segments[reader, r].index, "host segment")
                    room = Semaphore(segments[made, r].index, "host segment", HOST_FRAMES)
                    posts[made, r].append(link)
                    waits[reader, r].append(link)
                    posts[reader, r].append(room)
                    waits[made, r].append(room)
        for (k, r), actor in segments.items():
            task, needed, gives = self.host[k], tuple(waits[k, r]), tuple(posts[k, r])
            actor.body.append(
                Step(SEGMENT, 0, False, needed, (), (), gives, task.time_ps, 0, None, None, CLOSES, -1, task.name, 0)
            )
            self.out.closings += 1

    def _host_wire(self, message: HostMessage) -> Wire:
        wire = self.wires.get(message.channel)
        if wire is None:
            raise broken(f"the host's message of {message.tensor} uses channel {message.channel}, which is not there")
        return wire

    def _feed(self, message: HostMessage, there: list[Semaphore], sent: list[Semaphore]) -> None:
        wire, channel = self._host_wire(message), self.channels[message.channel]
        links = tuple(self.out.resources[link] for link in channel.links)
        size = message.counts[0] * message.counts[1] * message.counts[2] * message.elem * len(message.offsets)
        for link in links:
            self._count(link, size, False)
        route = Route(size, links, tuple(1.0 for _ in links)) if links else None
        needs, body = (wire.credits, *there), self.host_actor[message.channel].body
        body.append(
            Step(TX, message.stage, False, needs, (), (), sent, 0, 0, route, wire, 0, -1, message.tensor, len(body))
        )

    def _take(self, message: HostMessage, given: list[Semaphore]) -> None:
        wire, body = self._host_wire(message), self.host_actor[message.channel].body
        gives = (wire.credits, *given)
        body.append(
            Step(
                RX,
                message.stage,
                False,
                (wire.heads,),
                (),
                (),
                gives,
                0,
                0,
                None,
                wire,
                CLOSES,
                -1,
                message.tensor,
                len(body),
            )
        )
        self.out.closings += 1

    def _close_by_queues(self) -> None:
        """Without a host a frame ends when every queue has done its last instruction for it."""
        for actor in self.out.actors:
            if actor.body:
                deepest = max(step.stage for step in actor.body)
                at = max(k for k, step in enumerate(actor.body) if step.stage == deepest)
                actor.body[at] = actor.body[at]._replace(mark=actor.body[at].mark | CLOSES)
                self.out.closings += 1


def alone_ps(step: Step) -> int:
    """What a step takes a frame with every resource to itself; nothing if only frame 0 has it."""
    if step.once:
        return step.skip_ps
    if step.kind in (DMA, TX) and step.route is not None:
        return step.route.alone_ps + (step.duration_ps if step.kind == DMA else 0)
    return step.duration_ps if step.kind != RX else 0


def bank_key(program: DeviceProgram, core: CoreProgram) -> str:
    return f"{program.name}/{core.engine.bank}"


def _joins(before: Step, after: Step) -> bool:
    return (
        before.kind == after.kind == FIXED
        and not before.posts
        and not after.waits
        and (before.stage, before.once, before.task) == (after.stage, after.once, after.task)
    )


def _joined(before: Step, after: Step) -> Step:
    return before._replace(
        posts=after.posts,
        duration_ps=before.duration_ps + after.duration_ps,
        skip_ps=before.skip_ps + after.skip_ps,
        mark=before.mark | after.mark,
    )
