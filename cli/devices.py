"""`fvc devices`: the device database, and whether a board or cluster file of one's own is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import ConfigOption, Format, FormatOption
from device_db.errors import FvcError

_HEAD = ("board", "dies", "LUT", "BRAM18", "URAM", "DSP", "DRAM GiB", "DRAM GB/s", "network Gb/s", "what it is")


def register(app: typer.Typer) -> None:
    """Adds the group to the application."""
    group = typer.Typer(help="The device database.", no_args_is_help=True)
    group.command("list", help="All boards, a line each; resources are what a design may use.")(list_boards)
    group.command("show", help="A board or a cluster with every number and its source.")(show)
    group.command("check", help="Check a board or cluster file (TOML) of your own.")(check)
    app.add_typer(group, name="devices")


def list_boards(format: FormatOption = Format.text, config: ConfigOption = None) -> int:
    """Prints the table of boards."""
    from cli.show import output
    from cli.show.tables import table
    from device_db import board_names, describe_board, load_board

    boards = [describe_board(load_board(name)) for name in board_names()]
    if format is Format.json:
        output.document("fvc.devices/1", {"boards": boards})
        return 0
    rows = []
    for b in boards:
        network = b["network"]
        rows.append(
            (
                b["name"],
                len(b["dies"]),
                *(b["usable"][k] for k in ("lut", "bram18", "uram", "dsp")),
                b["dram_bytes"] // 2**30,
                round(b["dram_bytes_per_second"] / 1e9),
                round(network["bits_per_second"] / 1e9) if network else 0,
                b["title"],
            )
        )
    output.text(table(rows, _HEAD))
    return 0


def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A board (u280) or a cluster (u280x4, FILE.toml).")],
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Prints a board, or the devices and links of a cluster."""
    from cli.show import output
    from device_db import board_names, describe_board, load_board, load_cluster

    if name.lower() in board_names():
        facts = describe_board(load_board(name))
        if format is Format.json:
            output.document("fvc.device/1", facts)
        else:
            output.text(_board(facts))
        return 0
    cluster = load_cluster(name)
    devices = [{"name": d.name, "board": d.board.name, "dies": [x.name for x in d.board.dies]} for d in cluster.devices]
    links: list[dict[str, Any]] = [
        {
            "a": cluster.devices[x.a].name,
            "b": cluster.devices[x.b].name if x.b >= 0 else "switch",
            "bits_per_second": x.bits_per_second,
            "latency_ns": x.latency_ns,
        }
        for x in cluster.links
    ]
    if format is Format.json:
        output.document(
            "fvc.devices-cluster/1",
            {"name": cluster.name, "topology": cluster.topology, "devices": devices, "links": links},
        )
        return 0
    lines = [f"{cluster.name}: {len(devices)} devices, {len(cluster.dies)} dies, {cluster.topology}"]
    lines += [f"  {d['name']}: {d['board']} ({', '.join(d['dies'])})" for d in devices]
    lines += [
        f"  {x['a']} - {x['b']}: {x['bits_per_second'] / 1e9:g} Gb/s a direction, {x['latency_ns']} ns" for x in links
    ]
    output.text("\n".join(lines))
    return 0


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A board or cluster file.")],
    format: FormatOption = Format.text,
    config: ConfigOption = None,
) -> int:
    """Exit code 0 if the file is sound; raises its first problems otherwise."""
    import tomllib

    from cli.show import output
    from device_db import load_board_file, load_cluster

    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as problem:
        raise FvcError("FVC002", f"cannot read the file: {problem.strerror}", where=(str(file),)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        content = {}  # the loader below tells line and column
    kind = "cluster" if "device" in content else "board"
    found = load_cluster(str(file)) if kind == "cluster" else load_board_file(file)
    if format is Format.json:
        output.document("fvc.devices-check/1", {"file": file.name, "kind": kind, "name": found.name, "passed": True})
    else:
        output.text(f"{file}: {kind} {found.name} is sound")
    return 0


def _board(facts: dict[str, Any]) -> str:
    from cli.show.tables import table

    lines = [f"{facts['name']}: {facts['title']} ({facts['part']}, {facts['family']})", ""]
    kinds = ("lut", "ff", "bram18", "uram", "dsp")
    rows = [
        (d["name"], *(f"{d['usable'][k]:,} of {d['raw'][k]:,}" for k in kinds), f"{d['clock_khz'] / 1000:g}")
        for d in facts["dies"]
    ]
    lines.append(table(rows, ("die", *(f"usable {k.upper()}" for k in kinds), "MHz")))
    lines += ["", f"SLL wires between neighbouring dies: {', '.join(map(str, facts['sll_wires'])) or 'none'}", ""]
    banks = [
        (
            b["name"],
            b["kind"],
            b["die"],
            f"{b['bytes_per_second'] / 1e9:g} GB/s",
            f"{b['efficiency_percent']} %",
            f"{b['capacity_bytes'] / 2**30:g} GiB",
        )
        for b in facts["banks"]
    ]
    lines.append(table(banks, ("bank", "kind", "die", "peak", "reached", "capacity")))
    if facts["network"]:
        n = facts["network"]
        lines += [
            "",
            f"network: {n['ports']} ports on {n['die']}, {n['bits_per_second'] / 1e9:g} Gb/s, {n['latency_ns']} ns",
        ]
    h = facts["host"]
    lines += ["", f"host: PCIe on {h['die']}, {h['bytes_per_second'] / 1e9:g} GB/s, {h['latency_ns']} ns"]
    lines += ["", "sources", *(f"  {k}: {v}" for k, v in sorted(facts["sources"].items()))]
    return "\n".join(lines)
