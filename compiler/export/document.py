"""A document as data (headings, paragraphs, lists, tables, pictures), printed as Markdown or as one HTML page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells are texts or numbers; a Bar is drawn in HTML and told as per cent in Markdown."""

    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A share of something, in per mille; more than 1000 is over the limit."""

    permille: int

    def __str__(self) -> str:
        return f"{self.permille / 10:.1f} %"


@dataclass(frozen=True, slots=True)
class Preformatted:
    """A picture of characters; it holds no name of the model and no backtick."""

    text: str


Block = Heading | Paragraph | Bullets | Table | Preformatted


def bar(part: float, whole: float) -> Bar:
    """The share of `part` in `whole`."""
    return Bar(round(1000 * part / whole) if whole else 0)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _numeric(table: Table, column: int) -> bool:
    return bool(table.rows) and all(
        isinstance(r[column], (int, float, Bar)) or r[column] in ("", "-") for r in table.rows
    )


def as_markdown(blocks: Sequence[Block]) -> str:
    """GitHub Markdown; names from the model cannot break out of their cell."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append("#" * block.level + " " + _markdown(block.text))
        elif isinstance(block, Paragraph):
            parts.append(_markdown(block.text))
        elif isinstance(block, Bullets):
            parts.append("\n".join(f"- {_markdown(i)}" for i in block.items))
        elif isinstance(block, Preformatted):
            parts.append(f"```text\n{block.text}\n```")
        else:
            align = ["---:" if _numeric(block, k) else "---" for k in range(len(block.head))]
            rows = [block.head, align, *(tuple(_markdown(_cell(c)) for c in r) for r in block.rows)]
            parts.append("\n".join(f"| {' | '.join(r)} |" for r in rows))
    return "\n\n".join(parts) + "\n"


_EDGE_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9_])_+|_+(?![A-Za-z0-9_])")  # inside a word it means nothing


def _markdown(text: str) -> str:
    for plain, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("*", "\\*")):
        text = text.replace(plain, safe)
    return " ".join(_EDGE_UNDERSCORE.sub(lambda m: "\\_" * len(m[0]), text).split())


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --fill: #4a7dbd; --over: #c0392b; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.bar { display: inline-block; width: 5rem; height: 0.7rem; background: var(--line); margin-right: 0.5rem; }
.bar i { display: block; height: 100%; background: var(--fill); max-width: 100%; }
pre { overflow-x: auto; line-height: 1.2; }
.bar i.over { background: var(--over); }
"""


def as_html(title: str, blocks: Sequence[Block]) -> str:
    """One page without any other file, script or address; every text is escaped."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"<h{block.level}>{html.escape(block.text)}</h{block.level}>")
        elif isinstance(block, Paragraph):
            parts.append(f"<p>{html.escape(block.text)}</p>")
        elif isinstance(block, Bullets):
            parts.append("<ul>" + "".join(f"<li>{html.escape(i)}</li>" for i in block.items) + "</ul>")
        elif isinstance(block, Preformatted):
            parts.append(f"<pre>{html.escape(block.text)}</pre>")
        else:
            parts.append(_html_table(block))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _html_table(table: Table) -> str:
    right = ["n" if _numeric(table, k) else "" for k in range(len(table.head))]
    lines = ['<div class="scroll"><table>']
    lines.append(
        "<tr>"
        + "".join(f'<th class="{c}">{html.escape(h)}</th>' for h, c in zip(table.head, right, strict=True))
        + "</tr>"
    )
    for row in table.rows:
        cells = []
        for value, c in zip(row, right, strict=True):
            drawn = html.escape(_cell(value))
            if isinstance(value, Bar):
                over = ' class="over"' if value.permille > 1000 else ""
                drawn = (
                    f'<span class="bar"><i{over} style="width:{min(value.permille, 1000) / 10:g}%"></i></span>{drawn}'
                )
            cells.append(f'<td class="{c}">{drawn}</td>')
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</table></div>"])
