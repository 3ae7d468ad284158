"""The analytical machine: every core as a tile recurrence, cores joined by messages in the plan's order.

Needs a plan and the timelines of its tasks; gives when each task of each frame begins and ends, in picoseconds.
A task waits for its core (in order), for its data (messages of its frame), for the layer before it (last store) and for
the message of two frames ago that still holds its result's slot; messages.py says what messages wait for, usage.py what
transfers beside each other get of a bank. This is a recurrence over (iteration, order): whatever a task or message
waits for comes earlier in that order, so one pass suffices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from compiler.ops.region import Region
from compiler.partition.prediction.meeting import ITERATIONS_AHEAD, WATCHED, Meeting, Times
from compiler.partition.prediction.messages import HOST, Calendar, Key, Messages
from compiler.partition.prediction.passing import Group
from compiler.partition.prediction.recurrence import Core, Steps
from compiler.partition.prediction.usage import Ends
from compiler.plan.model import HostSegmentPlan, Plan, SlicePlan
from cost_models.primitives import cycles_ps, ps_cycles


@dataclass(slots=True)
class Event:
    """One thing in the global order: a task or a host segment."""

    order: int
    stage: int
    replica: int
    task: SlicePlan | None
    segment: HostSegmentPlan | None
    inputs: list[int] = field(default_factory=list)  # channels it waits for (indices)
    sends: list[int] = field(default_factory=list)  # channels that it completes (last writer)
    region: Region | None = None  # of streaming engines, which `segment` stands for
    behind: list[int] = field(default_factory=list)  # of a host segment: orders of those whose results it takes


class Machine:
    """The plan as events and messages, ready to be played for any number of frames."""

    def __init__(
        self,
        plan: Plan,
        steps: Mapping[str, Steps],
        events: Sequence[Event],
        links: Mapping[str, tuple[int, int]],
        crowd: Mapping[tuple[str, str], float],
        ends: Ends,
        message_counts: Sequence[int],
        groups: Sequence[Group] = (),
    ) -> None:
        """crowd: (engine, link) -> share of the time that others than the engine keep the link busy; message_counts: of
        each channel, messages a frame; groups: tasks that share weights or inputs."""
        self.plan, self.steps, self.crowd, self.ends = plan, steps, crowd, ends
        self.message_counts, self.groups = message_counts, groups
        self.events = sorted(events, key=lambda e: e.order)
        self.links = links
        self.clock = {e.id: int(e.parameters["clock_khz"]) for e in plan.engines}
        self.place: dict[int, tuple[int, int]] = {}  # of each channel in every queue: its producer's order, its number
        for e in self.events:
            self.place.update({i: (e.order, k) for k, i in enumerate(e.sends)})
        self.host_sends = [i for i, c in enumerate(plan.channels) if c.source == HOST and i not in self.place]
        self.place.update({i: (-1, k) for k, i in enumerate(self.host_sends)})  # the graph's inputs, before all
        self.group_of = {t: number for number, g in enumerate(groups) for t in g.tasks}
        stages = [e.stage + (0 if e.region is None else e.region.lag) for e in self.events]
        self.deepest = max(stages + [c.target_stage for c in plan.channels] + [0])

    def play(self, frames: int) -> Times:
        """Plays `frames` frames through the empty machine."""
        if frames == 1 or self.deepest == 0:  # many messages set out together, and meet tasks
            return Meeting(self, frames).play()
        run = _Run(self, frames)
        for iteration in range(frames + self.deepest + 1):
            run.iteration(iteration)
        times = len(run.watched)
        return Times(tuple(run.done), {t: ps // times for t, ps in run.took.items()}, run.busy)


class _Run:
    """The state of one play."""

    def __init__(self, machine: Machine, frames: int) -> None:
        self.m, self.frames = machine, frames
        plan = machine.plan
        self.cores = {k: Core(khz) for k, khz in machine.clock.items()}
        self.host = Calendar()
        self.regions: dict[str, int] = {}  # when each took its last frame
        self.made: dict[tuple[str, int], int] = {}  # when a region will have made something of a frame
        self.messages = Messages(plan.channels, self.cores, machine.links, machine.crowd, machine.ends)
        self.done = [0] * frames
        self.took: dict[str, int] = {}
        self.watched = range(frames - WATCHED, frames)  # iterations in which every stage has a frame
        self.busy = dict.fromkeys(self.cores, 0)
        # What every RX queue gets, in its order: (iteration, place of the channel) and the message.
        self.received: dict[str, list[tuple[tuple[int, tuple[int, int]], Key]]] = {k: [] for k in self.cores}
        self.host_takes = [i for i, c in enumerate(plan.channels) if c.target == HOST]

    def iteration(self, iteration: int) -> None:
        messages = self.messages
        for core in self.cores.values():  # stores run at most two iterations ahead of the end of the body
            if len(core.ends_ps) >= ITERATIONS_AHEAD:
                core.open = ps_cycles(core.ends_ps[-ITERATIONS_AHEAD], core.clock_khz)
        if iteration < self.frames:
            for i in self.m.host_sends:
                self._send(i, iteration, iteration, 0)
        for e in self.m.events:
            frame = iteration - e.stage
            real = 0 <= frame < self.frames
            if e.segment is not None:
                if e.region is not None:
                    self._region(e, e.region, iteration, frame, real)
                elif real:
                    self._segment(e, iteration, frame)
                continue
            assert e.task is not None
            core = self.cores[e.task.engine]
            steps = self.m.steps[e.task.task]
            if not real:
                core.skip(steps.skip_cycles, ps_cycles(self._passed(e, iteration), core.clock_khz))
                continue
            ready, slot = self._start(e, core, frame)
            before = max(core.st, ready)
            loaded, end, held = core.task(steps, ready, slot)
            for i in e.inputs:
                messages.read[(i, frame)] = max(messages.read.get((i, frame), 0), cycles_ps(loaded, core.clock_khz))
            if iteration in self.watched:
                took = cycles_ps(max(steps.compute_cycles, end - before - held), core.clock_khz)
                self.took[e.task.task] = self.took.get(e.task.task, 0) + took
            self.busy[e.task.engine] += cycles_ps(max(0, end - before), core.clock_khz)
            for i in e.sends:
                self._send(i, iteration, frame, cycles_ps(end, core.clock_khz))
        for k, core in self.cores.items():
            core.ends_ps.append(max(cycles_ps(core.st, core.clock_khz), messages.tx_ps[k], messages.rx_ps[k]))
        for frame in range(max(0, iteration - self.m.deepest), min(self.frames, iteration + 1)):
            ends = [messages.arrived.get((i, frame), 0) for i in self.host_takes]
            self.done[frame] = max([self.done[frame], *ends])

    def _send(self, index: int, iteration: int, frame: int, ready_ps: int) -> None:
        """A message, now in the queues of both its ends."""
        target = self.m.plan.channels[index].target
        if target in self.received:
            self.received[target].append(((iteration, self.m.place[index]), (index, frame)))
        self.messages.send(index, frame, ready_ps)

    def _start(self, e: Event, core: Core, frame: int) -> tuple[int, int]:
        """Cycles at which the event's data is there, and its result's slot is free."""
        ready_ps = self._ready(e, frame)
        slot_ps = max((self.messages.sent.get((i, frame - 2), 0) for i in e.sends), default=0)
        return ps_cycles(ready_ps, core.clock_khz), max(core.open, ps_cycles(slot_ps, core.clock_khz))

    def _ready(self, e: Event, frame: int) -> int:
        """When all messages that the event waits for have arrived."""
        return max((self.messages.arrived.get((i, frame), 0) for i in e.inputs), default=0)

    def _passed(self, e: Event, iteration: int) -> int:
        """When RX is through with all messages before those of the event, which stand in earlier iterations by as many
        stages as they are made earlier: the tokens for loads pass RX in order, with a frame or without."""
        assert e.task is not None
        received = self.received.get(e.task.engine, [])
        late = [(iteration + self.m.plan.channels[i].source_stage - e.stage, self.m.place[i]) for i in e.inputs]
        behind = bisect_right(received, max(late), key=itemgetter(0)) if late else 0
        return self.messages.arrived[received[behind - 1][1]] if behind else 0

    def _region(self, e: Event, region: Region, iteration: int, frame: int, real: bool) -> None:
        """Frames follow one another at the region's pace, each as late as all of its input; what is made of a frame is
        sent `lag` iterations after that in which it was taken."""
        if real:
            earliest = self.regions.get(region.name, -region.pace_ps) + region.pace_ps
            self.regions[region.name] = start = max(self._ready(e, frame), earliest)
            self.made[(region.name, frame)] = start + region.latency_ps
        end_ps = self.made.pop((region.name, frame - region.lag), None)
        if end_ps is not None:
            for i in e.sends:
                self._send(i, iteration, frame - region.lag, end_ps)

    def _segment(self, e: Event, iteration: int, frame: int) -> None:
        assert e.segment is not None
        end = self.host.take(self._ready(e, frame), e.segment.time_ns * 1000)
        self.done[frame] = max(self.done[frame], end)
        for i in e.sends:
            self._send(i, iteration, frame, end)
