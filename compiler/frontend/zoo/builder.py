"""A small layer-by-layer builder of float ONNX models with seeded, He-scaled weights."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Collects nodes and weights. Methods take and give tensor names; `shapes` follows NCHW shapes along."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.rng = np.random.default_rng([seed, *name.encode()])
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def input(self, name: str, *shape: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.shapes[name] = shape
        return name

    def output(self, x: str, name: str) -> None:
        self.nodes[-1].output[0] = name if self.nodes[-1].output[0] == x else self.nodes[-1].output[0]
        if name not in [o for n in self.nodes for o in n.output]:
            self.nodes.append(helper.make_node("Identity", [x], [name], name=f"{name}_identity"))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[x]))

    def weight(self, name: str, value: NDArray[Any]) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, shape: tuple[int, ...], **attributes: Any) -> str:
        y = f"{name}_out"
        self.nodes.append(helper.make_node(op, inputs, [y], name=name, **attributes))
        self.shapes[y] = shape
        return y

    def normal(self, shape: tuple[int, ...], fan_in: int, gain: float = 2.0) -> NDArray[np.float32]:
        value = self.rng.standard_normal(shape, np.float32)
        return (value * np.float32((gain / fan_in) ** 0.5)).astype(np.float32)

    def conv(
        self,
        x: str,
        name: str,
        out: int,
        k: int | tuple[int, int],
        *,
        stride: int = 1,
        pad: int = 0,
        groups: int = 1,
        bias: bool = True,
        gain: float = 2.0,
    ) -> str:
        n, c, h, w = self.shapes[x]
        kh, kw = (k, k) if isinstance(k, int) else k
        inputs = [
            x,
            self.weight(f"{name}.weight", self.normal((out, c // groups, kh, kw), c // groups * kh * kw, gain)),
        ]
        if bias:
            inputs.append(self.weight(f"{name}.bias", (self.rng.standard_normal(out) * 0.05).astype(np.float32)))
        oh, ow = (h + 2 * pad - kh) // stride + 1, (w + 2 * pad - kw) // stride + 1
        return self.node(
            "Conv",
            inputs,
            name,
            (n, out, oh, ow),
            kernel_shape=[kh, kw],
            strides=[stride] * 2,
            pads=[pad] * 4,
            group=groups,
        )

    def conv_transpose(self, x: str, name: str, out: int, k: int, *, stride: int, pad: int = 0) -> str:
        n, c, h, w = self.shapes[x]
        weight = self.weight(f"{name}.weight", self.normal((c, out, k, k), c * max(1, k * k // stride**2), 1.0))
        bias = self.weight(f"{name}.bias", (self.rng.standard_normal(out) * 0.05).astype(np.float32))
        shape = (n, out, (h - 1) * stride + k - 2 * pad, (w - 1) * stride + k - 2 * pad)
        return self.node(
            "ConvTranspose", [x, weight, bias], name, shape, kernel_shape=[k, k], strides=[stride] * 2, pads=[pad] * 4
        )

    def batchnorm(self, x: str, name: str) -> str:
        c = self.shapes[x][1]
        values = {
            "weight": self.rng.uniform(0.8, 1.2, c),
            "bias": self.rng.standard_normal(c) * 0.1,
            "running_mean": self.rng.standard_normal(c) * 0.1,
            "running_var": self.rng.uniform(0.8, 1.25, c),
        }
        inputs = [x, *(self.weight(f"{name}.{k}", v.astype(np.float32)) for k, v in values.items())]
        return self.node("BatchNormalization", inputs, name, self.shapes[x], epsilon=1e-5)

    def relu(self, x: str, name: str) -> str:
        return self.node("Relu", [x], name, self.shapes[x])

    def relu6(self, x: str, name: str) -> str:
        low, high = self._scalar("zero", 0.0), self._scalar("six", 6.0)
        return self.node("Clip", [x, low, high], name, self.shapes[x])

    def _scalar(self, name: str, value: float) -> str:
        if name not in [w.name for w in self.weights]:
            self.weight(name, np.asarray(value, np.float32))
        return name

    def leaky_relu(self, x: str, name: str, alpha: float = 0.1) -> str:
        return self.node("LeakyRelu", [x], name, self.shapes[x], alpha=alpha)

    def add(self, a: str, b: str, name: str) -> str:
        return self.node("Add", [a, b], name, self.shapes[a])

    def max_pool(
        self,
        x: str,
        name: str,
        k: int,
        *,
        stride: int,
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        ceil: bool = False,
    ) -> str:
        n, c, h, w = self.shapes[x]

        def out(d: int, before: int, after: int) -> int:
            span = d + before + after - k
            return (-(-span // stride) if ceil else span // stride) + 1

        shape = (n, c, out(h, pads[0], pads[2]), out(w, pads[1], pads[3]))
        return self.node(
            "MaxPool", [x], name, shape, kernel_shape=[k, k], strides=[stride] * 2, pads=list(pads), ceil_mode=int(ceil)
        )

    def global_average(self, x: str, name: str) -> str:
        return self.node("GlobalAveragePool", [x], name, (*self.shapes[x][:2], 1, 1))

    def flatten(self, x: str, name: str) -> str:
        return self.node("Flatten", [x], name, (self.shapes[x][0], prod(self.shapes[x][1:])), axis=1)

    def gemm(self, x: str, name: str, out: int) -> str:
        n, k = self.shapes[x]
        inputs = [
            x,
            self.weight(f"{name}.weight", self.normal((out, k), k)),
            self.weight(f"{name}.bias", (self.rng.standard_normal(out) * 0.05).astype(np.float32)),
        ]
        return self.node("Gemm", inputs, name, (n, out), transB=1)

    def concat(self, xs: list[str], name: str) -> str:
        n, _, h, w = self.shapes[xs[0]]
        return self.node("Concat", xs, name, (n, sum(self.shapes[x][1] for x in xs), h, w), axis=1)

    def upsample2(self, x: str, name: str) -> str:
        n, c, h, w = self.shapes[x]
        if "scales2" not in [v.name for v in self.weights]:
            self.weight("scales2", np.asarray([1, 1, 2, 2], np.float32))
        return self.node(
            "Resize",
            [x, "", "scales2"],
            name,
            (n, c, 2 * h, 2 * w),
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def finish(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid("", 17)]
        opsets += [helper.make_opsetid(d, 1) for d in sorted({n.domain for n in self.nodes if n.domain})]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="fvc")
