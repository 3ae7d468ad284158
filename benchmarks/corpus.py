"""Real models, end to end: `python -m benchmarks.corpus` compiles, verifies and simulates a pairwise covering set.

Each case is one process (so its memory and time are its own) and one record in benchmarks/results/corpus.json. A record
whose process used the very same files is not made again, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.loaded import ROOT
from benchmarks.resumable import Record, Table, in_process, run
from benchmarks.sources import BY_NAME, SOURCES, variant

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


def run_case(case: Case, digest: str, cache: Path, **more: Any) -> Record:
    """One case in a process of its own; the record says verified, infeasible or failed, with the figures. more: what
    else corpus_case is told."""
    record: Record = {**asdict(case), "sources": digest}
    started = time.monotonic()
    try:
        model = variant(BY_NAME[case.model], case.form, case.sign, case.granularity, cache)
    except Exception as error:  # the outside quantizer failed: not a result of fvc, but not hidden either
        return {**record, "status": "no model", "reason": repr(error)[:300]}
    prepared = time.monotonic()
    record |= in_process(["benchmarks.corpus_case", str(model), json.dumps(asdict(case) | more)])
    return {**record, "prepare_s": round(prepared - started, 1)}


def main() -> int:
    digest = source_digest()
    wanted = {case.key: partial(run_case, case, digest) for case in cases()}
    return run(Table(RESULTS, "fvc.corpus/1", PASSED), wanted, digest, (__doc__ or "").splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
