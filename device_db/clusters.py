"""SPEC -> Cluster: `u280`, `u280x4`, `u280x2+u250x1`, or the path of a cluster or board file (TOML).

Guarantees a connected cluster of 1 to 256 devices with unique names and links of the asked topology, or an FVC5xx
error that names file, line and the nearest correct thing.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from math import isqrt
from pathlib import Path

from device_db.boards import board_names, load_board, load_board_file, problems_error, reserve
from device_db.errors import FvcError
from device_db.model import SWITCH, Board, Cluster, Device, Link
from device_db.schema import ClusterFile, DeviceFile, Problem, locate, read_toml, validate
from device_db.topology import device_path

MAX_DEVICES = 256
TOPOLOGIES = ("chain", "ring", "mesh", "torus", "switch")
_RESERVED_NAMES = ("host", "switch")


def load_cluster(spec: str, *, topology: str | None = None, clock_khz: int | None = None) -> Cluster:
    """The cluster of a SPEC. `topology` and `clock_khz` override what a file says; the default is a chain.

    Errors: FVC501 to FVC512.
    """
    if topology is not None and topology not in TOPOLOGIES:
        raise FvcError("FVC511", f"unknown topology {topology!r}", help=(f"one of {', '.join(TOPOLOGIES)}",))
    if clock_khz is not None and not 1_000 <= clock_khz <= 2_000_000:
        raise FvcError("FVC512", f"clock of {clock_khz / 1000:g} MHz", help=("give MHz, between 1 and 2000",))
    text = spec.strip()
    if not text:
        raise FvcError("FVC503", "the device specification is empty", help=("try u280, u280x4 or u280x2+u250x1",))
    if text.lower().endswith(".toml") and "+" not in Path(text).name:
        table, source = read_toml(Path(text))
        if table.get("schema") != "fvc.board/1":
            return _from_file(Path(text), table, source, topology, clock_khz)
    boards: list[tuple[Board, int]] = [_term(t, spec) for t in text.split("+")]
    total = sum(n for _, n in boards)
    if total > MAX_DEVICES:
        raise FvcError("FVC504", f"{total} devices asked for, at most {MAX_DEVICES} are supported")
    devices: list[Device] = []
    for board, n in boards:
        for _ in range(n):
            devices.append(Device(_next_name(board.name, devices), board))
    name = re.sub(r"\s+", "", text).lower() if "/" not in text else "+".join(f"{b.name}x{n}" for b, n in boards)
    return _finish(name, devices, topology or "chain", None, clock_khz)


def _next_name(base: str, devices: list[Device]) -> str:
    """<board>-<k>, k counting the devices of that board from 0."""
    taken = {d.name for d in devices}
    k = sum(1 for d in devices if d.board.name == base)
    while f"{base}-{k}" in taken:
        k += 1
    return f"{base}-{k}"


def _term(term: str, spec: str) -> tuple[Board, int]:
    word = term.strip()
    if not word:
        raise FvcError("FVC502", f"malformed device specification {spec!r}: nothing beside '+'")
    if word.lower().endswith(".toml"):
        return load_board_file(Path(word)), 1
    if word.lower() in board_names():
        return load_board(word), 1
    found = re.fullmatch(r"(.+?)\s*[xX*]\s*(-?\d+)", word)
    if found is None:
        if re.search(r"[\s,;:=]", word):
            raise FvcError("FVC502", f"malformed device specification {spec!r}", help=("write u280x2+u250x1",))
        return load_board(word), 1
    base, digits = found[1], found[2]
    board = load_board_file(Path(base)) if base.lower().endswith(".toml") else load_board(base)
    count = int(digits) if len(digits) <= 9 else MAX_DEVICES + 1
    if count <= 0:
        raise FvcError("FVC503", f"{word!r} asks for {digits} devices", help=("ask for at least one",))
    if count > MAX_DEVICES:
        raise FvcError("FVC504", f"{word!r} asks for {digits} devices, at most {MAX_DEVICES} are supported")
    return board, count


def _from_file(path: Path, table: dict[str, object], text: str, topology: str | None, clock_khz: int | None) -> Cluster:
    f, problems = validate("cluster", table, text)
    if f is None:
        raise problems_error(path, problems)
    assert isinstance(f, ClusterFile)
    devices: list[Device] = []
    for k, entry in enumerate(f.device):
        _add_devices(path, text, k, entry, devices)
    if not devices:
        raise FvcError("FVC503", f"{path} defines no device", help=("add a [[device]] table",))
    clock = clock_khz if clock_khz is not None else (f.clock_mhz * 1000 if f.clock_mhz is not None else None)
    name = f.name or path.stem
    listed = _listed_links(path, text, f, devices) if f.link else None
    if topology is not None:
        return _finish(name, devices, topology, None, clock)
    if listed is None and f.topology == "custom" and len(devices) > 1:
        raise FvcError("FVC509", f"{path}: a custom topology lists its links, and there is none")
    if listed is not None and f.topology not in (None, "custom"):
        message = f"topology: {f.topology} builds its own links; leave out [[link]] or say custom"
        raise problems_error(path, [Problem("FVC506", message, locate(text, ("topology",)))])
    return _finish(name, devices, "custom" if listed is not None else f.topology or "chain", listed, clock)


def _add_devices(path: Path, text: str, k: int, entry: DeviceFile, devices: list[Device]) -> None:
    here = locate(text, ("device", k))

    def wrong(message: str, key: str) -> FvcError:
        return problems_error(
            path, [Problem("FVC506", f"device[{k}].{key}: {message}", locate(text, ("device", k, key)))]
        )

    if (entry.board is None) == (entry.board_file is None):
        raise wrong("give either board or board_file", "board")
    if len(devices) + entry.count > MAX_DEVICES:
        raise FvcError("FVC504", f"{path} asks for more than {MAX_DEVICES} devices", where=(f"{path}:{here}",))
    if entry.board is not None:
        try:
            board = load_board(entry.board)
        except FvcError as error:
            place = f"{path}:{locate(text, ('device', k, 'board'))}"
            raise FvcError(error.code, error.what, where=(place,), help=error.help) from error
    else:
        assert entry.board_file is not None
        board = load_board_file(path.parent / entry.board_file)
    dies = [d.name for d in board.dies]
    for r in entry.reserved:
        if r.die not in dies:
            raise wrong(f"no die is called {r.die!r} (there are {', '.join(dies)})", "reserved")
    board = reserve(board, entry.reserved)
    for die in board.dies:
        left = die.raw - die.shell
        if min(left.lut, left.ff, left.bram18, left.uram, left.dsp) < 0:
            raise wrong(f"more is reserved than {die.name} has", "reserved")
    if entry.clock_mhz is not None:
        board = _clocked(board, entry.clock_mhz * 1000)
    for i in range(entry.count):
        if entry.name is None:
            name = _next_name(board.name, devices)
        else:
            name = entry.name if entry.count == 1 else f"{entry.name}-{i}"
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name in _RESERVED_NAMES:
            raise wrong(f"{name!r} is no device name (letters, digits, '.', '_', '-'; not host or switch)", "name")
        if name in {d.name for d in devices}:
            raise wrong(f"{name!r} is there twice", "name")
        devices.append(Device(name, board))


def _listed_links(path: Path, text: str, f: ClusterFile, devices: list[Device]) -> tuple[Link, ...]:
    index = {d.name: k for k, d in enumerate(devices)} | {"switch": SWITCH}
    ends: list[tuple[int, int]] = []
    for k, row in enumerate(f.link):
        place = (f"{path}:{locate(text, ('link', k))}",)
        for key, name in (("a", row.a), ("b", row.b)):
            if name not in index:
                known = ", ".join(d.name for d in devices[:8])
                raise FvcError(
                    "FVC508", f"link[{k}].{key}: no device is called {name!r}", where=place, help=(f"devices: {known}",)
                )
        if row.a == row.b:
            raise FvcError("FVC508", f"link[{k}] joins {row.a} to itself", where=place)
        a, b = sorted((index[row.a], index[row.b]), key=lambda d: (d == SWITCH, d))
        if (a, b) in ends:
            raise FvcError("FVC506", f"link[{k}]: {row.a} and {row.b} are linked twice", where=place)
        ends.append((a, b))
    built = _sized(devices, ends)
    out = []
    for plain, given in zip(built, f.link, strict=True):
        link = plain
        if given.gbps is not None:
            link = replace(link, bits_per_second=max(1, round(given.gbps * 1e9)))
        if given.latency_ns is not None:
            link = replace(link, latency_ns=given.latency_ns)
        out.append(link)
    return tuple(out)


def topology_pairs(count: int, topology: str) -> list[tuple[int, int]]:
    """Pairs of device indices that a topology links; (d, SWITCH) for a switch.

    chain i to i+1; ring closed (two devices have one link); mesh two-dimensional, rows of ceil(sqrt(count)) devices,
    the last row may be short; torus a mesh whose rows and columns of three and more are closed; switch a star.
    """
    if count == 1:
        return []
    if topology == "switch":
        return [(d, SWITCH) for d in range(count)]
    if topology in ("mesh", "torus"):
        width = isqrt(count - 1) + 1
        lines = [range(d, min(count, d + width)) for d in range(0, count, width)]
        lines += [range(d, count, width) for d in range(width)]
        closing = [(line[0], line[-1]) for line in lines if len(line) > 2 and topology == "torus"]
        return sorted(closing + [pair for line in lines for pair in pairwise(line)])
    pairs = [(d, d + 1) for d in range(count - 1)]
    return [*pairs, (0, count - 1)] if topology == "ring" and count > 2 else pairs


def _sized(devices: list[Device], pairs: list[tuple[int, int]]) -> tuple[Link, ...]:
    """Links with the bits a second and latency of their ends.

    A cage serves one link; a device with more links than cages splits its cages' lanes evenly among them.
    """
    degree = [0] * len(devices)
    for pair in pairs:
        for d in pair:
            if d != SWITCH:
                degree[d] += 1
    for d, n in enumerate(degree):
        if n and devices[d].board.network_die is None:
            raise FvcError(
                "FVC510",
                f"{devices[d].board.name} has no network port, so {devices[d].name} cannot be linked",
                help=("use it alone, or choose another board",),
            )
    links = []
    for a, b in pairs:
        ends = [devices[d].board for d in (a, b) if d != SWITCH]
        shares = [_port_share(devices[d].board, degree[d]) for d in (a, b) if d != SWITCH]
        links.append(Link(a, b, min(shares), max(e.network_latency_ns for e in ends)))
    return tuple(links)


def _port_share(board: Board, degree: int) -> int:
    if degree <= board.network_ports:
        return board.network_bits_per_second
    return board.network_bits_per_second * board.network_ports // degree


def _clocked(board: Board, clock_khz: int) -> Board:
    return replace(board, dies=tuple(replace(d, clock_khz=clock_khz) for d in board.dies))


def _finish(
    name: str, devices: list[Device], topology: str, links: tuple[Link, ...] | None, clock_khz: int | None
) -> Cluster:
    if links is None:
        links = _sized(devices, topology_pairs(len(devices), topology))
    linked = {d for link in links for d in (link.a, link.b)}
    final = []
    for d, device in enumerate(devices):
        board = device.board if clock_khz is None else _clocked(device.board, clock_khz)
        final.append(replace(device, board=_with_network(board) if d in linked else board))
    cluster = Cluster(name, topology, tuple(final), links)
    for d in range(1, len(final)):
        if device_path(cluster, 0, d) is None:
            raise FvcError(
                "FVC509",
                f"{final[d].name} cannot be reached from {final[0].name}",
                help=('add a [[link]], or use topology = "chain"',),
            )
    return cluster


def with_more(cluster: Cluster, more: int) -> Cluster | None:
    """The cluster with so many more of its last device, in the same topology; None for a custom one or too many."""
    if cluster.topology == "custom" or len(cluster.devices) + more > MAX_DEVICES:
        return None
    linked = {d for link in cluster.links for d in (link.a, link.b)}
    devices = [replace(d, board=_without_network(d.board)) if k in linked else d for k, d in enumerate(cluster.devices)]
    board = devices[-1].board
    if board.network_die is None:
        return None
    for _ in range(more):
        devices.append(Device(_next_name(board.name, devices), board))
    return _finish(f"{cluster.name}+{board.name}x{more}", devices, cluster.topology, None, None)


def _without_network(board: Board) -> Board:
    """The board as it was before `_with_network`."""
    dies = list(board.dies)
    assert board.network_die is not None
    die = dies[board.network_die]
    dies[board.network_die] = replace(die, shell=die.shell - board.network_cost)
    return replace(board, dies=tuple(dies))


def _with_network(board: Board) -> Board:
    """The network stack charged to the shell of the network die."""
    dies = list(board.dies)
    assert board.network_die is not None
    die = dies[board.network_die]
    dies[board.network_die] = replace(die, shell=die.shell + board.network_cost)
    return replace(board, dies=tuple(dies))
