"""Prices decide most multiple-choice knapsacks: one version a kernel, every row within its bound.

Needs amounts (kernel, version, row; inf where a kernel has no such version) and bounds; rounds of multiplicative
weights either find a choice that meets every row or a weighted sum of rows that no choice meets. Undecided is None.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROUNDS = 24
MARGIN = 1e-9  # of a price certificate, far above the rounding of a few thousand doubles


def decide(amounts: NDArray[np.float64], bounds: NDArray[np.float64], rounds: int = ROUNDS) -> bool | None:
    """True: a choice fits (found). False: none does (certified). None: prices do not tell."""
    if (amounts.min(axis=1).sum(axis=0) > bounds).any():
        return False
    scaled = np.where(np.isinf(amounts), 1e18, amounts / np.maximum(bounds, 0.5))
    prices = np.full(len(bounds), 1.0 / len(bounds))
    index = np.arange(len(amounts))
    certifiable = bool((bounds > 0).all())
    for _ in range(rounds):
        choice = (scaled @ prices).argmin(axis=1)
        use = amounts[index, choice].sum(axis=0)
        if (use <= bounds).all():
            return True
        if certifiable and float((scaled[index, choice] @ prices).sum()) > float(prices.sum()) * (1 + MARGIN):
            return False
        load = use / np.maximum(bounds, 0.5)
        prices = prices * np.exp(3.0 * (load - load.max()))
        prices = np.maximum(prices / prices.sum(), 1e-6)
    return None


def least_load(amounts: NDArray[np.float64], bounds: NDArray[np.float64], rounds: int = 300) -> float:
    """A lower bound on the fullest row's use/bound over fractional choices, near to it after these rounds."""
    scaled = np.where(np.isinf(amounts), 1e18, amounts / np.maximum(bounds, 0.5))
    prices = np.full(len(bounds), 1.0 / len(bounds))
    index = np.arange(len(amounts))
    best = 0.0
    for turn in range(rounds):
        choice = (scaled @ prices).argmin(axis=1)
        load = scaled[index, choice].sum(axis=0)
        best = max(best, float(load @ prices))
        step = 4.0 / (1.0 + 0.1 * turn)
        prices = prices * np.exp(step * (load - load.max()) / max(1.0, load.max()))
        prices = np.maximum(prices / prices.sum(), 1e-9)
    return best
