"""XFER (Super-LIP): tasks that need the same weights, or the same input, load a share of each block and pass it on.

The style of a slice says it: "share 2/3" is the second of three shares of weights, "inputs 2/3" of an input. A block of
`size` bytes is cut into shares at multiples of a grain: 64 bytes of weights, so that every share is whole bursts; a
channel of an input (a row of pixels, or a pixel, where channels lie innermost), so that a share is a box of the tensor.
"""

from __future__ import annotations

SHARE_GRAIN_BYTES = 64
_MOST_SHARERS = 4096


def share_name(index: int, sharers: int) -> str:
    """The style of weights of which this is share `index` (from 0) of `sharers`."""
    return f"share {index + 1}/{sharers}"


def share_of(memory: str) -> tuple[int, int]:
    """(index from 0, sharers) of a style of weights; (0, 1) where all of them are the task's own."""
    return _share(memory, "share")


def input_share_name(index: int, sharers: int) -> str:
    """The style of a task that loads share `index` (from 0) of `sharers` of its input; its weights are its own."""
    return f"inputs {index + 1}/{sharers}"


def input_share_of(memory: str) -> tuple[int, int]:
    """(index from 0, sharers) of a task that shares its input; (0, 1) for all others."""
    return _share(memory, "inputs")


def _share(memory: str, kind: str) -> tuple[int, int]:
    head, _, text = memory.partition(" ")
    index, slash, sharers = text.partition("/")
    if head == kind and slash and index.isdecimal() and sharers.isdecimal():
        k, n = int(index) - 1, int(sharers)
        if 0 <= k < n <= _MOST_SHARERS and n > 1 and memory == f"{kind} {k + 1}/{n}":
            return k, n
    return 0, 1


def share_bounds(size_bytes: int, index: int, sharers: int, grain_bytes: int = SHARE_GRAIN_BYTES) -> tuple[int, int]:
    """[from, to) of a share in a block; may be empty where the block has fewer grains than there are sharers."""
    grains = -(-size_bytes // grain_bytes)
    lo, hi = (grains * k // sharers * grain_bytes for k in (index, index + 1))
    return min(lo, size_bytes), min(hi, size_bytes)
