"""Channels-last graphs: transposes sink behind element-wise operators and meet their inverses.

FINN writes a convolution as Im2Col + MatMul with channels last. Written back as Transpose, Conv, Transpose, its second
Transpose stands between the sum and the thresholds; moved behind them, it cancels with the next layer's first one.
Needs nodes in topological order; guarantees the same values under the same names but those of the moved tensors.
"""

from __future__ import annotations

import numpy as np

from compiler.frontend.onnxgraph import Node, OnnxGraph

_ELEMENTWISE = {
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "Min", "Max", "LeakyRelu", "Sigmoid", "HardSigmoid", "Round",
    "Identity",
}  # fmt: skip
_ONE_SCALE = {"Quant", "IntQuant", "BipolarQuant", "Trunc"}


def sink_transposes(graph: OnnxGraph) -> None:
    """Rewrite `graph.nodes` until no Transpose can be moved or cancelled."""
    for _ in range((len(graph.nodes) + 1) ** 2):  # each step moves a Transpose down by one node
        if not _step(graph):
            return


def _step(graph: OnnxGraph) -> bool:
    made, users = graph.producers(), graph.consumers()
    for at, n in enumerate(graph.nodes):
        data = [i for i in n.uses if i not in graph.constants]
        if len(data) > 1 and _join(graph, made, at):
            return True
        t = made.get(data[0]) if len(data) == 1 and n.inputs[0] == data[0] else None
        if t is None or t.op != "Transpose" or t.domain or not n.outputs or t.outputs[0] in graph.outputs:
            continue
        perm = t.ints("perm", [])
        if not perm:
            continue
        if n.op == "Transpose" and not n.domain:
            inner = n.ints("perm", [])
            if len(inner) == len(perm) and [perm[k] for k in inner] == list(range(len(perm))):
                if n.outputs[0] in graph.outputs:
                    continue
                graph.nodes.pop(at)
                graph.replace_uses(n.outputs[0], t.inputs[0])
                graph.nodes = [m for m in graph.nodes if m is not t or len(users[t.outputs[0]]) > 1]
                return True
            continue
        if len(users[t.outputs[0]]) != 1 or len(n.outputs) != 1 or not _can_pass(graph, n, perm):
            continue
        y = n.outputs[0]
        early = graph.fresh(f"{y}_early")
        n.inputs = [t.inputs[0], *n.inputs[1:]]
        if n.domain == "":
            n.inputs = [n.inputs[0], *(_moved(graph, i, perm) for i in n.inputs[1:])]
        elif n.op == "MultiThreshold":
            layout = n.text("data_layout", "")
            n.attributes["data_layout"] = "".join(layout[perm.index(k)] for k in range(len(perm)))
        else:
            n.inputs = [n.inputs[0], *(_moved(graph, i, perm) for i in n.inputs[1:])]
        n.outputs = [early]
        t.inputs, t.outputs = [early], [y]
        graph.nodes = [m for m in graph.nodes if m is not t]
        graph.nodes.insert(graph.nodes.index(n) + 1, t)
        return True
    return False


def _join(graph: OnnxGraph, made: dict[str, Node], at: int) -> bool:
    """An operator over tensors that were all transposed alike is done before, its result transposed."""
    n = graph.nodes[at]
    if n.domain or n.op not in ("Add", "Sub", "Mul", "Max", "Min", "Concat") or n.outputs[0] in graph.outputs:
        return False
    first = [made.get(i) for i in n.inputs]
    turned = [t for t in first if t is not None and t.op == "Transpose" and not t.domain]
    perm = turned[0].ints("perm", []) if len(turned) == len(n.inputs) else []
    ranks = {len(graph.shape(i) or ()) for i in n.inputs}
    if not perm or any(t.ints("perm", []) != perm for t in turned) or ranks - {0, len(perm)}:
        return False
    y = n.outputs[0]
    early = graph.fresh(f"{y}_early")
    n.inputs, n.outputs = [t.inputs[0] for t in turned], [early]
    if n.op == "Concat":
        n.attributes = {**n.attributes, "axis": perm[n.integer("axis", 0) % len(perm)]}
    graph.nodes.insert(at + 1, Node("Transpose", [early], [y], graph.fresh(f"{y}_turned"), "", {"perm": perm}))
    graph.prune()
    return True


def _can_pass(graph: OnnxGraph, n: Node, perm: list[int]) -> bool:
    if n.domain:
        if n.op == "MultiThreshold":
            return len(n.text("data_layout", "")) == len(perm)
        return n.op in _ONE_SCALE and all(i in graph.constants for i in n.inputs[1:] if i)
    return n.op in _ELEMENTWISE and all(graph.constants[i].ndim <= len(perm) for i in n.uses[1:])


def _moved(graph: OnnxGraph, name: str, perm: list[int]) -> str:
    """A constant that broadcasts as before when the other operand is not transposed yet."""
    value = graph.constants.get(name)
    if value is None or value.size == 1:
        return name
    full = value.reshape((1,) * (len(perm) - value.ndim) + value.shape)
    moved = graph.fresh(f"{name}_moved")
    graph.constants[moved] = np.ascontiguousarray(full.transpose(np.argsort(perm)))
    return moved
