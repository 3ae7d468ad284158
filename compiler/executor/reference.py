"""ONNX Runtime as the outside judge: model.int.onnx at ORT_DISABLE_ALL with every intermediate tensor as an output."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.accumulators import CHANNEL_AXIS, add_accumulators, operator
from compiler.executor.faults import BAD_BUNDLE, HOST, MachineError
from compiler.executor.host import session

Array = NDArray[Any]
PAIR_OPERATORS = ("QLinearAdd", "QLinearMul")
# Nodes whose output holds the bytes of their first input under another shape.
_SAME_BYTES = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"))


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What the judge needs to know of a node of the model."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def parse(model: bytes) -> Any:
    """The ModelProto; raises MachineError if these bytes are none."""
    import onnx

    try:
        return onnx.load_model_from_string(model)
    except Exception as error:  # protobuf's DecodeError has moved between its versions
        raise MachineError(BAD_BUNDLE, f"an ONNX model of the bundle cannot be read: {error}") from error


def expose_all(model: bytes) -> bytes:
    """The same model with the output of every top-level node among its outputs; computes the same."""
    proto = parse(model)
    _expose(proto)
    return bytes(proto.SerializeToString())


def _expose(proto: Any) -> None:
    import onnx

    known = {o.name for o in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in known:
                known.add(name)
                proto.graph.output.append(onnx.ValueInfoProto(name=name))


class Reference:
    """model.int.onnx with every tensor visible.

    `nodes` in model order; `inputs` name -> (NumPy dtype, shape) of the graph inputs; `outputs` the graph outputs;
    `functions`: which of the tensors `stored` hold the result of a node that applies one function to all elements of a
    channel (under its name or as another shape of it): stored tensor -> node; `requantised`: those whose function is a
    requantiser; `accumulators`: those of them whose accumulators are at hand.
    """

    def __init__(self, model: bytes, stored: Collection[str] = ()) -> None:
        import onnx

        proto = parse(model)
        self.nodes = tuple(
            NodeInfo(n.name, operator(n.op_type), tuple(n.input), tuple(o for o in n.output if o))
            for n in proto.graph.node
        )
        self.constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
        for n in proto.graph.node:
            if n.op_type == "Constant" and n.attribute and n.attribute[0].name == "value":
                self.constants[n.output[0]] = onnx.numpy_helper.to_array(n.attribute[0].t)
        self.outputs = tuple(o.name for o in proto.graph.output)
        self.inputs: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}
        for i in proto.graph.input:
            if i.name in self.constants:
                continue
            t = i.type.tensor_type
            shape = tuple(d.dim_value for d in t.shape.dim)
            self.inputs[i.name] = (np.dtype(onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)), shape)
        _expose(proto)
        self.tensors = tuple(o.name for o in proto.graph.output)
        self.functions: dict[str, NodeInfo] = {}
        twins = self.same_bytes()
        for n in self.nodes:
            if n.op in CHANNEL_AXIS or n.op in PAIR_OPERATORS or (n.op == "Gather" and n.inputs[0] in self.constants):
                y = n.outputs[0]
                holder = next((t for t in (y, *twins.get(y, ())) if t in stored), None)
                if holder is not None:
                    self.functions[holder] = n
        self.requantised = {t: n for t, n in self.functions.items() if n.op in CHANNEL_AXIS}
        made = add_accumulators(proto, {n.outputs[0] for n in self.requantised.values()})
        self.accumulators = {t: made[n.outputs[0]] for t, n in self.requantised.items() if n.outputs[0] in made}
        try:
            self.session = session(proto.SerializeToString())
        except Exception as error:  # onnxruntime has no common base class for its errors
            raise MachineError(BAD_BUNDLE, f"ONNX Runtime does not take model.int.onnx: {error}") from error

    def run(self, frame: dict[str, Array]) -> dict[str, Array]:
        """Every tensor of the model for one frame."""
        return self.run_both(frame)[0]

    def run_both(self, frame: dict[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
        """Every tensor of the model for one frame; and by stored tensor the int32 accumulators, flat."""
        try:
            values = self.session.run([*self.tensors, *self.accumulators.values()], frame)
        except Exception as error:
            raise MachineError(HOST, f"ONNX Runtime cannot run model.int.onnx on this input: {error}") from error
        tensors = {name: np.asarray(v) for name, v in zip(self.tensors, values, strict=False)}
        sums = (np.ascontiguousarray(v).reshape(-1) for v in values[len(self.tensors) :])
        return tensors, dict(zip(self.accumulators, sums, strict=True))

    def same_bytes(self) -> dict[str, list[str]]:
        """tensor -> the tensors that differ from it in shape only (Reshape and its like, over any number of them)."""
        groups: dict[str, list[str]] = {}
        for n in self.nodes:
            if n.op in _SAME_BYTES and n.outputs:
                joined = groups.get(n.inputs[0], [n.inputs[0]]) + groups.get(n.outputs[0], [n.outputs[0]])
                groups.update(dict.fromkeys(joined, joined))
        return groups

    def constant_tensors(self) -> set[str]:
        """Outputs of nodes that depend on no graph input."""
        known = set(self.constants) | {""}
        found: set[str] = set()
        for n in self.nodes:
            if n.op == "Constant" or (n.inputs and all(i in known for i in n.inputs)):
                known.update(n.outputs)
                found.update(n.outputs)
        return found

    def table_indices(self) -> set[str]:
        """Tensors that are only the indices of look-ups in constant tables (Cast, Add of a channel offset, Gather).

        A table of 256 entries an element's byte selects is one operator of the machine; its index is no tensor there.
        """
        users: dict[str, list[tuple[NodeInfo, int]]] = {}
        for n in self.nodes:
            for k, name in enumerate(n.inputs):
                users.setdefault(name, []).append((n, k))
        found: set[str] = set()
        for n in reversed(self.nodes):
            if n.op not in ("Cast", "Add") or len(n.outputs) != 1 or n.outputs[0] in self.outputs:
                continue
            if n.op == "Add" and not any(i in self.constants for i in n.inputs):
                continue
            uses = users.get(n.outputs[0], [])
            if uses and all(
                (u.op == "Gather" and k == 1 and u.inputs[0] in self.constants)
                or (u.op == "Add" and u.outputs[0] in found)
                for u, k in uses
            ):
                found.add(n.outputs[0])
        return found
