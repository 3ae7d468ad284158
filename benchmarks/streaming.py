"""8-bit models in streaming style: `python -m benchmarks.streaming` makes every real model of the corpus hardware.

Each model in one number format on u280x4, all layers at once, weights on the chip: planned, every tensor verified,
prediction held against the simulator. Host segments count 50 ns so that they do not hide the net. Records as in
benchmarks/corpus.py, in benchmarks/results/streaming.json; `--docs` writes the table of docs/streaming.md.
"""

from __future__ import annotations

import sys
from functools import partial

from benchmarks import tables
from benchmarks.corpus import FORMS, GRAINS, PAIRWISE, PASSED, SIGNS, Case, run_case, source_digest
from benchmarks.loaded import ROOT
from benchmarks.resumable import Record, Table, run
from benchmarks.sources import SOURCES

RESULTS = ROOT / "benchmarks" / "results" / "streaming.json"
PAGE = ROOT / "docs" / "streaming.md"
CLUSTER = "u280x4"
HOST_SEGMENT_NS = 50


def cases() -> list[Case]:
    """Every model once; the six number formats in turn."""
    out = []
    for m, source in enumerate(SOURCES):
        form, _, sign, grain = PAIRWISE[m % len(PAIRWISE)]
        out.append(Case(source.name, FORMS[form], CLUSTER, SIGNS[sign], GRAINS[grain]))
    return out


def table(records: dict[str, Record]) -> str:
    """The records as Markdown rows."""
    rows = [
        "| model | format | interval | gap | latency against `fvc simulate` | elements compared | CPU s, whole case |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in records.values():
        shape = f"{r['form']} {r['sign']} {r['granularity']}"
        if r["status"] != "verified":
            rows.append(f"| {r['model']} | {shape} | {r['status']} {r.get('code', '')} | | | | |")
            continue
        gap = "0, proved" if r["solver"] == "OPTIMAL" else f"{100 * r['gap']:.1f} %"
        rows.append(
            f"| {r['model']} | {shape} | {r['interval_ns'] / 1000:.1f} µs | {gap} | {r['latency_ratio']:.4f} | "
            f"{r['elements']:,}, {r['mismatches']} mismatches | {r['cpu_s']:.0f} |"
        )
    return "\n".join(rows)


def main() -> int:
    made = Table(RESULTS, "fvc.streaming/1", PASSED)
    if "--docs" in sys.argv[1:]:
        made.load()
        tables.write(PAGE, {"corpus": table(made.records)})
        return 0
    digest = source_digest()
    asked = {"options": {"style": "streaming"}, "frames": 1, "gate_b": False, "host_segment_ns": HOST_SEGMENT_NS}
    wanted = {case.key: partial(run_case, case, digest, **asked) for case in cases()}
    return run(made, wanted, digest, (__doc__ or "").splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
