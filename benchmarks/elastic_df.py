"""`python -m benchmarks.elastic_df`: the networks of Elastic-DF on one, two and four boards, three ways to place them.

Each cell (network, board, number) is a record in benchmarks/results/elastic_df.json, written as soon as it is there;
one that was made by the very same sources is not run again. The tables of docs/elastic-df.md come from the records.
FINN_PYTHON: the python of an environment with finn-plus 1.6.1, whose own partitioner then gets each problem too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks.corpus import source_digest
from benchmarks.loaded import ROOT

RESULTS = ROOT / "benchmarks" / "results" / "elastic_df.json"
PAGE = ROOT / "docs" / "elastic-df.md"
MARK = "<!-- written by benchmarks.elastic_df from here on -->"
NETWORKS = ("mobilenetv1-w4a4", "resnet50-w1a2")
BOARDS, COUNTS = ("u50", "u200", "u250", "u280"), (1, 2, 4)
FLOWS = ("in_order", "elastic_df", "fvc")
HELD_PERCENT = (12, 16, 20)  # of every die for FIFOs and converters, more where the netlists come out over
PEER_SECONDS = 20
COPIES = (1, 2, 4)  # of the network on the cluster, side by side
MOST_SEATS = 2500  # layers x dies up to which more copies are tried


def cells() -> list[str]:
    return [f"{net}/{board}x{count}" for net in NETWORKS for board in BOARDS for count in COUNTS]


@lru_cache(maxsize=1)
def network(net: str) -> Any:
    """The graph of a zoo network; its options are priced once and kept with it."""
    from compiler.frontend import load_proto, zoo

    return load_proto(zoo.build(net))


def run_cell(key: str) -> dict[str, Any]:
    """All flows of one cell; the record says for each what it reached, or that it found no place."""
    from benchmarks.elastic_problem import streaming
    from device_db import load_cluster

    net, where = key.split("/")
    cluster = load_cluster(where, topology="chain")
    record: dict[str, Any] = {}
    for held in HELD_PERCENT:
        problem = streaming(network(net), cluster, held)
        record = {"layers": len(problem.nodes), "dies": len(problem.refs), "held_percent": held}
        record |= run_flows(problem)
        if not any(not what.endswith("wires") for name in FLOWS for what in record[name].get("over", ())):
            break  # wires that a placement without widths in its objective takes are its result, not ours to mend
    return record


def run_flows(problem: Any) -> dict[str, Any]:
    """Each flow with the number of copies that gives it the most frames; more are tried while the bound allows more."""
    from benchmarks.elastic_flows import FLOWS as RUN
    from benchmarks.elastic_flows import measure, merged, planned

    bounds = {}
    for copies in COPIES:
        if copies == 1 or copies * len(problem.nodes) * len(problem.refs) <= MOST_SEATS:
            bound = merged(problem, copies)
            if bound is None:
                break
            bounds[copies] = bound
    record: dict[str, Any] = {"merged_die_bounds": bounds}
    for name in FLOWS:
        started, best, place = time.process_time(), None, None
        for copies, bound in bounds.items():
            if best is not None and copies / bound <= best["copies"] / best["interval_cycles"]:
                continue
            found = RUN[name](problem, copies)
            if found is None:
                continue
            assert found.interval >= bound, "a placement below the proved bound"
            reached = {**found.details, **measure(problem, found)}
            if best is None or reached["fps"] > best["fps"]:
                best, place = reached, found
        record[name] = {**(best or {"status": "no place found"}), "cpu_s": round(time.process_time() - started, 1)}
        if name == "elastic_df" and place is not None:
            record["finn_plus"] = peer(problem, place)
        if name == "fvc" and best is not None:
            started = time.process_time()
            record["plan"] = planned(problem, best["copies"])
            record["plan"]["cpu_s"] = round(time.process_time() - started, 1)
    return record


def peer(problem: Any, found: Any) -> dict[str, Any]:
    """finn-plus's own partitioner on the folds that elastic_df ended with."""
    from benchmarks.elastic_problem import fixed

    python = os.environ.get("FINN_PYTHON")
    if not python:
        return {"status": "not run: FINN_PYTHON is not set"}
    n = len(problem.nodes)
    case = fixed(problem, [k for _, k in found.place[:n]], found.interval, "peer", len(found.place) // n)
    slots = range(len(case.slot_ids))
    cost = [[0 if a == b else -1 for b in slots] for a in slots]
    limits = [[[-1, -1] if a == b else [0, 0] for b in slots] for a in slots]  # -1 does not bind
    for c in case.connections:
        cost[c.src][c.dst] = c.cost
        limits[c.src][c.dst] = [-1 if c.max_wires is None else c.max_wires, -1 if c.max_bps is None else c.max_bps]
    document = {
        "tasks": [own[0] for own in case.versions],
        "edges": [(e.src, e.dst) for e in case.edges],
        "needs": [(e.wires, e.bps) for e in case.edges],
        "slots": case.budget,
        "cost": cost,
        "limits": limits,
        "seconds": PEER_SECONDS,
    }
    command = [python, str(Path(__file__).with_name("finn_peer.py"))]
    try:
        done = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=300)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (subprocess.TimeoutExpired, OSError, IndexError, json.JSONDecodeError) as problem_there:
        return {"status": "failed", "reason": repr(problem_there)[:200]}


def table(records: dict[str, dict[str, Any]]) -> str:
    """The records as Markdown."""
    flows = {"in_order": "in order", "elastic_df": "Elastic-DF", "fvc": "fold and place", "plan": "fvc partition"}
    lines = [
        "| network, boards | flow | copies | interval (cycles) | gap | FPS | FPS/k$ | FPS, clock table | latency ms "
        "| SLL wires, fullest boundary | streams over SLLs | fullest die | CPU s | FPS against in order |",
        "|" + "---|" * 14,
    ]
    for key, record in records.items():
        base = record.get("in_order", {}).get("fps")
        for flow, title in flows.items():
            r = record.get(flow, {"status": "not run"})
            if "fps" not in r:
                lines.append(f"| {key} | {title} | {r['status']} |" + " |" * 11)
                continue
            gap = f"{100 * r['gap']:.2f} %" if r.get("gap") else "0" if r.get("gap") == 0 else ""
            full = max(
                (v, f"{d.split('/')[1]} {t.upper()}") for d, u in r["die_permille_of_raw"].items() for t, v in u.items()
            )
            wires = f"{max(r['sll_wires'].values(), default=0):,}" + " (over)" * any(
                x.endswith("wires") for x in r["over"]
            )
            cells_ = [
                key, title, str(r["copies"]), f"{r['interval_cycles']:,}", gap,
                f"{r['fps']:,.0f}", f"{r['fps_per_kusd']:,.0f}",
                f"{r['clock_table_fps']:,.0f} at {r['clock_table_mhz']:g} MHz", f"{r['latency_ms']:.2f}",
                wires, str(r["sll_streams"]),
                f"{full[1]} {full[0] / 10:.0f} %",
                f"{r['cpu_s']:.1f}", f"{100 * r['fps'] / base - 100:+.0f} %" if base else "",
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells_)} |")
    return "\n".join(lines)


def peers(records: dict[str, dict[str, Any]]) -> str:
    """finn-plus's partitioner beside ours on the same problem of fixed folds."""
    lines = [
        "| network, boards | finn-plus: status, cost, seconds | same problem here: status, cost |",
        "|---|---|---|",
    ]
    for key, record in records.items():
        r, own = record.get("finn_plus"), record.get("elastic_df", {})
        if r:
            cost = "–" if r.get("objective") is None else f"{r['objective']:g}"
            seconds = f", {r['seconds']} s" if "seconds" in r else ""
            lines.append(
                f"| {key} | {r['status']}, {cost}{seconds} | {own.get('status')}, {own.get('crossing_cost')} |"
            )
    return "\n".join(lines)


def write(records: dict[str, dict[str, Any]]) -> None:
    """Results and page, whole, after every cell."""
    ordered = {key: records[key] for key in cells() if key in records}
    RESULTS.write_text(json.dumps({"schema": "fvc.elastic_df/1", "cells": ordered}, indent=1) + "\n", "utf-8")
    head = PAGE.read_text("utf-8").split(MARK)[0]
    count = f"{len(ordered)} of {len(cells())} cells measured; the command goes on with the others."
    PAGE.write_text(f"{head}{MARK}\n\n{count}\n\n{table(ordered)}\n\n{peers(ordered)}\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="run the cells whose key contains this")
    parser.add_argument("--any-version", action="store_true", help="keep records of other source versions")
    arguments = parser.parse_args()
    digest = source_digest()
    records = json.loads(RESULTS.read_text())["cells"] if RESULTS.exists() else {}

    def kept(key: str) -> bool:
        old = records.get(key)
        return old is not None and (arguments.any_version or old["sources"] == digest)

    todo = [key for key in cells() if not kept(key) and (not arguments.only or arguments.only in key)]
    for number, key in enumerate(todo, 1):
        started, before = time.monotonic(), time.process_time()
        record = run_cell(key)
        seconds = {"wall_s": time.monotonic() - started, "cell_cpu_s": time.process_time() - before}
        records[key] = {**record, "sources": digest, **{k: round(v, 1) for k, v in seconds.items()}}
        write(records)
        print(f"[{number}/{len(todo)}] {key}: {records[key]['cell_cpu_s']} s CPU", flush=True)
    write(records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
