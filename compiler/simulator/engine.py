"""The event loop: needs a built machine, moves it through its iterations, notes when what happened.

Every semaphore has one poster and one waiter, so the time of a token is known the moment it is posted, even if that
lies ahead. An instruction of fixed duration is therefore done as soon as its tokens exist, with no event at all; only
transfers go through the heap, in order of time, because what they get depends on who else is moving.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from compiler.simulator.actors import CLOSES, DMA, FIRST, INPUT, LAST, LIVE, RX, SEGMENT, SLOT, TX, Actor, Step
from compiler.simulator.build import Built, broken
from compiler.simulator.flows import Network

_BEGIN = -1  # "version" of the event at which a transfer's flow starts
# A run without a given length ends when the mean distance of as many results equals that of as many before them.
MEAN_OF = 4
_TOLERANCE = 1e-3


@dataclass(slots=True)
class Log:
    """What a run leaves behind. Times in picoseconds.

    done: when frame f was complete. tasks: (task, frame) -> [first start, last end, when its input had
    arrived, how long its stores stood before a full place].
    events: (actor, instruction, name, frame, start, end), only if asked for."""

    done: list[int] = field(default_factory=list)
    tasks: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    events: list[tuple[int, int, str, int, int, int]] = field(default_factory=list)
    settled: bool = False


class Engine:
    """frames: how many go in. warm: ONCE instructions count as done. enough: stop after so many results; settle: stop
    when the interval has settled. window: results from which on the machine counts as settled; stalls are counted from
    the iteration in which the first of them is complete."""

    def __init__(
        self,
        built: Built,
        frames: int,
        *,
        warm: bool,
        enough: int = 0,
        settle: bool = False,
        window: int = 0,
        record: bool = False,
    ) -> None:
        self.built, self.frames, self.warm = built, frames, warm
        self.enough, self.settle, self.first = enough or frames, settle, window
        self.iterations = frames + built.stages
        self.window, self.record = window + built.stages if window else 0, record
        self.heap: list[tuple[int, int, int, int]] = []
        self.serial = count()
        self.network = Network(self.heap, self.serial, (r for r in built.resources.values() if r.log is not None))
        self.work: list[Actor] = []
        self.log = Log()
        self._closing: dict[int, list[int]] = {}
        self.processor_ps = 0
        self.stop = False

    def run(self) -> Log:
        actors = self.built.actors
        for actor in actors:
            if actor.body:
                self._advance(actor)
        work, heap = self.work, self.heap
        while True:
            while work:
                self._advance(work.pop())
            if not heap or self.stop:
                break
            now, _, owner, version = heappop(heap)
            actor = actors[owner]
            if version == _BEGIN:
                self._begin(actor, now)
            elif version == actor.flow.version and self.network.over(actor.flow, now):
                self._arrived(actor, now)
        if not self.stop:
            self._check_finished()
        return self.log

    def _advance(self, actor: Actor) -> None:
        """Does every instruction of the queue that can be done, up to the next transfer or missing token."""
        if actor.state != Actor.IDLE:
            if actor.state == Actor.TAIL:
                self._tail(actor)
            return
        body, size = actor.body, len(actor.body)
        frames, iterations, warm, actors, work = self.frames, self.iterations, self.warm, self.built.actors, self.work
        while actor.iteration < iterations:
            step = body[actor.pc]
            kind, stage, once, waits, skip_waits, posts, credits, duration, skip_ps, _, _, mark, _, _, _, _ = step
            frame = actor.iteration - stage
            effect = 0 <= frame < frames and not (once and (warm or frame))
            if not effect:
                waits = skip_waits
            start = free = actor.free
            for semaphore in waits:
                if not semaphore.times:
                    semaphore.asleep = True
                    return
            if waits:
                cause = ""
                for semaphore in waits:
                    time = semaphore.times.popleft()
                    if mark and effect:
                        if mark & INPUT and semaphore.cause == "RX":
                            self._note_input(step, frame, time)
                        elif mark & SLOT and semaphore.cause in ("TX", "CTL"):
                            self._note_slot(step, frame, max(0, time - start))
                    if time > start:
                        start, cause = time, semaphore.cause
                if start > free and actor.iteration >= self.window:
                    actor.stalls[cause] = actor.stalls.get(cause, 0) + start - free
            if effect and kind:
                actor.start, actor.frame = start, frame
                actor.state = Actor.MOVING
                heappush(
                    self.heap, (start + duration if kind == DMA else start, next(self.serial), actor.index, _BEGIN)
                )
                return
            end = start + (duration if effect else skip_ps)
            actor.free = end
            for semaphore in posts:
                semaphore.times.append(end)
                if semaphore.asleep:
                    semaphore.asleep = False
                    work.append(actors[semaphore.waiter])
            if effect:
                if credits:
                    for semaphore in credits:
                        semaphore.times.append(end)
                        if semaphore.asleep:
                            semaphore.asleep = False
                            work.append(actors[semaphore.waiter])
                if actor.iteration >= self.window:
                    actor.busy_ps += end - start
                if mark:
                    self._note(step, frame, start, end)
                if self.record:
                    self.log.events.append((actor.index, step.position, step.name, frame, start, end))
            elif mark & CLOSES and 0 <= frame < frames:
                self._close(frame, end)
            actor.pc += 1
            if actor.pc == size:
                actor.turn()

    def _begin(self, actor: Actor, now: int) -> None:
        step = actor.body[actor.pc]
        if step.kind == TX:
            wire = step.wire
            assert wire is not None
            wire.heads.times.append(now + wire.latency_ps)
            if wire.heads.asleep:
                wire.heads.asleep = False
                self.work.append(self.built.actors[wire.heads.waiter])
        if step.kind == SEGMENT:  # the one processor takes them in the order in which they are ready
            self.processor_ps = max(now, self.processor_ps) + step.duration_ps
            self._complete(actor, step, self.processor_ps)
        elif step.kind == LIVE:
            assert step.tell is not None
            for semaphore, ps in step.tell(now):
                semaphore.times.append(ps)
                if semaphore.asleep:
                    semaphore.asleep = False
                    self.work.append(self.built.actors[semaphore.waiter])
            self._complete(actor, step, now)
        elif step.route is None or not step.route.amount:
            self._arrived(actor, now if step.kind == DMA else now + step.duration_ps)
        else:
            self.network.start(actor.flow, step.route, now)

    def _arrived(self, actor: Actor, end: int) -> None:
        """The transfer itself is over; an RX may still have to wait for the rest of its message."""
        step = actor.body[actor.pc]
        if step.kind == RX:
            actor.ended_ps = end
            actor.state = Actor.TAIL
            self._tail(actor)
            return
        if step.kind == TX:
            wire = step.wire
            assert wire is not None
            wire.tails.times.append(end + wire.latency_ps)
            if wire.tails.asleep:
                wire.tails.asleep = False
                self.work.append(self.built.actors[wire.tails.waiter])
        self._complete(actor, step, end)

    def _tail(self, actor: Actor) -> None:
        step = actor.body[actor.pc]
        wire = step.wire
        assert wire is not None
        if not wire.tails.times:
            wire.tails.asleep = True
            return
        self._complete(actor, step, max(actor.ended_ps, wire.tails.times.popleft()))

    def _complete(self, actor: Actor, step: Step, end: int) -> None:
        actor.free = end
        actor.state = Actor.IDLE
        for group in (step.posts, step.credits):
            for semaphore in group:
                semaphore.times.append(end)
                if semaphore.asleep:
                    semaphore.asleep = False
                    self.work.append(self.built.actors[semaphore.waiter])
        if actor.iteration >= self.window:
            actor.busy_ps += end - actor.start
            if step.kind in (DMA, TX) and step.route:
                alone = step.route.alone_ps + (step.duration_ps if step.kind == DMA else 0)
                actor.contention_ps += max(0, end - actor.start - alone)
        if step.mark:
            self._note(step, actor.frame, actor.start, end)
        if self.record:
            self.log.events.append((actor.index, step.position, step.name, actor.frame, actor.start, end))
        actor.pc += 1
        if actor.pc == len(actor.body):
            actor.turn()
        self.work.append(actor)

    def _note(self, step: Step, frame: int, start: int, end: int) -> None:
        if step.mark & (FIRST | LAST):
            entry = self.log.tasks.get((step.task, frame))
            if entry is None:
                self.log.tasks[step.task, frame] = [start, end, 0, 0]
            else:
                if start < entry[0]:
                    entry[0] = start
                if end > entry[1]:
                    entry[1] = end
        if step.mark & CLOSES:
            self._close(frame, end)

    def _note_input(self, step: Step, frame: int, time: int) -> None:
        entry = self.log.tasks.setdefault((step.task, frame), [1 << 62, 0, 0, 0])
        entry[2] = max(entry[2], time)

    def _note_slot(self, step: Step, frame: int, waited_ps: int) -> None:
        self.log.tasks.setdefault((step.task, frame), [1 << 62, 0, 0, 0])[3] += waited_ps

    def _close(self, frame: int, end: int) -> None:
        entry = self._closing.setdefault(frame, [0, 0])
        entry[0] += 1
        entry[1] = max(entry[1], end)
        done = self.log.done
        while len(done) in self._closing and self._closing[len(done)][0] == self.built.closings:
            done.append(self._closing.pop(len(done))[1])
        if len(done) >= self.enough:
            self.stop = self.enough < self.frames
        if self.settle and not self.stop and len(done) > self.first + 2 * MEAN_OF:
            now, middle, before = done[-1], done[-1 - MEAN_OF], done[-1 - 2 * MEAN_OF]
            steady = abs((now - middle) - (middle - before)) <= _TOLERANCE * (now - middle)
            # While buffers fill, results come sooner than the longest queue can go on giving them.
            if steady and (now - middle) * (1 + _TOLERANCE) >= MEAN_OF * self.built.floor_ps:
                self.stop = self.log.settled = True

    def _check_finished(self) -> None:
        stuck = [a for a in self.built.actors if a.body and a.iteration < self.iterations]
        if stuck:
            lines = tuple(f"{_owner(self.built, a)}: {_waiting(a, self.frames, self.warm)}" for a in stuck[:6])
            raise broken(f"the program stops: {len(stuck)} queues wait for what never comes", *lines)


def _owner(built: Built, actor: Actor) -> str:
    return f"rank {built.cores[actor.core].rank}, queue {actor.name}" if actor.core >= 0 else actor.name


def _waiting(actor: Actor, frames: int, warm: bool) -> str:
    step = actor.body[actor.pc]
    frame = actor.iteration - step.stage
    effect = 0 <= frame < frames and not (step.once and (warm or frame))
    missing = [s.cause for s in (step.waits if effect else step.skip_waits) if not s.times]
    return (
        f"{step.name} {step.position} of iteration {actor.iteration} waits for {' and '.join(missing) or 'its message'}"
    )
