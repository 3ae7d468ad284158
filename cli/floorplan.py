"""`fvc floorplan`: places kernels whose resources are known, or folds and places them, with a proved bound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import ConfigOption, Format, FormatOption
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.floorplan.problem import Answer, Case


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command("floorplan", help="Place kernels whose resources are known on dies and devices, with a proved bound.")(
        floorplan
    )


def floorplan(
    problem: Annotated[
        Path, typer.Argument(metavar="PROBLEM.json", help="One case, or a file of several (docs/floorplan.md).")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="OUT.json", help="Where the answers go.")] = None,
    format: FormatOption = Format.text,
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="S", min=0.01, help="Deterministic solver seconds for each case.")
    ] = 40.0,
    workers: Annotated[
        int, typer.Option("--workers", metavar="N", min=1, max=64, help="Solver threads; beyond 1 results may differ.")
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Seed of the solver.")] = 0,
    config: ConfigOption = None,
) -> int:
    """Solves every case; exit code 1 when one of them has no placement, after the others were written."""
    from math import isfinite

    from cli.show import output
    from compiler.floorplan.budget import Settings
    from compiler.floorplan.read import read_problem
    from compiler.floorplan.solve import SCHEMA, as_json, solve

    if not isfinite(time_limit):
        raise FvcError("FVC001", f"--time-limit {time_limit} is no number of seconds", help=("fvc floorplan --help",))
    cases, several = read_problem(problem)
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        why = f"'{out}' is a folder" if out.is_dir() else f"there is no folder '{out.parent}'"
        raise FvcError("FVC003", f"cannot write the answers: {why}", where=(str(out),))
    settings = Settings(time_limit, seed, workers)
    if workers > 1:
        output.warning("--workers beyond 1: another run may give another answer")
    answers = []
    for case in cases:
        answer = solve(case, settings)
        answers.append((case, answer))
        if format is Format.text:
            output.text(_line(case, answer))
    documents = [as_json(case, answer, settings) for case, answer in answers]
    content: dict[str, Any] = {"cases": documents} if several else documents[0]
    missing = [(c, a) for c, a in answers if not a.assignment]
    if out is not None and len(missing) < len(answers):
        _write(out, {"schema": SCHEMA} | content)
    if missing and not several:
        raise _why(missing[0][0], missing[0][1], settings.limit)
    for case, answer in missing:
        output.error(_why(case, answer, settings.limit), as_json=False)
    if format is Format.json:
        output.document(SCHEMA, content)
    return 1 if missing else 0


def _why(case: Case, answer: Answer, limit: float) -> FvcError:
    from compiler.floorplan.unmet import infeasible, undecided

    return undecided(case, limit) if answer.status == "UNKNOWN" else infeasible(case, answer.proved_by)


def _line(case: Case, answer: Answer) -> str:
    from compiler.floorplan.problem import FixedCase

    if answer.objective is None or answer.bound is None or answer.gap is None:
        return f"{case.name}: {answer.status.lower()}"
    what, scale = ("cost", case.cost_scale) if isinstance(case, FixedCase) else ("interval", 1)
    value, bound = answer.objective / scale, answer.bound / scale
    proof = "proven optimal" if answer.status == "OPTIMAL" else f"bound {bound:,.10g}, gap {100 * answer.gap:.2f} %"
    return f"{case.name}: {what} {value:,.10g}, {proof} ({answer.proved_by})"


def _write(path: Path, document: dict[str, Any]) -> None:
    """The file whole or not at all."""
    import json
    import os

    text = json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, "utf-8")
        beside.replace(path)
    except OSError as problem:
        beside.unlink(missing_ok=True)
        raise FvcError("FVC003", f"cannot write the answers: {problem.strerror}", where=(str(path),)) from None
