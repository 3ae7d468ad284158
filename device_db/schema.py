"""What a board file and a cluster file look like, and the judge at the file boundary.

`read_toml` gives the table or an error with line and column; `validate` turns it into these dataclasses (pydantic
TypeAdapter, strict, unknown fields refused) or into a list of problems, each with the line where it stands.
The JSON Schemas in device_db/schema/ come from these classes (a test compares them).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from annotated_types import Ge, Gt, Le, MinLen

from device_db.errors import FvcError

# Upper bounds keep absurd numbers (and 64-bit overflow further on) out; they are far above any board.
Count = Annotated[int, Ge(0), Le(1 << 40)]
Positive = Annotated[int, Gt(0), Le(1 << 50)]
Percent = Annotated[int, Ge(1), Le(100)]
Clock = Annotated[int, Ge(1_000), Le(2_000_000)]
Name = Annotated[str, MinLen(1)]
Topology = Literal["chain", "ring", "mesh", "torus", "switch", "custom"]
_CONFIG: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, slots=True)
class Amount:
    """Resources: LUT, FF, 18 kb BRAM halves, URAM288, DSP slices; what is absent is 0."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    lut: Count = 0
    ff: Count = 0
    bram18: Count = 0
    uram: Count = 0
    dsp: Count = 0


@dataclass(frozen=True, slots=True)
class Percents:
    """Share of each resource type that a design may use, in percent."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    lut: Percent
    ff: Percent
    bram18: Percent
    uram: Percent
    dsp: Percent


@dataclass(frozen=True, slots=True)
class DieFile:
    """One [[die]]: an SLR, or the whole of a monolithic device; in order of adjacency."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    name: Name
    clock_khz: Clock
    raw: Amount
    usable_percent: Percents
    shell: Amount = field(default_factory=Amount)


@dataclass(frozen=True, slots=True)
class BankFile:
    """One [[bank]]; with `count`, that many equal ones named <name>0, <name>1, …"""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    name: Name
    kind: Name
    die: Name
    bytes_per_second: Positive
    efficiency_percent: Percent
    capacity_bytes: Positive
    port_bits: Annotated[int, Ge(8), Le(1 << 16)]
    count: Annotated[int, Ge(1), Le(256)] | None = None


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """[network]: the board's cages; `cost` is charged on `die` once the device has a link."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    die: Name
    ports: Annotated[int, Ge(1), Le(64)]
    bits_per_second: Positive
    latency_ns: Count
    cost: Amount = field(default_factory=Amount)


@dataclass(frozen=True, slots=True)
class HostFile:
    """[host]: the way to the host (PCIe, or the processing system on a Zynq)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    die: Name
    bytes_per_second: Positive
    latency_ns: Count


@dataclass(frozen=True, slots=True)
class ReservedFile:
    """[[reserved]]: resources of a die that a user keeps for something else."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    die: Name
    lut: Count = 0
    ff: Count = 0
    bram18: Count = 0
    uram: Count = 0
    dsp: Count = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class BoardFile:
    """A board; `sources` says for every number (by dotted path) where it comes from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    schema: Literal["fvc.board/1"]
    name: Annotated[str, MinLen(1)]
    part: Name
    family: Name
    sll_wires: list[Count]
    macs_per_dsp: Annotated[int, Ge(1), Le(16)]
    price_usd: Count
    power_w: Count
    host: HostFile
    die: Annotated[list[DieFile], MinLen(1)]
    bank: Annotated[list[BankFile], MinLen(1)]
    sources: dict[str, str]
    title: str = ""
    network: NetworkFile | None = None
    reserved: list[ReservedFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """One [[device]] of a cluster: a board of the database, or a board file beside the cluster file."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    board: str | None = None
    board_file: str | None = None
    name: Annotated[str, MinLen(1)] | None = None
    count: Annotated[int, Ge(1)] = 1
    clock_mhz: Annotated[int, Ge(1), Le(2000)] | None = None
    reserved: list[ReservedFile] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class LinkFile:
    """One [[link]] of a custom topology, full duplex, between device names; "switch" stands for the switch."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    a: Name
    b: Name
    gbps: Annotated[float, Gt(0), Le(100_000)] | None = None
    latency_ns: Count | None = None


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """A cluster; links are built by `topology`, or listed (then the topology is custom)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _CONFIG
    schema: Literal["fvc.cluster/1"]
    device: list[DeviceFile]
    name: str = ""
    topology: Topology | None = None
    clock_mhz: Annotated[int, Ge(1), Le(2000)] | None = None
    link: list[LinkFile] = field(default_factory=list)


FILES: dict[str, type[Any]] = {"board": BoardFile, "cluster": ClusterFile}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a device file; `line` counts from 1, 0 if it cannot be told."""

    code: str
    message: str
    line: int = 0


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """(table, text) of a TOML file; FVC505 if it is missing, unreadable, not UTF-8 or no TOML."""
    import tomllib

    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise FvcError("FVC505", f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise FvcError("FVC505", f"{path} is not UTF-8 text (byte {error.start})") from error
    try:
        return tomllib.loads(text), text
    except tomllib.TOMLDecodeError as error:
        # Duplicate keys and tables arrive here too: TOML itself forbids them.
        raise FvcError(
            "FVC505", f"{path} is not valid TOML: {error}", where=(_syntax_place(path, text, str(error)),)
        ) from error
    except RecursionError as error:
        raise FvcError("FVC505", f"{path} is nested too deeply") from error


def _syntax_place(path: Path, text: str, message: str) -> str:
    found = re.search(r"line (\d+), column (\d+)", message)
    return f"{path}:{found[1]}:{found[2]}" if found else f"{path}:{text.count(chr(10)) + 1}"


def validate(kind: str, table: dict[str, Any], text: str) -> tuple[Any, list[Problem]]:
    """(BoardFile or ClusterFile, []) or (None, problems); kind is "board" or "cluster"."""
    import json

    from pydantic import TypeAdapter, ValidationError

    try:
        # Through JSON: strict mode then still takes tables for dataclasses, but neither "5" nor 5.0 for an integer.
        return TypeAdapter(FILES[kind]).validate_json(json.dumps(table, default=str)), []
    except ValidationError as error:
        problems = [
            Problem("FVC506", f"{_dotted(e['loc'])}: {_plain(e)}", locate(text, e["loc"])) for e in error.errors()
        ]
        return None, problems


def json_schema(kind: str) -> dict[str, Any]:
    """The JSON Schema of a board or cluster file."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(FILES[kind]).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _dotted(loc: tuple[str | int, ...]) -> str:
    out = ""
    for part in loc:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out or "file"


def _plain(error: Any) -> str:
    kind, shown = error["type"], repr(error.get("input"))
    if kind == "missing":
        return "is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return "is not a known field"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, got {shown[:60]}"


def locate(text: str, loc: tuple[str | int, ...]) -> int:
    """The line (from 1) of a field in TOML text, or of the table it is missing from, or 0.

    Good for the plain style of the shipped files: [[array]] headers, [table] headers, key = value lines.
    """
    lines = text.splitlines()
    first, last, found = 0, len(lines), 0
    parts = list(loc)
    while parts and isinstance(parts[0], str):
        key = parts[0]
        if len(parts) > 1 and isinstance(parts[1], int):
            heads = [k for k in range(first, last) if re.match(rf"\s*\[\[\s*{re.escape(key)}\s*\]\]", lines[k])]
            if parts[1] >= len(heads):
                break
            first, found = heads[parts[1]] + 1, heads[parts[1]] + 1
            del parts[:2]
        else:
            head = [k for k in range(first, last) if re.match(rf"\s*\[\s*{re.escape(key)}\s*\]", lines[k])]
            if not head:
                break
            first, found = head[0] + 1, head[0] + 1
            del parts[0]
        last = next((k for k in range(first, len(lines)) if re.match(r"\s*\[", lines[k])), len(lines))
    for part in parts:
        if not isinstance(part, str):
            continue
        quoted = rf'(?:{re.escape(part)}|"{re.escape(part)}")'
        for k in range(first, last):
            if re.match(rf"\s*{quoted}\s*=", lines[k]):
                return k + 1
        break
    return found
