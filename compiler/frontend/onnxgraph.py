"""A mutable ONNX graph that passes rewrite: nodes, constants as NumPy arrays, types; to and from ModelProto.

Needs a checked ModelProto. Guarantees that `to_model` gives a model which ONNX Runtime reads (ir_version <= 13) with
the same inputs and outputs, names included, and that node order is topological.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from compiler.frontend import functions
from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.frontend.lowbit.grid import Grids

IR_VERSION = 10
MAX_IR_VERSION = 13
MS = "com.microsoft"
Array = NDArray[Any]


@dataclass(slots=True, eq=False)
class Node:
    """One ONNX node; `attributes` by name, decoded; `captured` are outer tensors that its subgraphs read."""

    op: str
    inputs: list[str]
    outputs: list[str]
    name: str = ""
    domain: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    captured: tuple[str, ...] = ()

    @property
    def uses(self) -> list[str]:
        """Names of all tensors read, without the empty optional ones."""
        return [i for i in self.inputs if i] + list(self.captured)

    def ints(self, name: str, default: Sequence[int]) -> list[int]:
        return [int(v) for v in self.attributes.get(name, default)]

    def integer(self, name: str, default: int) -> int:
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float) -> float:
        return float(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def input(self, index: int) -> str:
        """Name of input `index`, "" if absent."""
        return self.inputs[index] if index < len(self.inputs) else ""


@dataclass(frozen=True, slots=True)
class Type:
    """Element type (ONNX enumeration) and shape; None for an unknown rank, an entry -1 for an unknown extent."""

    elem: int
    shape: tuple[int, ...] | None

    @property
    def static(self) -> bool:
        return self.shape is not None and all(d >= 0 for d in self.shape)

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape of a static type."""
        assert self.shape is not None
        return self.shape


def numpy_dtype(elem: int) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(helper.tensor_dtype_to_np_dtype(elem))
    return dtype


def elem_type(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))


@dataclass(slots=True)
class OnnxGraph:
    """A model under rewriting. `types` is filled by `shapes.infer`."""

    name: str
    nodes: list[Node]
    constants: dict[str, Array]
    inputs: list[str]
    outputs: list[str]
    types: dict[str, Type]
    opset: int
    domains: dict[str, int] = field(default_factory=dict)  # other domains -> version
    counter: int = 0
    output_info: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    grids: Grids | None = None  # of a low-bit model

    def fresh(self, base: str) -> str:
        """A tensor or node name derived from `base` that was never taken, from now on taken."""
        if not self.taken:
            self.taken = self.names()
        name = base
        while not name or name in self.taken:
            self.counter += 1
            name = f"{base}_{self.counter}"
        self.taken.add(name)
        return name

    def names(self) -> set[str]:
        names = set(self.constants) | set(self.inputs) | set(self.outputs) | set(self.types)
        for n in self.nodes:
            names.update(n.outputs, n.inputs, (n.name,))
        return names

    def producers(self) -> dict[str, Node]:
        return {o: n for n in self.nodes for o in n.outputs if o}

    def consumers(self) -> dict[str, list[Node]]:
        users: dict[str, list[Node]] = {}
        for n in self.nodes:
            for i in dict.fromkeys(n.uses):
                users.setdefault(i, []).append(n)
        return users

    def constant(self, name: str) -> Array | None:
        return self.constants.get(name)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Static shape of a tensor, or None."""
        if name in self.constants:
            return tuple(self.constants[name].shape)
        t = self.types.get(name)
        return t.dims if t is not None and t.static else None

    def elem(self, name: str) -> int:
        """ONNX element type of a tensor, 0 if unknown."""
        if name in self.constants:
            return elem_type(self.constants[name])
        t = self.types.get(name)
        return t.elem if t is not None else 0

    def replace_uses(self, old: str, new: str) -> None:
        """Let every reader of `old` read `new`; graph outputs and captured names are left alone."""
        for n in self.nodes:
            n.inputs = [new if i == old else i for i in n.inputs]

    def sort(self) -> None:
        """Stable topological order; a cycle or an undefined tensor is an FvcError."""
        known = {*self.constants, *self.inputs, ""}
        made = self.producers()
        waiting: dict[str, list[int]] = {}
        missing: list[int] = []
        for k, n in enumerate(self.nodes):
            need = [i for i in dict.fromkeys(n.uses) if i not in known]
            for i in need:
                if i not in made:
                    raise FvcError(
                        "FVC105",
                        f"invalid graph: tensor '{i}' is read but never made",
                        where=(f"node '{n.name}' ({n.op})",),
                    )
                waiting.setdefault(i, []).append(k)
            missing.append(len(need))
        import heapq

        ready = [k for k, c in enumerate(missing) if c == 0]
        heapq.heapify(ready)
        order: list[Node] = []
        while ready:
            k = heapq.heappop(ready)
            order.append(self.nodes[k])
            for o in self.nodes[k].outputs:
                for w in waiting.get(o, ()):
                    missing[w] -= 1
                    if missing[w] == 0:
                        heapq.heappush(ready, w)
        if len(order) != len(self.nodes):
            stuck = next(n for k, n in enumerate(self.nodes) if missing[k] > 0)
            raise FvcError("FVC105", "invalid graph: it contains a cycle", where=(f"node '{stuck.name}' ({stuck.op})",))
        self.nodes = order

    def prune(self) -> None:
        """Drop nodes and constants that no graph output needs."""
        needed = set(self.outputs)
        kept: list[Node] = []
        for n in reversed(self.nodes):
            if any(o in needed for o in n.outputs if o):
                kept.append(n)
                needed.update(n.uses)
        self.nodes = kept[::-1]
        self.constants = {k: v for k, v in self.constants.items() if k in needed}

    def to_model(self, *, constants_up_to: int | None = None, consume: bool = False) -> onnx.ModelProto:
        """ModelProto of the graph. With `constants_up_to`, bigger constants become mere typed inputs.

        consume: the constants leave this graph one by one, so that big models are never held twice. The message is
        built in place: onnx.helper would copy every weight three times."""
        model = onnx.ModelProto(ir_version=ir_version_of(self.opset), producer_name="fvc")
        opsets = [("", self.opset), *sorted(self.domains.items())]
        if any(n.domain == MS for n in self.nodes) and MS not in self.domains:
            opsets.append((MS, 1))
        own = sorted({n.op for n in self.nodes if n.domain == functions.DOMAIN})
        if own and functions.DOMAIN not in self.domains:
            opsets.append((functions.DOMAIN, functions.VERSION))
        for domain, version in opsets:
            model.opset_import.add(domain=domain, version=version)
        model.functions.extend(functions.definition(op, self.opset) for op in own)
        graph = model.graph
        graph.name = self.name or "graph"
        graph.node.extend(to_proto(n) for n in self.nodes)
        graph.input.extend(self.value_info(i) for i in self.inputs)
        for name in list(self.constants):
            value = self.constants.pop(name) if consume else self.constants[name]
            if constants_up_to is not None and value.size > constants_up_to:
                graph.input.append(helper.make_tensor_value_info(name, elem_type(value), value.shape))
            else:
                _write(graph.initializer.add(), name, value)
        graph.output.extend(self.output_value_info(o) for o in self.outputs)
        return model

    def value_info(self, name: str) -> onnx.ValueInfoProto:
        t = self.types[name]
        shape = None if t.shape is None else [d if d >= 0 else None for d in t.shape]
        return helper.make_tensor_value_info(name, t.elem, shape)

    def output_value_info(self, name: str) -> onnx.ValueInfoProto:
        if name in self.types:
            return self.value_info(name)
        if name in self.constants:
            return helper.make_tensor_value_info(name, elem_type(self.constants[name]), self.constants[name].shape)
        if name in self.output_info:
            return self.output_info[name]
        return onnx.ValueInfoProto(name=name)


def _write(tensor: onnx.TensorProto, name: str, value: Array) -> None:
    """One constant into a message that is already part of its model."""
    dtype = elem_type(value)
    if value.dtype.kind in "fiub" and value.dtype.isnative and sys.byteorder == "little" and value.dtype.itemsize:
        tensor.name, tensor.data_type = name, dtype
        tensor.dims.extend(value.shape)
        tensor.raw_data = value.tobytes()
    else:  # strings, packed 4-bit integers, bfloat16: onnx knows how
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))


def ir_version_of(opset: int) -> int:
    """The oldest IR version that may carry the opset, never above what ONNX Runtime reads."""
    return min(MAX_IR_VERSION, IR_VERSION if opset <= 21 else MAX_IR_VERSION)


def to_proto(node: Node) -> onnx.NodeProto:
    proto = onnx.NodeProto(op_type=node.op, name=node.name, domain=node.domain)
    proto.input.extend(node.inputs)
    proto.output.extend(node.outputs)
    for key, value in sorted(node.attributes.items()):
        if isinstance(value, onnx.AttributeProto):
            proto.attribute.append(value)
        else:
            proto.attribute.append(helper.make_attribute(key, value))
    return proto


def _outer_names(graph: onnx.GraphProto) -> list[str]:
    """Tensor names that a subgraph reads from outside, in order of first use."""
    local = {i.name for i in graph.input} | {i.name for i in graph.initializer}
    outer: dict[str, None] = {}
    for n in graph.node:
        for i in n.input:
            if i and i not in local:
                outer[i] = None
        for a in n.attribute:
            for sub in [a.g] if a.type == onnx.AttributeProto.GRAPH else list(a.graphs):
                for i in _outer_names(sub):
                    if i not in local:
                        outer[i] = None
        local.update(n.output)
    for o in graph.output:
        if o.name not in local:
            outer[o.name] = None
    return list(outer)


def from_proto(proto: onnx.NodeProto) -> Node:
    attributes: dict[str, Any] = {}
    captured: dict[str, None] = {}
    for a in proto.attribute:
        graphs = [a.g] if a.type == onnx.AttributeProto.GRAPH else list(a.graphs)
        for sub in graphs:
            captured.update(dict.fromkeys(_outer_names(sub)))
        simple = (
            onnx.AttributeProto.INT,
            onnx.AttributeProto.FLOAT,
            onnx.AttributeProto.STRING,
        )
        if a.type in simple:
            attributes[a.name] = helper.get_attribute_value(a)
        elif a.type == onnx.AttributeProto.INTS and len(a.ints):
            attributes[a.name] = list(a.ints)
        elif a.type == onnx.AttributeProto.FLOATS and len(a.floats):
            attributes[a.name] = list(a.floats)
        else:
            attributes[a.name] = onnx.AttributeProto()  # a reference would keep the whole model in memory
            attributes[a.name].CopyFrom(a)
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    return Node(proto.op_type, list(proto.input), list(proto.output), proto.name, domain, attributes, tuple(captured))


def type_of(info: onnx.ValueInfoProto) -> Type | None:
    """Type of a tensor-valued info; None for sequences, maps and untyped ones."""
    if not info.type.HasField("tensor_type"):
        return None
    t = info.type.tensor_type
    if t.elem_type == 0:
        return None
    if not t.HasField("shape"):
        return Type(t.elem_type, None)
    return Type(t.elem_type, tuple(d.dim_value if d.HasField("dim_value") else -1 for d in t.shape.dim))


def tensor_node(op: str, inputs: Iterable[str], output: str, name: str, domain: str = "", **attributes: Any) -> Node:
    """A node with one output."""
    return Node(op, list(inputs), [output], name, domain, attributes)
