"""Readers of data movement: Concat, Split, Slice, Pad, Transpose, Resize, Tile, Gather … as strided copies.

Most of them take one axis at a time: y[i0, i1, …] = x[m0[i0], m1[i1], …]. Each map is cut into affine runs; a run may
repeat (source stride 0), interleave or go backwards. The maps of Resize come from ONNX Runtime itself, on a ramp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import ort
from compiler.frontend.integer import DTYPE, QP, Unfit
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph, Type
from compiler.ir import graph as ir

if TYPE_CHECKING:
    from compiler.frontend.reader import Reading

MAX_COPIES = 4096
Map = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Run:
    """Part of one axis: y[dst + j.dst_strides] = x[src + j.src_strides] for j in dims (in axis units)."""

    dst: int
    src: int
    dims: tuple[int, ...]
    dst_strides: tuple[int, ...]
    src_strides: tuple[int, ...]


def runs_of(m: Map) -> list[Run]:
    """Cut an index map into few affine runs; entries -1 (nothing to copy) belong to none."""
    n = len(m)
    whole = _affine(m)
    if whole is not None and (n == 0 or m[0] >= 0):
        return [Run(0, int(m[0]), (n,), (1,), (whole,))] if n else []
    for s in range(2, min(n, 64) + 1):  # repeated or interleaved with a period that divides the axis
        if n % s:
            continue
        grid = m.reshape(n // s, s)
        if (grid < 0).any():
            break
        inner = _affine(grid[0])
        outer = _affine(grid[:, 0])
        if inner is not None and outer is not None and (grid == grid[:1] + (grid[:, :1] - grid[0, 0])).all():
            return [Run(0, int(m[0]), (n // s, s), (s, 1), (outer, inner))]
    best = _greedy(m, 1)
    for s in range(2, min(n, 16) + 1):
        trial = _greedy(m, s)
        if len(trial) < len(best):
            best = trial
    return best


def _affine(v: Map) -> int | None:
    """The step of an arithmetic sequence (1 for a single entry), or None."""
    if len(v) < 2:
        return 1
    step = int(v[1] - v[0])
    return step if (np.diff(v) == step).all() and (v >= 0).all() else None


def _greedy(m: Map, period: int) -> list[Run]:
    found = []
    for p in range(period):
        v = m[p::period]
        k = 0
        while k < len(v):
            if v[k] < 0:
                k += 1
                continue
            end = k + 1
            step = 1
            if end < len(v) and v[end] >= 0:
                step = int(v[end] - v[k])
                while end < len(v) and v[end] >= 0 and v[end] - v[end - 1] == step:
                    end += 1
            found.append(Run(p + k * period, int(v[k]), (end - k,), (period,), (step,)))
            k = end
    return found


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    out, s = [], 1
    for d in reversed(shape):
        out.append(s)
        s *= d
    return tuple(reversed(out))


def copy(
    source: int,
    dims: Sequence[int],
    src: int,
    ss: Sequence[int],
    dst: int,
    ds: Sequence[int],
    table: NDArray[np.uint8] | None = None,
) -> ir.Copy:
    """A Copy with unit dimensions dropped and mergeable neighbours merged."""
    merged: list[list[int]] = []
    for d, a, b in zip(dims, ss, ds, strict=True):
        if d == 1:
            continue
        if merged and merged[-1][1] == a * d and merged[-1][2] == b * d:
            merged[-1] = [merged[-1][0] * d, a, b]
        else:
            merged.append([d, a, b])
    merged = merged or [[1, 1, 1]]
    columns = list(zip(*merged, strict=True))
    return ir.Copy(source, tuple(columns[0]), src, tuple(columns[1]), dst, tuple(columns[2]), table)


def mapped(x_shape: Sequence[int], y_shape: Sequence[int], maps: Sequence[Map], source: int = 0) -> tuple[ir.Copy, ...]:
    """Copies of y[i0, …] = x[m0[i0], …]."""
    per_axis = [runs_of(np.asarray(m, np.int64)) for m in maps]
    if prod(len(a) for a in per_axis) > MAX_COPIES:
        raise Unfit("it moves data in too many pieces")
    sx, sy = strides(x_shape), strides(y_shape)
    out = []
    for parts in product(*per_axis):
        dims = [d for p in parts for d in p.dims]
        ss = [v * sx[k] for k, p in enumerate(parts) for v in p.src_strides]
        ds = [v * sy[k] for k, p in enumerate(parts) for v in p.dst_strides]
        src = sum(p.src * sx[k] for k, p in enumerate(parts))
        dst = sum(p.dst * sy[k] for k, p in enumerate(parts))
        out.append(copy(source, dims, src, ss, dst, ds))
    return tuple(out)


def read(r: Reading, n: Node) -> tuple[ir.Move, ...] | None:
    """The Move(s) of a movement node (one an output), None if it is no movement operator."""
    rule = RULES.get((n.domain, n.op))
    if rule is None:
        return None
    for name in n.outputs:
        if name:
            r.held(name)
    return rule(r, n)


def _one(r: Reading, n: Node, copies: tuple[ir.Copy, ...], fill: int | None = None) -> tuple[ir.Move, ...]:
    x, y = r.integers(n.inputs[0]), n.outputs[0]
    if x in r.quant:
        r.quant[y] = r.quant[x]
    return (ir.Move(n.name, n.op, (x,), y, copies, fill),)


def _transpose(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    shape = r.shape(n.inputs[0])
    perm = n.ints("perm", range(len(shape))[::-1])
    sx, out = strides(shape), [shape[p] for p in perm]
    return _one(r, n, (copy(0, out, 0, [sx[p] for p in perm], 0, strides(out)),))


def _slice(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    shape = r.shape(n.inputs[0])
    starts, ends = r.const(n.inputs[1]).reshape(-1), r.const(n.inputs[2]).reshape(-1)
    axes = r.const(n.inputs[3]).reshape(-1) if n.input(3) else np.arange(len(starts))
    steps = r.const(n.inputs[4]).reshape(-1) if n.input(4) else np.ones(len(starts), np.int64)
    maps = [np.arange(d) for d in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        d = shape[int(axis)]
        first, last, by = int(start), int(end), int(step)
        first = first + d if first < 0 else first
        last = last + d if last < 0 else last
        if by > 0:
            maps[int(axis)] = np.arange(min(max(first, 0), d), min(max(last, 0), d), by)
        else:
            maps[int(axis)] = np.arange(min(max(first, -1), d - 1), min(max(last, -1), d - 1), by)
    return _one(r, n, mapped(shape, r.shape(n.outputs[0]), maps))


def _split(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    x = r.integers(n.inputs[0])
    shape = r.shape(x)
    axis = n.integer("axis", 0) % len(shape)
    at, moves = 0, []
    for k, y in enumerate(n.outputs):
        out = r.shape(y) if y else ()
        if not y:
            raise Unfit("a part of it is unnamed")
        maps = [np.arange(d) for d in out]
        maps[axis] = maps[axis] + at
        at += out[axis]
        if x in r.quant:
            r.quant[y] = r.quant[x]
        name = n.name if len(n.outputs) == 1 else f"{n.name}.{k}"
        moves.append(ir.Move(name, n.op, (x,), y, mapped(shape, out, maps)))
    return tuple(moves)


def _pad(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    shape, out = r.shape(n.inputs[0]), r.shape(n.outputs[0])
    given = r.const(n.inputs[1]).reshape(-1)
    axes = [int(a) % len(shape) for a in (r.const(n.inputs[3]).reshape(-1) if n.input(3) else range(len(shape)))]
    half = len(axes)
    begin = [0] * len(shape)
    for k, a in enumerate(axes):
        begin[a] = int(given[k])
    if len(given) != 2 * half:
        raise Unfit("its pads do not fit its axes")
    mode = n.text("mode", "constant")
    maps = []
    for d, o, b in zip(shape, out, begin, strict=True):
        m = np.arange(o) - b
        if mode == "edge":
            m = np.clip(m, 0, d - 1)
        elif mode == "wrap":
            m = m % d
        elif mode == "reflect" and d > 1:
            m = np.abs((m + d - 1) % (2 * d - 2) - (d - 1))
        else:
            m = np.where((m < 0) | (m >= d), 0 if mode == "reflect" else -1, m)
        maps.append(m)
    value = int(r.scalar(n.inputs[2])) & 255 if n.input(2) else 0
    return _one(r, n, mapped(shape, out, maps), value if mode == "constant" else None)


def _expand(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    shape, out = r.shape(n.inputs[0]), r.shape(n.outputs[0])
    full = (1,) * (len(out) - len(shape)) + shape
    maps = [np.arange(o) if d == o else np.zeros(o, np.int64) for d, o in zip(full, out, strict=True)]
    return _one(r, n, mapped(full, out, maps))


def _tile(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    shape, out = r.shape(n.inputs[0]), r.shape(n.outputs[0])
    return _one(r, n, mapped(shape, out, [np.arange(o) % d for d, o in zip(shape, out, strict=True)]))


def _gather(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    shape = r.shape(n.inputs[0])
    axis = n.integer("axis", 0) % len(shape)
    index = r.const(n.inputs[1]).reshape(-1).astype(np.int64)
    index = np.where(index < 0, index + shape[axis], index)
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])
    maps = [np.arange(outer), index, np.arange(inner)]
    return _one(r, n, mapped((outer, shape[axis], inner), (outer, len(index), inner), maps))


def _depth_to_space(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    b, c, h, w = r.shape(n.inputs[0])
    s = n.integer("blocksize", 1)
    depth = c // (s * s)
    dcr = n.text("mode", "DCR") == "DCR"
    grid = (b, s, s, depth, h, w) if dcr else (b, depth, s, s, h, w)
    perm = (0, 3, 4, 1, 5, 2) if dcr else (0, 1, 4, 2, 5, 3)
    sx, out = strides(grid), [grid[p] for p in perm]
    return _one(r, n, (copy(0, out, 0, [sx[p] for p in perm], 0, strides(out)),))


def _space_to_depth(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    b, c, h, w = r.shape(n.inputs[0])
    s = n.integer("blocksize", 1)
    grid = (b, c, h // s, s, w // s, s)
    perm = (0, 3, 5, 1, 2, 4)
    sx, out = strides(grid), [grid[p] for p in perm]
    return _one(r, n, (copy(0, out, 0, [sx[p] for p in perm], 0, strides(out)),))


def _resize(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    if n.text("mode", "nearest") != "nearest":
        raise Unfit(f"Resize with mode {n.text('mode', 'nearest')}")
    shape, out = r.shape(n.inputs[0]), r.shape(n.outputs[0])
    mode = n.text("coordinate_transformation_mode", "half_pixel")
    if mode == "tf_crop_and_resize" or n.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unfit(f"Resize with {mode} or a kept aspect ratio")
    maps = [_resize_map(r, n, k, d, o) for k, (d, o) in enumerate(zip(shape, out, strict=True))]
    return _one(r, n, mapped(shape, out, maps))


def _resize_map(r: Reading, n: Node, axis: int, size: int, out: int) -> Map:
    axes = n.ints("axes", range(len(r.shape(n.inputs[0]))))
    rank = len(r.shape(n.inputs[0]))
    axes = [a % rank for a in axes]
    if axis not in axes:
        return np.arange(size)
    position = axes.index(axis)
    scales = r.const(n.inputs[2]).reshape(-1) if n.input(2) else np.zeros(0, np.float32)
    attributes = {k: v for k, v in n.attributes.items() if k != "axes"}
    sub = OnnxGraph("ramp", [], {}, ["x"], ["y"], {"x": Type(6, (1, 1, size, 1))}, r.graph.opset)
    if scales.size:
        sub.constants["a"] = np.asarray([1, 1, scales[position], 1], np.float32)
        inputs = ["x", "", "a"]
    else:
        sub.constants["a"] = np.asarray([1, 1, out, 1], np.int64)
        inputs = ["x", "", "", "a"]
    node = Node("Resize", inputs, ["y"], "ramp", "", attributes)
    feed = np.arange(size, dtype=np.int32).reshape(1, 1, size, 1)
    y = ort.evaluate(sub, [node], {"x": feed}, ["y"])["y"].reshape(-1)
    if len(y) != out:
        raise Unfit("its output shape is not the one of its scales")
    return y.astype(np.int64)


def _joined(r: Reading, n: Node, names: list[str], tables: list[NDArray[np.uint8] | None]) -> tuple[ir.Move, ...]:
    y = n.outputs[0]
    out = r.shape(y)
    axis = n.integer("axis", 0) % len(out)
    sources: dict[str, int] = {}
    copies, at = [], 0
    so = strides(out)
    for name, table in zip(names, tables, strict=True):
        shape = r.shape(r.held(name))
        if r.graph.elem(name) != r.graph.elem(y):
            raise Unfit("it mixes signed and unsigned tensors")
        if name in r.graph.constants:
            r.constants[name] = r.graph.constants[name]
        k = sources.setdefault(name, len(sources))
        copies.append(copy(k, shape, 0, strides(shape), at * so[axis], so, table))
        at += shape[axis]
    if all(name in r.graph.constants for name in sources):
        raise Unfit("all its inputs are constant")
    return (ir.Move(n.name, n.op, tuple(sources), y, tuple(copies)),)


def _concat(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    if n.inputs[0] in r.quant:
        r.quant[n.outputs[0]] = r.quant[n.inputs[0]]
    return _joined(r, n, list(n.inputs), [None] * len(n.inputs))


def _qlinear_concat(r: Reading, n: Node) -> tuple[ir.Move, ...]:
    def qp(scale: str, zero: str) -> QP:
        return QP(np.float32(r.scalar(scale)), r.zero(zero), r.graph.elem(zero))

    out = qp(n.inputs[0], n.inputs[1])
    names, tables = [], []
    for k in range(2, len(n.inputs), 3):
        part = qp(n.inputs[k + 1], n.inputs[k + 2])
        names.append(n.inputs[k])
        same = part == out
        order = part.bytes_in_order()
        tables.append(None if same else out.quantize(part.dequantize(order)).view(np.uint8))
        r.quant.setdefault(n.inputs[k], ir.Quant(float(part.scale), part.zero))
    r.quant[n.outputs[0]] = ir.Quant(float(out.scale), out.zero)
    return _joined(r, n, names, tables)


RULES: dict[tuple[str, str], Callable[[Any, Node], tuple[ir.Move, ...]]] = {
    ("", "Transpose"): _transpose,
    ("", "Slice"): _slice,
    ("", "Split"): _split,
    ("", "Pad"): _pad,
    ("", "Expand"): _expand,
    ("", "Tile"): _tile,
    ("", "Gather"): _gather,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "SpaceToDepth"): _space_to_depth,
    ("", "Resize"): _resize,
    ("", "Concat"): _concat,
    (MS, "QLinearConcat"): _qlinear_concat,
}

__all__ = ["DTYPE", "copy", "mapped", "read", "runs_of", "strides"]
