"""QDQ to integers: every DequantizeLinear -> operator -> QuantizeLinear group becomes integer nodes.

Needs a clean OnnxGraph. Does, in one topological walk: DequantizeLinear sinks through data movement and MaxPool (they
commute exactly), and at every QuantizeLinear the float expression behind it is matched: a requantisation, a unary
island (one table), a clamp over something matched, or an operator of `fuse_ops`. What does not match stays float and
says why in the report. Guarantees the same reals within the rounding of the integer operators; integer nodes that were
there already are not touched.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from compiler.frontend import fuse_ops, islands, movement, weights
from compiler.frontend.integer import DTYPE, ELEM, QP, QT, Emitter, Unfit
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph, Type
from compiler.frontend.options import ImportReport

_SINK = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Slice", "Split", "DepthToSpace",
    "SpaceToDepth", "Tile", "Expand", "Gather", "MaxPool", "Resize", "Pad",
}  # fmt: skip


def is_quantize(n: Node) -> bool:
    return n.op == "QuantizeLinear" and n.domain in ("", MS)


def is_dequantize(n: Node) -> bool:
    return n.op == "DequantizeLinear" and n.domain in ("", MS)


def per_tensor(graph: OnnxGraph, n: Node) -> QP | None:
    """Parameters of a Q or DQ node if they are one 8-bit pair."""
    scale = graph.constants.get(n.input(1))
    if scale is None or scale.size != 1 or scale.dtype != np.float32:
        return None
    zero = graph.constants.get(n.input(2)) if n.input(2) else None
    if n.input(2) and zero is None:
        return None
    if zero is None:
        elem = n.integer("output_dtype", 2) or 2 if is_quantize(n) else graph.elem(n.inputs[0])
        value = 0
    else:
        if zero.dtype not in ELEM or zero.size != 1:
            return None
        elem, value = ELEM[zero.dtype], int(zero.reshape(-1)[0])
    s = np.float32(scale.reshape(-1)[0])
    if elem not in DTYPE or not np.isfinite(s) or s <= 0:
        return None
    return QP(s, value, elem)


@dataclass(slots=True)
class Fuser:
    """State of the walk. `deq`: float tensor -> the integers it comes from; `made`: producer of each float tensor."""

    graph: OnnxGraph
    report: ImportReport
    emitter: Emitter
    deq: dict[str, QT] = field(default_factory=dict)
    made: dict[str, Node] = field(default_factory=dict)
    done: dict[tuple[str, QP], str] = field(default_factory=dict)
    bridged: dict[str, QT] = field(default_factory=dict)
    taken: dict[str, weights.Weight] = field(default_factory=dict)

    def weight(self, name: str) -> weights.Weight | None:
        """A constant operand: float, or integers behind DequantizeLinear."""
        return weights.weight_of(self.graph, self.taken, self.made, name)

    def match(self, f: str, qp: QP, y: str, node_name: str) -> bool:
        """Emit integer nodes that make `y` = Quantize(f) under `qp`; False if nothing fits (nothing useful emitted)."""
        e = self.emitter
        if f in self.deq:
            e.requant(self.deq[f], y, qp, node_name)
            return True
        if self.unary(f, qp, y):
            return True
        n = self.made.get(f)
        if n is None or is_dequantize(n):
            return False
        try:
            if movement.is_clamp(n, self.graph):
                return self.clamp(n, qp, y)
            if n.op in _SINK and self.movable(n):
                return self.hoist(n, f, qp, y)
            rule = fuse_ops.RULES.get(n.op) if n.domain == "" else None
            if rule is None:
                self.report.reasons.setdefault(n.name, f"no engine operator for {n.op}")
                return False
            rule(self, n, qp, y)
            return True
        except Unfit as why:
            self.report.reasons.setdefault(n.name, str(why))
            return False

    def unary(self, f: str, qp: QP, y: str) -> bool:
        island = islands.find(self.graph, self.made, f, lambda name: name in self.deq)
        if island is None:
            return False
        x = self.deq[island.source]
        try:
            values = islands.evaluate(self.graph, island, x.qp.dequantize(x.qp.bytes_in_order()))
        except Exception:
            return False
        if np.isnan(values).any():
            values = np.nan_to_num(values, nan=0.0, posinf=np.inf, neginf=-np.inf)
        name = island.nodes[-1].name
        self.emitter.table(x.name, y, qp.quantize(values), qp.elem, name)
        return True

    def bridge(self, user: Node, f: str) -> QT | None:
        """Quantise what feeds `user` in float by the range it can reach: a unary island, or movement behind one."""
        if f in self.bridged:
            return self.bridged[f]
        n = self.made.get(f)
        if n is not None and n.op in _SINK and not n.domain and self.movable(n) and len(n.outputs) == 1:
            x = self.deq.get(n.inputs[0]) or self.bridge(user, n.inputs[0])
            if x is None or movement.pad_value(n, self.graph) not in (None, 0.0):
                return None
            y = self.graph.fresh(f"{f}_q")
            self.emitter.nodes.append(movement.moved(n, x, [y], self.emitter))
            self.emitter.declare(y, x.qp.elem, self.emitter.shape(f))
            self.bridged[f] = QT(y, x.qp)
            return self.bridged[f]
        island = islands.find(self.graph, self.made, f, lambda name: name in self.deq)
        if island is None:
            return None
        x = self.deq[island.source]
        try:
            values = islands.evaluate(self.graph, island, x.qp.dequantize(x.qp.bytes_in_order()))
        except Exception:
            return None
        if not np.isfinite(values).all():
            return None
        last = island.nodes[-1]
        qp = weights.range_of(values, x.qp.elem)
        y = self.graph.fresh(f"{f}_q")
        self.emitter.table(x.name, y, qp.quantize(values), qp.elem, last.name)
        self.report.fallback(
            f"result of node '{last.name}' ({last.op}) quantised by its reachable range: "
            f"the model leaves it in float before '{user.name}' ({user.op})"
        )
        self.bridged[f] = QT(y, qp)
        return self.bridged[f]

    def clamp(self, n: Node, qp: QP, y: str) -> bool:
        """Quantize(clip(x)) = clip(Quantize(x)): free where the type saturates there, a table otherwise."""
        low, high = movement.clamp_bounds(n, self.graph)
        lo = int(qp.quantize(np.float32(low)))
        hi = int(qp.quantize(np.float32(high)))
        if lo <= qp.lo and hi >= qp.hi:
            return self.match(n.inputs[0], qp, y, n.name)
        free = self.emitter.graph.fresh(f"{y}_free")
        if not self.match(n.inputs[0], qp, free, n.name):
            return False
        order = qp.bytes_in_order()
        self.emitter.table(free, y, np.minimum(np.maximum(order, lo), hi), qp.elem, n.name)
        return True

    def movable(self, n: Node) -> bool:
        return movement.moves_exactly(n, self.graph)

    def hoist(self, n: Node, f: str, qp: QP, y: str) -> bool:
        """Quantize(move(x)) = move(Quantize(x)); a value that Pad writes is quantised like the rest."""
        if len(n.outputs) != 1:
            return False
        x = self.emitter.graph.fresh(f"{n.inputs[0]}_q")
        if not self.match(n.inputs[0], qp, x, n.name):
            return False
        self.emitter.nodes.append(movement.moved(n, QT(x, qp), [y], self.emitter))
        self.emitter.declare(y, qp.elem, self.emitter.shape(f))
        return True

    def sink(self, n: Node) -> bool:
        """move(Dequantize(q)) = Dequantize(move(q)), if the operator may work on integers."""
        x = self.deq.get(n.input(0))
        if x is None or n.op not in _SINK or n.domain or not self.movable(n):
            return False
        value = movement.pad_value(n, self.graph)
        if value not in (None, 0.0):
            q = x.qp.quantize(np.float32(value))
            if float(x.qp.dequantize(q)) != value:
                return False
        outputs = [self.graph.fresh(f"{o}_q") if o else "" for o in n.outputs]
        self.emitter.nodes.append(movement.moved(n, x, outputs, self.emitter))
        for q_name, f_name in zip(outputs, n.outputs, strict=True):
            if f_name:
                self.dequantized(QT(q_name, x.qp), f_name)
        return True

    def concat(self, n: Node) -> bool:
        """Concat of integers that all have one parameter pair."""
        parts = [self.deq.get(i) for i in n.inputs]
        if n.op != "Concat" or any(p is None or p.qp != parts[0].qp for p in parts if parts[0]) or None in parts:
            return False
        known = [p for p in parts if p is not None]
        y = self.graph.fresh(f"{n.outputs[0]}_q")
        self.emitter.nodes.append(Node("Concat", [p.name for p in known], [y], n.name, "", dict(n.attributes)))
        self.dequantized(QT(y, known[0].qp), n.outputs[0])
        return True

    def dequantized(self, x: QT, f: str) -> None:
        """Append the DequantizeLinear that makes `f`; it vanishes if nobody reads it."""
        shape = self.graph.shape(f)
        if shape is not None:
            self.graph.types[x.name] = Type(x.qp.elem, shape)
        name = self.graph.fresh(f"{f}_dequantize")
        node = Node("DequantizeLinear", self.emitter.params(x), [f], name)
        self.emitter.nodes.append(node)
        self.deq[f] = x
        self.made[f] = node


def fuse(graph: OnnxGraph, report: ImportReport) -> None:
    """Rewrite `graph` in place."""
    fuser = Fuser(graph, report, Emitter(graph, report), taken=weights.take_dequantized(graph))
    rename: dict[str, str] = {}
    out = fuser.emitter.nodes
    captured = {c for n in graph.nodes for c in n.captured}
    for n in graph.nodes:
        n.inputs = [rename.get(i, i) for i in n.inputs]
        if is_dequantize(n) and n.inputs[0] not in graph.constants:
            qp = per_tensor(graph, n)
            if qp is not None and graph.elem(n.inputs[0]) == qp.elem:
                fuser.deq[n.outputs[0]] = QT(n.inputs[0], qp)
        elif is_quantize(n):
            qp = per_tensor(graph, n)
            if qp is not None and quantize(fuser, n, qp, rename, captured):
                continue
        elif fuser.sink(n) or fuser.concat(n):
            continue
        elif n.op == "ArgMax" and n.domain == "" and n.inputs[0] in fuser.deq:
            x = fuser.deq[n.inputs[0]]
            out.append(Node("ArgMax", [x.name], n.outputs, n.name, "", dict(n.attributes)))
            continue
        for o in n.outputs:
            fuser.made[o] = n
        out.append(n)
    graph.nodes = list(out)
    graph.prune()
    weights.materialise(graph, graph.nodes, fuser.taken)
    graph.sort()
    graph.prune()


def one_dequantize_a_reader(graph: OnnxGraph) -> None:
    """Give every reader of a dequantised activation a DequantizeLinear of its own: integers travel, not floats."""
    users = graph.consumers()
    nodes: list[Node] = []
    for n in graph.nodes:
        nodes.append(n)
        if not is_dequantize(n) or n.inputs[0] in graph.constants:
            continue
        y = n.outputs[0]
        readers = [u for u in users.get(y, []) if y not in u.captured]
        for u in readers[0 if y in graph.outputs else 1 :]:
            copy = graph.fresh(f"{y}_copy")
            nodes.append(
                Node(n.op, list(n.inputs), [copy], graph.fresh(f"{n.name}_copy"), n.domain, dict(n.attributes))
            )
            u.inputs = [copy if i == y else i for i in u.inputs]
            if y in graph.types:
                graph.types[copy] = graph.types[y]
    graph.nodes = nodes
    graph.prune()


def quantize(fuser: Fuser, n: Node, qp: QP, rename: dict[str, str], captured: set[str]) -> bool:
    """Handle one QuantizeLinear; True if integer nodes stand for it."""
    f, y = n.inputs[0], n.outputs[0]
    keep = y in fuser.graph.outputs or y in captured
    key = (f, qp)
    same = fuser.done.get(key)
    if same is None and f in fuser.deq and fuser.deq[f].qp == qp:
        same = fuser.deq[f].name
    if same is not None:
        if keep:
            fuser.emitter.nodes.append(Node("Identity", [same], [y], n.name))
        else:
            rename[y] = same
        return True
    if not fuser.match(f, qp, y, n.name):
        return False
    fuser.done[key] = y
    return True
