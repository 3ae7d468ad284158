"""The table of docs/streaming.md is that of the records, and the records are of whole runs."""

from __future__ import annotations

from benchmarks.loaded import ROOT
from benchmarks.resumable import Table
from benchmarks.styles import CASES, RESULTS, table


def records() -> Table:
    kept = Table(RESULTS, "fvc.styles/1", ("verified",))
    kept.load()
    return kept


def test_the_page_shows_the_records() -> None:
    assert table(records().records) in (ROOT / "docs" / "streaming.md").read_text("utf-8")


def test_records_are_verified_and_the_best_style_was_taken() -> None:
    known = {c.key for c in CASES}
    for key, r in records().records.items():
        assert key in known and r["status"] == "verified" and r["mismatches"] == 0
        rows = {s: row for s, row in r["styles"].items() if s != "taken" and row["fits"]}
        first, then = ("latency_ns", "interval_ns") if r["objective"] == "latency" else ("interval_ns", "latency_ns")
        best = min(rows, key=lambda s: (rows[s][first], rows[s][then]))
        assert r["styles"]["taken"] == best
        assert abs(r["interval_ratio"] - 1) < 0.05 and abs(r["latency_ratio"] - 1) < 0.05
