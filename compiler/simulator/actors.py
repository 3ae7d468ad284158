"""The moving parts of a run: semaphores, the steps of a queue, and the queue itself. Plain data for the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from compiler.simulator.flows import Flow, Route

FIXED, DMA, TX, RX, SEGMENT, LIVE = range(6)
# What the engine notes at a step: the first (last) of its task in this queue, a load that waits for messages, the last
# thing that this queue does for a frame, a store that waits until an earlier frame's message has left its place.
FIRST, LAST, INPUT, CLOSES, SLOT = 1, 2, 4, 8, 16


class Semaphore:
    """Tokens with the time from which each may be taken, oldest first; one actor posts, one waits.

    Times never decrease, because the poster's instructions complete in order."""

    __slots__ = ("asleep", "cause", "times", "waiter")

    def __init__(self, waiter: int, cause: str, tokens: int = 0) -> None:
        self.times: deque[int] = deque([0] * tokens)
        self.waiter = waiter
        self.cause = cause
        self.asleep = False


class Wire(NamedTuple):
    """A channel: `heads` tokens when a message begins to arrive, `tails` when all of it has, `credits` free places."""

    heads: Semaphore
    tails: Semaphore
    credits: Semaphore
    latency_ps: int


class Step(NamedTuple):
    """One instruction, or several that nothing can come between, as the engine sees it."""

    kind: int
    stage: int
    once: bool
    waits: Sequence[Semaphore]  # taken before it starts when it has its effect
    skip_waits: Sequence[Semaphore]  # taken when it skips it
    posts: Sequence[Semaphore]
    credits: Sequence[Semaphore]  # posted at the end only with its effect (RX)
    duration_ps: int  # FIXED, SEGMENT: all of it; DMA: before its flow starts
    skip_ps: int
    route: Route | None
    wire: Wire | None
    mark: int
    task: int
    name: str
    position: int  # of its (first) instruction in the queue
    tell: Callable[[int], list[tuple[Semaphore, int]]] | None = None  # LIVE: tokens that follow from its time


class Actor:
    """One queue of one core, one direction of a host channel, or one host segment."""

    __slots__ = (
        "body", "busy_ps", "contention_ps", "core", "ended_ps", "flow", "frame", "free", "index", "iteration", "name",
        "pc", "sealed", "stalls", "start", "state",
    )  # fmt: skip

    IDLE, MOVING, TAIL = 0, 1, 2

    def __init__(self, index: int, core: int, name: str) -> None:
        self.index, self.core, self.name = index, core, name
        self.body: list[Step] = []
        self.pc = self.iteration = 0
        self.free = 0  # picoseconds at which the last instruction was complete
        self.state = Actor.IDLE
        self.start = self.frame = self.ended_ps = 0
        self.flow = Flow(index)
        self.busy_ps = self.contention_ps = 0
        self.stalls: dict[str, int] = {}
        self.sealed: tuple[int, int, dict[str, int]] = (0, 0, {})

    def turn(self) -> None:
        """To the next iteration; what has been counted so far belongs to whole ones."""
        self.pc = 0
        self.iteration += 1
        self.sealed = (self.busy_ps, self.contention_ps, dict(self.stalls))
