"""A PlanDiff as text for a terminal, as Markdown for a review, and as JSON for a script.

Equal changes are told once with the layers they touch, so that a hundred layers on one re-folded engine are one line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from compiler.plan.diff import KINDS, METRICS, RESOURCES, LayerChange, PlanDiff

_WIDTH = 110
_MEANING = {
    "added": "only in the new plan",
    "removed": "only in the old plan",
    "moved": "on another engine",
    "re-sliced": "split in another way (Pm by output channels, Pn by input channels)",
    "re-folded": "on an engine of another shape (tm output x tn input channels a cycle)",
    "re-tiled": "other tiles (m output channels, n input channels, r rows, c columns) or weight memory",
    "re-timed": "same place and shape, other cycles",
}
_LABEL = {
    "interval_ns": "interval (ns)",
    "latency_ns": "latency (ns)",
    "interval_cycles": "interval (cycles)",
    "latency_cycles": "latency (cycles)",
    "fps": "frames a second",
    "energy_mj": "energy (mJ/frame)",
}


def number(value: float | None) -> str:
    """1,234 or 12.3; "-" for nothing."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 10_000 else f"{value:,.2f}"


def change(old: float | None, new: float | None) -> str:
    """ "+5.0 %", "=", or "" where one side is missing."""
    if old is None or new is None:
        return ""
    if old == new:
        return "="
    return f"{100.0 * (new - old) / old:+.1f} %" if old else "new"


def grouped(diff: PlanDiff) -> dict[str, dict[tuple[str, str], list[LayerChange]]]:
    """kind -> (old, new) -> the layers that change so, in the order of the network."""
    found: dict[str, dict[tuple[str, str], list[LayerChange]]] = {}
    for kind in KINDS:
        for c in diff.layers:
            if c.kind == kind:
                found.setdefault(kind, {}).setdefault((c.old, c.new), []).append(c)
    return found


def summary(diff: PlanDiff) -> str:
    """One sentence: how many layers changed and how."""
    if diff.empty:
        return "The plans are the same."
    total = diff.unchanged + len({c.layer for c in diff.layers})
    counts = {k: len({c.layer for c in diff.layers if c.kind == k}) for k in KINDS}
    parts = [f"{diff.unchanged} unchanged", *(f"{n} {k}" for k, n in counts.items() if n)]
    return f"{total} layers: {', '.join(parts)}"


def verdict(diff: PlanDiff) -> str:
    """What the change does, in one sentence a reviewer may stop at."""
    parts = []
    for metric, less, more in (("fps", "fewer", "more"), ("latency_ns", "less", "more")):
        old, new = diff.metrics[metric]
        name = "frames a second" if metric == "fps" else "latency"
        if old and new:
            share = 100 * abs(new - old) / old
            parts.append(f"equal {name}" if old == new else f"{share:.1f} % {more if new > old else less} {name}")
    before = dict.fromkeys(d.die.split("/")[0] for d in diff.dies if d.old)
    after = dict.fromkeys(d.die.split("/")[0] for d in diff.dies if d.new)
    gone, come = [d for d in before if d not in after], [d for d in after if d not in before]
    parts += [f"{', '.join(gone)} no longer used"] * bool(gone) + [f"{', '.join(come)} newly used"] * bool(come)
    return ", ".join(parts)


def _figures(diff: PlanDiff) -> list[tuple[str, ...]]:
    rows = [
        (_LABEL[m], *map(number, diff.metrics[m]), change(*diff.metrics[m])) for m in METRICS if any(diff.metrics[m])
    ]
    kib = tuple(b / 8192 for b in diff.traffic_bits)
    rows.append(("moved (KiB/frame)", *(f"{k:,.1f}" for k in kib), change(*diff.traffic_bits)))
    return rows


def _resources(diff: PlanDiff) -> list[tuple[str, ...]]:
    rows = []
    for d in diff.dies:
        cells = []
        for r in RESOURCES:
            a = None if d.old is None else getattr(d.old, r)
            b = None if d.new is None else getattr(d.new, r)
            cells.append(number(b) if a == b else f"{number(a)} -> {number(b)}")
        rows.append((d.die, *cells))
    total = []
    for r in RESOURCES:
        a = sum(getattr(d.old, r) for d in diff.dies if d.old)
        b = sum(getattr(d.new, r) for d in diff.dies if d.new)
        total.append(number(b) if a == b else f"{number(a)} -> {number(b)}")
    return [*rows, ("all", *total)]


def _columns(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> list[str]:
    cells = [head, *rows]
    width = [max(len(r[k]) for r in cells) for k in range(len(head))]
    return [
        (
            "  " + "  ".join([r[0].ljust(width[0]), *(c.rjust(w) for c, w in zip(r[1:], width[1:], strict=True))])
        ).rstrip()
        for r in cells
    ]


def _listed(changes: list[LayerChange], groups: dict[tuple[str, str], list[LayerChange]]) -> list[str]:
    """A line a layer, or, where most changes are shared by several layers, a line a change with its layers below."""
    if len(groups) * 2 > len(changes):
        width = max(len(c.layer) for c in changes)
        return [_line(c, width) for c in changes]
    lines = []
    for (old, new), group in groups.items():
        names = ", ".join(c.layer for c in group)
        told = f"{len(group)} layers: {names}" if len(group) > 1 else names
        lines.append("  " + _arrow(old, new))
        lines += textwrap.wrap(
            told,
            _WIDTH,
            initial_indent="      ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _line(c: LayerChange, width: int) -> str:
    head, arrow = f"  {c.layer.ljust(width)}  ", _arrow(c.old, c.new)
    if len(head) + len(arrow) > _WIDTH and c.old and c.new:
        return f"{head}{c.old}\n{' ' * len(head)}-> {c.new}"
    return head + arrow


def as_text(diff: PlanDiff) -> str:
    """The difference for a terminal, at most about 110 columns wide."""
    lines = [f"old: {diff.old_title}", f"new: {diff.new_title}"]
    if not diff.same_model:
        lines.append("The two plans are of different models; layers are matched by name.")
    lines += ["", summary(diff)]
    if diff.empty:
        return "\n".join(lines) + "\n"
    lines += [verdict(diff), "", *_columns(_figures(diff), ("predicted", "old", "new", "change"))]
    if any(diff.limits):
        same = diff.limits[0] == diff.limits[1]
        lines.append(
            f"  limited by: {diff.limits[1]}" if same else f"  limited by: {diff.limits[0]} -> {diff.limits[1]}"
        )
    if diff.options:
        lines += ["", "options"]
        lines += [f"  {k}: {_value(a)} -> {_value(b)}" for k, (a, b) in diff.options.items()]
    for kind, groups in grouped(diff).items():
        lines += ["", f"{kind}: {_MEANING[kind]}"]
        lines += _listed([c for c in diff.layers if c.kind == kind], groups)
    engines = [d for d in diff.dies if d.old_engines != d.new_engines]
    if engines:
        lines += ["", "engines"]
        lines += [f"  {d.die}: {d.old_engines or 'none'} -> {d.new_engines or 'none'}" for d in engines]
    if diff.host_segments:
        lines += ["", "host segments"]
        lines += [f"  {k}: {_value(a)} -> {_value(b)}" for k, (a, b) in diff.host_segments.items()]
    lines += ["", *_columns(_resources(diff), ("resources by die", *(r.upper() for r in RESOURCES)))]
    return "\n".join(lines) + "\n"


def as_markdown(diff: PlanDiff) -> str:
    """The difference for a review comment (GitHub Markdown)."""
    lines = [f"### Plan change: {_md(diff.old_title)} → {_md(diff.new_title)}", "", _md(summary(diff))]
    if not diff.same_model:
        lines += ["", "The two plans are of different models; layers are matched by name."]
    if diff.empty:
        return "\n".join(lines) + "\n"
    lines += ["", _md(verdict(diff)), "", *_md_table(_figures(diff), ("predicted", "old", "new", "change"))]
    if any(diff.limits):
        lines += ["", f"Limited by: {_md(_arrow(*diff.limits))}"]
    if diff.options:
        rows = [(k, _value(a), _value(b)) for k, (a, b) in diff.options.items()]
        lines += ["", *_md_table(rows, ("option", "old", "new"))]
    groups = grouped(diff)
    if groups:
        told = [
            (kind, _arrow(old, new), str(len(changes)), ", ".join(c.layer for c in changes))
            for kind, by_change in groups.items()
            for (old, new), changes in by_change.items()
        ]
        lines += ["", "<details open><summary>Layers</summary>", ""]
        lines += [*_md_table(told, ("change", "old → new", "layers", "names")), "", "</details>"]
    if diff.host_segments:
        rows = [(k, _value(a), _value(b)) for k, (a, b) in diff.host_segments.items()]
        lines += ["", *_md_table(rows, ("host segment", "old", "new"))]
    lines += ["", *_md_table(_resources(diff), ("die", *(r.upper() for r in RESOURCES)))]
    return "\n".join(lines) + "\n"


def as_json(diff: PlanDiff) -> dict[str, Any]:
    """The difference as plain JSON values (without the schema key)."""
    return {
        "old": diff.old_title,
        "new": diff.new_title,
        "same": diff.empty,
        "same_model": diff.same_model,
        "predicted": {m: {"old": a, "new": b} for m, (a, b) in diff.metrics.items()},
        "limiting": {"old": diff.limits[0], "new": diff.limits[1]},
        "traffic_bits_per_frame": {"old": diff.traffic_bits[0], "new": diff.traffic_bits[1]},
        "options": {k: {"old": a, "new": b} for k, (a, b) in diff.options.items()},
        "layers": [{"name": c.layer, "op": c.op, "change": c.kind, "old": c.old, "new": c.new} for c in diff.layers],
        "unchanged_layers": diff.unchanged,
        "host_segments": {k: {"old": a, "new": b} for k, (a, b) in diff.host_segments.items()},
        "dies": [
            {
                "die": d.die,
                "old": None if d.old is None else {r: getattr(d.old, r) for r in RESOURCES},
                "new": None if d.new is None else {r: getattr(d.new, r) for r in RESOURCES},
                "old_engines": d.old_engines,
                "new_engines": d.new_engines,
            }
            for d in diff.dies
        ],
    }


def _arrow(old: str, new: str) -> str:
    if old == new:
        return old
    return f"{old} -> {new}" if old and new else new or old


def _value(value: Any) -> str:
    if value is None:
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _md(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("->", "→")


def _md_table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> list[str]:
    align = ["---", *("---:" if all(r[k][:1] in "0123456789+-=" for r in rows) else "---" for k in range(1, len(head)))]
    return [f"| {' | '.join(map(_md, r))} |" for r in (head,)] + [
        f"| {' | '.join(align)} |",
        *(f"| {' | '.join(map(_md, r))} |" for r in rows),
    ]
