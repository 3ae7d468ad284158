"""The compile on one page: an ONNX model and a cluster in, verified binaries and a bundle out.

    model.onnx -> Graph -> Plan (judged) -> programs -> *.fvcb (judged) -> executor against ONNX Runtime -> bundle

Every step takes one immutable object and gives the next; whoever judges a step knows nothing of who did it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.executor.report import VerifyReport
    from compiler.export.accuracy import Accuracy
    from compiler.frontend import ImportOptions
    from compiler.ir.graph import Graph
    from compiler.isa.program import DeviceProgram
    from compiler.partition.finn.read import FoldAsked
    from compiler.partition.measured import Measured
    from device_db.model import Cluster

Progress = Callable[[str, int, int], None]


def _silent(what: str, done: int, total: int) -> None:
    """Reports nothing."""


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """What to compile for and how. `devices` is a SPEC or a cluster file; the rest has the meaning of interface.md."""

    devices: str
    topology: str | None = None
    clock_mhz: float | None = None
    importing: ImportOptions | None = None
    partition: PartitionOptions = field(default_factory=PartitionOptions)
    locked: Path | None = None
    fold_from: Path | None = None
    floorplan_from: Path | None = None
    measured: Path | None = None
    export_finn: bool = False
    verify: bool = True
    frames: int = 4
    evaluate: Path | None = None


@dataclass(frozen=True, slots=True)
class CompileResult:
    """Everything the compile made; `files` is the bundle by relative name, `seconds` the wall time of each step."""

    graph: Graph
    cluster: Cluster
    plan: Plan
    binaries: dict[str, bytes]
    verification: VerifyReport | None
    accuracy: Accuracy | None
    files: dict[str, bytes]
    seconds: dict[str, float]


def compile_model(
    model: Path, options: CompileOptions, *, output: Path | None = None, progress: Progress = _silent
) -> CompileResult:
    """Compiles `model`; writes the bundle to `output`, whole or not at all.

    Raises FvcError: bad input (exit 2), an infeasible problem or a failed judge (exit 1).
    """
    from compiler.bundle import check_target, write_bundle
    from compiler.executor.verify import verify_programs
    from compiler.export.accuracy import evaluate
    from compiler.frontend import ImportOptions, load_model
    from compiler.isa.check import check_programs
    from compiler.isa.container import write_device
    from compiler.judge import programs_of, refuse
    from compiler.partition import partition
    from compiler.partition.check import check_plan
    from compiler.partition.infeasible import check_limits
    from compiler.plan.io import read_plan
    from compiler.schedule import schedule
    from compiler.widths import better, read_for
    from device_db import load_cluster

    step = _Steps(progress)
    options.partition.validate()
    if options.export_finn and options.partition.style == "tiled":
        raise FvcError("FVC201", "--export finn writes out streaming engines", help=("use --style streaming",))
    if output is not None:
        check_target(output)
    cluster = load_cluster(options.devices, topology=options.topology, clock_khz=_khz(options.clock_mhz))

    told_first: list[str] = []
    if options.partition.uniform:
        from compiler.partition.uniform import slowest_clock

        cluster, told_first = slowest_clock(cluster)

    beside = options.fold_from or options.floorplan_from or options.measured  # refused with --locked below
    locked = None if options.locked is None or beside else read_plan(options.locked)
    with step("import"):
        reading = options.importing or ImportOptions()

        def load(wide: bool) -> Graph:
            return load_model(model, replace(reading, wide=wide))

        graph = load(options.partition.style != "tiled") if locked is None else read_for(locked, load)
    accuracy = None
    if options.evaluate is not None:  # needs no plan: data that do not fit are refused before the long steps
        with step("evaluate"):
            accuracy = evaluate(model, graph, options.evaluate, options.importing)
    measured(options.partition.host_ns, graph)
    asked = options.partition
    if options.export_finn and asked.style == "auto":
        asked = replace(asked, style="streaming")
        told_first.append("--export finn writes out streaming engines: --style auto looked at streaming plans alone")
    given, notes = from_files(model, replace(options, partition=asked), graph, cluster)
    notes += told_first
    if options.measured is not None:
        from compiler.partition.measured import with_clocks

        facts = measured_by(model, options, graph, cluster, given.folds)
        asked, given = replace(asked, measured=facts.layers), replace(given, measured=facts.layers)
        given.validate()
        cluster = with_clocks(cluster, facts.clocks_khz)
        notes += [f"--measured: {die} runs at {khz / 1000:g} MHz" for die, khz in facts.clocks_khz.items()]
    with step("partition"):
        if locked is not None:
            plan = same_layers(locked, graph)
        elif given == asked and asked.style == "auto" and graph.wide:
            whole = load(False)
            problem = (whole, lambda: partition(whole, cluster, asked))
            graph, plan, told = better((graph, lambda: partition(graph, cluster, asked)), problem)
            notes.append(told)
        elif given == asked:
            plan = partition(graph, cluster, asked)
        else:
            from compiler.partition.given import improved, sketched

            plan = improved(
                lambda: partition(graph, cluster, given),
                lambda: partition(graph, cluster, asked),
                lambda: sketched(graph, cluster, given),
            )
        notes = [*graph.fallbacks, *notes, *plan.fallbacks, *([] if locked is None else overruled(locked, asked))]
        identity = _identity(model, graph)
        if locked is not None and locked.model.get("integer_sha256") != identity["integer_sha256"]:
            notes.append("--locked: the plan was made for a model of the same layers with other contents")
        plan = replace(plan, model=identity, fallbacks=tuple(dict.fromkeys(notes)))
        refuse(check_plan(plan, graph, cluster), "the plan is not legal")
        check_limits(plan, graph, cluster, asked)
        if options.export_finn:
            from compiler.export.finn import refuse_slices

            refuse_slices(plan)
    with step("schedule"):
        programs = schedule(graph, plan, cluster)
    with step("emit"):
        note = _note(plan)
        binaries = {p.name: write_device(replace(p, note=note)) for p in programs}
        loaded = programs_of(binaries)
    with step("check"):
        refuse(check_programs(loaded), "the static checker refuses the programs")
    verification = None
    if options.verify:
        with step("verify"):
            host = {s.name: s.model for s in graph.host_segments}
            frames = options.frames
            verification = verify_programs(loaded, graph.model, host=host, frames=frames, progress=step.count)
            if not verification.passed:
                raise mismatch(verification)
    with step("write"):
        files = _files(model, graph, cluster, plan, loaded, binaries, verification, accuracy)
        if output is not None:
            write_bundle(output, files)
    return CompileResult(graph, cluster, plan, binaries, verification, accuracy, files, step.seconds)


def _files(
    model: Path,
    graph: Graph,
    cluster: Cluster,
    plan: Plan,
    programs: list[DeviceProgram],
    binaries: dict[str, bytes],
    verification: VerifyReport | None,
    accuracy: Accuracy | None,
) -> dict[str, bytes]:
    """The bundle by relative name; see interface.md for what each file is."""
    from compiler.bundle import manifest
    from compiler.export.report import report
    from compiler.plan.io import canonical_json, write_plan
    from compiler.plan.snapshot import write_cluster

    files = {"plan.json": write_plan(plan).encode(), "model.int.onnx": graph.model}
    files["cluster.json"] = write_cluster(cluster).encode()
    files |= {f"bin/{name}.fvcb": data for name, data in binaries.items()}
    files |= {f"host/{s.name}.onnx": s.model for s in graph.host_segments}
    facts = None if verification is None else verification.as_json()
    if facts is not None:
        files["verify.json"] = canonical_json(facts).encode()
    markdown, page = report(plan, cluster, programs, facts, accuracy)
    files |= {"report.md": markdown.encode(), "report.html": page.encode()}
    if all(e.style == "streaming" for e in plan.engines):
        from compiler.export.finn import finn_files, sliced
        from compiler.export.network import network_files
        from compiler.frontend.origin import finn_front

        if not sliced(plan):
            files |= finn_files(graph, plan, cluster, finn_front(model))
        files |= network_files(graph, plan, cluster, programs)
    return files | {"manifest.json": manifest(files, str(plan.model["sha256"]))}


def from_files(
    model: Path, options: CompileOptions, graph: Graph, cluster: Cluster
) -> tuple[PartitionOptions, list[str]]:
    """The partitioner's options with the folds and places that FINN's files give, and what of them was not taken.

    A place given by --anchor counts more than the floorplan's. Raises FVC201 where such files have no meaning."""
    asked = options.partition
    notes: list[str] = []
    if options.fold_from is None and options.floorplan_from is None:
        return asked, notes
    from compiler.frontend.origin import finn_front
    from compiler.partition.finn.read import anchors_from, folds_from

    name = "--floorplan-from" if options.fold_from is None else "--fold-from"
    if asked.style == "tiled":
        raise FvcError("FVC201", f"{name} is about streaming engines", help=("use --style streaming or auto",))
    if options.locked is not None:
        raise FvcError("FVC201", f"{name} and --locked exclude each other", help=("give one of them",))
    asked = replace(asked, style="streaming")  # what is given is judged as such, the search beside it runs as asked
    front = finn_front(model) or 0
    if options.fold_from is not None:
        folds, told = folds_from(graph, options.fold_from, front)
        asked, notes = replace(asked, folds=folds), [*notes, *told]
    if options.floorplan_from is not None:
        places, told = anchors_from(graph, cluster, options.floorplan_from, front)
        own = {layer for layer, _ in asked.anchors}
        asked = replace(asked, anchors=(*asked.anchors, *(p for p in places if p[0] not in own)))
        notes = [*notes, *told]
    return asked, notes


def measured_by(
    model: Path, options: CompileOptions, graph: Graph, cluster: Cluster, folds: Sequence[FoldAsked]
) -> Measured:
    """What the utilisation report says of this compile. Raises FVC002, FVC201, FVC282."""
    from compiler.frontend.origin import finn_front
    from compiler.partition.finn.read import nodes_from
    from compiler.partition.measured import read_measured, unfolded

    assert options.measured is not None
    if options.locked is not None:
        raise FvcError("FVC201", "--measured and --locked exclude each other", help=("give one of them",))
    front = finn_front(model)
    known = {} if front is None else unfolded(graph, front)
    if options.fold_from is not None and front is not None:
        known = nodes_from(graph, options.fold_from, front)
    return read_measured(options.measured, graph, cluster, folds, known)


def _khz(clock_mhz: float | None) -> int | None:
    """Kilohertz of --clock. Raises FVC512 for what is no number; the device database judges the range."""
    if clock_mhz is None:
        return None
    if not isfinite(clock_mhz):
        raise FvcError("FVC512", f"a clock of {clock_mhz} MHz makes no sense", help=("1 to 2000 MHz",))
    return round(clock_mhz * 1000)


def _identity(model: Path, graph: Graph) -> dict[str, Any]:
    """What plan.json says of the model: its file name and hashes, no path."""
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    return {"name": model.name, "sha256": sha256, "integer_sha256": hashlib.sha256(graph.model).hexdigest()}


def _note(plan: Plan) -> dict[str, object]:
    """What every binary says of where it comes from."""
    from compiler.bundle import versions

    facts = {"model_name": plan.model["name"], "model_sha256": plan.model["sha256"], "versions": versions()}
    return facts | {"seed": plan.solver.seed, "solver": plan.solver.status, "gap": plan.solver.gap}


def same_layers(plan: Plan, graph: Graph) -> Plan:
    """The locked plan, if it is a plan of this model's layers. Raises FVC281."""
    planned, found = {x.name for x in plan.layers}, {n.name for n in graph.nodes}
    if planned != found:
        lacks = [f"only in the plan: {n}" for n in sorted(planned - found)[:3]]
        lacks += [f"only in the model: {n}" for n in sorted(found - planned)[:3]]
        raise FvcError(
            "FVC281",
            "the locked plan has other layers than the model",
            where=tuple(lacks),
            help=("compile without --locked, or take the plan of this model",),
        )
    return plan


def measured(host_ns: dict[str, int], graph: Graph) -> None:
    """Raises FVC007 if a measured time is of a host segment that the model has not."""
    known = [s.name for s in graph.host_segments]
    strange = sorted(set(host_ns) - set(known))
    if strange:
        raise FvcError(
            "FVC007",
            f"the host profile times '{strange[0]}', which is no host segment of the model",
            where=tuple(f"{s.name}: {s.reason}" for s in graph.host_segments),
            help=(f"the model's segments are {', '.join(known)}" if known else "the model has no host segments",),
        )


def overruled(locked: Plan, asked: PartitionOptions) -> list[str]:
    """One sentence for every option that was asked for and that the locked plan does not follow.

    Limits (--target-fps, --max-latency-ms) are not among them: the locked plan is held to them. How long and with how
    many threads to solve means nothing where nothing is solved.
    """
    wanted, usual = asked.as_json(), PartitionOptions().as_json()
    silent = {"target_fps_milli", "max_latency_ms_milli", "time_limit_s_milli", "workers"}
    return [
        f"--locked: the plan was made with {key} = {locked.options.get(key)!r}; {value!r} is ignored"
        for key, value in wanted.items()
        if key not in silent and value != usual.get(key) and value != locked.options.get(key)
    ]


def mismatch(found: VerifyReport) -> FvcError:
    """The binaries do not compute the model's integers: a defect of the compiler, told as a failed verification."""
    return FvcError(
        "FVC410",
        f"{found.mismatches:,} mismatches with ONNX Runtime on the integer model",
        where=tuple(f"{t.tensor}: {t.failure()}" for t in found.failures()[:3]),
        help=("this is a defect of fvc: please report it with the model; nothing was written",),
        exit_code=1,
    )


class _Steps:
    """Names the steps of a compile, counts progress inside one, and takes the wall time of each."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._name = ""

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._name = name
        self._progress(name, 0, 0)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start

    def count(self, done: int, total: int) -> None:
        """Progress inside the current step."""
        self._progress(self._name, done, total)
