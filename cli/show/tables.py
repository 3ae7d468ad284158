"""Plain text tables with aligned columns: the same bytes on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = (), *, indent: str = "") -> str:
    """Rows as text; numbers to the right, everything else to the left, two spaces between columns."""
    cells = [[str(c) for c in row] for row in rows]
    if head:
        cells.insert(0, list(head))
    if not cells:
        return ""
    width = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    numeric = [
        bool(rows) and all(isinstance(r[k], (int, float)) or r[k] == "" for r in rows) for k in range(len(width))
    ]
    lines = []
    for row in cells:
        parts = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(row, width, numeric, strict=True)]
        lines.append((indent + "  ".join(parts)).rstrip())
    return "\n".join(lines)
