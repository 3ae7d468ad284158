"""`fvc diff`: what changed between two bundles or plans, and what it does to speed and resources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import ConfigOption, DiffFormat


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "diff",
        short_help="What changed between two bundles or plans",
        help="What changed between two bundles or plans, layer by layer, and what it does.",
    )(diff)


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="A bundle or a plan.json.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="A bundle or a plan.json.")],
    format: Annotated[
        DiffFormat, typer.Option("--format", help="Text, Markdown for a review, or one JSON document.")
    ] = DiffFormat.text,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if the plans differ.")] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", metavar="'latency>+5%'", help="Exit with 1 if this holds; may be repeated."),
    ] = None,
    config: ConfigOption = None,
) -> int:
    """Prints the difference; exit code 1 only where --exit-code or --fail-on asks for it."""
    from cli.show import output
    from compiler.export.difftext import as_json, as_markdown, as_text
    from compiler.plan.diff import SCHEMA, diff_plans, parse_rule
    from compiler.plan.io import find_plan, read_plan

    rules = [parse_rule(text) for text in fail_on or ()]
    found = diff_plans(read_plan(find_plan(old)), read_plan(find_plan(new)))
    broken = [rule.text for rule in rules if rule.holds(found)]
    if format is DiffFormat.json:
        output.document(SCHEMA, as_json(found) | {"failed_rules": broken})
    else:
        output.text(as_text(found) if format is DiffFormat.text else as_markdown(found))
    for text in broken:
        output.message(f"--fail-on {text} holds")
    return 1 if broken or (exit_code and not found.empty) else 0
