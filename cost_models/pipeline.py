"""The double-buffered LD/CX/ST pipeline of a core as a recurrence over numbers: no instruction is looked at.

Needs the durations of each step of a task; gives when the queues are free again. The rules are those of the tile
protocol in docs/machine.md: two load groups and two result tiles in flight, layers serialised by their last store.
All times are cycles of the core's clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class StepTimes(Protocol):
    """Durations of a task's steps, one entry a step (0: the step has no such part)."""

    @property
    def ld_ahead(self) -> tuple[int, ...]: ...  # loads that need no earlier result (weights, tables)
    @property
    def ld_main(self) -> tuple[int, ...]: ...  # loads of activations
    @property
    def cx_head(self) -> tuple[int, ...]: ...  # before the first instruction that writes the result slot
    @property
    def cx_tail(self) -> tuple[int, ...]: ...  # from that instruction on
    @property
    def st(self) -> tuple[int, ...]: ...  # stores


@dataclass(frozen=True, slots=True)
class PipelineState:
    """When each queue is free, and the two youngest completions that give credits (all in cycles)."""

    ld: int = 0
    cx: int = 0
    st: int = 0
    closed_group: int = 0  # end of the youngest load group but one
    store_before: int = 0  # end of the youngest result tile but one
    store_last: int = 0


def advance(state: PipelineState, steps: StepTimes) -> PipelineState:
    """The state after one more task: its first activation load waits for the last store of the task before."""
    ld, cx, st = state.ld, state.cx, state.st
    closed, before, last = state.closed_group, state.store_before, state.store_last
    barrier, waiting, ready = state.st, True, 0
    for ahead, main, head, tail, store in zip(
        steps.ld_ahead, steps.ld_main, steps.cx_head, steps.cx_tail, steps.st, strict=True
    ):
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
            ready = ld
        if ready > cx:
            cx = ready
        cx += head
        if store:
            if before > cx:
                cx = before
            cx += tail
            st = (cx if cx > st else st) + store
            before, last = last, st
        else:
            cx += tail
    return PipelineState(ld, cx, st, closed, before, last)


def pipeline_makespan(steps: StepTimes) -> int:
    """Cycles from the start of a task on an idle core to its last store."""
    end = advance(PipelineState(), steps)
    return max(end.ld, end.cx, end.st)


def pipeline_interval(tasks: Iterable[StepTimes], rounds: int = 3) -> int:
    """Cycles between two passes over the same tasks, once the pipeline has settled; 0 without tasks."""
    listed = list(tasks)
    state, previous, interval = PipelineState(), 0, 0
    for _ in range(rounds):
        for task in listed:
            state = advance(state, task)
        interval, previous = state.st - previous, state.st
    return interval
