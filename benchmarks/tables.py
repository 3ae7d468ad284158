"""Tables that a benchmark writes into a page of the docs, between `<!-- name -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def write(target: Path, tables: Mapping[str, str]) -> None:
    """Puts each table in its place. Raises ValueError where the page has not exactly one."""
    text = target.read_text()
    for name, made in tables.items():
        block = f"<!-- {name} -->\n{made}\n<!-- end -->"
        text, count = re.subn(f"<!-- {name} -->.*?<!-- end -->", lambda _, b=block: b, text, flags=re.S)
        if count != 1:
            raise ValueError(f"{target} has {count} places for '{name}'")
    target.write_text(text)
