"""Random graphs on random plans: every tensor of every frame in flight equals the golden executor's."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.ir.spec import check
from tests.ops.graphs import random_graph
from tests.schedule.running import assert_equal
from tests.schedule.toy import BIG, SMALL, TINY, Toy

DIES = [(f"u280-{d}", f"SLR{k}") for d in range(4) for k in range(3)]


def run(seed: int) -> None:
    b = random_graph(seed)
    g = b.graph()
    check(g)
    r = np.random.default_rng(seed + 1000)
    toy = Toy(
        g,
        (TINY, SMALL, TINY, BIG)[seed % 4],
        DIES[: int(r.integers(1, 5))],
        pm=int(r.integers(1, 4)),
        pn=int(r.integers(1, 4)),
        resident=bool(r.integers(2)),
        pipelined=bool(r.integers(2)),
        replicas=int(r.integers(1, 3)),
        spread=int(r.integers(1, 4)),
    )
    assert_equal(g, toy.plan(), [b.frame() for _ in range(3)], seed if seed % 3 == 0 else None)


# 209, 545, 585: grouped convolutions whose input channels do not fit (were cut short together)
@pytest.mark.parametrize("seed", [*range(24), 209, 545, 585])
def test_random_graph(seed: int) -> None:
    run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_many_random_graphs(seed: int) -> None:
    run(seed)
