"""Which integers each tensor can hold, derived forward through the graph: needs IR steps, gives Levels by tensor name.

Nothing is believed: a layer with thresholds says its own levels, a table maps those of its input, data movement unites
those of its sources, and what the host rounds and clips says so in its Clip. A tensor that is not named may hold
whatever its type holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd

import numpy as np

from compiler.frontend.integer import DTYPE, STORED
from compiler.frontend.onnxgraph import Node, OnnxGraph
from compiler.ir import graph as ir

_ROUNDED = {"Round", "Ceil", "Floor"}


def derive(graph: OnnxGraph, steps: Iterable[ir.Step], aliases: dict[str, str]) -> dict[str, ir.Levels]:
    """Levels by name of every tensor that has fewer than its type; aliases as their roots."""
    made = graph.producers()
    found: dict[str, ir.Levels] = {}
    for s in steps:
        if isinstance(s, ir.HostSegment):
            for name in s.outputs:
                levels = _host(graph, made, name)
                if levels is not None:
                    found[name] = levels
            continue
        levels = _node(s, found, np.dtype(STORED[graph.elem(s.y)]) if graph.elem(s.y) in STORED else None)
        if levels is not None:
            found[s.y] = levels
    for name, root in aliases.items():
        if root in found:
            found[name] = found[root]
    return found


def of_values(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Levels:
    """The levels that hold these integers."""
    each = np.unique(values).astype(np.int64)
    step = int(np.gcd.reduce(np.diff(each))) if len(each) > 1 else 1
    return ir.Levels(int(each[0]), int(each[-1]), step)


def _node(n: ir.Node, found: dict[str, ir.Levels], dtype: np.dtype[np.generic] | None) -> ir.Levels | None:
    if dtype is None:
        return None
    if isinstance(n, ir.Conv):
        return None if n.thresholds is None else n.thresholds.levels
    if isinstance(n, ir.Table):
        source = found.get(n.x)
        entries = n.table if source is None else n.table[:, _values(source) & 0xFF]
        return of_values(entries.view(dtype)) if source is not None else _few(of_values(entries.view(dtype)))
    if isinstance(n, ir.Pool) and n.kind == "max":
        return found.get(n.x)
    if isinstance(n, ir.Move):
        parts = [found.get(x) for x in n.xs]
        if any(p is None for p in parts) or any(c.table is not None for c in n.copies):
            return None
        all_ = [p for p in parts if p is not None]
        if n.fill is not None:
            value = int(np.asarray(n.fill, f"u{dtype.itemsize}").view(dtype))
            all_.append(ir.Levels(value, value))
        return unite(all_)
    if isinstance(n, ir.Binary) and n.kind == "add" and _whole(n):
        a, b = found.get(n.a), found.get(n.b)
        if a is None or b is None:
            return None
        ra, rb, c = (int(n.params[k]) for k in ("ra", "rb", "c"))
        lo, hi = ra * a.lo + rb * b.lo + c, ra * a.hi + rb * b.hi + c
        info = np.iinfo(dtype)  # type: ignore[type-var]
        return ir.Levels(lo, hi, gcd(ra * a.step, rb * b.step)) if info.min <= lo and hi <= info.max else None
    return None


def _values(levels: ir.Levels) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.arange(levels.lo, levels.hi + 1, levels.step, dtype=np.int64)


def _whole(n: ir.Binary) -> bool:
    return all(v == int(v) for v in n.params.values()) and n.params["ra"] > 0 and n.params["rb"] > 0


def _few(levels: ir.Levels) -> ir.Levels | None:
    return levels if levels.hi - levels.lo < 255 else None


def unite(parts: list[ir.Levels]) -> ir.Levels:
    """The least levels that hold all of `parts`."""
    lo = min(p.lo for p in parts)
    step = 0
    for p in parts:
        step = gcd(step, p.lo - lo)
        if p.hi > p.lo:
            step = gcd(step, p.step)
    return ir.Levels(lo, max(p.hi for p in parts), step or 1)


def _host(graph: OnnxGraph, made: dict[str, Node], name: str) -> ir.Levels | None:
    """Levels of Cast(whole numbers clipped to constants), perhaps moved by a constant; of a bipolar quantiser."""
    n = made.get(name)
    if n is None or n.op != "Cast" or graph.elem(name) not in STORED:
        return None
    shift = 0
    source = made.get(n.inputs[0])
    if source is not None and source.op == "Add" and source.inputs[1] in graph.constants:
        value = graph.constants[source.inputs[1]]
        if value.size != 1:
            return None
        shift, source = int(value.reshape(-1)[0]), made.get(source.inputs[0])
    if source is None:
        return None
    if source.op == "Sub":  # 2 * bit - 1
        double, one = made.get(source.inputs[0]), graph.constants.get(source.inputs[1])
        if double is None or double.op != "Mul" or one is None or one.size != 1:
            return None
        bit, two = made.get(double.inputs[0]), graph.constants.get(double.inputs[1])
        if bit is None or bit.op != "Cast" or graph.elem(bit.inputs[0]) != 9 or two is None or two.size != 1:
            return None
        lo, step = shift - int(one.reshape(-1)[0]), int(two.reshape(-1)[0])
        return ir.Levels(lo, lo + step, step)
    clip = made.get(source.inputs[0]) if source.op in _ROUNDED else None
    if clip is None or clip.op != "Clip" or not all(clip.input(k) in graph.constants for k in (1, 2)):
        return None
    lo, hi = (int(graph.constants[clip.input(k)].reshape(-1)[0]) + shift for k in (1, 2))
    wide = graph.elem(name) not in DTYPE
    return ir.Levels(lo, hi) if wide else _few(ir.Levels(lo, hi))
