"""Constant folding: whatever does not depend on the graph inputs becomes a constant.

Needs a sorted OnnxGraph with static input shapes. Does: takes Constant nodes in, answers Shape and Size of static
tensors, evaluates the rest with ONNX Runtime, drops Identity and inference-time Dropout, again until nothing changes.
DequantizeLinear is kept: it says that its constant is an integer weight. Guarantees outputs keep their names.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from compiler.frontend import ort, shapes
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph, Type, elem_type
from compiler.frontend.sizes import FOLD_LIMIT_ELEMENTS
from compiler.frontend.windows import window

_KEEP = {
    "DequantizeLinear",
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "If",
    "Loop",
    "Scan",
    "SequenceEmpty",
    "SequenceConstruct",
    "SequenceAt",
    "Optional",
}


_KNOWN_DOMAINS = ("", MS, "ai.onnx.ml")


def constant_value(node: Node) -> NDArray[Any] | None:
    """The tensor of a Constant node."""
    for key, a in node.attributes.items():
        if isinstance(a, onnx.AttributeProto):
            if a.HasField("t"):
                return np.asarray(numpy_helper.to_array(a.t))
            if a.type == onnx.AttributeProto.INTS:
                return np.asarray(list(a.ints), np.int64)
            if a.type == onnx.AttributeProto.FLOATS:
                return np.asarray(list(a.floats), np.float32)
        elif key in ("value_int", "value_ints"):
            return np.asarray(a, np.int64)
        elif key in ("value_float", "value_floats"):
            return np.asarray(a, np.float32)
    return None


def fold_constants(graph: OnnxGraph) -> None:
    """Run to a fixed point."""
    for _ in range(20):
        changed = _take_constants(graph)
        changed |= _drop_identities(graph)
        shapes.infer(graph)
        while _explicit_ceil(graph):
            shapes.infer(graph)
            changed = True
        changed |= _answer_shapes(graph)
        changed |= _evaluate(graph)
        graph.prune()
        if not changed:
            return


def copy_constant_outputs(graph: OnnxGraph) -> None:
    """A graph output that is a constant gets a node that makes it, so that something runs for it."""
    for name in graph.outputs:
        if name in graph.constants:
            held = graph.fresh(f"{name}_constant")
            graph.constants[held] = graph.constants[name]
            del graph.constants[name]
            graph.types[name] = Type(elem_type(graph.constants[held]), tuple(graph.constants[held].shape))
            graph.replace_uses(name, held)
            graph.nodes.append(Node("Identity", [held], [name], graph.fresh(f"{name}_copy")))


def _take_constants(graph: OnnxGraph) -> bool:
    kept = []
    for n in graph.nodes:
        value = constant_value(n) if n.op == "Constant" and n.domain == "" else None
        if value is None:
            kept.append(n)
        else:
            graph.constants[n.outputs[0]] = value
    changed = len(kept) != len(graph.nodes)
    graph.nodes = kept
    return changed


def _drop_identities(graph: OnnxGraph) -> bool:
    """Identity and Dropout vanish unless they join two names that must both live."""
    captured = {c for n in graph.nodes for c in n.captured}
    fixed = {*graph.outputs, *captured}
    made = graph.producers()
    rename: dict[str, str] = {}
    kept = []
    for n in graph.nodes:
        n.inputs = [rename.get(i, i) for i in n.inputs]
        mask_used = (
            n.op == "Dropout"
            and len(n.outputs) > 1
            and bool(n.outputs[1])
            and (n.outputs[1] in fixed or any(n.outputs[1] in m.uses for m in graph.nodes))
        )
        training = n.op == "Dropout" and n.input(2) and bool(np.any(graph.constants.get(n.input(2), np.True_)))
        if n.op not in ("Identity", "Dropout") or n.domain or mask_used or training:
            kept.append(n)
            continue
        x, y = n.inputs[0], n.outputs[0]
        if y not in fixed:
            rename[y] = x
        elif x in made and x not in fixed and x not in graph.inputs and x not in graph.constants:
            # the producer takes over the graph output's name
            owner = made[x]
            owner.outputs = [y if o == x else o for o in owner.outputs]
            made[y] = owner
            rename[x] = y
            for m in kept:
                m.inputs = [y if i == x else i for i in m.inputs]
        else:
            kept.append(n)
    changed = len(kept) != len(graph.nodes)
    graph.nodes = kept
    return changed


def _answer_shapes(graph: OnnxGraph) -> bool:
    kept, changed = [], False
    for n in graph.nodes:
        shape = graph.shape(n.inputs[0]) if n.op in ("Shape", "Size") and n.domain == "" else None
        if shape is None:
            kept.append(n)
            continue
        full = np.asarray(shape, np.int64)
        if n.op == "Shape":
            start, end = n.integer("start", 0), n.integer("end", len(shape))
            value = full[slice(start, end)]
        else:
            value = np.asarray(int(np.prod(full)), np.int64)
        graph.constants[n.outputs[0]] = value
        changed = True
    graph.nodes = kept
    return changed


def _explicit_ceil(graph: OnnxGraph) -> bool:
    """Turn the first pool with ceil_mode into one with explicit pads: ONNX and ONNX Runtime disagree on a last window
    that would start behind the input, and later shapes depend on it. An average that counts its pads counts no more
    than those: they become a Pad before it, and what overhangs them pads that it does not count."""
    for at, n in enumerate(graph.nodes):
        if n.op not in ("MaxPool", "AveragePool") or n.domain or not n.integer("ceil_mode", 0):
            continue
        shape = graph.shape(n.inputs[0])
        if shape is None:
            continue
        win = window(n, shape[2:], tuple(n.ints("kernel_shape", [])))
        end = [max(e, t) for e, t in zip(win.end, win.tail, strict=True)]
        begin = list(win.begin)
        if n.integer("count_include_pad", 0) and end != list(win.end):
            if graph.opset < 11:
                continue
            axes = len(begin)
            pads, padded = graph.fresh(f"{n.name}_pads"), graph.fresh(f"{n.name}_padded")
            graph.constants[pads] = np.asarray([0, 0, *begin, 0, 0, *win.end], np.int64)
            graph.nodes.insert(at, Node("Pad", [n.inputs[0], pads], [padded], graph.fresh(f"{n.name}_pad")))
            n.inputs[0] = padded
            n.attributes["count_include_pad"] = 0
            end, begin = [e - w for e, w in zip(end, win.end, strict=True)], [0] * axes
        n.attributes.pop("auto_pad", None)
        n.attributes.update(ceil_mode=0, pads=[*begin, *end])
        for o in n.outputs:
            graph.types.pop(o, None)
        return True
    return False


def _too_large(graph: OnnxGraph, n: Node) -> bool:
    return any(prod(graph.shape(o) or ()) > FOLD_LIMIT_ELEMENTS for o in n.outputs if o)


def _evaluate(graph: OnnxGraph) -> bool:
    known = set(graph.constants)
    chosen: list[Node] = []
    for n in graph.nodes:
        if (
            n.op in _KEEP
            or n.domain not in _KNOWN_DOMAINS
            or n.captured
            or n.op == "Constant"
            or any(
                isinstance(a, onnx.AttributeProto) and a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
                for a in n.attributes.values()
            )
        ):
            continue
        if all(i in known for i in n.uses) and n.outputs and not _too_large(graph, n):
            chosen.append(n)
            known.update(o for o in n.outputs if o)
    if not chosen:
        return False
    wanted = [o for n in chosen for o in n.outputs if o]
    try:
        values = ort.evaluate(graph, chosen, {}, wanted)
        done = set(map(id, chosen))
    except Exception:
        values, done = {}, set()
        for n in chosen:
            if any(i not in graph.constants and i not in values for i in n.uses):
                continue
            feeds = {i: values[i] for i in n.uses if i in values}
            try:
                values.update(ort.evaluate(graph, [n], feeds, [o for o in n.outputs if o]))
                done.add(id(n))
            except Exception:  # left to a host segment, which will name it
                continue
    graph.constants.update(values)
    graph.nodes = [n for n in graph.nodes if id(n) not in done]
    return bool(done)
