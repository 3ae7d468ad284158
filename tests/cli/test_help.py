"""The help page as a snapshot: what a newcomer reads first."""

from __future__ import annotations

import pytest

from tests.cli.commands import fvc
from tests.golden import expect


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_help_page() -> None:
    found = fvc("--help")
    expect("help.txt", found.out)
    assert "...\n" not in found.out.split("Commands:")[1]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown-command", ("nonsense",)),
        ("missing-option", ("partition", "model.onnx")),
        ("unknown-board", ("devices", "show", "u281")),
        ("no-bundle", ("check", "no-such-folder")),
        ("bad-rule", ("diff", "a", "b", "--fail-on", "speed>5%")),
    ],
)
def test_error_blocks(name: str, words: tuple[str, ...]) -> None:
    found = fvc(*words)
    expect(f"error-{name}.txt", f"exit code {found.code}\n{found.err}")
