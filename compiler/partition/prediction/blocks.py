"""A task whose weights, or inputs, come in shares: its tile recurrence, done as far as what it waits for is known.

Loads run up to two load groups ahead of the arithmetic; a block can be computed with when its own share is loaded and
all others have arrived. The rules are those of recurrence.Core; all times are cycles of the core's clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.partition.prediction.recurrence import Core, Result, Steps


class Blocks:
    """One task under way. Its loads may begin before the task before it on the core is done (`follow` says when that
    is); its data may come later (`start`); `there` and `sent` are told block by block.

    loaded: cycles at which its own share of each block so far was loaded; done: at which the arithmetic with it ended.
    """

    def __init__(
        self, steps: Steps, starts: Sequence[int], ld: int, closed: int, sent: Sequence[int | None], *,
        inputs: bool = False,
    ) -> None:  # fmt: skip
        """starts: the first step of each block; ld, closed: when LD is free, and the load group before last done with;
        sent: when the shares of the two blocks before were sent on, None while that is not known. inputs: the blocks
        are of what the task loads when its data is there, not of its weights."""
        self.inputs = inputs
        self.steps, self.starts = steps, {step: b for b, step in enumerate(starts)}
        self.ld, self.first = ld, True
        self.groups: list[int] = [closed]  # ends of load groups from the last but one of the task before
        self.opened = 0  # load groups so far
        self.gone: list[int | None] = list(sent)  # by block, from two before the first
        self.there: list[int | None] = [None] * len(starts)
        self.loaded: list[int] = []
        self.done: list[int] = []
        self.core: Core | None = None
        self.ready: int | None = None
        self.slot = self.barrier = self.last_load = self.held = 0
        self.loads: list[int] = []  # of each step, when what it needs is loaded
        self.ahead_done = False  # the next step's weights are loaded, its data not yet
        self.at = 0  # the step whose arithmetic is next

    @property
    def over(self) -> bool:
        """All of it is known."""
        return self.at == len(self.steps.head)

    def follow(self, core: Core) -> None:
        """The task before is done; core: its queues as it left them."""
        self.core, self.barrier = core.copy(), core.st
        self.groups.append(core.cx)
        self.advance()

    def start(self, ready: int, slot: int) -> None:
        """Its data is there, and when the slot of its result is free."""
        self.ready, self.slot = ready, slot
        self.advance()

    def arrived(self, block: int, at: int) -> None:
        """All other shares of a block are there."""
        self.there[block] = at
        self.advance()

    def sent(self, block: int, at: int) -> None:
        """All that is to be passed on of a block has left; the two before the first have the numbers -2 and -1."""
        self.gone[block + 2] = at
        self.advance()

    def result(self) -> Result:
        """As of Core.task."""
        assert self.core is not None
        return self.last_load, self.core.st, self.held

    def finish(self) -> Core:
        """The core behind it."""
        assert self.core is not None
        self.core.ld, self.core.closed = self.ld, self.groups[-2]
        return self.core

    @property
    def ahead(self) -> tuple[int, int] | None:
        """(when LD is free, when the load group before last is done with) of who comes next, if known."""
        known = len(self.loads) == len(self.steps.head) and len(self.groups) > self.opened
        return (self.ld, self.groups[self.opened]) if known else None

    def advance(self) -> None:
        """Goes as far as what is known allows."""
        while self._load() or self._compute():
            pass

    def _load(self) -> bool:
        """The next step's loads, if what they wait for is known."""
        i = len(self.loads)
        if i == len(self.steps.head):
            return False
        s = self.steps
        if s.ahead[i] or s.main[i]:
            if not self.ahead_done:
                block = None if self.inputs else self.starts.get(i)
                gone = self.gone[block] if block is not None else 0
                if len(self.groups) <= self.opened or gone is None:
                    return False
                self.ld = max(self.ld, self.groups[self.opened], gone) + s.ahead[i]
                self.opened += 1
                self.ahead_done = True
                if block is not None:
                    self.loaded.append(self.ld)
            if s.main[i]:
                block = self.starts.get(i) if self.inputs else None
                gone = self.gone[block] if block is not None else 0
                if gone is None:
                    return False
                if self.first:
                    if self.ready is None or self.core is None:
                        return False
                    self.first = False
                    self.ld = max(self.ld, self.barrier, self.ready)
                self.ld = max(self.ld, gone) + s.main[i]
                self.last_load = self.ld
                if block is not None:
                    self.loaded.append(self.ld)
            self.ahead_done = False
            self.loads.append(self.ld)
        else:
            self.loads.append(self.loads[-1] if self.loads else 0)
        return True

    def _compute(self) -> bool:
        """The next step's arithmetic and stores, if it can begin."""
        i, s, core = self.at, self.steps, self.core
        if core is None or i >= len(self.loads):
            return False
        block = self.starts.get(i)
        there = self.there[block] if block is not None else 0
        if there is None:
            return False
        core.cx = max(core.cx, self.loads[i], there) + s.head[i]
        if s.store[i]:
            core.cx = max(core.cx, core.before) + s.tail[i]
            core.st = max(core.st, core.cx)
            if self.slot > core.st:
                self.held += self.slot - core.st
                core.st = self.slot
            core.st += s.store[i]
            core.before, core.last = core.last, core.st
        else:
            core.cx += s.tail[i]
        self.at += 1
        if self.at == len(s.head) or s.ahead[self.at] or s.main[self.at]:
            self.groups.append(core.cx)
        if self.at == len(s.head) or self.starts.get(self.at, 0) > 0:
            self.done.append(core.cx)
        return True
