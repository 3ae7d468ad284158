"""Golden texts: what a person reads, kept as files. FVC_GOLDEN=write rewrites them; read the change first."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def expect(name: str, text: str) -> None:
    """Asserts that `text` is what the golden file `name` holds."""
    path = FOLDER / name
    if os.environ.get("FVC_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8"), f"{name} differs; FVC_GOLDEN=write rewrites it"
