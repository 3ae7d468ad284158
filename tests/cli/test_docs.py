"""What the pages say is true: generated pages are fresh, links lead somewhere, and every shell example runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from docs.generate import pages
from tests.cli.commands import ROOT, Outcome, fvc

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_generated_pages_are_fresh() -> None:
    for path, text in pages().items():
        assert path.read_text("utf-8") == text, f"{path.name} is old: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), target


def _examples() -> list[str]:
    found = []
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.S):
            found += [line for line in block.splitlines() if line.startswith("fvc ")]
    return found


@pytest.mark.parametrize("line", _examples())
def test_shell_examples_run(line: str, demo: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo[0].parent.parent)
    words = shlex.split(line, comments=True)[1:]
    found = fvc(*words)
    assert found.code == 0, found.err


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:`|^)make ([a-z-]+)(?:`|$)", (ROOT / "README.md").read_text("utf-8"), re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_ci_runs_only_what_the_readme_names() -> None:
    commands = re.findall(r"^make (\S+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)
    readme = (ROOT / "README.md").read_text("utf-8")
    assert commands == ["check", "test"]
    assert all(f"make {c}" in readme for c in commands)


def test_the_result_in_the_readme_is_that_of_the_demo(demo: tuple[Path, Outcome]) -> None:
    document = demo[1].document
    shown = (ROOT / "README.md").read_text("utf-8")
    found, accuracy = document["verification"], document["accuracy"]
    compared = f"{found['tensors']} tensors, {found['frames']} frames, {found['elements']:,} elements"
    assert f"{compared}: {found['mismatches']} mismatches" in shown
    before, after = (100 * accuracy[f"right_{when}"] / accuracy["samples"] for when in ("before", "after"))
    assert f"accuracy {before:.1f} % before, {after:.1f} % after" in shown
