"""Reachable kernel clock by how full the fullest die is and how many die crossings a path takes.

A table of what published designs reached, not a timing analysis; `--clock` overrides it, and every comparison is also
given at equal clock.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClockStep:
    """Up to `utilisation_percent` of the scarcest resource, `clock_khz` is reached."""

    utilisation_percent: int
    clock_khz: int
    source: str


TABLE: dict[str, tuple[ClockStep, ...]] = {
    "ultrascale+": (
        ClockStep(
            50, 300_000, "AMD UG1120 default kernel clock; AutoBridge (FPGA 2021) 297 MHz on average, floorplanned"
        ),
        ClockStep(60, 280_000, "interpolated"),
        ClockStep(
            70, 250_000, "Elastic-DF (TRETS 2022): floorplanned designs at its 70 % LUT limit, 20 % over the plain flow"
        ),
        ClockStep(80, 220_000, "interpolated"),
        ClockStep(100, 195_000, "Elastic-DF baseline: ResNet-50 on one full U250 at 195 MHz"),
    ),
    "versal": (
        ClockStep(60, 300_000, "assumption: as UltraScale+ one step later (hard NoC for memory)"),
        ClockStep(80, 250_000, "assumption"),
        ClockStep(100, 200_000, "assumption"),
    ),
    "zynq7": (ClockStep(80, 100_000, "FINN builds for PYNQ boards at 100 MHz"), ClockStep(100, 80_000, "assumption")),
    "stratix10": (
        ClockStep(80, 250_000, "Fowers et al., ISCA 2018: Brainwave fills a Stratix 10 280 at 250 MHz"),
        ClockStep(100, 225_000, "assumption"),
    ),
    "arria10": (
        ClockStep(80, 200_000, "assumption: class of published designs"),
        ClockStep(100, 150_000, "assumption"),
    ),
}
# Each unregistered crossing costs a few ns; with the registers the machine puts there (8 cycles) what is left is
# placement pressure. Assumption: 2 % a crossing, at most 10 %.
CROSSING_PERCENT, CROSSING_LIMIT_PERCENT = 2, 10


def reachable_khz(family: str, utilisation_percent: int, crossings: int = 0) -> tuple[int, str]:
    """(clock in kHz, source) for a die; families without a table are taken as UltraScale+."""
    steps = TABLE.get(family, TABLE["ultrascale+"])
    step = next((s for s in steps if utilisation_percent <= s.utilisation_percent), steps[-1])
    loss = min(CROSSING_LIMIT_PERCENT, CROSSING_PERCENT * max(0, crossings))
    return step.clock_khz * (100 - loss) // 100, step.source
