"""The analytical machine: every core as a tile recurrence, cores joined by messages in the plan's order.

Needs a plan and the timelines of its tasks; gives when each task of each frame begins and ends, in picoseconds.
A task waits for its core (in order), for its data (messages of its frame) and for the layer before it (last store).
Messages are served in order by the sender's TX queue, the receiver's RX queue and every link of their route. This is
a recurrence over (iteration, order): whatever a task waits for comes earlier in that order, so one pass suffices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from compiler.partition.contention import Timeline, run
from compiler.plan.model import HostSegmentPlan, Plan, SlicePlan
from cost_models.primitives import cycles_ps, ps_cycles, transfer_ps

HOST = "host"


@dataclass(slots=True)
class Steps:
    """A timeline as lists of numbers, stretched by what its bank cannot give at once."""

    ahead: Sequence[int]
    main: Sequence[int]
    head: Sequence[int]
    tail: Sequence[int]
    store: Sequence[int]
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
        return cls(ahead, main, t.cx_head, t.cx_tail, store, 2 * len(t.st))


def _stretch(t: Timeline, plain: float, real: float) -> float:
    """The factor on load and store durations that makes the uncontended recurrence last as long as the contended one."""
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
    tx_ps: int = 0
    rx_ps: int = 0

    def task(self, s: Steps, ready: int) -> int:
        """Plays one task whose data is there at cycle `ready`; the cycle of its last store."""
        ld, cx, st = self.ld, self.cx, self.st
        closed, before, last = self.closed, self.before, self.last
        barrier = st if st > ready else ready
        waiting = True
        group = 0
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
                group = ld
            if group > cx:
                cx = group
            cx += head
            if store:
                if before > cx:
                    cx = before
                cx += tail
                st = (cx if cx > st else st) + store
                before, last = last, st
            else:
                cx += tail
        self.ld, self.cx, self.st = ld, cx, st
        self.closed, self.before, self.last = closed, before, last
        return st

    def skip(self, cycles: int) -> None:
        """Instructions of a frame that does not exist pass in order, a cycle each."""
        self.ld += cycles
        self.cx = max(self.cx, self.ld)
        self.st = max(self.st, self.cx)


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
    """Of one run: completion of each frame; duration of each task in the last frame, from when its core turns to it and
    its data is there to its last store; busy time of each engine over the whole run. All in ps."""

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
    ) -> None:
        self.plan, self.steps = plan, steps
        self.events = sorted(events, key=lambda e: e.order)
        self.links = links
        self.clock = {e.id: int(e.parameters["clock_khz"]) for e in plan.engines}
        self.deepest = max([e.stage for e in self.events] + [c.target_stage for c in plan.channels] + [0])

    def play(self, frames: int) -> Times:
        """Plays `frames` frames through the empty machine."""
        plan = self.plan
        cores = {k: Core(khz) for k, khz in self.clock.items()}
        link_free = dict.fromkeys(self.links, 0)
        host_free = 0
        arrived: dict[tuple[int, int], int] = {}  # (channel, frame) -> ps
        done = [0] * frames
        last: dict[str, int] = {}
        busy = dict.fromkeys(cores, 0)
        host_sends = [
            i for i, c in enumerate(plan.channels) if c.source == HOST and not any(i in e.sends for e in self.events)
        ]

        def send(index: int, frame: int, ready_ps: int) -> None:
            c = plan.channels[index]
            rate, latency = 0, 0
            start = ready_ps
            for link in c.route:
                per_second, ns = self.links[link]
                rate = per_second if rate == 0 else min(rate, per_second)
                latency += ns
                start = max(start, link_free[link])
            size = -(-c.bits_per_frame // 8)
            if c.source in cores:
                start = max(start, cores[c.source].tx_ps)
            if c.target in cores:
                start = max(start, cores[c.target].rx_ps)
            moving = transfer_ps(size, rate) if rate else 0
            end = start + moving + latency * 1000
            for link in c.route:
                link_free[link] = start + transfer_ps(size, self.links[link][0])
            if c.source in cores:
                cores[c.source].tx_ps = end
            if c.target in cores:
                cores[c.target].rx_ps = end
            arrived[(index, frame)] = end
            if c.target == HOST:
                done[frame] = max(done[frame], end)

        for iteration in range(frames + self.deepest + 1):
            if iteration < frames:
                for i in host_sends:
                    send(i, iteration, 0)
            for e in self.events:
                frame = iteration - e.stage
                real = 0 <= frame < frames
                if e.segment is not None:
                    if real:
                        start = max([host_free, *(arrived.get((i, frame), 0) for i in e.inputs)])
                        host_free = start + e.segment.time_ns * 1000
                        done[frame] = max(done[frame], host_free)
                        for i in e.sends:
                            send(i, frame, host_free)
                    continue
                assert e.task is not None
                core = cores[e.task.engine]
                s = self.steps[e.task.task]
                if not real:
                    core.skip(s.skip_cycles)
                    continue
                ready_ps = max((arrived.get((i, frame), 0) for i in e.inputs), default=0)
                before = max(core.st, ps_cycles(ready_ps, core.clock_khz))
                end = core.task(s, ps_cycles(ready_ps, core.clock_khz))
                last[e.task.task] = cycles_ps(max(0, end - before), core.clock_khz)
                busy[e.task.engine] += last[e.task.task]
                end_ps = cycles_ps(end, core.clock_khz)
                for i in e.sends:
                    send(i, frame, end_ps)
        return Times(tuple(done), last, busy)


