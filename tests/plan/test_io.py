"""plan.json: canonical bytes, an exact round trip, and friendly refusal of everything that is no plan."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.plan.io import canonical_json, find_plan, parse_plan, read_plan, write_plan
from compiler.plan.schema import SCHEMA_FILE, schema_text
from device_db.errors import FvcError
from tests.plan.plans import changed_plan, small_plan


def test_round_trip_is_exact_and_canonical() -> None:
    for plan in (small_plan(), changed_plan()):
        text = write_plan(plan)
        assert parse_plan(text) == plan
        assert write_plan(parse_plan(text)) == text


def test_keys_are_sorted_and_whole_floats_are_integers() -> None:
    assert canonical_json({"b": 2.0, "a": [1, 2.5], "c": {"y": (), "x": None}}) == (
        '{\n "a": [1, 2.5],\n "b": 2,\n "c": {\n  "x": null,\n  "y": []\n }\n}\n'
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_lacks_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        canonical_json({"x": value})


_plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(_plain)
def test_canonical_json_says_the_same_as_its_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


def test_the_published_schema_is_that_of_the_dataclasses() -> None:
    assert SCHEMA_FILE.read_text("utf-8") == schema_text(), "run `make docs`"


def _edited(**changes: object) -> str:
    return json.dumps(json.loads(write_plan(small_plan())) | changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("1" * 5000, "not JSON"),
        ("[]", "schema is None"),
        ('{"schema": "fvc.plan/2"}', "schema is 'fvc.plan/2'"),
        (_edited(replicas="two"), "replicas"),
        (_edited(engines=[{"id": 3}]), "engines[0]"),
        (_edited(extra=1), "extra: no such field"),
        (_edited(predicted={"fps": float("nan")}), "NaN or infinity"),
        (_edited(predicted={"fps": 12345}).replace("12345", "1e999"), "NaN or infinity"),
        (_edited(solver=json.loads(write_plan(small_plan()))["solver"] | {"gapp": 0}), "solver.gapp"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_place(text: str, says: str) -> None:
    with pytest.raises(FvcError) as caught:
        parse_plan(text)
    assert caught.value.code == "FVC280"
    assert caught.value.exit_code == 2
    assert says in caught.value.block()


def test_a_bundle_folder_stands_for_its_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(write_plan(small_plan()), "utf-8")
    assert read_plan(find_plan(tmp_path)) == small_plan()
    (tmp_path / "plan.json").unlink()
    with pytest.raises(FvcError, match=r"no plan\.json"):
        find_plan(tmp_path)
    with pytest.raises(FvcError, match="cannot read the plan"):
        read_plan(tmp_path / "missing.json")
