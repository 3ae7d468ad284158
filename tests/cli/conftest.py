"""The shipped example, compiled once a session for all tests that look at a bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import EXAMPLES, Outcome, fvc


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The bundle that `make demo` makes, and what the command printed (JSON)."""
    folder = tmp_path_factory.mktemp("demo") / "out" / "demo"
    data = ("--calibrate", EXAMPLES / "digits_calibration.npz", "--eval", EXAMPLES / "digits_test.npz")
    found = fvc("partition", EXAMPLES / "digits.onnx", "--devices", "u280x4", *data, "-o", folder, "--format", "json")
    assert found.code == 0, found.err
    return folder, found


@pytest.fixture
def bundle(demo: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of the bundle that a test may damage."""
    import shutil

    return Path(shutil.copytree(demo[0], tmp_path / "bundle"))
