"""Layer by layer, what several boards give over one: the speed-up, whether it is super-linear, and why or why not.

Needs the binaries of two compiles of one model; says only what they hold. A layer is super-linear where its longest
slice is quicker by more than the number of engines that share the layer. Boards that share out work that an array or a
memory does once can never give that; weights that one board loads again and again, or that come to stay on chip, can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compiler.export.roofline import Task, longest, tasks_of, time_ps
from compiler.isa.program import DeviceProgram

AGAIN_PERMILLE = 1010  # of the weights' bytes: loaded so often they are loaded more than once
WORK = {"compute": "the array's work", "vector": "the vector unit's work"}


@dataclass(frozen=True, slots=True)
class Speedup:
    """One layer. Times are those of the longest slice; permille of one board's time over this one's."""

    layer: str
    engines: int
    one_ps: int
    now_ps: int
    one_limit: str
    limit: str
    reason: str

    @property
    def permille(self) -> int:
        return self.one_ps * 1000 // self.now_ps

    @property
    def super_linear(self) -> bool:
        return self.engines > 1 and self.one_ps > self.engines * self.now_ps

    def as_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer, "engines": self.engines, "one_ps": self.one_ps, "now_ps": self.now_ps,
            "speedup_permille": self.permille, "super_linear": self.super_linear, "one_limit": self.one_limit,
            "limit": self.limit, "reason": self.reason,
        }  # fmt: skip


def speedups(one: Sequence[DeviceProgram], now: Sequence[DeviceProgram]) -> list[Speedup]:
    """A row a layer that both have, in the order of the first."""
    before, after = _by_layer(one), _by_layer(now)
    return [_row(name, before[name], after[name]) for name in before if name in after]


def _by_layer(programs: Sequence[DeviceProgram]) -> dict[str, list[Task]]:
    layers: dict[str, list[Task]] = {}
    for t in tasks_of(programs):
        if t.operations:
            layers.setdefault(t.layer, []).append(t)
    return layers


def _row(name: str, one: Sequence[Task], now: Sequence[Task]) -> Speedup:
    a, b = longest(one), longest(now)
    engines = len({t.engine.id for t in now})
    row = Speedup(name, engines, time_ps(a), time_ps(b), _limit(a), _limit(b), "")
    why = _gained(a, b, engines) if row.super_linear else _missed(a, b, engines)
    return Speedup(name, engines, row.one_ps, row.now_ps, row.one_limit, row.limit, why)


def _limit(t: Task) -> str:
    busy = t.busy_ps
    return max(busy, key=lambda k: busy[k])


def _times(t: Task) -> float:
    """How often a slice loads its weights a frame."""
    return t.weight_bytes / max(1, sum(t.weight_blocks.values()))


def _again(t: Task) -> bool:
    return t.weight_bytes * 1000 > AGAIN_PERMILLE * sum(t.weight_blocks.values())


def _gained(a: Task, b: Task, engines: int) -> str:
    if a.weight_bytes and not b.weight_bytes:
        return "its weights stay on chip here, one board streams them every frame"
    if a.dram_bytes > engines * b.dram_bytes:
        fold = a.dram_bytes / max(1, b.dram_bytes)
        told = f"a slice moves {fold:.1f} times less of its DRAM than one board"
        if _again(a):
            return f"{told}, which loads the weights {_times(a):.1f} times, a slice {_times(b):.1f} times"
        if b.memory.startswith("share "):
            return f"{told}: the rest of its weights comes over links"
        if b.memory.startswith("inputs "):
            return f"{told}: the rest of its input comes over links"
        return told
    if a.busy_ps["compute"] > engines * b.busy_ps["compute"]:
        return "its slices suit their array better than the whole layer suits one board's"
    return "its slices fill and drain sooner, or wait less between loads, array and stores"


def _missed(a: Task, b: Task, engines: int) -> str:
    before, limit = _limit(a), _limit(b)
    if engines == 1:
        return f"not cut: on one engine, bound by {limit}"
    if limit == "link":
        return "its messages take longer than its work: cuts that move less, or faster links"
    if before in WORK:
        return f"bound by {WORK[before]} on one board, which {engines} engines share out: {engines}-fold at most"
    if limit in WORK:
        return f"bound by memory on one board, by {WORK[limit]} now: a larger array would show the memory's gain"
    if 2 * a.weight_bytes < a.dram_bytes:
        return f"bound by activations, which {engines} engines share out: {engines}-fold at most"
    if not _again(a):
        return (
            f"one board loads each weight once already, so {engines} boards give {engines}-fold at most: "
            "more only where a slice's weights fit on chip"
        )
    if _again(b):
        return f"its slices load their weights {_times(b):.1f} times (one board {_times(a):.1f}): larger buffers"
    return f"one board loads its weights {_times(a):.1f} times, but halos and what is not shared take the gain"


HEAD = ("layer", "engines", "one board", "here", "speed-up", "bound by", "why")


def cells(row: Speedup) -> tuple[str, ...]:
    """A row as text under HEAD; more than linear is marked."""
    mark = " (super-linear)" if row.super_linear else ""
    return (
        row.layer,
        str(row.engines),
        f"{row.one_ps / 1e6:,.1f} us",
        f"{row.now_ps / 1e6:,.1f} us",
        f"{row.permille / 1000:.2f}{mark}",
        f"{row.one_limit}, now {row.limit}" if row.one_limit != row.limit else row.limit,
        row.reason,
    )
