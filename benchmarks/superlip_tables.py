"""The tables of docs/superlip.md from the rows of benchmarks.superlip, between markers; the text around them stays.

Speed-ups are over one board of the same kind. In the second table each cell has the free cut with XFER where it is
quicker, and behind the stroke the plain split (rows alone, nothing shared).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import tables

Rows = Sequence[dict[str, Any]]
FREE, PLAIN = "free+xfer", "rows"
LETTERS = {"compute": "c", "vector": "v", "memory": "m", "link": "l"}


def write(rows: Rows, ways: Sequence[str], target: Path) -> None:
    """Puts both tables and the reasons into the page."""
    tables.write(target, {"speed-ups": speed(rows, ways), "use": use(rows), "reasons": reasons(rows)})


def _groups(rows: Rows) -> dict[tuple[str, str], list[dict[str, Any]]]:
    out: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in rows:
        if "latency_us" in r:
            out.setdefault((r["net"], r["board"]), []).append(r)
    return {k: own for k, own in out.items() if any(r["devices"] == 1 for r in own)}


def _one(own: Rows) -> dict[str, Any]:
    return next(r for r in own if r["devices"] == 1)


def _at(own: Rows, size: int, way: str) -> dict[str, Any] | None:
    return next((r for r in own if (r["devices"], r["way"]) == (size, way)), None)


def speed(rows: Rows, ways: Sequence[str]) -> str:
    """A line a net and board: speed-ups at every number of boards, a column a way to cut."""
    sizes = sorted({r["devices"] for r in rows} - {1})
    out = [f"| net | board | one board, us | {' | '.join(ways)} |", "|---" * (3 + len(ways)) + "|"]
    for (net, board), own in _groups(rows).items():
        base = _one(own)["latency_us"]
        told = []
        for way in ways:
            found = [_at(own, n, way) for n in sizes]
            told.append(" / ".join(f"{base / r['latency_us']:.2f}" for r in found if r is not None))
        out.append(f"| {net} | {board} | {base:,.0f} | {' | '.join(told)} |")
    return "\n".join(out)


def use(rows: Rows) -> str:
    """A line a net, board and number of boards: what is moved, energy, what bounds the layers, super-linear layers."""
    head = (
        "net, board, boards, latency us, DRAM MiB, links MiB, busiest link, mJ a frame, layers bound by, super-linear"
    )
    out = ["| " + head.replace(", ", " | ") + " |", "|---" * (head.count(",") + 1) + "|"]
    for (net, board), own in _groups(rows).items():
        for size in sorted({r["devices"] for r in own}):
            both = [r for way in (FREE, PLAIN) if (r := _at(own, size, way)) is not None]
            cells = zip(*(_cells(r) for r in both), strict=True)
            out.append(f"| {net} | {board} | {size} | " + " | ".join(" / ".join(c) for c in cells) + " |")
    return "\n".join(out)


def _cells(r: dict[str, Any]) -> tuple[str, ...]:
    bound = " ".join(f"{n}{LETTERS[k]}" for k, n in r["bound_by"].items())
    return (
        f"{r['latency_us']:,.0f}", f"{r['dram_mib']:.1f}", f"{r['link_mib']:.1f}",
        f"{r['busiest_link_permille'] / 10:.0f} %", f"{r['energy_mj']:.0f}", bound,
        str(len(r["super_linear"])) if "super_linear" in r else "-",
    )  # fmt: skip


def reasons(rows: Rows) -> str:
    """How many layers of the cut plans are super-linear and how many are not for which reason, by way to cut."""
    count: dict[str, Counter[str]] = {}
    for r in rows:
        for why, layers in r.get("reasons", {}).items():
            if r["devices"] > 1:
                count.setdefault(_kind(why), Counter())[r["way"]] += len(layers)
    if not count:
        return "The stored results are older than the count: none of them says."
    ways = sorted({w for c in count.values() for w in c})
    out = [f"| why | {' | '.join(ways)} |", "|---" * (1 + len(ways)) + "|"]
    for why, c in sorted(count.items(), key=lambda x: (not x[0].startswith("super"), -sum(x[1].values()), x[0])):
        out.append(f"| {why} | {' | '.join(str(c[w]) for w in ways)} |")
    return "\n".join(out)


def _kind(why: str) -> str:
    """A reason without its figures."""
    return re.sub(r"\d+(\.\d+)?(-fold)?", lambda m: "n-fold" if m.group(2) else "n", why)
