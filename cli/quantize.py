"""`fvc quantize`: the canonical integer model alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import ConfigOption, Format, FormatOption, ModelArgument
from cli.partition import (
    Activations,
    ActivationsOption,
    CalibrateOption,
    PerChannelOption,
    SeedOption,
    ShapeOption,
    import_options,
)


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "quantize",
        short_help="Turn a model into its canonical integer model",
        help="Turn a model into its canonical integer model.",
    )(quantize)


def quantize(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The integer model.")],
    shape: ShapeOption = None,
    calibrate: CalibrateOption = None,
    activations: ActivationsOption = Activations.u8,
    per_channel: PerChannelOption = True,
    seed: SeedOption = 0,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Writes FILE, whole or not at all."""
    from cli.show import output as out
    from compiler.bundle import write_file
    from compiler.frontend import load_model

    graph = load_model(model, import_options(shape, calibrate, activations, per_channel, seed))
    write_file(output, graph.model)
    segments = [{"name": s.name, "nodes": list(s.nodes), "reason": s.reason} for s in graph.host_segments]
    if format is Format.json:
        out.document(
            "fvc.quantize/1", {"output": output.name, "integer_nodes": len(graph.nodes), "host_segments": segments}
        )
    else:
        out.text(f"{output}: {len(graph.nodes)} integer nodes, {len(segments)} host segments")
        for segment in graph.host_segments:
            out.text(f"  {segment.name}: {len(segment.nodes)} nodes, because {segment.reason}")
    return 0
