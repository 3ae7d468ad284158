"""The analytical machine: every core as a tile recurrence, cores joined by messages in the plan's order.

Needs a plan and the timelines of its tasks; gives when each task of each frame begins and ends, in picoseconds.
A task waits for its core (in order), for its data (messages of its frame), for the layer before it (last store) and for
the message of two frames ago that still holds its result's slot; messages.py says what messages wait for. This is a
recurrence over (iteration, order): whatever a task or message waits for comes earlier in that order, so one pass
suffices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from compiler.partition.contention import Timeline, run
from compiler.partition.messages import HOST, Calendar, Key, Messages
from compiler.plan.model import HostSegmentPlan, Plan, SlicePlan
from cost_models.primitives import cycles_ps, ps_cycles

WATCHED = 4  # iterations over which the steady durations of tasks are averaged
ITERATIONS_AHEAD = 2  # the scheduler's: how far queues run ahead of the end of the body


@dataclass(slots=True)
class Steps:
    """A timeline as lists of numbers, stretched by what its bank cannot give at once."""

    ahead: Sequence[int]
    main: Sequence[int]
    head: Sequence[int]
    tail: Sequence[int]
    store: Sequence[int]
    compute_cycles: int
    skip_cycles: int  # what its instructions take when their frame does not exist

    @classmethod
    def of(cls, t: Timeline, bytes_per_cycle: float) -> Steps:
        plain = run([t], 1e18).end[0]
        real = run([t], bytes_per_cycle).end[0]
        # Loads and stores overlap most of the time: the stretch is what the whole task loses, put on its DMA steps.
        factor = _stretch(t, plain, real)
        ahead, main, store = t.ld_ahead, t.ld_main, t.st
        if factor > 1.0:
            ahead, main, store = (tuple(round(c * factor) for c in x) for x in (ahead, main, store))
        return cls(ahead, main, t.cx_head, t.cx_tail, store, sum(t.cx_head) + sum(t.cx_tail), 2 * len(t.st))


def _stretch(t: Timeline, plain: float, real: float) -> float:
    """The factor on load and store durations that makes the uncontended recurrence as long as the contended one."""
    if real <= plain * 1.001:
        return 1.0
    low, high = 1.0, 4.0
    for _ in range(12):
        mid = (low + high) / 2
        scaled = _Scaled(t, mid)
        if run([scaled], 1e18).end[0] < real:
            low = mid
        else:
            high = mid
    return high


class _Scaled:
    """A timeline with longer loads and stores."""

    def __init__(self, t: Timeline, factor: float) -> None:
        self.ld_ahead = tuple(round(c * factor) for c in t.ld_ahead)
        self.ld_main = tuple(round(c * factor) for c in t.ld_main)
        self.cx_head, self.cx_tail = t.cx_head, t.cx_tail
        self.st = tuple(round(c * factor) for c in t.st)
        self.ld_bus_bytes = self.st_bus_bytes = (0,) * len(t.st)


@dataclass(slots=True)
class Core:
    """When the queues of a core are free, in cycles of its clock; see cost_models.pipeline for the recurrence."""

    clock_khz: int
    ld: int = 0
    cx: int = 0
    st: int = 0
    closed: int = 0
    before: int = 0
    last: int = 0
    open: int = 0  # from when on this iteration may store
    ends_ps: list[int] = field(default_factory=list)  # of its iterations so far

    def task(self, s: Steps, ready: int, slot: int) -> tuple[int, int, int]:
        """Plays one task whose data is there at cycle `ready` and whose result's slot is free at cycle `slot`: the
        cycles of its last load of data and of its last store, and how long its first result waited for the slot."""
        ld, cx, st = self.ld, self.cx, self.st
        closed, before, last = self.closed, self.before, self.last
        barrier = st if st > ready else ready
        waiting = True
        group = loaded = held = 0
        for ahead, main, head, tail, store in zip(s.ahead, s.main, s.head, s.tail, s.store, strict=True):
            if ahead or main:
                if closed > ld:
                    ld = closed
                closed = cx
                ld += ahead
                if main:
                    if waiting:
                        waiting = False
                        if barrier > ld:
                            ld = barrier
                    ld += main
                    loaded = ld
                group = ld
            if group > cx:
                cx = group
            cx += head
            if store:
                if before > cx:
                    cx = before
                cx += tail
                if cx > st:
                    st = cx
                if slot > st:
                    held += slot - st
                    st = slot
                st += store
                before, last = last, st
            else:
                cx += tail
        self.ld, self.cx, self.st = ld, cx, st
        self.closed, self.before, self.last = closed, before, last
        return loaded, st, held

    def skip(self, cycles: int, ready: int) -> None:
        """Instructions of a frame that does not exist pass in order, a cycle each; credits keep the queues together.
        Its loads still wait for RX, which is through with what stands before its own messages at cycle `ready`."""
        self.ld = self.cx = self.st = max(self.ld, self.cx, self.st, self.open, ready) + cycles


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
        banks: Sequence[Mapping[str, int]],
    ) -> None:
        """crowd: (engine, link) -> share of the time that others than the engine keep the link busy.

        banks: of each channel, the time for which its message keeps the banks of its ends busy."""
        self.plan, self.steps, self.crowd, self.banks = plan, steps, crowd, banks
        self.events = sorted(events, key=lambda e: e.order)
        self.links = links
        self.clock = {e.id: int(e.parameters["clock_khz"]) for e in plan.engines}
        self.place: dict[int, tuple[int, int]] = {}  # of each channel in every queue: its producer's order, its number
        for e in self.events:
            self.place.update({i: (e.order, k) for k, i in enumerate(e.sends)})
        self.host_sends = [i for i, c in enumerate(plan.channels) if c.source == HOST and i not in self.place]
        self.place.update({i: (-1, k) for k, i in enumerate(self.host_sends)})  # the graph's inputs, before all
        self.deepest = max([e.stage for e in self.events] + [c.target_stage for c in plan.channels] + [0])

    def play(self, frames: int) -> Times:
        """Plays `frames` frames through the empty machine."""
        run = _Run(self, frames)
        for iteration in range(frames + self.deepest + 1):
            run.iteration(iteration)
        times = 1 if frames == 1 else len(run.watched)
        return Times(tuple(run.done), {t: ps // times for t, ps in run.took.items()}, run.busy)


class _Run:
    """The state of one play."""

    def __init__(self, machine: Machine, frames: int) -> None:
        self.m, self.frames = machine, frames
        plan = machine.plan
        self.cores = {k: Core(khz) for k, khz in machine.clock.items()}
        self.host = Calendar()
        # In one frame, or without stages, many messages set out together.
        meeting = frames == 1 or machine.deepest == 0
        self.messages = Messages(plan.channels, self.cores, machine.links, machine.crowd, machine.banks, meeting)
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
                if real:
                    self._segment(e, iteration, frame)
                continue
            assert e.task is not None
            core = self.cores[e.task.engine]
            steps = self.m.steps[e.task.task]
            if not real:
                core.skip(steps.skip_cycles, ps_cycles(self._passed(e, iteration), core.clock_khz))
                continue
            ready_ps = self._ready(e, frame)
            slot_ps = max((messages.sent.get((i, frame - 2), 0) for i in e.sends), default=0)
            ready = ps_cycles(ready_ps, core.clock_khz)
            before = max(core.st, ready)
            slot = max(core.open, ps_cycles(slot_ps, core.clock_khz))
            loaded, end, held = core.task(steps, ready, slot)
            for i in e.inputs:
                messages.read[(i, frame)] = max(messages.read.get((i, frame), 0), cycles_ps(loaded, core.clock_khz))
            if iteration in self.watched or self.frames == 1:
                took = cycles_ps(max(steps.compute_cycles, end - before - held), core.clock_khz)
                self.took[e.task.task] = self.took.get(e.task.task, 0) + took
            self.busy[e.task.engine] += cycles_ps(max(0, end - before), core.clock_khz)
            end_ps = cycles_ps(end, core.clock_khz)
            for i in e.sends:
                self._send(i, iteration, frame, end_ps)

        messages.play_all()
        for k, core in self.cores.items():
            core.ends_ps.append(max(cycles_ps(core.st, core.clock_khz), messages.tx_ps[k], messages.rx_ps[k]))
        for frame in range(max(0, iteration - self.m.deepest), min(self.frames, iteration + 1)):
            ends = [messages.arrived.get((i, frame), 0) for i in self.host_takes]
            self.done[frame] = max([self.done[frame], *ends])

    def _send(self, index: int, iteration: int, frame: int, ready_ps: int) -> None:
        """A message, now in the queues of both its ends."""
        target = self.m.plan.channels[index].target
        if target != HOST:
            self.received[target].append(((iteration, self.m.place[index]), (index, frame)))
        self.messages.send(index, frame, ready_ps)

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

    def _segment(self, e: Event, iteration: int, frame: int) -> None:
        assert e.segment is not None
        end = self.host.take(self._ready(e, frame), e.segment.time_ns * 1000)
        self.done[frame] = max(self.done[frame], end)
        for i in e.sends:
            self._send(i, iteration, frame, end)
