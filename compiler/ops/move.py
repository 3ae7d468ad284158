"""Data movement as strided copies: each tile is a contiguous run of the result's bytes.

A tile's copies are the pieces of the node's copies that fall into its run. Each piece loads the least box of its
source (contiguous where gaps are small), VCOPY arranges it in the result slot (through a table where one is given),
bytes that no copy writes are filled, and one ST writes the run. A run along the first long axis may be a slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from compiler.ir.graph import Graph, Move, Shape4, storage4
from compiler.isa.program import EngineSpec
from compiler.isa.table import Flag, Space
from compiler.ops.base import Constants, Proto, Step, Task, Tile, View, dense_view, timeline_of
from compiler.ops.boxes import align
from compiler.ops.dma import load, load_const, store
from compiler.plan.model import Box
from cost_models.pipeline import pipeline_makespan
from cost_models.primitives import OTHER_CYCLES, ceil_div, vector_cycles

TABLE_BYTES = 256
SMALL_GAP_BYTES = 16  # a run of so few bytes between wanted ones costs the port nothing
_MORE = 3  # candidates tried beyond the first that fits, as long as they have few runs
_FEW_RUNS = 64

Loop = tuple[int, int, int]  # count, source stride, destination stride, in bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of one copy: loops ordered by falling destination stride, offsets in bytes of the dense tensors."""

    source: int
    loops: tuple[Loop, ...]
    src: int
    dst: int
    table: int  # index into the node's distinct tables, -1 without

    @property
    def elements(self) -> int:
        n = 1
        for count, _, _ in self.loops:
            n *= count
        return n


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a piece loads: `start` byte of the source, dims (count, source stride, scratch stride), scratch bytes;
    `origin` is the scratch offset of the piece's first element, `strides` the scratch stride of each of its loops."""

    start: int
    dims: tuple[tuple[int, int, int], ...]
    bytes: int
    origin: int
    strides: tuple[int, ...]


def tables(node: Move) -> list[bytes]:
    """The distinct tables of a node, in order of first use."""
    out: dict[bytes, None] = {}
    for c in node.copies:
        if c.table is not None:
            out.setdefault(c.table.tobytes())
    return list(out)


@lru_cache(maxsize=1024)
def pieces(node: Move, elem: int) -> tuple[Piece, ...]:
    """The node's copies in bytes, neighbouring loops fused, destination strides positive and falling."""
    known = {t: i for i, t in enumerate(tables(node))}
    out = []
    for c in node.copies:
        src, dst = c.src_offset * elem, c.dst_offset * elem
        loops: list[Loop] = []
        for count, s, d in zip(c.dims, c.src_strides, c.dst_strides, strict=True):
            s, d = s * elem, d * elem
            if count == 1:
                continue
            if d < 0:
                src, dst, s, d = src + (count - 1) * s, dst + (count - 1) * d, -s, -d
            loops.append((count, s, d))
        if elem > 1:
            loops.append((elem, 1, 1))
        if 0 in c.dims:
            continue
        loops.sort(key=lambda loop: -loop[2])
        table = -1 if c.table is None else known[c.table.tobytes()]
        out.append(Piece(c.source, tuple(_fuse(loops)), src, dst, table))
    return tuple(out)


def _fuse(loops: list[Loop]) -> list[Loop]:
    out: list[Loop] = []
    for count, s, d in loops:
        if count == 1:
            continue
        if out and out[-1][1] == s * count and out[-1][2] == d * count:
            out[-1] = (out[-1][0] * count, s, d)
        else:
            out.append((count, s, d))
    return out


def clip(p: Piece, lo: int, hi: int) -> Iterator[Piece]:
    """The parts of a piece whose destination lies in [lo, hi)."""
    reach = 1 + sum((n - 1) * d for n, _, d in p.loops)
    if p.dst >= hi or p.dst + reach <= lo:
        return
    if lo <= p.dst and p.dst + reach <= hi:
        yield p
        return
    (count, s, d), rest = p.loops[0], p.loops[1:]
    inner = reach - (count - 1) * d
    first = max(0, ceil_div(lo - p.dst, d))
    final = min(count - 1, (hi - inner - p.dst) // d)
    low = max(0, (lo - inner - p.dst) // d + 1)
    high = min(count - 1, (hi - 1 - p.dst) // d)
    whole = [] if first > final else [(first, final - first + 1)]
    cut = [*range(low, first), *range(final + 1, high + 1)] if whole else [*range(low, high + 1)]
    for start, n in whole:
        yield replace(p, loops=tuple(_fuse([(n, s, d), *rest])), src=p.src + start * s, dst=p.dst + start * d)
    for i in cut:  # reached, but not wholly inside
        yield from clip(replace(p, loops=rest, src=p.src + i * s, dst=p.dst + i * d), lo, hi)


@lru_cache(maxsize=16384)
def footprint(loops: tuple[Loop, ...], src: int) -> Footprint:
    """The least box of the source that holds a piece."""
    start = src + sum(min(0, (n - 1) * s) for n, s, _ in loops)
    order = sorted((abs(s), n, i) for i, (n, s, _) in enumerate(loops) if s != 0)
    span, strides = 1, [0] * len(loops)
    dims: list[tuple[int, int, int]] = []
    pitch = 0
    for stride, n, i in order:
        sign = 1 if loops[i][1] > 0 else -1
        if not dims and (stride <= 2 * span or stride <= SMALL_GAP_BYTES):
            span += (n - 1) * stride
            strides[i] = sign * stride
        else:
            pitch = pitch or span
            dims.insert(0, (n, stride, pitch))
            strides[i] = sign * pitch
            pitch *= n
    total = pitch or span
    dims.append((span, 1, 1))
    origin = sum(-(n - 1) * strides[i] for i, (n, s, _) in enumerate(loops) if s < 0)
    return Footprint(start, tuple(dims), total, origin, tuple(strides))


def byte_range(shape: Shape4, box: Box, elem: int) -> tuple[int, int]:
    """First byte and end of a box that is contiguous in the dense tensor."""
    _, c, h, w = shape
    first = ((box[0] * c + box[2]) * h + box[4]) * w + box[6]
    last = (((box[1] - 1) * c + box[3] - 1) * h + box[5] - 1) * w + box[7]
    return first * elem, last * elem


def flat_box(shape: Shape4, lo: int, hi: int) -> Box:
    """The least box, contiguous in the dense tensor, that holds elements [lo, hi): cut along its first long axis."""
    box = [0, shape[0], 0, shape[1], 0, shape[2], 0, shape[3]]
    for axis in range(4):
        if shape[axis] > 1:
            inner = 1
            for s in shape[axis + 1 :]:
                inner *= s
            box[2 * axis], box[2 * axis + 1] = lo // inner, ceil_div(max(hi, lo + 1), inner)
            break
    return tuple(box)  # type: ignore[return-value]


def _elem(graph: Graph, node: Move) -> int:
    return graph.tensors[node.y].dtype.size_bytes


def input_boxes(graph: Graph, node: Move, box: Box) -> dict[str, Box]:
    """The contiguous run of each source that the run of the result needs; constants need nothing."""
    elem = _elem(graph, node)
    lo, hi = byte_range(storage4(graph.tensors[node.y].shape), box, elem)
    reach: dict[str, tuple[int, int]] = {}
    for p in pieces(node, elem):
        name = node.xs[p.source]
        if name in graph.constants:
            continue
        for part in clip(p, lo, hi):
            first = part.src + sum(min(0, (n - 1) * s) for n, s, _ in part.loops)
            last = part.src + sum(max(0, (n - 1) * s) for n, s, _ in part.loops) + 1
            have = reach.get(name, (first, last))
            reach[name] = (min(have[0], first), max(have[1], last))
    return {
        name: flat_box(storage4(graph.tensors[name].shape), a // elem, ceil_div(b, elem))
        for name, (a, b) in reach.items()
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """Runs [lo, hi) of the result with their pieces; bytes of an input and of a result slot."""

    runs: tuple[tuple[int, int, tuple[Piece, ...]], ...]
    in_slot: int
    out_slot: int


def plan_runs(parts: tuple[Piece, ...], lo: int, hi: int, size: int) -> Plan:
    """Cuts [lo, hi) into runs of `size` bytes (aligned to multiples of it) with the pieces of each."""
    runs = []
    largest = 0
    for a in range(lo, hi, size):
        b = min(a + size, hi)
        own = tuple(piece for p in parts for piece in clip(p, a, b))
        runs.append((a, b, own))
        largest = max(largest, sum(align(footprint(p.loops, p.src).bytes) for p in own))
    return Plan(tuple(runs), align(max(1, largest)), align(size))


@lru_cache(maxsize=4096)
def _cached_plan(node: Move, elem: int, lo: int, hi: int, size: int) -> Plan:
    parts = pieces(node, elem)
    return plan_runs(parts, lo, hi, size)


def _grains(graph: Graph, node: Move, elem: int) -> list[int]:
    """Sizes to which runs are aligned: strides of the result's shape and of its copies, descending."""
    sizes = {elem}
    inner = elem
    for extent in reversed(graph.tensors[node.y].shape):
        inner *= extent
        sizes.add(inner)
    for p in pieces(node, elem):
        sizes.update(d for _, _, d in p.loops)
    return sorted(sizes, reverse=True)


def choose_tile(graph: Graph, node: Move, box: Box, engine: EngineSpec) -> Tile | None:
    """{"b": bytes a run}: the best of a few run lengths, timed exactly."""
    elem = _elem(graph, node)
    lo, hi = byte_range(storage4(graph.tensors[node.y].shape), box, elem)
    grains = _grains(graph, node, elem)
    best: tuple[int, Tile] | None = None
    seen: set[int] = set()
    tried = 0
    count = 1
    while count < 2 * (hi - lo) and (not tried or (tried <= _MORE and count <= _FEW_RUNS)):
        raw = ceil_div(hi - lo, count)
        count *= 2
        grain = next((g for g in grains if g <= raw), elem)
        size = ceil_div(raw, grain) * grain
        if size in seen or 2 * align(size) > engine.act_bytes:
            continue
        seen.add(size)
        plan = _cached_plan(node, elem, lo, hi, size)
        most = max((len({p.table for p in own if p.table >= 0}) for _, _, own in plan.runs), default=0)
        if 2 * (plan.in_slot + plan.out_slot) > engine.act_bytes or 2 * most * TABLE_BYTES > engine.tab_bytes:
            continue
        tried += 1
        tile = {"b": size}
        task = Task(
            graph,
            node,
            "",
            "full",
            box,
            0,
            0,
            engine,
            tile,
            "stream",
            lambda n: dense_view(graph, n),
            Constants(keep=False),
        )
        cycles = pipeline_makespan(timeline_of(lower(task)))
        if best is None or cycles < best[0]:
            best = (cycles, tile)
    return best[1] if best else None


def _origin(view: View, shape: Shape4) -> int:
    """Byte of the dense tensor at which the (contiguous) view starts."""
    return byte_range(shape, view.box, view.elem)[0]


def lower(task: Task) -> list[Step]:
    """Steps of a movement: loads of each piece's box, VFILL, VCOPYs, one store of the run."""
    node, engine, graph = task.node, task.engine, task.graph
    assert isinstance(node, Move)
    elem = _elem(graph, node)
    y = task.view(node.y)
    y_shape = storage4(graph.tensors[node.y].shape)
    lo, hi = byte_range(y_shape, task.box, elem)
    plan = _cached_plan(node, elem, lo, hi, task.tile["b"])
    y_origin = _origin(y, y_shape)
    sources: dict[int, tuple[View, int]] = {}
    all_tables = tables(node)
    needed = tuple(sorted({p.table for _, _, own in plan.runs for p in own if p.table >= 0}))  # by this slice
    all_fit = len(needed) * TABLE_BYTES <= engine.tab_bytes // 2
    block = -1
    loaded: tuple[int, ...] = ()
    steps: list[Step] = []
    for i, (a, b, own) in enumerate(plan.runs):
        step = Step()
        used = tuple(sorted({p.table for p in own if p.table >= 0}))
        wanted = needed if all_fit else used
        if used and wanted != loaded:
            block, loaded = block + 1, wanted
            data = b"".join(all_tables[t] for t in wanted)
            name = "tables" if len(wanted) == len(all_tables) else "tables" + ".".join(map(str, wanted))
            step.loads.append(
                load_const(task, name, len(data), lambda d=data: d, Space.TAB, 0, "table")  # type: ignore[misc]
            )
        step.tab = block
        src, dst = i % 2 * plan.in_slot, 2 * plan.in_slot + i % 2 * plan.out_slot
        if sum(p.elements for p in own) < b - a:
            fields = {"dst_addr": dst, "count": b - a, "value": (node.fill or 0) & 0xFF}
            cycles = vector_cycles(b - a, 1, engine.vector_lanes)
            step.cx.append(Proto("VFILL", fields, 0, cycles, role="compute", result=True))
        for p in own:
            if p.source not in sources:
                name = node.xs[p.source]
                view = task.view(name)
                shape = storage4(graph.tensors[name].shape if name in graph.tensors else graph.constants[name].shape)
                sources[p.source] = (replace(view, elem=1), view.address - _origin(view, shape))
            view, base = sources[p.source]
            f = footprint(p.loops, p.src)
            step.loads.extend(load(engine, view, base + f.start, Space.ACT, src, f.dims, "input"))
            table = -1 if p.table < 0 else loaded.index(p.table)
            step.cx.extend(_copies(engine, p, f, src + f.origin, dst + p.dst - a, table))
            src += align(f.bytes)
        if not step.loads:  # every run is a load group, so that the input slots keep their turns
            step.loads.append(Proto("SYNC", {}, cycles=OTHER_CYCLES))
        step.stores = store(engine, y, y.address + a - y_origin, Space.ACT, dst, [((b - a) // elem, elem, elem)], ())
        steps.append(step)
    return steps


def _copies(engine: EngineSpec, p: Piece, f: Footprint, src: int, dst: int, table: int) -> Iterator[Proto]:
    """The VCOPYs of a piece: four loops each."""
    loops = _fuse([(n, s, d) for (n, _, d), s in zip(p.loops, f.strides, strict=True)])
    offsets = [(src, dst)]
    for n, s, d in loops[:-4]:
        offsets = [(x + i * s, y + i * d) for x, y in offsets for i in range(n)]
    inner = loops[-4:]
    while len(inner) < 4:
        inner.insert(0, (1, 0, 0))
    count = inner[0][0] * inner[1][0] * inner[2][0] * inner[3][0]
    cycles = vector_cycles(count, 1, engine.vector_lanes)
    for x, y in offsets:
        fields = {"src_addr": x, "dst_addr": y}
        for k, (n, s, d) in zip((3, 2, 1, 0), inner, strict=True):
            fields |= {f"n{k}": n, f"src_s{k}": s, f"dst_s{k}": d}
        flags = 0
        if table >= 0:
            fields["tab_addr"], flags = table * TABLE_BYTES, int(Flag.TABLE)
        yield Proto("VCOPY", fields, flags, cycles, role="compute", result=True)
