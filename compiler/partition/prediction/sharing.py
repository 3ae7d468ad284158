"""Shared weights and inputs in order of time: which parts of which blocks are where, and what tasks can do with them.

Needs the machine of timing.py and the workers of meeting.py; says the same as schedule/shares.py. A part is sent on
when it is there, taken when its place in the ring is free, and computed with when all parts of its block are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from compiler.partition.prediction.blocks import Blocks
from compiler.partition.prediction.passing import Share
from compiler.partition.prediction.traffic import Message, Traffic, Way
from compiler.partition.prediction.workers import Turn, Worker
from cost_models.primitives import cycles_ps, ps_cycles

if TYPE_CHECKING:
    from compiler.partition.prediction.timing import Machine

OWN = -1  # in place of the first byte, of all that a task loads of its own share
Part = tuple[int, int, int, int, int, str]  # group, frame, block, owner, first byte, engine


class Sharing:
    """The shares of one play."""

    def __init__(
        self,
        machine: Machine,
        frames: int,
        traffic: Traffic,
        workers: Mapping[str, Worker],
        done: Callable[[Worker, int], None],
        resume: Callable[[Worker], None],
    ) -> None:
        """done: tells that a worker's task is over; resume: has a worker begin what it can."""
        self.m, self.frames, self.traffic = machine, frames, traffic
        self.workers, self.done, self.resume = workers, done, resume
        self.hops: dict[tuple[str, str], Way] = {}
        self.parts: dict[Part, list[Message]] = {}  # messages that wait for their part to be there
        self.missing: dict[tuple[int, int, int, str], int] = {}  # messages, by group, frame, block and receiver
        self.unsent: dict[tuple[int, int, int, str], int] = {}

    def message(self, share: Share, iteration: int, frame: int) -> Message:
        """A share of one frame, still to be sent."""
        pair = (share.source, share.target)
        if pair not in self.hops:
            self.hops[pair] = self.traffic.hop(share)
        message = Message(self.hops[pair], iteration, frame, share.hi - share.lo, True, share=share)
        first = share.source == self.m.groups[share.group].engines[share.owner]
        part = (share.group, frame, share.block, share.owner, OWN if first else share.lo, share.source)
        self.parts.setdefault(part, []).append(message)
        for ends, engine in ((self.unsent, share.source), (self.missing, share.target)):
            key = (share.group, frame, share.block, engine)
            ends[key] = ends.get(key, 0) + 1
        return message

    def room(self, engine: str, share: Share, frame: int) -> bool:
        """What it overwrites has been computed with, and sent: the ring's block before last."""
        w = self.workers[engine]
        for turn in (w.turn, w.coming):
            if turn is not None and (turn.group, turn.frame) == (share.group, frame):
                before = -1 if turn.inputs else turn.number + share.block - 2
                return share.block in turn.free and (before < 0 or (False, before) in w.sent_at)
        return False

    def turn(self, w: Worker) -> None:
        """The loads of the next task begin as soon as those of the one before are done, if it shares anything."""
        under_way = w.after is not None or w.turn is not None
        at = w.at + under_way
        if at >= len(w.steps) or w.coming is not None:
            return
        iteration, e = w.steps[at]
        assert e.task is not None
        shared = self.m.group_of.get(e.task.task)
        if shared is None or not 0 <= iteration - e.stage < self.frames:
            return
        if not under_way:
            ahead: tuple[int, int] | None = (w.core.ld, w.core.closed)
        elif w.turn is not None:
            ahead = w.turn.blocks.ahead
        else:
            assert w.after is not None
            ahead = (w.after.ld, w.after.closed)
        if ahead is None:
            return
        inputs = self.m.groups[shared].inputs
        frame, number = iteration - e.stage, w.blocks[inputs]
        starts = self.m.groups[shared].starts[self.m.groups[shared].tasks.index(e.task.task)]
        # Of inputs all must be sent that the task before had: its slots lay elsewhere.
        behind = (-1, -1) if inputs else (-2, -1)
        sent = [0 if number + k < 0 else w.sent_at.get((inputs, number + k)) for k in behind] + [
            None if (shared, frame, b, w.name) in self.unsent else 0 for b in range(len(starts))
        ]
        blocks = Blocks(self.m.steps[e.task.task], starts, *ahead, sent, inputs=inputs)
        for b in range(len(starts)):
            if (shared, frame, b, w.name) not in self.unsent:
                w.sent_at[inputs, number + b] = 0
            if (shared, frame, b, w.name) not in self.missing:
                blocks.there[b] = 0
        w.blocks[inputs] += len(starts)
        w.numbers[shared, frame] = number
        turn = Turn(shared, frame, blocks, number)
        if under_way:
            w.coming = turn
            blocks.advance()
        else:
            w.turn = turn
            blocks.follow(w.core)
        self.tell(w, turn)

    def tell(self, w: Worker, turn: Turn) -> None:
        """Makes events of what is newly known of a task with shared weights or inputs."""
        khz, blocks = w.core.clock_khz, turn.blocks
        for b in range(turn.told[0], len(blocks.loaded)):
            self.traffic.at(cycles_ps(blocks.loaded[b], khz), self._loaded, w, turn, b)
        free = [] if blocks.inputs else [*blocks.groups[:2], *blocks.done]
        for b in range(turn.told[1], min(len(free), len(blocks.there))):
            self.traffic.at(cycles_ps(free[b], khz), self._freed, w, turn, b)
        turn.told[:2] = len(blocks.loaded), len(free)
        if turn is w.turn and blocks.over and not turn.told[2]:
            turn.told[2] = 1
            w.result = blocks.result()
            w.after = blocks.finish()
            self.traffic.at(cycles_ps(w.result[1], khz), self.done, w, w.at)
        if turn is w.turn:
            self.turn(w)

    def _loaded(self, w: Worker, turn: Turn, block: int) -> None:
        """The task's own share of a block is there; of inputs the others may come behind it."""
        self._on((turn.group, turn.frame, block, self.m.groups[turn.group].engines.index(w.name), OWN, w.name))
        if turn.inputs:
            self._freed(w, turn, block)

    def _on(self, part: Part) -> None:
        """A part of a share is at an engine, which may send it on."""
        for m in self.parts.get(part, ()):
            m.ready = True
        self.traffic.send(self.traffic.tx_of(part[-1]))

    def _freed(self, w: Worker, turn: Turn, block: int) -> None:
        """What was in the ring in a block's place has been computed with."""
        turn.free.add(block)
        self.traffic.receive(self.traffic.rx.get((w.name, "")))

    def left(self, share: Share, frame: int) -> None:
        """A message of weights or inputs has left its sender."""
        key = (share.group, frame, share.block, share.source)
        self.unsent[key] -= 1
        if self.unsent[key]:
            return
        w = self.workers[share.source]
        inputs, number = self.m.groups[share.group].inputs, w.numbers[share.group, frame] + share.block
        at = w.sent_at[inputs, number] = ps_cycles(self.traffic.now, w.core.clock_khz)
        for turn in (w.turn, w.coming):
            if turn is not None and turn.inputs == inputs:
                block = number - turn.number
                if inputs and block == -1:
                    turn.blocks.sent(-2, at)
                if (-1 if inputs else -2) <= block < len(turn.blocks.there):
                    turn.blocks.sent(block, at)
                    self.tell(w, turn)
        self.traffic.receive(self.traffic.rx.get((w.name, "")))
        if inputs:
            self.resume(w)

    def taken(self, share: Share, frame: int) -> None:
        """A message of weights or inputs has arrived."""
        key = (share.group, frame, share.block, share.target)
        self.missing[key] -= 1
        w = self.workers[share.target]
        if not self.missing[key]:
            for turn in (w.turn, w.coming):
                if turn is not None and (turn.group, turn.frame) == (share.group, frame):
                    turn.blocks.arrived(share.block, ps_cycles(self.traffic.now, w.core.clock_khz))
                    self.tell(w, turn)
        self._on((share.group, frame, share.block, share.owner, share.lo, share.target))
