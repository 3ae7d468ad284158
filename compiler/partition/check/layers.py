"""Judges the slices: that every layer is computed exactly once, on engines that can hold it, at the stated cost."""

from __future__ import annotations

from compiler.ir.graph import Conv, Graph, Node, storage4
from compiler.isa.check.findings import Findings
from compiler.isa.program import EngineSpec
from compiler.ops import (
    Splits,
    TaskTimeline,
    input_boxes,
    input_share_of,
    partial_name,
    resident_budget_bytes,
    share_of,
    splits,
    task_cost,
    task_timeline,
)
from compiler.plan.model import Box, LayerPlan, Plan, SlicePlan
from device_db.model import Cluster

MEMORIES = ("stream", "resident")


def common(a: Box, b: Box) -> Box | None:
    """The elements that two boxes share, or None."""
    low = [max(a[i], b[i]) for i in (0, 2, 4, 6)]
    high = [min(a[i], b[i]) for i in (1, 3, 5, 7)]
    if any(x >= y for x, y in zip(low, high, strict=True)):
        return None
    return (low[0], high[0], low[1], high[1], low[2], high[2], low[3], high[3])


def count(box: Box) -> int:
    """Elements of a box."""
    return (box[1] - box[0]) * (box[3] - box[2]) * (box[5] - box[4]) * (box[7] - box[6])


def whole(graph: Graph, tensor: str) -> Box:
    """The box of all of a tensor."""
    t = graph.tensors.get(tensor)
    n, c, h, w = storage4(t.shape if t is not None else graph.host_tensors[tensor][1])
    return (0, n, 0, c, 0, h, 0, w)


def reduce_extent(node: Node) -> int:
    """Input channels that a full slice sums over: those of one group of a convolution, else 0."""
    return int(node.weight.shape[1]) if isinstance(node, Conv) else 0


def check_layers(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> bool:
    """False if later rules have nothing to stand on."""
    before = len(found.kept)
    want = [(n.name, n.op) for n in graph.nodes]
    have = [(x.name, x.op) for x in plan.layers]
    if want != have:
        for name, op in sorted(set(want) ^ set(have)):
            side = "in the plan, not in the graph" if (name, op) in have else "in the graph, not in the plan"
            found.add("FVC220", f"layer '{name}' ({op}) is {side}", "layers")
        if sorted(want) == sorted(have):
            found.add("FVC220", "the layers do not stand in the graph's order", "layers")
        return False
    _segments(plan, graph, found)
    engines = {e.id: e for e in plan.engines}
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        for k, s in enumerate(layer.slices):
            where = f"layers {layer.name} slice {s.task}"
            if s.task != f"{layer.name}#{k}":
                found.add("FVC220", f"the task is called '{s.task}', not '{layer.name}#{k}'", where)
            if s.engine not in engines:
                found.add("FVC220", f"no engine is called '{s.engine}'", where)
            elif engines[s.engine].replica != s.replica:
                found.add("FVC220", f"replica {s.replica} on an engine of replica {engines[s.engine].replica}", where)
        if len(found.kept) == before:
            for r in range(plan.replicas):
                _coverage(layer, node, [s for s in layer.slices if s.replica == r], graph, r, found)
    if len(found.kept) > before:
        return False
    _costs(plan, graph, found)
    _capacity(plan, graph, found)
    return not any(f.code == "FVC220" for f in found.kept[before:])


def _segments(plan: Plan, graph: Graph, found: Findings) -> None:
    want = {h.name: (tuple(h.nodes), h.reason) for h in graph.host_segments}
    have = {h.name: (tuple(h.nodes), h.reason) for h in plan.host_segments}
    if want != have or [h.name for h in plan.host_segments] != [h.name for h in graph.host_segments]:
        found.add("FVC220", "the host segments differ from the graph's", "host_segments")


def _coverage(layer: LayerPlan, node: Node, own: list[SlicePlan], graph: Graph, replica: int, found: Findings) -> None:
    """Every element of the output exactly once, from all input channels, cut where the operator allows it."""
    where = f"layers {layer.name}" + (f" replica {replica}" if replica else "")
    all_of_it, extent, legal = whole(graph, node.y), reduce_extent(node), splits(graph, node)
    quantum = {c.axis: c.quantum for c in legal.cuts}
    final = [s for s in own if s.role in ("full", "reduce")]
    partial = [s for s in own if s.role == "partial"]
    if len(final) + len(partial) != len(own):
        found.add("FVC220", f"unknown role in {[s.role for s in own]}", where)
        return
    for s in own:
        if len(s.box) != 8 or common(s.box, all_of_it) != s.box:
            found.add("FVC220", f"box {s.box} of {s.task} is empty or leaves the output {all_of_it}", where)
            return
        for axis in range(4):
            lo, hi = s.box[2 * axis], s.box[2 * axis + 1]
            end = all_of_it[2 * axis + 1]
            if (lo, hi) == (0, end):
                continue
            if axis not in quantum:
                found.add("FVC220", f"{s.task} is cut along storage axis {axis}, which {node.op} does not allow", where)
            elif any(x % quantum[axis] for x in (lo, hi) if x != end):
                found.add("FVC220", f"{s.task} is cut at {lo}..{hi}, not at a multiple of {quantum[axis]}", where)
        low, high = s.reduce_from, s.reduce_to
        if s.role == "partial":
            if not (legal.reduce and 0 <= low < high <= legal.reduce):
                found.add("FVC220", f"{s.task} sums input channels {low}..{high} of {legal.reduce}", where)
        elif (low, high) != (0, extent):
            found.add("FVC220", f"{s.task} sums input channels {low}..{high}, all are 0..{extent}", where)
    if sum(count(s.box) for s in final) != count(all_of_it) or any(
        common(a.box, b.box) for i, a in enumerate(final) for b in final[:i]
    ):
        found.add("FVC220", "the slices do not cover the output exactly once", where)
    if bool(partial) != any(s.role == "reduce" for s in final):
        found.add("FVC220", "partial slices and reduce slices need each other", where)
    for s in final:
        if s.role != "reduce":
            continue
        parts = sorted((p.reduce_from, p.reduce_to, count(c)) for p in partial if (c := common(p.box, s.box)))
        at = 0
        for low, high, size in parts:
            if low != at or size != count(s.box):
                at = -1
                break
            at = high
        if at != legal.reduce:
            found.add("FVC220", f"the partial sums of {s.task} do not cover its input channels exactly once", where)
    kind = _strategy(partial or final, legal) if len(own) > 1 else "whole"
    if replica == 0 and layer.strategy != kind:
        found.add("FVC220", f"strategy '{layer.strategy}', the slices are {kind}", where)


def _strategy(cells: list[SlicePlan], legal: Splits) -> str:
    """How many ranges of every axis and of the input channels the slices have, in Super-LIP's names."""
    ranges = {c.factor: {s.box[2 * c.axis : 2 * c.axis + 2] for s in cells} for c in legal.cuts}
    ranges["Pn"] = {(s.reduce_from, s.reduce_to) for s in cells}
    return ",".join(f"{f}={len(ranges[f])}" for f in ("Pb", "Pr", "Pc", "Pm", "Pn") if len(ranges.get(f, ())) > 1)


def added(layer: LayerPlan, s: SlicePlan) -> tuple[str, ...]:
    """Names of the partial sums that a reduce slice adds: those of its replica that meet its box."""
    own = [p for p in layer.slices if p.replica == s.replica]
    return tuple(partial_name(layer.name, k) for k, p in enumerate(own) if p.role == "partial" and common(p.box, s.box))


def partial_count(layer: LayerPlan, s: SlicePlan) -> int:
    """How many partial sums a slice adds, at least two (what a slice that adds none is priced with)."""
    return max(2, len(added(layer, s))) if s.role == "reduce" else 2


def holdings(plan: Plan, graph: Graph) -> dict[str, dict[str, Box]]:
    """What each core's memory has of each tensor: the hull of what its tasks make and of what its channels bring."""
    held: dict[str, dict[str, Box]] = {e.id: {} for e in plan.engines}

    def hold(engine: str, tensor: str, box: Box) -> None:
        have = held[engine].get(tensor, box)
        pairs = enumerate(zip(box, have, strict=True))
        held[engine][tensor] = tuple(min(a, b) if i % 2 == 0 else max(a, b) for i, (a, b) in pairs)  # type: ignore[assignment]

    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        at: dict[int, int] = {}
        for s in layer.slices:
            k = at.get(s.replica, 0)
            at[s.replica] = k + 1
            hold(s.engine, partial_name(layer.name, k) if s.role == "partial" else node.y, s.box)
    for c in plan.channels:
        if c.target in held:
            hold(c.target, c.tensor, c.box)
    return held


def timelines(plan: Plan, graph: Graph, held: dict[str, dict[str, Box]]) -> dict[str, TaskTimeline]:
    """Durations and bank bytes of every task that fits its engine, its tensors in memory as its core holds them."""
    specs = {e.id: EngineSpec(**e.parameters) for e in plan.engines}
    out: dict[str, TaskTimeline] = {}
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        for s in layer.slices:
            reach, spec = (s.reduce_from, s.reduce_to), specs[s.engine]
            if task_cost(graph, node, s.role, s.box, reach, spec, s.memory, partial_count(layer, s)) is not None:
                out[s.task] = task_timeline(
                    graph, node, s.role, s.box, reach, spec, s.tile, s.memory, added(layer, s) or 2, held[s.engine]
                )
    return out


def _costs(plan: Plan, graph: Graph, found: Findings) -> None:
    """Tile, cycles and memory style against the operator room."""
    specs = {e.id: EngineSpec(**e.parameters) for e in plan.engines}
    resident = dict.fromkeys(specs, 0)
    names: dict[str, list[str]] = {e: [] for e in specs}
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        for s in layer.slices:
            where = f"layers {layer.name} slice {s.task}"
            if s.memory not in MEMORIES and max(share_of(s.memory)[1], input_share_of(s.memory)[1]) == 1:
                styles = ", ".join(MEMORIES)
                found.add(
                    "FVC220",
                    f"memory '{s.memory}' is none of {styles}, and no share like 'share 1/2' or 'inputs 1/2'",
                    where,
                )
                continue
            cost = task_cost(
                graph, node, s.role, s.box, (s.reduce_from, s.reduce_to), specs[s.engine], s.memory,
                partial_count(layer, s),
            )  # fmt: skip
            if cost is None:
                found.add("FVC203", f"no tile of it fits the scratchpads of {s.engine}", where)
                continue
            if dict(s.tile) != dict(cost.tile):
                found.add("FVC220", f"tile {s.tile}, the operator room chooses {cost.tile}", where)
            if s.cycles != cost.cycles:
                found.add("FVC220", f"{s.cycles} cycles, the operator room gives {cost.cycles}", where)
            if cost.resident_bytes:
                resident[s.engine] += -(-cost.resident_bytes // 64) * 64
                names[s.engine].append(f"{s.task} ({cost.resident_bytes})")
    for engine, size in resident.items():
        budget = resident_budget_bytes(specs[engine])
        if size > budget:
            text = f"resident weights over budget on {engine}: {size} bytes, {budget} left for them"
            found.add("FVC203", text, ", ".join(names[engine]))


def _capacity(plan: Plan, graph: Graph, found: Findings) -> None:
    """DRAM of each core: constants, and every buffer with its frame slots, against its share of the bank."""
    specs = {e.id: EngineSpec(**e.parameters) for e in plan.engines}
    need = dict.fromkeys(specs, 0)
    largest: dict[str, list[tuple[int, str]]] = {e: [] for e in specs}
    made: dict[tuple[str, str], tuple[Box, int]] = {}  # (engine, tensor) -> hull, depth

    def use(engine: str, tensor: str, box: Box, depth: int) -> None:
        have = made.get((engine, tensor))
        if have is not None:
            box = tuple(
                min(a, b) if i % 2 == 0 else max(a, b) for i, (a, b) in enumerate(zip(box, have[0], strict=True))
            )  # type: ignore[assignment]
            depth = max(depth, have[1])
        made[(engine, tensor)] = (box, depth)

    stage: dict[tuple[str, str], int] = {}
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        for s in layer.slices:
            output = f"{layer.name}.partial" if s.role == "partial" else node.y
            use(s.engine, output, s.box, 2)
            stage.setdefault((s.engine, output), s.stage)
            cost = task_cost(
                graph, node, s.role, s.box, (s.reduce_from, s.reduce_to), specs[s.engine], s.memory,
                partial_count(layer, s),
            )  # fmt: skip
            size = cost.constant_bytes if cost is not None else 0
            need[s.engine] += size
            largest[s.engine].append((size, s.task))
            if s.role != "reduce":
                for tensor, box in input_boxes(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to)).items():
                    first = stage.get((s.engine, tensor))
                    if first is not None and (here := common(box, made[(s.engine, tensor)][0])) is not None:
                        use(s.engine, tensor, here, s.stage - first + 1)
    for c in plan.channels:
        if c.target in specs:
            use(c.target, c.tensor, c.box, max(2, c.target_stage - c.source_stage + 1))
    for (engine, tensor), (box, depth) in made.items():
        element = graph.tensors[tensor].dtype.size_bytes if tensor in graph.tensors else 4
        size = -(-count(box) * element // 64) * 64 * depth
        need[engine] += size
        largest[engine].append((size, tensor))
    for engine, size in need.items():
        have = specs[engine].dram_bytes
        if size > have:
            parts = ", ".join(f"{name} ({n})" for n, name in sorted(largest[engine], reverse=True)[:5])
            found.add("FVC208", f"DRAM over capacity on {engine}: {size} bytes needed, {have} given", parts)
