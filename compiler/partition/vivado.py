"""A Vivado utilisation report as rows: the file's form alone, nothing of what its instances are.

Needs `report_utilization -hierarchical` as Vivado prints it (a table between bars, with or without
-hierarchical_percentages), as the GUI exports it (CSV, available amounts in the header) or as CSV of other tools with
these columns. Gives the rows below the header that has a column for instances. Raises FVC002, FVC282 with the line.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from device_db.errors import FvcError
from device_db.model import Resources

# Columns as Vivado's versions and families, its GUI, Vitis HLS and FINN call them, in lower case.
_COLUMNS = {
    "instance": "instance", "name": "instance", "total luts": "lut", "clb luts": "lut", "slice luts": "lut",
    "luts": "lut", "lut": "lut", "ffs": "ff", "ff": "ff", "clb registers": "ff", "slice registers": "ff",
    "registers": "ff", "ramb36": "ramb36", "ramb36/fifo": "ramb36", "bram_36k": "ramb36", "ramb18": "ramb18",
    "bram_18k": "bram18", "bram18": "bram18", "block ram tile": "tile", "uram": "uram", "dsp blocks": "dsp",
    "dsp48 blocks": "dsp", "dsps": "dsp", "dsp slices": "dsp", "dsp": "dsp", "dsp48": "dsp", "clock mhz": "clock",
    "fmax mhz": "clock",
}  # fmt: skip
NEEDED = ("lut", "ff", "dsp")
MOST = 1 << 31
_FORMS = ("|", ",", ";", "\t")  # what stands between cells
# 1234, 12,345, 12.5, each perhaps with the share of what there is: 1234(0.09%), 3 (<0.01%)
_NUMBER = re.compile(
    r"([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,10})(\.[0-9]{1,6})?(?:\s*\(\s*<?\s*[0-9.]+\s*%\s*\))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the report: instance without indentation, its depth in the hierarchy, cells by meaning."""

    line: int
    name: str
    depth: int
    cells: dict[str, str]


def bad(path: Path, row: Row | None, what: str, *help: str) -> FvcError:
    """FVC282 at a row, or of the whole file."""
    where = str(path) if row is None else f"{path}:{row.line}"
    return FvcError("FVC282", what, where=(where,), help=help)


def read_rows(path: Path) -> list[Row]:
    """The rows of the first table with a column of instances, in file order."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as problem:
        raise FvcError("FVC002", f"cannot read the report: {problem.strerror}", where=(str(path),)) from None
    except UnicodeDecodeError:
        raise bad(path, None, "the report is no text") from None
    form = _form(text)
    if form is None:
        raise bad(path, None, "the report has no header with a column Instance", "write it with -hierarchical")
    names: list[str] | None = None
    rows = []
    try:
        for line, cells in _barred(text) if form == "|" else _separated(text, form):
            if names is None:
                kinds = [_kind(c) for c in cells]
                if "instance" in kinds:
                    names = _header(path, kinds, line)
                continue
            if not any(c.strip() for c in cells):
                continue
            at = dict(zip(names, cells, strict=False))
            raw = at.pop("instance", "")
            kept = {k: c.strip() for k, c in at.items() if k}
            row = Row(line, raw.strip(), len(raw) - len(raw.lstrip()), kept)
            if len(cells) != len(names):
                raise bad(path, row, f"{len(cells)} cells, the header has {len(names)}")
            rows.append(row)
    except csv.Error as problem:
        raise bad(path, None, f"the report is no CSV: {problem}") from None
    return rows


def resources(path: Path, row: Row) -> Resources:
    """What a row measures; block RAM in halves."""
    lut, ff, dsp = (_count(path, row, k) for k in NEEDED)
    if {"ramb36", "ramb18"} <= row.cells.keys():
        bram = 2 * _count(path, row, "ramb36") + _count(path, row, "ramb18")
    elif "tile" in row.cells:
        bram = _count(path, row, "tile", halves=True)
    else:
        bram = _count(path, row, "bram18")
    return Resources(lut, ff, bram, _count(path, row, "uram") if "uram" in row.cells else 0, dsp)


def _kind(header: str) -> str:
    """What a column holds, "" for others. The GUI writes what there is behind the name: CLB LUTs (1303680)."""
    plain = re.sub(r"\s+", " ", header.strip().lower())
    return _COLUMNS.get(re.sub(r" ?\([0-9,]+\)$", "", plain), "")


def _form(text: str) -> str | None:
    """What stands between the cells of the header: a bar or a delimiter; None where there is no header."""
    for form in _FORMS:
        try:
            for _, cells in _barred(text) if form == "|" else _separated(text, form):
                if len(cells) > 1 and "instance" in [_kind(c) for c in cells]:
                    return form
        except csv.Error:
            continue
    return None


def _separated(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    lines = csv.reader(io.StringIO(text), delimiter=delimiter)
    for cells in lines:
        yield lines.line_num, cells


def _barred(text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines between bars; rules and notes are passed over."""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("|") and line.rstrip().endswith("|") and line.count("|") > 1:
            yield number, line.strip()[1:-1].split("|")


def _header(path: Path, kinds: list[str], line: int) -> list[str]:
    """The columns' meanings: both kinds of block RAM, tiles, or halves of tiles."""
    row = Row(line, "", 0, {})
    if "ramb36" in kinds and "ramb18" not in kinds:
        kinds = ["ramb18" if k == "bram18" else k for k in kinds]
    known = [k for k in kinds if k]
    twice = next((k for k in known if known.count(k) > 1), None)
    if twice is not None:
        raise bad(path, row, f"two columns for {twice}")
    if set(known) <= {"instance", "clock"}:
        if "clock" not in known:
            raise bad(path, row, "no column has resources or a clock")
        return kinds
    lacking = [k.upper() for k in NEEDED if k not in known]
    if not {"tile", "bram18"} & set(known) and not {"ramb36", "ramb18"} <= set(known):
        lacking.append("RAMB36 and RAMB18")
    if lacking:
        raise bad(path, row, f"no column for {', '.join(lacking)}")
    return kinds


def _count(path: Path, row: Row, key: str, halves: bool = False) -> int:
    """A whole number of a cell; of block RAM tiles their halves."""
    found = _NUMBER.fullmatch(row.cells[key])
    value = Fraction(found[1].replace(",", "") + (found[2] or "")) * (2 if halves else 1) if found else Fraction(-1)
    if value.denominator != 1 or not 0 <= value <= MOST:
        raise bad(path, row, f"{key.upper()} of '{row.name}' is {row.cells[key]!r:.40}, no count")
    return int(value)
