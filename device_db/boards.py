"""The boards of the database and boards from users' files: loading, checking, describing.

Every board is one TOML file (device_db/boards/<name>.toml) with a source for every number; `load_board` gives the
frozen `Board`, `check_board_file` the list of what is wrong with a file, `describe_board` plain data for `fvc devices`.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from device_db.errors import FvcError
from device_db.model import Board, Die, MemoryBank, Resources
from device_db.schema import BoardFile, Problem, ReservedFile, locate, read_toml, validate

BOARDS = Path(__file__).parent / "boards"
# Fields that name things; everything else in a board file is a number with a source.
_NAMES = frozenset({"schema", "name", "title", "family", "kind", "reason"})


@cache
def board_names() -> tuple[str, ...]:
    """Names of all boards of the database, sorted."""
    return tuple(sorted(p.stem for p in BOARDS.glob("*.toml")))


@cache
def load_board(name: str) -> Board:
    """A board by its name (any case). FVC501 with the closest names if there is none."""
    known = board_names()
    key = name.strip().lower()
    if key not in known:
        close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known boards: {', '.join(known)}"
        raise FvcError("FVC501", f"unknown device {name!r}", help=(hint, "`fvc devices list` shows all boards"))
    return load_board_file(BOARDS / f"{key}.toml")


def load_board_file(path: Path) -> Board:
    """A board from its file; the first problem of `check_board_file` as an error."""
    board, problems = _read(path)
    if board is None or problems:
        raise problems_error(path, problems)
    return board


def problems_error(path: Path, problems: list[Problem]) -> FvcError:
    """The problems of one file as one error block; the first gives the code."""
    first = problems[0]
    where = tuple(f"{path}:{p.line}: {p.message}" if p.line else f"{path}: {p.message}" for p in problems[:10])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return FvcError(first.code, f"{path.name}: {first.message}{more}", where=where)


def check_board_file(path: Path) -> list[Problem]:
    """Everything that is wrong with a board file; empty if nothing is. Unreadable files raise FVC505."""
    return _read(path)[1]


def _read(path: Path) -> tuple[Board | None, list[Problem]]:
    table, text = read_toml(path)
    parsed, problems = validate("board", table, text)
    if parsed is None:
        return None, problems
    problems = [*_names(parsed, text), *_sources(table, text)]
    if any(p.code == "FVC506" for p in problems):
        return None, problems
    return _board(parsed), problems


def _names(f: BoardFile, text: str) -> Iterable[Problem]:
    """Consistency between fields: names of dies, counts, reserved regions."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", f.name):
        yield Problem("FVC506", "name: use letters, digits, '.', '_' and '-' only", locate(text, ("name",)))
    dies = [d.name for d in f.die]
    for k, name in enumerate(dies):
        if name in dies[:k]:
            yield Problem("FVC506", f"die[{k}].name: {name!r} is there twice", locate(text, ("die", k, "name")))
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            yield Problem(
                "FVC506", f"die[{k}].name: use letters, digits, '.', '_', '-'", locate(text, ("die", k, "name"))
            )
    if len(f.sll_wires) != len(dies) - 1:
        wanted = f"{len(dies)} dies have {len(dies) - 1} boundaries, got {len(f.sll_wires)} numbers"
        yield Problem("FVC506", f"sll_wires: {wanted}", locate(text, ("sll_wires",)))
    uses: list[tuple[str, tuple[str | int, ...]]] = [(f.host.die, ("host", "die"))]
    uses += [(b.die, ("bank", k, "die")) for k, b in enumerate(f.bank)]
    uses += [(r.die, ("reserved", k, "die")) for k, r in enumerate(f.reserved)]
    if f.network:
        uses.append((f.network.die, ("network", "die")))
    for name, loc in uses:
        if name not in dies:
            yield Problem(
                "FVC506", f"{loc[0]}: no die is called {name!r} (there are {', '.join(dies)})", locate(text, loc)
            )
    seen: set[str] = set()
    for k, b in enumerate(f.bank):
        for name in [b.name] if b.count is None else [f"{b.name}{i}" for i in range(b.count)]:
            if name in seen:
                yield Problem("FVC506", f"bank[{k}].name: {name!r} is there twice", locate(text, ("bank", k, "name")))
            seen.add(name)
    for k, d in enumerate(f.die):
        taken = Resources(**asdict(d.shell))
        for r in f.reserved:
            taken = taken + _amount(r) if r.die == d.name else taken
        if f.network and f.network.die == d.name:
            taken = taken + Resources(**asdict(f.network.cost))
        for key, value in asdict(Resources(**asdict(d.raw)) - taken).items():
            if value < 0:
                message = f"die[{k}]: shell, network and reserved take {-value} {key} more than {d.name} has"
                yield Problem("FVC506", message, locate(text, ("die", k, "shell")))


def _amount(r: ReservedFile) -> Resources:
    return Resources(r.lut, r.ff, r.bram18, r.uram, r.dsp)


def _sources(table: dict[str, Any], text: str) -> Iterable[Problem]:
    """Every number needs a source: an entry under [sources] that is its path or a prefix of it, indices left out."""
    given = {k for k, v in table["sources"].items() if v.strip()}
    for key in sorted(k for k, v in table["sources"].items() if not v.strip()):
        yield Problem("FVC507", f"sources.{key}: is empty", locate(text, ("sources", key)))
    missing: dict[str, tuple[str | int, ...]] = {}
    for loc in _numbers(table):
        path = [p for p in loc if isinstance(p, str)]
        if path[0] in ("sources", "reserved"):
            continue
        least = 1 if len(path) == 1 else 2
        if not any(".".join(path[:n]) in given for n in range(least, len(path) + 1)):
            missing.setdefault(".".join(path[:2]), loc)
    for name, loc in missing.items():
        yield Problem("FVC507", f"{name}: the number has no source under [sources]", locate(text, loc))


def _numbers(value: Any, loc: tuple[str | int, ...] = ()) -> Iterable[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for k, v in value.items():
            if k not in _NAMES:
                yield from _numbers(v, (*loc, k))
    elif isinstance(value, list):
        for k, v in enumerate(value):
            yield from _numbers(v, (*loc, k))
        if not value:
            return
    elif isinstance(value, (int, float)):
        yield loc


def _board(f: BoardFile) -> Board:
    index = {d.name: k for k, d in enumerate(f.die)}
    dies = []
    for d in f.die:
        shell = Resources(**asdict(d.shell))
        for r in f.reserved:
            shell = shell + _amount(r) if r.die == d.name else shell
        dies.append(Die(d.name, Resources(**asdict(d.raw)), shell, Resources(**asdict(d.usable_percent)), d.clock_khz))
    banks = []
    for b in f.bank:
        for name in [b.name] if b.count is None else [f"{b.name}{i}" for i in range(b.count)]:
            rate = (b.bytes_per_second, b.efficiency_percent, b.capacity_bytes, b.port_bits)
            banks.append(MemoryBank(name, b.kind, index[b.die], *rate))
    n = f.network
    return Board(
        name=f.name,
        part=f.part,
        family=f.family,
        dies=tuple(dies),
        sll_wires=tuple(f.sll_wires),
        banks=tuple(banks),
        network_die=index[n.die] if n else None,
        network_bits_per_second=n.bits_per_second if n else 0,
        network_latency_ns=n.latency_ns if n else 0,
        pcie_die=index[f.host.die],
        pcie_bytes_per_second=f.host.bytes_per_second,
        pcie_latency_ns=f.host.latency_ns,
        price_usd=f.price_usd,
        power_w=f.power_w,
        macs_per_dsp=f.macs_per_dsp,
        sources=dict(sorted(f.sources.items())),
        network_ports=n.ports if n else 0,
        network_cost=Resources(**asdict(n.cost)) if n else Resources(),
        title=f.title,
    )


def reserve(board: Board, reserved: Iterable[ReservedFile]) -> Board:
    """The board with regions kept for something else added to its dies' shell; names must be dies of it."""
    extra: dict[str, Resources] = {}
    for r in reserved:
        extra[r.die] = extra.get(r.die, Resources()) + _amount(r)
    dies = tuple(replace(d, shell=d.shell + extra.get(d.name, Resources())) for d in board.dies)
    return replace(board, dies=dies)


def describe_board(board: Board) -> dict[str, Any]:
    """Plain data of a board for `fvc devices show`: dies with usable amounts, totals, banks, links, sources."""
    dies = [{**asdict(d), "usable": asdict(d.usable)} for d in board.dies]
    total, usable = Resources(), Resources()
    for d in board.dies:
        total, usable = total + d.raw, usable + d.usable
    banks = [{**asdict(b), "die": board.dies[b.die].name} for b in board.banks]
    network = None
    if board.network_die is not None:
        network = {
            "die": board.dies[board.network_die].name,
            "ports": board.network_ports,
            "bits_per_second": board.network_bits_per_second,
            "latency_ns": board.network_latency_ns,
            "cost": asdict(board.network_cost),
        }
    return {
        "name": board.name,
        "title": board.title,
        "part": board.part,
        "family": board.family,
        "dies": dies,
        "total": asdict(total),
        "usable": asdict(usable),
        "sll_wires": list(board.sll_wires),
        "banks": banks,
        "dram_bytes": sum(b.capacity_bytes for b in board.banks),
        "dram_bytes_per_second": sum(b.bytes_per_second for b in board.banks),
        "network": network,
        "host": {
            "die": board.dies[board.pcie_die].name,
            "bytes_per_second": board.pcie_bytes_per_second,
            "latency_ns": board.pcie_latency_ns,
        },
        "macs_per_dsp": board.macs_per_dsp,
        "price_usd": board.price_usd,
        "power_w": board.power_w,
        "sources": board.sources,
    }


@cache
def database_hash() -> str:
    """SHA-256 over names and contents of all board files: what a manifest records of the database."""
    h = hashlib.sha256()
    for name in board_names():
        data = (BOARDS / f"{name}.toml").read_bytes()
        h.update(f"{name}\0{len(data)}\0".encode())
        h.update(data)
    return h.hexdigest()
