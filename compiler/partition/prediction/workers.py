"""What is known of an engine and its tasks while a play goes on (meeting.py, sharing.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compiler.partition.prediction.blocks import Blocks
from compiler.partition.prediction.fluid import Flow
from compiler.partition.prediction.recurrence import Core, Result
from compiler.partition.prediction.usage import Span

if TYPE_CHECKING:
    from compiler.partition.prediction.timing import Event


@dataclass(slots=True, eq=False)
class Turn:
    """A task with shared weights or inputs, of one frame: its blocks, and how many of their kind came before on their
    engine. free: of weights, blocks whose place has been computed with; of inputs, those whose own part is there."""

    group: int
    frame: int
    blocks: Blocks
    number: int
    told: list[int] = field(default_factory=lambda: [0, 0, 0])  # loads, free slots and reading that are events already
    free: set[int] = field(default_factory=set)
    begun: bool = False  # its data is there

    @property
    def inputs(self) -> bool:
        return self.blocks.inputs


@dataclass(slots=True, eq=False)
class Worker:
    """An engine: its tasks by iteration, the next of them, and what is known of that."""

    name: str
    core: Core
    steps: list[tuple[int, Event]] = field(default_factory=list)
    at: int = 0
    after: Core | None = None  # the queues behind the task under way, as it looks
    result: Result = (0, 0, 0)
    given: tuple[int, int, int] = (0, 0, 0)  # when its core turned to it, data there, slot free
    seen: int = -1  # the task that has been looked at
    bank: Flow | None = None
    last_stores: Span | None = None  # of the task before, in cycles
    first_load: Span | None = None  # of the task after
    turn: Turn | None = None  # the task under way
    coming: Turn | None = None  # the one after that
    left: dict[int, int] = field(default_factory=dict)  # of each iteration: tasks and messages still to be done
    ended: int = 0  # iterations
    blocks: list[int] = field(default_factory=lambda: [0, 0])  # of shared weights, of shared inputs so far
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)  # of the first block, by group and frame
    # Of each block (of inputs or not, number): the cycle at which it was passed on.
    sent_at: dict[tuple[bool, int], int] = field(default_factory=dict)
