"""Runs the command line inside the test's process, and as a process of its own where that matters."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error_code(self) -> str:
        """FVC203 of the first error block on stderr."""
        line = next(line for line in self.err.splitlines() if line.startswith("error["))
        return line[len("error[") : line.index("]")]


def fvc(*arguments: str | Path) -> Outcome:
    """Runs `fvc` with these arguments."""
    from cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(a) for a in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def fvc_process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `python -m fvc` as a process of its own."""
    words = [sys.executable, "-m", "fvc", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=options.pop("cwd", ROOT), **options)
