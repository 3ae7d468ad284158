"""Broken binaries: `python -m benchmarks.mutation` judges seeded mutants of four bundles and counts who caught them.

The bundles are the shipped example on clusters of unlike shape (tests/mutation). Mutants are judged in chunks; a chunk
that the very same sources have judged is not judged again, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from typing import Any

from benchmarks.corpus import ROOT, source_digest
from tests.mutation.judges import JUDGES

RESULTS = ROOT / "benchmarks" / "results" / "mutation.json"
STATE = ROOT / "out" / "mutation"
BUNDLES = ("sliced", "u280x2", "pynq-z2x2", "streaming")
CHUNK = 100
LEFT = ("equivalent", "survivor")


def digest() -> str:
    """Of everything that decides a verdict."""
    found = hashlib.sha256(source_digest().encode())
    for path in sorted((ROOT / "tests" / "mutation").glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def judge_chunk(bundle: str, first: int) -> list[dict[str, Any]]:
    """The verdicts of CHUNK seeds, with the CPU seconds that each took."""
    from tests.mutation.test_mutants import bench

    judge = bench(bundle)
    records = []
    for seed in range(first, first + CHUNK):
        started = time.process_time()
        verdict = judge.judge(seed)
        records.append({"seed": seed, **asdict(verdict), "cpu_s": round(time.process_time() - started, 3)})
    return records


def summary(records: dict[str, list[dict[str, Any]]], sources: str) -> dict[str, Any]:
    """The document: counts over distinct mutants by kind and judge, every one that was not caught, CPU seconds."""
    bundles = {}
    for bundle, found in records.items():
        distinct = list({r["digest"]: r for r in found}.values())
        kinds: dict[str, Counter[str]] = {}
        for r in distinct:
            kinds.setdefault(r["kind"], Counter())[r["judge"]] += 1
        bundles[bundle] = {
            "mutants": len(distinct),
            "judges": dict(sorted(Counter(r["judge"] for r in distinct).items())),
            "kinds": {kind: dict(sorted(count.items())) for kind, count in sorted(kinds.items())},
            "codes": dict(sorted(Counter(r["code"] for r in distinct if r["code"]).items())),
            "left": [
                {"seed": r["seed"], "judge": r["judge"], "what": r["what"], "accumulators_equal": r["equal"]}
                for r in distinct
                if r["judge"] in LEFT
            ],
            "cpu_s": round(sum(r["cpu_s"] for r in found), 1),
        }
    totals = {name: sum(b["judges"].get(name, 0) for b in bundles.values()) for name in JUDGES}
    return {
        "schema": "fvc.mutation/1",
        "sources": sources,
        "python": platform.python_version(),
        "totals": {"mutants": sum(totals.values()), **totals},
        "cpu_s": round(sum(b["cpu_s"] for b in bundles.values()), 1),
        "bundles": bundles,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=2000, help="seeds a bundle (equal mutants count once)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", choices=BUNDLES, help="one bundle; nothing is written to results")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sources = digest()
    STATE.mkdir(parents=True, exist_ok=True)
    names = [arguments.only] if arguments.only else list(BUNDLES)
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    files = {(b, first): STATE / f"{b}-{first}.json" for b in names for first in range(0, arguments.mutants, CHUNK)}
    todo = []
    for (bundle, first), file in files.items():
        known = json.loads(file.read_text()) if file.exists() else {}
        if known.get("sources") == sources:
            records[bundle] += known["verdicts"]
        else:
            todo.append((bundle, first))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        running = {pool.submit(judge_chunk, *key): key for key in todo}
        for number, done in enumerate(as_completed(running), 1):
            key, verdicts = running[done], done.result()
            draft = files[key].with_suffix(".draft")
            draft.write_text(json.dumps({"sources": sources, "verdicts": verdicts}))
            draft.rename(files[key])
            records[key[0]] += verdicts
            left = [v["what"] for v in verdicts if v["judge"] == "survivor"]
            print(f"[{number}/{len(todo)}] {key[0]} {key[1]}: {len(left)} survivors {left or ''}", flush=True)
    for found in records.values():
        found.sort(key=lambda r: r["seed"])
    document = summary(records, sources)
    if not arguments.only:
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
    totals = document["totals"]
    print(", ".join(f"{name} {count}" for name, count in totals.items()))
    unequal = [x for b in document["bundles"].values() for x in b["left"] if not x["accumulators_equal"]]
    return 1 if unequal or 100 * totals["survivor"] > totals["mutants"] else 0


if __name__ == "__main__":
    sys.exit(main())
