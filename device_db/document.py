"""JSON that people and other tools write."""

from __future__ import annotations

import json
from typing import Any


def loads(text: str) -> Any:
    """The document of a text, which may begin with a byte order mark.

    Raises ValueError: no JSON, nested too deep, or an object that says a key twice, of which json.loads would keep the
    last one in silence.
    """
    try:
        return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_once)
    except RecursionError as problem:
        raise ValueError(str(problem)) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"{key!r:.60} is there twice")
        content[key] = value
    return content
