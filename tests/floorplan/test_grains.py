"""Rows of whole kernels: what a slot holds keeps them, and they raise the bound where capacity alone is too kind."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from compiler.floorplan.grains import BOUNDLESS, Grain
from tests.floorplan import generate
from tests.floorplan.test_generated import answer_of


@pytest.mark.parametrize("seed", range(20))
def test_a_slot_that_holds_its_kernels_keeps_every_row(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.choice((1, 2, 7, 60, 2406))
    capacity = size if seed % 2 else rng.randrange(1, 2 * size + 1)
    rows = [Grain(0, size, steps=m) for m in range(2, 21)] + [Grain(0, size, least=e) for e in range(size // 2 + 1)]
    for _ in range(60):
        amounts, free = [], capacity
        while free and len(amounts) < 12:
            amounts.append(rng.choice((rng.randint(0, free), min(free, size // rng.randint(1, 6)))))
            free -= amounts[-1]
        for row in rows:
            assert row.amount(np.array(amounts, np.int64)).sum() <= row.held(capacity)
    assert any(row.held(capacity) < BOUNDLESS for row in rows)


@pytest.mark.parametrize(
    ("slots", "kernels", "dsp", "interval"),
    [
        (2, 3, 6, 20),  # 18 of 20 DSPs, but a slot of ten holds one kernel of six
        (2, 2, 6, 10),
        (3, 7, 4, 20),  # 28 of 30, two to a slot
        (3, 6, 4, 10),
        (4, 13, 3, 20),  # 39 of 40, three to a slot
    ],
)
def test_dies_hold_whole_kernels(slots: int, kernels: int, dsp: int, interval: int, tmp_path: Path) -> None:
    versions = [{"cycles": 10, "DSP": dsp, "LUT": 1}, {"cycles": 20, "DSP": 0, "LUT": 2}]
    problem = {
        "nodes": [{"id": v, "out_bits": 8, "versions": versions} for v in range(kernels)],
        "edges": [{"src": v, "dst": v + 1} for v in range(kernels - 1)],
        "slots": [{"slot": s, "device": 0, "capacity": {"DSP": 10, "LUT": 100}} for s in range(slots)],
        "boundaries": [{"between": [s, s + 1], "kind": "sll", "wires": 1000} for s in range(slots - 1)],
    }
    answer = answer_of(problem, tmp_path, 5.0)
    assert (answer.status, answer.objective) == ("OPTIMAL", interval)
    bounds = dict(answer.details)["bounds"]
    assert isinstance(bounds, dict)
    assert bounds["merged_die"] == interval


@pytest.mark.parametrize("seed", [1, 4])
def test_four_full_dies_are_proved_by_swaps(seed: int, tmp_path: Path) -> None:
    """Sixty kernels on four dies, every one full to half a percent of LUTs and DSPs."""
    answer = answer_of(generate.joint(seed, 60, devices=1, dies=4), tmp_path, 6.0)
    assert answer.status == "OPTIMAL"
