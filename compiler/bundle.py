"""A bundle on disk: written whole or not at all, read back with every hash checked.

Writing makes a temporary folder beside the target and renames it into place; an interrupted run leaves the old bundle
as it was. Names in the manifest are relative, with forward slashes, and stay inside the bundle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from compiler.plan.io import canonical_json
from compiler.version import VERSION
from device_db import database_hash
from device_db.errors import FvcError

SCHEMA = "fvc.manifest/1"
MANIFEST = "manifest.json"
_VERSIONED = ("numpy", "onnx", "onnxruntime", "ortools")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was read: its folder, its manifest, and each file's bytes on demand."""

    folder: Path
    manifest: dict[str, Any]

    def read(self, name: str) -> bytes:
        """One file of the manifest, its hash checked. Raises FVC381."""
        entry = next((f for f in self.manifest["files"] if f["name"] == name), None)
        if entry is None:
            raise _altered(f"the manifest has no {name}", self.folder)
        return _read(self.folder, entry)

    def names(self, prefix: str = "", suffix: str = "") -> list[str]:
        """Names of files in the manifest, sorted."""
        return sorted(
            f["name"] for f in self.manifest["files"] if f["name"].startswith(prefix) and f["name"].endswith(suffix)
        )

    def binaries(self) -> dict[str, bytes]:
        """Device name -> binary."""
        return {PurePosixPath(n).stem: self.read(n) for n in self.names("bin/", ".fvcb")}

    def host(self) -> dict[str, bytes]:
        """Host segment name -> ONNX model."""
        return {PurePosixPath(n).stem: self.read(n) for n in self.names("host/", ".onnx")}


def manifest(files: dict[str, bytes], model_sha256: str) -> bytes:
    """The text of manifest.json for these files."""
    rows = [{"name": n, "size": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in sorted(files.items())]
    return canonical_json(
        {
            "schema": SCHEMA,
            "files": rows,
            "model_sha256": model_sha256,
            "device_db_sha256": database_hash(),
            "versions": versions(),
        }
    ).encode()


def versions() -> dict[str, str]:
    """Versions of what may shape an artifact."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"fvc": VERSION}
    for name in _VERSIONED:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def check_target(target: Path) -> None:
    """Raises FVC003 if `target` could not be replaced by a bundle: before the work, not after it."""
    if target.is_symlink() or target.exists():
        if not target.is_dir():
            raise FvcError(
                "FVC003", "the output is a file, not a folder", where=(str(target),), help=("choose another -o",)
            )
        if any(target.iterdir()) and not (target / MANIFEST).is_file():
            raise FvcError(
                "FVC003",
                "the output folder holds something that is no bundle, so it is not overwritten",
                where=(str(target),),
                help=("choose another -o, or remove the folder yourself",),
            )
    parent = target.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise FvcError(
            "FVC003", "the output folder cannot be made here", where=(str(target),), help=("choose another -o",)
        )


def write_bundle(target: Path, files: dict[str, bytes]) -> None:
    """Writes `files` (manifest.json among them) as the folder `target`, replacing an older bundle. Raises FVC003."""
    check_target(target)
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(target) as scratch:
            fresh = scratch / "new"
            for name, content in files.items():
                path = fresh / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            _exchange(fresh, target, scratch / "old")
    except OSError as problem:
        raise FvcError("FVC003", f"the bundle cannot be written: {problem.strerror}", where=(str(target),)) from None


@contextlib.contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, gone afterwards whatever happens."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _exchange(fresh: Path, target: Path, aside: Path) -> None:
    """Puts `fresh` in the place of `target`; on any failure between, the old folder comes back."""
    if not target.exists():
        os.replace(fresh, target)
        return
    os.replace(target, aside)
    try:
        os.replace(fresh, target)
    except BaseException:
        os.replace(aside, target)
        raise


def write_file(target: Path, content: bytes) -> None:
    """Writes one file whole or not at all; a device or pipe is written to, never replaced. Raises FVC003."""
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            target.write_bytes(content)
            return
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.absolute().parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as problem:
        raise FvcError("FVC003", f"the file cannot be written: {problem.strerror}", where=(str(target),)) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def open_bundle(folder: Path) -> Bundle:
    """Reads the manifest of a bundle. Raises FVC002 (no folder) and FVC380 (no or a broken manifest)."""
    if not folder.is_dir():
        raise FvcError(
            "FVC002",
            "there is no such folder",
            where=(str(folder),),
            help=("name a bundle that `fvc partition` wrote",),
        )
    path = folder / MANIFEST
    if not path.is_file():
        raise FvcError(
            "FVC380",
            "the folder has no manifest.json",
            where=(str(folder),),
            help=("name a bundle that `fvc partition` wrote",),
        )
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as problem:
        raise FvcError("FVC380", f"the manifest cannot be read: {problem}", where=(str(path),)) from None
    if not _sound(content):
        raise FvcError("FVC380", f"the manifest is not of schema {SCHEMA}", where=(str(path),))
    return Bundle(folder, content)


def _sound(content: Any) -> bool:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or not isinstance(content.get("files"), list):
        return False
    for entry in content["files"]:
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("name"), str)
            or not isinstance(entry.get("size"), int)
        ):
            return False
        name = PurePosixPath(entry["name"])
        if not isinstance(entry.get("sha256"), str) or name.is_absolute() or ".." in name.parts or not name.parts:
            return False
        if "\0" in entry["name"]:
            return False
    hashes = (content.get("model_sha256"), content.get("device_db_sha256"))
    return all(isinstance(h, str) for h in hashes) and isinstance(content.get("versions"), dict)


def check_bundle(bundle: Bundle) -> list[FvcError]:
    """Every file against the manifest, and files that it does not name."""
    found = []
    for entry in bundle.manifest["files"]:
        try:
            _read(bundle.folder, entry)
        except FvcError as problem:
            found.append(problem)
    known = {f["name"] for f in bundle.manifest["files"]} | {MANIFEST}
    for path in sorted(bundle.folder.rglob("*")):
        name = path.relative_to(bundle.folder).as_posix()
        if path.is_file() and name not in known:
            found.append(_altered(f"{name} is not in the manifest", bundle.folder))
    return found


def _read(folder: Path, entry: dict[str, Any]) -> bytes:
    path: Path = folder / entry["name"]
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise _altered(f"{entry['name']} cannot be read: {problem.strerror}", folder) from None
    if len(content) != entry["size"]:
        raise _altered(f"{entry['name']} has {len(content)} bytes, the manifest says {entry['size']}", folder)
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise _altered(f"{entry['name']} has another SHA-256 than the manifest says", folder)
    return content


def _altered(what: str, folder: Path) -> FvcError:
    return FvcError("FVC381", what, where=(str(folder),), help=("compile again",), exit_code=1)
