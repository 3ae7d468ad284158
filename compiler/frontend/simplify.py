"""Exact float simplifications before quantization: fewer roundings, fewer layers.

Needs a clean float OnnxGraph. Does: BatchNormalization, and Mul/Add/Sub/Div by one constant a channel, into the Conv,
ConvTranspose or Gemm before it; matrix products into their regular form; MatMul + bias into Gemm; ReduceMean over the
spatial axes into GlobalAveragePool; zero Pad into the Conv and Pad with the least float into the MaxPool behind it.
Guarantees the same function up to float rounding, outputs under their names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.frontend import shapes
from compiler.frontend.fuse_ops import reduce_axes
from compiler.frontend.onnxgraph import Node, OnnxGraph
from compiler.frontend.products import regular_products

Array = NDArray[Any]
_LINEAR = ("Conv", "ConvTranspose", "Gemm")


def simplify(graph: OnnxGraph) -> None:
    """Rewrite `graph` in place until nothing changes."""
    means(graph)
    regular_products(graph)
    _biased_products(graph)
    while _fold_affine(graph) or _fold_pads(graph):
        pass
    graph.sort()
    graph.prune()
    shapes.infer(graph)


def fold_float_weights(graph: OnnxGraph) -> None:
    """In a graph that is quantised already: fold affine followers into the layers whose weights are still float."""
    changed = False
    while _fold_affine(graph):
        changed = True
    if changed:
        graph.sort()
        graph.prune()
        shapes.infer(graph)


def _only_user(graph: OnnxGraph, users: dict[str, list[Node]], name: str) -> Node | None:
    found = users.get(name, [])
    if len(found) != 1 or name in graph.outputs or name in found[0].captured:
        return None
    return found[0] if found[0].inputs.count(name) == 1 else None


def means(graph: OnnxGraph) -> None:
    nodes: list[Node] = []
    for n in graph.nodes:
        shape = graph.shape(n.inputs[0]) if n.op == "ReduceMean" and n.domain == "" else None
        if shape is None or len(shape) not in (3, 4) or graph.elem(n.inputs[0]) != 1:
            nodes.append(n)
            continue
        if reduce_axes(n, graph, len(shape)) != list(range(2, len(shape))):
            nodes.append(n)
        elif n.integer("keepdims", 1):
            nodes.append(Node("GlobalAveragePool", [n.inputs[0]], n.outputs, n.name))
        else:
            kept, target = graph.fresh(f"{n.outputs[0]}_kept"), graph.fresh(f"{n.outputs[0]}_shape")
            graph.constants[target] = np.asarray(shape[:2], np.int64)
            nodes.append(Node("GlobalAveragePool", [n.inputs[0]], [kept], n.name))
            nodes.append(Node("Reshape", [kept, target], n.outputs, graph.fresh(f"{n.name}_reshape")))
    graph.nodes = nodes
    shapes.infer(graph)


def _biased_products(graph: OnnxGraph) -> None:
    """MatMul(x, W) + b of rank 2 becomes Gemm."""
    users = graph.consumers()
    gone: set[int] = set()
    for n in graph.nodes:
        if (
            n.op != "MatMul"
            or n.domain
            or n.inputs[1] not in graph.constants
            or len(graph.shape(n.inputs[0]) or ()) != 2
        ):
            continue
        w = graph.constants[n.inputs[1]]
        add = _only_user(graph, users, n.outputs[0])
        if w.ndim != 2 or add is None or add.op != "Add" or add.domain:
            continue
        other = add.inputs[1] if add.inputs[0] == n.outputs[0] else add.inputs[0]
        b = graph.constants.get(other)
        if (
            b is None
            or not np.isfinite(b).all()
            or b.size not in (1, w.shape[1])
            or (b.size > 1 and b.shape[-1] != b.size)
            or b.ndim > 2
        ):
            continue
        bias = graph.fresh(f"{n.name}_bias")
        graph.constants[bias] = np.broadcast_to(b.reshape(-1), (w.shape[1],)).astype(np.float32)
        n.op, n.inputs, n.outputs = "Gemm", [*n.inputs, bias], add.outputs
        n.attributes = {}
        gone.add(id(add))
    graph.nodes = [n for n in graph.nodes if id(n) not in gone]


def _affine(graph: OnnxGraph, n: Node, x: str, channels: int, rank: int) -> tuple[Array, Array] | None:
    """(factor, offset) a channel of a node that maps x to factor*x + offset, in float64."""
    if n.domain:
        return None
    if n.op == "BatchNormalization":
        parts = [graph.constants.get(i) for i in n.inputs[1:5]]
        if any(p is None or p.size != channels for p in parts) or len([o for o in n.outputs if o]) > 1:
            return None
        if n.integer("training_mode", 0):
            return None  # it normalises by the statistics of the frame
        gamma, beta, mean, var = (np.asarray(p, np.float64).reshape(-1) for p in parts)
        factor = gamma / np.sqrt(var + n.real("epsilon", 1e-5))
        return factor, beta - mean * factor
    if n.op not in ("Add", "Sub", "Mul", "Div") or len(n.inputs) != 2:
        return None
    at = n.inputs.index(x)
    value = graph.constants.get(n.inputs[1 - at])
    if value is None or (at == 1 and n.op in ("Sub", "Div")):
        return None
    if value.size == 1:
        if n.op in ("Mul", "Div") or value.ndim > rank:
            return None  # a scalar factor belongs to the island behind it (SiLU, HardSwish), where it costs nothing
        flat = np.full(channels, float(value.reshape(-1)[0]))
    else:
        side = (1,) * (rank - value.ndim) + value.shape
        if len(side) != rank or side[1] != channels or any(d != 1 for k, d in enumerate(side) if k != 1):
            return None
        flat = value.astype(np.float64).reshape(-1)
    one, nil = np.ones(channels), np.zeros(channels)
    table = (
        {"Add": (one, flat), "Sub": (one, -flat), "Mul": (flat, nil), "Div": (1 / flat, nil)}
        if n.op != "Div" or np.all(flat)
        else {}
    )
    return table.get(n.op)


def _fold_affine(graph: OnnxGraph) -> bool:
    users = graph.consumers()
    changed = False
    gone: set[int] = set()
    for n in graph.nodes:
        if n.op not in _LINEAR or n.domain or id(n) in gone:
            continue
        w = graph.constants.get(n.inputs[1])
        if w is None or (n.input(2) and n.input(2) not in graph.constants) or w.dtype != np.float32:
            continue
        if n.op == "Gemm" and (n.real("alpha", 1) != 1 or n.real("beta", 1) != 1):
            continue
        follower = _only_user(graph, users, n.outputs[0])
        if follower is None:
            continue
        groups = n.integer("group", 1)
        axis = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if n.integer("transB", 0) else 1}[n.op]
        channels = w.shape[axis] * (groups if n.op == "ConvTranspose" else 1)
        bias = graph.constants[n.inputs[2]].astype(np.float64).reshape(-1) if n.input(2) else np.zeros(channels)
        if bias.size not in (1, channels):
            continue
        affine = _affine(graph, follower, n.outputs[0], channels, 2 if n.op == "Gemm" else w.ndim)
        if affine is None:
            continue
        factor, offset = affine
        if not np.isfinite(factor).all() or not np.isfinite(offset).all():
            continue
        if n.op == "ConvTranspose":
            c = w.shape[0]
            grouped = w.astype(np.float64).reshape(groups, c // groups, *w.shape[1:])
            spread = factor.reshape(groups, 1, w.shape[1], *(1,) * (w.ndim - 2))
            new = (grouped * spread).reshape(w.shape)
        else:
            side = [1] * w.ndim
            side[axis] = channels
            new = w.astype(np.float64) * factor.reshape(side)
        weight_name, bias_name = graph.fresh(f"{n.name}_weight"), graph.fresh(f"{n.name}_bias")
        graph.constants[weight_name] = new.astype(np.float32)
        graph.constants[bias_name] = (bias * factor + offset).astype(np.float32)
        n.inputs = [n.inputs[0], weight_name, bias_name]
        n.outputs = list(follower.outputs[:1])
        gone.add(id(follower))
        changed = True
        users = {**users, n.outputs[0]: users.get(n.outputs[0], [])}
    graph.nodes = [n for n in graph.nodes if id(n) not in gone]
    return changed


def _neutral(n: Node, value: Array) -> bool:
    """Whether a padded value changes nothing: 0 in a sum, the least float (as exporters write it) in a maximum."""
    if n.op == "Conv":
        return not np.any(value)
    return bool(np.all(value <= np.finfo(np.float32).min)) and not n.integer("ceil_mode", 0) and len(n.outputs) == 1


def _fold_pads(graph: OnnxGraph) -> bool:
    users, made = graph.consumers(), graph.producers()
    for n in graph.nodes:
        pad = made.get(n.inputs[0]) if n.op in ("Conv", "MaxPool") and n.domain == "" else None
        if pad is None or pad.op != "Pad" or pad.text("mode", "constant") != "constant" or pad.domain:
            continue
        if _only_user(graph, users, pad.outputs[0]) is not n or n.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        pads = graph.constants.get(pad.input(1))
        value = graph.constants.get(pad.input(2)) if pad.input(2) else np.zeros(1)
        shape = graph.shape(pad.inputs[0])
        if pads is None or value is None or shape is None or pad.input(3) or not _neutral(n, value):
            continue
        rank = len(shape)
        p = [int(v) for v in pads.reshape(-1)]
        if len(p) != 2 * rank or min(p) < 0 or any(p[k] or p[k + rank] for k in (0, 1)):
            continue
        own = n.ints("pads", [0] * 2 * (rank - 2)) if n.text("auto_pad", "NOTSET") == "NOTSET" else [0] * 2 * (rank - 2)
        both = [a + b for a, b in zip(own, p[2:rank] + p[rank + 2 :], strict=True)]
        if n.op == "MaxPool" and any(b >= k for b, k in zip(both, 2 * n.ints("kernel_shape", []), strict=True)):
            continue  # ONNX Runtime wants the pads of a pool below its kernel
        n.attributes["pads"] = both
        n.attributes.pop("auto_pad", None)
        n.inputs[0] = pad.inputs[0]
        graph.nodes = [m for m in graph.nodes if m is not pad]
        return True
    return False
