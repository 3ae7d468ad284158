"""What a legal Graph is, written down so that a program checks it: run after every import and by the tests.

Needs nothing; does not change the graph; raises FvcError FVC901 (a defect of fvc) with the first rule broken.
"""

from __future__ import annotations

from math import prod

import numpy as np

from compiler.ir.graph import (
    ArgMax,
    Binary,
    Conv,
    DType,
    GlobalAverage,
    Graph,
    HostSegment,
    Move,
    Node,
    Pool,
    Shape4,
    Table,
    storage4,
)
from device_db.errors import FvcError

_EIGHT = (DType.U8, DType.S8)
_SMALL = (*_EIGHT, DType.S16)


class _Illegal(Exception):
    pass


def _need(holds: bool, text: str) -> None:
    if not holds:
        raise _Illegal(text)


def check(graph: Graph) -> None:
    """Raise FvcError if the graph breaks a rule.

    1. Every tensor read was made before: a graph input, a constant, or the output of an earlier step; made once.
    2. Nodes name roots only; an alias has the same element count and type as its root, which is no alias.
    3. Shapes, axes and parameters of each operator agree with its tensors (`_RULES`).
    4. Every graph output is made. Step names are unique.
    """
    where = "graph"
    try:
        made = {*graph.inputs, *graph.constants}
        names: set[str] = set()
        _aliases(graph)
        for step in graph.steps:
            where = step.name
            _need(step.name not in names, "its name is taken")
            names.add(step.name)
            for name in step.inputs:
                _need(graph.root(name) in made or name in made, f"it reads '{name}', which is not made yet")
                if not isinstance(step, HostSegment):
                    _need(name not in graph.aliases, f"it names the alias '{name}'")
                    _need(name in graph.tensors, f"'{name}' is no tensor of the graph")
            outputs = step.outputs if isinstance(step, HostSegment) else (step.y,)
            for name in outputs:
                _need(name not in made, f"it makes '{name}', which is made already")
                _need(name in graph.tensors or name in graph.host_tensors, f"'{name}' is no tensor of the graph")
                made.add(name)
            if not isinstance(step, HostSegment):
                _need(step.y not in graph.aliases, f"it makes the alias '{step.y}'")
                _node(graph, step)
        where = "graph"
        for name in graph.outputs:
            _need(name in made or graph.root(name) in made, f"output '{name}' is not made")
    except _Illegal as e:
        raise FvcError("FVC901", f"the imported graph is not legal: {e}", where=(where,), exit_code=70) from None


def _aliases(graph: Graph) -> None:
    for name, root in graph.aliases.items():
        _need(root not in graph.aliases, f"'{name}' is an alias of the alias '{root}'")
        _need(name in graph.tensors and root in graph.tensors, f"alias '{name}' or its root is no tensor")
        a, b = graph.tensors[name], graph.tensors[root]
        _need(a.elements == b.elements and a.dtype == b.dtype, f"alias '{name}' differs from its root in size or type")


def _node(graph: Graph, n: Node) -> None:
    x = [graph.tensors[name] for name in n.inputs]
    y = graph.tensors[n.y]
    wide = isinstance(n, Conv | Pool | Move | ArgMax) or (isinstance(n, Binary) and n.kind == "add")
    _need(all(t.dtype in (_SMALL if wide else _EIGHT) for t in x), "its inputs are no integers of its kind")
    sums = isinstance(n, Conv) and y.dtype in (DType.I32, DType.I64)
    typed = y.dtype == DType.I64 if isinstance(n, ArgMax) else sums or y.dtype in _SMALL
    _need(typed, "its output has the wrong type")
    free = isinstance(n, (ArgMax, Table)) or (isinstance(n, Binary) and DType.S16 in (y.dtype, *(t.dtype for t in x)))
    free = free or (isinstance(n, Conv) and (sums or n.thresholds is not None))
    if not free:
        _need(all(t.dtype == y.dtype for t in x), "its inputs and output differ in type")
    rule = {
        Conv: _conv,
        Binary: _binary,
        Table: _table,
        Pool: _pool,
        GlobalAverage: _global,
        Move: _move,
        ArgMax: _argmax,
    }
    rule[type(n)](graph, n)  # type: ignore[operator]


def _view(graph: Graph, name: str, axes: tuple[int, ...] = (0, 1, 2, 3)) -> Shape4:
    s = storage4(graph.tensors[name].shape)
    return (s[axes[0]], s[axes[1]], s[axes[2]], s[axes[3]])


def _conv(graph: Graph, n: Conv) -> None:
    _need(sorted(n.axes) == [0, 1, 2, 3], "its axes are no permutation")
    _need(_view(graph, n.x, n.axes) == n.x_shape, "x_shape is not the view of x")
    _need(_view(graph, n.y, n.axes) == n.y_shape, "y_shape is not the view of y")
    m, k, kh, kw = n.weight.shape
    _need(m % n.groups == 0 and n.x_shape[1] == k * n.groups, "its channels do not fit its groups")
    _need(n.y_shape[0] == n.x_shape[0] and n.y_shape[1] == m, "its output channels do not fit its weights")
    _need(n.bias.shape == (m,) and n.scale.shape == (m,), "bias or scale is not one value a channel")
    _need(n.bias.dtype == np.int32 and n.scale.dtype == np.float32, "bias or scale has the wrong type")
    if n.thresholds is not None:
        _need(graph.tensors[n.y].dtype in _SMALL, "thresholds and a result of 32 bits")
        t = n.thresholds.values
        kinds = (np.int32, np.int64) if n.wide else (np.int32,)
        _need(t.dtype in kinds and t.ndim == 2 and len(t) == m, "its thresholds are not one row of integers a channel")
        _need(bool((t[:, 1:] >= t[:, :-1]).all()), "its thresholds do not ascend")
        (low, high), levels = graph.tensors[n.y].dtype.range, n.thresholds.levels
        _need(n.thresholds.step > 0 and low <= levels.lo and levels.hi <= high, "its levels leave its type")
    if n.wide:
        sums = graph.tensors[n.y].dtype in (DType.I32, DType.I64)
        _need(n.weight.dtype == np.int16 and not n.weight_zero_point, "wide weights are not int16 around zero")
        _need(sums or n.thresholds is not None, "a wide layer without thresholds or sums")
        _need(not n.bias.any(), "a wide layer with a bias")
    else:
        _need(n.weight.dtype == graph.tensors[n.x].dtype.numpy, "weights and activations differ in signedness")
    top, left, bottom, right = n.pads
    _need(min(n.pads) >= 0, "a pad is negative")
    oh = (n.x_shape[2] + top + bottom - (kh - 1) * n.dilations[0] - 1) // n.strides[0] + 1
    ow = (n.x_shape[3] + left + right - (kw - 1) * n.dilations[1] - 1) // n.strides[1] + 1
    _need((oh, ow) == n.y_shape[2:], "its window does not give its output shape")


def _binary(graph: Graph, n: Binary) -> None:
    _need(_view(graph, n.y) == n.y_shape, "y_shape is not the view of y")
    for name, shape in ((n.a, n.a_shape), (n.b, n.b_shape)):
        _need(_view(graph, name) == shape, f"the shape of '{name}' is not its view")
        _need(all(d in (1, o) for d, o in zip(shape, n.y_shape, strict=True)), f"'{name}' does not broadcast")
    _need(not (n.a in graph.constants and n.b in graph.constants), "both operands are constant")
    _need(
        set(n.params) == ({"ra", "rb", "c"} if n.kind == "add" else {"s"}), "its parameters are not those of its kind"
    )


def _table(graph: Graph, n: Table) -> None:
    _need(_view(graph, n.x) == n.shape == _view(graph, n.y), "its shape is not the view of x and y")
    _need(n.table.dtype == np.uint8 and n.table.shape in ((1, 256), (n.shape[1], 256)), "its table has the wrong form")


def _pool(graph: Graph, n: Pool) -> None:
    _need(_view(graph, n.x) == n.x_shape and _view(graph, n.y) == n.y_shape, "a shape is not the view of its tensor")
    _need(n.kind == "max" or graph.tensors[n.x].dtype in _EIGHT, "an average of wide integers")
    _need(n.x_shape[:2] == n.y_shape[:2], "it changes batch or channels")
    _need(min(n.pads) >= 0, "a pad is negative")
    for k in (0, 1):
        reach = (n.kernel[k] - 1) * n.dilations[k] + 1
        last = (n.y_shape[2 + k] - 1) * n.strides[k] + reach
        _need(last <= n.x_shape[2 + k] + n.pads[k] + n.pads[k + 2], "its last window leaves the padded input")


def _global(graph: Graph, n: GlobalAverage) -> None:
    _need(_view(graph, n.x) == n.x_shape and _view(graph, n.y) == n.y_shape, "a shape is not the view of its tensor")
    _need(n.y_shape == (*n.x_shape[:2], 1, 1), "it keeps spatial extents")


def _move(graph: Graph, n: Move) -> None:
    out = graph.tensors[n.y].elements
    written = 0
    for c in n.copies:
        _need(0 <= c.source < len(n.xs), "a copy names no source")
        _need(
            len(c.dims) == len(c.src_strides) == len(c.dst_strides), "a copy's dimensions and strides differ in number"
        )
        _need(min(c.dims) > 0, "a copy is empty")
        size = graph.tensors[n.xs[c.source]].elements
        for offset, strides, bound in ((c.src_offset, c.src_strides, size), (c.dst_offset, c.dst_strides, out)):
            low = offset + sum(min(0, (d - 1) * s) for d, s in zip(c.dims, strides, strict=True))
            high = offset + sum(max(0, (d - 1) * s) for d, s in zip(c.dims, strides, strict=True))
            _need(low >= 0 and high < bound, "a copy leaves its tensor")
        _need(c.table is None or (c.table.shape == (256,) and c.table.dtype == np.uint8), "a copy's table is malformed")
        written += prod(c.dims)
    _need(written <= out, "copies overlap in the output")
    _need(written == out or n.fill is not None, "bytes of the output are never written")
    wide = graph.tensors[n.y].dtype == DType.S16
    _need(not wide or all(c.table is None for c in n.copies), "a table of wide integers")
    _need(n.fill is None or 0 <= n.fill <= (65535 if wide else 255), "fill is no element")


def _argmax(graph: Graph, n: ArgMax) -> None:
    outer, axis, inner = n.dims
    _need(prod(n.dims) == graph.tensors[n.x].elements, "its dims do not cover x")
    _need(outer * inner == graph.tensors[n.y].elements and axis > 0, "its dims do not cover y")
