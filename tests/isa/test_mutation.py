"""Every mutant of a real bundle is caught by reader, checker or executor; a survivor computes the same accumulators.

pytest -s tests/isa/test_mutation.py          prints the counts by judge
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mutation import Verdicts, judge, mutants, observe

from compiler.executor.run import input_specs
from compiler.isa import read_device
from compiler.isa.check import check_programs

EXAMPLES = Path(__file__).parents[2] / "examples"
FRAMES = 8
SEED = 20240


def stress(files, host):
    """All-minimum, all-maximum, alternating extremes, and seeded noise over what the calibration data spans."""
    rng = np.random.default_rng(SEED)
    samples = np.load(EXAMPLES / "digits_calibration.npz")
    frames = []
    for k in range(FRAMES):
        frame = {}
        for name, spec in input_specs([read_device(f) for f in files], host).items():
            dtype, shape = spec
            low, high = float(samples[name].min()), float(samples[name].max())
            noise = rng.uniform(low, high, shape)
            values = (np.full(shape, low), np.full(shape, high), np.where(rng.random(shape) < 0.5, low, high))
            frame[name] = (values[k] if k < len(values) else noise).astype(dtype)
        frames.append(frame)
    return frames


def run(files, host, devices: str, count: int) -> Verdicts:
    programs = [read_device(f) for f in files]
    assert not check_programs(programs)
    frames = stress(files, host)
    truth = observe(programs, host, frames)
    verdicts = Verdicts()
    for mutant in mutants(list(files), count, SEED):
        judge(mutant, host, frames, truth, verdicts)
    print(f"\n{count} mutants of digits on {devices}\n{verdicts.table()}")
    return verdicts


def test_a_hundred_mutants(bundle):
    verdicts = run(*bundle("pynq-z2x2"), "pynq-z2x2", 108)
    assert verdicts.total == 108
    assert len(verdicts.survivors) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["pynq-z2x2", "u280x2"])
def test_a_thousand_mutants(bundle, devices):
    verdicts = run(*bundle(devices), devices, 1008)
    assert verdicts.total == 1008
    assert len(verdicts.survivors) <= 10
