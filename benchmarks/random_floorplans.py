"""`python -m benchmarks.random_floorplans`: seeded problems like the published ones, `fvc floorplan` beside HiGHS.

Kernels come in the kinds of FINN's flow with the versions that they have there: line buffers in BRAM, LUTs or URAM,
matrix units with and without DSPs, thresholds in LUTs or BRAM. Boards are those of the published file, repeated.
`released` is the ILP of finn-plus 1.6.1 (a boolean a kernel, version and slot, one an edge and connection) in HiGHS,
for RELEASED_SECONDS of wall-clock; ours is the whole command at its default limit. Writes
benchmarks/results/random_floorplans.json and a table in docs/floorplan.md; what the floorplanner's sources as they are
have run is not run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "tests" / "data" / "floorplan" / "floorplan_cases.json"
BOARDS = {"u280": "r40_u280x1", "u250": "c40_u250x1"}  # the published case of one such board
LINK_COST, LINK_BPS = 10, 100_000_000_000
FILL = {"LUT": 0.53, "BRAM_18K": 0.52, "DSP": 0.48}  # of all slots, the first version of every kernel
MOST = 0.3  # of a slot, one kernel
TYPES = ("LUT", "FF", "BRAM_18K", "URAM", "DSP")
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "random_floorplans.json"
PAGE = ROOT / "docs" / "floorplan.md"
BEGIN = "<!-- written by benchmarks.random_floorplans from here -->"
END = "<!-- to here -->"
RELEASED_SECONDS = 60.0
CASES: tuple[tuple[int, int, str, int, dict[str, Any]], ...] = (
    (1, 20, "u250", 1, {}),
    (4, 40, "u280", 2, {"layers": 2}),
    (5, 80, "u250", 1, {}),
    (8, 80, "u250", 2, {"layers": 1}),
    (36, 80, "u280", 2, {"layers": 2, "fill": 1.15}),
    (10, 80, "u280", 4, {}),
    (31, 40, "u280", 2, {"networks": 2}),
    (33, 80, "u280", 2, {"networks": 2, "layers": 2}),
    (32, 80, "u280", 4, {"networks": 4}),
    (35, 60, "u280", 3, {"networks": 3, "layers": 1}),
    (21, 160, "u280", 4, {}),
    (22, 160, "u280", 4, {"layers": 2}),
    (42, 160, "u280", 4, {"layers": 1}),
    (24, 160, "u250", 4, {"layers": 2}),
    (25, 160, "u280", 8, {"layers": 2}),
)
KINDS = ("SWG", "MVAU", "Thresholding")


@cache
def _published() -> dict[str, Any]:
    return {c["name"]: c for c in json.loads(DATA.read_text("utf-8"))["cases"]}


def device_set(board: str, devices: int) -> dict[str, Any]:
    """So many boards in a chain, the last die of each linked to that of the next."""
    one = _published()[BOARDS[board]]["device_set"]
    dies = len(one["slots"])
    slots, connections = [], []
    for d in range(devices):
        slots += [{"slot": d * dies + s["slot"], "capacity": s["capacity"]} for s in one["slots"]]
        for c in one["connections"]:
            connections.append({**c, "src": d * dies + c["src"], "dst": d * dies + c["dst"]})
        if d:
            a, b = d * dies - 1, (d + 1) * dies - 1
            link = {"cost": LINK_COST, "max_wires": None, "max_bps": LINK_BPS}
            connections += [{"src": x, "dst": y, **link} for x, y in ((a, b), (b, a))]
    return {
        "slots": slots,
        "connections": connections,
        "limits": one["limits"],
        "avg_constraints": one["avg_constraints"],
    }


def chain(count: int) -> list[tuple[str, list[int]]]:
    """(kind, kernels before it) of a plain network."""
    return [(KINDS[v % 3], [v - 1] if v else []) for v in range(count)]


def residual(count: int, layers: int = 2) -> list[tuple[str, list[int]]]:
    """Blocks of `layers` convolutions with a FIFO around them."""
    out: list[tuple[str, list[int]]] = []
    while len(out) < count:
        start = len(out)
        out.append(("DuplicateStreams", [start - 1] if start else []))
        for _ in range(layers):
            out += [(kind, [len(out) + k - 1]) for k, kind in enumerate(KINDS)]
        end = len(out)
        out.append(("StreamingFIFO", [start]))
        out.append(("AddStreams", [end - 1, end]))
        out.append(("Thresholding", [end + 1]))
    return [(kind, before) for kind, before in out[:count]]


def problem(
    seed: int, kernels: int, board: str, devices: int, *, layers: int = 0, networks: int = 1, fill: float = 1.0
) -> dict[str, Any]:
    """A problem of `networks` equal networks of chains (layers 0) or of residual blocks of so many convolutions."""
    rng = random.Random(f"{seed} {kernels} {board} {devices} {layers} {networks}")
    boards = device_set(board, devices)
    slots = boards["slots"]
    total = {t: sum(s["capacity"][t] for s in slots) for t in TYPES}
    most = {t: MOST * min(s["capacity"][t] for s in slots) for t in TYPES}
    each = kernels // networks
    shape = residual(each, layers) if layers else chain(each)
    fixed = [_kernel(kind, rng) for kind, _ in shape]
    scale = dict.fromkeys(TYPES, 1e-9)
    for t in FILL:
        for _ in range(8):  # what is cut at MOST, the others take
            use = networks * sum(min(most[t], k[0][t] * scale[t]) for k in fixed)
            scale[t] *= fill * FILL[t] * total[t] / max(1e-9, use)
    scale |= {"FF": scale["LUT"], "URAM": scale["BRAM_18K"]}
    nodes: list[dict[str, Any]] = []
    edges = []
    for n in range(networks):
        for v, (kind, before) in enumerate(shape):
            versions = [{t: int(min(most[t], k[t] * scale[t])) for t in TYPES} for k in fixed[v]]
            nodes.append({"id": n * each + v, "name": f"{kind}_{n}_{v}", "type": kind, "versions": versions})
            for b in before:
                wires = 2 ** rng.randint(3, 9)
                edges.append({"src": n * each + b, "dst": n * each + v, "wires": wires,
                              "bps": int(wires * 2e8 * rng.choice((0.02, 0.05, 0.1, 0.25, 0.5, 0.9)))})  # fmt: skip
    shapes = f"r{layers}" if layers else "c"
    return {
        "name": f"{shapes}{kernels}_{board}x{devices}" + (f"_n{networks}" if networks > 1 else "") + f"_s{seed}",
        "resources": list(TYPES), "nodes": nodes, "edges": edges, "device_set": boards,
        "abs_anchors": [[0, [0]]] if seed % 2 and networks == 1 else [], "rel_anchors": [],
    }  # fmt: skip


def _kernel(kind: str, rng: random.Random) -> list[dict[str, float]]:
    """Versions before scaling; a unit is a kernel of middle size."""
    none = dict.fromkeys(TYPES, 0.0)
    size = rng.lognormvariate(0, 0.8)
    if kind == "SWG":
        first = none | {"LUT": 0.3, "FF": 0.4, "BRAM_18K": size / 2}
        return [first, first | {"LUT": 0.3 + 2 * size, "BRAM_18K": 0.0}, first | {"BRAM_18K": 0.0, "URAM": size / 5}]
    if kind == "MVAU":
        first = none | {"LUT": size, "FF": 0.8 * size, "BRAM_18K": rng.lognormvariate(0.4, 0.8), "DSP": size}
        versions = [first, first | {"LUT": 2.8 * size, "FF": 1.6 * size, "DSP": 0.0}]
        if rng.random() < 0.6:
            versions.append(first | {"BRAM_18K": 0.0, "URAM": first["BRAM_18K"] / 4})
        return versions
    if kind == "Thresholding":
        first = none | {"LUT": size, "FF": 0.8 * size}
        return [first, first | {"LUT": 0.4 * size, "FF": 0.45 * size, "BRAM_18K": size / 8}]
    if kind == "StreamingFIFO":
        first = none | {"LUT": 0.1, "FF": 0.12, "BRAM_18K": size / 4}
        return [first, first | {"LUT": 0.08, "BRAM_18K": 0.0, "URAM": size / 10}]
    return [none | {"LUT": 0.15 * size, "FF": 0.13 * size}]


def released(case: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The released formulation through HiGHS: status, objective, bound; None where it has neither."""
    from datetime import timedelta

    from ortools.math_opt.python import mathopt

    boards = case["device_set"]
    model = mathopt.Model()
    nodes, edges = case["nodes"], case["edges"]
    slots = [s["slot"] for s in boards["slots"]]
    pick = {
        (n["id"], s, k): model.add_binary_variable() for n in nodes for s in slots for k in range(len(n["versions"]))
    }
    at = {(n["id"], s): sum(pick[n["id"], s, k] for k in range(len(n["versions"]))) for n in nodes for s in slots}
    for n in nodes:
        model.add_linear_constraint(sum(at[n["id"], s] for s in slots) == 1)
    for v, where in case["abs_anchors"]:
        model.add_linear_constraint(sum(at[v, s] for s in where) == 1)
    for row in boards["slots"]:
        s, capacity = row["slot"], row["capacity"]
        use = {
            t: sum(x[t] * pick[n["id"], s, k] for n in nodes for k, x in enumerate(n["versions"]) if x[t])
            for t in TYPES
        }
        for t in TYPES:
            model.add_linear_constraint(use[t] <= capacity[t] * boards["limits"][t])
        for a in boards["avg_constraints"]:
            there = [t for t in a["resources"] if capacity[t] > 0]
            model.add_linear_constraint(sum(use[t] / capacity[t] for t in there) <= a["limit"] * len(a["resources"]))
    link = {(c["src"], c["dst"]): c for c in boards["connections"]}
    crossed: dict[tuple[int, int], list[tuple[dict[str, Any], Any]]] = {pair: [] for pair in link}
    for e in edges:
        for a in slots:
            for b in slots:
                if a == b:
                    continue
                both = at[e["src"], a] + at[e["dst"], b]
                if (a, b) not in link:
                    model.add_linear_constraint(both <= 1)
                    continue
                y = model.add_variable(lb=0.0, ub=1.0)
                model.add_linear_constraint(y >= both - 1)
                crossed[a, b].append((e, y))
    for pair, c in link.items():
        if c["max_wires"] is not None:
            model.add_linear_constraint(sum(e["wires"] * y for e, y in crossed[pair]) <= c["max_wires"])
        if c["max_bps"] is not None:
            model.add_linear_constraint(sum(e["bps"] / 1e9 * y for e, y in crossed[pair]) <= c["max_bps"] / 1e9)
    model.minimize(sum(c["cost"] * y for pair, c in link.items() for _, y in crossed[pair]))
    limits = mathopt.SolveParameters(time_limit=timedelta(seconds=seconds))
    found = mathopt.solve(model, mathopt.SolverType.HIGHS, params=limits)
    bound = found.termination.objective_bounds.dual_bound
    return {
        "status": found.termination.reason.name,
        "objective": round(found.objective_value()) if found.has_primal_feasible_solution() else None,
        "bound": round(bound, 3) if abs(bound) < 1e15 else None,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| problem | objective | bound | CPU seconds | HiGHS: objective | bound | CPU seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        own, other = r["fvc"], r["released"]
        values = [own.get("objective"), own.get("bound"), own["cpu_seconds"]]
        values += [other["objective"], other["bound"], other["cpu_seconds"]]
        cells = ["–" if v is None else f"{v:g}" for v in values]
        lines.append(f"| {' | '.join([r['name'], *cells])} |")
    return "\n".join(lines)


def main() -> int:
    """Every problem through both, results stored after each."""
    from benchmarks.floorplan import run

    digest = _digest()
    old = {r["name"]: r for r in json.loads(RESULTS.read_text("utf-8"))["cases"]} if RESULTS.exists() else {}
    rows = []
    for seed, kernels, board, devices, more in CASES:
        case = problem(seed, kernels, board, devices, **more)
        known = old.get(case["name"])
        if known is None or known["sources"] != digest:
            with tempfile.TemporaryDirectory() as folder:
                own = run(case, Path(folder))
            known = {"name": case["name"], "sources": digest, "fvc": own, "released": _timed(case, known)}
        rows.append(known)
        print(json.dumps(known), file=sys.stderr, flush=True)
        RESULTS.write_text(json.dumps({"benchmark": "random_floorplans", "cases": rows}, indent=1) + "\n", "utf-8")
    head, rest = PAGE.read_text("utf-8").split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(rows)}\n\n{END}{rest.split(END)[1]}", "utf-8")
    return 0


def _digest() -> str:
    """Of the sources that decide answers."""
    found = hashlib.sha256()
    for folder in ("compiler/floorplan", "compiler/partition/constraints"):
        for path in sorted((ROOT / folder).glob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _timed(case: dict[str, Any], known: dict[str, Any] | None) -> dict[str, Any]:
    """HiGHS on the released formulation; its answer does not change with our sources."""
    if known is not None:
        return dict(known["released"])
    before = os.times()
    found = released(case, RELEASED_SECONDS)
    after = os.times()
    return found | {"cpu_seconds": round(after.user + after.system - before.user - before.system, 2)}


if __name__ == "__main__":
    sys.exit(main())
