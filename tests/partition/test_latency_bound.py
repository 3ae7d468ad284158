"""The bound of latency plans beside all plans there are: small nets, short lists of strategies, all predicted."""

from __future__ import annotations

import random
from itertools import product

import pytest

from compiler.partition.prediction.predict import latency_ps
from compiler.partition.problem import Allocation
from compiler.partition.solve.earliest import NEVER, Earliest
from compiler.partition.solve.latency import _choices
from compiler.partition.solve.latency_bound import message_bound, message_path
from compiler.partition.solve.strategies import Strategies, Strategy
from tests.partition.graphs import deep, forked, residual
from tests.partition.test_strategies import Case


def predicted(case: Case, allocation: Allocation) -> int:
    """Reference cycles of one frame, rounded up."""
    ps = latency_ps(case.plan(allocation), case.graph, case.cluster)
    return -(-ps * case.problem.ref_khz // 10**9)


def short(case: Case, lottery: random.Random, most: int) -> dict[int, list[Strategy]]:
    """At most so many strategies of each layer."""
    return {x: lottery.sample(own, min(most, len(own))) for x, own in case.choices.items()}


def every_plan(case: Case, lists: dict[int, list[Strategy]]) -> list[tuple[int, Allocation]]:
    plans = [dict(zip(lists, chosen, strict=True)) for chosen in product(*lists.values())]
    return [(predicted(case, p), p) for p in plans]


@pytest.mark.parametrize(("devices", "most", "seed"), [("zcu102x2", 3, 0), ("zcu102x4", 2, 1), ("u280x2", 2, 2)])
def test_the_bound_is_below_the_best_of_all_plans(devices: str, most: int, seed: int) -> None:
    """One residual block and a pool: every plan of a few strategies a layer, none below the bound over them, none below
    the bound over itself alone. Columns may lie in shorter runs of bytes than the bound counts on; where none are cut
    the best is not far above."""
    case = wide(devices, seed)
    lists = short(case, random.Random(seed), most)
    plans = every_plan(case, lists)
    optimum = min(value for value, _ in plans)
    bound = case.bound(lists)
    assert case.bound(case.choices) <= bound <= optimum
    columns = any("Pc" in s[0].split for own in lists.values() for s in own)
    assert bound >= optimum * (0.5 if columns else 0.8)
    for value, plan in plans[:: max(1, len(plans) // 8)]:
        assert bound <= case.bound({x: [shares] for x, shares in plan.items()}) <= value


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("devices", ["zcu102x2", "zcu102x4", "u280x2"])
def test_the_bound_is_below_the_best_of_all_plans_of_any_list(devices: str, seed: int) -> None:
    test_the_bound_is_below_the_best_of_all_plans(devices, 3, seed + 3)


def wide(devices: str, seed: int) -> Case:
    """One residual block with all grids, those of input channels too."""
    case = Case.of(residual(blocks=1, channels=32 + 16 * (seed % 3), side=18 + 5 * (seed % 2)), devices, more=True)
    assert any(s.option.role == "reduce" for own in case.choices.values() for shares in own for s in shares)
    return case


def test_what_passes_between_two_boards_by_hand() -> None:
    """conv0a's halves of the channels, both needed whole by conv0b's halves: each board sends its half after its end
    and takes the other's; a whole conv0a on board 0 sends conv0b's half on board 1 all of its tensor."""
    case = Case.of(residual(blocks=1, channels=48, side=30), "zcu102x2")
    a, b = 0, 1
    listed = {
        a: [s for s in case.choices[a] if s[0].split == "Pm=2" or (not s[0].split and s[0].slot == 0)],
        b: [s for s in case.choices[b] if s[0].split == "Pm=2"],
    }
    assert [len(own) for own in listed.values()] == [2, 1]
    strategies = Strategies(case.problem, case.latency, case.choices | listed)
    flow = next(f for f in case.problem.flows if f.producer == a and f.consumers == (b,))
    w = Earliest(strategies, []).waits(strategies.makers(a), strategies.readers(flow, b), 8)
    rate = min(k.bits_per_second for k in case.problem.links if "pcie" not in k.id.lower())
    unit, late = case.problem.ref_khz * 1000, case.latency[(0, 1)]
    half, all_of_it = (elements * 8 * unit // rate + late for elements in (24 * 900, 48 * 900))
    whole = next(k for k, s in enumerate(listed[a]) if not s[0].split)
    rows = {True: [[0, all_of_it]], False: [[0, half], [half, 0]]}
    assert w.wait.tolist() == rows[whole == 0] + rows[whole != 0]
    assert w.sync.tolist()[whole] == [0, all_of_it]
    assert w.sync.tolist()[1 - whole] == [0, 0]  # the last of the halves may lie where its reader is
    work = strategies.workers(b).work
    assert w.lag[1 - whole, 0] == half + min(work) or w.lag[1 - whole, 0] == half + work[0]
    assert (w.shared > NEVER).all()


def test_branches_have_their_engines_one_after_another() -> None:
    """Two convolutions of one tensor: on one engine their works add up, and no plan of the lists sees less of it than
    the best split of both over two."""
    case = Case.of(forked(), "zcu102x2")
    at_home = {x: [next(s for s in own if not s[0].split and s[0].slot == 0)] for x, own in case.choices.items()}
    known = Strategies(case.problem, case.latency, at_home)
    works = [int(known.workers(x).work[0]) for x in at_home]
    assert sum(works) <= case.bound(at_home) <= predicted(case, {x: own[0] for x, own in at_home.items()})
    lists = {x: [s for s in own if s[0].split in ("", "Pm=2")] for x, own in case.choices.items()}
    plans = every_plan(case, lists)
    optimum = min(value for value, _ in plans)
    assert optimum * 0.85 <= case.bound(lists) <= optimum


def test_weights_that_the_layer_before_leaves_no_time_for_are_waited_for() -> None:
    """By channels on two boards: each layer is over when its weights have come, which is most of its time."""
    case = Case.of(deep(), "zcu102x2")
    lists = {x: [s for s in own if s[0].split == "Pm=2"] for x, own in case.choices.items()}
    plan = {x: own[0] for x, own in lists.items()}
    known = Strategies(case.problem, case.latency, lists)
    _, loads, _ = (sum(int(known.loading(x)[k].min()) for x in lists) for k in range(3))
    assert loads > sum(int(known.workers(x).work.min()) for x in lists)
    assert loads <= case.bound(lists) <= predicted(case, plan)
    assert case.bound(lists) >= predicted(case, plan) * 0.9


def test_memory_on_chip_does_not_serve_every_layer() -> None:
    """Room for one layer's weights an engine: four whole layers cannot all have theirs there, which is worth something,
    and no plan of the lists is below that."""
    case = Case.of(deep(), "zcu102x2")
    case.problem.resident_bytes = [66_000, 66_000]
    lists = {x: [s for s in own if not s[0].split] for x, own in case.choices.items()}
    known = Strategies(case.problem, case.latency, lists)
    assert all(known.kept(x, own[0][0]) is not None for x, own in lists.items())
    free = message_path(case.problem, case.graph, known, {})
    optimum = min(value for value, _ in every_plan(case, lists))
    assert free < message_bound(case.problem, case.graph, known, {}) <= optimum
    case.problem.resident_bytes = [660_000, 660_000]
    assert case.bound(lists) == free <= min(value for value, _ in every_plan(case, lists))


def test_choices_of_every_layer_have_one_slice_an_engine_and_role() -> None:
    """What the bound takes for granted of lists of strategies."""
    case = wide("u280x2", 0)
    for x in case.choices:
        for shares in _choices(case.problem, x):
            for late in (False, True):
                slots = [s.slot for s in shares if (s.option.role == "reduce") == late]
                assert len(slots) == len(set(slots))
