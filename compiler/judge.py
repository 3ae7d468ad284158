"""The judges over a bundle on disk: verify, run, check, simulate. Each reads only what it needs of the folder.

`run` needs bin/ and host/ alone: the binaries carry everything. The others take every file through its hash.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.bundle import MANIFEST, Bundle, check_bundle, open_bundle, write_file
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.executor.report import VerifyReport
    from compiler.isa.program import DeviceProgram

Progress = Callable[[str, int, int], None]


def programs_of(binaries: dict[str, bytes]) -> list[DeviceProgram]:
    """The programs of all devices, in rank order. Raises FVC3xx on a damaged binary."""
    from compiler.isa.container import read_device

    programs = []
    for name, data in binaries.items():
        try:
            programs.append(read_device(data))
        except FvcError as problem:
            raise FvcError(
                problem.code,
                problem.what,
                where=(f"bin/{name}.fvcb", *problem.where),
                help=problem.help,
                exit_code=problem.exit_code,
            ) from None
    return sorted(programs, key=lambda p: min((c.rank for c in p.cores), default=0))


def verify_bundle(bundle: Bundle, *, inputs: Path | None, frames: int, progress: Progress) -> VerifyReport:
    """Runs the binaries and compares every tensor with ONNX Runtime on the bundle's integer model."""
    from compiler.executor.reference import Reference
    from compiler.executor.verify import verify_programs
    from compiler.ir.samples import load_samples

    model = bundle.read("model.int.onnx")
    samples = None
    if inputs is not None:
        specs = {name: (dtype.name, shape) for name, (dtype, shape) in Reference(model).inputs.items()}
        samples = load_samples(inputs, specs)
    return verify_programs(
        programs_of(bundle.binaries()),
        model,
        host=bundle.host(),
        inputs=samples,
        frames=frames,
        progress=lambda done, total: progress("verify", done, total),
    )


def run_bundle(folder: Path, inputs: Path, output: Path) -> dict[str, Any]:
    """Runs every frame of `inputs`; writes each graph output, stacked over the frames, to `output` (.npz).

    Checks the hashes of what it reads if the manifest is there; needs only bin/ and host/.
    """
    import io

    import numpy as np

    from compiler.executor import run

    if not folder.is_dir():
        raise FvcError("FVC002", "there is no such folder", where=(str(folder),), help=("name a bundle",))
    if (folder / MANIFEST).is_file():
        bundle = open_bundle(folder)
        bundle.binaries()
        bundle.host()
    arrays = run.run_bundle(folder, inputs)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    write_file(output, buffer.getvalue())
    return {"output": output.name, "outputs": {n: list(a.shape) for n, a in arrays.items()}}


def check_all(bundle: Bundle) -> tuple[list[str], list[FvcError]]:
    """What was checked, and every finding: hashes first, then the programs, then the plan against its own cluster."""
    from compiler.isa.check import check_programs

    findings = check_bundle(bundle)
    checked = ["hashes"]
    if findings:
        return checked, findings
    try:
        programs = programs_of(bundle.binaries())
    except FvcError as problem:
        return [*checked, "binaries"], [problem]
    findings = [as_error(f) for f in check_programs(programs)]
    findings += _check_plan(bundle)
    return [*checked, "binaries", "plan"], findings


def _check_plan(bundle: Bundle) -> list[FvcError]:
    import tempfile

    from compiler.frontend import ImportOptions, load_model
    from compiler.partition.check import check_plan
    from compiler.plan.io import parse_plan
    from compiler.plan.model import Plan

    plan: Plan = parse_plan(bundle.read("plan.json").decode("utf-8", "replace"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.int.onnx"
        path.write_bytes(bundle.read("model.int.onnx"))
        graph = load_model(path, ImportOptions())
    return [as_error(f) for f in check_plan(plan, graph, cluster_of(plan.cluster))]


def cluster_of(facts: dict[str, Any]) -> Any:
    """The cluster that a plan was made for, from what the plan says of it."""
    from device_db import load_cluster

    clock = facts.get("clock_khz")
    return load_cluster(str(facts.get("spec", "")), topology=facts.get("topology"), clock_khz=clock)


def as_error(finding: Any) -> FvcError:
    """A judge's finding as an error block with exit code 1."""
    if isinstance(finding, FvcError):
        return finding
    where = finding.where if isinstance(finding.where, tuple) else (str(finding.where),)
    return FvcError(finding.code, finding.what, where=where, help=tuple(getattr(finding, "help", ())), exit_code=1)


def refuse(findings: list[Any], what: str) -> None:
    """Raises the first finding, with the number of the others, if there are any."""
    if not findings:
        return
    first = as_error(findings[0])
    more = (f"and {len(findings) - 1} more findings",) if len(findings) > 1 else ()
    raise FvcError(first.code, f"{what}: {first.what}", where=(*first.where, *more), help=first.help, exit_code=1)


def simulate_bundle(bundle: Bundle, *, frames: int | None, trace: Path | None) -> dict[str, Any]:
    """Simulated figures, beside what the plan predicts; writes a Perfetto trace if asked."""
    from compiler.plan.io import parse_plan
    from compiler.simulator import simulate

    found = simulate(programs_of(bundle.binaries()), **({} if frames is None else {"frames": frames}))
    if trace is not None:
        write_file(trace, found.trace())
    plan = parse_plan(bundle.read("plan.json").decode("utf-8", "replace"))
    predicted = {k: plan.predicted.get(k) for k in ("interval_ns", "latency_ns")}
    result: dict[str, Any] = found.as_json()
    return result | {"predicted": predicted}
