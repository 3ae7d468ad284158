"""Money and energy of a plan: throughput per cost, energy per inference. All of it +-30 %: prices and powers are
list and typical values of the boards (device_db gives each number's source), not measurements of a design."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

UNCERTAINTY_PERCENT = 30
STATEMENT = "typical board power and list price, +-30 %"


@dataclass(frozen=True, slots=True)
class Economics:
    """Cost figures of a cluster running one plan; each with its stated uncertainty in percent."""

    power_w: int
    price_usd: int
    energy_mj_per_frame: float
    frames_per_second_per_kusd: float
    uncertainty_percent: int = UNCERTAINTY_PERCENT


def energy_mj(power_w: int, interval_ps: int) -> float:
    """Millijoules of one frame: typical power times the interval (the boards draw it whether busy or not)."""
    return power_w * interval_ps / 1e9


def economics(powers_w: Sequence[int], prices_usd: Sequence[int], interval_ps: int) -> Economics:
    """Figures of a cluster from its boards' typical powers and prices and the plan's interval. ValueError if empty."""
    if not powers_w or interval_ps <= 0:
        raise ValueError("a cluster and a positive interval are needed")
    power, price = sum(powers_w), sum(prices_usd)
    frames = 1e12 / interval_ps
    return Economics(power, price, energy_mj(power, interval_ps), 1000 * frames / price if price else 0.0)
