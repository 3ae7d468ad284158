"""Needs columns of plain values; packs them as a table section and back; guarantees canonical bytes and bounded reads.

Every count is checked against the section's size before anything is allocated, lists may not overlap and
string indices are checked, so a hostile file costs no more memory than its own length.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.isa.sections import TABLES, Column, SectionType
from device_db.errors import FvcError

_KINDS: dict[str, list[tuple[str, str]]] = {
    "u32": [("", "<u4")],
    "u64": [("", "<u8")],
    "i64": [("", "<i8")],
    "str": [("", "<u4")],
    "list": [("#first", "<u4"), ("#count", "<u4")],
}
_TABLE_HEAD = struct.Struct("<IIQ")
_LIMITS = {"u32": (0, 2**32 - 1), "str": (0, 2**32 - 1), "u64": (0, 2**63 - 1), "i64": (-(2**63), 2**63 - 1)}


def row_dtype(columns: Sequence[Column]) -> np.dtype[Any]:
    """The packed row of a table: cells in column order, no padding."""
    return np.dtype([(c.name + suffix, kind) for c in columns for suffix, kind in _KINDS[c.kind]])


def damaged(section: SectionType, what: str) -> FvcError:
    return FvcError("FVC303", f"section {section.name} is damaged: {what}")


class StringTable:
    """Collects strings, numbers them in the order of first use."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        return self._index.setdefault(text, len(self._index))

    def to_bytes(self) -> bytes:
        encoded = [text.encode("utf-8") for text in self._index]
        ends = np.cumsum([0, *(len(e) for e in encoded)], dtype=np.uint64)
        if int(ends[-1]) >= 2**32:
            raise FvcError("FVC310", "names take more than 4 GiB", exit_code=70)
        return struct.pack("<I", len(encoded)) + ends.astype("<u4").tobytes() + b"".join(encoded)


def read_strings(data: bytes | memoryview) -> list[str]:
    """The strings of a STRINGS section: u32 count, u32 ends[count + 1] from 0, UTF-8 bytes."""
    if len(data) < 8:
        raise damaged(SectionType.STRINGS, "too short")
    (count,) = struct.unpack_from("<I", data)
    text_at = 4 + 4 * (count + 1)
    if text_at > len(data):
        raise damaged(SectionType.STRINGS, "count is larger than the section")
    ends = np.frombuffer(data, "<u4", count + 1, 4).astype(np.int64)
    if ends[0] != 0 or (np.diff(ends) < 0).any() or int(ends[-1]) != len(data) - text_at:
        raise damaged(SectionType.STRINGS, "ends are not ascending or do not fill the section")
    body = bytes(data[text_at:])
    try:
        strings = [body[a:b].decode("utf-8") for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]
    except UnicodeDecodeError:
        raise damaged(SectionType.STRINGS, "not UTF-8") from None
    if len(set(strings)) != len(strings):
        raise damaged(SectionType.STRINGS, "a string stands there twice")
    return strings


def write_table(section: SectionType, values: Mapping[str, Sequence[Any]], strings: StringTable) -> bytes:
    """A table section from one sequence a column (str cells as str, list cells as sequences of int).

    Raises FvcError FVC310 where a value does not fit its cell.
    """
    columns = TABLES[section]
    count = len(next(iter(values.values())))
    rows = np.zeros(count, row_dtype(columns))
    pool: list[int] = []
    list_columns = [c.name for c in columns if c.kind == "list"]
    for column in columns:
        cells = values[column.name]
        if column.kind == "list":
            rows[column.name + "#count"] = [len(cell) for cell in cells]
            continue
        numbers = [strings(cell) for cell in cells] if column.kind == "str" else cells
        low, high = _LIMITS[column.kind]
        if not isinstance(numbers, np.ndarray):
            for number in numbers:
                if not low <= number <= high:
                    raise FvcError("FVC310", f"{section.name}.{column.name} = {number} does not fit", exit_code=70)
        rows[column.name] = numbers
    for row in zip(*(values[name] for name in list_columns), strict=True):
        for cell in row:
            pool.extend(cell)
    _number_lists(rows, list_columns)
    body = rows.tobytes()
    try:
        pool_bytes = np.array(pool, "<i8").tobytes()
    except OverflowError:
        raise FvcError("FVC310", f"a number in {section.name} does not fit 64 bits", exit_code=70) from None
    head = _TABLE_HEAD.pack(count, rows.dtype.itemsize, len(pool))
    return head + body + bytes(-len(body) % 8) + pool_bytes


def _number_lists(rows: NDArray[Any], names: Sequence[str]) -> None:
    """Gives each list its first pool index: row by row, and in a row column by column."""
    if not names or not len(rows):
        return
    counts = np.stack([rows[name + "#count"].astype(np.int64) for name in names], axis=1)
    firsts = (np.cumsum(counts.reshape(-1)) - counts.reshape(-1)).reshape(counts.shape)
    for k, name in enumerate(names):
        rows[name + "#first"] = firsts[:, k]


class Table:
    """A table section as read: `rows` the raw structured array, `pool` the list items."""

    def __init__(self, section: SectionType, data: bytes | memoryview, strings: Sequence[str]) -> None:
        """Raises FvcError FVC303 unless every count, index and list is in bounds and the size is exact."""
        self.section = section
        self.columns = TABLES[section]
        self._strings = strings
        dtype = row_dtype(self.columns)
        if len(data) < _TABLE_HEAD.size:
            raise damaged(section, "too short")
        count, row_bytes, pool_items = _TABLE_HEAD.unpack_from(data)
        if row_bytes != dtype.itemsize:
            raise damaged(section, f"rows of {row_bytes} bytes, {dtype.itemsize} expected")
        body = count * row_bytes
        pool_at = _TABLE_HEAD.size + body + -body % 8
        if pool_at + 8 * pool_items != len(data):
            raise damaged(section, "its counts do not fill it exactly")
        if any(data[_TABLE_HEAD.size + body : pool_at]):
            raise damaged(section, "padding is not zero")
        self.rows: NDArray[Any] = np.frombuffer(data, dtype, count, _TABLE_HEAD.size)
        self.pool: NDArray[np.int64] = np.frombuffer(data, "<i8", pool_items, pool_at)
        self._check_cells(pool_items)

    def _check_cells(self, pool_items: int) -> None:
        lists = [c.name for c in self.columns if c.kind == "list"]
        expected = self.rows.copy()
        _number_lists(expected, lists)
        total = sum(int(self.rows[name + "#count"].astype(np.int64).sum()) for name in lists)
        if total != pool_items or any((expected[n + "#first"] != self.rows[n + "#first"]).any() for n in lists):
            raise damaged(self.section, "its lists do not follow one another")
        for column in self.columns:
            if column.kind == "str" and (self.rows[column.name] >= len(self._strings)).any():
                raise damaged(self.section, f"{column.name} names a string that is not there")
            if column.kind == "u64" and (self.rows[column.name] >= 2**63).any():
                raise damaged(self.section, f"{column.name} is larger than 2^63")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list[Any]:
        """One column as plain values: int, str or tuple of int."""
        kind = next(c.kind for c in self.columns if c.name == name)
        if kind == "list":
            items = self.pool.tolist()
            firsts, counts = self.rows[name + "#first"].tolist(), self.rows[name + "#count"].tolist()
            return [tuple(items[a : a + n]) for a, n in zip(firsts, counts, strict=True)]
        cells: list[Any] = self.rows[name].tolist()
        return [self._strings[cell] for cell in cells] if kind == "str" else cells

    def records(self) -> list[dict[str, Any]]:
        """All rows as dictionaries, column order."""
        names = [c.name for c in self.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*(self[n] for n in names), strict=True)]
