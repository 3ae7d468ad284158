"""docs/isa.md is what the field table says; docs/container.md names every section, table and cell that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from compiler.isa.reference import page
from compiler.isa.sections import ALIGNMENT, TABLES, SectionType

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_page_is_current():
    assert (DOCS / "isa.md").read_text(encoding="utf-8") == page(), "run python -m compiler.isa.reference > docs/isa.md"


def test_the_container_page_names_every_section_and_cell():
    text = (DOCS / "container.md").read_text(encoding="utf-8")
    for section in SectionType:
        row = re.search(rf"^\| {section.value} \| {section.name}[^|]*\| [a-zA-Z]+ \| (\d+) \|$", text, re.MULTILINE)
        assert row, section.name
        assert int(row[1]) == ALIGNMENT.get(section, 8)
    for section, columns in TABLES.items():
        row = re.search(rf"^\| {section.name}[^|]*\| (.*) \|$", text, re.MULTILINE)
        assert row, section.name
        cells = []
        for part in re.sub(r"\([^)]*\)", "", row[1]).split(";"):
            names, kind = part.strip().rsplit(" ", 1)
            cells += [(name.strip(), kind) for name in names.split(",")]
        assert cells == [(c.name, c.kind) for c in columns], section.name
