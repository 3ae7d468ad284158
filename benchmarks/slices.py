"""Slices of a layer, end to end: `python -m benchmarks.slices` forces every single factor on every real model.

Each model is compiled for the least latency onto three clusters: free, and with each of Pb, Pr, Pc, Pm, Pn forced
alone; every tensor is verified and the prediction held against the simulator. Records as in benchmarks/corpus.py, in
benchmarks/results/slices.json. A model that takes one frame is made one that takes two where Pb is forced; where that
cannot be (constants in the model hold a batch of 1) the factor is forced all the same, and refused.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.corpus import FORMS, GRAINS, PAIRWISE, PASSED, SIGNS, source_digest
from benchmarks.loaded import ROOT
from benchmarks.resumable import Record, Table, in_process, run
from benchmarks.sources import BY_NAME, SOURCES, NoBatch, variant

RESULTS = ROOT / "benchmarks" / "results" / "slices.json"
CLUSTERS = (("zcu102x2", 2), ("zcu102x4", 4), ("u280x4", 4))
FACTORS = ("", "Pb", "Pr", "Pc", "Pm", "Pn")
TIME_LIMIT_S = 1.0  # what forced plans are made of is given; the free ones are corpus cases of another kind


@dataclass(frozen=True, slots=True)
class Case:
    model: str
    cluster: str
    force: str  # "Pr=2"; "" leaves the cuts to the search
    form: str
    sign: str
    granularity: str

    @property
    def key(self) -> str:
        return "/".join((self.model, self.cluster, self.force or "free", self.form, self.sign, self.granularity))

    @property
    def batch(self) -> int:
        """Frames that the model should take at once."""
        return int(self.force[3:]) if self.force.startswith("Pb") else 1


def cases() -> list[Case]:
    """Every model, cluster and factor once; the six number formats in turn, so that each meets every model, every
    cluster and every factor. Four slices instead of two in half the cases with four boards."""
    out = []
    for m, source in enumerate(SOURCES):
        for c, (cluster, boards) in enumerate(CLUSTERS):
            for f, factor in enumerate(FACTORS):
                form, _, sign, grain = PAIRWISE[(m + 2 * c + f) % len(PAIRWISE)]
                count = boards if (m + c + f) % 2 else 2
                force = f"{factor}={count}" if factor else ""
                out.append(Case(source.name, cluster, force, FORMS[form], SIGNS[sign], GRAINS[grain]))
    return out


def run_case(case: Case, digest: str, cache: Path) -> Record:
    """One case in a process of its own; a case that cannot be cut so says why (status infeasible, code, reason)."""
    record: Record = {**asdict(case), "sources": digest}
    source, batch = BY_NAME[case.model], case.batch
    started = time.monotonic()
    try:
        try:
            model = variant(source, case.form, case.sign, case.granularity, cache, batch)
        except NoBatch:
            batch = 1
            model = variant(source, case.form, case.sign, case.granularity, cache)
    except Exception as error:  # the outside quantizer failed: not a result of fvc, but not hidden either
        return {**record, "status": "no model", "reason": repr(error)[:300]}
    prepared = time.monotonic()
    options = {"objective": "latency", "time_limit_s": TIME_LIMIT_S}
    if case.force:
        factor, count = case.force.split("=")
        options |= {"force_split": [[factor, int(count)]]}
    facts = asdict(case) | {"batch": batch, "options": options, "frames": 1, "gate_b": False}
    record |= {"batch": batch, **in_process(["benchmarks.corpus_case", str(model), json.dumps(facts)])}
    return {**record, "prepare_s": round(prepared - started, 1)}


def main() -> int:
    digest = source_digest()
    wanted = {case.key: partial(run_case, case, digest) for case in cases()}
    return run(Table(RESULTS, "fvc.slices/1", PASSED), wanted, digest, (__doc__ or "").splitlines()[0])


if __name__ == "__main__":
    sys.exit(main())
