"""A region of streaming engines as the rooms of tiled engines see it: one step that takes and makes whole tensors."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import HostSegment
from device_db.model import DieRef

PREFIX = "region"


@dataclass(frozen=True, slots=True, eq=False)
class Region(HostSegment):
    """A region as a step of the tiled view; `nodes` are its layers. ref: the die of its bridges; lag: frames from the
    start of one until what is made of it leaves; pace_ps: between two frames; latency_ps: of one, alone."""

    rank: int
    ref: DieRef
    lag: int
    pace_ps: int
    latency_ps: int


def is_region(end: str) -> bool:
    """Whether the end of a channel of the tiled view is a region: engines have a die in their names."""
    return end.startswith(PREFIX) and "/" not in end
