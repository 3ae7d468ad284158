"""Small random problems and every placement of them, judged from the raw JSON by rules written out here again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

TYPES = ("LUT", "BRAM", "DSP")


def fixed_problem(rng: random.Random, *, topology: str) -> dict[str, Any]:
    """A few kernels on a few slots; tight enough that many placements fail."""
    nodes = rng.randint(2, 5)
    slots = rng.randint(2, 4)
    capacity = [{t: rng.randint(8, 16) for t in TYPES} for _ in range(slots)]
    kernels = []
    for i in range(nodes):
        versions = [{t: rng.randint(0, 7) for t in TYPES} for _ in range(rng.randint(1, 2))]
        kernels.append({"id": i, "name": f"k{i}", "versions": versions})
    if topology == "chain":
        pairs = [(i, i + 1) for i in range(nodes - 1)]
    else:
        pairs = [(i, j) for i in range(nodes) for j in range(i + 1, nodes) if rng.random() < 0.5]
    edges = [{"src": a, "dst": b, "wires": rng.randint(1, 9), "bps": rng.randint(1, 9)} for a, b in pairs]
    if topology == "ring":
        joined = [(s, (s + 1) % slots) for s in range(slots)] if slots > 2 else [(0, 1)]
    else:
        joined = [(rng.randrange(s), s) for s in range(1, slots)]
    connections = []
    for a, b in joined:
        for src, dst in ((a, b), (b, a)):
            if rng.random() < 0.9:
                connections.append(
                    {
                        "src": 10 + src,
                        "dst": 10 + dst,
                        "cost": rng.choice([1, 1, 3, 0.5]) if topology != "free" else rng.choice([0, 1, 2]),
                        "max_wires": rng.choice([None, 12, 20]),
                        "max_bps": rng.choice([None, 12, 20]),
                    }
                )
    anchors = [[rng.randrange(nodes), [10 + rng.randrange(slots)]]] if rng.random() < 0.3 else []
    together = [[0, nodes - 1]] if rng.random() < 0.2 else []
    return {
        "name": "random",
        "nodes": kernels,
        "edges": edges,
        "abs_anchors": anchors,
        "rel_anchors": together,
        "device_set": {
            "slots": [{"slot": 10 + s, "capacity": c} for s, c in enumerate(capacity)],
            "connections": connections,
            "limits": {"LUT": 0.9, "DSP": 0.75},
            "avg_constraints": [{"resources": ["BRAM", "DSP"], "limit": 0.7}],
        },
    }


def fixed_best(p: dict[str, Any]) -> Fraction | None:
    """Least cost over every placement, None where none is legal."""
    best: Fraction | None = None
    for placement in _placements(p["nodes"], [s["slot"] for s in p["device_set"]["slots"]]):
        cost = fixed_cost(p, placement)
        if cost is not None and (best is None or cost < best):
            best = cost
    return best


def fixed_cost(p: dict[str, Any], placement: list[tuple[int, int]]) -> Fraction | None:
    """Cost of one placement, None where it breaks a rule."""
    device = p["device_set"]
    for slot in device["slots"]:
        use = {
            t: sum(p["nodes"][v]["versions"][k].get(t, 0) for v, (s, k) in enumerate(placement) if s == slot["slot"])
            for t in TYPES
        }
        for t in TYPES:
            if use[t] > slot["capacity"][t] * Fraction(str(device["limits"].get(t, 1))):
                return None
        for a in device["avg_constraints"]:
            share = sum(Fraction(use[t], slot["capacity"][t]) for t in a["resources"])
            if share > Fraction(str(a["limit"])) * len(a["resources"]):
                return None
    if any(placement[v][0] not in allowed for v, allowed in p["abs_anchors"]):
        return None
    if any(placement[a][0] != placement[b][0] for a, b in p["rel_anchors"]):
        return None
    cost = Fraction(0)
    load: dict[tuple[int, int], list[int]] = {}
    links = {(c["src"], c["dst"]): c for c in device["connections"]}
    for e in p["edges"]:
        ends = (placement[e["src"]][0], placement[e["dst"]][0])
        if ends[0] == ends[1]:
            continue
        if ends not in links:
            return None
        cost += Fraction(str(links[ends]["cost"]))
        both = load.setdefault(ends, [0, 0])
        both[0] += e["wires"]
        both[1] += e["bps"]
    for ends, (wires, bps) in load.items():
        most_wires, most_bps = links[ends]["max_wires"], links[ends]["max_bps"]
        if (most_wires is not None and wires > most_wires) or (most_bps is not None and bps > most_bps):
            return None
    return cost


def joint_problem(rng: random.Random) -> dict[str, Any]:
    """A few kernels with a ladder of versions on a short line of slots, boundaries that bind."""
    nodes, slots = rng.randint(2, 4), rng.randint(2, 3)
    kernels = []
    for i in range(nodes):
        fast = rng.randint(4, 9)
        versions = []
        for step in range(rng.randint(1, 3)):
            size = max(1, 9 - 3 * step)
            own = {t: rng.randint(0, size) for t in TYPES}
            versions.append({"cycles": fast * (step + 1) + rng.randint(0, 2)} | own)
        kernels.append({"id": i, "name": f"k{i}", "out_bits": rng.choice([4, 20, 60]), "versions": versions})
    edges = [{"src": i, "dst": i + 1} for i in range(nodes - 1)]
    if nodes > 3:
        edges.append({"src": 0, "dst": 3})
    boundaries = []
    for b in range(slots - 1):
        if rng.random() < 0.5:
            boundaries.append({"between": [b, b + 1], "kind": "sll", "wires": rng.choice([8, 16, 24])})
        else:
            boundaries.append({"between": [b, b + 1], "kind": "link", "bits_per_cycle": rng.choice([1, 4, 9])})
    return {
        "name": "random",
        "nodes": kernels,
        "edges": edges,
        "slots": [
            {"slot": s, "device": s // 2, "capacity": {t: rng.randint(6, 14) for t in TYPES}} for s in range(slots)
        ],
        "boundaries": boundaries,
    }


def joint_best(p: dict[str, Any]) -> int | None:
    """Least interval over every placement, None where none is legal."""
    found = (joint_interval(p, placement) for placement in _placements(p["nodes"], [s["slot"] for s in p["slots"]]))
    return min((t for t in found if t is not None), default=None)


def joint_interval(p: dict[str, Any], placement: list[tuple[int, int]]) -> int | None:
    """Interval of one placement, None where it breaks a rule."""
    picked = [p["nodes"][v]["versions"][k] for v, (_, k) in enumerate(placement)]
    for slot in p["slots"]:
        for t in TYPES:
            if (
                sum(x[t] for x, (s, _) in zip(picked, placement, strict=True) if s == slot["slot"])
                > slot["capacity"][t]
            ):
                return None
    interval = max(x["cycles"] for x in picked)
    for boundary in p["boundaries"]:
        b = boundary["between"][0]
        wires = bits = 0
        for e in p["edges"]:
            ends = sorted((placement[e["src"]][0], placement[e["dst"]][0]))
            if ends[0] <= b < ends[1]:
                out = p["nodes"][e["src"]]["out_bits"]
                wires += max(8, 2 * -(-out // interval))
                bits += out
        if boundary["kind"] == "sll" and wires > boundary["wires"]:
            return None
        if boundary["kind"] == "link" and bits > boundary["bits_per_cycle"] * interval:
            return None
    return int(interval)


def _placements(nodes: list[dict[str, Any]], slots: list[int]) -> Iterator[list[tuple[int, int]]]:
    each = [[(s, k) for s in slots for k in range(len(n["versions"]))] for n in nodes]
    for picked in product(*each):
        yield list(picked)
