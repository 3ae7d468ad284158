"""The application: every command, registered with typer. Importing it loads nothing heavy but typer."""

from __future__ import annotations

import typer

from cli import (
    check,
    config,
    cost,
    devices,
    diff,
    explain,
    floorplan,
    inspect,
    partition,
    quantize,
    run,
    simulate,
    verify,
    zoo,
)
from cli.show import output
from device_db.errors import FvcError

# typer carries its own click or uses click's: this is its UsageError
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="fvc",
    help="Partitions deep neural networks over FPGAs and proves the result bit for bit.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
for _module in (partition, verify, run, simulate, diff, inspect, check, explain, quantize, zoo, cost, floorplan):
    _module.register(app)
devices.register(app)
config.register(app)


def _version(value: bool) -> None:
    if value:
        from compiler.version import VERSION

        output.text(f"fvc {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Partitions deep neural networks over FPGAs and proves the result bit for bit."""


def usage_problem(problem: BaseException) -> FvcError:
    """A usage error of typer's as an error block."""
    what = str(getattr(problem, "format_message", lambda: problem)())
    context = getattr(problem, "ctx", None)
    path = context.command_path if context is not None else "fvc"
    return FvcError("FVC001", what.rstrip("."), where=(path,), help=(f"{path} --help",), exit_code=2)
