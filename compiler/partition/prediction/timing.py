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
from compiler.partition.prediction.messages import HOST, Calendar, Key, Messages
from compiler.partition.prediction.passing import Group, Queues, Running
from compiler.partition.prediction.recurrence import Core, Result, Steps
from compiler.partition.prediction.usage import ALONE, Ends, Others, Usage, during
from compiler.plan.model import HostSegmentPlan, Plan, SlicePlan
from cost_models.primitives import cycles_ps, ps_cycles

WATCHED = 4  # iterations over which the steady durations of tasks are averaged
ITERATIONS_AHEAD = 2  # the scheduler's: how far queues run ahead of the end of the body


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


@dataclass(frozen=True, slots=True)
class Times:
    """Of one run: completion of each frame; duration of each task (the mean over the last iterations in which every
    stage has a frame), from when its core turns to it and its data is there to its last store, less what its result
    waited for its slot; busy time of each engine over the whole run. All in ps."""

    done_ps: tuple[int, ...]
    task_ps: dict[str, int]
    engine_busy_ps: dict[str, int]


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
        together: Sequence[Group] = (),
    ) -> None:
        """crowd: (engine, link) -> share of the time that others than the engine keep the link busy.

        together: tasks that share their weights."""
        self.plan, self.steps, self.crowd, self.ends = plan, steps, crowd, ends
        self.events = sorted(events, key=lambda e: e.order)
        self.links = links
        self.clock = {e.id: int(e.parameters["clock_khz"]) for e in plan.engines}
        self.place: dict[int, tuple[int, int]] = {}  # of each channel in every queue: its producer's order, its number
        for e in self.events:
            self.place.update({i: (e.order, k) for k, i in enumerate(e.sends)})
        self.host_sends = [i for i, c in enumerate(plan.channels) if c.source == HOST and i not in self.place]
        self.place.update({i: (-1, k) for k, i in enumerate(self.host_sends)})  # the graph's inputs, before all
        self.group_of = {t: g for g in together for t in g.tasks}
        # A layer sends its results behind the first weight blocks of the groups that follow it; by its last event.
        self.followers: dict[int, list[Group]] = {}
        self.holds: set[int] = set()
        for g in together:
            own = [e.order for e in self.events if e.task is not None and e.task.task.rpartition("#")[0] == g.after]
            if own:
                self.followers.setdefault(own[-1], []).append(g)
                self.holds.update(own[:-1])
        self.layer_groups: dict[tuple[str, int], list[Group]] = {}
        for g in together:
            self.layer_groups.setdefault(_layer_of(g), []).append(g)
        self.event_of = {e.task.task: e for e in self.events if e.task is not None}
        stages = [e.stage + (0 if e.region is None else e.region.lag) for e in self.events]
        self.deepest = max(stages + [c.target_stage for c in plan.channels] + [0])

    def play(self, frames: int) -> Times:
        """Plays `frames` frames through the empty machine."""
        run = _Run(self, frames)
        for iteration in range(frames + self.deepest + 1):
            run.iteration(iteration)
        times = 1 if frames == 1 else len(run.watched)
        return Times(tuple(run.done), {t: ps // times for t, ps in run.took.items()}, run.busy)


def _layer_of(group: Group) -> tuple[str, int]:
    return group.tasks[0].rpartition("#")[0], group.replica


class _Run:
    """The state of one play."""

    def __init__(self, machine: Machine, frames: int) -> None:
        self.m, self.frames = machine, frames
        plan = machine.plan
        self.cores = {k: Core(khz) for k, khz in machine.clock.items()}
        self.host = Calendar()
        self.regions: dict[str, int] = {}  # when each took its last frame
        self.made: dict[tuple[str, int], int] = {}  # when a region will have made something of a frame
        # In one frame, or without stages, many messages set out together.
        meeting = frames == 1 or machine.deepest == 0
        self.messages = Messages(plan.channels, self.cores, machine.links, machine.crowd, machine.ends, meeting)
        self.usage = self.messages.usage
        self.queues = Queues()
        self.ahead: dict[tuple[str, int], tuple[int, Result]] = {}  # tasks played with others of their group, by frame
        self.running: dict[tuple[str, int], Running] = {}  # groups whose first block has been passed, by first task
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
        results: list[tuple[Event, int, int]] = []  # event, frame, end: not sent yet
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
            group = self.m.group_of.get(e.task.task)
            if group is not None:
                before, (loaded, end, held) = self._together(group, e.task.task, frame)
            else:
                ready, slot = self._start(e, core, frame)
                before = max(core.st, ready)
                others = self._others(self.usage, e.task.engine, steps, ready, slot) if self.usage else ALONE
                loaded, end, held = core.task(steps, ready, slot, others)
            if self.usage:
                self._uses(self.usage, e.task.engine, steps, before, end)
            for i in e.inputs:
                messages.read[(i, frame)] = max(messages.read.get((i, frame), 0), cycles_ps(loaded, core.clock_khz))
            if iteration in self.watched or self.frames == 1:
                took = cycles_ps(max(steps.compute_cycles, end - before - held), core.clock_khz)
                self.took[e.task.task] = self.took.get(e.task.task, 0) + took
            self.busy[e.task.engine] += cycles_ps(max(0, end - before), core.clock_khz)
            results.append((e, frame, cycles_ps(end, core.clock_khz)))
            if e.order in self.m.holds:
                continue
            for g in self.m.followers.get(e.order, ()):
                self.running[(g.tasks[0], frame)] = self._begin(g)
            for done, of, end_ps in results:
                for i in done.sends:
                    self._send(i, iteration, of, end_ps)
            results.clear()

        messages.play_all()
        if self.usage:
            self.usage.forget({k: cycles_ps(c.ld, c.clock_khz) for k, c in self.cores.items()})
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

    def _others(self, usage: Usage, engine: str, steps: Steps, ready: int, slot: int) -> Others:
        """What takes of the engine's bank beside the loads and the stores of a task, in its cycles: messages that have
        been sent and, as long as there are any, the task's own stores or loads."""
        core = self.cores[engine]
        khz, begin = core.clock_khz, max(core.st, ready)
        _, end, _ = core.copy().task(steps, ready, slot)
        self._uses(usage, engine, steps, begin, end)  # as it looks: messages beside it are slower
        self.messages.play_until(cycles_ps(end, khz))
        usage.take_back(engine)
        spans = usage.beside(engine, cycles_ps(core.ld, khz), cycles_ps(end, khz))
        if not spans:
            return ALONE
        messages = [(ps_cycles(a, khz), ps_cycles(b, khz), s, w) for a, b, s, w in spans]
        took = max(1, end - begin)
        loads, stores = (during(messages, own / took) for own in (steps.load_cycles, steps.store_cycles))
        return messages + stores, messages + loads

    def _uses(self, usage: Usage, engine: str, steps: Steps, begin: int, end: int) -> None:
        """A task has its bank's share on average between these cycles."""
        khz, taken = self.cores[engine].clock_khz, steps.load_cycles + steps.store_cycles
        usage.task(engine, cycles_ps(begin, khz), cycles_ps(end, khz), taken / max(1, end - begin))

    def _start(self, e: Event, core: Core, frame: int) -> tuple[int, int]:
        """Cycles at which the event's data is there, and its result's slot is free."""
        ready_ps = self._ready(e, frame)
        slot_ps = max((self.messages.sent.get((i, frame - 2), 0) for i in e.sends), default=0)
        return ps_cycles(ready_ps, core.clock_khz), max(core.open, ps_cycles(slot_ps, core.clock_khz))

    def _together(self, group: Group, task: str, frame: int) -> tuple[int, Result]:
        """(when its core turned to it, result) of a task of a group; the first one asked for plays all of its layer:
        their weights stand before what any of them sends."""
        if (task, frame) not in self.ahead:
            alike = self.m.layer_groups[_layer_of(group)]
            keys = [(g.tasks[0], frame) for g in alike]
            under_way = [
                self.running.pop(k) if k in self.running else self._begin(g) for k, g in zip(keys, alike, strict=True)
            ]
            self.messages.play_all()  # what was sent before stands before the other blocks
            for g, running in zip(alike, under_way, strict=True):
                own = zip(g.tasks, g.engines, strict=True)
                starts = [self._start(self.m.event_of[t], self.cores[e], frame) for t, e in own]
                floor = {e: (self.messages.tx_ps[e], self.messages.rx_ps[e]) for e in g.engines}
                results = running.finish(starts, floor)
                self._behind(g)
                self.ahead.update({(t, frame): r for t, r in zip(g.tasks, results, strict=True)})
        return self.ahead.pop((task, frame))

    def _begin(self, group: Group) -> Running:
        """Passes the first block of the group's weights; what its engines send now stands behind it."""
        self.messages.play_all()
        running = Running(group, self.cores, self.m.steps, self.m.links, self.queues)
        self._behind(group)
        return running

    def _behind(self, group: Group) -> None:
        tx, rx = self.messages.tx_ps, self.messages.rx_ps
        for e in group.engines:
            tx[e], rx[e] = max(tx[e], self.queues.tx.get(e, 0)), max(rx[e], self.queues.rx.get(e, 0))

    def _ready(self, e: Event, frame: int) -> int:
        """When all messages that the event waits for have arrived."""
        keys = [(i, frame) for i in e.inputs]
        self.messages.play(keys)
        return max((self.messages.arrived.get(k, 0) for k in keys), default=0)

    def _passed(self, e: Event, iteration: int) -> int:
        """When RX is through with all messages before those of the event, which stand in earlier iterations by as many
        stages as they are made earlier: the tokens for loads pass RX in order, with a frame or without."""
        assert e.task is not None
        received = self.received.get(e.task.engine, [])
        late = [(iteration + self.m.plan.channels[i].source_stage - e.stage, self.m.place[i]) for i in e.inputs]
        behind = bisect_right(received, max(late), key=itemgetter(0)) if late else 0
        if not behind:
            return 0
        key = received[behind - 1][1]
        self.messages.play((key,))
        return self.messages.arrived[key]

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
