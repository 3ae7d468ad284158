"""Folds and dies chosen together against every choice tried one by one."""

from __future__ import annotations

import random
from itertools import product
from types import SimpleNamespace

import pytest

from compiler.isa.stream.ports import Port
from compiler.isa.stream.program import FabricDie
from compiler.ops.stream.lower import Option
from compiler.ops.stream.parts import Fold
from compiler.partition.stream.joint import bound, choose
from compiler.partition.stream.problem import Problem
from device_db.model import DieRef, Resources

KHZ = 1_000_000  # a cycle is a nanosecond
WORD = Port(1, 8, False, 1)


def problem(seed: int) -> Problem:
    """Three or four layers with two or three folds, in a chain with a branch, on two boards of one or two dies."""
    rng = random.Random(seed)
    layers, shape = rng.randint(3, 4), rng.choice([(2,), (1, 1), (2, 1)])
    refs = [DieRef(d, k) for d, count in enumerate(shape) for k in range(count)]
    dies = [
        FabricDie(
            f"SLR{r.die}", KHZ, rng.randint(60, 110), 10**6, rng.randint(3, 8), 0, 100, rng.choice([10, 40, 400]), "us+"
        )
        for r in refs
    ]  # fmt: skip
    options = []
    for _ in range(layers):
        steps = sorted({rng.choice([100, 150, 200, 300, 400]) for _ in range(rng.randint(2, 3))})
        sizes = [Resources(6000 // t + rng.randint(0, 20), 0, rng.randint(0, 3), 0, 0) for t in steps]
        options.append([Option(Fold(k + 1), t, r, (), WORD) for k, (t, r) in enumerate(zip(steps, sizes, strict=True))])
    edges = [(k, k + 1, 0) for k in range(layers - 1)] + [(0, layers - 1, 0)]
    bits = [rng.choice([100, 2000, 8000]) for _ in range(layers)]
    budgets = [(d.lut, d.ff, d.bram18, d.uram, d.dsp) for d in dies]
    return Problem(
        graph=None, nodes=tuple(SimpleNamespace(name=f"n{k}") for k in range(layers)), every=options, options=options,
        devices=[f"b{d}" for d in range(len(shape))], refs=refs, dies=dies, budgets=budgets,
        wires=[d.wires for d in dies],
        edges=edges, anchors={0: {0}} if rng.random() < 0.3 else {}, together=[],
        link_bits_per_second=[rng.choice([20, 60, 200]) * 10**9] * len(shape), out_bits=bits, seconds=10.0, seed=0,
        workers=1,
    )  # fmt: skip


def legal(p: Problem, seats: tuple[tuple[int, int], ...], walls: bool) -> int | None:
    """The interval in cycles of one choice (die, option) a layer, None where it breaks a rule (docs/streaming.md)."""
    t = max(p.options[n][k].cycles for n, (_, k) in enumerate(seats))
    for d, die in enumerate(p.dies):
        mine = [p.options[n][k].resources for n, (at, k) in enumerate(seats) if at == d]
        if sum(r.lut for r in mine) > die.lut or sum(r.bram18 for r in mine) > die.bram18:
            return None
    for n, allowed in p.anchors.items():
        if seats[n][0] not in allowed:
            return None
    for d in range(len(p.refs) - 1) if walls else ():
        across = [
            p.out_bits[a] for a, b, _ in p.edges if min(seats[a][0], seats[b][0]) <= d < max(seats[a][0], seats[b][0])
        ]
        if p.refs[d].device == p.refs[d + 1].device:
            if sum(max(8, 2 * -(-bits // t)) for bits in across) > p.dies[d].wires:
                return None
        elif sum(across) > p.link_bits_per_second[0] // 10**9 * t:
            return None
    return t


@pytest.mark.parametrize("seed", range(16))
def test_the_plan_is_the_best_and_the_bound_is_true(seed: int) -> None:
    p = problem(seed)
    choices = list(product(*(product(range(len(p.refs)), range(len(o))) for o in p.options)))
    times = [t for c in choices if (t := legal(p, c, True)) is not None]
    open_times = [t for c in choices if (t := legal(p, c, False)) is not None]
    found = choose(p, p.budgets, 1)
    proved = bound(p, p.budgets, 1, found)
    assert (found is None) == (not times)
    if proved is not None:
        assert open_times and proved.interval_ps <= min(open_times) * 1000
    else:
        assert not open_times
    if found is None:
        return
    assert found.interval_ps == min(times) * 1000
    folds = [[o.fold for o in layer] for layer in p.options]
    at = tuple(
        (p.refs.index(found.seats[f"n{n}"].ref), folds[n].index(found.seats[f"n{n}"].fold)) for n in range(len(folds))
    )
    assert legal(p, at, True) == min(times)


def test_nothing_is_looked_for_below_what_the_host_takes() -> None:
    p = problem(0)
    found = choose(p, p.budgets, 350_000)
    assert found is not None and found.interval_ps >= 350_000
