"""`fvc explain CODE` says what an error code means; `fvc explain DIR [LAYER]` why a plan is as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import ConfigOption, Format, FormatOption
from device_db.errors import FvcError


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "explain",
        short_help="What an error code means, or why a layer is where it is",
        help="What an error code means, or why a layer of a bundle stands where it does.",
    )(explain)


def explain(
    subject: Annotated[str, typer.Argument(metavar="CODE|DIR", help="FVC203, or a bundle.")],
    layer: Annotated[str | None, typer.Argument(metavar="[LAYER]", help="A layer of the bundle.")] = None,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Prints the explanation. Raises FVC006 for a code or layer that does not exist."""
    from cli.show import output

    if Path(subject).exists():
        from compiler.export.explain import explain_layer, explain_plan
        from compiler.plan.io import find_plan, read_plan

        plan = read_plan(find_plan(Path(subject)))
        story = explain_plan(plan) if layer is None else explain_layer(plan, layer)
        if format is Format.json:
            output.document("fvc.explain/1", {"subject": layer or "plan", "facts": story})
        else:
            output.text("\n".join(f"{name}: {text}" for name, text in story.items()))
        return 0
    from compiler.catalog import CATALOG

    code = subject.upper()
    if code not in CATALOG:
        import difflib

        near = difflib.get_close_matches(code, CATALOG, n=1)
        levers = (f"did you mean {near[0]}?",) if near else ("an error block begins with its code, like error[FVC203]",)
        raise FvcError("FVC006", f"there is no code and no bundle '{subject}'", help=levers)
    title, text = CATALOG[code]
    if format is Format.json:
        output.document("fvc.explain/1", {"code": code, "title": title, "text": text})
    else:
        output.text(f"{code}: {title}\n\n{text}")
    return 0
