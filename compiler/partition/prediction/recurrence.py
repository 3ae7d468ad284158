"""One core as a tile recurrence: durations of a task's steps under its bank's contention, and when its queues are free.

See cost_models.pipeline for the recurrence without messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from compiler.partition.contention import Timeline, run
from compiler.partition.prediction.usage import ALONE, Others, Span, through
from cost_models.primitives import DMA_SETUP_CYCLES

Result = tuple[int, int, int]  # cycles of the last load of data, of the last store; how long a result waited for a slot


@dataclass(slots=True)
class Steps:
    """A timeline as lists of numbers, stretched by what its bank cannot give at once."""

    ahead: Sequence[int]
    main: Sequence[int]
    head: Sequence[int]
    tail: Sequence[int]
    store: Sequence[int]
    compute_cycles: int
    skip_cycles: int  # what its instructions take when their frame does not exist
    load_share: Sequence[float]  # of the bank, that each step's loads and stores take behind their set-up
    store_share: Sequence[float]
    load_cycles: int  # for which they would take all of it
    store_cycles: int

    @classmethod
    def of(cls, t: Timeline, bytes_per_cycle: float) -> Steps:
        plain = run([t], 1e18).end[0]
        real = run([t], bytes_per_cycle).end[0]
        # Loads and stores overlap most of the time: the stretch is what the whole task loses, put on its DMA steps.
        factor = _stretch(t, plain, real)
        ahead, main, store = t.ld_ahead, t.ld_main, t.st
        if factor > 1.0:
            scaled = _Scaled(t, factor)
            ahead, main, store = scaled.ld_ahead, scaled.ld_main, scaled.st
        moving = [a + m - min(a, DMA_SETUP_CYCLES) - min(m, DMA_SETUP_CYCLES) for a, m in zip(ahead, main, strict=True)]
        load_share = [min(1.0, b / bytes_per_cycle / max(1, c)) for b, c in zip(t.ld_bus_bytes, moving, strict=True)]
        moving = [c - min(c, DMA_SETUP_CYCLES) for c in store]
        store_share = [min(1.0, b / bytes_per_cycle / max(1, c)) for b, c in zip(t.st_bus_bytes, moving, strict=True)]
        taken = [round(sum(x) / bytes_per_cycle) for x in (t.ld_bus_bytes, t.st_bus_bytes)]
        computing, skip = sum(t.cx_head) + sum(t.cx_tail), 2 * len(t.st)
        return cls(ahead, main, t.cx_head, t.cx_tail, store, computing, skip, load_share, store_share, *taken)


def _stretch(t: Timeline, plain: float, real: float) -> float:
    """The factor on load and store durations that makes the uncontended recurrence as long as the contended one."""
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
        # Nothing of the task is stored while its first weights come.
        self.ld_ahead = tuple(round(c * factor) if k else c for k, c in enumerate(t.ld_ahead))
        self.ld_main = tuple(round(c * factor) for c in t.ld_main)
        self.cx_head, self.cx_tail = t.cx_head, t.cx_tail
        self.st = tuple(round(c * factor) for c in t.st)
        self.ld_bus_bytes = self.st_bus_bytes = (0,) * len(t.st)


def _moved(others: Sequence[Span], begin: int, cycles: int, share: float) -> int:
    """The end of a load or store beside others: its set-up moves nothing."""
    setup = min(cycles, DMA_SETUP_CYCLES)
    return through(others, begin + setup, cycles - setup, share)


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
    open: int = 0  # from when on this iteration may store
    sent: tuple[int, int] = (0, 0)  # when the shares of the last two shared weight blocks were sent on
    ends_ps: list[int] = field(default_factory=list)  # of its iterations so far

    def copy(self) -> Core:
        """The queues as they stand."""
        return replace(self)

    def task(self, s: Steps, ready: int, slot: int, others: Others = ALONE) -> Result:
        """Plays one task whose data is there at cycle `ready` and whose result's slot is free at cycle `slot`: the
        cycles of its last load of data and of its last store, and how long its first result waited for the slot.
        others: what takes of its bank beside its loads and beside its stores, in cycles."""
        by_loads, by_stores = others
        ld, cx, st = self.ld, self.cx, self.st
        closed, before, last = self.closed, self.before, self.last
        barrier = st if st > ready else ready
        waiting = True
        group = loaded = held = 0
        for k, (ahead, main, head, tail, store) in enumerate(
            zip(s.ahead, s.main, s.head, s.tail, s.store, strict=True)
        ):
            if ahead or main:
                if closed > ld:
                    ld = closed
                closed = cx
                ld = _moved(by_loads, ld, ahead, s.load_share[k]) if by_loads else ld + ahead
                if main:
                    if waiting:
                        waiting = False
                        if barrier > ld:
                            ld = barrier
                    ld = _moved(by_loads, ld, main, s.load_share[k]) if by_loads else ld + main
                    loaded = ld
                group = ld
            if group > cx:
                cx = group
            cx += head
            if store:
                if before > cx:
                    cx = before
                cx += tail
                if cx > st:
                    st = cx
                if slot > st:
                    held += slot - st
                    st = slot
                st = _moved(by_stores, st, store, s.store_share[k]) if by_stores else st + store
                before, last = last, st
            else:
                cx += tail
        self.ld, self.cx, self.st = ld, cx, st
        self.closed, self.before, self.last = closed, before, last
        return loaded, st, held

    def skip(self, cycles: int, ready: int) -> None:
        """Instructions of a frame that does not exist pass in order, a cycle each; credits keep the queues together.
        Its loads still wait for RX, which is through with what stands before its own messages at cycle `ready`."""
        self.ld = self.cx = self.st = max(self.ld, self.cx, self.st, self.open, ready) + cycles
