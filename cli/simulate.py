"""`fvc simulate`: event-driven timing of a bundle's binaries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import BundleArgument, ConfigOption, Format, FormatOption


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "simulate",
        short_help="Time the binaries: interval, latency, stalls, a trace",
        help="Play the binaries' timing: interval, latency, stalls by cause, a Perfetto trace.",
    )(simulate)


def simulate(
    directory: BundleArgument,
    frames: Annotated[
        int | None, typer.Option("--frames", metavar="N", min=1, help="Frames to play [default: until steady].")
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Write a trace for ui.perfetto.dev.")
    ] = None,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Prints the simulated figures beside the predicted ones."""
    from cli.show import output
    from cli.show.result import simulation_text
    from compiler.bundle import open_bundle
    from compiler.judge import simulate_bundle

    found = simulate_bundle(open_bundle(directory), frames=frames, trace=trace)
    if format is Format.json:
        output.document(found["schema"], found)
    else:
        output.text(simulation_text(found))
    return 0
