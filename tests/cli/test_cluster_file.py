"""A cluster file of one's own: the bundle can be judged where that file is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import EXAMPLES, fvc

CLUSTER = """schema = "fvc.cluster/1"
name = "lab"
topology = "ring"

[[device]]
board = "zcu102"
count = 3
"""


def test_a_bundle_for_a_cluster_file_is_checked_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    (here / "lab.toml").write_text(CLUSTER)
    assert fvc("devices", "check", "lab.toml").code == 0
    found = fvc("partition", EXAMPLES / "digits.onnx", "--devices", "lab.toml", "-o", there / "bundle", "--no-verify")
    assert found.code == 0, found.err
    (here / "lab.toml").unlink()
    monkeypatch.chdir(there)
    assert fvc("check", "bundle").code == 0
    assert b"lab.toml" not in (there / "bundle" / "plan.json").read_bytes()
