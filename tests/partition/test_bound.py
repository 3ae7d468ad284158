"""The merged-machine bound: never above what enumeration finds, whatever prices one believes in."""

from __future__ import annotations

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.partition.bound import Pool, Ways, certify, lower_bound
from compiler.partition.options_table import Option

UNITS = 2


def option(layer: int, kind: int, split: str, units: int, ticks: int, role: str = "full", resident: int = 0) -> Option:
    share = (units, UNITS) if split else (1, 1)
    return Option(layer, kind, split, share, role, "resident" if resident else "stream", ticks, ticks, ticks, resident)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Option], list[int]]:
    """Options of up to four layers on two kinds, whole or in halves, and the kind of up to three engines."""
    layers = draw(st.integers(1, 4))
    options: list[Option] = []
    for layer in range(layers):
        for kind in (0, 1):
            options.append(option(layer, kind, "", 1, draw(st.integers(1, 60))))
            if draw(st.booleans()):
                options.append(option(layer, kind, "Pm", 1, draw(st.integers(1, 60))))
    return options, draw(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=3))


def best_by_enumeration(options: list[Option], engines: list[int]) -> int:
    """The least interval over all ways of placing every layer whole or in two halves."""
    layers = 1 + max(o.layer for o in options)
    ways: list[list[list[tuple[int, int]]]] = []
    for layer in range(layers):
        mine = [o for o in options if o.layer == layer]
        own = [[(e, o.ticks)] for e, k in enumerate(engines) for o in mine if not o.split and o.kind == k]
        halves = [(e, o.ticks) for e, k in enumerate(engines) for o in mine if o.split and o.kind == k]
        own += [[a, b] for a in halves for b in halves]
        ways.append(own)
    best = 10**9
    for choice in product(*ways):
        load = [0] * len(engines)
        for way in choice:
            for e, ticks in way:
                load[e] += ticks
        best = min(best, max(load))
    return best


def pools_of(engines: list[int]) -> list[Pool]:
    return [Pool((k,), engines.count(k)) for k in sorted(set(engines))]


@settings(max_examples=60, deadline=None)
@given(tables())
def test_never_above_the_optimum(case: tuple[list[Option], list[int]]) -> None:
    options, engines = case
    layers = 1 + max(o.layer for o in options)
    proved = lower_bound(options, pools_of(engines), layers).bound
    optimum = best_by_enumeration(options, engines)
    assert 0 < proved <= optimum


@settings(max_examples=60, deadline=None)
@given(tables(), st.lists(st.integers(0, 9), min_size=2, max_size=2))
def test_any_prices_prove_a_bound(case: tuple[list[Option], list[int]], prices: list[int]) -> None:
    options, engines = case
    pools = pools_of(engines)
    pool_of = {k: p for p, pool in enumerate(pools) for k in pool.kinds}
    layers = 1 + max(o.layer for o in options)
    ways = [(Ways([o for o in options if o.layer == x], pool_of), 1) for x in range(layers)]
    assert certify(ways, pools, prices[: len(pools)], [0] * len(pools)) <= best_by_enumeration(options, engines)


def test_one_kind_gives_the_mean_of_the_work() -> None:
    options = [option(x, 0, "", 1, 30) for x in range(4)]
    assert lower_bound(options, [Pool((0,), 2)], 4).bound == 60
    assert lower_bound(options, [Pool((0,), 3)], 4).bound == 40


def test_a_layer_on_the_kind_that_suits_it() -> None:
    """Two layers, two kinds, each quick where the other is slow: 10 ticks each, side by side."""
    options = [option(0, 0, "", 1, 10), option(0, 1, "", 1, 90), option(1, 0, "", 1, 90), option(1, 1, "", 1, 10)]
    assert lower_bound(options, [Pool((0,), 1), Pool((1,), 1)], 2).bound == 10


def test_resident_weights_only_as_far_as_there_is_room() -> None:
    """Four layers of 100 ticks, 10 with 64 bytes on chip; room for two of them: 2 x 100 + 2 x 10."""
    options = [o for x in range(4) for o in (option(x, 0, "", 1, 100), option(x, 0, "", 1, 10, resident=64))]
    assert lower_bound(options, [Pool((0,), 1, 1000)], 4).bound == 40
    assert lower_bound(options, [Pool((0,), 1, 128)], 4).bound == 220


def test_partial_sums_pay_for_their_reduction() -> None:
    """Halves of 20 ticks and a reduction of 30 cost 70; whole it is 80."""
    parts = [option(0, 0, "Pn", 1, 20, "partial"), Option(0, 0, "reduce", (0, UNITS), "reduce", "stream", 30, 30, 30)]
    whole = [option(0, 0, "", 1, 80)]
    assert lower_bound(parts + whole, [Pool((0,), 1)], 1).bound == 70
    assert lower_bound(parts, [Pool((0,), 1)], 1).bound == 70


def test_no_way_no_bound() -> None:
    assert lower_bound([option(0, 0, "", 1, 5)], [Pool((0,), 1)], 2).bound == 0
