"""The spec of a legal graph: it accepts what the importer makes, and each rule refuses its own violation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compiler.frontend import load_proto, zoo
from compiler.ir.graph import Binary, Conv, DType, Graph, Move, Pool, Quant, Table, Tensor, storage4
from compiler.ir.spec import check
from device_db.errors import FvcError


@pytest.fixture(scope="module")
def graph() -> Graph:
    return load_proto(zoo.build("lenet"))


def edit(graph: Graph, kind: type, change: Callable[[Any], Any]) -> Graph:
    """The graph with its first node of `kind` changed."""
    steps = list(graph.steps)
    k = next(k for k, s in enumerate(steps) if isinstance(s, kind))
    steps[k] = change(steps[k])
    return replace(graph, steps=tuple(steps))


def refused(graph: Graph, text: str) -> None:
    with pytest.raises(FvcError) as caught:
        check(graph)
    assert caught.value.code == "FVC901" and caught.value.exit_code == 70
    assert text in caught.value.what, caught.value.what


def test_imported_graphs_are_legal(graph: Graph) -> None:
    check(graph)
    check(load_proto(zoo.build("tiny")))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda n: replace(n, axes=(0, 1, 1, 3)), "permutation"),
        (lambda n: replace(n, axes=(0, 1, 3, 2), x_shape=(1, 1, 28, 27)), "x_shape"),
        (lambda n: replace(n, y_shape=(1, 6, 28, 27)), "y_shape"),
        (lambda n: replace(n, bias=n.bias[:-1]), "bias"),
        (lambda n: replace(n, scale=n.scale.astype(np.float64)), "wrong type"),
        (lambda n: replace(n, weight=n.weight.view(np.int8)), "signedness"),
        (lambda n: replace(n, groups=2), "groups"),
        (lambda n: replace(n, pads=(2, 2, 2, 1)), "window"),
        (lambda n: replace(n, pads=(-1, 2, 2, 2)), "negative"),
        (lambda n: replace(n, x="nowhere"), "not made yet"),
    ],
)
def test_convolution(graph: Graph, change: Callable[[Conv], Conv], text: str) -> None:
    refused(edit(graph, Conv, change), text)


def test_pool_window_inside(graph: Graph) -> None:
    refused(edit(graph, Pool, lambda n: replace(n, kernel=(9, 9), strides=(3, 3))), "window")


def test_move_rules(graph: Graph) -> None:
    def first(n: Move, **changes: Any) -> Move:
        return replace(n, copies=(replace(n.copies[0], **changes), *n.copies[1:]))

    refused(edit(graph, Move, lambda n: first(n, src_offset=1)), "leaves its tensor")
    refused(edit(graph, Move, lambda n: first(n, dst_strides=(-1,))), "leaves its tensor")
    refused(edit(graph, Move, lambda n: first(n, source=3)), "source")
    refused(edit(graph, Move, lambda n: first(n, dims=(3,))), "never written")
    refused(edit(graph, Move, lambda n: replace(n, copies=n.copies * 2)), "overlap")
    refused(edit(graph, Move, lambda n: first(n, table=np.zeros(3, np.uint8))), "malformed")


def test_order_and_names(graph: Graph) -> None:
    refused(replace(graph, steps=graph.steps[::-1]), "not made yet")
    refused(replace(graph, steps=(*graph.steps, graph.steps[-1])), "taken")
    refused(replace(graph, steps=graph.steps[:-1]), "not made")


def test_aliases_name_roots() -> None:
    t = {n: Tensor(n, (1, 4), DType.U8, Quant(1.0, 0)) for n in "xyz"}
    table = Table("t", "Gather", "x", "y", np.zeros((1, 256), np.uint8), storage4((1, 4)))
    good = Graph("g", t, {}, (table,), ("x",), ("z",), aliases={"z": "y"})
    check(good)
    refused(replace(good, aliases={"z": "y", "y": "x"}), "alias of the alias")
    refused(replace(good, steps=(replace(table, x="z"),), aliases={"z": "x"}), "names the alias")
    refused(replace(good, tensors={**t, "z": replace(t["z"], shape=(1, 5))}), "differs from its root")


def test_binary_broadcast() -> None:
    shapes = {"x": (1, 4, 3, 3), "c": (1, 4, 1, 1), "y": (1, 4, 3, 3)}
    t = {n: Tensor(n, s, DType.S8) for n, s in shapes.items()}
    constants = {"c": np.zeros((1, 4, 1, 1), np.int8)}
    node = Binary("b", "QLinearMul", "x", "c", "y", "mul", 0, 0, 0, {"s": 1.0}, shapes["x"], shapes["c"], shapes["y"])
    good = Graph("g", t, constants, (node,), ("x",), ("y",))
    check(good)
    refused(replace(good, steps=(replace(node, b_shape=(1, 1, 1, 4)),)), "view")
    refused(replace(good, steps=(replace(node, params={"ra": 1.0}),)), "parameters")
    refused(replace(good, steps=(replace(node, a="c"),)), "view")
    refused(replace(good, tensors={**t, "y": replace(t["y"], dtype=DType.U8)}), "differ in type")
