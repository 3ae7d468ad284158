"""The strict reader: canonical integer ONNX -> compiler.ir.graph.Graph, one IR node an integer node.

Needs a normalised OnnxGraph. Guarantees a legal Graph (compiler.ir.spec): what has no engine operator is in host
segments with the reason; Reshape-like nodes are aliases, or a Move where a reader needs another four-dimensional view.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from compiler.frontend import levels, ort, read_ops, segments
from compiler.frontend.integer import DTYPE, S8, S16, U8, Unfit
from compiler.frontend.islands import is_elementwise
from compiler.frontend.onnxgraph import Node, OnnxGraph
from compiler.frontend.options import ImportReport
from compiler.frontend.views import resolve
from compiler.ir import graph as ir

REASONS = "fvc.reasons"  # metadata: host node -> why it is there, as JSON
ALIASES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
_FLOAT_FORMS = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Transpose",
    "Reshape", "Slice", "Split", "Pad", "Resize", "Flatten", "Squeeze", "Unsqueeze",
}  # fmt: skip
IR_DTYPE = {U8: ir.DType.U8, S8: ir.DType.S8, S16: ir.DType.S16, 6: ir.DType.I32, 7: ir.DType.I64}


@dataclass(slots=True)
class Reading:
    """What the operator readers see and fill."""

    graph: OnnxGraph
    report: ImportReport
    made: dict[str, Node]
    quant: dict[str, ir.Quant] = field(default_factory=dict)
    constants: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    wide: bool = False  # whether int16 tensors may stand on engines

    def shape(self, name: str) -> tuple[int, ...]:
        shape = self.graph.shape(name)
        if shape is None or any(d <= 0 for d in shape):
            raise Unfit(f"the shape of '{name}' is not static")
        return shape

    def eight(self, name: str) -> str:
        """The name, if it is an 8-bit tensor."""
        if self.graph.elem(name) not in DTYPE:
            raise Unfit(f"its input '{name}' is not an 8-bit integer tensor")
        return name

    def activation(self, name: str) -> str:
        """The name, if it is an 8-bit tensor computed from the inputs."""
        if name in self.graph.constants:
            raise Unfit(f"its input '{name}' is constant")
        return self.eight(name)

    def integers(self, name: str) -> str:
        """As `activation`, or a tensor of int16 where such may stand on engines."""
        if name in self.graph.constants:
            raise Unfit(f"its input '{name}' is constant")
        return self.held(name)

    def held(self, name: str) -> str:
        """As `eight`, or a tensor of int16 where such may stand on engines."""
        if self.graph.elem(name) != S16:
            return self.eight(name)
        if not self.wide:
            raise Unfit(read_ops.WIDE)
        return name

    def const(self, name: str) -> NDArray[Any]:
        value = self.graph.constants.get(name)
        if value is None:
            raise Unfit(f"its argument '{name}' is not constant")
        return value

    def scalar(self, name: str) -> float:
        value = self.const(name)
        if value.size != 1:
            raise Unfit(f"its parameter '{name}' is not one number")
        return float(value.reshape(-1)[0])

    def zero(self, name: str) -> int:
        return int(self.scalar(name)) if name else 0


def read(graph: OnnxGraph, report: ImportReport, wide: bool = False) -> ir.Graph:
    """Turn the canonical model into a Graph; without `wide`, what is wider than 8 bits stays on the host."""
    r = Reading(graph, report, graph.producers(), wide=wide)
    engine: dict[int, tuple[ir.Node, ...]] = {}  # id(onnx node) -> IR nodes, () for an alias or a part of a table
    reasons: dict[int, str] = {}
    users = graph.consumers()
    tables = _tables(r, users)
    for n in graph.nodes:
        try:
            if id(n) in tables.parts:
                continue
            if id(n) in tables.entries:
                engine[id(n)] = (read_ops.table(r, n, tables.entries[id(n)]),)
            elif n.op in ALIASES and n.domain == "":
                _alias(r, n)
                engine[id(n)] = ()
            else:
                engine[id(n)] = read_ops.read(r, n)
        except Unfit as why:
            reasons[id(n)] = report.reasons.get(n.name) or _why(graph, n, why)
    for n in graph.nodes:  # a table's index nodes go with it
        owner = tables.parts.get(id(n))
        if owner is not None:
            if id(owner) in engine:
                engine[id(n)] = ()
            else:
                reasons[id(n)] = reasons[id(owner)]
    _demote(graph, engine, reasons)
    return _build(r, engine, reasons)


def with_reasons(graph: OnnxGraph, host: set[str], report: ImportReport) -> onnx.ModelProto:
    """The model, with what the import found out about its host nodes: reading it again gives the same reasons."""
    model = graph.to_model()
    known = {name: why for name, why in report.reasons.items() if name in host}
    if known:
        model.metadata_props.add(key=REASONS, value=json.dumps(known, sort_keys=True))
    return model


def _why(graph: OnnxGraph, n: Node, why: Unfit) -> str:
    if n.op == "QuantizeLinear":
        return segments.CONVERSIONS[0]
    if n.op == "DequantizeLinear":
        return segments.CONVERSIONS[1]
    if n.uses and graph.elem(n.uses[0]) == 1 and (is_elementwise(n) or n.op in _FLOAT_FORMS):
        return f"{n.op} of floats: its input or its result is not quantised"
    return str(why)


@dataclass(slots=True)
class _Tables:
    parts: dict[int, Node]  # id of Cast/Add -> the Gather they serve
    entries: dict[int, tuple[str, NDArray[Any] | None]]  # id of Gather -> (8-bit source, channel offsets)


def _tables(r: Reading, users: dict[str, list[Node]]) -> _Tables:
    """Find Gather(table, Cast(x)) and Gather(table, Add(Cast(x), offsets)) with private index nodes."""
    found = _Tables({}, {})
    outputs = set(r.graph.outputs)
    for n in r.graph.nodes:
        if n.op != "Gather" or n.domain or n.inputs[0] not in r.graph.constants or n.integer("axis", 0) != 0:
            continue
        data = r.graph.constants[n.inputs[0]]
        chain: list[Node] = []
        offset: NDArray[Any] | None = None
        node = r.made.get(n.inputs[1])
        if node is not None and node.op == "Add" and node.inputs[1] in r.graph.constants:
            chain.append(node)
            offset = r.graph.constants[node.inputs[1]]
            node = r.made.get(node.inputs[0])
        if node is None or node.op != "Cast" or data.dtype not in (np.uint8, np.int8) or data.ndim != 1:
            continue
        chain.append(node)
        if any(len(users.get(c.outputs[0], [])) != 1 or c.outputs[0] in outputs for c in chain):
            continue
        if r.graph.elem(node.inputs[0]) not in DTYPE or node.inputs[0] in r.graph.constants:
            continue
        found.entries[id(n)] = (node.inputs[0], offset)
        for c in chain:
            found.parts[id(c)] = n
    return found


def _alias(r: Reading, n: Node) -> None:
    r.integers(n.inputs[0])
    if int(np.prod(r.shape(n.inputs[0]))) != int(np.prod(r.shape(n.outputs[0]))):
        raise Unfit("it changes the number of elements")


def _demote(graph: OnnxGraph, engine: dict[int, tuple[ir.Node, ...]], reasons: dict[int, str]) -> None:
    """Movement and alias nodes between host nodes alone stay on the host: no trip to a device for nothing."""
    made = graph.producers()
    users = graph.consumers()
    changed = True
    while changed:
        changed = False
        for n in graph.nodes:
            if id(n) not in engine or not all(isinstance(node, ir.Move) for node in engine[id(n)]):
                continue
            if n.op in ("Cast", "Add"):
                continue
            sources = [i for i in n.uses if i not in graph.constants]
            above = all((i in made and id(made[i]) in reasons) or i in graph.inputs for i in sources)
            below = [u for o in n.outputs for u in users.get(o, [])]
            host_below = all(id(u) in reasons for u in below)
            if above and host_below and any(i in made for i in sources):
                del engine[id(n)]
                reasons[id(n)] = "it lies between host nodes"
                changed = True


def _build(r: Reading, engine: dict[int, tuple[ir.Node, ...]], reasons: dict[int, str]) -> ir.Graph:
    graph = r.graph
    alias_nodes = [n for n in graph.nodes if n.op in ALIASES and n.domain == "" and id(n) in engine]
    shapes = {name: r.shape(name) for n in alias_nodes for name in (n.inputs[0], n.outputs[0])}
    views = resolve(graph, engine, alias_nodes, shapes)
    aliases = views.aliases
    steps: list[ir.Step] = []
    for item in segments.cut(graph, engine, reasons).order:
        if isinstance(item, segments.Segment):
            steps.append(item.step)
        else:
            steps.extend(views.nodes.get(id(item), ()))
    tensors: dict[str, ir.Tensor] = {}
    few = levels.derive(graph, steps, aliases)

    def tensor(name: str) -> None:
        if name not in tensors:
            t, quant = IR_DTYPE[graph.elem(name)], r.quant.get(name) or r.quant.get(aliases.get(name, ""))
            tensors[name] = ir.Tensor(name, r.shape(name), t, quant, few.get(name))

    boundary = {*graph.inputs, *graph.outputs}
    for s in steps:
        if isinstance(s, ir.HostSegment):
            boundary.update((*s.inputs, *s.outputs))
            continue
        for name in (*s.inputs, s.y):
            tensor(name)
    for name in aliases:
        tensor(name)
        tensor(aliases[name])
    host_tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in sorted(boundary):
        if name in tensors:
            continue
        elem = graph.elem(name)
        shape = graph.shape(name)
        if elem in IR_DTYPE and shape is not None and name not in graph.constants and all(d > 0 for d in shape):
            tensor(name)
        else:
            t = graph.types.get(name)
            known = shape if shape is not None else (t.shape if t is not None else None)
            host_tensors[name] = (str(segments.numpy_name(elem)), tuple(known or ()))
    constants = {k: v for k, v in r.constants.items() if k in tensors}
    if not any(not isinstance(s, ir.HostSegment) for s in steps):
        r.report.fallback("no layer of this model runs on an engine: all of it is host segments")
    return ir.Graph(
        name=graph.name,
        tensors=tensors,
        constants=constants,
        steps=tuple(steps),
        inputs=tuple(graph.inputs),
        outputs=tuple(graph.outputs),
        aliases=aliases,
        host_tensors=host_tensors,
        model=ort.serialize(with_reasons(graph, {n.name for n in graph.nodes if id(n) in reasons}, r.report)),
        fallbacks=tuple(r.report.fallbacks),
    )
