"""One frame, or frames without stages, in order of time: many messages set out together there, and meet tasks.

Needs a machine of timing.py; says the same as its recurrence. Every engine does its tasks in the plan's order, each
when all that it waits for is known; messages and shares pass in the one global order (traffic.py). A task
takes of its bank what its loads and stores need on average, and is slower itself by the messages that it meets there.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING

from compiler.partition.prediction.fluid import Flow
from compiler.partition.prediction.messages import HOST, Key
from compiler.partition.prediction.passing import Share, shares_of
from compiler.partition.prediction.recurrence import Core, Steps
from compiler.partition.prediction.sharing import Sharing
from compiler.partition.prediction.traffic import Message, Traffic
from compiler.partition.prediction.usage import ALONE, Others, Span, during
from compiler.partition.prediction.workers import Worker
from cost_models.primitives import DMA_SETUP_CYCLES, cycles_ps, ps_cycles
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.partition.prediction.timing import Event, Machine

WATCHED = 4  # iterations over which the steady durations of tasks are averaged
HOST_FRAMES = 2  # of a tensor, that the host keeps between a segment that makes it and whoever takes it
ITERATIONS_AHEAD = 2  # the scheduler's: how far queues run ahead of the end of the body
UNPLAYABLE = "FVC212"
LEVERS = ("another --objective, or --xfer never, orders messages otherwise", "drop --force-split", "use fewer devices")


@dataclass(frozen=True, slots=True)
class Times:
    """Of one run: completion of each frame; duration of each task (the mean over the last iterations in which every
    stage has a frame), from when its core turns to it and its data is there to its last store, less what its result
    waited for its slot; busy time of each engine over the whole run. All in ps."""

    done_ps: tuple[int, ...]
    task_ps: dict[str, int]
    engine_busy_ps: dict[str, int]


class Meeting:
    """The state of one play."""

    def __init__(self, machine: Machine, frames: int) -> None:
        self.m, self.frames = machine, frames
        self.traffic = Traffic(machine, self)
        self.workers = {e: Worker(e, Core(khz)) for e, khz in machine.clock.items()}
        self.sharing = Sharing(machine, frames, self.traffic, self.workers, self._done, self._task)
        self.of: dict[Key, list[Message]] = {}
        self.sent: dict[Key, int] = {}
        self.arrived: dict[Key, int] = {}
        self.unread: dict[Key, int] = {}  # readers that have not loaded it
        self.read: set[Key] = set()
        self.host_ps = 0
        self.lacking: dict[tuple[int, int, int], int] = {}  # inputs, of events that are no engine's, by frame
        self.followers: dict[tuple[int, int], list[Event]] = {}  # on the host, by order and replica
        self.makers: dict[int, Event] = {}  # the host's event that makes what a channel carries
        self.readers: dict[int, list[Event]] = {}
        self.regions: dict[str, int] = {}  # when each took its last frame
        self.done = [0] * frames
        self.took: dict[str, int] = {}
        self.watched = range(max(0, frames - WATCHED), frames)  # iterations in which every stage has a frame
        self.busy = dict.fromkeys(self.workers, 0)
        self.received: dict[str, list[tuple[tuple[int, tuple[int, int]], Key]]] = {e: [] for e in self.workers}
        self._lay()

    # -- what there is to do --------------------------------------------------------------------------------------

    def _lay(self) -> None:
        """All queues, in the global order."""
        m, plan = self.m, self.m.plan
        ways = {i: self.traffic.way(i) for i in m.place}
        starting = set(m.host_sends)
        order: list[tuple[tuple[int, ...], int | Share]] = []
        order += [((*(m.place[i][:1]), 1, m.place[i][1], 0), i) for i in m.place]
        order += [((s.place[0], 0, *s.place[1:]), s) for s in shares_of(m.groups)]
        order.sort(key=lambda x: x[0])
        listed: list[tuple[int, int, int | Share]] = []  # iteration, frame, what
        for frame in range(self.frames):
            for _, what in order:
                late = 0 if isinstance(what, Share) else plan.channels[what].source_stage
                listed.append((frame + late, frame, what))
        listed.sort(key=lambda x: x[0])
        for iteration, frame, what in listed:
            if isinstance(what, Share):
                self._enqueue(self.sharing.message(what, iteration, frame))
                continue
            c, number = plan.channels[what], m.message_counts[what]
            size = -(-c.bits_per_frame // 8)
            for k in range(number):
                some = size * (k + 1) // number - size * k // number
                message = Message(ways[what], iteration, frame, some, k == number - 1, what, ready=what in starting)
                self.of.setdefault((what, frame), []).append(message)
                self._enqueue(message)
            if c.target in self.workers:
                self.received[c.target].append(((iteration, m.place[what]), (what, frame)))
        for e in m.events:
            for i in e.inputs:
                self.readers.setdefault(i, []).append(e)
            for order_before in e.behind:
                self.followers.setdefault((order_before, e.replica), []).append(e)
        for iteration in range(self.frames + m.deepest):
            for e in m.events:
                if e.task is not None:
                    w = self.workers[e.task.engine]
                    w.steps.append((iteration, e))
                    w.left[iteration] = w.left.get(iteration, 0) + 1

    def _enqueue(self, message: Message) -> None:
        self.traffic.enqueue(message)
        for end in message.way.pair:
            if end in self.workers:
                left = self.workers[end].left
                left[message.iteration] = left.get(message.iteration, 0) + 1

    # -- time ------------------------------------------------------------------------------------------------------

    def play(self) -> Times:
        """Until nothing moves any more. Raises FvcError (FVC212) if engines then still wait for each other."""
        alone = [e for e in self.m.events if e.task is None]
        for e in alone:
            inputs = sum(i in self.m.place for i in e.inputs) + len(e.behind)
            kept = 0
            if e.region is None:
                self.makers.update(dict.fromkeys(e.sends, e))
                kept = len(e.sends) + len(self.followers.get((e.order, e.replica), ()))
            for frame in range(self.frames):
                lacking = 1 + inputs + (e.region is None and frame > 0) + (kept if frame >= HOST_FRAMES else 0)
                self.lacking[e.order, e.replica, frame] = lacking
        for e in alone:
            for frame in range(self.frames):
                self._gain(e, frame)
        for w in self.workers.values():
            self._end_iterations(w)
            self._prefetch(w, 0, w.core)
            self._task(w)
        for queue in [*self.traffic.tx.values()]:
            self.traffic.send(queue)
        self.traffic.play()
        if stuck := [w.steps[w.at][1].order for w in self.workers.values() if w.at < len(w.steps)]:
            what = f"the plan's order cannot be played: {len(stuck)} engines wait for ever"
            raise FvcError(UNPLAYABLE, what, where=(f"orders {sorted(stuck)[:6]}",), help=LEVERS, exit_code=1)
        times = 1 if self.frames == 1 else len(self.watched)
        return Times(tuple(self.done), {t: ps // times for t, ps in self.took.items()}, self.busy)

    def opened(self, engine: str | None, iteration: int) -> bool:
        """Queues begin an iteration when the one before last is over on their engine."""
        return engine is None or self.workers[engine].ended > iteration - ITERATIONS_AHEAD

    def counted(self, engine: str | None, iteration: int) -> None:
        """One task or message less of an iteration."""
        if engine is not None:
            w = self.workers[engine]
            w.left[iteration] -= 1
            if not w.left[iteration] and iteration == w.ended:
                self._end_iterations(w)
                self.traffic.send(self.traffic.tx_of(engine))
                self.traffic.receive(self.traffic.rx.get((engine, "")))
                self._task(w)

    def _end_iterations(self, w: Worker) -> None:
        while w.ended < self.frames + self.m.deepest and not w.left.get(w.ended, 0):
            w.core.ends_ps.append(self.traffic.now)
            w.ended += 1

    def room(self, engine: str | None, m: Message) -> bool:
        """What it overwrites has been read: the ring's block before last, or the message of an earlier frame."""
        if engine is None:
            return True
        if m.share is not None:
            return self.sharing.room(engine, m.share, m.frame)
        c = self.m.plan.channels[m.channel]
        before = m.frame - max(2, c.target_stage - c.source_stage + 1)
        return before < 0 or (m.channel, before) in self.read

    def left(self, m: Message) -> None:
        """A message has left its sender."""
        if m.share is not None:
            self.sharing.left(m.share, m.frame)
        elif m.last:
            self.sent[m.channel, m.frame] = self.traffic.now
            if m.channel in self.makers:
                self._gain(self.makers[m.channel], m.frame + HOST_FRAMES)
            if (source := m.way.pair[0]) in self.workers:
                self._task(self.workers[source])

    def taken(self, m: Message) -> None:
        """A message has arrived."""
        if m.share is not None:
            self.sharing.taken(m.share, m.frame)
        elif m.last:
            self.arrived[m.channel, m.frame] = self.traffic.now
            if m.way.pair[1] == HOST:
                self.done[m.frame] = max(self.done[m.frame], self.traffic.now)
            if (target := m.way.pair[1]) in self.workers:
                self._task(self.workers[target])
            else:
                for e in self.readers.get(m.channel, ()):
                    self._gain(e, m.frame)

    # -- the host and regions --------------------------------------------------------------------------------------

    def _gain(self, e: Event, frame: int) -> None:
        """One more of what an event of the host or a region waits for."""
        key = (e.order, e.replica, frame)
        if frame >= self.frames:
            return
        self.lacking[key] -= 1
        if self.lacking[key]:
            return
        if e.region is not None:
            earliest = self.regions.get(e.region.name, -e.region.pace_ps) + e.region.pace_ps
            self.regions[e.region.name] = start = max(self.traffic.now, earliest)
            self.traffic.at(start + e.region.latency_ps, self._made, e, frame)
            return
        assert e.segment is not None
        self.host_ps = max(self.traffic.now, self.host_ps) + e.segment.time_ns * 1000
        self.traffic.at(self.host_ps, self._made, e, frame)

    def _made(self, e: Event, frame: int) -> None:
        """An event of a frame is done: what it makes may be sent."""
        if e.segment is not None and e.region is None:
            self.done[frame] = max(self.done[frame], self.traffic.now)
            self._gain(e, frame + 1)
            for reader in self.followers.get((e.order, e.replica), ()):
                self._gain(reader, frame)
            for maker in self.m.events if e.behind else ():
                if maker.order in e.behind and maker.replica == e.replica:
                    self._gain(maker, frame + HOST_FRAMES)
        for i in e.sends:
            for m in self.of.get((i, frame), ()):
                m.ready = True
            c = self.m.plan.channels[i]
            self.traffic.send(self.traffic.tx_of(c.source, c.target))

    # -- tasks -----------------------------------------------------------------------------------------------------

    def _task(self, w: Worker) -> None:
        """Begins the next task of an engine if all that it waits for is known."""
        while w.after is None and w.at < len(w.steps):
            iteration, e = w.steps[w.at]
            assert e.task is not None
            if not self.opened(w.name, iteration):
                return
            if iteration >= ITERATIONS_AHEAD:
                w.core.open = ps_cycles(w.core.ends_ps[iteration - ITERATIONS_AHEAD], w.core.clock_khz)
            frame, steps = iteration - e.stage, self.m.steps[e.task.task]
            if not 0 <= frame < self.frames:
                passed = self._passed(w, e, iteration)
                if passed is None:
                    return
                w.core.skip(steps.skip_cycles, ps_cycles(passed, w.core.clock_khz))
                w.at += 1
                self.counted(w.name, iteration)
                continue
            shared = self.m.group_of.get(e.task.task)
            if shared is not None and w.turn is None:
                self.sharing.turn(w)
            keys = [(i, frame) for i in e.inputs if i in self.m.place]
            slots = [(i, frame - 2) for i in e.sends if frame >= 2]
            if any(k not in self.arrived for k in keys) or any(k not in self.sent for k in slots):
                return
            khz = w.core.clock_khz
            ready = ps_cycles(max((self.arrived[k] for k in keys), default=0), khz)
            if w.blocks[True] and not (w.turn is not None and (w.turn.begun or w.turn.inputs)):
                last = (True, w.blocks[True] - 1)  # it lies in ACT where this task's data is to be
                if last not in w.sent_at:
                    return
                ready = max(ready, w.sent_at[last])
            slot = max(w.core.open, ps_cycles(max((self.sent[k] for k in slots), default=0), khz))
            w.given = (max(w.core.st, ready), ready, slot)
            if shared is not None:
                assert w.turn is not None
                if not w.turn.begun:
                    w.turn.begun = True
                    w.turn.blocks.start(ready, slot)
                    self.sharing.tell(w, w.turn)
                return
            self._begin(w, steps, ALONE)
            self.traffic.at(cycles_ps(w.result[0], khz), self._has_read, e, frame)
            return

    def _begin(self, w: Worker, steps: Steps, others: Others) -> None:
        """The task as it looks, beside others."""
        before, ready, slot = w.given
        w.after = w.core.copy()
        w.result = w.after.task(steps, ready, slot, others)
        khz, end = w.core.clock_khz, w.result[1]
        if w.at != w.seen:  # for the first time
            w.seen = w.at
            taken = steps.load_cycles + steps.store_cycles - round(steps.ahead[0] * steps.load_share[0])
            w.bank = self._takes(w, inf, taken / max(1, end - before))
            w.first_load = self._prefetch(w, w.at + 1, w.after)
            if (others := self._others(w, steps, before, end)) != ALONE:
                self._begin(w, steps, others)
                return
        self.traffic.at(cycles_ps(end, khz), self._done, w, w.at)
        self.sharing.turn(w)

    def _takes(self, w: Worker, cycles: float, share: float) -> Flow | None:
        """The engine takes a share of its bank from now on, for so many cycles if nothing else moves there."""
        if share <= 0.0:
            return None
        bank = self.traffic.banks[self.m.ends.bank_of[w.name]]
        cap = min(1.0, share) * self.traffic.fluid.capacity[bank]
        flow = Flow(cycles_ps(int(cycles), w.core.clock_khz) * cap if cycles != inf else inf, cap, ((bank, 1.0),))
        self.traffic.fluid.start(flow, self.traffic.now)
        return flow

    def _prefetch(self, w: Worker, at: int, core: Core) -> Span | None:
        """The first weights of a task come as soon as LD is free, whatever the task itself still waits for: when, in
        cycles, and what share of the bank they take."""
        if at == len(w.steps):
            return None
        iteration, e = w.steps[at]
        assert e.task is not None
        steps = self.m.steps[e.task.task]
        if not steps.ahead[0] or not 0 <= iteration - e.stage < self.frames or e.task.task in self.m.group_of:
            return None
        setup = min(steps.ahead[0], DMA_SETUP_CYCLES)
        begin, cycles, share = max(core.ld, core.closed) + setup, steps.ahead[0] - setup, steps.load_share[0]
        self.traffic.at(cycles_ps(begin, core.clock_khz), self._takes, w, cycles, share)
        return begin, begin + cycles, share, 1.0

    def _done(self, w: Worker, at: int) -> None:
        """A task is over, if what it has met did not hold it up."""
        iteration, e = w.steps[at]
        assert e.task is not None and w.after is not None
        steps, frame, khz = self.m.steps[e.task.task], iteration - e.stage, w.core.clock_khz
        before, _, _ = w.given
        if w.turn is None:
            end = w.result[1]
            others = self._others(w, steps, before, end)
            if others != ALONE:
                _, later, _ = w.core.copy().task(steps, w.given[1], w.given[2], others)
                if later - end > (later - before) // 1000:
                    self._begin(w, steps, others)
                    return
        if w.bank is not None:
            self.traffic.fluid.stop(w.bank)
            w.bank = None
        w.core, w.after = w.after, None
        w.last_stores = (w.result[1] - sum(steps.store[-2:]), w.result[1], steps.store_share[-1], 1.0)
        w.first_load = None
        _, end, held = w.result
        if iteration in self.watched or self.frames == 1:
            took = cycles_ps(max(steps.compute_cycles, end - before - held), khz)
            self.took[e.task.task] = self.took.get(e.task.task, 0) + took
        self.busy[w.name] += cycles_ps(max(0, end - before), khz)
        if w.turn is not None:
            self._has_read(e, frame)
        w.turn, w.coming = w.coming, None
        if w.turn is not None:
            w.turn.blocks.follow(w.core)
            self.sharing.tell(w, w.turn)
        w.at += 1
        self._made(e, frame)
        self.counted(w.name, iteration)
        self._task(w)

    def _has_read(self, e: Event, frame: int) -> None:
        """A task has loaded what it needs of its messages."""
        for i in e.inputs:
            key = (i, frame)
            self.unread[key] = self.unread.get(key, len(self.readers[i])) - 1
            if not self.unread[key]:
                self.read.add(key)
                self.traffic.receive(self.traffic.rx.get((self.m.plan.channels[i].target, "")))

    def _others(self, w: Worker, steps: Steps, before: int, end: int) -> Others:
        """What a task meets at its bank: the last stores of the task before, the first weights of the next, and so far
        messages; as long as there are any of those, its own stores or loads too."""
        khz, bank = w.core.clock_khz, self.m.ends.bank_of[w.name]
        least, k = cycles_ps(w.core.ld, khz), self.traffic.banks[bank]
        here = [x.core for x in self.workers.values() if self.m.ends.bank_of[x.name] == bank and x.at < len(x.steps)]
        first = min(cycles_ps(core.ld, core.clock_khz) for core in here)
        met = self.traffic.met[k] = [x for x in self.traffic.met[k] if x.until < 0 or x.until > first]
        messages: list[Span] = [
            (ps_cycles(x.begin, khz), ps_cycles(until, khz), min(1.0, x.share), x.weight)
            for x in met
            if (until := x.until if x.until >= 0 else self.traffic.now) > least
        ]
        by_loads = [w.last_stores] if w.last_stores is not None and w.last_stores[1] > w.core.ld else []
        by_stores = [w.first_load] if w.first_load is not None and w.first_load[0] < end else []
        if not messages and not by_loads and not by_stores:
            return ALONE
        took = max(1, end - before)
        loads, stores = (during(messages, own / took) for own in (steps.load_cycles, steps.store_cycles))
        # One queue does the task's own loads and the next one's first, another the stores.
        if by_loads:
            stores = [(max(a, by_loads[0][1]), b, share, one) for a, b, share, one in stores if b > by_loads[0][1]]
        if by_stores:
            loads = [(a, min(b, by_stores[0][0]), share, one) for a, b, share, one in loads if a < by_stores[0][0]]
        return [*messages, *stores, *by_loads], [*messages, *loads, *by_stores]

    def _passed(self, w: Worker, e: Event, iteration: int) -> int | None:
        """When RX is through with all messages before those of the event, which stand in earlier iterations by as many
        stages as they are made earlier: the tokens for loads pass RX in order, with a frame or without."""
        received, channels = self.received[w.name], self.m.plan.channels
        late = [
            (iteration + channels[i].source_stage - e.stage, self.m.place[i]) for i in e.inputs if i in self.m.place
        ]
        behind = bisect_right(received, max(late), key=itemgetter(0)) if late else 0
        return self.arrived.get(received[behind - 1][1]) if behind else 0
