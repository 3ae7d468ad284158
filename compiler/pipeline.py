"""The compile on one page: an ONNX model and a cluster in, verified binaries and a bundle out.

    model.onnx -> Graph -> Plan (judged) -> programs -> *.fvcb (judged) -> executor against ONNX Runtime -> bundle

Every step takes one immutable object and gives the next; whoever judges a step knows nothing of who did it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.executor.verify import VerifyReport
    from compiler.export.accuracy import Accuracy
    from compiler.frontend import ImportOptions
    from compiler.ir.graph import Graph
    from compiler.isa.program import DeviceProgram
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
    from compiler.bundle import bundle_files, check_target, write_bundle
    from compiler.executor.verify import verify_programs
    from compiler.export.accuracy import evaluate
    from compiler.frontend import ImportOptions, load_model
    from compiler.isa.check import check_programs
    from compiler.isa.container import read_device, write_device
    from compiler.partition import partition
    from compiler.partition.check import check_plan
    from compiler.plan.io import read_plan
    from compiler.schedule import schedule
    from device_db import load_cluster

    clock = _Clock(progress)
    if output is not None:
        check_target(output)
    clock_khz = None if options.clock_mhz is None else round(options.clock_mhz * 1000)
    cluster = load_cluster(options.devices, topology=options.topology, clock_khz=clock_khz)

    with clock("import"):
        graph = load_model(model, options.importing or ImportOptions())
    with clock("partition"):
        plan = read_plan(options.locked) if options.locked else partition(graph, cluster, options.partition)
        plan = replace(plan, model=_identity(model, graph))
        refuse(check_plan(plan, graph, cluster), locked=options.locked is not None)
    with clock("schedule"):
        programs = schedule(graph, plan, cluster)
    with clock("emit"):
        note = _note(plan)
        binaries = {p.name: write_device(_with_note(p, note)) for p in programs}
        loaded = [read_device(b) for b in binaries.values()]
    with clock("check"):
        refuse(check_programs(loaded))
    verification = None
    if options.verify:
        with clock("verify"):
            verification = verify_programs(
                loaded, graph, frames=options.frames, progress=lambda done, total: progress("verify", done, total)
            )
    accuracy = None
    if options.evaluate is not None:
        with clock("evaluate"):
            accuracy = evaluate(model, graph, options.evaluate)
    with clock("report"):
        files = bundle_files(graph, cluster, plan, binaries, verification, accuracy)
    if output is not None and (verification is None or verification.mismatches == 0):
        with clock("write"):
            write_bundle(output, files, plan, cluster)
    return CompileResult(graph, cluster, plan, binaries, verification, accuracy, files, clock.seconds)
