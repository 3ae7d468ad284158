"""`fvc zoo`: well-known architectures with seeded weights, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import ConfigOption, Format, FormatOption
from device_db.errors import FvcError


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "zoo",
        short_help="Write a well-known architecture, or list them",
        help="Write a well-known architecture with seeded weights; without NAME, list them.",
    )(zoo)


def zoo(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="resnet50, mobilenetv1, …")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where the model goes.")] = None,
    quantized: Annotated[bool, typer.Option("--quantized", help="The integer model instead of the float one.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the weights.")] = 0,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Lists the architectures, or writes one, whole or not at all."""
    from cli.show import output as out
    from compiler.frontend.zoo import build, names

    if name is None:
        if format is Format.json:
            out.document("fvc.zoo/1", {"models": list(names())})
        else:
            out.text("\n".join(names()))
        return 0
    if output is None:
        raise FvcError("FVC001", "zoo NAME needs -o FILE", where=("fvc zoo",), help=(f"fvc zoo {name} -o {name}.onnx",))
    from compiler.bundle import write_file

    model = build(name, seed=seed).SerializeToString(deterministic=True)
    if quantized:
        model = _quantized(model, name, seed)
    write_file(output, model)
    if format is Format.json:
        out.document("fvc.zoo/1", {"model": name, "output": output.name, "bytes": len(model)})
    else:
        out.text(f"{output}: {name}, {len(model):,} bytes")
    return 0


def _quantized(model: bytes, name: str, seed: int) -> bytes:
    import tempfile

    from compiler.frontend import ImportOptions, load_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        path.write_bytes(model)
        return load_model(path, ImportOptions(seed=seed, per_channel=True)).model
