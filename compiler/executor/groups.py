"""Gate B: a QDQ model's own float arithmetic against the integer model, group by group.

Each DequantizeLinear -> operator -> QuantizeLinear group of the QDQ model is fed the integers of the integer model at
its inputs, run raw at ORT_DISABLE_ALL, and its result compared: at most 1 LSB apart, and (for sums of products) in at
most 1e-5 of the elements. This measures the step from QDQ to integers; equality of the binaries is Gate A's matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.host import session
from compiler.executor.reference import Reference, parse

Array = NDArray[Any]
# Operators that numerics.md holds to 1e-5; others (QLinearAdd folds its constants) differ by 1 LSB more often.
_PRODUCTS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))
_SHARE = 1e-5


@dataclass(slots=True)
class Group:
    """One group: the tensor it makes, its operators, and how its raw result differs."""

    tensor: str
    ops: tuple[str, ...]
    elements: int = 0
    different: int = 0
    worst_lsb: int = 0


@dataclass(slots=True)
class GateB:
    """All groups that could be isolated, and the quantized tensors of the QDQ model that the integer model lacks."""

    groups: list[Group] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)

    @property
    def elements(self) -> int:
        return sum(g.elements for g in self.groups)

    @property
    def different(self) -> int:
        return sum(g.different for g in self.groups)

    @property
    def worst_lsb(self) -> int:
        return max((g.worst_lsb for g in self.groups), default=0)

    @property
    def passed(self) -> bool:
        """At most 1 LSB everywhere; products in at most 1e-5 of their elements (one element always granted)."""
        products = [g for g in self.groups if _PRODUCTS & set(g.ops)]
        allowed = max(1.0, _SHARE * sum(g.elements for g in products))
        return bool(self.groups) and self.worst_lsb <= 1 and sum(g.different for g in products) <= allowed

    def as_json(self) -> dict[str, Any]:
        return {
            "gate": "B: each DequantizeLinear -> op -> QuantizeLinear group in raw float arithmetic",
            "passed": self.passed,
            "groups": len(self.groups),
            "elements": self.elements,
            "different": self.different,
            "worst_lsb": self.worst_lsb,
            "unmatched": self.unmatched,
        }


def cut_groups(qdq: bytes, tensors: dict[str, Array]) -> tuple[bytes, dict[str, str], list[str]]:
    """The QDQ model with every quantized activation that `tensors` has made a graph input.

    tensors: one frame of the integer model. Returns the model, {tensor: name of the group's raw result in it}, and the
    quantized activations that `tensors` lacks (these are not cut)."""
    import onnx
    from onnx import helper

    proto = parse(qdq)
    constants = {t.name for t in proto.graph.initializer}
    inputs = {i.name for i in proto.graph.input}
    for node in proto.graph.node:
        if all(i in constants or not i for i in node.input):
            constants.update(node.output)
    raw: dict[str, str] = {}
    unmatched: list[str] = []
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[0] in constants or node.input[0] in inputs:
            continue
        name = node.output[0]
        value = tensors.get(name)
        if value is None or value.dtype.itemsize != 1:
            unmatched.append(name)
            continue
        raw[name] = node.output[0] = f"{name}/raw"
        proto.graph.input.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape))
        )
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=r) for r in raw.values())
    return bytes(proto.SerializeToString()), raw, unmatched


def gate_b(qdq: bytes, integer_model: bytes, frames: list[dict[str, Array]]) -> GateB:
    """Compares every group on these inputs. Raises MachineError if a model cannot be read."""
    reference = Reference(integer_model)
    result = GateB()
    groups: dict[str, Group] = {}
    judge: Any = None
    raw: dict[str, str] = {}
    for frame in frames:
        tensors = reference.run(frame)
        if judge is None:
            model, raw, result.unmatched = cut_groups(qdq, tensors)
            ops = _operators(model)
            groups = {t: Group(t, ops(r)) for t, r in raw.items()}
            if raw:
                judge = session(model)
        if judge is None:
            continue
        feeds = {i.name for i in judge.get_inputs()}
        feed = {k: v for k, v in (tensors | frame).items() if k in feeds}
        for (name, group), value in zip(groups.items(), judge.run(list(raw.values()), feed), strict=True):
            if value.dtype != tensors[name].dtype or value.shape != tensors[name].shape:
                group.worst_lsb = 255  # another tensor under the same name: no such group of integers
                continue
            apart = np.abs(value.astype(np.int16) - tensors[name].astype(np.int16))
            group.elements += apart.size
            group.different += int(np.count_nonzero(apart))
            group.worst_lsb = max(group.worst_lsb, int(apart.max(initial=0)))
    result.groups = list(groups.values())
    return result


def _operators(model: bytes) -> Any:
    """raw result name -> operator types of its group, walking back to the cuts."""
    proto = parse(model)
    maker = {o: n for n in proto.graph.node for o in n.output}

    def ops(name: str) -> tuple[str, ...]:
        found: set[str] = set()
        todo, done = [name], {name}
        while todo:
            node = maker.get(todo.pop())
            if node is None:
                continue
            found.add(node.op_type)
            fresh = [i for i in node.input if i not in done]
            done.update(fresh)
            todo += fresh
        return tuple(sorted(found - {"QuantizeLinear", "DequantizeLinear"}))

    return ops
