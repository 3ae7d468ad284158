"""`fvc verify`: runs a bundle's binaries in the machine executor and compares every tensor with ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import BundleArgument, ConfigOption, Format, FormatOption


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "verify",
        short_help="Compare every tensor of the binaries with ONNX Runtime",
        help="Run the binaries and compare every intermediate tensor with ONNX Runtime.",
    )(verify)


def verify(
    directory: BundleArgument,
    input: Annotated[
        Path | None, typer.Option("--input", metavar="FILE.npz", help="Inputs to compare on [default: made ones].")
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, help="Inputs in flight together.")] = 4,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write the result as JUnit XML.")
    ] = None,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Exit code 0 if every element of every tensor is equal, else 1."""
    from cli.show import output
    from cli.show.progress import progress
    from compiler.bundle import open_bundle, write_file
    from compiler.judge import verify_bundle

    bundle = open_bundle(directory)
    with progress() as report:
        found = verify_bundle(bundle, inputs=input, frames=frames, progress=report)
    if junit is not None:
        write_file(junit, found.junit().encode())
    if format is Format.json:
        output.document("fvc.verify/1", found.as_json())
    else:
        output.text(found.text())
    return 0 if found.passed else 1
