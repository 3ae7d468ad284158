"""Random quantised models as real tools write them: grown layer by layer in float, QDQ with measured ranges.

Every layer is run by ONNX Runtime as it is drawn, so shapes and ranges are the true ones and what ONNX Runtime refuses
is not drawn. Sizes are uneven on purpose: primes, kernels as high as the map, strides over cuts, odd groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import assume
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.frontend.models import model

Array = np.ndarray[Any, Any]
MOST_ELEMENTS = 6000  # of a tensor: many tiles in little time
KINDS = (
    "conv", "conv", "conv", "depthwise", "grouped", "transposed", "max", "average", "residual", "broadcast", "concat",
    "split", "slice", "resize", "depth_to_space", "pad", "activation", "matmul", "gemm", "transpose", "mean", "softmax",
)  # fmt: skip
SAME_SCALE = {"MaxPool", "Slice", "Split", "Resize", "DepthToSpace", "SpaceToDepth", "Transpose", "Reshape", "Flatten"}
ACTIVATIONS = ("Relu", "Sigmoid", "LeakyRelu", "HardSwish", "Tanh", "PRelu", "HardSigmoid", "Clip")


class Net:
    """A float model that grows, with a sample value of every tensor."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.values: dict[str, Array] = {}
        self.inputs: dict[str, tuple[int, ...]] = {}

    def input(self, shape: tuple[int, ...]) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = shape
        self.values[name] = self.rng.standard_normal(shape).astype(np.float32)
        return name

    def const(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def weights(self, *shape: int) -> str:
        fan = max(1, int(np.prod(shape[1:])))
        return self.const((self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def emit(self, op: str, inputs: list[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """The new tensors' names; none where ONNX Runtime refuses the node or the result is too large or empty."""
        names = [f"t{len(self.nodes)}_{k}" for k in range(outputs)]
        node = helper.make_node(op, inputs, names, name=f"n{len(self.nodes)}", **attributes)
        feeds = {i: self.values[i] for i in inputs if i in self.values}
        graph = helper.make_graph(
            [node], "one",
            [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in feeds.items()],
            [onnx.ValueInfoProto(name=n) for n in names],
            [numpy_helper.from_array(self.constants[i], i) for i in inputs if i in self.constants],
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            got = ort.InferenceSession(proto.SerializeToString(), options).run(names, feeds)
        except Exception:  # whatever ONNX Runtime has against the node: it is not drawn
            return []
        if any(v.size == 0 or v.size > MOST_ELEMENTS for v in got):
            return []
        self.nodes.append(node)
        self.values.update(zip(names, got, strict=True))
        return names

    def float_model(self, outputs: list[str]) -> onnx.ModelProto:
        rows = [(n.op_type, list(n.input), list(n.output), _attributes(n)) for n in self.nodes]
        return model(rows, self.inputs, outputs, self.constants, opset=18)

    def qdq_model(self, outputs: list[str], signed: bool, per_channel: bool, bare: bool) -> onnx.ModelProto:
        """DQ -> op -> Q with the ranges of the sample; weights s8 symmetric, biases int32; data movement keeps scales.

        bare: integers in and out, so that the host has nothing to do."""
        writer = _Qdq(self, signed, per_channel)
        for x in self.inputs:
            writer.quantize(x, x, *writer.range_of(self.values[x]))
        if bare:
            writer.nodes.clear()
        folded = {n.input[0] for n in self.nodes if n.op_type == "Relu"} - set(outputs)
        for n in self.nodes:
            writer.node(n, folded)
        if bare:
            elem = TensorProto.INT8 if signed else TensorProto.UINT8
            inputs = {f"{x}_q": shape for x, shape in self.inputs.items()}
            return model(writer.nodes, inputs, [f"{y}_q" for y in outputs], writer.constants, opset=18, elem=elem)
        out = [writer.dequantized(y) for y in outputs]
        return model(writer.nodes, self.inputs, out, writer.constants, opset=18)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


class _Qdq:
    """Writes a Net with QuantizeLinear and DequantizeLinear around every operator."""

    def __init__(self, net: Net, signed: bool, per_channel: bool) -> None:
        self.net, self.per_channel = net, per_channel
        self.type: Any = np.int8 if signed else np.uint8
        self.nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = []
        self.constants: dict[str, Array] = {}
        self.scales: dict[str, tuple[np.float32, int]] = {}  # of a tensor that is quantised
        self.count = 0

    def const(self, value: Array) -> str:
        self.count += 1
        self.constants[f"q{self.count}"] = value
        return f"q{self.count}"

    def range_of(self, value: Array) -> tuple[np.float32, int]:
        low, high = min(0.0, float(value.min())), max(0.0, float(value.max()))
        scale = np.float32((high - low) / 255 or 1 / 255)
        least = int(np.iinfo(self.type).min)
        return scale, int(np.clip(round(least - low / float(scale)), least, least + 255))

    def quantize(self, raw: str, name: str, scale: np.float32, zero: int) -> None:
        """`raw` is the float tensor in the new model; readers of `name` take it dequantised."""
        params = [self.const(np.asarray(scale)), self.const(np.asarray(zero, self.type))]
        self.nodes.append(("QuantizeLinear", [raw, *params], [f"{name}_q"], {}))
        self.scales[name] = (scale, zero)

    def dequantized(self, name: str) -> str:
        if name not in self.scales:
            return name
        scale, zero = self.scales[name]
        self.count += 1
        y = f"{name}_f{self.count}"
        params = [self.const(np.asarray(scale)), self.const(np.asarray(zero, self.type))]
        self.nodes.append(("DequantizeLinear", [f"{name}_q", *params], [y], {}))
        return y

    def weight(self, name: str, axis: int, lone: bool) -> tuple[str, Array]:
        """(dequantised weight, its scales); a scale for each index of `axis` unless `lone`."""
        w = self.net.constants[name]
        rest = tuple(a for a in range(w.ndim) if a != axis)
        most = np.abs(w).max() if lone else np.abs(w).max(axis=rest)
        scale = np.asarray(np.maximum(most, 1e-4) / 127, np.float32)
        shape = [1] * w.ndim
        if not lone:
            shape[axis] = -1
        q = np.clip(np.rint(w / scale.reshape(shape)), -127, 127).astype(np.int8)
        y = f"{name}_w{len(self.nodes)}"
        params = [self.const(q), self.const(scale), self.const(np.zeros(scale.shape, np.int8))]
        self.nodes.append(("DequantizeLinear", params, [y], {} if lone else {"axis": axis}))
        return y, scale

    def bias(self, name: str, scale: Array) -> str:
        b = self.net.constants[name]
        y = f"{name}_b{len(self.nodes)}"
        q = np.rint(b / scale).astype(np.int32)
        params = [self.const(q), self.const(np.asarray(scale, np.float32))]
        if scale.ndim:
            params.append(self.const(np.zeros(scale.shape, np.int32)))
        self.nodes.append(("DequantizeLinear", params, [y], {"axis": 0} if scale.ndim else {}))
        return y

    def operand(self, name: str) -> str:
        """A tensor, or a float constant quantised like one."""
        value = self.net.constants.get(name)
        if value is None:
            return self.dequantized(name)
        if value.dtype != np.float32:
            return name
        if f"{name}_q" not in self.constants:
            scale, zero = self.range_of(value)
            info = np.iinfo(self.type)
            self.constants[f"{name}_q"] = np.clip(np.rint(value / scale) + zero, info.min, info.max).astype(self.type)
            self.scales[name] = (scale, zero)
        return self.dequantized(name)

    def node(self, n: onnx.NodeProto, folded: set[str]) -> None:
        op, ins = n.op_type, list(n.input)
        if op in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            axis = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1}[op]
            lone = not self.per_channel or (op == "ConvTranspose" and _attributes(n).get("group", 1) > 1)
            x = self.dequantized(ins[0])
            w, scale = self.weight(ins[1], axis, lone)
            args = [x, w]
            if len(ins) > 2:
                args.append(self.bias(ins[2], np.asarray(self.scales[ins[0]][0] * scale, np.float32)))
        elif op in ("Clip", "Resize", "Pad", "PRelu", "Slice", "Reshape", "Split"):
            args = [self.dequantized(ins[0]), *ins[1:]]
        else:
            args = [self.operand(i) for i in ins]
        for i in ins:
            if i in self.net.constants and i in args:
                self.constants[i] = self.net.constants[i]
        y = n.output[0]
        if op != "Relu" and y in folded and sum(y in m.input for m in self.net.nodes) == 1:
            self.nodes.append((op, args, [y], _attributes(n)))  # no pair between an operator and its Relu
            return
        raw = [f"{o}_raw" for o in n.output]
        self.nodes.append((op, args, raw, _attributes(n)))
        for o, r in zip(n.output, raw, strict=True):
            kept = op in SAME_SCALE and ins[0] in self.scales
            self.quantize(r, o, *(self.scales[ins[0]] if kept else self.range_of(self.net.values[o])))


def layer(net: Net, draw: Any, x: str, kinds: tuple[str, ...] = KINDS) -> str:
    """One more layer on x, or x itself where the drawn one is impossible there."""
    shape = net.values[x].shape
    kind = draw(st.sampled_from(kinds))
    if len(shape) != 4:
        return _flat_layer(net, draw, x, kind)
    _, c, h, w = shape
    whole = lambda *a, **k: (net.emit(*a, **k) or [x])[0]  # noqa: E731
    if kind in ("conv", "depthwise", "grouped"):
        kernel = [draw(st.sampled_from([1, 2, 3, 5, 7, h])), draw(st.sampled_from([1, 3, 4, w]))]
        groups = {"conv": 1, "depthwise": c}.get(kind) or next(g for g in (4, 3, 2, 1) if c % g == 0)
        m = groups * draw(st.integers(1, 23 if groups == 1 else 3))
        args = [x, net.weights(m, c // groups, *kernel)]
        if draw(st.booleans()):
            args.append(net.const((net.rng.standard_normal(m) * 0.2).astype(np.float32)))
        return whole(
            "Conv", args, group=groups, strides=[draw(st.integers(1, 4)), draw(st.integers(1, 3))],
            pads=[draw(st.integers(0, 4)) for _ in range(4)],
            dilations=[draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2]))],
        )  # fmt: skip
    if kind == "transposed":
        m, k = draw(st.integers(1, 9)), [draw(st.integers(1, 4)), draw(st.integers(1, 4))]
        args = [x, net.weights(c, m, *k)]
        if draw(st.booleans()):
            args.append(net.const((net.rng.standard_normal(m) * 0.2).astype(np.float32)))
        return whole(
            "ConvTranspose", args, strides=[draw(st.integers(1, 3)), draw(st.integers(1, 2))],
            pads=[draw(st.integers(0, 1)) for _ in range(4)],
        )  # fmt: skip
    if kind in ("max", "average"):
        kernel = [draw(st.sampled_from([2, 3, 5, h])), draw(st.sampled_from([1, 2, 3]))]
        more: dict[str, Any] = {"ceil_mode": draw(st.integers(0, 1))}
        if kind == "average":
            more["count_include_pad"] = draw(st.integers(0, 1))
        return whole(
            "MaxPool" if kind == "max" else "AveragePool", [x], kernel_shape=kernel,
            strides=[draw(st.integers(1, 3)), draw(st.integers(1, 3))],
            pads=[draw(st.integers(0, k - 1)) for k in (*kernel, *kernel)], **more,
        )  # fmt: skip
    if kind == "residual":
        same = [t for t, v in net.values.items() if v.shape == shape]
        return whole(draw(st.sampled_from(["Add", "Add", "Mul"])), [x, draw(st.sampled_from(same))])
    if kind == "broadcast":
        other = tuple(draw(st.sampled_from([1, s])) for s in shape)
        value = net.rng.standard_normal(other).astype(np.float32)
        b = net.input(other) if draw(st.booleans()) and len(net.inputs) < 3 else net.const(value)
        return whole(draw(st.sampled_from(["Add", "Mul"])), [x, b] if draw(st.booleans()) else [b, x])
    if kind == "concat":
        axis = draw(st.integers(1, 3))
        fits = [t for t, v in net.values.items() if v.ndim == 4 and _like(v.shape, shape, axis)]
        return whole("Concat", [x, draw(st.sampled_from(fits)), *([x] if draw(st.booleans()) else [])], axis=axis)
    if kind == "split":
        axis = draw(st.integers(1, 3))
        if shape[axis] < 2:
            return x
        at = draw(st.integers(1, shape[axis] - 1))
        got = net.emit("Split", [x, net.const(np.asarray([at, shape[axis] - at]))], 2, axis=axis)
        return draw(st.sampled_from(got)) if got else x
    if kind == "slice":
        axis = draw(st.integers(1, 3))
        first, step = draw(st.integers(0, shape[axis] - 1)), draw(st.sampled_from([1, 2, 3]))
        names = [net.const(np.asarray([v], np.int64)) for v in (first, shape[axis], axis, step)]
        return whole("Slice", [x, *names])
    if kind == "resize":
        scales = net.const(np.asarray([1, 1, draw(st.integers(1, 3)), draw(st.integers(1, 2))], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return whole("Resize", [x, "", scales], **how)
    if kind == "depth_to_space":
        if draw(st.booleans()):
            return whole("SpaceToDepth", [x], blocksize=2)
        return whole("DepthToSpace", [x], blocksize=2, mode=draw(st.sampled_from(["DCR", "CRD"])))
    if kind == "pad":
        pads = [0, draw(st.integers(0, 2)), *(draw(st.integers(0, 3)) for _ in range(2))]
        ends = [0, draw(st.integers(0, 2)), *(draw(st.integers(0, 3)) for _ in range(2))]
        return whole("Pad", [x, net.const(np.asarray([*pads, *ends], np.int64))])
    if kind == "matmul":
        return whole("MatMul", [x, net.weights(w, draw(st.integers(1, 12)))])
    if kind == "gemm":
        flat = net.emit("Flatten", [x], axis=1)
        return _flat_layer(net, draw, flat[0], "gemm") if flat else x
    if kind == "transpose":
        return whole("Transpose", [x], perm=[0, *draw(st.permutations([1, 2, 3]))])
    if kind == "mean":
        mean = net.emit("GlobalAveragePool", [x])
        gate = mean and net.emit("HardSigmoid", mean)
        return whole("Mul", [x, gate[0]]) if gate else x
    if kind == "softmax":
        return whole("Softmax", [x], axis=1)
    return _activation(net, draw, x, (c, 1, 1))


def _activation(net: Net, draw: Any, x: str, slope: tuple[int, ...]) -> str:
    op = draw(st.sampled_from(ACTIVATIONS))
    more = {"Clip": lambda: [net.const(np.float32(-0.3)), net.const(np.float32(0.9))],
            "PRelu": lambda: [net.const(np.abs(net.rng.standard_normal(slope)).astype(np.float32))]}  # fmt: skip
    return (net.emit(op, [x, *more.get(op, list)()]) or [x])[0]


def _flat_layer(net: Net, draw: Any, x: str, kind: str) -> str:
    shape = net.values[x].shape
    if kind == "residual":
        same = [t for t, v in net.values.items() if v.shape == shape]
        return (net.emit("Add", [x, draw(st.sampled_from(same))]) or [x])[0]
    if kind == "activation" or len(shape) != 2:
        return _activation(net, draw, x, shape[1:])
    m = draw(st.integers(1, 40))
    w, b = net.weights(shape[1], m), net.const((net.rng.standard_normal(m) * 0.2).astype(np.float32))
    return (net.emit("Gemm", [x, w, b]) or [x])[0]


def _like(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> bool:
    return all(x == y for k, (x, y) in enumerate(zip(a, b, strict=True)) if k != axis)


@st.composite
def nets(draw: Any, most: int = 6) -> tuple[Net, list[str]]:
    """A net and its outputs: the last tensor, sometimes one from the middle too."""
    net = Net(draw(st.integers(0, 1 << 16)))
    sizes = st.sampled_from([1, 2, 3, 5, 7, 8, 11, 13, 16, 17, 19])
    x = net.input((draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 12)), draw(sizes), draw(sizes)))
    x = layer(net, draw, x, ("conv", "conv", "depthwise", "broadcast"))
    for _ in range(draw(st.integers(1, most))):
        x = layer(net, draw, x)
    assume(net.nodes)
    outputs = [net.nodes[-1].output[0]]
    extra = draw(st.sampled_from(sorted(o for n in net.nodes for o in n.output)))
    return net, [*outputs, *([extra] if extra not in outputs and draw(st.booleans()) else [])]
