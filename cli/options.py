"""Options that several commands share, with one spelling and one meaning."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli.settings import load_settings


class Format(StrEnum):
    text = "text"
    json = "json"


class DiffFormat(StrEnum):
    text = "text"
    markdown = "markdown"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="Text, or exactly one JSON document.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", callback=load_settings, is_eager=True,
        help="Settings as TOML [default: fvc.toml, or tool.fvc in pyproject.toml].",
    ),
]  # fmt: skip
BundleArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A bundle.")]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX model.")]
