"""FINN's hardware graphs (MVAU_hls, ConvolutionInputGenerator_rtl, …) written in the operators that FINN made them of.

Needs an OnnxGraph with constants folded. A matrix unit becomes MatMul and MultiThreshold, its sliding window and
padding an Im2Col before it, a depthwise unit a Conv between transposes; FIFOs, width converters and duplicators vanish.
What is computed is what finn-plus 1.6.1 executes (`execute_node` of each class); names of older FINN mean the same.
Folding and memory attributes are not read: they are decided anew, or given by --fold-from. Tensors have their channels
last. Raises FVC122 for a class that has no such form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from compiler.frontend.onnxgraph import Node, OnnxGraph
from device_db.errors import FvcError

QONNX = "qonnx.custom_op.general"
_LAYOUTS = {2: "NC", 3: "NWC", 4: "NHWC"}
_FORMER = {"StreamingFCLayer": "MVAU", "MatrixVectorActivation": "MVAU", "VectorVectorActivation": "VVAU"} | {
    "Vector_Vector_Activate": "VVAU", "Thresholding_Bin_Search": "Thresholding", "FMPadding_Pixel": "FMPadding_Pixel",
}  # fmt: skip
_PASSED = {"StreamingFIFO", "StreamingDataWidthConverter", "TLastMarker", "DuplicateStreams", "CheckSum", "checksum"}
_BINARY = {"Add": "Add", "Sub": "Sub", "Mul": "Mul", "Div": "Div", "Max": "Max"}


def stem(op: str) -> str:
    """The class of a hardware operator without its variant: MVAU of MVAU_hls, MVAU_rtl and StreamingFCLayer_Batch."""
    for end in ("_hls", "_rtl", "_Batch", "1D"):
        op = op.removesuffix(end)
    return _FORMER.get(op, op)


def is_hardware(n: Node) -> bool:
    return n.domain.startswith("finn.")


def software(graph: OnnxGraph) -> None:
    """Rewrite the hardware nodes of `graph` in place."""
    if any(is_hardware(n) for n in graph.nodes):
        _Reader(graph).run()


class _Reader:
    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.made, self.users = graph.producers(), graph.consumers()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.nodes: list[Node] = []
        self.windows: dict[str, tuple[Node, Node | None]] = {}  # result of a sliding window -> it, its padding
        self.rules: dict[str, Callable[[Node], None]] = {
            "MVAU": self.mvau, "VVAU": self.vvau, "Thresholding": self.thresholding, "Pool": self.pool,
            "ConvolutionInputGenerator": self.window, "FMPadding": self.padding, "GlobalAccPool": self.sum,
            "StreamingMaxPool": self.max_pool, "AddStreams": self.binary, "StreamingEltwise": self.binary,
            "ChannelwiseOp": self.channelwise, "StreamingConcat": self.concat, "StreamingSplit": self.split,
            "UpsampleNearestNeighbour": self.upsample, "Shuffle": self.shuffle, "LabelSelect": self.label,
            "OuterShuffle": self.shuffle, "InnerShuffle": self.shuffle, "Reshape": self.reshape,
            "Squeeze": self.reshape, "Unsqueeze": self.reshape, "Crop": self.crop, "DownSampler": self.down,
            "Requant": self.requant, "HWSoftmax": self.softmax,
        }  # fmt: skip

    def run(self) -> None:
        for n in self.graph.nodes:
            if not is_hardware(n):
                for x in [i for i in n.inputs if i in self.windows]:  # a product that FINN did not make hardware
                    self.shapes[x] = self.im2col(*self.windows.pop(x), x)[1]
                self.nodes.append(n)
                continue
            kind = stem(n.op)
            if kind in _PASSED:
                for y in n.outputs:
                    self.pass_on(n, n.inputs[0], y)
            elif kind.startswith("Elementwise") and kind.removeprefix("Elementwise") in _BINARY:
                self.binary(n)
            elif kind in self.rules:
                self.rules[kind](n)
            else:
                raise unknown(n)
        self.graph.nodes = self.nodes
        self.graph.sort()
        self.graph.prune()

    # -- helpers ---------------------------------------------------------------------------------------------------

    def emit(self, op: str, inputs: Sequence[str], y: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        self.nodes.append(Node(op, list(inputs), [y], name or self.graph.fresh(f"{y}_{op}"), domain, attributes))
        return y

    def const(self, base: str, value: Any) -> str:
        name = self.graph.fresh(base)
        self.graph.constants[name] = np.asarray(value)
        return name

    def constant(self, n: Node, index: int, what: str) -> np.ndarray[Any, Any]:
        value = self.graph.constants.get(n.input(index))
        if value is None or not value.size:
            raise FvcError(
                "FVC122",
                f"the {what} of node '{n.name}' are not in the model",
                where=(f"{n.op}, input {index} '{n.input(index)}'",),
                help=("give the model as it is before its weights are written to other files",),
            )
        return value

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self.shapes.get(name) or self.graph.shape(name)

    def vectors(self, n: Node, last: int) -> tuple[int, ...]:
        return (*n.ints("numInputVectors", [1]), last)

    def formed(self, n: Node, x: str, wanted: tuple[int, ...]) -> str:
        """`x` in the shape that the unit reads: FINN leaves a Flatten out where the order of the elements is kept."""
        have = self.shape(x)
        if have == wanted:
            return x
        if have is not None and prod(have) != prod(wanted):
            raise misfit(n, f"it reads {list(wanted)}, its input is {list(have)}")
        form = self.const(f"{n.name}_form", np.asarray(wanted, np.int64))
        return self.emit("Reshape", [x, form], self.graph.fresh(f"{x}_formed"))

    def pass_on(self, n: Node, x: str, y: str) -> None:
        self.emit("Identity", [x], y, n.name if len(n.outputs) == 1 else "")
        shape = self.shape(x)
        if shape is not None:
            self.shapes[y] = shape
        if x in self.windows:
            self.windows[y] = self.windows[x]

    def activation(self, n: Node, at: int, x: str, y: str, rank: int, name: str = "") -> None:
        """The thresholds at input `at`, one row for all channels or one each."""
        table = self.constant(n, at, "thresholds")
        rows = table.reshape(-1, table.shape[-1])
        bipolar = n.text("outputDataType", "") == "BIPOLAR"
        scale, bias = (2.0, -1.0) if bipolar else (1.0, float(n.integer("ActVal", 0)))
        attributes = {"out_scale": scale, "out_bias": bias, "data_layout": _LAYOUTS.get(rank, "NHWC")}
        self.emit("MultiThreshold", [x, self.const(f"{y}_table", rows)], y, name, QONNX, **attributes)

    def behind(self, n: Node, x: str, y: str, half: int, shape: tuple[int, ...]) -> None:
        """What follows a product: for bipolar operands (dot + half) / 2, then the thresholds if there are any."""
        self.shapes[y] = shape
        last = "Identity" if n.integer("noActivation", 0) else "MultiThreshold"
        if half:
            more = self.emit("Add", [x, self.const(f"{y}_half", np.float32(half))], self.graph.fresh(f"{y}_more"))
            end = y if last == "Identity" else self.graph.fresh(f"{y}_count")
            x = self.emit("Mul", [more, self.const(f"{y}_two", np.float32(0.5))], end)
        elif last == "Identity":
            self.emit("Identity", [x], y)
        if last != "Identity":
            self.activation(n, 2, x, y, len(shape))

    # -- units -----------------------------------------------------------------------------------------------------

    def mvau(self, n: Node) -> None:
        weight = self.constant(n, 1, "weights")
        if weight.ndim != 2:
            raise misfit(n, f"its weights have {weight.ndim} dimensions")
        x, y = n.inputs[0], n.outputs[0]
        held = self.windows.get(x)
        window = self.im2col(*held, self.graph.fresh(f"{x}_columns")) if held is not None else None
        shape = self.vectors(n, int(weight.shape[0]))
        if window is None:
            x = self.formed(n, x, shape)
        else:
            x, shape = window
        plain = self.graph.fresh(f"{y}_dot")
        kinds = {n.text("inputDataType", ""), n.text("weightDataType", "")}
        if n.integer("binaryXnorMode", 0):
            self.emit("XnorPopcountMatMul", [x, n.inputs[1]], plain, n.name, QONNX)
        else:
            self.emit("MatMul", [x, n.inputs[1]], plain, n.name)
        half = int(weight.shape[0]) if kinds == {"BIPOLAR"} and not n.integer("binaryXnorMode", 0) else 0
        self.behind(n, plain, y, half, (*shape[:-1], int(weight.shape[1])))

    def im2col(self, w: Node, pad: Node | None, y: str) -> tuple[str, tuple[int, ...]]:
        """The Im2Col of a sliding window, for one reader; its result `y` and shape."""
        source = w.inputs[0] if pad is None else pad.inputs[0]
        kernel, out, c = w.ints("ConvKernelDim", []), w.ints("OFMDim", []), w.integer("IFMChannels", 0)
        size = w.ints("IFMDim", [])
        if not len(kernel) == len(out) == len(size) == 2 or min(*kernel, *out, *size, c) < 1:
            raise misfit(w, "its window is not said")
        pads = [0] * 4 if pad is None else pad.ints("Padding", [1] * 4)
        shape = (1, size[0] - pads[0] - pads[2], size[1] - pads[1] - pads[3], c)
        x = self.formed(w, source, shape)
        attributes = {
            "kernel_size": kernel, "stride": w.ints("Stride", [1, 1]), "dilations": w.ints("Dilation", [1, 1]),
            "pad_amount": pads, "depthwise": w.integer("depthwise", 0), "input_shape": str(shape),
        }  # fmt: skip
        self.emit("Im2Col", [x], y, self.graph.fresh(w.name), QONNX, **attributes)
        return y, (1, *out, kernel[0] * kernel[1] * c)

    def window(self, n: Node) -> None:
        """Remembered until its reader is known."""
        at = n.inputs[0]
        maker = self.made.get(at)
        while maker is not None and is_hardware(maker) and stem(maker.op) in _PASSED and len(self.users[at]) == 1:
            at = maker.inputs[0]
            maker = self.made.get(at)
        pad = maker if maker is not None and is_hardware(maker) and stem(maker.op) == "FMPadding" else None
        self.windows[n.outputs[0]] = (n, pad)

    def padding(self, n: Node) -> None:
        """Zeros around an image; sliding windows go past it to what it reads."""
        x, y, pads = n.inputs[0], n.outputs[0], n.ints("Padding", [1] * 4)
        around = self.const(f"{y}_pads", np.asarray([0, *pads[:2], 0, 0, *pads[2:], 0], np.int64))
        self.emit("Pad", [x, around], y, n.name)
        size, c = n.ints("ImgDim", []), n.integer("NumChannels", 0)
        if len(size) == 2:
            self.shapes[y] = (1, size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3], c)

    def vvau(self, n: Node) -> None:
        weight, channels = self.constant(n, 1, "weights"), n.integer("Channels", 0)
        kernel, y, x = n.ints("Kernel", [1, 1]), n.outputs[0], n.inputs[0]
        if len(kernel) != 2 or weight.size != channels * prod(kernel):
            raise misfit(n, "its weights do not fit its kernel")
        held = self.windows.get(x)
        if held is None and prod(kernel) > 1:
            raise misfit(n, "no sliding window stands before it")
        attributes: dict[str, Any] = {"kernel_shape": kernel, "group": channels}
        size = n.ints("Dim", [1, 1])
        if held is not None:
            w, pad = held
            x = w.inputs[0] if pad is None else pad.inputs[0]
            attributes |= {"strides": w.ints("Stride", [1, 1]), "dilations": w.ints("Dilation", [1, 1])}
            attributes["pads"] = [0] * 4 if pad is None else pad.ints("Padding", [1] * 4)
            size = w.ints("OFMDim", size)
        four = self.const(f"{n.name}_weight", weight.reshape(channels, 1, *kernel))
        y_shape = (1, *size, channels)
        fresh = self.graph.fresh
        first = self.emit("Transpose", [x], fresh(f"{y}_nchw_in"), perm=[0, 3, 1, 2])
        made = self.emit("Conv", [first, four], fresh(f"{y}_nchw"), n.name, **attributes)
        plain = self.emit("Transpose", [made], fresh(f"{y}_dot"), perm=[0, 2, 3, 1])
        bipolar = n.text("inputDataType", "") == n.text("weightDataType", "") == "BIPOLAR"
        self.behind(n, plain, y, prod(kernel) if bipolar else 0, y_shape)

    def thresholding(self, n: Node) -> None:
        x, y = n.inputs[0], n.outputs[0]
        shape = self.shape(x) or self.vectors(n, n.integer("NumChannels", 0))
        self.shapes[y] = shape
        self.activation(n, 1, x, y, len(shape), n.name)

    def pool(self, n: Node) -> None:
        """Pool over a sliding window."""
        held, y = self.windows.get(n.inputs[0]), n.outputs[0]
        if held is None:
            raise misfit(n, "no sliding window stands before it")
        w = held[0]
        kernel, stride = w.ints("ConvKernelDim", []), w.ints("Stride", [1, 1])
        x, function = w.inputs[0], n.text("Function", "")  # a padding is played: its zeros count
        self.shapes[y] = (1, *w.ints("OFMDim", []), n.integer("Channels", 0))
        if function == "MaxPool":
            attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": [0] * 4}
            self.emit("MaxPoolNHWC", [x], y, n.name, QONNX, **attributes)
            return
        if function == "QuantAvgPool" and len(set(kernel)) == len(set(stride)) == 1:
            bits = {k: _bits(n.text(k, "")) for k in ("InputDataType", "OutputDataType")}
            if None not in bits.values():
                attributes = {
                    "kernel": kernel[0], "stride": stride[0], "ibits": bits["InputDataType"],
                    "obits": bits["OutputDataType"], "data_layout": "NHWC",
                    "signed": int(n.text("OutputDataType", "").startswith("INT")),
                }  # fmt: skip
                self.emit("QuantAvgPool2d", [x], y, n.name, QONNX, **attributes)
                return
        if function not in ("AccPool", "AvgPool"):
            raise misfit(n, f"its function is '{function}'")
        fresh = self.graph.fresh
        first = self.emit("Transpose", [x], fresh(f"{y}_nchw_in"), perm=[0, 3, 1, 2])
        mean = self.emit("AveragePool", [first], fresh(f"{y}_nchw"), n.name, kernel_shape=kernel, strides=stride)
        if function == "AccPool":
            area = self.const(f"{y}_area", np.float32(prod(kernel)))
            mean = self.emit("Round", [self.emit("Mul", [mean, area], fresh(f"{y}_near"))], fresh(f"{y}_sum"))
        self.emit("Transpose", [mean], y, perm=[0, 2, 3, 1])

    def sum(self, n: Node) -> None:
        """GlobalAccPool."""
        x, y, c = n.inputs[0], n.outputs[0], n.integer("NumChannels", 0)
        shape, fresh = self.vectors(n, c), self.graph.fresh
        if len(shape) != 4:
            self.pass_on(n, x, y)
            return
        first = self.emit("Transpose", [self.formed(n, x, shape)], fresh(f"{y}_nchw_in"), perm=[0, 3, 1, 2])
        mean = self.emit("GlobalAveragePool", [first], fresh(f"{y}_nchw"), n.name)
        near = self.emit("Mul", [mean, self.const(f"{y}_area", np.float32(shape[1] * shape[2]))], fresh(f"{y}_near"))
        self.emit("Transpose", [self.emit("Round", [near], fresh(f"{y}_sum"))], y, perm=[0, 2, 3, 1])
        self.shapes[y] = (shape[0], 1, 1, c)

    def max_pool(self, n: Node) -> None:
        """StreamingMaxPool: windows side by side."""
        kernel = n.ints("PoolDim", [])
        attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": kernel, "pads": [0] * 4}
        attributes["ceil_mode"] = n.integer("CeilMode", 0)
        self.emit("MaxPoolNHWC", n.inputs[:1], n.outputs[0], n.name, QONNX, **attributes)

    def binary(self, n: Node) -> None:
        name = n.text("eltwiseOp", "Add") if stem(n.op) in ("StreamingEltwise", "AddStreams") else ""
        kind = _BINARY.get(name or stem(n.op).removeprefix("Elementwise"))
        if kind is None or len(n.inputs) != 2:
            raise unknown(n)
        self.emit(kind, n.inputs, n.outputs[0], n.name)
        shapes = [self.shape(i) for i in n.inputs]
        if None not in shapes:
            self.shapes[n.outputs[0]] = tuple(np.broadcast_shapes(*(s for s in shapes if s is not None)))

    def channelwise(self, n: Node) -> None:
        kind = {"add": "Add", "mul": "Mul"}.get(n.text("Func", "").lower())
        if kind is None:
            raise unknown(n)
        values = self.const(f"{n.name}_values", self.constant(n, 1, "parameters").reshape(-1))
        self.emit(kind, [n.inputs[0], values], n.outputs[0], n.name)
        self.shapes[n.outputs[0]] = self.shape(n.inputs[0]) or self.vectors(n, n.integer("NumChannels", 0))

    def concat(self, n: Node) -> None:
        self.emit("Concat", n.inputs, n.outputs[0], n.name, axis=-1)

    def split(self, n: Node) -> None:
        sizes = self.const(f"{n.name}_sizes", np.asarray(n.ints("ChannelsPerStream", []), np.int64))
        self.nodes.append(Node("Split", [n.inputs[0], sizes], n.outputs, n.name, "", {"axis": -1}))

    def upsample(self, n: Node) -> None:
        """Whole factors, each pixel repeated."""
        if "OFMDim" in n.attributes:  # older FINN: square images
            sizes = [n.integer("OFMDim", 0)] * 2 + [n.integer("IFMDim", 0)] * 2
        else:
            sizes = [n.integer(k, 0) for k in ("HO", "WO", "HI", "WI")]
        if min(sizes) < 1:
            raise misfit(n, "its image sizes are not said")
        factors = [1.0, 1.0, round(sizes[0] / sizes[2]), round(sizes[1] / sizes[3])]
        x, y, fresh = n.inputs[0], n.outputs[0], self.graph.fresh
        first = self.emit("Transpose", [x], fresh(f"{y}_nchw_in"), perm=[0, 3, 1, 2])
        scales = self.const(f"{y}_scales", np.asarray(factors, np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        made = self.emit("Resize", [first, "", scales], fresh(f"{y}_nchw"), n.name, **how)
        self.emit("Transpose", [made], y, perm=[0, 2, 3, 1])
        self.shapes[y] = (n.integer("batchSize", 1), sizes[0], sizes[1], n.integer("NumChannels", 0))

    def shuffle(self, n: Node) -> None:
        """Reshape, transpose, reshape."""
        x, y, perm = n.inputs[0], n.outputs[0], n.ints("perm", [])
        inner, outer = n.ints("transpose_in_shape", n.ints("in_shape", [])), n.ints("out_shape", [])
        if sorted(perm) != list(range(len(inner))) or not inner:
            raise misfit(n, "its permutation is not said")
        turned = [inner[k] for k in perm]
        end = y if turned == outer or not outer else self.graph.fresh(f"{y}_turned")
        self.emit("Transpose", [self.formed(n, x, tuple(inner))], end, n.name, perm=perm)
        self.shapes[end] = tuple(turned)
        if end != y:
            self.emit("Reshape", [end, self.const(f"{y}_form", np.asarray(outer, np.int64))], y)
            self.shapes[y] = tuple(outer)

    def reshape(self, n: Node) -> None:
        shape = n.ints("out_shape", self.graph.shape(n.outputs[0]) or ())
        if not shape:
            raise misfit(n, "its shape is not said")
        form = self.const(f"{n.name}_form", np.asarray(shape, np.int64))
        self.emit("Reshape", [n.inputs[0], form], n.outputs[0], n.name)
        self.shapes[n.outputs[0]] = tuple(shape)

    def label(self, n: Node) -> None:
        """LabelSelect: the K greatest, the lower index first; indices come as floats."""
        y, k = n.outputs[0], n.integer("K", 1)
        x = self.formed(n, n.inputs[0], self.vectors(n, n.integer("Labels", 0)))
        index = self.graph.fresh(f"{y}_index")
        count = self.const(f"{y}_k", np.asarray([k], np.int64))
        self.nodes.append(Node("TopK", [x, count], [self.graph.fresh(f"{y}_values"), index], n.name))
        self.emit("Cast", [index], y, to=1)

    def crop(self, n: Node) -> None:
        size = n.ints("ImgDim", [])
        sides = [n.integer(f"Crop{s}", 0) for s in ("North", "West", "South", "East")]
        if len(size) != 2:
            raise misfit(n, "its image size is not said")
        begin = self.const(f"{n.name}_begin", np.asarray(sides[:2], np.int64))
        end = self.const(f"{n.name}_end", np.asarray([size[0] - sides[2], size[1] - sides[3]], np.int64))
        axes = self.const(f"{n.name}_axes", np.asarray([-3, -2], np.int64))
        self.emit("Slice", [n.inputs[0], begin, end, axes], n.outputs[0], n.name)

    def down(self, n: Node) -> None:
        """DownSampler: every Stride-th pixel of both axes."""
        shape = self.shape(n.inputs[0])
        if shape is None or len(shape) != 4 or n.integer("is1D", 0):
            raise misfit(n, "it reads no image")
        axes = self.const(f"{n.name}_axes", np.asarray([1, 2], np.int64))
        begin, end, steps = (
            self.const(f"{n.name}_{what}", np.asarray(v, np.int64))
            for what, v in (("begin", [0, 0]), ("end", shape[1:3]), ("steps", [n.integer("Stride", 1)] * 2))
        )
        self.emit("Slice", [n.inputs[0], begin, end, axes, steps], n.outputs[0], n.name)

    def softmax(self, n: Node) -> None:
        self.emit("Softmax", n.inputs[:1], n.outputs[0], n.name, axis=-1)

    def requant(self, n: Node) -> None:
        """clip(floor(x·scale + bias + 0.5)) to the result's type."""
        kind, y, fresh = n.text("outputDataType", ""), n.outputs[0], self.graph.fresh
        bits = _bits(kind)
        if bits is None:
            raise misfit(n, f"its result is of the type '{kind}'")
        scale = self.constant(n, 1, "scales") if n.input(1) else np.ones(1)
        bias = self.constant(n, 2, "biases") if n.input(2) else np.zeros(1)
        scaled = self.emit(
            "Mul", [n.inputs[0], self.const(f"{y}_factor", scale.astype(np.float32))], fresh(f"{y}_wide")
        )
        moved = self.emit("Add", [scaled, self.const(f"{y}_bias", bias.astype(np.float32))], fresh(f"{y}_moved"))
        half = self.emit("Add", [moved, self.const(f"{y}_half", np.float32(0.5))], fresh(f"{y}_half"))
        rest = [self.const(f"{y}_{k}", np.float32(v)) for k, v in (("one", 1), ("zero", 0), ("bits", bits))]
        how = {"signed": int(kind.startswith("INT")), "narrow": n.integer("narrow", 0), "rounding_mode": "FLOOR"}
        self.emit("Quant", [half, *rest], y, n.name, QONNX, **how)


def _bits(kind: str) -> int | None:
    fixed = {"BIPOLAR": 1, "BINARY": 1, "TERNARY": 2}
    digits = kind.removeprefix("U").removeprefix("INT")
    return fixed.get(kind, int(digits) if digits.isdigit() and kind.startswith(("INT", "UINT")) else None)


def misfit(n: Node, why: str) -> FvcError:
    return FvcError("FVC122", f"node '{n.name}' ({n.op}) cannot be read: {why}", where=(f"node '{n.name}'",))


def unknown(n: Node) -> FvcError:
    held = stem(n.op) in ("StreamingDataflowPartition", "FINNLoop", "GenericPartition")
    lever = "its body stands in a file of its own (attribute `model`): take that" if held else (
        "take the model before it is made hardware (FINN's step_streamline or earlier)"
    )  # fmt: skip
    return FvcError(
        "FVC122",
        f"the operator {n.op} of domain '{n.domain}' is not known",
        where=(f"node '{n.name}'",),
        help=(lever,),
    )
