"""Trains the shipped example, a small residual CNN on scikit-learn's handwritten digits, in NumPy alone.

Writes beside this file: digits.onnx (float model), digits_calibration.npz (images for post-training quantization) and
digits_test.npz (images and labels that neither training nor calibration saw). Seeded; about a minute on one core.

    python examples/train_digits.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
HERE = Path(__file__).parent
EPOCHS, BATCH, RATE = 100, 32, 4e-3
TEST, CALIBRATION = 500, 64


def load() -> tuple[Array, NDArray[np.int64], Array, NDArray[np.int64]]:
    """Train and test images (N, 1, 8, 8) in 0…1 with their labels, shuffled by a fixed seed."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = (digits.images[order, None] / 16).astype(np.float32)
    y = digits.target[order].astype(np.int64)
    return x[TEST:], y[TEST:], x[:TEST], y[:TEST]


def windows(x: Array) -> Array:
    """The 3 x 3 neighbourhoods of a zero-padded image: (N, C, H, W) -> (N, H, W, C * 9)."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(n, h, w, c * 9)


class Conv:
    """3 x 3 convolution, stride 1, same size, with its gradient."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        spread = np.sqrt(2 / (9 * inputs))
        self.weight = (rng.standard_normal((outputs, inputs, 3, 3)) * spread).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x: Array) -> Array:
        self.columns = windows(x)
        y = self.columns @ self.weight.reshape(len(self.bias), -1).T + self.bias
        return y.transpose(0, 3, 1, 2)

    def backward(self, dy: Array) -> Array:
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, len(self.bias))
        self.d_weight = (rows.T @ self.columns.reshape(len(rows), -1)).reshape(self.weight.shape)
        self.d_bias = rows.sum(0)
        turned = self.weight[:, :, ::-1, ::-1].transpose(1, 0, 2, 3).reshape(self.weight.shape[1], -1)
        return (windows(dy) @ turned.T).transpose(0, 3, 1, 2)


class Linear:
    """Fully connected layer, (N, inputs) -> (N, outputs)."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        self.weight = (rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)).astype(np.float32)
        self.bias = np.zeros(outputs, np.float32)

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.weight.T + self.bias

    def backward(self, dy: Array) -> Array:
        self.d_weight, self.d_bias = dy.T @ self.x, dy.sum(0)
        return dy @ self.weight


class Network:
    """conv-relu-maxpool, conv-relu, conv-add-relu (residual), global average, linear."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.conv1, self.conv2, self.conv3 = Conv(rng, 1, 16), Conv(rng, 16, 32), Conv(rng, 32, 32)
        self.linear = Linear(rng, 32, 10)
        self.layers = (self.conv1, self.conv2, self.conv3, self.linear)

    def forward(self, x: Array) -> Array:
        n = len(x)
        self.a = np.maximum(self.conv1.forward(x), 0)
        blocks = self.a.reshape(n, 16, 4, 2, 4, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, 16, 4, 4, 4)
        self.best = blocks.argmax(-1)
        self.b = np.maximum(self.conv2.forward(blocks.max(-1)), 0)
        self.c = np.maximum(self.conv3.forward(self.b) + self.b, 0)
        return self.linear.forward(self.c.mean((2, 3)))

    def backward(self, dy: Array) -> None:
        dc = np.broadcast_to(self.linear.backward(dy)[:, :, None, None] / 16, self.c.shape) * (self.c > 0)
        db = (self.conv3.backward(dc) + dc) * (self.b > 0)
        dp = self.conv2.backward(db)
        n = len(dy)
        blocks = np.zeros((n, 16, 4, 4, 4), np.float32)
        np.put_along_axis(blocks, self.best[..., None], dp[..., None], -1)
        da = blocks.reshape(n, 16, 4, 4, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, 16, 8, 8)
        self.conv1.backward(da * (self.a > 0))


def train(x: Array, y: NDArray[np.int64], seed: int = 0) -> Network:
    """Adam on the cross entropy, with the rate falling as a cosine, shifting the images by up to a pixel."""
    network, rng = Network(seed), np.random.default_rng(seed + 1)
    names = [(layer, name) for layer in network.layers for name in ("weight", "bias")]
    first = [np.zeros_like(getattr(layer, name)) for layer, name in names]
    second = [np.zeros_like(m) for m in first]
    step, total = 0, EPOCHS * (len(x) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            step += 1
            pick = order[start : start + BATCH]
            shift = rng.integers(-1, 2, 2)
            padded = np.pad(x[pick], ((0, 0), (0, 0), (1, 1), (1, 1)))
            images = padded[:, :, 1 + shift[0] : 9 + shift[0], 1 + shift[1] : 9 + shift[1]]
            logits = network.forward(images)
            p = np.exp(logits - logits.max(1, keepdims=True))
            p /= p.sum(1, keepdims=True)
            p[np.arange(BATCH), y[pick]] -= 1
            network.backward(p / BATCH)
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / total))
            for k, (layer, name) in enumerate(names):
                g = getattr(layer, f"d_{name}")
                first[k] = 0.9 * first[k] + 0.1 * g
                second[k] = 0.999 * second[k] + 0.001 * g * g
                update = first[k] / (1 - 0.9**step) / (np.sqrt(second[k] / (1 - 0.999**step)) + 1e-8)
                setattr(layer, name, (getattr(layer, name) - rate * update).astype(np.float32))
    return network


def export(network: Network, path: Path) -> None:
    """Writes the network as ONNX (opset 17), one image a run."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights, nodes = [], []
    for name, layer in zip(("conv1", "conv2", "conv3", "fc"), network.layers, strict=True):
        weights += [numpy_helper.from_array(getattr(layer, k), f"{name}.{k}") for k in ("weight", "bias")]

    def node(op: str, inputs: str, output: str, **attributes: object) -> None:
        nodes.append(helper.make_node(op, inputs.split(), [output], name=f"/{output}", **attributes))

    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    node("Conv", "image conv1.weight conv1.bias", "conv1", **same)
    node("Relu", "conv1", "relu1")
    node("MaxPool", "relu1", "pool", kernel_shape=[2, 2], strides=[2, 2])
    node("Conv", "pool conv2.weight conv2.bias", "conv2", **same)
    node("Relu", "conv2", "relu2")
    node("Conv", "relu2 conv3.weight conv3.bias", "conv3", **same)
    node("Add", "conv3 relu2", "add")
    node("Relu", "add", "relu3")
    node("GlobalAveragePool", "relu3", "mean")
    node("Flatten", "mean", "features")
    node("Gemm", "features fc.weight fc.bias", "scores", transB=1)
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10, producer_name="fvc")
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def main(folder: Path = HERE) -> None:
    x, y, test_x, test_y = load()
    network = train(x, y)
    right = float((network.forward(test_x).argmax(1) == test_y).mean())
    print(f"float accuracy on {len(test_y)} held-out digits: {100 * right:.1f} %")
    export(network, folder / "digits.onnx")
    np.savez_compressed(folder / "digits_calibration.npz", image=x[:CALIBRATION])
    np.savez_compressed(folder / "digits_test.npz", image=test_x, labels=test_y)


if __name__ == "__main__":
    main()
