"""Low-bit models that cannot be taken: one error with its code and place, never a traceback."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from compiler.frontend import load_proto
from device_db.errors import FvcError
from tests.frontend.lowbit.models import DOMAIN, Net


def conv(x_scale: object = 0.25, w_scale: object = 0.5, **quant: object) -> onnx.ModelProto:
    b = Net(1)
    x = b.quant("x", 0.5, 4)
    x = b.quant(b.op("Conv", [x, b.weight(4, 3, 1, 1)], kernel_shape=[1, 1]), x_scale, **{"bits": 4} | quant)  # type: ignore[arg-type]
    w = b.quant(b.const(b.normal(6, 4, 1, 1)), w_scale, 4)
    y = b.quant(b.op("Conv", [x, w], kernel_shape=[1, 1]), 0.5, 4)
    return b.model((1, 3, 4, 4), y)


def not_constant(index: int) -> onnx.ModelProto:
    b = Net(1)
    inputs = ["x", b.const(0.5), b.const(0.0), b.const(4)]
    inputs[index] = b.op("ReduceMax", ["x"], keepdims=0)
    y = b.op("Quant", inputs, DOMAIN, signed=1, narrow=0, rounding_mode="ROUND")
    return b.model((1, 3), y)


def custom(op: str, domain: str = DOMAIN, **attributes: object) -> onnx.ModelProto:
    b = Net(1)
    return b.model((1, 3, 4, 4), b.op(op, ["x", b.const(0.5), b.const(0), b.const(4)], domain, **attributes))


def threshold(table: object, **attributes: object) -> onnx.ModelProto:
    b = Net(1)
    return b.model((1, 3, 4, 4), b.op("MultiThreshold", ["x", b.const(table)], DOMAIN, **attributes))


CASES: dict[str, tuple[Callable[[], onnx.ModelProto], str, str]] = {
    "activation scale by channel into a dense layer": (
        lambda: conv(np.reshape([0.25, 0.5, 0.25, 0.125], (1, 4, 1, 1))), "FVC120", "4 scales along the axis",
    ),
    "weight scale along the sum": (
        lambda: conv(w_scale=np.reshape([0.25, 0.5, 0.25, 0.5], (1, 4, 1, 1))), "FVC120", "within an output channel",
    ),
    "scale of zero": (lambda: conv(0.0), "FVC120", "not a positive number"),
    "negative scale": (lambda: conv(-0.5), "FVC120", "not a positive number"),
    "infinite scale": (lambda: conv(np.inf), "FVC120", "not a positive number"),
    "scale is not a number": (lambda: conv(np.nan), "FVC120", "not a positive number"),
    "no scale": (lambda: conv(np.zeros(0)), "FVC120", "empty"),
    "scale is computed": (lambda: not_constant(1), "FVC120", "not constant"),
    "zero point is computed": (lambda: not_constant(2), "FVC120", "not constant"),
    "bit width is computed": (lambda: not_constant(3), "FVC121", "not constant"),
    "zero point of a half": (lambda: conv(zero=0.5), "FVC120", "not a whole number"),
    "no bits": (lambda: conv(bits=0), "FVC121", "bit width of 0"),
    "negative bits": (lambda: conv(bits=-2), "FVC121", "bit width of -2"),
    "half a bit": (lambda: conv(bits=2.5), "FVC121", "bit width of 2.5"),
    "33 bits": (lambda: conv(bits=33), "FVC121", "bit width of 33"),
    "one unsigned narrow bit": (lambda: conv(bits=1, signed=0, narrow=1), "FVC121", "no two levels"),
    "rounding mode": (lambda: conv(mode="STOCHASTIC"), "FVC122", "rounding mode 'STOCHASTIC'"),
    "operator": (lambda: custom("FloatQuant"), "FVC122", "FloatQuant"),
    "FINN hardware operator": (lambda: custom("MVAU_hls", "finn.custom_op.fpgadataflow.hls"), "FVC122", "MVAU_hls"),
    "thresholds of another layer": (lambda: threshold(np.zeros((5, 3))), "FVC122", "5 rows"),
    "thresholds of rank 1": (lambda: threshold(np.zeros(3)), "FVC122", "no table"),
    "threshold is not a number": (lambda: threshold(np.full((3, 1), np.nan)), "FVC122", "no table"),
    "threshold scale": (lambda: threshold(np.zeros((3, 3)), out_scale=-1.0), "FVC120", "not positive"),
    "threshold bias": (lambda: threshold(np.zeros((3, 3)), out_scale=0.3, out_bias=0.1), "FVC120", "not on the grid"),
    "Im2Col alone": (lambda: custom("Im2Col", kernel_size=[1, 1]), "FVC122", "not followed by one MatMul"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_quantiser(name: str) -> None:
    make, code, text = CASES[name]
    with pytest.raises(FvcError) as caught:
        load_proto(make())
    assert caught.value.code == code
    assert text in f"{caught.value.what} {caught.value.where}"
    assert caught.value.exit_code == 2


def test_missing_parameter_is_no_traceback() -> None:
    for count in (1, 2, 3):
        b = Net(1)
        inputs = ["x", b.const(0.5), b.const(0)][:count]
        with pytest.raises(FvcError):
            load_proto(b.model((1, 3), b.op("Quant", inputs, DOMAIN)))


def test_own_operator_without_definition() -> None:
    b = Net(1)
    y = b.op("ConvThreshold2", ["x"] * 8, "fvc")
    model = b.model((1, 3, 4, 4), y)
    model.opset_import.add(domain="fvc", version=1)
    with pytest.raises(FvcError) as caught:
        load_proto(model)
    assert caught.value.code == "FVC105"


def reasons(model: onnx.ModelProto) -> str:
    return " | ".join(s.reason for s in load_proto(model).host_segments)


def test_wider_than_eight_bits_runs_on_the_host() -> None:
    assert "more than 8 bits" in reasons(conv(2.0**-9, bits=12))


def test_float_weights_run_on_the_host() -> None:
    b = Net(1)
    x = b.quant("x", 0.5, 4)
    y = b.quant(b.op("Conv", [x, b.const(b.normal(4, 3, 1, 1))], kernel_shape=[1, 1]), 0.5, 4)
    assert "its weights are not quantised" in reasons(b.model((1, 3, 4, 4), y))


def test_an_activation_that_falls_and_rises_runs_on_the_host() -> None:
    b = Net(1)
    x = b.quant("x", 0.5, 4)
    y = b.op("Conv", [x, b.weight(4, 3, 1, 1)], kernel_shape=[1, 1])
    y = b.quant(b.op("Abs", [y]), 0.5, 4)
    assert "rises and falls" in reasons(b.model((1, 3, 4, 4), y))


def first(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if n.op_type == op)


def without_weights(model: onnx.ModelProto) -> None:
    first(model, "Conv").input.pop()


def another_kernel(model: onnx.ModelProto) -> None:
    next(a for a in first(model, "Conv").attribute if a.name == "kernel_shape").ints[:] = [3, 3]


def more_channels(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].CopyFrom(dimension(7))


def scale_of_another_layer(model: onnx.ModelProto) -> None:
    weight = [n for n in model.graph.node if n.op_type == "Quant" and n.input[0].startswith("c")]
    weight[1].input[1] = weight[0].input[0]


@pytest.mark.parametrize(
    "change, code",
    [
        (without_weights, "FVC105"),
        (another_kernel, "FVC113"),
        (more_channels, "FVC113"),
        (scale_of_another_layer, "FVC1"),
    ],
)
def test_broken_graphs(change: Callable[[onnx.ModelProto], None], code: str) -> None:
    model = conv()
    change(model)
    with pytest.raises(FvcError) as caught:
        load_proto(model)
    assert caught.value.exit_code == 2
    assert caught.value.code.startswith(code)


def dimension(size: int) -> onnx.TensorShapeProto.Dimension:
    return onnx.TensorShapeProto.Dimension(dim_value=size)


def test_infinite_steps_run_on_the_host() -> None:
    b = Net(1)
    x = b.quant("x", 0.5, 4)
    y = b.op("Conv", [x, b.weight(4, 3, 1, 1)], kernel_shape=[1, 1])
    y = b.op("Trunc", [b.op("Mul", [y, b.const(1e38)]), b.const(0.5), b.const(0), b.const(9), b.const(5)], DOMAIN)
    assert "infinite or undefined" in reasons(b.model((1, 3, 4, 4), y))
