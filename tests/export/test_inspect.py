"""Shares of requantiser forms, and long lists kept short in text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from compiler.export.inspect import _flat
from compiler.export.report import requantiser_modes


def test_channels_and_operators_are_counted_apart() -> None:
    folding = [
        {"requantiser": {"modes": {"fixed": 3, "threshold": 1, "fp32": 0}}},
        {"requantiser": {"modes": {"fixed": 1}}},
        {"requantiser": {"mode": "fp32"}},
        {"tile": {}},
    ]
    program = SimpleNamespace(fabric=None, cores=[SimpleNamespace(folding=folding)])
    channels, operators = requantiser_modes(cast(Any, [program]))
    assert channels == {"fixed": 4, "threshold": 1, "fp32": 0}
    assert operators == {"fixed": 0, "threshold": 0, "fp32": 1}


def test_long_lists_are_counted_not_printed() -> None:
    assert _flat({"a": [1, 2], "b": list(range(9))}) == "{a=1 2, b=(9 values)}"
