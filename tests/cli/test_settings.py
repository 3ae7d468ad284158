"""Where settings come from, and that a misspelt one is never silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import Outcome, fvc


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _setting(found: Outcome, name: str, command: str = "partition") -> tuple[object, str]:
    assert found.code == 0, found.err
    (row,) = [s for s in found.document["settings"] if (s["command"], s["setting"]) == (command, name)]
    return row["value"], row["source"]


def test_default_file_and_environment_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = ("config", "show", "--format", "json")
    assert _setting(fvc(*show), "seed") == (0, "default")
    (tmp_path / "pyproject.toml").write_text("[tool.fvc]\nseed = 3\n")
    assert _setting(fvc(*show), "seed") == ("3", "pyproject.toml")
    (tmp_path / "fvc.toml").write_text("seed = 4\n[quantize]\nseed = 5\n")
    assert _setting(fvc(*show), "seed") == ("4", "fvc.toml")
    assert _setting(fvc(*show), "seed", "quantize") == ("5", "fvc.toml")
    (tmp_path / "other.toml").write_text("seed = 6\n")
    assert _setting(fvc(*show, "--config", "other.toml"), "seed") == ("6", "other.toml")
    monkeypatch.setenv("FVC_SEED", "7")
    assert _setting(fvc(*show), "seed") == ("7", "FVC_SEED")


def test_a_setting_reaches_its_command_and_the_command_line_wins(tmp_path: Path) -> None:
    (tmp_path / "fvc.toml").write_text('format = "json"\n')
    assert fvc("devices", "list").document["schema"] == "fvc.devices/1"
    assert fvc("devices", "list", "--format", "text").out.startswith("board")


def test_a_required_option_may_come_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "fvc.toml").write_text('devices = "no-such-board"\n')
    found = fvc("partition", "model.onnx")
    assert found.code == 2
    assert found.error_code.startswith("FVC5")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("seeds = 1\n", "did you mean seed?"),
        ("[partition]\nseeds = 1\n", "did you mean seed?"),
        ("[partitoin]\nseed = 1\n", "did you mean partition?"),
        ("seed = \n", "not TOML"),
        ("seed = [1]\n", "wrong type"),
        ("seed = 1979-05-27\n", "wrong type"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "fvc.toml").write_text(text)
    found = fvc("config", "show")
    assert (found.code, found.error_code) == (2, "FVC004")
    assert says in found.err


def test_a_value_that_does_not_parse_is_bad_usage(tmp_path: Path) -> None:
    (tmp_path / "fvc.toml").write_text('seed = "many"\n')
    found = fvc("partition", "model.onnx", "--devices", "u280")
    assert (found.code, found.error_code) == (2, "FVC001")


def test_a_missing_file_is_refused() -> None:
    found = fvc("config", "show", "--config", "missing.toml")
    assert (found.code, found.error_code) == (2, "FVC002")
