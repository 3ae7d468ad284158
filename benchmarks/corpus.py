"""Real models, end to end: `python -m benchmarks.corpus` compiles, verifies and simulates a pairwise covering set.

Each case is one process (so its memory and time are its own) and one record in benchmarks/results/corpus.json; a case
whose record was made by the very same sources is not run again, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.sources import BY_NAME, SOURCES, variant

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "corpus.json"
FORMS, CLUSTERS = ("float", "qdq", "qoperator"), ("u280x4", "zcu102x2")
SIGNS, GRAINS = ("u8", "s8"), ("tensor", "channel")
PASSED = ("verified", "infeasible")

# (form, cluster, sign, granularity) indices: every pair of values of any two columns occurs in these six rows.
PAIRWISE = ((0, 0, 0, 0), (0, 1, 1, 1), (1, 0, 0, 1), (1, 1, 1, 0), (2, 0, 1, 0), (2, 1, 0, 1))
# The widest network of the set in the other combinations too.
EXTRA = ((0, 1, 0, 0), (0, 0, 1, 1), (1, 1, 0, 1), (1, 0, 1, 0), (2, 1, 1, 0), (2, 0, 0, 1), (0, 0, 0, 1), (2, 0, 1, 1))


@dataclass(frozen=True, slots=True)
class Case:
    model: str
    form: str
    cluster: str
    sign: str
    granularity: str

    @property
    def key(self) -> str:
        return "/".join((self.model, self.form, self.cluster, self.sign, self.granularity))


def cases() -> list[Case]:
    """The covering set: six rows a model, the wide one with eight more; 80 in all."""
    rows = [(source.name, row) for source in SOURCES for row in PAIRWISE] + [("resnet50", row) for row in EXTRA]
    return [Case(name, FORMS[f], CLUSTERS[c], SIGNS[s], GRAINS[g]) for name, (f, c, s, g) in rows]


def source_digest() -> str:
    """Digest of everything that decides a result: the shipped packages and this benchmark, none of the others."""
    digest = hashlib.sha256()
    own = [ROOT / "benchmarks" / name for name in ("corpus.py", "corpus_case.py", "sources.py")]
    shipped = [p for folder in ("compiler", "cost_models", "device_db") for p in sorted((ROOT / folder).rglob("*"))]
    for path in (*shipped, *own):
        if path.suffix in (".py", ".toml"):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def run_case(case: Case, cache: Path, digest: str) -> dict[str, object]:
    """One case in a process of its own; the record says verified, infeasible or failed, with the figures."""
    source = BY_NAME[case.model]
    record: dict[str, object] = {**asdict(case), "sources": digest}
    started = time.monotonic()
    try:
        model = variant(source, case.form, case.sign, case.granularity, cache)
    except Exception as error:  # the outside quantizer failed: not a result of fvc, but not hidden either
        return {**record, "status": "no model", "reason": repr(error)[:300]}
    prepared = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.corpus_case", str(model), json.dumps(asdict(case))]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1800)
    except subprocess.TimeoutExpired:
        return {**record, "status": "failed", "reason": "no result within 1800 s"}
    try:
        record |= json.loads(done.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        record |= {"status": "failed", "reason": done.stderr[-600:]}
    return {**record, "prepare_s": round(prepared - started, 1), "wall_s": round(time.monotonic() - prepared, 1)}


def load() -> dict[str, dict[str, object]]:
    return json.loads(RESULTS.read_text())["cases"] if RESULTS.exists() else {}


def save(records: dict[str, dict[str, object]]) -> None:
    """Writes the table whole, with its totals, after every case."""
    status = [str(r["status"]) for r in records.values()]
    totals = {name: status.count(name) for name in sorted(set(status))}
    document = {"schema": "fvc.corpus/1", "totals": totals, "cases": dict(sorted(records.items()))}
    draft = RESULTS.with_suffix(".draft")
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(json.dumps(document, indent=1) + "\n")
    draft.rename(RESULTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run the cases whose key contains this")
    parser.add_argument("--any-version", action="store_true", help="keep verified records of other source versions")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("FVC_CORPUS", ROOT / ".corpus")))
    arguments = parser.parse_args()
    digest, records = source_digest(), load()
    wanted = {case.key: case for case in cases()}
    records = {key: record for key, record in records.items() if key in wanted}

    def fresh(key: str) -> bool:
        old = records.get(key, {})
        return old.get("sources") == digest or (arguments.any_version and old.get("status") in PASSED)

    todo = [k for k in wanted if not fresh(k) and (not arguments.only or arguments.only in k)]
    with ThreadPoolExecutor(arguments.jobs) as pool:  # each case is a process of its own: threads only wait
        running = {pool.submit(run_case, wanted[key], arguments.cache, digest): key for key in todo}
        for number, done in enumerate(as_completed(running), 1):
            key, record = running[done], done.result()
            records[key] = record
            save(records)
            figures = {k: record[k] for k in ("tensors", "mismatches", "gap", "wall_s", "reason") if k in record}
            print(f"[{number}/{len(todo)}] {key}: {record['status']} {figures}", flush=True)
    bad = [key for key in wanted if records.get(key, {}).get("status") not in PASSED]
    print(f"{len(wanted) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
