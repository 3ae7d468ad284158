"""Seeded problems like the published ones, written from their description alone: chains and ResNet-like skips.

Sizes, shapes and pressure on the resources are those of tests/data/floorplan; no number is taken from there.
"""

from __future__ import annotations

import random
from typing import Any

TYPES = ("LUT", "FF", "BRAM_18K", "URAM", "DSP")
SLR = {"LUT": 380_000, "FF": 760_000, "BRAM_18K": 1150, "URAM": 320, "DSP": 2800}
LIMITS = {"LUT": 0.7, "FF": 0.5, "BRAM_18K": 0.8, "URAM": 0.8, "DSP": 0.8}
TARGET = {"LUT": 0.75, "FF": 0.45, "BRAM_18K": 0.7, "URAM": 0.4, "DSP": 0.6}
DIE = {"LUT": 303_800, "FF": 608_300, "BRAM": 571, "URAM": 272, "DSP": 2406}


def skips(kernels: int, length: int) -> list[tuple[int, int]]:
    """A chain, and around every run of `length` kernels a second way."""
    return [(i, i + 1) for i in range(kernels - 1)] + [(i, i + length) for i in range(0, kernels - length, length)]


def fixed(seed: int, kernels: int, *, devices: int, dies: int = 3, chain: bool) -> dict[str, Any]:
    """Fixed kernels, three versions each, on devices whose last dies are linked."""
    rng = random.Random(seed)
    weight = {
        t: [rng.lognormvariate(0, 1) * (rng.random() < 0.7 or t in ("LUT", "FF")) for _ in range(kernels)]
        for t in TYPES
    }
    nodes = []
    for v in range(kernels):
        base = {t: int(weight[t][v] / sum(weight[t]) * TARGET[t] * LIMITS[t] * SLR[t] * devices * dies) for t in TYPES}
        fewer = {**base, "LUT": int(base["LUT"] * 0.7), "DSP": int(base["DSP"] * 1.3) + 20}
        other = {**base, "BRAM_18K": int(base["BRAM_18K"] * 0.4), "URAM": base["URAM"] + 3}
        nodes.append({"id": v, "name": f"k{v}", "versions": [base, fewer, other]})
    slots = [{"slot": s, "capacity": SLR} for s in range(devices * dies)]
    pairs = [(d * dies + k, d * dies + k + 1, False) for d in range(devices) for k in range(dies - 1)]
    pairs += [(d * dies + dies - 1, (d + 1) * dies + dies - 1, True) for d in range(devices - 1)]
    connections = [
        {"src": a, "dst": b, "cost": 10 if link else 1, "max_wires": None if link else 5000,
         "max_bps": 10**11 if link else None}
        for x, y, link in pairs
        for a, b in ((x, y), (y, x))
    ]  # fmt: skip
    edges = [
        {"src": a, "dst": b, "wires": rng.choice((8, 64, 256, 512)), "bps": rng.randrange(10**9, 2 * 10**10)}
        for a, b in ([(i, i + 1) for i in range(kernels - 1)] if chain else skips(kernels, 4))
    ]
    averages = [{"resources": ["BRAM_18K", "URAM", "DSP"], "limit": 0.7}]
    return {
        "name": f"{'c' if chain else 'r'}{kernels}x{devices}s{seed}", "nodes": nodes, "edges": edges,
        "abs_anchors": [[0, [0]]] if seed % 2 else [], "rel_anchors": [],
        "device_set": {"slots": slots, "connections": connections, "limits": LIMITS, "avg_constraints": averages},
    }  # fmt: skip


def joint(seed: int, kernels: int, *, devices: int, dies: int = 3) -> dict[str, Any]:
    """Fold and place: six folds in LUTs or DSPs, feature maps that shrink, weights that grow."""
    rng = random.Random(seed)
    nodes = []
    fill = kernels / (20 * devices * dies)  # more kernels a die: slower and smaller ones
    for v in range(kernels):
        stage = 4 * v // kernels
        bits = (3_211_264 if v % 3 == 2 else 802_816) >> stage
        work = 1.7e8 * rng.uniform(0.8, 1.25)
        weights = 36_864 << stage
        versions = []
        for fold in (1, 2.6, 5.5, 7.8, 10, 15):
            parallel = fold * 40 / fill * rng.uniform(0.85, 1.15)
            cycles = int(work / 9 / parallel)
            memory = int(weights * 8 / 36_864 * (1 + fold / 10))
            luts, dsps = 1200 + 45 * parallel, 1300 + 16 * parallel
            for lut, dsp in ((luts, 0), (dsps, int(parallel))):
                block = memory if not dsp else 4
                versions.append({
                    "cycles": cycles, "LUT": int(lut), "FF": int(lut * 1.6), "BRAM": block,
                    "URAM": memory // 8 if dsp else 0, "DSP": dsp,
                })  # fmt: skip
        nodes.append({"id": v, "name": f"layer{v}", "out_bits": bits, "versions": versions})
    slots = [{"slot": s, "device": s // dies, "capacity": DIE} for s in range(devices * dies)]
    boundaries: list[dict[str, Any]] = []
    for s in range(devices * dies - 1):
        inside = (s + 1) % dies != 0
        kind = {"kind": "sll", "wires": 11_520} if inside else {"kind": "link", "bits_per_cycle": 333}
        boundaries.append({"between": [s, s + 1], **kind})
    edges = [{"src": a, "dst": b} for a, b in skips(kernels, 3)]
    return {
        "name": f"j{kernels}x{devices * dies}s{seed}",
        "nodes": nodes,
        "edges": edges,
        "slots": slots,
        "boundaries": boundaries,
    }
