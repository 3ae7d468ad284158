"""JSON as people write it: the same as json reads, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_db.document import loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(VALUES, st.booleans())
def test_what_json_reads_is_read(value: object, mark: bool) -> None:
    assert loads("\ufeff" * mark + json.dumps(value)) == value


@pytest.mark.parametrize(
    "text", ["", "{", "[1 2]", "[" * 100_000, "{" * 100_000, '{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]']
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


def test_the_key_that_is_there_twice_is_named() -> None:
    with pytest.raises(ValueError, match="'LUT' is there twice"):
        loads('{"LUT": 1, "x": {"LUT": 2}, "LUT": 3}')
