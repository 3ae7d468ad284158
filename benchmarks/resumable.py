"""A table of cases, each a process of its own and one record, written after every case and taken up where it stopped.

A record stands as long as the files that its process used are what they were (benchmarks/loaded.py). The document keeps
each list of files once, under `loads`; a record names its list (`loaded`) and the digest of the contents (`content`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.loaded import ROOT, digest

Record = dict[str, Any]
SHOWN = ("tensors", "mismatches", "gap", "interval_ratio", "latency_ratio", "wall_s", "cpu_s", "reason")


@dataclass(slots=True)
class Table:
    """The document at `path`; `passed` are the statuses that count as done."""

    path: Path
    schema: str
    passed: tuple[str, ...]
    records: dict[str, Record] = field(default_factory=dict)
    loads: dict[str, list[str]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict, repr=False)  # of the lists as their files are now

    def load(self) -> None:
        if self.path.exists():
            document = json.loads(self.path.read_text())
            self.records, self.loads = document["cases"], document.get("loads", {})

    def add(self, key: str, record: Record) -> None:
        """Takes the record; its list of files goes into `loads`, and the document is written whole."""
        files = record.pop("files", None)
        if files is not None:
            record["loaded"] = hashlib.sha256("\n".join(files).encode()).hexdigest()[:12]
            self.loads[record["loaded"]] = files
        self.records[key] = record
        self.save()

    def save(self) -> None:
        status = [str(r["status"]) for r in self.records.values()]
        needed = {r.get("loaded") for r in self.records.values()}
        document = {
            "schema": self.schema,
            "totals": {name: status.count(name) for name in sorted(set(status))},
            "cases": dict(sorted(self.records.items())),
            "loads": {k: v for k, v in sorted(self.loads.items()) if k in needed},
        }
        draft = self.path.with_suffix(".draft")
        draft.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps(document, indent=1) + "\n")
        draft.rename(self.path)

    def fresh(self, key: str, sources: str, any_version: bool = False) -> bool:
        """Whether the record is of these sources: of the very same tree, or of the same contents of all files used."""
        record = self.records.get(key, {})
        if record.get("sources") == sources or (any_version and record.get("status") in self.passed):
            return True
        return record.get("loaded") in self.loads and record.get("content") == self._now(record["loaded"])

    def _now(self, listed: str) -> str:
        if listed not in self.digests:
            self.digests[listed] = digest(self.loads[listed])
        return self.digests[listed]


def in_process(command: list[str], timeout_s: int = 1800) -> Record:
    """What `python -m …` prints as its last line; a process without such a line is a failed case with its stderr."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    full = [sys.executable, "-m", *command]
    started = time.monotonic()
    try:
        done = subprocess.run(full, cwd=ROOT, env=env, capture_output=True, text=True, timeout=timeout_s)
        record: Record = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"no result within {timeout_s} s"}
    except (IndexError, json.JSONDecodeError):
        record = {"status": "failed", "reason": done.stderr[-600:]}
    return record | {"wall_s": round(time.monotonic() - started, 1)}


def run(table: Table, cases: Mapping[str, Callable[[Path], Record]], sources: str, about: str) -> int:
    """The command line of such a table: runs what is not fresh and gives the exit code.

    cases: key -> what makes its record, given the folder where models are kept. sources: digest of the whole tree.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", help="run the cases whose key contains this")
    parser.add_argument("--any-version", action="store_true", help="keep passed records of other source versions")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("FVC_CORPUS", ROOT / ".corpus")))
    parser.add_argument("--list", action="store_true", help="say which cases would be run, and end")
    arguments = parser.parse_args()
    table.load()
    table.records = {key: record for key, record in table.records.items() if key in cases}
    todo = [
        key
        for key in cases
        if not table.fresh(key, sources, arguments.any_version) and (not arguments.only or arguments.only in key)
    ]
    if arguments.list:
        print("\n".join(todo) + f"\n{len(cases) - len(todo)} of {len(cases)} records are of these sources")
        return 0
    with ThreadPoolExecutor(arguments.jobs) as pool:  # each case is a process of its own: threads only wait
        running = {pool.submit(cases[key], arguments.cache): key for key in todo}
        for number, done in enumerate(as_completed(running), 1):
            key, record = running[done], done.result()
            table.add(key, record)
            figures = {k: record[k] for k in SHOWN if k in record}
            print(f"[{number}/{len(todo)}] {key}: {record['status']} {figures}", flush=True)
    bad = [key for key in cases if table.records.get(key, {}).get("status") not in table.passed]
    print(f"{len(cases) - len(bad)} passed, {len(bad)} failed")
    return 1 if bad else 0
