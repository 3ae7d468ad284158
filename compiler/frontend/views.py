"""Which tensors share bytes: Reshape-like nodes resolved to aliases, or to a copy where two readers disagree.

All members of an alias group hold the same dense bytes, but an operator other than a Move sees its tensors through
`storage4`. The root of a group is the tensor its producer writes; where that producer is a Move (which does not mind)
the root is the member that the other readers want. A reader that wants yet another view gets a copy (a Move).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from compiler.frontend.onnxgraph import Node, OnnxGraph
from compiler.ir import graph as ir


@dataclass(slots=True)
class Views:
    """Result: `aliases` (alias -> root) and `nodes` (id of ONNX node -> IR nodes with root names)."""

    aliases: dict[str, str] = field(default_factory=dict)
    nodes: dict[int, tuple[ir.Node, ...]] = field(default_factory=dict)


def reads(node: ir.Node) -> tuple[str, ...]:
    return node.inputs


def resolve(
    graph: OnnxGraph,
    engine: Mapping[int, tuple[ir.Node, ...]],
    alias_nodes: Iterable[Node],
    shapes: Mapping[str, tuple[int, ...]],
) -> Views:
    """`alias_nodes`: the Reshape-like nodes on the engines, in topological order; `shapes`: of all their tensors."""
    members: dict[str, list[str]] = {}  # first tensor of a group -> all members in order
    first: dict[str, str] = {}
    at: dict[str, Node] = {}
    for n in alias_nodes:
        x, y = n.inputs[0], n.outputs[0]
        head = first.setdefault(x, x)
        members.setdefault(head, [head]).append(y)
        first[y] = head
        at[y] = n
    strict: dict[str, int] = {}
    for nodes in engine.values():
        for node in nodes:
            if not isinstance(node, ir.Move):
                for name in reads(node):
                    strict[name] = strict.get(name, 0) + 1
    maker = {node.y: node for nodes in engine.values() for node in nodes}
    result = Views()
    copies: dict[int, ir.Move] = {}
    for head, names in members.items():
        root = head
        if isinstance(maker.get(head), ir.Move) and not strict.get(head):
            wanted: dict[ir.Shape4, int] = {}
            for t in names:
                view = ir.storage4(shapes[t])
                wanted[view] = wanted.get(view, 0) + strict.get(t, 0)
            best = max(wanted, key=lambda v: wanted[v])
            if wanted[best]:
                root = next(t for t in names if ir.storage4(shapes[t]) == best and strict.get(t))
        by_view: dict[ir.Shape4, str] = {ir.storage4(shapes[root]): root}
        for t in names:
            if t == root:
                continue
            view = ir.storage4(shapes[t])
            if strict.get(t) and view not in by_view:
                by_view[view] = t
                copies[id(at[t])] = _copy(at[t].name, at[t].op, root, t, shapes[t])
            else:
                result.aliases[t] = by_view[view] if strict.get(t) else root

    for key, nodes in engine.items():
        result.nodes[key] = tuple(_renamed(node, result.aliases) for node in nodes)
    for key, copy in copies.items():
        result.nodes[key] = (copy,)
    return result


def _copy(name: str, op: str, x: str, y: str, shape: tuple[int, ...]) -> ir.Move:
    count = 1
    for d in shape:
        count *= d
    return ir.Move(name, op, (x,), y, (ir.Copy(0, (count,), 0, (1,), 0, (1,)),))


def _renamed(node: ir.Node, aliases: Mapping[str, str]) -> ir.Node:
    def name(t: str) -> str:
        return aliases.get(t, t)

    if isinstance(node, ir.Move):
        return replace(node, xs=tuple(name(x) for x in node.xs), y=name(node.y))
    if isinstance(node, ir.Binary):
        return replace(node, a=name(node.a), b=name(node.b), y=name(node.y))
    return replace(node, x=name(node.x), y=name(node.y))
