"""A bundle on disk: whole or not at all, and every byte accounted for when it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compiler import bundle
from compiler.bundle import MANIFEST, check_bundle, check_target, manifest, open_bundle, write_bundle, write_file
from device_db.errors import FvcError


def _files(content: bytes = b"one") -> dict[str, bytes]:
    files = {"bin/u280-0.fvcb": content, "host/host0.onnx": b"onnx", "plan.json": b"{}\n"}
    return files | {MANIFEST: manifest(files, "0" * 64)}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    target = tmp_path / "a folder" / "b"
    write_bundle(target, _files())
    found = open_bundle(target)
    assert found.binaries() == {"u280-0": b"one"}
    assert found.host() == {"host0": b"onnx"}
    assert check_bundle(found) == []
    assert sorted(p.name for p in target.parent.iterdir()) == ["b"]


def test_an_older_bundle_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "b"
    write_bundle(target, _files() | {"left-over": b""})
    write_bundle(target, _files(b"two"))
    assert open_bundle(target).binaries() == {"u280-0": b"two"}
    assert not (target / "left-over").exists()


@pytest.mark.parametrize("moment", ["while writing", "while exchanging"])
def test_an_interruption_leaves_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    target = tmp_path / "b"
    write_bundle(target, _files())
    before = {p: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    calls = 0
    real = bundle.os.replace

    def interrupted(source: Path, destination: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        real(source, destination)

    if moment == "while exchanging":
        monkeypatch.setattr(bundle.os, "replace", interrupted)
    else:

        def stop(self: Path, content: bytes) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "write_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(target, _files(b"two"))
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_what_is_no_bundle_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FvcError) as caught:
        check_target(tmp_path)
    assert caught.value.code == "FVC003"
    (tmp_path / "file").write_text("")
    with pytest.raises(FvcError, match="is a file"):
        check_target(tmp_path / "file")
    with pytest.raises(FvcError, match="cannot be made"):
        check_target(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: (d / "bin/u280-0.fvcb").write_bytes(b"0ne"), "SHA-256"),
        (lambda d: (d / "bin/u280-0.fvcb").write_bytes(b"ones"), "4 bytes"),
        (lambda d: (d / "plan.json").unlink(), "plan.json cannot be read"),
        (lambda d: (d / "extra").write_bytes(b""), "extra is not in the manifest"),
    ],
)
def test_damage_is_found(tmp_path: Path, damage: object, says: str) -> None:
    write_bundle(tmp_path / "b", _files())
    damage(tmp_path / "b")  # type: ignore[operator]
    (problem,) = check_bundle(open_bundle(tmp_path / "b"))
    assert (problem.code, problem.exit_code) == ("FVC381", 1)
    assert says in problem.what


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "fvc.manifest/1", "files": 1}',
        json.dumps({"schema": "fvc.manifest/1", "files": [{"name": "../x", "size": 1, "sha256": ""}]}),
        json.dumps({"schema": "fvc.manifest/1", "files": [{"name": "/etc/passwd", "size": 1, "sha256": ""}]}),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(FvcError) as caught:
        open_bundle(tmp_path)
    assert caught.value.code == "FVC380"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_file(tmp_path / "x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"
    assert (tmp_path / "x").stat().st_mode & 0o400
    with pytest.raises(FvcError) as caught:
        write_file(tmp_path / "missing" / "x", b"1")
    assert caught.value.code == "FVC003"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
