"""The event loop: queues that may have something to do, woken by tokens and messages, until nothing can move.

Which queue goes next is free: a fixed round robin, or drawn from a seed. Results must not depend on it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from compiler.executor.channels import Fifo
from compiler.executor.decode import MAX_TOKENS, QUEUES, SEND, TAKE, Agent, describe, locate
from compiler.executor.faults import DEADLOCK, MESSAGE, TOKENS, Fault, MachineError
from compiler.executor.host import Host
from compiler.isa.table import HOST_RANK, Queue

if TYPE_CHECKING:
    from compiler.executor.stream.bridges import Fabrics


class Run:
    """The event loop: agents that may have something to do, woken by tokens and messages."""

    def __init__(
        self,
        agents: list[Agent],
        host: Host,
        channels: dict[int, Fifo],
        iterations: int,
        seed: int | None,
        fabrics: Fabrics | None = None,
    ) -> None:
        self.fabrics = fabrics
        self.fabrics_due = fabrics is not None
        self.agents = agents
        self.host = host
        self.channels = channels
        self.iterations = iterations
        self.random = None if seed is None else random.Random(seed)
        self.by_end: dict[tuple[int, int], list[Agent]] = {}
        self.by_core: dict[int, list[Agent]] = {}
        for agent in agents:
            self.by_core.setdefault(id(agent.core), []).append(agent)
            for step in agent.steps:
                if step.fifo is not None:
                    ends = self.by_end.setdefault((step.fifo.spec.id, step.kind), [])
                    if agent not in ends:
                        ends.append(agent)
        self.ready: deque[Agent] = deque()
        self.queued = [False] * len(agents)
        self.host_due = True

    def wake(self, agent: Agent) -> None:
        if not self.queued[agent.number]:
            self.queued[agent.number] = True
            self.ready.append(agent)

    def loop(self) -> None:
        """Runs until nothing can move; raises the deadlock report if something was left to do."""
        for agent in self.agents:
            self.wake(agent)
        while self.ready or self.host_due or self.fabrics_due:
            if self.fabrics_due:
                self.fabrics_due = False
                self._advance_fabrics()
            if self.host_due and (self.random is None or not self.ready or self.random.random() < 0.3):
                self.host_due = False
                self._advance_host()
            if not self.ready:
                continue
            if self.random is None:
                agent, limit = self.ready.popleft(), -1
            else:
                at = self.random.randrange(len(self.ready))
                self.ready[at], self.ready[-1] = self.ready[-1], self.ready[at]
                agent, limit = self.ready.pop(), self.random.choice((1, 2, 5, 30, -1))
            self.queued[agent.number] = False
            if self._advance(agent, limit):
                self.wake(agent)
        self._finish()

    def _advance_host(self) -> None:
        try:
            moved = self.host.advance()
        except Fault as fault:
            raise MachineError(fault.code, fault.what) from fault
        self.fabrics_due = self.fabrics is not None and (self.fabrics_due or bool(moved))
        self._wake_ends(moved)

    def _wake_ends(self, moved: Iterable[int]) -> None:
        for channel in moved:
            for kind in (SEND, TAKE):
                for agent in self.by_end.get((channel, kind), ()):
                    self.wake(agent)

    def _advance_fabrics(self) -> None:
        assert self.fabrics is not None
        moved = self.fabrics.advance()
        self.host_due = self.host_due or bool(moved)
        self._wake_ends(moved)

    def _advance(self, agent: Agent, limit: int) -> bool:
        """Runs the queue until it blocks or `limit` instructions are done; True if it could go on."""
        steps, tokens, frames, core = agent.steps, agent.tokens, agent.frames, agent.core
        if not steps:
            agent.iteration = self.iterations
            return False
        siblings = self.by_core[id(core)]
        pc, length = agent.pc, len(steps)
        try:
            while agent.iteration < self.iterations:
                if limit == 0:
                    return True
                step = steps[pc]
                for s in step.waits:
                    if not tokens[s]:
                        return False
                frame = agent.iteration - step.stage
                if 0 <= frame < frames and not (step.once and frame):
                    fifo = step.fifo
                    if fifo is None:
                        if step.action is not None:
                            step.action(frame)
                            if step.after is not None:
                                step.after(frame)
                    elif step.kind == SEND:
                        if fifo.full:
                            return False
                        assert step.send is not None
                        fifo.send(step.tag, step.send(frame))
                        self._moved(fifo.spec.target_rank, fifo.spec.id, TAKE)
                    else:
                        if not fifo.messages:
                            return False
                        assert step.take is not None
                        step.take(frame, fifo.take(step.tag))
                        self._moved(fifo.spec.source_rank, fifo.spec.id, SEND)
                for s in step.waits:
                    tokens[s] -= 1
                for s, q in step.posts:
                    tokens[s] += 1
                    if tokens[s] > MAX_TOKENS:
                        raise Fault(
                            TOKENS,
                            f"posts token {tokens[s]} to queue {Queue(q).name}; a semaphore counts to {MAX_TOKENS}",
                        )
                    self.wake(siblings[q])
                pc += 1
                limit -= 1
                if pc == length:
                    pc = 0
                    agent.iteration += 1
        except Fault as fault:
            frame = (agent.iteration - steps[pc].stage) * core.replicas + core.replica
            raise locate(fault, core.device, core.program, agent.queue, steps[pc].index, frame) from fault
        finally:
            agent.pc = pc
        return False

    def _moved(self, rank: int, channel: int, kind: int) -> None:
        if rank == HOST_RANK:
            self.host_due = True
        elif self.fabrics is not None and rank in self.fabrics.ranks:
            self.fabrics_due = True
        else:
            for agent in self.by_end.get((channel, kind), ()):
                self.wake(agent)

    def _finish(self) -> None:
        stuck = [a for a in self.agents if a.iteration < self.iterations]
        units = self.fabrics.waiting() if self.fabrics is not None else []
        if stuck or units or not self.host.finished:
            lines = [self._blocked(a) for a in stuck] + units + self.host.waiting()
            raise MachineError(DEADLOCK, f"deadlock: {len(stuck)} queues wait for ever", where=tuple(lines[:40]))
        for core in {id(a.core): a.core for a in self.agents}.values():
            marking = [n for row in core.program.marking for n in row]
            for s, (start, end) in enumerate(zip(marking, core.tokens, strict=True)):
                if start != end:
                    pair = f"{Queue(s // QUEUES).name}->{Queue(s % QUEUES).name}"
                    raise MachineError(
                        TOKENS,
                        f"semaphore {pair} starts with {start} tokens and ends with {end}",
                        where=(core.program.engine.id,),
                    )
        for fifo in self.channels.values():
            if fifo.messages:
                raise MachineError(
                    MESSAGE, f"channel {fifo.spec.id} still holds {len(fifo.messages)} messages that nobody takes"
                )

    def _blocked(self, agent: Agent) -> str:
        step = agent.steps[agent.pc]
        where = describe(agent.core.device, agent.core.program, agent.queue, agent.pc)[0]
        empty = [Queue(s // QUEUES).name for s in step.waits if not agent.tokens[s]]
        if empty:
            return f"{where}, iteration {agent.iteration}: waits for a token from {', '.join(empty)}"
        if step.fifo is not None:
            what = "room in" if step.kind == SEND else "a message from"
            return f"{where}, iteration {agent.iteration}: waits for {what} channel {step.fifo.spec.id}"
        return f"{where}, iteration {agent.iteration}"
