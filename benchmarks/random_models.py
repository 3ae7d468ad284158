"""Random quantised models the whole way: `python -m benchmarks.random_models` counts and measures.

Each has a net (tests/partition/nets.py), a form, a cluster, an objective and forced factors of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.corpus import source_digest
from benchmarks.loaded import ROOT
from compiler.partition.options import PartitionOptions
from device_db import load_cluster
from device_db.errors import FvcError
from tests.partition.test_random_models import cases
from tests.partition.whole_way import integer_models, run

RESULTS = ROOT / "benchmarks" / "results" / "random_models.json"
ALLOWED = ("FVC213", "FVC215")  # nothing for an engine to do; nothing to cut so
A_SEED = 8  # cases a seed: Hypothesis varies what it has after the first of them


def play(case: Any, out: dict[str, Any]) -> None:
    """One case; adds to the counts and errors. A mismatch or an objection of a judge is an AssertionError."""
    (net, outputs), (qoperator, *how), (devices, topology), objective, split = case
    out["cases"] += 1
    try:
        graph = integer_models(net.qdq_model(outputs, *how))[qoperator]
        told = run(
            graph,
            load_cluster(devices, topology=topology),
            PartitionOptions(objective=objective, force_split=split, time_limit_s=0.1),
        )
    except FvcError as refused:
        out["refused"][refused.code] += 1
        if refused.code not in ALLOWED:
            out["wrong"].append(f"{devices} {objective} {split}: {refused.block()}"[:500])
        return
    except AssertionError as wrong:
        out["wrong"].append(f"{devices} {objective} {split}: {wrong}"[:500])
        return
    out["verified"] += 1
    out["elements"] += told.elements
    for layer in told.plan.layers:
        out["layers_by_strategy"][layer.strategy] += 1
    out["interval"].append(abs(told.predicted_interval_ns / told.interval_ns - 1))
    out["latency"].append(abs(told.predicted_latency_ns / told.latency_ns - 1))


def permille(errors: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest, in per cent."""
    return {
        name: round(100 * float(np.quantile(errors, q)), 2) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--layers", type=int, default=9)
    asked = parser.parse_args()
    out: dict[str, Any] = {"cases": 0, "verified": 0, "elements": 0, "wrong": [], "interval": [], "latency": []}
    out |= {"refused": Counter(), "layers_by_strategy": Counter()}
    started, number, sources = time.process_time(), 0, source_digest()
    while out["cases"] < asked.cases:

        @seed(number)
        @settings(max_examples=A_SEED, deadline=None, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(cases(asked.layers))
        def one(case: Any) -> None:
            play(case, out)

        one()
        number += 1
    document = {
        "schema": "fvc.random-models/1",
        "sources": sources,
        "cpu_s": round(time.process_time() - started),
        **{k: out[k] for k in ("cases", "verified", "elements", "wrong")},
        "refused": dict(sorted(out["refused"].items())),
        "layers_by_strategy": dict(sorted(out["layers_by_strategy"].items())),
        "interval_error_percent": permille(out["interval"]),
        "latency_error_percent": permille(out["latency"]),
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
