"""Writes what is generated: docs/errors.md from the catalogue, docs/commands.md from the commands' own help,
docs/operators.md from the importer, the schemas of plans, boards and clusters.

make docs          a test fails if what is committed differs
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path

DOCS = Path(__file__).parent
_GROUPS = {
    "0": "Usage and settings",
    "1": "Models and import",
    "2": "Capacity and plans",
    "3": "Binaries and bundles",
    "4": "Execution and verification",
    "5": "Devices and clusters",
    "9": "Defects of fvc",
}


def errors_page() -> str:
    """docs/errors.md."""
    from compiler.catalog import CATALOG

    lines = ["# Error codes", "", "Generated from `compiler/catalog.py`; `fvc explain CODE` prints the same.", ""]
    for digit, title in _GROUPS.items():
        rows = [(c, *CATALOG[c]) for c in sorted(CATALOG) if c[3] == digit]
        if rows:
            lines += [f"## {title}", "", "| code | what | meaning |", "| --- | --- | --- |"]
            lines += [f"| {c} | {a} | {b.replace('|', chr(92) + '|')} |" for c, a, b in rows]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def commands_page() -> str:
    """docs/commands.md: every command with its arguments and options."""
    import typer

    from cli.app import app
    from cli.settings import all_commands

    lines = [
        "# Commands",
        "",
        "Generated from the commands themselves; `fvc COMMAND --help` prints the same.",
        "",
        "Exit codes: 0 done, 1 the answer is no (does not fit, a mismatch, a failed check, plans differ under `--exit-code`),",
        "2 bad usage or bad input, 130 interrupted, 70 a defect of fvc. Data goes to stdout, messages and progress to stderr.",
        "With `--format json`, stdout is exactly one JSON document with a `schema` key, errors included (`fvc.error/1`).",
        "",
        "Every option can also be set in `fvc.toml` (or `[tool.fvc]` in `pyproject.toml`, or a file given with `--config`) and",
        "by an environment variable: `--time-limit` is `time-limit` there and `FVC_TIME_LIMIT` here. `fvc config show` tells",
        "what is in force and where it comes from.",
        "",
    ]
    for name, command in all_commands(typer.main.get_command(app)).items():
        words = [a.metavar or a.name.upper() for a in command.params if a.param_type_name == "argument"]
        lines += [f"## fvc {name}", "", command.help or "", "", f"    fvc {' '.join([name, *words])}", ""]
        rows = []
        for option in command.params:
            if option.param_type_name == "option" and option.name != "help":
                flags = ", ".join(f"`{o}`" for o in [*option.opts, *option.secondary_opts])
                default = getattr(option.default, "value", option.default)
                told = "" if default in (None, False, ()) else f" Default: {default}."
                what = option.help or ""
                if isinstance(option.default, Enum):
                    what += f" One of {', '.join(str(c.value) for c in type(option.default))}."
                rows.append(f"| {flags} | {option.metavar or ''} | {what}{told} |".replace("N|auto", "N\\|auto"))
        lines += ["| option | value | meaning |", "| --- | --- | --- |", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def operators_page() -> str:
    """docs/operators.md: what runs on engines and what on the host, from the importer's own registries."""
    from compiler.frontend.operators import rows, unary

    lines = [
        "# Operators",
        "",
        "Generated from the importer's registries. A float or QDQ model is read by its first and third tables, a QOperator model by",
        "the second; whatever has no engine becomes a **host segment**, run by ONNX Runtime between the engines' layers, and report,",
        "plan and terminal name the node and the reason.",
        "",
        "**Tables.** Functions of one 8-bit tensor become one table of 256 entries (one a channel where constants differ by channel),",
        "alone or as a whole subgraph (SiLU, HardSwish in four nodes, LeakyRelu + Max): " + ", ".join(unary()) + ".",
        "Relu and Clip cost nothing where the 8-bit range behind them does the same.",
        "",
        "**Always on the host:** Softmax and other functions over an axis, normalisation by the statistics of the frame, recurrent",
        "cells, control flow (If, Loop, Scan), everything between the ends of the graph and its first and last quantised tensor,",
        "movement that no layer feeds, and nodes that meet infinite values (masks).",
        "",
    ]
    for title, table in rows().items():
        lines += [f"## {title}", "", "| operator | on an engine | on the host |", "| --- | --- | --- |"]
        lines += [f"| {row.op} | {row.how} | {row.host} |" for row in table]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def pages() -> dict[Path, str]:
    """Every generated file with what it must hold."""
    from compiler.isa.reference import page as isa_page
    from compiler.plan.schema import SCHEMA_FILE, schema_text
    from device_db.schema import json_schema

    return {
        DOCS / "errors.md": errors_page(),
        DOCS / "commands.md": commands_page(),
        DOCS / "isa.md": isa_page(),
        DOCS / "operators.md": operators_page(),
        SCHEMA_FILE: schema_text(),
        **{
            DOCS.parent / "device_db" / "schema" / f"{kind}.schema.json": json.dumps(
                json_schema(kind), indent=1, sort_keys=True
            )
            + "\n"
            for kind in ("board", "cluster")
        },
    }


def main() -> None:
    for path, text in pages().items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
