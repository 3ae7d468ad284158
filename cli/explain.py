"""`fvc explain CODE` says what an error code means; `fvc explain DIR [LAYER]` why a plan is as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import ConfigOption, Format, FormatOption
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.export.speedup import Speedup


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
    over: Annotated[
        Path | None,
        typer.Option("--over", metavar="DIR", help="Speed-up of each layer over this bundle of the model, and why."),
    ] = None,
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Prints the explanation. Raises FVC006 for a code or layer that does not exist."""
    from cli.show import output

    if over is not None:
        rows = _speedups(Path(subject), over, layer)
        if format is Format.json:
            output.document("fvc.explain/1", {"subject": layer or "plan", "speedups": [r.as_json() for r in rows]})
        else:
            output.text(_listed(rows))
        return 0
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


def _speedups(bundle: Path, over: Path, layer: str | None) -> list[Speedup]:
    """The layers of a bundle against those of another. Raises FVC002, FVC006, FVC3xx."""
    from compiler.bundle import open_bundle
    from compiler.export.speedup import speedups
    from compiler.judge import programs_of

    one, now = (programs_of(open_bundle(d).binaries()) for d in (over, bundle))
    rows = speedups(one, now)
    if not rows:
        raise FvcError("FVC006", "the two bundles have no layer on tiled engines in common", where=(str(over),))
    if layer is None:
        return rows
    rows = [r for r in rows if r.layer == layer]
    if not rows:
        raise FvcError("FVC006", f"the two bundles have no layer '{layer}' in common", where=(str(over),))
    return rows


def _listed(rows: list[Speedup]) -> str:
    from compiler.export.speedup import HEAD, cells

    table = [HEAD, *(cells(r) for r in rows)]
    wide = [max(len(r[k]) for r in table) for k in range(len(HEAD) - 1)]
    lines = ["  ".join(f"{c:<{w}s}" for c, w in zip(r, wide, strict=False)) + f"  {r[-1]}" for r in table]
    many = sum(r.super_linear for r in rows)
    return "\n".join([*lines, f"{many} of {len(rows)} layers are super-linear"])
