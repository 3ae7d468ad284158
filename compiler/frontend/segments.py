"""Host segments: the nodes that no engine has, gathered into as few sub-models as leave the whole acyclic.

A node's phase counts the changes from engine to host on the longest way to it; host nodes of one phase that touch each
other form one segment. Within a phase no path leads from a segment through an engine back to it, so the order exists.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from compiler.frontend import ort
from compiler.frontend.onnxgraph import Node, OnnxGraph, numpy_dtype
from compiler.ir import graph as ir

CONVERSIONS = ("floats become integers on the host", "integers become floats on the host")
_PLAIN = {"QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity",
          "Cast", "Slice", "Concat", "Split", "Pad"}  # fmt: skip


@dataclass(slots=True, eq=False)
class Segment:
    """The ONNX nodes of one host segment and the finished IR step."""

    nodes: list[Node]
    step: ir.HostSegment


@dataclass(slots=True)
class Cut:
    """Engine nodes and segments in one topological order."""

    order: list[Node | Segment]


def numpy_name(elem: int) -> str:
    return "unknown" if not elem else str(numpy_dtype(elem).name)


def cut(graph: OnnxGraph, engine: Mapping[int, object], reasons: Mapping[int, str]) -> Cut:
    """Group the nodes that are not in `engine`."""
    made = graph.producers()
    phase: dict[int, int] = {}
    group: dict[int, int] = {}  # union-find over host node ids

    def find(k: int) -> int:
        while group[k] != k:
            group[k] = group[group[k]]
            k = group[k]
        return k

    for n in graph.nodes:
        before = [made[i] for i in n.uses if i in made]
        on_engine = id(n) in engine
        phase[id(n)] = max((phase[id(p)] + (not on_engine and id(p) in engine) for p in before), default=0)
    users = graph.consumers()
    for n in reversed(graph.nodes):  # a DequantizeLinear waits for its readers, so that integers cross, not floats
        after = users.get(n.outputs[0], [])
        if n.op != "DequantizeLinear" or id(n) in engine or not after or n.outputs[0] in graph.outputs:
            continue
        if not any(id(u) in engine for u in after):
            phase[id(n)] = max(phase[id(n)], min(phase[id(u)] for u in after))
    for n in graph.nodes:
        if id(n) not in engine:
            group[id(n)] = id(n)
            for p in (made[i] for i in n.uses if i in made):
                if id(p) in group and phase[id(p)] == phase[id(n)]:
                    group[find(id(p))] = find(id(n))
    # host nodes of one phase that read one and the same tensor belong together too
    readers: dict[tuple[str, int], int] = {}
    for n in graph.nodes:
        if id(n) in group:
            for i in n.uses:
                if i not in graph.constants:
                    at = (i, phase[id(n)])
                    if at in readers:
                        group[find(id(n))] = find(readers[at])
                    readers[at] = id(n)
    members: dict[int, list[Node]] = {}
    for n in graph.nodes:
        if id(n) in group:
            members.setdefault(find(id(n)), []).append(n)
    items: list[Node | list[Node]] = []
    owner: dict[str, int] = {}
    placed: dict[int, int] = {}
    for n in graph.nodes:
        key = find(id(n)) if id(n) in group else id(n)
        if key not in placed:
            placed[key] = len(items)
            items.append(members[key] if id(n) in group else n)
        for o in n.outputs:
            owner[o] = placed[key]
    order = _sorted(items, owner)
    result: list[Node | Segment] = []
    count = 0
    for item in order:
        if isinstance(item, Node):
            result.append(item)
        else:
            result.append(_segment(graph, item, engine, reasons, f"host{count}"))
            count += 1
    return Cut(result)


def _sorted(items: list[Node | list[Node]], owner: dict[str, int]) -> list[Node | list[Node]]:
    uses = [[i for n in (item if isinstance(item, list) else [item]) for i in n.uses] for item in items]
    after: list[set[int]] = [set() for _ in items]
    missing = [0] * len(items)
    for k, names in enumerate(uses):
        for p in sorted({owner[i] for i in names if i in owner and owner[i] != k}):
            after[p].add(k)
            missing[k] += 1
    ready = [k for k, c in enumerate(missing) if not c]
    heapq.heapify(ready)
    order = []
    while ready:
        k = heapq.heappop(ready)
        order.append(items[k])
        for a in sorted(after[k]):
            missing[a] -= 1
            if not missing[a]:
                heapq.heappush(ready, a)
    assert len(order) == len(items), "host segments make a cycle"
    return order


def _segment(
    graph: OnnxGraph, nodes: list[Node], engine: Mapping[int, object], reasons: Mapping[int, str], name: str
) -> Segment:
    inside = {o for n in nodes for o in n.outputs if o}
    ids = {id(n) for n in nodes}
    used_outside = {i for n in graph.nodes if id(n) not in ids for i in n.uses} | set(graph.outputs)
    inputs = list(dict.fromkeys(i for n in nodes for i in n.uses if i not in inside and i not in graph.constants))
    outputs = [o for n in nodes for o in n.outputs if o in used_outside]
    constants = {k: graph.constants[k] for n in nodes for k in n.uses if k in graph.constants}
    sub = OnnxGraph(name, nodes, constants, inputs, outputs, graph.types, graph.opset, dict(graph.domains))
    made = graph.producers()
    from_engine = any(i in made and id(made[i]) in engine for i in inputs)
    to_engine = any(id(n) in engine and any(i in inside for i in n.uses) for n in graph.nodes)
    kind = "head" if not from_engine else ("middle" if to_engine else "tail")

    def rank(n: Node) -> int:
        """What causes a segment is neither data movement nor, least of all, a conversion."""
        converts = n.op in ("QuantizeLinear", "DequantizeLinear") or reasons.get(id(n)) in CONVERSIONS
        return (n.op in _PLAIN or converts) + converts

    cause = min(nodes, key=rank)
    reason = f"{kind}: node '{cause.name}' ({cause.op}): {reasons.get(id(cause), 'float')}"
    step = ir.HostSegment(
        name=name,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        nodes=tuple(n.name for n in nodes),
        reason=reason,
        model=ort.serialize(sub.to_model()),
    )
    return Segment(nodes, step)
