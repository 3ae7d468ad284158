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
    from device_db.model import Cluster

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
    return sorted(programs, key=lambda p: min(p.ranks, default=0))


def verify_bundle(bundle: Bundle, *, inputs: Path | None, frames: int, progress: Progress) -> VerifyReport:
    """Runs the binaries and compares every tensor with ONNX Runtime on the bundle's integer model."""
    from compiler.executor.verify import verify_programs

    return verify_programs(
        programs_of(bundle.binaries()),
        bundle.read("model.int.onnx"),
        bundle.host(),
        samples=inputs,
        frames=frames,
        progress=lambda done, total: progress("verify", done, total),
    )


def run_bundle(folder: Path, inputs: Path, output: Path) -> dict[str, Any]:
    """Runs every frame of `inputs`; writes each graph output, joined over the frames, to `output` (.npz).

    Needs bin/ and host/ alone; checks the hashes of what it reads if the manifest is there.
    """
    from compiler.executor.run import input_specs, run_programs
    from compiler.ir.samples import join, load_samples, npz_bytes

    binaries, host = _runnable(folder)
    programs = programs_of(binaries)
    frames = load_samples(inputs, input_specs(programs, host))
    results = run_programs(programs, host, frames)
    arrays: dict[str, Any] = {name: join([r[name] for r in results]) for name in results[0]}
    write_file(output, npz_bytes(arrays))
    return {"frames": len(frames), "output": output.name, "outputs": {n: list(a.shape) for n, a in arrays.items()}}


def _runnable(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Binaries and host segments of a folder, through the manifest where there is one."""
    if not folder.is_dir():
        raise FvcError("FVC002", "there is no such folder", where=(str(folder),), help=("name a bundle",))
    if (folder / MANIFEST).is_file():
        bundle = open_bundle(folder)
        binaries, host = bundle.binaries(), bundle.host()
    else:
        binaries = {p.stem: p.read_bytes() for p in sorted(folder.glob("bin/*.fvcb"))}
        host = {p.stem: p.read_bytes() for p in sorted(folder.glob("host/*.onnx"))}
    if not binaries:
        raise FvcError("FVC380", "the folder has no binaries", where=(str(folder / "bin"),), help=("name a bundle",))
    return binaries, host


def sound_host(host: dict[str, bytes]) -> dict[str, bytes]:
    """The host segments, each parsed once. Raises FVC408."""
    import onnx

    for name, data in host.items():
        try:
            onnx.load_model_from_string(data)
        except Exception:
            raise FvcError("FVC408", "a host segment is no ONNX model", where=(f"host/{name}.onnx",)) from None
    return host


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
    try:
        findings += [as_error(f) for f in _check_plan(bundle, programs)]
    except FvcError as problem:  # a plan, model or cluster that cannot be read is a finding like any other
        findings.append(problem)
    return [*checked, "binaries", "plan"], findings


def _check_plan(bundle: Bundle, programs: list[DeviceProgram]) -> list[Any]:
    """The plan and the links of the binaries against the bundle's own cluster."""
    import tempfile

    from compiler.frontend import ImportOptions, load_model
    from compiler.partition.check import check_plan
    from compiler.plan.io import parse_plan
    from compiler.plan.snapshot import parse_cluster
    from compiler.widths import read_for

    plan = parse_plan(bundle.read("plan.json").decode("utf-8", "replace"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.int.onnx"
        path.write_bytes(bundle.read("model.int.onnx"))
        graph = read_for(plan, lambda wide: load_model(path, ImportOptions(wide=wide)))
    cluster = parse_cluster(bundle.read("cluster.json").decode("utf-8", "replace"))
    return [*check_plan(plan, graph, cluster), *_check_links(programs, cluster, bool(plan.regions))]


def _check_links(programs: list[DeviceProgram], cluster: Cluster, mixed: bool) -> list[FvcError]:
    """FVC331 for a link that is not as the cluster has it.

    Between netlists alone a network link has what its packets leave; the messages of cores and of a mixed plan's
    bridges are timed on the line."""
    from cost_models.network import payload_rate
    from device_db.topology import link_specs, transport

    known = link_specs(cluster)
    streams = {
        k: (payload_rate(rate), ns) if transport(k) == "Ethernet" else (rate, ns) for k, (rate, ns) in known.items()
    }
    return [
        FvcError(
            "FVC331",
            f"link {link.id} has {link.bits_per_second} bit/s and {link.latency_ns} ns, in the cluster "
            f"{'{} bit/s and {} ns'.format(*specs[link.id]) if link.id in specs else 'there is none'}",
            where=(p.name,),
            exit_code=1,
        )
        for p in programs
        for specs in (known if mixed or p.fabric is None else streams,)
        for link in p.links
        if specs.get(link.id) != (link.bits_per_second, link.latency_ns)
    ]


def as_error(finding: Any) -> FvcError:
    """A judge's finding as an error block with exit code 1."""
    if isinstance(finding, FvcError):
        return finding
    where = finding.where if isinstance(finding.where, tuple) else (str(finding.where),)
    return FvcError(finding.code, finding.what, where=where, help=tuple(getattr(finding, "help", ())), exit_code=1)


def refuse(findings: list[Any], what: str) -> None:
    """Raises the first finding that is an error, with the number of the others, if there are any."""
    errors = [f for f in findings if getattr(f, "severity", "error") == "error"]
    if not errors:
        return
    first = as_error(errors[0])
    more = (f"and {len(errors) - 1} more findings",) if len(errors) > 1 else ()
    raise FvcError(first.code, f"{what}: {first.what}", where=(*first.where, *more), help=first.help, exit_code=1)


def simulate_bundle(bundle: Bundle, *, frames: int | None, trace: Path | None) -> dict[str, Any]:
    """Simulated figures, beside what the plan predicts; writes a Perfetto trace if asked.

    Host segments take the times that the plan has for them.
    """
    from compiler import simulator
    from compiler.plan.io import parse_plan

    programs = programs_of(bundle.binaries())
    plan = parse_plan(bundle.read("plan.json").decode("utf-8", "replace"))
    host = simulator.host_tasks(sound_host(bundle.host()), {s.name: s.time_ns for s in plan.host_segments})
    found = simulator.simulate(programs, frames, host)
    if trace is not None:
        write_file(trace, simulator.trace(programs, frames, host).encode())
    predicted = {k: plan.predicted.get(k) for k in ("interval_ns", "latency_ns")}
    return {**found.as_json(), "predicted": predicted}
