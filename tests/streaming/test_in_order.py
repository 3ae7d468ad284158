"""What is done where the search over folds and dies finds no seats."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from compiler.partition.options import PartitionOptions
from compiler.partition.stream import joint
from compiler.partition.stream.flat import in_order
from compiler.partition.stream.joint import choose
from compiler.partition.stream.problem import Problem, amounts, make_problem
from device_db import load_cluster
from tests.streaming.helpers import FAST_HOST, digits


def problem(anchors: tuple[tuple[str, str], ...] = ()) -> Problem:
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, anchors=anchors, time_limit_s=4.0)
    return make_problem(digits(), load_cluster("u280x2"), options, 2)


@pytest.mark.parametrize("share", [1, 8, 24])
def test_layers_stand_in_order_within_what_dies_have(share: int) -> None:
    p = problem()
    budgets = [tuple(x // share for x in b) for b in p.budgets]
    found = in_order(p, budgets, 1, 1)
    assert found is not None
    dies = [p.refs.index(found.seats[name].ref) for name in p.names]
    assert dies == sorted(dies)
    assert share == 1 or dies[-1] > 0
    used = [[0] * len(b) for b in budgets]
    for name, layer, d in zip(p.names, p.options, dies, strict=True):
        own = [o for o in layer if o.fold == found.seats[name].fold]
        assert own and min(o.cycles for o in own) * p.cycle() <= found.interval_ps
        for r, amount in enumerate(min(amounts(o) for o in own)):
            used[d][r] += amount
    assert all(x <= y for u, b in zip(used, budgets, strict=True) for x, y in zip(u, b, strict=True))


def test_nothing_is_found_in_no_room() -> None:
    p = problem()
    assert in_order(p, [(0,) * len(b) for b in p.budgets], 1, 1) is None


@pytest.mark.parametrize("anchors", [(), (("/conv1", "u280-1/SLR2"),)])
def test_anchors_hold_where_the_search_finds_nothing(
    anchors: tuple[tuple[str, str], ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint, "FLAT_SEATS", 0)
    monkeypatch.setattr(joint, "_search", lambda *_: SimpleNamespace(plan=None, best=None, merged=1))
    p = problem(anchors)
    found = choose(p, p.budgets, 1)
    assert found is not None
    for layer, _ in anchors:
        assert (found.seats[layer].ref.device, found.seats[layer].ref.die) == (1, 2)
