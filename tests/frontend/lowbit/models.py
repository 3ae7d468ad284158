"""Small low-bit models in QONNX and in FINN's dialect, written as compactly as they can be read."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DOMAIN = "qonnx.custom_op.general"
Array = np.ndarray[Any, Any]


class Net:
    """Nodes by short calls: `y = b.quant(b.op("Conv", [x, w]), 0.5, 2, signed=0)`; weights and batch norms seeded."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.annotations: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}  # where qonnx cannot infer them
        self.count = 0

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        self.count += 1
        name = f"c{self.count}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def op(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        self.count += 1
        y = f"t{self.count}"
        self.nodes.append(helper.make_node(op, inputs, [y], name=f"n{self.count}_{op}", domain=domain, **attributes))
        return y

    def quant(
        self, x: str, scale: Any, bits: Any, signed: int = 1, narrow: int = 0, zero: Any = 0, mode: str = "ROUND"
    ) -> str:
        inputs = [x, self.const(scale), self.const(zero), self.const(bits)]
        return self.op("Quant", inputs, DOMAIN, signed=signed, narrow=narrow, rounding_mode=mode)

    def bipolar(self, x: str, scale: Any = 1.0) -> str:
        return self.op("BipolarQuant", [x, self.const(scale)], DOMAIN)

    def threshold(self, x: str, table: Array, scale: float = 1.0, bias: float = 0.0, layout: str = "") -> str:
        attributes = {"out_scale": scale, "out_bias": bias, "out_dtype": "INT8"}
        if layout:
            attributes["data_layout"] = layout
        return self.op("MultiThreshold", [x, self.const(table)], DOMAIN, **attributes)

    def normal(self, *shape: int) -> Array:
        return self.rng.normal(size=shape).astype(np.float32)

    def weight(self, *shape: int, bits: int = 2, per_channel: bool = True, power: bool = True) -> str:
        """A quantised seeded weight; bits 1 = bipolar."""
        value = self.const(self.normal(*shape))
        form = (shape[0], *[1] * (len(shape) - 1)) if per_channel else ()
        scale = 2.0 ** self.rng.integers(-3, 0, form) if power else self.rng.uniform(0.1, 0.6, form)
        if bits == 1:
            return self.bipolar(value, scale)
        return self.quant(value, scale, bits, narrow=1)

    def norm(self, x: str, channels: int) -> str:
        """A batch normalisation, some of whose slopes are negative."""
        r = self.rng
        values = [r.uniform(-1, 1, channels), r.normal(size=channels), r.normal(size=channels)]
        values.append(r.uniform(0.5, 2, channels))
        return self.op("BatchNormalization", [x, *(self.const(v) for v in values)], epsilon=1e-5)

    def model(self, shape: tuple[int, ...], *outputs: str, opset: int = 13) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "lowbit",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
            [numpy_helper.from_array(v, k) for k, v in self.constants.items()],
            value_info=[helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in self.shapes.items()],
        )
        for name, kind in self.annotations.items():
            note = onnx.TensorAnnotation(tensor_name=name)
            note.quant_parameter_tensor_names.add(key="finn_datatype", value=kind)
            graph.quantization_annotation.append(note)
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def convolutions(seed: int, *, bits: int = 2, act: int = 2, power: bool = True) -> onnx.ModelProto:
    """Conv, depthwise Conv, MaxPool, pointwise Conv with ReLU, linear layer. act 1 = bipolar."""
    b = Net(seed)

    def activation(x: str) -> str:
        scale = 0.5 if power else float(b.rng.uniform(0.3, 0.9))
        return b.bipolar(x) if act == 1 else b.quant(x, scale, act, signed=0)

    def layer(x: str, m: int, k: int, size: int, groups: int = 1) -> str:
        w = b.weight(m, k, size, size, bits=bits, power=power)
        y = b.op("Conv", [x, w], kernel_shape=[size] * 2, pads=[size // 2] * 4, group=groups)
        return activation(b.norm(y, m))

    x = b.quant("x", 2.0**-5 if power else 0.043, 8)
    x = layer(x, 8, 3, 3)
    x = layer(x, 8, 1, 3, groups=8)
    x = b.op("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = b.op("Flatten", [layer(x, 6, 8, 1)], axis=1)
    w = b.op("Transpose", [b.weight(10, 6 * 16, bits=bits, power=power)], perm=[1, 0])
    x = activation(b.op("MatMul", [x, w]))
    w = b.op("Transpose", [b.weight(5, 10, bits=bits, power=power, per_channel=False)], perm=[1, 0])
    return b.model((1, 3, 8, 8), b.op("Mul", [b.op("MatMul", [x, w]), b.const(0.3)]))


def residual(seed: int, *, unlike: bool = False) -> onnx.ModelProto:
    """Two branches added, thresholded by channel, averaged and truncated. unlike: scales without a common unit."""
    b = Net(seed)
    x = b.quant("x", 2.0**-5, 8)
    y = b.op("Conv", [x, b.weight(8, 3, 3, 3, bits=4)], kernel_shape=[3, 3], pads=[1] * 4)
    y = b.quant(b.norm(y, 8), 0.25, 4, signed=0)
    z = b.op("Conv", [y, b.weight(8, 8, 3, 3, bits=3)], kernel_shape=[3, 3], pads=[1] * 4)
    z = b.quant(b.norm(z, 8), 0.1875 if unlike else 0.25, 4)
    s = b.op("Add", [z, y])
    s = b.quant(s, 0.25, 5) if unlike else b.quant(b.op("Relu", [b.norm(s, 8)]), 0.5, 3, signed=0)
    p = b.op("AveragePool", [s], kernel_shape=[4, 4], strides=[4, 4])
    p = b.op("Mul", [p, b.const(16.0)])
    scale = 0.25 if unlike else 0.5
    t = b.op("Trunc", [p, b.const(scale), b.const(0), b.const(9), b.const(5)], DOMAIN, rounding_mode="FLOOR")
    t = b.op("Flatten", [t], axis=1)
    w = b.weight(7, 32, bits=4)
    y = b.op("Gemm", [t, w, b.const(b.normal(7))], transB=1)
    return b.model((1, 3, 8, 8), b.quant(y, 0.5, 8))


def finn(seed: int) -> onnx.ModelProto:
    """What FINN has after streamlining: an annotated integer input, Im2Col, MatMul, MultiThreshold, channels last."""
    b = Net(seed)
    b.annotations["x"] = "UINT8"
    r = b.rng

    def conv(x: str, c: int, m: int, size: int, low: int, high: int, scale: float, bias: float) -> str:
        x = b.op(
            "Im2Col", [x], DOMAIN, kernel_size=[3, 3], stride=[1, 1], pad_amount=[1] * 4, dilations=[1, 1], depthwise=0,
            input_shape=f"(1, {size}, {size}, {c})",
        )  # fmt: skip
        b.shapes[x] = (1, size, size, 9 * c)
        b.annotations[b.nodes[-1].input[0]] = "INT9"  # qonnx asks whether the padding is of the type
        x = b.op("MatMul", [x, b.const(r.integers(-2, 3, (9 * c, m)))])
        table = np.sort(r.integers(low, high, (m, 3)), axis=1) + 0.5
        y = b.threshold(x, table, scale, bias, "NHWC")
        b.shapes |= {x: (1, size, size, m), y: (1, size, size, m)}
        return y

    x = b.op("Transpose", ["x"], perm=[0, 2, 3, 1])
    x = conv(x, 3, 8, 6, -900, 900, 1.0, 0.0)
    x = conv(x, 8, 6, 6, -30, 30, 1.0, -1.0)
    x = b.op("MaxPoolNHWC", [x], DOMAIN, kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4)
    x = b.op("Reshape", [x, b.const([1, -1], np.int64)])
    x = b.op("MatMul", [x, b.const(r.choice([-1, 1], (54, 10)))])
    x = b.threshold(x, np.asarray([[0.0]]), 2.0, -1.0)
    y = b.op("MatMul", [x, b.const(r.choice([-1, 1], (10, 4)))])
    return b.model((1, 3, 6, 6), b.op("Add", [b.op("Mul", [y, b.const(0.25)]), b.const(b.normal(4))]))


def one_dimension(seed: int) -> onnx.ModelProto:
    """Convolutions over (1, C, L) with strides, groups, quantised biases and one-element scales, a mean."""
    b = Net(seed)
    x = b.quant("x", 2.0**-5, 8)
    for c, m, groups in ((3, 8, 1), (8, 8, 8), (8, 6, 2)):
        bias = b.quant(b.const(b.normal(m)), 2.0**-8, 16)
        w = b.weight(m, c // groups, 3, bits=4)
        y = b.op("Conv", [x, w, bias], kernel_shape=[3], pads=[1, 1], strides=[groups % 4 + 1], group=groups)
        x = b.quant(b.norm(y, m), [0.5], 4, signed=0)
    x = b.quant(b.op("ReduceMean", [x], axes=[2], keepdims=0), 0.25, 6)
    return b.model((1, 3, 24), b.op("Gemm", [x, b.weight(5, 6, bits=3)], transB=1))


def lowered(seed: int) -> onnx.ModelProto:
    """Im2Col with a depthwise matrix, quantised weights and a padding value; XNOR-popcount, out_bias as a node."""
    b = Net(seed)
    b.annotations["x"] = "UINT8"
    r = b.rng

    def columns(x: str, c: int, pad_value: int, depthwise: int) -> str:
        form = f"(1, 6, 6, {c})"
        y = b.op(
            "Im2Col", [x], DOMAIN, kernel_size=[3, 3], stride=[1, 1], pad_amount=[1] * 4, dilations=[1, 1],
            depthwise=depthwise, pad_value=pad_value, input_shape=form,
        )  # fmt: skip
        b.shapes[y] = (1, 6, 6, 9 * c)
        b.annotations.setdefault(x, "INT4")
        return y

    own = np.zeros((9, 4, 4), np.float32)  # [kh · kw][c][m]: every channel sees itself alone
    own[:, np.arange(4), np.arange(4)] = r.integers(-3, 4, (9, 4))
    x = b.op("Transpose", ["x"], perm=[0, 2, 3, 1])
    x = b.op("MatMul", [columns(x, 4, 3, 1), b.const(own.reshape(36, 4))])
    y = b.threshold(x, np.sort(r.integers(-900, 900, (4, 7)), axis=1), layout="NHWC")
    b.shapes |= {x: (1, 6, 6, 4), y: (1, 6, 6, 4)}
    y = b.op("Add", [y, b.const(-4.0)])
    w = b.quant(b.const(b.normal(36, 6)), np.full((1, 6), 0.25), 3, narrow=1)
    y = b.op("MatMul", [columns(y, 4, 0, 0), w])
    z = b.threshold(y, np.sort(r.normal(size=(6, 1)), axis=1), layout="NHWC")
    b.shapes |= {y: (1, 6, 6, 6), z: (1, 6, 6, 6)}
    y = b.op("XnorPopcountMatMul", [z, b.const(r.integers(0, 2, (6, 8)))], DOMAIN)
    z = b.threshold(y, np.sort(r.integers(0, 7, (8, 3)), axis=1), layout="NHWC")
    b.shapes |= {y: (1, 6, 6, 8), z: (1, 6, 6, 8)}
    z = b.op("DebugMarker", [z], DOMAIN, export_debug_name="here")
    b.shapes[z] = (1, 6, 6, 8)
    return b.model((1, 4, 6, 6), b.op("Mul", [z, b.const(0.5)]))


def between(seed: int) -> onnx.ModelProto:
    """What stands between a layer and its quantiser, or between a quantiser and its layer: a constant that leaves the
    zero point outside the type, a difference of two tensors, a flattened mean, a Gemm with alpha and beta; widths and
    scales given for every channel and all the same."""
    b = Net(seed)

    def conv(x: str, m: int, k: int, size: int) -> str:
        return b.op("Conv", [x, b.weight(m, k, size, size, bits=4)], kernel_shape=[size] * 2, pads=[size // 2] * 4)

    x = b.quant("x", np.full((1, 1, 1, 1), 2.0**-4), 8)
    x = b.op("Add", [b.quant(conv(x, 6, 3, 3), 0.5, 4, signed=0), b.const(1.0)])
    y, z = b.quant(conv(x, 6, 6, 3), 0.5, 4), b.quant(conv(x, 6, 6, 1), 0.5, 4)
    x = b.quant(b.op("Sub", [y, z]), 0.5, 5)
    x = b.quant(b.op("ReduceMean", [x], axes=[2, 3], keepdims=0), 0.125, 6)
    w = b.quant(b.const(b.normal(6, 10)), 0.25, 4)
    x = b.op("Gemm", [x, w, b.const(b.normal(10))], alpha=-0.5, beta=2.0)
    return b.model((1, 3, 8, 8), b.quant(x, 0.0625, 4))


def tokens(seed: int) -> onnx.ModelProto:
    """Matrix products over a sequence; the last one's sums leave in the order of the tensor."""
    b = Net(seed)
    x = b.quant("x", 2.0**-4, 8)
    x = b.quant(b.op("MatMul", [x, b.quant(b.const(b.normal(16, 8)), 0.25, 4)]), 0.5, 4, signed=0)
    return b.model((1, 12, 16), b.op("MatMul", [x, b.quant(b.const(b.normal(8, 5)), np.full((1, 5), 0.25), 4)]))


def rounding(seed: int, mode: str, *, zero: int = 0, signed: int = 0, narrow: int = 0) -> onnx.ModelProto:
    """One layer with a rounding mode, a zero point, a narrow or signed range."""
    b = Net(seed)
    x = b.quant("x", 2.0**-4, 6, signed=signed, narrow=narrow, zero=zero, mode=mode)
    y = b.op("Conv", [x, b.weight(6, 2, 3, 3, bits=3), b.const(b.normal(6))], kernel_shape=[3, 3], pads=[1, 0, 1, 0])
    y = b.quant(b.op("LeakyRelu", [y], alpha=0.125), 0.25, 4, signed=signed, narrow=narrow, zero=zero, mode=mode)
    y = b.quant(b.op("Sigmoid", [y]), 0.125, 3, signed=0, mode=mode)
    y = b.op("Conv", [y, b.weight(4, 6, 1, 1, bits=4, per_channel=False)], kernel_shape=[1, 1])
    return b.model((1, 2, 5, 6), b.quant(y, 0.5, 5, narrow=narrow, mode=mode))
