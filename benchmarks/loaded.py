"""Which of the project's files a process has used, so that a record stands until one of those changes.

Needs `watch()` before the work; `used()` after it gives every module of the project that was imported and every data
file that was read. Modules are imported where they are needed, so a tiled compile uses nothing of the streaming rooms,
and a change there leaves records of tiled plans as they are.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("compiler", "cost_models", "device_db", "benchmarks")
BOARDS = ROOT / "device_db" / "boards"

_opened: set[str] = set()
_started = time.time()


def watch() -> None:
    """Keeps the names of files opened from here on (an audit hook: it stays for the life of the process)."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        _opened.add(arguments[0])


def used(boards: Collection[str]) -> list[str]:
    """Files in the project's rooms, relative to its root: modules imported and data read so far.

    boards: the cluster's board files by name. All boards are opened for the manifest's hash of the database; those that
    the cluster has not are left out.
    """
    modules = {str(getattr(m, "__file__", None) or "") for m in list(sys.modules.values())}
    data = {name for name in _opened if not name.endswith((".py", ".pyc")) and Path(name).parent != BOARDS}
    data |= {str(BOARDS / f"{name}.toml") for name in boards}
    inside = []
    for path in {Path(name) for name in modules | data if name}:
        if path.is_relative_to(ROOT) and path.is_file():
            relative = path.relative_to(ROOT)
            if relative.parts[0] in ROOMS and "results" not in relative.parts:
                inside.append(relative.as_posix())
    return sorted(inside)


def changed_since_start(files: Iterable[str]) -> bool:
    """Whether a file was written after this process began: then its digest may be of contents that were not used."""
    return any((ROOT / name).stat().st_mtime > _started for name in files)


def digest(files: Iterable[str]) -> str:
    """Digest of these files' names and present contents; a file that is gone counts as empty."""
    out = hashlib.sha256()
    for name in files:
        path = ROOT / name
        out.update(name.encode() + b"\0" + (path.read_bytes() if path.is_file() else b"") + b"\0")
    return out.hexdigest()[:16]
