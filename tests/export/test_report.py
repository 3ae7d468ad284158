"""The report says what the plan says, and no name from a model can break out of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from compiler.export.document import Bar, Bullets, Heading, Paragraph, Table, as_html, as_markdown, bar
from compiler.export.report import report
from device_db import load_cluster
from tests.golden import expect
from tests.plan.plans import A, changed_plan, layer, small_plan

NASTY = "<script>alert(1)</script>|`*_&\"'\n# x"
VERIFIED = {"tensors": 12, "frames": 4, "elements": 3456, "mismatches": 0}


class Tags(HTMLParser):
    """Collects tags and attribute values, and checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.values: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.values += [v or "" for _, v in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_closed_escaped_and_self_contained() -> None:
    blocks = (
        Heading(NASTY),
        Paragraph(NASTY),
        Bullets((NASTY,)),
        Table((NASTY, "n"), ((NASTY, 1234), (NASTY, Bar(1500)))),
    )
    page = as_html(NASTY, blocks)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert not any("//" in v or v.startswith("javascript") for v in tags.values)
    assert "alert(1)" in page and "<script" not in page
    assert "1,234" in page and "150.0 %" in page


def test_markdown_keeps_its_table_whatever_the_names_are() -> None:
    text = as_markdown((Table(("name", "n"), ((NASTY, 1), ("plain", bar(1, 3)))),))
    rows = text.strip().split("\n")
    assert len(rows) == 4
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 3 for row in rows)
    assert "33.3 %" in text


def test_the_report_of_a_small_plan() -> None:
    markdown, page = report(small_plan(), load_cluster("u280x2"), [], VERIFIED, None)
    expect("report.md", markdown)
    assert "0 mismatches" in page


def test_an_unverified_plan_says_so() -> None:
    markdown, _ = report(changed_plan(), load_cluster("u280x2"), [], None, None)
    assert "Not verified" in markdown


def test_a_nasty_layer_name_stays_in_its_cell() -> None:
    plan = replace(small_plan(), layers=(layer(NASTY, A), *small_plan().layers[1:]))
    markdown, page = report(plan, load_cluster("u280x2"), [], VERIFIED, None)
    assert "<script" not in page
    assert "<script" not in markdown
