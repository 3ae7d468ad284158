"""`fvc partition`: the main job. Turns options into records of the rooms below and prints what came out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import ConfigOption, Format, FormatOption, ModelArgument
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.frontend import ImportOptions


LONGEST_NS = 10**12  # of a host segment; times are also kept in picoseconds, in 64 bits


class Style(StrEnum):
    auto = "auto"
    tiled = "tiled"
    streaming = "streaming"


class Objective(StrEnum):
    throughput = "throughput"
    latency = "latency"


class Topology(StrEnum):
    chain = "chain"
    ring = "ring"
    mesh = "mesh"
    torus = "torus"
    switch = "switch"


class Xfer(StrEnum):
    auto = "auto"
    always = "always"
    never = "never"


class Memory(StrEnum):
    auto = "auto"
    bram = "bram"
    uram = "uram"
    external = "external"


class Export(StrEnum):
    finn = "finn"


class Activations(StrEnum):
    u8 = "u8"
    s8 = "s8"


ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1,3,224,224", help="Static shape of a dynamic input; may be repeated."),
]
CalibrateOption = Annotated[
    Path | None,
    typer.Option("--calibrate", metavar="FILE.npz", help="Samples of the inputs, to quantize a float model by."),
]
ActivationsOption = Annotated[
    Activations, typer.Option("--activations", help="8-bit type when a float model is quantized.")
]
PerChannelOption = Annotated[
    bool, typer.Option("--per-channel/--per-tensor", help="Weight scales when a float model is quantized.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of the solver and of all random data.")]


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "partition",
        short_help="The main job: model and devices in, verified binaries out",
        help="Partition a model over devices: import, partition, schedule, emit, verify, report.",
    )(partition)


def partition(
    context: typer.Context,
    model: ModelArgument,
    devices: Annotated[
        str, typer.Option("--devices", "-d", metavar="SPEC", help="u280, u280x4, u280x2+u250x1 or a cluster file.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="The bundle [default: MODEL.bundle].")
    ] = None,
    style: Annotated[Style, typer.Option("--style", help="Style of the engines; auto: the best of all.")] = Style.tiled,
    objective: Annotated[Objective, typer.Option("--objective", help="What to optimise first.")] = Objective.throughput,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Samples that come as one frame.")] = 1,
    clock: Annotated[
        float | None, typer.Option("--clock", metavar="MHZ", min=1, help="Kernel clock of every die.")
    ] = None,
    topology: Annotated[Topology | None, typer.Option("--topology", help="How the devices are wired.")] = None,
    shape: ShapeOption = None,
    calibrate: CalibrateOption = None,
    activations: ActivationsOption = Activations.u8,
    per_channel: PerChannelOption = True,
    time_limit: Annotated[float, typer.Option("--time-limit", metavar="S", help="Solver time.")] = 20.0,
    seed: SeedOption = 0,
    cores: Annotated[
        int | None, typer.Option("--cores", metavar="N", min=1, help="Engines a device [default: one a die].")
    ] = None,
    force_split: Annotated[
        list[str] | None,
        typer.Option(
            "--force-split", metavar="Pr=2,Pm=2", help="Split every layer that allows it by Pb, Pr, Pc, Pm, Pn."
        ),
    ] = None,
    memory: Annotated[Memory, typer.Option("--memory", help="Where weights live.")] = Memory.auto,
    xfer: Annotated[
        Xfer,
        typer.Option(
            "--xfer", help="Slices with equal weights, or equal inputs, load a share each and pass it on (latency)."
        ),
    ] = Xfer.auto,
    uniform: Annotated[
        bool, typer.Option("--uniform", help="One engine for the whole cluster: one bitstream, one Tm x Tn.")
    ] = False,
    interval: Annotated[
        int | None, typer.Option("--interval", metavar="CYCLES", min=1, help="Give up speed for area.")
    ] = None,
    anchor: Annotated[
        list[str] | None, typer.Option("--anchor", metavar="LAYER=u280-0/SLR1", help="Fix a layer to a die.")
    ] = None,
    fold_from: Annotated[
        Path | None, typer.Option("--fold-from", metavar="FILE", help="Judge FINN's folding (JSON), improve it.")
    ] = None,
    floorplan_from: Annotated[
        Path | None, typer.Option("--floorplan-from", metavar="FILE", help="Judge FINN's floorplan (JSON), improve it.")
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured", metavar="report.csv", help="Resources and clocks as synthesised, for the estimates."
        ),
    ] = None,
    export: Annotated[
        Export | None,
        typer.Option("--export", help="Files for FINN and Vitis; streaming bundles have them in any case."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, help="Solver threads; above 1 plans may differ.")
    ] = 1,
    locked: Annotated[
        Path | None, typer.Option("--locked", metavar="plan.json", help="Use this plan instead of solving.")
    ] = None,
    replicas: Annotated[str, typer.Option("--replicas", metavar="N|auto", help="Copies of the whole pipeline.")] = "1",
    target_fps: Annotated[
        float | None, typer.Option("--target-fps", metavar="F", help="Frames a second to reach.")
    ] = None,
    max_latency_ms: Annotated[
        float | None, typer.Option("--max-latency-ms", metavar="MS", help="Latency not to exceed.")
    ] = None,
    min_devices: Annotated[bool, typer.Option("--min-devices", help="Fewest devices that meet the demands.")] = False,
    host_profile: Annotated[
        Path | None, typer.Option("--host-profile", metavar="FILE", help="Measured times of host segments.")
    ] = None,
    evaluate: Annotated[
        Path | None, typer.Option("--eval", metavar="DATA.npz", help="Accuracy before and after.")
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", metavar="N", min=1, help="Inputs to verify with, in flight together.")
    ] = 4,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not run the binaries.")] = False,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Compiles, verifies and writes a bundle."""
    from cli.show import output as out
    from cli.show.progress import progress
    from cli.show.result import as_json, as_text
    from compiler.partition.options import PartitionOptions
    from compiler.pipeline import CompileOptions, compile_model

    options = CompileOptions(
        devices=devices,
        topology=None if topology is None else topology.value,
        clock_mhz=clock,
        importing=import_options(shape, calibrate, activations, per_channel, seed, batch),
        partition=PartitionOptions(
            objective=objective.value,
            style=style.value,
            replicas=_replicas(replicas),
            cores=cores,
            anchors=_anchors(anchor or []),
            force_split=tuple(
                (k, _whole("--force-split", v))
                for k, v in (_pair("--force-split", part) for s in force_split or () for part in s.split(","))
            ),
            memory=memory.value,
            target_fps=target_fps,
            max_latency_ms=max_latency_ms,
            min_devices=min_devices,
            interval=interval,
            xfer=xfer.value,
            uniform=uniform,
            seed=seed,
            workers=workers,
            time_limit_s=time_limit,
            host_ns=_host_profile(host_profile),
        ),
        locked=locked,
        fold_from=fold_from,
        floorplan_from=floorplan_from,
        measured=measured,
        export_finn=export is Export.finn,
        verify=not no_verify,
        frames=frames,
        evaluate=evaluate,
    )
    target = output or Path(f"{model.stem}.bundle")
    with progress() as report:
        result = compile_model(model, options, output=target, progress=report)
    for fallback in result.plan.fallbacks:
        out.warning(fallback)
    if format is Format.json:
        out.document("fvc.partition/1", as_json(result, target))
    else:
        out.text(as_text(result, target))
    out.message(", ".join(f"{step} {seconds:.1f} s" for step, seconds in result.seconds.items()))
    return 0


def import_options(
    shape: list[str] | None,
    calibrate: Path | None,
    activations: Activations,
    per_channel: bool,
    seed: int,
    batch: int = 1,
) -> ImportOptions:
    """The options of the frontend from their texts. Raises FVC001."""
    from compiler.frontend import ImportOptions

    shapes = {}
    for text in shape or ():
        name, sizes = _pair("--shape", text)
        shapes[name] = tuple(_whole("--shape", s) for s in sizes.split(","))
    return ImportOptions(
        shapes=shapes,
        batch=batch,
        calibrate=calibrate,
        activations=activations.value,
        per_channel=per_channel,
        seed=seed,
    )


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name or not value:
        raise FvcError("FVC001", f"{option} '{text}' is not NAME=VALUE", help=("fvc partition --help",))
    return name, value


def _anchors(texts: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [_pair("--anchor", t) for t in texts]
    for k, (layer, place) in enumerate(pairs):
        if any(one == layer and other != place for one, other in pairs[:k]):
            raise FvcError("FVC001", f"--anchor fixes '{layer}' to two places", help=("fvc partition --help",))
    return tuple(pairs)


def _whole(option: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise FvcError("FVC001", f"{option}: '{text}' is not a number of 1 or more", help=("fvc partition --help",))
    return value


def _replicas(text: str) -> int:
    return 0 if text == "auto" else _whole("--replicas", text)


def _host_profile(path: Path | None) -> dict[str, int]:
    """Segment name -> nanoseconds a frame, from a JSON file {"schema": "fvc.host-profile/1", "segments_ns": {…}}."""
    if path is None:
        return {}
    from device_db.document import loads

    try:
        content = loads(path.read_text("utf-8"))
    except OSError as problem:
        raise FvcError("FVC002", f"cannot read the host profile: {problem.strerror}", where=(str(path),)) from None
    except ValueError as problem:
        raise FvcError("FVC007", f"the host profile is not JSON: {problem}", where=(str(path),)) from None
    times = content.get("segments_ns") if isinstance(content, dict) else None
    if not isinstance(times, dict) or not all(type(v) is int and 0 <= v <= LONGEST_NS for v in times.values()):
        help = '{"schema": "fvc.host-profile/1", "segments_ns": {"host0": 120000}} is what it looks like'
        raise FvcError(
            "FVC007",
            f"the host profile has no whole nanoseconds up to {LONGEST_NS} in segments_ns",
            where=(str(path),),
            help=(help,),
        )
    return dict(times)
