"""Judges shared weights and inputs: every task gets each share of the blocks it needs, once, over a real route."""

from __future__ import annotations

from collections.abc import Callable

from compiler.ir.graph import Conv, Graph, Node
from compiler.isa.check.findings import Findings
from compiler.ops import input_boxes, input_share_of, share_bounds, share_of, shared_blocks
from compiler.plan.model import Box, HopPlan, LayerPlan, Plan, SlicePlan, XferPlan

Between = Callable[[str, str], tuple[str, ...]]


def check_xfer(plan: Plan, graph: Graph, between: Between, found: Findings) -> None:
    """FVC220: groups, hops, routes and bits of every layer. between: the links from one engine to another."""
    places = _places(plan) if any(layer.xfer for layer in plan.layers) else []
    for layer, node in zip(plan.layers, graph.nodes, strict=True):
        named: list[str] = []
        for k, x in enumerate(layer.xfer):
            where = f"layers {layer.name} xfer[{k}]"
            named += x.tasks
            if own := _group(layer, node, x, graph, where, found):
                _hops(x, own, _share_bytes(node, own[0], x, graph), between, where, found)
        sharing = [s.task for s in layer.slices if max(share_of(s.memory)[1], input_share_of(s.memory)[1]) > 1]
        if sorted(named) != sorted(sharing):
            odd = sorted(set(named) ^ set(sharing)) or sorted(named)
            found.add("FVC220", f"not in one group each: {', '.join(odd[:5])}", f"layers {layer.name} xfer")
        if len({x.inputs for x in layer.xfer}) > 1:
            found.add("FVC220", "a layer shares its weights or its inputs, not both", f"layers {layer.name} xfer")
        apart = any(s.stage for s in layer.slices) or not all(_together(layer, own) for own in places)
        if layer.xfer and apart:
            text = "tasks that share stand together in the order, at stage 0, with those of their layer"
            found.add("FVC220", text, f"layers {layer.name} xfer")


def _places(plan: Plan) -> list[dict[str, int]]:
    """Of each replica: its slices' places in its own order, beside the host's segments."""
    hosts = [(h.order, h.name) for h in plan.host_segments]
    slices = [s for layer in plan.layers for s in layer.slices]
    own = [sorted([*hosts, *((s.order, s.task) for s in slices if s.replica == r)]) for r in range(plan.replicas)]
    return [{name: k for k, (_, name) in enumerate(x)} for x in own]


def _together(layer: LayerPlan, places: dict[str, int]) -> bool:
    """The layer's slices of a replica follow one another."""
    own = [places[s.task] for s in layer.slices if s.task in places]
    return not own or max(own) - min(own) == len(own) - 1


def _group(
    layer: LayerPlan, node: Node, x: XferPlan, graph: Graph, where: str, found: Findings
) -> list[SlicePlan] | None:
    """The slices of a group in order of shares, if they may share their weights or inputs."""
    told = input_share_of if x.inputs else share_of
    known = {s.task: s for s in layer.slices}
    own = [known[t] for t in x.tasks if t in known]
    wrong = ""
    if len(own) != len(x.tasks) or len(own) < 2:
        wrong = f"tasks {list(x.tasks)} are not two or more of the layer's"
    elif [told(s.memory) for s in own] != [(k, len(own)) for k in range(len(own))]:
        wrong = f"memory of its tasks is {[s.memory for s in own]}"
    elif len({s.engine for s in own}) < len(own) or len({s.replica for s in own}) > 1:
        wrong = "its tasks do not stand on engines of their own in one replica"
    elif x.inputs and len({_needed(node, s, graph) for s in own}) > 1:
        wrong = "its tasks need other parts of the input"
    elif len({_blocks(node, s, graph, x.inputs) for s in own}) > 1:
        wrong = f"its tasks take other {'input' if x.inputs else 'weight'} blocks, or in another order"
    if wrong:
        found.add("FVC220", wrong, where)
    return None if wrong else own


def _blocks(node: Node, s: SlicePlan, graph: Graph, inputs: bool) -> tuple[tuple[int, ...], ...]:
    return shared_blocks(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to), s.tile, inputs=inputs)


def _needed(node: Node, s: SlicePlan, graph: Graph) -> tuple[tuple[str, Box], ...]:
    """The input of a task of a layer whose output channels all need the same; of others nothing is equal."""
    if isinstance(node, Conv) and node.groups > 1:
        return ((s.task, s.box),)
    return tuple(sorted(input_boxes(graph, node, s.role, s.box, (s.reduce_from, s.reduce_to)).items()))


def _share_bytes(node: Node, s: SlicePlan, x: XferPlan, graph: Graph) -> list[int]:
    """Bytes a frame of every share."""
    sharers = len(x.tasks)
    out = [0] * sharers
    for *_, grain, size in _blocks(node, s, graph, x.inputs):
        for k in range(sharers):
            lo, hi = share_bounds(size, k, sharers, grain)
            out[k] += hi - lo
    return out


def _hops(x: XferPlan, own: list[SlicePlan], size: list[int], between: Between, where: str, found: Findings) -> None:
    engines = [s.engine for s in own]
    there = {(k, e) for k, e in enumerate(engines)}
    for i, h in enumerate(x.hops):
        at = f"{where} hops[{i}]"
        if wrong := _hop(h, engines, there, size, between):
            found.add("FVC220", wrong, at)
            return
        there.add((h.share, h.target))
    for k in range(len(engines)):
        for e in engines:
            if (k, e) not in there:
                found.add("FVC220", f"share {k} never reaches {e}", where)


def _hop(h: HopPlan, engines: list[str], there: set[tuple[int, str]], size: list[int], between: Between) -> str:
    """What is wrong with a hop, or nothing."""
    if not 0 <= h.share < len(engines) or h.source not in engines or h.target not in engines:
        return f"share {h.share} from {h.source} to {h.target}: not within the group"
    if (h.share, h.source) not in there:
        return f"{h.source} passes share {h.share} on before it has it"
    if (h.share, h.target) in there:
        return f"{h.target} gets share {h.share} twice"
    if h.bits_per_frame != size[h.share] * 8:
        return f"{h.bits_per_frame} bits a frame, share {h.share} has {size[h.share] * 8}"
    route = between(h.source, h.target)
    return "" if tuple(h.route) == tuple(route) else f"route {list(h.route)}, the cluster's is {list(route)}"
