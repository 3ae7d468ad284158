"""Random pipelines of cores with shared banks and links: every frame's end as the naive simulator has it."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.isa.program import Channel, DeviceProgram
from compiler.simulator.build import build
from compiler.simulator.engine import Engine
from tests.simulator import naive
from tests.simulator.programs import (
    CX,
    CYCLE,
    LD,
    RX,
    ST,
    TX,
    bits,
    core,
    device,
    engine,
    link,
    load,
    marking,
    message,
    store,
    vector,
)  # fmt: skip

GB = 10**9


def random_pipeline(seed: int) -> DeviceProgram:
    """Cores in a chain, a few tiles each; core k + 1 reads what core k sent, at the same or the next stage."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    banks = int(rng.integers(1, count + 1))
    rate = [int(rng.choice([20, 48, 64, 100])) * GB for _ in range(banks)]
    names = [f"l{k}" for k in range(max(1, count - 1))]
    links = [link(n, int(rng.choice([3, 8, 16, 50])), int(rng.integers(0, 90))) for n in names]
    later = bool(rng.integers(0, 2))
    channels, cores = [], []
    for k in range(count):
        stage = k if later else 0
        spec = engine(
            k,
            bank=f"b{k % banks}",
            rate=rate[k % banks],
            ld=int(rng.choice([16, 32, 64])),
            st=int(rng.choice([16, 64])),
        )
        listed = []
        tiles = int(rng.integers(1, 4))
        size = lambda: int(rng.integers(1, 60)) * 64  # noqa: E731
        if k:
            before = k - 1 if later else 0
            listed.append(message("RX", k - 1, sent, wait=bits(LD), post=bits(LD), stage=before))  # noqa: F821
        for t in range(tiles):
            first, last = t == 0, t == tiles - 1
            wait = bits(CX) | (bits(RX) if k and first else 0)
            post = bits(CX) | (bits(RX) if k and last else 0)
            listed.append(load(size(), wait, 0, stage=stage))
            listed.append(load(size(), 0, post, stage=stage))
            listed.append(vector(int(rng.integers(20, 200)), bits(LD), 0, stage=stage))
            listed.append(vector(int(rng.integers(20, 200)), bits(ST), bits(LD, ST), stage=stage))
            to_tx = k + 1 < count
            listed.append(
                store(
                    size(),
                    bits(CX) | (bits(TX) if to_tx and first else 0),
                    bits(CX) | (bits(TX) if to_tx and last else 0),
                    stage=stage,
                )
            )
        if k + 1 < count:
            sent = size()
            route = tuple(sorted({names[k], names[int(rng.integers(0, len(names)))]}))
            channels.append(Channel(k, k, k + 1, int(rng.integers(1, 4)), sent, "SLL", route))
            listed.append(message("TX", k, sent, wait=bits(ST), post=bits(ST), stage=stage))
        tokens = marking(CX_LD=2, ST_CX=2, TX_ST=int(k + 1 < count) * int(rng.integers(1, 3)), LD_RX=int(k > 0) * 2)
        cores.append(core(k, *listed, tokens=tokens, spec=spec))
    return device(*cores, channels=channels, links=links, stages=count - 1 if later else 0)


@pytest.mark.parametrize("seed", range(120))
def test_every_frame_ends_when_the_naive_simulator_says(seed: int) -> None:
    program = random_pipeline(seed)
    frames = 6
    built = build([program], (), detail=False)
    log = Engine(built, frames, warm=False).run()
    ends = naive.simulate(program, frames)
    # Each transfer may end up to a picosecond late; along a chain that adds up, and to who shares with it it is early.
    slack = 4 * sum(len(listed) for c in program.cores for listed in c.queues.values()) * (frames + program.stages)
    for got, want in zip(log.done, ends, strict=True):
        assert abs(got - want * CYCLE) <= slack, (seed, got, float(want))
