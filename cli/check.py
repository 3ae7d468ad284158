"""`fvc check`: the static judges over a bundle: hashes, the plan, the programs."""

from __future__ import annotations

import typer

from cli.options import BundleArgument, ConfigOption, Format, FormatOption


def register(app: typer.Typer) -> None:
    """Adds the command to the application."""
    app.command(
        "check",
        short_help="Check a bundle without running it",
        help="Check a bundle without running it: hashes, bounds, tokens, deadlock, links, plan.",
    )(check)


def check(directory: BundleArgument, format: FormatOption = Format.text, config: ConfigOption = None) -> int:
    """Exit code 0 if nothing was found, else 1; findings are data and go to stdout."""
    from cli.show import output
    from compiler.bundle import open_bundle
    from compiler.judge import check_all

    parts, findings = check_all(open_bundle(directory))
    if format is Format.json:
        rows = [{"code": f.code, "what": f.what, "where": list(f.where), "help": list(f.help)} for f in findings]
        output.document("fvc.check/1", {"checked": parts, "findings": rows, "passed": not findings})
    else:
        output.text(
            "\n".join([*(f.block() for f in findings), f"checked {', '.join(parts)}: {len(findings)} findings"])
        )
    return 1 if findings else 0
