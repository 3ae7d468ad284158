"""`fvc run`: runs the binaries and host segments of a bundle on given inputs; needs only bin/ and host/ of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import BundleArgument, ConfigOption, Format, FormatOption


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "run",
        short_help="Run the binaries on inputs and write the outputs",
        help="Run the binaries on inputs and write every graph output under its ONNX name.",
    )(run)


def run(
    directory: BundleArgument,
    input: Annotated[
        Path,
        typer.Option("--input", "-i", metavar="FILE.npz", help="Arrays by graph input; frames along the first axis."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.npz", help="Where the outputs go.")],
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Writes OUT.npz, whole or not at all."""
    from cli.show import output as out
    from compiler.judge import run_bundle

    summary = run_bundle(directory, input, output)
    if format is Format.json:
        out.document("fvc.run/1", summary)
    else:
        shapes = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in summary["outputs"].items())
        out.text(f"{output}: {shapes}")
    return 0
