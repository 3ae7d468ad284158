"""Arrays that many processes share: 1…n, 0…n−1, one value n times. Read only; none takes memory of its own.

Most units move a word a firing: such a process needs no arrays of its own, and who reads one (`flow`, `steady`) can
take a slice instead of picking element by element.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@cache
def _numbers(bits: int) -> Ints:
    """0…2^bits."""
    out = np.arange((1 << bits) + 1, dtype=np.int64)
    out.flags.writeable = False
    return out


def _base(n: int) -> Ints:
    return _numbers(max(16, n.bit_length()))


def count(n: int) -> Ints:
    """1…n."""
    return _base(n)[1 : n + 1]


def index(n: int) -> Ints:
    """0…n−1."""
    return _base(n)[:n]


def same(n: int, value: int) -> Ints:
    """`value` n times."""
    return np.broadcast_to(np.int64(value), (n,))


def times(a: Ints, factor: int) -> Ints:
    """a · factor; of one value n times again that."""
    return same(len(a), int(a[0]) * factor) if len(a) and a.strides == (0,) else a * factor


def is_count(a: Ints) -> bool:
    """Whether an array is 1…n."""
    n = len(a)
    return n > 0 and a[0] == 1 and a[-1] == n and np.array_equal(a, count(n))


def firsts(ascending: Ints) -> Ints:
    """For an ascending array of counts: the first index at which it is at least 1, 2, … up to its last value."""
    steps = np.diff(ascending, prepend=0)
    return np.repeat(index(len(ascending)), steps)
