"""8-bit models in streaming style: `python -m benchmarks.streaming` makes every real model of the corpus hardware.

Each model in one number format on u280x4, all layers at once, weights on the chip: planned, every tensor verified,
prediction held against the simulator. Host segments count 50 ns so that they do not hide the net. Records as in
benchmarks/corpus.py, in benchmarks/results/streaming.json; `--docs` writes the table of docs/streaming.md.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks import tables
from benchmarks.corpus import FORMS, GRAINS, PAIRWISE, PASSED, SIGNS, source_digest
from benchmarks.loaded import ROOT
from benchmarks.resumable import Record, Table, in_process, run
from benchmarks.sources import BY_NAME, SOURCES, variant

RESULTS = ROOT / "benchmarks" / "results" / "streaming.json"
PAGE = ROOT / "docs" / "streaming.md"
CLUSTER = "u280x4"
HOST_SEGMENT_NS = 50


@dataclass(frozen=True, slots=True)
class Case:
    model: str
    form: str
    sign: str
    granularity: str
    cluster: str = CLUSTER

    @property
    def key(self) -> str:
        return "/".join((self.model, self.cluster, self.form, self.sign, self.granularity))


def cases() -> list[Case]:
    """Every model once; the six number formats in turn."""
    out = []
    for m, source in enumerate(SOURCES):
        form, _, sign, grain = PAIRWISE[m % len(PAIRWISE)]
        out.append(Case(source.name, FORMS[form], SIGNS[sign], GRAINS[grain]))
    return out


def run_case(case: Case, digest: str, cache: Path) -> Record:
    """One case in a process of its own; a model that no plan holds says why (status infeasible, code, reason)."""
    record: Record = {**asdict(case), "sources": digest}
    started = time.monotonic()
    try:
        model = variant(BY_NAME[case.model], case.form, case.sign, case.granularity, cache)
    except Exception as error:  # the outside quantizer failed: not a result of fvc, but not hidden either
        return {**record, "status": "no model", "reason": repr(error)[:300]}
    prepared = time.monotonic()
    facts = asdict(case) | {
        "options": {"style": "streaming"},
        "frames": 1,
        "gate_b": False,
        "host_segment_ns": HOST_SEGMENT_NS,
    }
    record |= in_process(["benchmarks.corpus_case", str(model), json.dumps(facts)])
    return {**record, "prepare_s": round(prepared - started, 1)}


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
    wanted = {case.key: partial(run_case, case, digest) for case in cases()}
    return run(made, wanted, digest, (__doc__ or "").splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
