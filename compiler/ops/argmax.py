"""ArgMax along one axis of a dense tensor seen as (outer, axis, inner); results are int64. Never split."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.ir.graph import ArgMax
from compiler.isa.program import EngineSpec
from compiler.isa.table import Flag, Space
from compiler.ops.base import Proto, Step, Task, Tile, unsigned_flag
from compiler.ops.boxes import align
from compiler.ops.dma import load, store
from cost_models.primitives import ceil_div, vector_cycles

INDEX_BYTES = 8
_SPLITS = (1, 2, 4, 8)


def _slots(axis: int, o: int, i: int) -> tuple[int, int]:
    return align(o * axis * i), align(o * i * INDEX_BYTES)


def choose_tile(node: ArgMax, engine: EngineSpec) -> Tile | None:
    """{"o": outer, "i": inner} elements a tile."""
    outer, axis, inner = node.dims

    def fit(o: int, i: int) -> bool:
        return 2 * sum(_slots(axis, o, i)) <= engine.act_bytes

    if fit(1, inner):
        for split in (4, *_SPLITS):
            o = ceil_div(outer, min(outer, split))
            if fit(o, inner):
                return {"o": o, "i": inner}
        o = outer
        while not fit(o, inner):
            o = ceil_div(o, 2)
        return {"o": o, "i": inner}
    i = inner
    while i > 1 and not fit(1, i):
        i = ceil_div(i, 2)
    return {"o": 1, "i": i} if fit(1, i) else None


def _tiles(node: ArgMax, tile: Tile) -> Iterator[tuple[int, int, int, int]]:
    outer, _, inner = node.dims
    for o in range(0, outer, tile["o"]):
        for i in range(0, inner, tile["i"]):
            yield o, min(tile["o"], outer - o), i, min(tile["i"], inner - i)


def lower(task: Task) -> list[Step]:
    """Steps of an ArgMax: load, VARG, store of int64."""
    node, engine = task.node, task.engine
    assert isinstance(node, ArgMax)
    x, y = task.view(node.x), task.view(node.y)
    _, axis, inner = node.dims
    in_slot, out_slot = _slots(axis, task.tile["o"], task.tile["i"])
    flags = unsigned_flag(task.graph, node.x, Flag.X_UNSIGNED) | (int(Flag.LAST) if node.select_last else 0)
    steps = []
    for k, (o, outers, i, inners) in enumerate(_tiles(node, task.tile)):
        src, dst = k % 2 * in_slot, 2 * in_slot + k % 2 * out_slot
        step = Step()
        start = x.address + (o * axis * inner + i) * x.elem
        dims = [(outers, axis * inner, axis * inners), (axis, inner, inners), (inners, 1, 1)]
        step.loads = load(engine, x, start, Space.ACT, src, dims, "input")
        fields = {"src_addr": src, "dst_addr": dst, "outer": outers, "axis": axis, "inner": inners}
        cycles = vector_cycles(outers * inners, axis, engine.vector_lanes)
        step.cx.append(Proto("VARG", fields, flags, cycles, role="compute", result=True))
        at = y.address + (o * inner + i) * INDEX_BYTES
        out = [(outers, inner * INDEX_BYTES, inners * INDEX_BYTES), (inners, INDEX_BYTES, INDEX_BYTES)]
        step.stores = store(engine, y, at, Space.ACT, dst, out, ())
        steps.append(step)
    return steps
