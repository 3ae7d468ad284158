"""`python -m benchmarks.styles`: what --style auto takes: tiled, streaming or both, a few nets on a few clusters.

Each case is one compile with --style auto, whose plan tells the figures of all three styles; it is verified and
simulated. Models are those of `fvc zoo`, with seeded weights; 5 us a host segment, so that the engines are compared and
not the host; 5 s of solver time. Records as in benchmarks/corpus.py, in benchmarks/results/styles.json; `--docs` prints
the table of docs/streaming.md. Seconds are processor time: machines are shared.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import loaded
from benchmarks.corpus import source_digest
from benchmarks.loaded import ROOT
from benchmarks.resumable import Record, Table, in_process, run

RESULTS = ROOT / "benchmarks" / "results" / "styles.json"
HOST_NS, TIME_LIMIT_S = 5_000, 5.0
STYLES = ("tiled", "streaming", "mixed")


@dataclass(frozen=True, slots=True)
class Case:
    net: str  # of `fvc zoo`
    quantized: bool  # to 8 bits; low-bit nets are as they are
    cluster: str
    objective: str = "throughput"

    @property
    def name(self) -> str:
        return f"{self.net}-8bit" if self.quantized else self.net

    @property
    def key(self) -> str:
        return f"{self.name}/{self.cluster}" + ("" if self.objective == "throughput" else f"/{self.objective}")


CASES = (
    Case("mobilenetv1-w4a4", False, "u280x2"),
    Case("squeezenet1.1", True, "u280x2"),
    Case("mobilenetv1", True, "u280"),
    Case("resnet50", True, "u280"),
    Case("resnet50", True, "u250"),
    Case("alexnet", True, "u280x4"),
    Case("resnet50-w1a2", False, "u280x4"),
    Case("cnv-w1a1", False, "u50"),
    Case("squeezenet1.1", True, "zcu102x2"),
    Case("mobilenetv1-w4a4", False, "u280x2", "latency"),
    Case("squeezenet1.1", True, "u280x2", "latency"),
)


def model_of(case: Case, cache: Path) -> Path:
    """The model's file, made where it is not there."""
    from compiler.bundle import write_file
    from compiler.frontend import ImportOptions, load_model
    from compiler.frontend.zoo import build

    path = cache / "zoo" / f"{case.name}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = build(case.net, seed=0).SerializeToString(deterministic=True)
    if case.quantized:
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / path.name
            plain.write_bytes(whole)
            whole = load_model(plain, ImportOptions(per_channel=True)).model
    write_file(path, whole)
    return path


def played(case: Case, cache: Path) -> Record:
    """The record of one case, in this process."""
    from benchmarks.corpus_case import prediction
    from compiler.frontend import ImportOptions, load_model
    from compiler.partition.options import PartitionOptions
    from compiler.pipeline import CompileOptions, compile_model

    model = model_of(case, cache)
    host = {s.name: HOST_NS for s in load_model(model, ImportOptions()).host_segments}
    asked = PartitionOptions(style="auto", objective=case.objective, time_limit_s=TIME_LIMIT_S, host_ns=host)
    with tempfile.TemporaryDirectory() as folder:
        options = CompileOptions(devices=case.cluster, partition=asked)
        result = compile_model(model, options, output=Path(folder) / "bundle")
    report, solver = result.verification, result.plan.solver
    assert report is not None
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "status": "verified" if report.passed else "failed",
        "mismatches": report.mismatches,
        "elements": report.elements,
        "styles": result.plan.predicted["styles"],
        "gap": round(solver.gap, 4),
        "solver": solver.status,
        "layers": len(result.plan.layers),
        "compile_cpu_s": round(spent.ru_utime + spent.ru_stime, 1),
        **prediction(result),
    }


def main_case(case: Case, cache: Path) -> None:
    """Prints the record as one line of JSON."""
    from device_db import load_cluster

    loaded.watch()
    record = played(case, cache)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    record |= {"peak_mib": usage.ru_maxrss // 1024, "cpu_s": round(usage.ru_utime + usage.ru_stime, 1)}
    files = loaded.used({device.board.name for device in load_cluster(case.cluster).devices})
    if not loaded.changed_since_start(files):
        record |= {"files": files, "content": loaded.digest(files)}
    print(json.dumps(record))


def run_case(case: Case, digest: str, cache: Path) -> Record:
    """One case in a process of its own."""
    own = ["benchmarks.styles", "--case", json.dumps(asdict(case)), str(cache)]
    return {**asdict(case), "sources": digest, **in_process(own, 7200)}


def told(row: dict[str, Any]) -> str:
    """A style's interval and latency in microseconds, or that it has no plan."""
    if not row["fits"]:
        return "–"
    return f"{row['interval_ns'] / 1000:,.1f}, {row['latency_ns'] / 1000:,.0f}"


def table(records: dict[str, Record]) -> str:
    """The table of docs/streaming.md."""
    out = [
        "| net | cluster | tiled | streaming | both | taken | gap | simulated | mismatches | CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        r = records.get(case.key)
        if r is None or "styles" not in r:
            continue
        times = [told(r["styles"][s]) for s in STYLES]
        off = f"{100 * (r['interval_ratio'] - 1):+.1f}, {100 * (r['latency_ratio'] - 1):+.1f} %"
        cluster = case.cluster if case.objective == "throughput" else f"{case.cluster}, {case.objective}"
        cells = [case.name, cluster, *times, r["styles"]["taken"], f"{100 * r['gap']:.0f} %", off]
        out.append(f"| {' | '.join([*cells, str(r['mismatches']), str(r['compile_cpu_s'])])} |")
    return "\n".join(out)


def main() -> int:
    if sys.argv[1:2] == ["--case"]:
        main_case(Case(**json.loads(sys.argv[2])), Path(sys.argv[3]))
        return 0
    kept = Table(RESULTS, "fvc.styles/1", ("verified",))
    if sys.argv[1:] == ["--docs"]:
        kept.load()
        print(table(kept.records))
        return 0
    digest = source_digest()
    return run(kept, {c.key: partial(run_case, c, digest) for c in CASES}, digest, str(__doc__))


if __name__ == "__main__":
    sys.exit(main())
