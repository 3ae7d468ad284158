"""`fvc config show`: the settings in force and where each comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import Format, FormatOption


def register(app: typer.Typer) -> None:
    """Adds the group to the application."""
    group = typer.Typer(
        help="Settings: the command line, then FVC_* variables, then a TOML file, then defaults.", no_args_is_help=True
    )
    group.command("show", help="The settings in force and where each comes from.")(show)
    app.add_typer(group, name="config", short_help="The settings in force and where they come from")


def show(
    context: typer.Context,
    format: FormatOption = Format.text,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings as TOML.")] = None,
) -> int:
    """Prints every setting of every command."""
    from cli.settings import in_force
    from cli.show import output
    from cli.show.tables import table

    settings = in_force(context.find_root().command, config)
    if format is Format.json:
        rows = [
            {"command": s.command, "setting": s.name, "value": _plain(s.value), "source": s.source} for s in settings
        ]
        output.document("fvc.config/1", {"settings": rows})
    else:
        output.text(
            table(
                [(s.command, s.name, _text(s.value), s.source) for s in settings],
                ("command", "setting", "value", "from"),
            )
        )
    return 0


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else [str(v) for v in value]


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return (
        " ".join(map(str, value))
        if isinstance(value, (list, tuple))
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
