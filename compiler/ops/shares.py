"""XFER (Super-LIP): tasks that need the same weights keep a share of each block in their DRAM and pass it on.

The style of a slice's weights says it: "share 2/3" is the second of three shares. A block of `size` bytes is cut into
shares at multiples of 64 bytes, so that every share is whole bursts.
"""

from __future__ import annotations

SHARE_GRAIN_BYTES = 64
_MOST_SHARERS = 4096


def share_name(index: int, sharers: int) -> str:
    """The style of weights of which this is share `index` (from 0) of `sharers`."""
    return f"share {index + 1}/{sharers}"


def share_of(memory: str) -> tuple[int, int]:
    """(index from 0, sharers) of a style of weights; (0, 1) where all of them are the task's own."""
    head, _, text = memory.partition(" ")
    index, slash, sharers = text.partition("/")
    if head == "share" and slash and index.isdecimal() and sharers.isdecimal():
        k, n = int(index) - 1, int(sharers)
        if 0 <= k < n <= _MOST_SHARERS and n > 1 and memory == share_name(k, n):
            return k, n
    return 0, 1


def share_bounds(size_bytes: int, index: int, sharers: int) -> tuple[int, int]:
    """[from, to) of a share in a block; may be empty where the block has fewer grains than there are sharers."""
    grains = -(-size_bytes // SHARE_GRAIN_BYTES)
    lo, hi = (grains * k // sharers * SHARE_GRAIN_BYTES for k in (index, index + 1))
    return min(lo, size_bytes), min(hi, size_bytes)
