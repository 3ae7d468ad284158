"""`python -m benchmarks.latency`: the exact latency problem on random instances, and what it does for real plans.

Instances: 260 layers x 15 strategies as a chain, a tree, a residual net, branches that meet again, a net of nested
skips; and a lattice of 64 x 8, which elimination cannot take. Each is solved in a process of its own by elimination
and, as if there were none, by bound and programmes; a chain also by Viterbi's recurrence written out here. `--plans
CLUSTER…` makes latency plans of the corpus models instead (the files of `make corpus`), `--before FILE` puts those of
another version beside them. Both keep what the other has put into benchmarks/results/latency.json, and print the tables
of docs/latency.md. Seconds are processor time: machines are shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "latency.json"
LAYERS, STRATEGIES, SEEDS = 260, 15, (0, 1, 2)
SECONDS = 10.0
Links = list[tuple[int, int]]


def chain(n: int) -> Links:
    return [(k, k + 1) for k in range(n - 1)]


def tree(n: int, seed: int) -> Links:
    rng = np.random.default_rng(seed)
    return [(int(rng.integers(max(0, k - 12), k)), k) for k in range(1, n)]


def residual(n: int) -> Links:
    """Blocks of three layers and an addition; every fourth with a projection on its skip."""
    links, here, k = [], 0, 1
    while k + 5 <= n:
        skip = here
        if (k // 4) % 4 == 0:
            links.append((here, k))
            skip, k = k, k + 1
        links += [(here, k), (k, k + 1), (k + 1, k + 2), (k + 2, k + 3), (skip, k + 3)]
        here, k = k + 3, k + 4
    return links + [(j - 1 if j > k else here, j) for j in range(k, n)]


def branches(n: int) -> Links:
    """Four branches of one to four layers from one layer to the next that reads them all."""
    links, here, k = [], 0, 1
    while k + 11 <= n:
        end = k + 10
        for length in (1, 2, 3, 4):
            last = here
            for _ in range(length):
                links.append((last, k))
                last, k = k, k + 1
            links.append((last, end))
        here, k = end, end + 1
    return links + [(j - 1 if j > k else here, j) for j in range(k, n)]


def nested(n: int) -> Links:
    """A U: every layer of the way down is read by its fellow of the way up."""
    return chain(n) + [(k, n - 1 - k) for k in range(0, n // 2 - 1, 3)]


def lattice(width: int, n: int) -> Links:
    """Every layer beside its left and upper fellow: no order of elimination has small tables."""
    across = [(k, k + 1) for k in range(n - 1) if (k + 1) % width]
    return across + [(k, k + width) for k in range(n - width)]


def size(kind: str) -> tuple[int, int]:
    """(layers, strategies of each)."""
    return (64, 8) if kind == "lattice" else (LAYERS, STRATEGIES)


def kinds(seed: int) -> dict[str, Links]:
    """Instance name -> edges."""
    n = LAYERS
    return {
        "chain": chain(n), "tree": tree(n, seed), "residual": residual(n), "branches": branches(n),
        "nested skips": nested(n), "lattice": lattice(8, size("lattice")[0]),
    }  # fmt: skip


def viterbi(own: list[list[int]], between: dict[tuple[int, int], list[list[int]]]) -> int:
    """The least cost of a chain."""
    best = own[0]
    for v in range(1, len(own)):
        step = between[(v - 1, v)]
        best = [c + min(b + row[t] for b, row in zip(best, step, strict=True)) for t, c in enumerate(own[v])]
    return min(best)


def solved(kind: str, seed: int) -> dict[str, Any]:
    """One instance both ways."""
    from compiler.partition.pairwise import Effort, Pairwise, solve
    from compiler.partition.pairwise.solve import knotted

    rng = np.random.default_rng(seed)
    links = kinds(seed)[kind]
    layers, strategies = size(kind)
    costs = [rng.integers(1_000, 100_000, strategies) for _ in range(layers)]
    pairs = {link: rng.integers(0, 50_000, (strategies, strategies)) for link in links}
    problem = Pairwise.of(costs, [(a, b, c) for (a, b), c in pairs.items()])
    row: dict[str, Any] = {"kind": kind, "seed": seed, "layers": layers, "strategies": strategies, "edges": len(links)}

    def timed(name: str, way: Any) -> None:
        began = time.process_time()
        got = way()
        row[name] = {
            "status": got.status, "objective": got.objective, "bound": got.bound, "gap": round(got.gap, 6),
            "proved_by": got.proved_by, "cpu_seconds": round(time.process_time() - began, 2),
        }  # fmt: skip

    timed("solve", lambda: solve(problem))
    timed("programmes", lambda: knotted(problem, Effort()))
    if kind == "chain":
        between = {link: c.tolist() for link, c in pairs.items()}
        row["viterbi"] = viterbi([c.tolist() for c in costs], between)
    return row


def instance(kind: str, seed: int) -> dict[str, Any]:
    """One instance in a process of its own, with the time of the whole process."""
    command = [sys.executable, "-m", "benchmarks.latency", "--instance", kind, str(seed)]
    before, began = os.times(), time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    after = os.times()
    row = json.loads(done.stdout)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {**row, "process_cpu_seconds": round(used, 2), "process_wall_seconds": round(time.monotonic() - began, 2)}


def planned(name: str, cluster: str, cache: Path) -> dict[str, Any]:
    """A latency plan of a corpus model (quantised by ONNX Runtime, QOperator, s8, a scale a channel)."""
    from benchmarks.sources import BY_NAME, variant
    from compiler.frontend import ImportOptions, load_model
    from compiler.partition.options import PartitionOptions
    from compiler.partition.planner import partition
    from device_db import load_cluster

    graph = load_model(variant(BY_NAME[name], "qoperator", "s8", "channel", cache), ImportOptions())
    began = time.process_time()
    plan = partition(graph, load_cluster(cluster), PartitionOptions(objective="latency", time_limit_s=SECONDS))
    s = plan.solver
    return {
        "model": name, "cluster": cluster, "layers": len(plan.layers), "latency_cycles": s.objective,
        "bound_cycles": s.bound, "gap": s.gap, "proved_by": s.proved_by,
        "additive": next((n for n in s.notes if n.startswith("additive model")), ""),
        "cpu_seconds": round(time.process_time() - began, 1),
    }  # fmt: skip


def tables(rows: list[dict[str, Any]], plans: list[dict[str, Any]]) -> str:
    """Both tables as Markdown."""
    out = [
        "| instance | way | objective | bound | gap | CPU s (process) | programmes alone: objective, bound, CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        a, b = r["solve"], r["programmes"]
        same = f", Viterbi {r['viterbi']:,}" if "viterbi" in r else ""
        seconds = f"{a['cpu_seconds']} ({r['process_cpu_seconds']})"
        cells = [
            f"{r['kind']} {r['layers']} x {r['strategies']}, seed {r['seed']}",
            a["proved_by"],
            f"{a['objective']:,}{same}",
            f"{a['bound']:,}",
        ]
        cells += [f"{100 * a['gap']:.2f} %", seconds, f"{b['objective']:,}, {b['bound']:,}, {b['cpu_seconds']}"]
        out.append(f"| {' | '.join(cells)} |")
    if plans:
        out += ["", "| model | cluster | latency before | latency | change | gap before | gap | CPU s |"]
        out.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for p in plans:
        was = p.get("before", {})
        change = f"{100 * (p['latency_cycles'] / was['latency_cycles'] - 1):+.1f} %" if was else ""
        gaps = [f"{100 * x['gap']:.1f} %" if x else "" for x in (was, p)]
        cells = [p["model"], p["cluster"], f"{was['latency_cycles']:,}" if was else "", f"{p['latency_cycles']:,}"]
        out.append(f"| {' | '.join([*cells, change, *gaps, str(p['cpu_seconds'])])} |")
    return "\n".join(out)


def main(arguments: list[str]) -> int:
    from benchmarks.sources import BY_NAME

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instance", nargs=2, metavar=("KIND", "SEED"), help="solve one and print it")
    parser.add_argument("--plans", nargs="+", metavar="CLUSTER", help="plans on these, instead of the instances")
    parser.add_argument("--models", nargs="+", metavar="NAME", help="of these corpus models only")
    parser.add_argument("--before", type=Path, help="results of another version, to stand beside the plans")
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("FVC_CORPUS", ROOT / ".corpus")))
    options = parser.parse_args(arguments)
    if options.instance:
        print(json.dumps(solved(options.instance[0], int(options.instance[1]))))
        return 0
    kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {"instances": [], "plans": []}
    rows, plans = kept["instances"], kept["plans"]
    if options.plans:
        earlier = json.loads(options.before.read_text("utf-8"))["plans"] if options.before else []
        was = {(p["model"], p["cluster"]): p for p in earlier}
        for cluster, name in ((c, n) for c in options.plans for n in options.models or sorted(BY_NAME)):
            row = planned(name, cluster, options.cache)
            if (name, cluster) in was:
                row["before"] = {
                    k: was[(name, cluster)][k] for k in ("latency_cycles", "bound_cycles", "gap", "cpu_seconds")
                }
            plans = [p for p in plans if (p["model"], p["cluster"]) != (name, cluster)] + [row]
            print(json.dumps(row), file=sys.stderr, flush=True)
    else:
        rows = [instance(kind, seed) for kind in kinds(0) for seed in SEEDS]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(
        json.dumps({"benchmark": "latency", "instances": rows, "plans": plans}, indent=1) + "\n", "utf-8"
    )
    print(tables(rows, plans))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
