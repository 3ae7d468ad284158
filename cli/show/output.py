"""Where output goes: data to stdout, everything else to stderr, colour only where it is wanted.

Needs nothing but the standard library, so that `fvc --help` and error blocks stay fast.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

from device_db.errors import FvcError

_RED, _YELLOW, _CYAN, _BOLD, _RESET = "\x1b[31m", "\x1b[33m", "\x1b[36m", "\x1b[1m", "\x1b[0m"


def colour(stream: TextIO) -> bool:
    """Whether `stream` gets colour: NO_COLOR wins, then FORCE_COLOR, then whether it is a terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM", "") != "dumb"


def text(block: str) -> None:
    """Prints data for a person to stdout."""
    sys.stdout.write(block.rstrip("\n") + "\n")


def document(schema: str, content: dict[str, Any]) -> None:
    """Prints the one JSON document of a command to stdout; `schema` comes as its key "schema"."""
    json.dump({"schema": schema} | content, sys.stdout, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def message(line: str) -> None:
    """A message for a person, to stderr."""
    print(line, file=sys.stderr)


def warning(line: str) -> None:
    """Something that must not stay unseen (a fallback, random calibration), to stderr."""
    head = f"{_YELLOW}warning{_RESET}" if colour(sys.stderr) else "warning"
    print(f"{head}: {line}", file=sys.stderr)


def error(problem: FvcError, *, as_json: bool) -> None:
    """The error block to stderr; with --format json the same as a document on stdout too."""
    block = problem.block()
    if colour(sys.stderr):
        first, *rest = block.split("\n")
        head, _, tail = first.partition(": ")
        lines = [f"{_BOLD}{_RED}{head}{_RESET}{_BOLD}: {tail}{_RESET}"]
        for line in rest:
            mark = "-->" if line.startswith("  -->") else "help:" if line.startswith("  help:") else ""
            lines.append(line.replace(mark, f"{_CYAN}{mark}{_RESET}", 1) if mark else line)
        block = "\n".join(lines)
    print(block, file=sys.stderr)
    if as_json:
        document(
            "fvc.error/1",
            {
                "code": problem.code,
                "what": problem.what,
                "where": list(problem.where),
                "help": list(problem.help),
                "exit_code": problem.exit_code,
            },
        )
