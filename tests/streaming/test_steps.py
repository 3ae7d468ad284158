"""The judge's own look at steps that are said to be a multiplication and a shift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.frontend import load_proto
from compiler.ir.graph import Conv
from compiler.partition.check.stream import steps
from compiler.partition.check.stream.matrix import block_of, sums
from compiler.requant import RequantPlan, fixed_plan
from tests.frontend.lowbit.wide import perceptron
from tests.streaming.test_wide import WIDE


def layer() -> Conv:
    graph = load_proto(perceptron(1), WIDE)
    return next(n for n in graph.nodes if isinstance(n, Conv) and n.thresholds is not None)


def asked(node: Conv, monkeypatch: pytest.MonkeyPatch, **wrong: int) -> bool:
    """The judge's answer where the form of channel 0 is off by as much."""

    def form(*given: object) -> RequantPlan | None:
        plan = fixed_plan(*given)  # type: ignore[arg-type]
        assert plan is not None
        own = {field: getattr(plan, field).copy() for field in wrong}
        for field, by in wrong.items():
            own[field][0] += by
        return replace(plan, **own)

    monkeypatch.setattr(steps, "fixed_plan", form)
    assert node.thresholds is not None
    whole = block_of(node, (0, len(node.weight)), (0, node.weight.shape[1]))
    return steps.are_shifts(node.thresholds, *sums(node, whole, 0, 4095))


@pytest.mark.parametrize("wrong", [{"add": 1 << 20}, {"shift": 1}, {"multiplier": 1 << 12}])
def test_a_form_that_is_off_is_not_believed(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, int]) -> None:
    node = layer()
    assert asked(node, monkeypatch)
    assert not asked(node, monkeypatch, **wrong)


def test_sums_begin_at_the_bias() -> None:
    node = layer()
    rows, columns = (0, len(node.weight)), (0, node.weight.shape[1])
    more = replace(node, bias=node.bias + np.int32(1000))
    for bare, moved in zip(*(sums(n, block_of(n, rows, columns), 0, 4095) for n in (node, more)), strict=True):
        assert (moved - bare == 1000).all()
