"""One face for all operator families: splits, needs, costs, timelines, lowering. A new family adds its branches here.

Costs depend on a node's numbers, not on its weights: tasks of equal shape on equal engines are priced once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from compiler.ir.graph import ArgMax, Binary, Conv, GlobalAverage, Graph, Move, Node, Pool, Shape4, Table, storage4
from compiler.isa.program import EngineSpec
from compiler.isa.table import Space
from compiler.ops import argmax, binary, conv, global_average, move, pool, reduce, table
from compiler.ops.base import Constants, Step, Task, TaskTimeline, Tile, View, dense_view, timeline_of
from compiler.ops.boxes import align, tensor_shape4, whole_box
from compiler.ops.conv_geometry import (
    Geometry,
    Visit,
    act_bytes_of,
    input_blocks,
    input_grain,
    walk,
    weight_blocks,
    weight_bytes,
)
from compiler.ops.conv_tile import choose
from compiler.ops.shares import SHARE_GRAIN_BYTES
from compiler.plan.model import Box
from cost_models.pipeline import pipeline_makespan

__all__ = [
    "Cut", "Splits", "Stored", "TaskCost", "block_steps", "input_boxes", "likely_stored", "lower", "partial_name",
    "resident_budget_bytes", "resident_bytes", "shared_blocks", "splits", "tab_slot_bytes", "task_cost",
    "task_timeline", "wgt_slot_bytes",
]  # fmt: skip


Stored = Mapping[str, Box]  # by tensor: the box that a core's buffer holds


@dataclass(frozen=True, slots=True)
class Cut:
    """One legal cut of a layer's output: Super-LIP's name of it, storage axis, extent; at multiples of `quantum`."""

    factor: str  # Pb | Pr | Pc | Pm
    axis: int
    extent: int
    quantum: int = 1


@dataclass(frozen=True, slots=True)
class Splits:
    """How a layer may be shared out. axis: storage axis of the channels; cuts fall on multiples of `quantum`.

    channels: extent of that axis, 0 if it may not be cut. reduce: input channels that may be cut into partial sums,
    0 if none. others: batch, rows and columns that may be cut anywhere; cuts along several axes may be combined.
    """

    axis: int
    channels: int
    quantum: int
    reduce: int
    others: tuple[Cut, ...] = ()

    @property
    def cuts(self) -> tuple[Cut, ...]:
        """All legal cuts of the output."""
        return (*((Cut("Pm", self.axis, self.channels, self.quantum),) if self.channels else ()), *self.others)


@dataclass(frozen=True, slots=True)
class TaskCost:
    """What one task takes of its engine a frame.

    cycles: makespan of its tiles alone on the core, its layer serialised. compute_cycles: MAC array and vector unit.
    read_bytes, write_bytes: bank traffic in whole 64-byte bursts. weight_bytes: weights in CONST; constant_bytes:
    with biases and tables; resident_bytes: of WGT, held for ever. tile: what the lowering obeys (SlicePlan.tile).
    """

    cycles: int
    compute_cycles: int
    load_cycles: int
    store_cycles: int
    read_bytes: int
    write_bytes: int
    weight_bytes: int
    constant_bytes: int
    resident_bytes: int
    macs: int
    tiles: int
    tile: Tile


def resident_budget_bytes(engine: EngineSpec) -> int:
    """WGT bytes for resident weights; the other half holds the two slots of streamed ones."""
    return engine.wgt_bytes // 2


def wgt_slot_bytes(engine: EngineSpec) -> int:
    """One of the two slots of streamed weight blocks."""
    return (engine.wgt_bytes - resident_budget_bytes(engine)) // 2 // 64 * 64


def tab_slot_bytes(engine: EngineSpec) -> int:
    """One of the two slots of biases, requantiser entries and tables."""
    return engine.tab_bytes // 2 // 64 * 64


def resident_bytes(graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int]) -> int:
    """WGT bytes that a task with resident weights holds for ever."""
    assert isinstance(node, Conv)
    return align(weight_bytes(_geometry(graph, node, role, box, reduce_range, "resident", {})))


def partial_name(layer: str, k: int) -> str:
    """The int32 tensor that slice k of a layer leaves."""
    return f"{layer}.partial{k}"


def splits(graph: Graph, node: Node) -> Splits:
    """How a node may be shared out: batch, rows and columns of operators that work window by window; a movement
    along its first long axis only, where a slice is one run of bytes."""
    shape = tensor_shape4(graph, node.y)
    if isinstance(node, Conv):
        quantum = node.weight.shape[0] // node.groups if node.groups > 1 else 1
        n, c, h, w = node.axes
        return Splits(c, node.weight.shape[0], quantum, conv.pn_range(graph, node), _others(shape, n, h, w))
    if isinstance(node, Move):
        first = next((a for a in range(4) if shape[a] > 1), 1)
        if first == 1:
            return Splits(1, shape[1], 1, 0)
        return Splits(1, 0, 1, 0, (Cut(("Pb", "Pm", "Pr", "Pc")[first], first, shape[first]),))
    if isinstance(node, ArgMax):
        return Splits(1, 0, 1, 0)
    return Splits(1, shape[1], 1, 0, _others(shape, 0, 2, 3))


def _others(shape: Shape4, n: int, h: int, w: int) -> tuple[Cut, ...]:
    """Batch, row and column cuts along these storage axes, where there is something to cut."""
    named = (("Pb", n), ("Pr", h), ("Pc", w))
    return tuple(Cut(factor, axis, shape[axis]) for factor, axis in named if shape[axis] > 1)


def input_boxes(
    graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int] = (0, 0)
) -> dict[str, Box]:
    """Boxes of the tensors that a task reads (partial sums of a reduce slice are the scheduler's matter: {})."""
    if role == "reduce":
        return {}
    if isinstance(node, Conv):
        return {node.x: conv.input_box(node, box, *_range(node, role, reduce_range))}
    if isinstance(node, Binary):
        return binary.input_boxes(graph, node, box)
    if isinstance(node, Table):
        return {node.x: box}
    if isinstance(node, Pool):
        return {node.x: pool.input_box(node, box)}
    if isinstance(node, GlobalAverage):
        return {node.x: global_average.input_box(node, box)}
    if isinstance(node, Move):
        return move.input_boxes(graph, node, box)
    return {node.x: whole_box(storage4(graph.tensors[node.x].shape))}


def _range(node: Conv, role: str, reduce_range: tuple[int, int]) -> tuple[int, int]:
    return reduce_range if role == "partial" else (0, node.weight.shape[1])


def _geometry(
    graph: Graph, node: Conv, role: str, box: Box, reduce_range: tuple[int, int], memory: str, stored: Stored
) -> Geometry:
    k0, k1 = _range(node, role, reduce_range)
    made = partial_name(node.name, 0) if role == "partial" else node.y
    x = _stored_view(graph, node.x, stored.get(node.x) or conv.input_box(node, box, k0, k1))
    return conv.geometry_of(
        graph, node, role, box, k0, k1, memory, x, _stored_view(graph, made, stored.get(made) or box)
    )


def _stored_view(graph: Graph, name: str, box: Box) -> View:
    """A buffer at address 0 that holds a box of a tensor, dense; names that the graph does not know: partial sums."""
    t = graph.tensors.get(name)
    return View(name, Space.WORK, 0, box, conv.SUM_BYTES if t is None else t.dtype.size_bytes)


@lru_cache(maxsize=65536)
def _conv_cost(g: Geometry, engine: EngineSpec) -> TaskCost | None:
    if g.resident and align(weight_bytes(g)) > resident_budget_bytes(engine):
        return None
    tile = choose(g, engine, 2 * wgt_slot_bytes(engine))
    if tile is None:
        return None
    weights = weight_bytes(g) if g.share[1] == 1 else _share_bytes(g, tile)
    return _cost_of(
        conv.task_timeline(g, tile, engine), tile, weights, weights + (g.m1 - g.m0) * g.tab_channel_bytes,
        align(weights) if g.resident else 0, conv.macs(g),
    )  # fmt: skip


def _share_bytes(g: Geometry, tile: Tile) -> int:
    """Bytes of the task's own shares of its weight blocks."""
    return sum(g.loaded(m * depth * g.kh * g.kw) for _, m, _, depth in weight_blocks(g, tile))


def shared_blocks(
    graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int], tile: Tile, *, inputs: bool = False
) -> tuple[tuple[int, ...], ...]:
    """Weight blocks (inputs: input blocks) in the order in which a task takes them: what tells one from another, then
    the bytes at whose multiples it is cut into shares, and its bytes. Tasks with equal ones may share them. Empty for
    operators without weights. Weights: (m, channels, k, depth, …); inputs: (batch, row, rows, column, columns, k,
    depth, …)."""
    return tuple(b for _, b in _blocks(graph, node, role, box, reduce_range, tile, inputs))


def block_steps(
    graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int], tile: Tile, *, inputs: bool = False
) -> list[tuple[int, int, int]]:
    """(step of the task's timeline, grain, bytes) of each block of `shared_blocks`."""
    return [(i, b[-2], b[-1]) for i, b in _blocks(graph, node, role, box, reduce_range, tile, inputs)]


def _blocks(
    graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int], tile: Tile, inputs: bool
) -> list[tuple[int, tuple[int, ...]]]:
    if not isinstance(node, Conv) or role == "reduce":
        return []
    g = _geometry(graph, node, role, box, reduce_range, "stream", {})
    if inputs:
        return [
            (i, (v.batch, v.h, v.rows, v.w, v.cols, v.k, v.depth, input_grain(g, v), _act_bytes(g, v)))
            for i, v in input_blocks(g, tile)
        ]
    return [
        (i, (v.m.start, v.m.size, v.k, v.depth, SHARE_GRAIN_BYTES, v.m.size * v.depth * g.kh * g.kw))
        for i, v in enumerate(walk(g, tile))
        if v.new_wgt
    ]


def _act_bytes(g: Geometry, v: Visit) -> int:
    return act_bytes_of(g, v.m, 0, v.depth, v.rows, v.cols)


def _cost_of(t: TaskTimeline, tile: Tile, weights: int, constants: int, resident: int, macs: int) -> TaskCost:
    return TaskCost(
        pipeline_makespan(t), sum(t.cx_cycles), sum(t.ld_cycles), sum(t.st), sum(t.ld_bus_bytes), sum(t.st_bus_bytes),
        weights, constants, resident, macs, sum(1 for s in t.st if s), tile,
    )  # fmt: skip


def task_cost(
    graph: Graph,
    node: Node,
    role: str,
    box: Box,
    reduce_range: tuple[int, int],
    engine: EngineSpec,
    memory: str = "stream",
    partials: int = 2,
) -> TaskCost | None:
    """The cost of a task with its best tile, or None if no tile fits the engine's scratchpads.

    partials: how many partial sums a reduce slice adds. memory "resident" holds a convolution's weights in WGT.
    Its operands are taken to lie dense in DRAM, each just the box that the task needs: no buffer is faster to move.
    """
    if isinstance(node, Conv) and role != "reduce":
        g = _geometry(graph, node, role, box, reduce_range, memory, {})
        return _conv_cost(_shifted(g), bare(engine))
    if memory != "stream":
        return None
    return _plain_cost(graph, node, role, box, bare(engine), partials)


def likely_stored(graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int]) -> Stored:
    """What a core's buffers hold of a task's inputs as far as the task alone tells: along an axis by which it is cut
    what it reads, along any other the whole tensor, whose edges (of a strided window, say) others read."""
    all_of_it = input_boxes(graph, node, "full", whole_box(tensor_shape4(graph, node.y)))
    stored: dict[str, Box] = {}
    for name, need in input_boxes(graph, node, role, box, reduce_range).items():
        if name in graph.tensors:
            most, whole = all_of_it[name], whole_box(tensor_shape4(graph, name))
            uncut = [need[i : i + 2] == most[i : i + 2] for i in range(0, 8, 2)]
            bounds = [b for i, u in enumerate(uncut) for b in (whole if u else need)[2 * i : 2 * i + 2]]
            stored[name] = (bounds[0], bounds[1], bounds[2], bounds[3], bounds[4], bounds[5], bounds[6], bounds[7])
    return stored


def _shifted(g: Geometry) -> Geometry:
    """The same task at channel 0 where that makes no difference, so that equal slices share one entry."""
    if g.groups == 1 or g.group_m == 1:
        return replace(g, m0=0, m1=g.m1 - g.m0, k0=0, k1=g.k1 - g.k0)
    return g


@lru_cache(maxsize=4096)
def bare(engine: EngineSpec) -> EngineSpec:
    """The spec without the names that do not change a cost."""
    return replace(engine, id="", die="", bank="", dram_bytes=0)


@lru_cache(maxsize=65536)
def _plain_cost(graph: Graph, node: Node, role: str, box: Box, engine: EngineSpec, partials: int) -> TaskCost | None:
    tile = _choose(graph, node, role, box, engine, partials)
    if tile is None:
        return None
    steps, constants = _steps(graph, node, role, box, (0, 0), engine, tile, "stream", partials, {})
    return _cost_of(timeline_of(steps), tile, 0, sum(size for _, size in constants.symbols.values()), 0, 0)


def _choose(graph: Graph, node: Node, role: str, box: Box, engine: EngineSpec, partials: int) -> Tile | None:
    if role == "reduce":
        assert isinstance(node, Conv)
        return reduce.choose_tile(node, box, partials, engine)
    if isinstance(node, Binary):
        return binary.choose_tile(node, box, engine)
    if isinstance(node, Table):
        return table.choose_tile(node, box, engine)
    if isinstance(node, Pool):
        return pool.choose_tile(node, box, engine)
    if isinstance(node, GlobalAverage):
        return global_average.choose_tile(node, box, engine)
    if isinstance(node, Move):
        return move.choose_tile(graph, node, box, engine)
    assert isinstance(node, ArgMax)
    return argmax.choose_tile(node, engine)


def _steps(
    graph: Graph, node: Node, role: str, box: Box, reduce_range: tuple[int, int], engine: EngineSpec, tile: Tile,
    memory: str, partials: int | tuple[str, ...], stored: Stored,
) -> tuple[list[Step], Constants]:  # fmt: skip
    """Steps with every buffer at address 0 and constants only counted."""
    constants = Constants(keep=False)
    names = tuple(partial_name(node.name, k) for k in range(partials)) if isinstance(partials, int) else partials
    needed = {**input_boxes(graph, node, role, box, reduce_range), node.y: box} | dict.fromkeys(names, box)

    def view(name: str) -> View:
        if name in needed and name not in graph.constants:
            return _stored_view(graph, name, stored.get(name) or needed[name])
        return dense_view(graph, name)

    task = Task(
        graph, node, "", role, box, reduce_range[0], reduce_range[1], engine, tile, memory, view, constants, names
    )
    return lower(task), constants


def task_timeline(
    graph: Graph,
    node: Node,
    role: str,
    box: Box,
    reduce_range: tuple[int, int],
    engine: EngineSpec,
    tile: Tile,
    memory: str = "stream",
    partials: int | tuple[str, ...] = 2,
    stored: Stored | None = None,
) -> TaskTimeline:
    """Exact durations of every step of a task that obeys `tile`: what the prediction chains, layer by layer.

    stored: the box of each tensor that the core's buffer holds, dense (default: just what the task needs). partials:
    the names, or the number, of the partial sums that a reduce slice adds."""
    if isinstance(node, Conv) and role != "reduce":
        g = _geometry(graph, node, role, box, reduce_range, memory, stored or {})
        return conv.task_timeline(g, tile, engine)
    return timeline_of(_steps(graph, node, role, box, reduce_range, engine, tile, memory, partials, stored or {})[0])


def lower(task: Task) -> list[Step]:
    """The steps of a task: instructions without tokens, stages and ring bases."""
    node = task.node
    if isinstance(node, Conv):
        return reduce.lower(task) if task.role == "reduce" else conv.lower(task)
    if isinstance(node, Binary):
        return binary.lower(task)
    if isinstance(node, Table):
        return table.lower(task)
    if isinstance(node, Pool):
        return pool.lower(task)
    if isinstance(node, GlobalAverage):
        return global_average.lower(task)
    if isinstance(node, Move):
        return move.lower(task)
    return argmax.lower(task)
