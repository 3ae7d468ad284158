"""Sliding windows word by word: what their line buffer must hold, and the cycles of an image that go through it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Windows:
    """All windows of an image. folds: words of a pixel; per_block: of a block of channels; at_once: words that leave
    together."""

    image: tuple[int, int]
    folds: int
    per_block: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    out: tuple[int, int]
    at_once: int


def _ends(w: Windows) -> tuple[Ints, Ints]:
    """For each word written the newest word that it needs, and the oldest that is needed from then on.

    Windows are written block by block, kernel row by kernel row; of words that leave together all are needed."""
    y, x, b, i, j, c = np.indices((*w.out, w.folds // w.per_block, *w.kernel, w.per_block), sparse=True)
    row = y * w.strides[0] + i * w.dilations[0]
    word = row * w.image[1] + x * w.strides[1] + j * w.dilations[1]
    each = (word * w.folds + b * w.per_block + c).reshape(-1, w.at_once)
    return np.maximum.accumulate(each.max(axis=1)), np.minimum.accumulate(each.min(axis=1)[::-1])[::-1]


@lru_cache(maxsize=4096)
def held_words(w: Windows) -> int:
    """The most words between the newest that a window needs and the oldest that is needed from then on."""
    newest, oldest = _ends(w)
    return int((newest - oldest).max()) + 1


@lru_cache(maxsize=4096)
def turn_cycles(w: Windows, depth: int) -> int:
    """Cycles an image, where nobody else makes reader or writer wait; each moves a word a cycle.

    Word k + depth is read once word k is given back, so from one image to the next: when the writer's firing `end` lets
    go of `oldest`, the words from the one in its place up to `newest` of the next image's firing `begin` have yet to be
    read, a cycle each and one to hand them on, before the writer goes from `begin` to `end` again."""
    newest, oldest = _ends(w)
    words, firings = w.image[0] * w.image[1] * w.folds, len(newest)
    least = max(words, firings)
    number = np.arange(firings)
    ahead, behind = newest + 1 - number, number - oldest
    around = words - depth + 2
    if int(ahead.max()) + int(behind.max()) + around <= least:
        return least
    begin = np.searchsorted(newest, oldest + depth - words)  # the first firing that needs a word not yet in the buffer
    some = begin <= number
    return max(least, int((behind[some] + _greatest(ahead, begin[some], number[some])).max(initial=0)) + around)


def _greatest(values: Ints, first: Ints, last: Ints) -> Ints:
    """The greatest of values[first..last], range by range."""
    out, table, size = np.zeros(len(first), np.int64), values, 1
    length = last - first + 1
    while len(first) and size <= int(length.max()):
        own = (size <= length) & (length < 2 * size)
        out[own] = np.maximum(table[first[own]], table[last[own] - size + 1])
        table = np.maximum(table[:-size], table[size:]) if len(table) > size else table
        size *= 2
    return out
