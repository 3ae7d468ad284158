"""`python -m benchmarks.superlip`: one frame at a time over ZCU102 boards, with and without shared weights (XFER).

Every net is compiled for the least latency onto rings of 1 to 16 boards: cut freely with XFER where it is quicker, cut
freely without it, and by rows alone with and without it (Super-LIP's plain split). Boards: the database's zcu102;
`benchmarks/boards/zcu102lip.toml`, which has Super-LIP's clock, memory ports and wide links; zcu102slim.toml, the same
with buffers of tiles instead of whole layers (one and two boards only). `--docs` writes the tables of docs/superlip.md
from the results that are there. Latencies are those of the simulator, the prediction stands beside them. Figures, not
tests; the paper's 3.48x on two boards is of its own float32 design against a design of others on one board, so it
stands here for comparison and is no pass mark.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import superlip_tables
from compiler.export.roofline import roofline
from compiler.export.speedup import Speedup, speedups
from compiler.frontend import ImportOptions, load_model
from compiler.frontend.zoo import build
from compiler.ir.graph import Graph
from compiler.isa.program import DeviceProgram
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.schedule import schedule
from compiler.simulator import simulate
from compiler.simulator.host import host_tasks
from device_db import load_cluster
from device_db.errors import FvcError
from device_db.model import Cluster

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "superlip.json"
NETS = ("alexnet", "vgg16", "squeezenet1.0", "yolov3tiny", "resnet50")
BOARDS = {"zcu102": "zcu102"} | {b: str(HERE / "boards" / f"{b}.toml") for b in ("zcu102lip", "zcu102slim")}
SIZES = (1, 2, 4, 8, 16)
MOST = {"zcu102slim": 2}  # boards of a kind
PAGE = HERE.parent / "docs" / "superlip.md"
PUBLISHED = {"speedup": 3.48, "devices": 2, "source": "Super-LIP, Jiang et al., TECS 2019: XFER on two ZCU102"}


@dataclass(frozen=True, slots=True)
class Way:
    """How layers may be cut."""

    name: str
    xfer: str
    rows: bool = False


WAYS = (Way("free+xfer", "auto"), Way("free", "never"), Way("rows+xfer", "auto", True), Way("rows", "never", True))


def main() -> int:
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--nets", nargs="*", default=list(NETS), choices=NETS)
    args.add_argument("--boards", nargs="*", default=list(BOARDS), choices=sorted(BOARDS))
    args.add_argument("--sizes", nargs="*", type=int, default=list(SIZES))
    args.add_argument("--time-limit", type=float, default=2.0, help="solver seconds a plan")
    args.add_argument("--docs", action="store_true", help="measure nothing, write the tables of docs/superlip.md")
    given = args.parse_args()
    rows = known()
    if given.docs:
        superlip_tables.write(list(rows.values()), [w.name for w in WAYS], PAGE)
        return 0
    for net in given.nets:
        graph = imported(net)
        for board in given.boards:
            one: list[DeviceProgram] = []
            for size in sorted(n for n in {1, *given.sizes} if n <= MOST.get(board, n)):
                for way in WAYS if size > 1 else WAYS[:1]:
                    row, programs = measure(graph, net, board, size, way, given.time_limit, one)
                    one = one or programs
                    rows[(net, board, size, way.name)] = row
                    print(json.dumps(row, sort_keys=True), flush=True)
                    store(rows)
    print(table(list(rows.values())))
    return 0


def known() -> dict[tuple[str, str, int, str], dict[str, Any]]:
    """The rows measured before, which a run of some nets or sizes leaves as they are."""
    if not RESULTS.is_file():
        return {}
    listed = json.loads(RESULTS.read_text())["rows"]
    return {(r["net"], r["board"], r["devices"], r["way"]): r for r in listed}


def store(rows: dict[tuple[str, str, int, str], dict[str, Any]]) -> None:
    order = {name: k for k, name in enumerate((*NETS, *BOARDS, *(w.name for w in WAYS)))}
    listed = sorted(rows.values(), key=lambda r: (order[r["net"]], order[r["board"]], r["devices"], order[r["way"]]))
    lines = ",\n".join("  " + json.dumps(r, sort_keys=True) for r in listed)
    published = json.dumps(PUBLISHED, sort_keys=True)
    RESULTS.write_text(f'{{\n "published": {published},\n "rows": [\n{lines}\n ],\n "schema": "fvc.superlip/1"\n}}\n')


def imported(net: str) -> Graph:
    """The zoo's network with seeded weights, quantised with random data."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{net}.onnx"
        onnx.save(build(net), path)
        return load_model(path, ImportOptions())


def measure(
    graph: Graph, net: str, board: str, size: int, way: Way, time_limit_s: float, one: Sequence[DeviceProgram]
) -> tuple[dict[str, Any], list[DeviceProgram]]:
    """One plan: latency simulated and predicted, what it moves, what bounds its layers, which of them are super-linear
    over the programs of `one` board and why the others are not. The host's own time (head and tail of the net) is left
    out: the paper's figures are those of the accelerators."""
    spec = BOARDS[board] if size == 1 else f"{BOARDS[board]}x{size}"
    cluster = load_cluster(spec, topology="ring" if size > 2 else None)
    host_ns = {s.name: 1 for s in graph.host_segments}
    options = PartitionOptions(
        objective="latency", xfer=way.xfer, host_ns=host_ns, time_limit_s=time_limit_s,
        force_split=(("Pr", size),) if way.rows and size > 1 else (),
    )  # fmt: skip
    head = {"net": net, "board": board, "devices": size, "way": way.name}
    try:
        plan = partition(graph, cluster, options)
    except FvcError as error:
        return head | {"error": f"{error.code}: {error.what}"}, []
    programs = schedule(graph, plan, cluster)
    played = simulate(programs, 1, host_tasks({s.name: s.model for s in graph.host_segments}, host_ns))
    layers = roofline(programs)
    limits = {k: sum(r.limit == k for r in layers) for k in ("compute", "vector", "memory", "link")}
    bits = {k: v["bits_per_frame"] for k, v in plan.predicted["links"].items() if "host" not in k}
    gains = speedups(one, programs)
    facts = {
        "latency_us": round(played.latency_ps / 1e6, 1),
        "predicted_us": round(plan.predicted["latency_ns"] / 1e3, 1),
        "shared_layers": sum(bool(x.xfer) for x in plan.layers),
        "dram_mib": round(sum(r.dram_bytes for r in layers) / 2**20, 2),
        "link_mib": round(sum(bits.values()) / 8 / 2**20, 2),
        "busiest_link_permille": busiest(bits, cluster, played.latency_ps),
        "energy_mj": round(sum(d.board.power_w for d in cluster.devices) * played.latency_ps / 1e9, 2),
        "bound_by": {k: n for k, n in limits.items() if n},
        "layers": {r.layer: r.limit for r in layers},
        "super_linear": [r.layer for r in gains if r.super_linear],
        "speedup_permille": {r.layer: [r.engines, r.permille] for r in gains},
        "reasons": reasons(gains),
    }
    return head | facts, programs


def reasons(gains: Sequence[Speedup]) -> dict[str, list[str]]:
    """Layers by why they are, or are not, super-linear."""
    out: dict[str, list[str]] = {}
    for r in gains:
        out.setdefault(("super-linear: " if r.super_linear else "") + r.reason, []).append(r.layer)
    return out


def busiest(bits: dict[str, int], cluster: Cluster, latency_ps: int) -> int:
    """Share of the latency for which the busiest link between boards moves bytes."""
    from device_db.topology import link_specs

    specs = link_specs(cluster)
    return max((b * 10**15 // specs[k][0] // max(1, latency_ps) for k, b in bits.items()), default=0)


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as a Markdown table; speed-ups are over one board of the same kind."""
    one = {(r["net"], r["board"]): r["latency_us"] for r in rows if r["devices"] == 1 and "latency_us" in r}
    names = "net, board, boards, cut, latency us, speed-up, shared, DRAM MiB, links MiB, busiest link, mJ, bound"
    names += ", super-linear layers"
    out = ["| " + names.replace(", ", " | ") + " |", "|---" * (names.count(",") + 1) + "|"]
    for r in rows:
        head = f"| {r['net']} | {r['board']} | {r['devices']} | {r['way']} "
        base = one.get((r["net"], r["board"]))
        if "error" in r or base is None:
            out.append(f"{head}| {r.get('error', '')} | | | | | | | | |")
            continue
        bound = ", ".join(f"{n} {k}" for k, n in r["bound_by"].items())
        out.append(
            f"{head}| {r['latency_us']:,.0f} | {base / r['latency_us']:.2f} | {r['shared_layers']} | {r['dram_mib']} "
            f"| {r['link_mib']} | {r['busiest_link_permille'] / 10:.0f} % | {r['energy_mj']} | {bound} "
            f"| {len(r.get('super_linear', ()))} |"
        )
    return "\n".join(out)


if __name__ == "__main__":
    raise SystemExit(main())
