"""QLinearAdd and QLinearMul with broadcasting, and look-up tables: element by element over boxes of the output.

Any box may be split; the channel axis is offered. An operand that is broadcast along an axis is loaded once a tile.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from compiler.ir.graph import Binary, Graph, Shape4
from compiler.isa.program import EngineSpec
from compiler.isa.table import KIND_ADD, KIND_MUL, VBIN_ENTRY_BYTES, Flag, Space
from compiler.ops.base import Proto, Step, Task, Tile, View, limits, unsigned_flag
from compiler.ops.blocks import cut, cuts, extents, tiles_of, uniform_makespan
from compiler.ops.boxes import align, box_elements, box_sizes, dense_strides, tensor_shape4, whole_box
from compiler.ops.dma import box_dims, box_time, load, load_const, load_time, store, store_time
from compiler.plan.model import Box
from compiler.requant import binary_entry
from compiler.requant.binary import BinaryEntry
from cost_models.primitives import ceil_div, vector_cycles


def operand_box(shape: Shape4, box: Box) -> Box:
    """The part of an operand of this (broadcast-aligned) shape that an output box reads."""
    out = [(0, 1) if shape[a] == 1 else (box[2 * a], box[2 * a + 1]) for a in range(4)]
    return (*out[0], *out[1], *out[2], *out[3])


def input_boxes(graph: Graph, node: Binary, box: Box) -> dict[str, Box]:
    """Needed boxes by tensor, in each tensor's own storage4 coordinates; constants need nothing."""
    out: dict[str, Box] = {}
    for name, shape in ((node.a, node.a_shape), (node.b, node.b_shape)):
        if name in graph.constants:
            continue
        own = tensor_shape4(graph, name)
        need = operand_box(shape, box) if own == shape else whole_box(own)
        if name in out:
            have = out[name]
            need = tuple(min(have[i], need[i]) if i % 2 == 0 else max(have[i], need[i]) for i in range(8))  # type: ignore[assignment]
        out[name] = need
    return out


def operand_view(view: View, shape: Shape4) -> View:
    """The view in output coordinates: a whole tensor whose own storage4 differs from the aligned shape is re-read."""
    if box_elements(view.box) == box_elements(whole_box(shape)):
        return replace(view, box=whole_box(shape))
    return view


def merged_loops(sizes: Shape4, strides: list[Shape4]) -> list[tuple[int, tuple[int, ...]]]:
    """Loops (count, stride of each operand), outermost first, with fused neighbours."""
    loops: list[tuple[int, tuple[int, ...]]] = []
    for a in range(4):
        if sizes[a] == 1:
            continue
        here = tuple(s[a] for s in strides)
        if loops and all(p == h * sizes[a] for p, h in zip(loops[-1][1], here, strict=True)):
            loops[-1] = (loops[-1][0] * sizes[a], here)
        else:
            loops.append((sizes[a], here))
    return loops or [(1, tuple(1 for _ in strides))]


def operand_strides(shape: Shape4, sizes: Shape4) -> tuple[Shape4, Shape4]:
    """(extents of an operand's tile, its strides in the output loop: 0 along broadcast axes)."""
    own: Shape4 = tuple(1 if shape[a] == 1 else sizes[a] for a in range(4))  # type: ignore[assignment]
    dense = dense_strides(own)
    return own, tuple(0 if shape[a] == 1 else dense[a] for a in range(4))  # type: ignore[return-value]


@lru_cache(maxsize=1024)
def _entry(node: Binary, lo: int, hi: int, a: tuple[int, ...], b: tuple[int, ...]) -> BinaryEntry:
    return binary_entry(
        node.kind, node.params, node.a_zero_point, node.b_zero_point, node.y_zero_point, lo, hi,
        a_values=np.array(a), b_values=np.array(b),
    )  # fmt: skip


def values(graph: Graph, name: str) -> tuple[int, ...]:
    """Every value an operand can take."""
    if name in graph.constants:
        return tuple(int(v) for v in np.unique(graph.constants[name].astype(np.int64)))
    lo, hi = limits(graph, name)
    return tuple(range(lo, hi + 1))


def entry(graph: Graph, node: Binary) -> BinaryEntry:
    """The proved VBIN entry of a node."""
    lo, hi = limits(graph, node.y)
    return _entry(node, lo, hi, values(graph, node.a), values(graph, node.b))


def _loops(node: Binary, sizes: Shape4) -> int:
    _, a = operand_strides(node.a_shape, sizes)
    _, b = operand_strides(node.b_shape, sizes)
    return len(merged_loops(sizes, [a, b, dense_strides(sizes)]))


def _slots(node: Binary, sizes: Shape4) -> tuple[int, int, int]:
    """Bytes of operand a, operand b and result of a tile, each aligned."""
    out = []
    for shape in (node.a_shape, node.b_shape):
        own, _ = operand_strides(shape, sizes)
        out.append(align(own[0] * own[1] * own[2] * own[3]))
    return out[0], out[1], align(sizes[0] * sizes[1] * sizes[2] * sizes[3])


def choose_tile(node: Binary, box: Box, engine: EngineSpec) -> Tile | None:
    """The cut with the least makespan of equal tiles."""
    sizes = box_sizes(box)

    def fit(axis: int, size: int) -> bool:
        e = extents(sizes, axis, size)
        return 2 * sum(_slots(node, e)) <= engine.act_bytes and _loops(node, e) <= 3

    best: tuple[int, int, int] | None = None
    for axis, size in cuts(box, fit):
        e = extents(sizes, axis, size)
        ld = bus = 0
        for shape in (node.a_shape, node.b_shape):
            own, _ = operand_strides(shape, e)
            full = dense_strides(tuple(1 if shape[a] == 1 else sizes[a] for a in range(4)))  # type: ignore[arg-type]
            c, b = box_time(load_time, engine, own, full)
            ld, bus = ld + c, bus + b
        st, b = box_time(store_time, engine, e, dense_strides(sizes))
        count = e[0] * e[1] * e[2] * e[3]
        bank = ceil_div((bus + b) * engine.clock_khz * 1000, engine.bank_bytes_per_second)
        cycles = uniform_makespan(tiles_of(box, axis, size), ld, vector_cycles(count, 1, engine.vector_lanes), st, bank)
        if best is None or cycles < best[0]:
            best = (cycles, axis, size)
    return None if best is None else {"axis": best[1], "size": best[2]}


def lower(task: Task) -> list[Step]:
    """Steps of a binary slice: load both operand tiles, VBIN, store."""
    node, engine, graph = task.node, task.engine, task.graph
    assert isinstance(node, Binary)
    if not task.pricing:
        task.notes["requantiser"] = entry(graph, node).proof
    y = task.view(node.y)
    operands = [
        (operand_view(task.view(name), shape), shape)
        for name, shape in ((node.a, node.a_shape), (node.b, node.b_shape))
    ]
    axis, size = task.tile["axis"], task.tile["size"]
    a_slot, b_slot, out_slot = _slots(node, extents(box_sizes(task.box), axis, size))
    flags = (
        unsigned_flag(graph, node.a, Flag.X_UNSIGNED)
        | unsigned_flag(graph, node.b, Flag.W_UNSIGNED)
        | unsigned_flag(graph, node.y, Flag.Y_UNSIGNED)
    )
    lo, hi = limits(graph, node.y)
    steps = []
    for i, box in enumerate(cut(task.box, axis, size)):
        step = Step(tab=0)
        if i == 0:
            step.loads.append(
                load_const(task, "entry", VBIN_ENTRY_BYTES, lambda: entry(graph, node).data, Space.TAB, 0, "table")
            )
        sizes = box_sizes(box)
        base = i % 2 * (a_slot + b_slot)
        addresses = (base, base + a_slot)
        strides: list[Shape4] = []
        for (view, shape), addr in zip(operands, addresses, strict=True):
            own, loop = operand_strides(shape, sizes)
            strides.append(loop)
            need = operand_box(shape, box)
            start = view.at(need[0], need[2], need[4], need[6])
            dims = box_dims(own, view.strides, dense_strides(own))
            step.loads.extend(load(engine, view, start, Space.ACT, addr, dims, "input"))
        loops = merged_loops(sizes, [*strides, dense_strides(sizes)])
        while len(loops) < 3:
            loops.insert(0, (1, (0, 0, 0)))
        out = 2 * (a_slot + b_slot) + i % 2 * out_slot
        fields = {
            "kind": KIND_ADD if node.kind == "add" else KIND_MUL,
            "a_addr": addresses[0],
            "b_addr": addresses[1],
            "dst_addr": out,
            "tab_addr": 0,
            "n2": loops[0][0],
            "n1": loops[1][0],
            "n0": loops[2][0],
            "a_s2": loops[0][1][0],
            "a_s1": loops[1][1][0],
            "a_s0": loops[2][1][0],
            "b_s2": loops[0][1][1],
            "b_s1": loops[1][1][1],
            "b_s0": loops[2][1][1],
            "lo": lo,
            "hi": hi,
        }
        count = box_elements(box)
        cycles = vector_cycles(count, 1, engine.vector_lanes)
        step.cx.append(Proto("VBIN", fields, flags, cycles, role="compute", result=True))
        start = y.at(box[0], box[2], box[4], box[6])
        step.stores = store(engine, y, start, Space.ACT, out, box_dims(sizes, y.strides, dense_strides(sizes)), box)
        steps.append(step)
    return steps
