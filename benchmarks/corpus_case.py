"""One corpus case in this process: compile, verify every tensor, simulate; prints one JSON line with the figures.

`python -m benchmarks.corpus_case MODEL '{"cluster": …}'`; called by benchmarks.corpus so that memory is the case's own.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks import loaded
from benchmarks.sources import BY_NAME
from compiler.frontend import ImportOptions, load_model
from compiler.partition.options import PartitionOptions
from compiler.pipeline import CompileOptions, CompileResult, compile_model
from device_db import load_cluster
from device_db.errors import FvcError


def compile_case(model: Path, case: dict[str, Any], output: Path, frames: int) -> CompileResult:
    """The main job as `fvc partition` does it; the variant's number format only matters to a float model.

    case: `options` are those of PartitionOptions; a `batch` other than 1 is in the file already; `host_segment_ns` is
    what each host segment takes."""
    source = BY_NAME[case["model"]]
    shaped = source.shape and case["form"] == "float" and case.get("batch", 1) == 1
    importing = ImportOptions(
        shapes={source.input: source.shape} if shaped else {},
        activations=case["sign"],
        per_channel=case["granularity"] == "channel",
    )
    asked: dict[str, Any] = {"time_limit_s": 10.0} | case.get("options", {})
    asked["force_split"] = tuple((factor, count) for factor, count in asked.get("force_split", ()))
    if "host_segment_ns" in case:
        names = [s.name for s in load_model(model, importing).host_segments]
        asked["host_ns"] = dict.fromkeys(names, case["host_segment_ns"])
    partition = PartitionOptions(**asked)
    options = CompileOptions(devices=case["cluster"], importing=importing, partition=partition, frames=frames)
    return compile_model(model, options, output=output)


def prediction(result: CompileResult) -> dict[str, Any]:
    """Predicted over simulated: interval, latency, and the 95th percentile of the deviation of layers on tiled engines
    (in the steady state and in one frame through the empty machine)."""
    from compiler.isa import read_device
    from compiler.simulator import host_tasks, simulate

    programs = [read_device(data) for data in result.binaries.values()]
    host = {PurePosixPath(name).stem: data for name, data in result.files.items() if name.startswith("host/")}
    profile = result.plan.options.get("host_ns")
    simulated = simulate(programs, host=host_tasks(host, profile) if host else ())
    predicted = result.plan.predicted
    clocks = {e.id: e.parameters["clock_khz"] for e in result.plan.engines}
    tasks = predicted.get("tasks", {})

    def deviation(kind: str) -> float:
        off = []
        for t in simulated.tasks:
            seen = getattr(t, f"{kind}_ps") if t.task in tasks else 0
            if seen:
                off.append(abs(tasks[t.task][f"{kind}_cycles"] * 10**9 / clocks[t.engine] / seen - 1))
        return round(sorted(off)[int(0.95 * (len(off) - 1))], 4) if off else 0.0

    return {
        "interval_ns": predicted["interval_ns"],
        "interval_ratio": round(predicted["interval_ns"] / simulated.interval_ns, 4),
        "latency_ratio": round(predicted["latency_ns"] / simulated.latency_ns, 4),
        "layer_deviation_p95": deviation("steady"),
        "layer_latency_deviation_p95": deviation("latency"),
        "fps": predicted["fps"],
        "limiting": predicted.get("limiting", {}).get("kind"),
    }


def raw_groups(model: Path, result: CompileResult) -> dict[str, Any]:
    """Gate B on a QDQ model: its groups in raw float beside the integers, on one seeded frame."""
    import numpy as np

    from compiler.executor.groups import gate_b
    from compiler.executor.reference import Reference

    rng = np.random.default_rng(11)
    inputs = Reference(result.graph.model).inputs
    frame = {n: rng.uniform(-1, 1, shape).astype(dtype) for n, (dtype, shape) in inputs.items()}
    gate = gate_b(model.read_bytes(), result.graph.model, [frame])
    return {**gate.as_json(), "unmatched": len(gate.unmatched)}


def played(model: Path, case: dict[str, Any]) -> dict[str, Any]:
    """The record of one case. A refusal is a record too."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = compile_case(model, case, Path(folder) / "bundle", case.get("frames", 3))
        except FvcError as error:
            status = "infeasible" if error.code.startswith("FVC2") and error.exit_code == 1 else "failed"
            return {"status": status, "code": error.code, "reason": error.block()[:600]}
    report = result.verification
    assert report is not None
    solver = result.plan.solver
    record = {
        "status": "verified" if report.passed else "failed",
        "frames": report.frames,
        "tensors": len(report.tensors),
        "elements": report.elements,
        "mismatches": report.mismatches,
        "solver": solver.status,
        "gap": round(solver.gap, 4),
        "host_segments": len(result.plan.host_segments),
        "layers": dict(sorted(Counter(x.strategy for x in result.plan.layers).items())),
        "shared_layers": sum(bool(x.xfer) for x in result.plan.layers),
        "seconds": {step: round(s, 2) for step, s in result.seconds.items()},
        **prediction(result),
    }
    if case["form"] == "qdq" and case.get("gate_b", True):
        record["gate_b"] = raw_groups(model, result)
    return record


def main() -> int:
    loaded.watch()
    model, case = Path(sys.argv[1]), json.loads(sys.argv[2])
    record = played(model, case)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    record |= {"peak_mib": usage.ru_maxrss // 1024, "cpu_s": round(usage.ru_utime + usage.ru_stime, 1)}
    files = loaded.used({device.board.name for device in load_cluster(case["cluster"]).devices})
    if not loaded.changed_since_start(files):
        record |= {"files": files, "content": loaded.digest(files)}
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main())
