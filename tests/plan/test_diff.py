"""The semantic diff: what is told of a change, in text, Markdown and JSON, and the rules of --fail-on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler.export.difftext import as_json, as_markdown, as_text
from compiler.plan.diff import diff_plans, parse_rule
from compiler.plan.io import read_plan
from device_db.errors import FvcError
from tests.golden import FOLDER, expect
from tests.plan.plans import A, B, changed_plan, layer, small_plan


def test_a_plan_equals_itself() -> None:
    found = diff_plans(small_plan(), small_plan())
    assert found.empty
    assert found.unchanged == 3
    assert "The plans are the same." in as_text(found)


def test_every_kind_of_change_is_named_with_its_layer() -> None:
    kinds = {(c.layer, c.kind) for c in diff_plans(small_plan(), changed_plan()).layers}
    assert kinds == {
        ("conv1", "re-folded"),
        ("conv2", "moved"),
        ("conv2", "re-sliced"),
        ("conv3", "removed"),
        ("conv4", "added"),
    }


def test_other_cycles_alone_are_a_change_too() -> None:
    slower = replace(small_plan(), layers=(layer("conv1", A, cycles=1100), *small_plan().layers[1:]))
    (change,) = diff_plans(small_plan(), slower).layers
    assert (change.layer, change.kind, change.old, change.new) == ("conv1", "re-timed", "1,000 cycles", "1,100 cycles")


def test_direction_turns_added_into_removed() -> None:
    back = {(c.layer, c.kind) for c in diff_plans(changed_plan(), small_plan()).layers}
    assert ("conv3", "added") in back
    assert ("conv4", "removed") in back


@pytest.mark.parametrize(("name", "render"), [("diff.txt", as_text), ("diff.md", as_markdown)])
def test_golden_text(name: str, render: object) -> None:
    expect(name, render(diff_plans(small_plan(), changed_plan())))  # type: ignore[operator]


def test_json_holds_before_and_after() -> None:
    found = as_json(diff_plans(small_plan(), changed_plan()))
    assert found["predicted"]["interval_ns"] == {"old": 10_000, "new": 5_000}
    assert found["unchanged_layers"] == 0
    dies = {d["die"]: d for d in found["dies"]}
    assert dies["u280-1/SLR0"]["old"] is None
    assert dies[A]["old"]["lut"] == 64_000
    assert dies[A]["new"]["lut"] == 96_000
    assert dies[B]["old"] == dies[B]["new"]


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("latency>+5%", True),  # 25,000 -> 26,500 is +6 %
        ("latency>+6%", False),
        ("latency>5%", True),
        ("interval<-40%", True),  # 10,000 -> 5,000 is -50 %
        ("interval<-50%", False),
        ("latency>+1400", True),
        ("latency>+1500", False),
        ("fps<200001", True),
        ("fps<200000", False),
        ("lut>+0", True),
        ("moved>0", True),
        ("moved>1", False),
        ("changed>3", True),
        ("devices>1", True),
    ],
)
def test_fail_on_rules(rule: str, holds: bool) -> None:
    assert parse_rule(rule).holds(diff_plans(small_plan(), changed_plan())) is holds


@pytest.mark.parametrize("text", ["", "latency", "latency>=5", "speed>5%", "latency>five"])
def test_rules_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(FvcError) as caught:
        parse_rule(text)
    assert caught.value.code == "FVC001"


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("resnet50-u280x4", "resnet50-u280x3", "resnet50-u280x4-u280x3"),  # the same model on one board fewer
        ("digits", "digits-conv2-5x5", "digits-conv2-5x5"),  # one layer of the model changed
    ],
)
def test_golden_texts_of_real_plans(old: str, new: str, name: str) -> None:
    plans = (read_plan(FOLDER / f"{p}.plan.json") for p in (old, new))
    found = diff_plans(*plans)
    expect(f"{name}.diff.txt", as_text(found))
    expect(f"{name}.diff.md", as_markdown(found))
