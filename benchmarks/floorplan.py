"""`python -m benchmarks.floorplan [FILE.json[.gz] …]`: `fvc floorplan` on each case as a command of its own.

Without files: the published cases kept in tests/data. Writes benchmarks/results/floorplan.json and the table at the
end of docs/floorplan.md: status, objective, bound, gap and seconds of the whole command (wall and processor time:
machines are shared), beside what the case file says that others reached. What these sources have run is not run again.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.corpus import source_digest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "floorplan.json"
DATA = ROOT / "tests" / "data" / "floorplan"
PAGE = ROOT / "docs" / "floorplan.md"
CASES = ("floorplan_cases.json", "joint_cases.json", "joint_cases_500.json.gz")
MARK = "<!-- written by benchmarks.floorplan from here on -->"
OTHERS = ("peer", "reference", "prototype")


def run(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One case through the command line."""
    problem, out = folder / "problem.json", folder / "answer.json"
    problem.write_text(json.dumps({k: v for k, v in case.items() if k not in OTHERS}))
    out.unlink(missing_ok=True)
    before = os.times()
    started = time.monotonic()
    command = [sys.executable, "-m", "fvc", "floorplan", str(problem), "-o", str(out)]
    process = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds, after = time.monotonic() - started, os.times()
    row: dict[str, Any] = {
        "name": case["name"],
        "seconds": round(seconds, 2),
        "cpu_seconds": round(
            after.children_user + after.children_system - before.children_user - before.children_system, 2
        ),
    }
    if process.returncode:
        row |= {"status": "none", "message": process.stderr.strip().split("\n")[0]}
    else:
        answer = json.loads(out.read_text())
        row |= {k: answer[k] for k in ("kind", "status", "objective", "bound", "gap", "proved_by")}
        row |= {k: answer[k] for k in ("bounds", "crossing_bits") if k in answer}
    for other in OTHERS:
        if other in case:
            wanted = ("status", "objective", "best_bound", "wall_s", "T", "gap", "seconds")
            row[other] = {k: case[other][k] for k in wanted if k in case[other]}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| case | objective | bound | gap | seconds (CPU) | others: objective, bound or gap, seconds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        others = []
        for name in OTHERS:
            if name in r:
                o = r[name]
                value = o.get("objective", o.get("T"))
                proof = (
                    f"bound {o['best_bound']:g}"
                    if "best_bound" in o
                    else f"gap {100 * o['gap']:.1f} %"
                    if "gap" in o
                    else ""
                )
                seconds = o.get("wall_s", o.get("seconds"))
                others.append(f"{name} {'none' if value is None else f'{value:,g}'}, {proof}, {seconds} s")
        gap = "–" if r.get("gap") is None else "0" if r["gap"] == 0 else f"{100 * r['gap']:.2f} %"
        value = ["–" if r.get(k) is None else f"{r[k]:,}" for k in ("objective", "bound")]
        cells = [r["name"], *value, gap, f"{r['seconds']} ({r['cpu_seconds']})", "; ".join(others)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(files: list[str]) -> int:
    """Every case of every file, results stored after each; answers come from the command, which judges each one."""
    paths = [Path(f) for f in files] or [DATA / name for name in CASES]
    digest = source_digest()
    old = {r["name"]: r for r in json.loads(RESULTS.read_text())["cases"]} if RESULTS.exists() else {}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            content = path.read_bytes()
            document = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
            for case in document.get("cases", [document]):
                known = old.get(case["name"])
                fresh = known is not None and known.get("sources") == digest
                rows.append(known if fresh and known else run(case, Path(folder)) | {"sources": digest})
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                if not files:
                    RESULTS.write_text(json.dumps({"benchmark": "floorplan", "cases": rows}, indent=1) + "\n", "utf-8")
    if not files:
        head = PAGE.read_text("utf-8").split(MARK)[0]
        PAGE.write_text(f"{head}{MARK}\n\n{table(rows)}\n", "utf-8")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
