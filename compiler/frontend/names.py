"""Names that the quantizer of onnxruntime would take for its own: put aside while it works.

It makes tensors by adding suffixes ("x" -> "x_scale") and copies a shared bias by adding a digit, and never looks
whether such a name is taken. Real models have both: every layer gets a bias of its own, and tensors whose names are
another's with such a suffix are called otherwise until it is done.
"""

from __future__ import annotations

import re

from compiler.frontend.onnxgraph import OnnxGraph

_SUFFIXES = (
    "_scale", "_zero_point", "_quantized", "_quantized_scale", "_quantized_zero_point", "_QuantizeLinear_Output",
    "_QuantizeLinear_Input", "_DequantizeLinear_Output", "_DequantizeLinear_Input", "_ReduceMin", "_ReduceMax",
)  # fmt: skip
_ASIDE = "fvc_aside_"
_BIAS_AT = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}


def own_biases(graph: OnnxGraph) -> None:
    """Give every layer a bias constant that nobody else reads."""
    seen: set[str] = set()
    for n in graph.nodes:
        at = _BIAS_AT.get(n.op)
        if at is None or n.domain or not n.input(at) or n.inputs[at] not in graph.constants:
            continue
        name = n.inputs[at]
        if name in seen or name in graph.outputs:
            copy = graph.fresh(f"{n.name}_bias")
            graph.constants[copy] = graph.constants[name]
            n.inputs[at] = copy
        seen.add(n.inputs[at])


def put_aside(graph: OnnxGraph) -> dict[str, str]:
    """Rename the tensors that look like another's by-product; new name -> old one."""
    tensors = {*graph.inputs, *graph.constants, *(o for n in graph.nodes for o in n.outputs if o)}
    captured = {c for n in graph.nodes for c in n.captured}
    aside: dict[str, str] = {}
    for name in sorted(tensors - captured):
        if any(name.endswith(s) and name[: -len(s)] in tensors for s in _SUFFIXES):
            aside[graph.fresh(f"{_ASIDE}{len(aside)}")] = name
    rename(graph, {old: new for new, old in aside.items()})
    return aside


def put_back(graph: OnnxGraph, aside: dict[str, str]) -> None:
    """Undo `put_aside`; what was made of a name in between gets the old name with the same addition, if it is free."""
    if not aside:
        return
    graph.taken = {*graph.names(), *aside.values()}
    taken = {*graph.constants, *graph.inputs, *(o for n in graph.nodes for o in n.outputs if o)} & set(aside.values())
    rename(graph, {name: graph.fresh(name) for name in sorted(taken)})
    rename(graph, aside)
    pattern = re.compile("|".join(re.escape(n) for n in sorted(aside, key=len, reverse=True)))
    tensors = {*graph.constants, *(o for n in graph.nodes for o in n.outputs if o)}
    made = {t: pattern.sub(lambda m: aside[m.group()], t) for t in sorted(tensors) if pattern.search(t)}
    rename(graph, {old: graph.fresh(new) for old, new in made.items()})
    for n in graph.nodes:
        n.name = pattern.sub(lambda m: aside[m.group()], n.name)


def rename(graph: OnnxGraph, new: dict[str, str]) -> None:
    """Rename tensors everywhere but inside subgraphs."""
    if not new:
        return
    for n in graph.nodes:
        n.inputs = [new.get(i, i) for i in n.inputs]
        n.outputs = [new.get(o, o) for o in n.outputs]
    graph.inputs = [new.get(i, i) for i in graph.inputs]
    graph.outputs = [new.get(o, o) for o in graph.outputs]
    graph.constants = {new.get(k, k): v for k, v in graph.constants.items()}
    graph.types = {new.get(k, k): t for k, t in graph.types.items()}
