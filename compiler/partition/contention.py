"""A core's LD/CX/ST pipeline when LD and ST share one bank: the tile recurrence with max-min shares of the bank.

Needs the timelines of tasks in order (compiler.ops) and the bytes a second that the bank leaves to this core;
guarantees the same result as cost_models.pipeline when the bank is never the limit.
Step durations in a timeline are those of a transfer that has the bank to itself. While LD and ST overlap, each runs
at its share of the bank over what it would take alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cost_models.pipeline import PipelineState, StepTimes, advance


class Timeline(StepTimes, Protocol):
    """StepTimes with the bank bytes of each step."""

    @property
    def ld_bus_bytes(self) -> tuple[int, ...]: ...
    @property
    def st_bus_bytes(self) -> tuple[int, ...]: ...


@dataclass(slots=True)
class _Flow:
    """A transfer that runs: cycles left at full speed, bytes a cycle that it then takes."""

    left: float
    rate: float


def contended(timeline: Timeline, bytes_per_cycle: float) -> bool:
    """True if some load and some store of the task together could ask more than the bank gives."""
    ld = max(
        (
            b / (a + m)
            for a, m, b in zip(timeline.ld_ahead, timeline.ld_main, timeline.ld_bus_bytes, strict=True)
            if a + m
        ),
        default=0.0,
    )
    st = max((b / c for c, b in zip(timeline.st, timeline.st_bus_bytes, strict=True) if c), default=0.0)
    return ld + st > bytes_per_cycle * 1.001


@dataclass(frozen=True, slots=True)
class Run:
    """Cycles at which each task begins to load activations, ends its last store, in order; one entry a task."""

    begin: tuple[float, ...]
    end: tuple[float, ...]


def run_plain(tasks: Sequence[Timeline]) -> Run:
    """Without contention: the recurrence of cost_models."""
    state = PipelineState()
    begin: list[float] = []
    end: list[float] = []
    for t in tasks:
        begin.append(max(state.st, state.ld))
        state = advance(state, t)
        end.append(max(state.st, state.cx if not any(t.st) else 0))
    return Run(tuple(begin), tuple(end))


class _Core:
    """Discrete events of one core; CX never waits for the bank, so its times follow from LD's and ST's."""

    def __init__(self, tasks: Sequence[Timeline], bytes_per_cycle: float) -> None:
        self.bank = bytes_per_cycle
        self.ld_ops: list[
            tuple[float, float, int, int]
        ] = []  # cycles, bytes a cycle, load group, task if barrier else -1
        self.groups: list[int] = []  # step -> load group it needs
        self.cx_ops: list[tuple[int, int, bool]] = []  # head, tail, stores
        self.st_ops: list[tuple[float, float, int, int]] = []  # cycles, rate, step, task
        self.group_close: list[int] = []  # group -> the last step that uses it
        self.task_last_st: list[int] = []
        group, step = -1, 0
        for k, t in enumerate(tasks):
            waiting = True
            for i in range(len(t.st)):
                a, m, b = t.ld_ahead[i], t.ld_main[i], t.ld_bus_bytes[i]
                if a or m:
                    group += 1
                    self.group_close.append(step)
                    rate = b / (a + m)
                    if a:
                        self.ld_ops.append((a, rate, group if not m else -group - 1, -1))
                    if m:
                        self.ld_ops.append((m, rate, group, k if waiting else -1))
                        waiting = False
                if self.group_close:
                    self.group_close[-1] = step
                self.groups.append(group)
                self.cx_ops.append((t.cx_head[i], t.cx_tail[i], bool(t.st[i])))
                if t.st[i]:
                    self.st_ops.append((t.st[i], t.st_bus_bytes[i] / t.st[i], step, k))
                step += 1
            self.task_last_st.append(len(self.st_ops) - 1)
        self.begin = [0.0] * len(tasks)
        self.cx_end: list[float] = []
        self.ld_end: list[float] = []  # by group
        self.st_end: list[float] = []

    def _compute(self) -> None:
        """Advance CX as far as the loads and stores known so far allow."""
        while len(self.cx_end) < len(self.cx_ops):
            i = len(self.cx_end)
            if self.groups[i] >= len(self.ld_end):
                return
            head, tail, stores = self.cx_ops[i]
            now = self.cx_end[-1] if self.cx_end else 0.0
            if self.groups[i] >= 0:
                now = max(now, self.ld_end[self.groups[i]])
            now += head
            if stores:
                ordinal = self.stored_before[i]
                if ordinal >= 2:
                    if ordinal - 2 >= len(self.st_end):
                        return
                    now = max(now, self.st_end[ordinal - 2])
            self.cx_end.append(now + tail)

    def _ld_ready(self, at: int) -> float | None:
        _, _, group, task = self.ld_ops[at]
        g = group if group >= 0 else -group - 1
        ready = 0.0
        if g >= 2:
            last = self.group_close[g - 2]
            if last >= len(self.cx_end):
                return None
            ready = self.cx_end[last]
        if task > 0:
            last_st = self.task_last_st[task - 1]
            if last_st >= len(self.st_end):
                return None
            if last_st >= 0:
                ready = max(ready, self.st_end[last_st])
        return ready

    def run(self) -> Run:
        self.stored_before = [0] * len(self.cx_ops)
        n = 0
        for i, (_, _, stores) in enumerate(self.cx_ops):
            self.stored_before[i] = n
            n += stores
        now, li = 0.0, 0
        ld: _Flow | None = None
        st: _Flow | None = None
        while li < len(self.ld_ops) or len(self.st_end) < len(self.st_ops):
            self._compute()
            wake: list[float] = []
            if ld is None and li < len(self.ld_ops):
                ready = self._ld_ready(li)
                if ready is not None:
                    if ready <= now:
                        cycles, rate, _, task = self.ld_ops[li]
                        ld = _Flow(cycles, rate)
                        if task >= 0:
                            self.begin[task] = now
                    else:
                        wake.append(ready)
            if st is None and len(self.st_end) < len(self.st_ops):
                cycles, rate, step, _ = self.st_ops[len(self.st_end)]
                if step < len(self.cx_end):
                    if self.cx_end[step] <= now:
                        st = _Flow(cycles, rate)
                    else:
                        wake.append(self.cx_end[step])
            fast_ld = fast_st = 1.0
            if ld is not None and st is not None and ld.rate + st.rate > self.bank:
                half = self.bank / 2
                if ld.rate <= half:
                    fast_st = (self.bank - ld.rate) / st.rate
                elif st.rate <= half:
                    fast_ld = (self.bank - st.rate) / ld.rate
                else:
                    fast_ld, fast_st = half / ld.rate, half / st.rate
            if ld is not None:
                wake.append(now + ld.left / fast_ld)
            if st is not None:
                wake.append(now + st.left / fast_st)
            if not wake:
                raise ValueError("a task waits for a load or store that never comes")
            then = min(wake)
            if ld is not None:
                ld.left -= (then - now) * fast_ld
                if ld.left <= 1e-6:
                    group = self.ld_ops[li][2]
                    if group >= 0:
                        self.ld_end.append(then)
                    ld, li = None, li + 1
            if st is not None:
                st.left -= (then - now) * fast_st
                if st.left <= 1e-6:
                    self.st_end.append(then)
                    st = None
            now = then
        self._compute()
        ends = []
        for last in self.task_last_st:
            ends.append(self.st_end[last] if last >= 0 else (self.cx_end[-1] if self.cx_end else 0.0))
        return Run(tuple(self.begin), tuple(ends))


def run(tasks: Sequence[Timeline], bytes_per_cycle: float) -> Run:
    """Begin and end of each task, back to back on one core, from an idle start."""
    if not any(contended(t, bytes_per_cycle) for t in tasks):
        return run_plain(tasks)
    return _Core(tasks, bytes_per_cycle).run()
