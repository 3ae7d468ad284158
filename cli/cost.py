"""`fvc cost`: the cost models for scripts, one JSON object a line in and one out."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli.options import ConfigOption
from device_db.errors import FvcError


class Model(StrEnum):
    fvc = "fvc"
    finn = "finn"
    superlip = "superlip"


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "cost",
        short_help="Cycles and resources of cases, one JSON object a line",
        help="Cycles and resources of cases: one JSON object a line in, one out.",
    )(cost)


def cost(
    cases: Annotated[str, typer.Argument(metavar="CASES.jsonl", help="The cases, or - for standard input.")],
    model: Annotated[Model, typer.Option("--model", help="Whose model.")] = Model.fvc,
    config: ConfigOption = None,
) -> int:
    """Prints one line for each case, in their order; the first case that cannot be read ends the run."""
    import json
    import sys
    from pathlib import Path

    from cost_models.cases import evaluate
    from device_db.document import loads

    try:
        text = sys.stdin.read() if cases == "-" else Path(cases).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise FvcError("FVC002", f"cannot read the cases: {problem}", where=(cases,)) from None
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{cases}:{number}"
        try:
            case = loads(line)
        except ValueError as problem:
            raise FvcError("FVC520", f"the line is not JSON: {problem}", where=(where,)) from None
        try:
            lines.append(json.dumps(evaluate(case, model.value)))
        except FvcError as problem:
            raise FvcError(problem.code, problem.what, where=(where, *problem.where), help=problem.help) from None
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0
