"""The open fields of a plan, `options` and `predicted`, by kind: what later rules read is what they take it for."""

from __future__ import annotations

from typing import Any

from compiler.isa.check.findings import Findings
from compiler.plan.model import Plan

# An option's rows: the kind of every entry.
ROWS: dict[str, tuple[type, ...]] = {
    "anchors": (str, str),
    "forbidden_cuts": (str, str),
    "force_split": (str, int),
    "folds": (str, int, int, str, str),
    "measured": (str, int, int, str, str, int, int, int, int, int),
}
LEAST = {"replicas": 0, "seed": 0, "workers": 1, "cores": 1, "interval": 1, "time_limit_s_milli": 0}
LEAST |= {"target_fps_milli": 0, "max_latency_ms_milli": 0}
FLAGS = ("min_devices", "uniform")
CHOICES = {
    "objective": ("throughput", "latency"),
    "style": ("tiled", "streaming", "auto"),
    "memory": ("auto", "external", "bram", "uram"),
    "xfer": ("auto", "always", "never"),
}
TABLES = ("dies", "links", "banks", "crossings", "tasks")  # of predicted: a row a name
ONE = ("host", "limiting")


def check_kinds(plan: Plan, found: Findings) -> bool:
    """FVC220: every option and figure that is there is of its kind; False if not."""
    before = len(found.kept)
    for key, value in plan.options.items():
        if not _fits(key, value):
            found.add("FVC220", f"{key} is {value!r}", f"options.{key}")
    for key, value in plan.predicted.items():
        rows = isinstance(value, dict) and (key in ONE or all(isinstance(v, dict) for v in value.values()))
        if key in (*TABLES, *ONE) and not rows:
            found.add("FVC220", f"{key} is {str(value)[:80]}", f"predicted.{key}")
    return len(found.kept) == before


def _fits(key: str, value: Any) -> bool:
    if key in ROWS:
        kinds = ROWS[key]
        return isinstance(value, list | tuple) and all(
            isinstance(row, list | tuple) and tuple(map(type, row)) == kinds for row in value
        )
    if key in LEAST:
        return type(value) is int and value >= LEAST[key]
    if key in FLAGS:
        return isinstance(value, bool)
    if key == "host_ns":
        return isinstance(value, dict) and all(type(ns) is int and ns >= 0 for ns in value.values())
    return key not in CHOICES or value in CHOICES[key]
