"""Buffers hold what is copied together, a group of rows; and what is seen with other rows joins as it is."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from compiler.executor.stream.kernels import kernel
from compiler.executor.verify import verify_programs
from compiler.frontend import ImportOptions, load_proto
from compiler.ir.graph import Copy, Graph, Shape4
from compiler.ops.stream.buffer import frame_buffer
from compiler.ops.stream.parts import Element, Engine
from tests.streaming.both_netlists import differences
from tests.streaming.helpers import anyhow

C, H, W = 4, 6, 5


def dense(*shape: int) -> tuple[int, ...]:
    return tuple(prod(shape[k + 1 :]) for k in range(len(shape)))


def permuted(dims: tuple[int, ...], order: tuple[int, ...]) -> Copy:
    """The copy that numpy's transpose of an array of `dims` makes."""
    strides, out = dense(*dims), tuple(dims[k] for k in order)
    return Copy(0, out, 0, tuple(strides[k] for k in order), 0, dense(*out))


SQUARE: Shape4 = (1, C, H, W)
DEPTH_TO_SPACE = permuted((2, 2, C, H, W), (2, 3, 0, 4, 1))
SPACE_TO_DEPTH = permuted((C, H, 2, W, 2), (2, 4, 0, 1, 3))
# name: input, output, copies, groups of rows that are copied apart
MOVES: dict[str, tuple[Shape4, Shape4, tuple[Copy, ...], int]] = {
    "depth to space": ((1, 4 * C, H, W), (1, C, 2 * H, 2 * W), (DEPTH_TO_SPACE,), H),
    "space to depth": ((1, C, 2 * H, 2 * W), (1, 4 * C, H, W), (SPACE_TO_DEPTH,), H),
    "channels reversed": (SQUARE, SQUARE, (Copy(0, (C, H, W), (C - 1) * H * W, (-H * W, W, 1), 0, dense(C, H, W)),), H),
    "columns reversed": (SQUARE, SQUARE, (Copy(0, (C, H, W), W - 1, (H * W, W, -1), 0, dense(C, H, W)),), H),
    "rows reversed in threes": (
        SQUARE, SQUARE, (Copy(0, (C, 2, 3, W), 2 * W, (H * W, 3 * W, -W, 1), 0, dense(C, 2, 3, W)),), 2,
    ),
    "rows reversed": (SQUARE, SQUARE, (Copy(0, (C, H, W), (H - 1) * W, (H * W, -W, 1), 0, dense(C, H, W)),), 1),
    "rows and columns changed": (SQUARE, (1, C, W, H), (permuted((C, H, W), (0, 2, 1)),), 1),
    "channels and columns changed": (SQUARE, (1, W, H, C), (permuted((C, H, W), (2, 1, 0)),), H),
    "rows one further down": (
        SQUARE, SQUARE, (Copy(0, (C, H - 1, W), 0, dense(C, H, W), W, dense(C, H, W)),), 1,
    ),
    "rows twice": (SQUARE, (1, C, 2 * H, W), (Copy(0, (C, H, 2, W), 0, (H * W, W, 0, 1), 0, dense(C, H, 2, W)),), H),
    "two columns of each row": (SQUARE, (1, C, H, 2), (Copy(0, (C, H, 2), 1, (H * W, W, 2), 0, dense(C, H, 2)),), H),
    "two halves, one with a table": (
        SQUARE, SQUARE,
        (Copy(0, (C, H, 2), 0, dense(C, H, W), 3, dense(C, H, W)),
         Copy(0, (C, H, 3), 2, dense(C, H, W), 0, dense(C, H, W), np.arange(255, -1, -1).astype(np.uint8))), H,
    ),
}  # fmt: skip


def moved(x: np.ndarray[Any, Any], out: Shape4, copies: tuple[Copy, ...], fill: int) -> np.ndarray[Any, Any]:
    """Element by element, as the copies say."""
    y, flat = np.full(prod(out), fill), x.reshape(-1)
    for c in copies:
        for i in np.ndindex(c.dims):
            value = flat[c.src_offset + sum(a * b for a, b in zip(i, c.src_strides, strict=True))]
            at = c.dst_offset + sum(a * b for a, b in zip(i, c.dst_strides, strict=True))
            y[at] = value if c.table is None else c.table[value]
    return y.reshape(out)


@pytest.mark.parametrize("name", MOVES)
def test_a_buffer_holds_the_rows_that_are_copied_together(name: str) -> None:
    shape, out, copies, groups = MOVES[name]
    engine = Engine()
    frame_buffer(engine, [None], [shape], out, copies, 3, Element(8, False), 1, name)
    (unit,) = engine.units
    assert unit.fields["more"] + 1 == groups
    assert (unit.fields["n0"], unit.fields["elements"]) == (prod(shape) // groups, prod(out) // groups)
    x = np.random.default_rng(1).integers(0, 256, shape)
    slots = {k: make() for k, (_, make) in unit.slots.items()}
    (y,) = kernel(unit.instruction(), slots)([x.transpose(0, 2, 3, 1).reshape(-1)])
    n, c, h, w = out
    assert np.array_equal(y.reshape(n, h, w, c).transpose(0, 3, 1, 2), moved(x, out, copies, 3))


def up_and_joined(batch: int) -> Graph:
    """A transposed convolution beside a convolution of the larger image, side by side into another one: the joint of
    a U-Net, whose upper half comes as rows and columns of phases."""
    rng = np.random.default_rng(2)
    weights = {"a": (6, 3, 3, 3), "d": (8, 6, 2, 2), "u": (8, 6, 2, 2), "o": (5, 12, 3, 3)}
    values = [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), k) for k, s in weights.items()]
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["left"], pads=[1] * 4),
        helper.make_node("Conv", ["left", "d"], ["down"], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["down", "u"], ["up"], strides=[2, 2]),
        helper.make_node("Concat", ["left", "up"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "o"], ["y"], pads=[1] * 4),
    ]
    ends = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in (("x", [1, 3, 8, 12]), ("y", None))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return load_proto(model, ImportOptions(batch=batch))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_transposed_convolution_beside_another_stream(batch: int) -> None:
    graph = up_and_joined(batch)
    programs = anyhow(graph, 3)
    units = [u for p in programs for u in p.fabric.units()]
    (buffer,) = [u for u in units if u.op == "BUF"]
    assert (buffer.fields["more"] + 1, buffer.fields["n0"]) == (4 * batch, 4 * 6 * 6)  # a row of the smaller image
    assert sum(u.op == "CAT" for u in units) == 1
    assert verify_programs(programs, graph.model, {s.name: s.model for s in graph.host_segments}, frames=2).passed
    assert [differences(graph, (), seed, copies=2) for seed in range(3)] == [[], [], []]
