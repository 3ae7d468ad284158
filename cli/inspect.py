"""`fvc inspect`: objdump for binaries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import ConfigOption, Format, FormatOption


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "inspect",
        short_help="Show what a binary holds, or how two differ",
        help="Show what a binary holds: headers, disassembly, folding, relocations, differences.",
    )(inspect)


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE.fvcb", help="A binary.")],
    other: Annotated[
        Path | None,
        typer.Option("--diff", metavar="OTHER", help="Compare with another binary; exit code 1 if they differ."),
    ] = None,
    headers: Annotated[bool, typer.Option("--headers", help="Container, sections, hardware (the default).")] = False,
    disasm: Annotated[bool, typer.Option("--disasm", help="The instructions.")] = False,
    folding: Annotated[bool, typer.Option("--folding", help="Where and how each layer runs.")] = False,
    relocations: Annotated[bool, typer.Option("--relocations", help="What a linker would patch.")] = False,
    roofline: Annotated[
        bool, typer.Option("--roofline", help="What bounds each layer: array, memory or links.")
    ] = False,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Prints the parts asked for; every hash is checked on the way in."""
    from cli.show import output
    from compiler.export.inspect import compare, describe, render

    if other is not None:
        lines = compare(file, other)
        if format is Format.json:
            output.document("fvc.inspect-diff/1", {"differences": lines, "same": not lines})
        else:
            output.text("\n".join(lines) if lines else "the binaries are the same")
        return 1 if lines else 0
    wanted = {
        "headers": headers,
        "disasm": disasm,
        "folding": folding,
        "relocations": relocations,
        "roofline": roofline,
    }
    parts = [name for name, on in wanted.items() if on] or ["headers"]
    facts = describe(file, parts)
    if format is Format.json:
        output.document("fvc.inspect/1", facts)
    else:
        output.text(render(facts))
    return 0
