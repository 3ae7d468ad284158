"""The golden executor: whole-tensor NumPy kernels, one an IR node, exactly the integers of docs/machine.md.

Needs a legal Graph. Guarantees every engine tensor and every host tensor of one frame, by name, aliases included.
Integer products run in float32 BLAS where the sums stay below 2^24 and are added in int32 (numerics.md), so a
ResNet-50 frame takes about a second on one core. Host segments run in ONNX Runtime, unoptimised, on one thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.ir.graph import (
    ArgMax,
    Binary,
    Conv,
    Copy,
    GlobalAverage,
    Graph,
    HostSegment,
    Move,
    Node,
    Pool,
    Table,
    Thresholds,
    storage4,
)

Array = NDArray[Any]
F32 = np.float32
_BLOCK_BYTES = 48 << 20  # of one im2col block


def run_graph(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """All tensors of one frame. `inputs`: every graph input, under its ONNX name, shape and type.

    Raises KeyError for a missing input and ValueError for a wrong shape."""
    values: dict[str, Array] = dict(graph.constants)
    for name in graph.inputs:
        value = np.asarray(inputs[name], order="C")
        shape = graph.tensors[name].shape if name in graph.tensors else graph.host_tensors[name][1]
        if value.shape != tuple(shape):
            raise ValueError(f"input '{name}' has shape {value.shape}, the model wants {tuple(shape)}")
        values[name] = value
    later: dict[str, list[str]] = {}
    for alias, root in graph.aliases.items():
        later.setdefault(root, []).append(alias)

    def spread(name: str) -> None:
        for alias in later.get(name, ()):
            values[alias] = values[name].reshape(graph.tensors[alias].shape)

    for name in graph.inputs:
        spread(name)
    for step in graph.steps:
        if isinstance(step, HostSegment):
            for name, value in zip(step.outputs, run_host(step.model, step.outputs, values), strict=True):
                values[name] = value
                spread(name)
        else:
            tensor = graph.tensors[step.y]
            values[step.y] = run_node(step, values, tensor.dtype.numpy, tensor.elements).reshape(tensor.shape)
            spread(step.y)
    return values


def run_host(model: bytes, outputs: tuple[str, ...], values: dict[str, Array]) -> list[Array]:
    """One host segment in ONNX Runtime."""
    import onnxruntime as ort

    so = ort.SessionOptions()
    so.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    so.intra_op_num_threads = 1
    so.log_severity_level = 4
    session = ort.InferenceSession(model, so, providers=["CPUExecutionProvider"])
    feeds = {i.name: values[i.name] for i in session.get_inputs()}
    return [np.asarray(v) for v in session.run(list(outputs), feeds)]


def run_node(node: Node, values: dict[str, Array], dtype: np.dtype[Any], elements: int) -> Array:
    """The output of one engine node; `values` holds its inputs, `dtype` and `elements` describe its output."""
    if isinstance(node, Conv):
        return _conv(node, values[node.x], dtype)
    if isinstance(node, Binary):
        return _binary(node, values[node.a], values[node.b], dtype)
    if isinstance(node, Table):
        return _table(node, values[node.x], dtype)
    if isinstance(node, Pool):
        return _max_pool(node, values[node.x]) if node.kind == "max" else _average_pool(node, values[node.x], dtype)
    if isinstance(node, GlobalAverage):
        return _global_average(node, values[node.x], dtype)
    if isinstance(node, Move):
        return _move(node, [values[x] for x in node.xs], elements, dtype)
    return _argmax(node, values[node.x])


def accumulate(node: Conv, x: Array) -> Array:
    """int32 accumulators (N, M, OH, OW) of a Conv, int64 of a wide one, bias included; `x` is the ONNX tensor."""
    stored = x.reshape(storage4(x.shape)).transpose(node.axes)
    kind: type[Any] = np.int32 if node.wide else np.int16
    xc = stored.astype(kind) - kind(node.x_zero_point)
    wc = node.weight.astype(kind) - kind(node.weight_zero_point)
    t, left, b, r = node.pads
    if any(node.pads):
        xc = np.pad(xc, ((0, 0), (0, 0), (t, b), (left, r)))
    real = np.float64 if node.wide else F32  # of two wide operands a product alone may leave float32
    xf, wf = xc.astype(real), wc.astype(real)
    batch, m, oh, ow = node.y_shape
    depth = wc.shape[1] * wc.shape[2] * wc.shape[3]
    peak = int(np.abs(xc).max(initial=0)) * int(np.abs(wc).max(initial=0))
    if wc.shape[1] == 1 and node.groups > 1:
        acc = _depthwise(node, xf, wf) if peak * depth < 1 << 24 else _depthwise(node, xf.astype(np.float64), wf)
    else:
        acc = _matmul(node, xf, wf, max(1, ((1 << 53 if node.wide else 1 << 24) - 1) // max(peak, 1)))
    total = acc.reshape(batch, m, oh, ow) + node.bias.reshape(1, m, 1, 1)
    return total if node.wide else total.astype(np.int32)


def _taps(node: Conv, x: Array, rows: slice) -> list[Array]:
    """Shifted views of the padded input, one a kernel tap, for the output rows of `rows`."""
    oh, ow = rows.stop - rows.start, node.y_shape[3]
    (sh, sw), (dh, dw) = node.strides, node.dilations
    _, _, kh, kw = node.weight.shape
    return [
        x[:, :, rows.start * sh + i * dh :, j * dw :][:, :, : (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    ]


def _depthwise(node: Conv, x: Array, w: Array) -> Array:
    batch, m, oh, ow = node.y_shape
    per = m // node.groups
    out = np.zeros((batch, node.groups, per, oh, ow), x.dtype)
    for k, tap in enumerate(_taps(node, x, slice(0, oh))):
        factor = w.reshape(node.groups, per, -1)[:, :, k].astype(x.dtype)
        out += tap[:, :, None] * factor[None, :, :, None, None]
    return np.rint(out).astype(np.int64)


def _matmul(node: Conv, x: Array, w: Array, chunk: int) -> Array:
    batch, m, oh, ow = node.y_shape
    g = node.groups
    n, kh, kw = node.weight.shape[1:]
    depth = n * kh * kw
    weight = w.reshape(g, m // g, depth)
    acc = np.zeros((batch, g, m // g, oh * ow), np.int64 if depth > 1 << 14 or node.wide else np.int32)
    block = max(1, min(oh, _BLOCK_BYTES // max(1, 4 * depth * g * ow)))
    for f in range(batch):
        for top in range(0, oh, block):
            rows = slice(top, min(oh, top + block))
            count = (rows.stop - rows.start) * ow
            if kh == kw == 1:
                columns = _taps(node, x[f : f + 1], rows)[0].reshape(g, depth, count)
            else:
                columns = np.stack(_taps(node, x[f : f + 1], rows), axis=2).reshape(g, depth, count)
            at = slice(top * ow, top * ow + count)
            for k in range(0, depth, chunk):
                part = np.matmul(weight[:, :, k : k + chunk], columns[:, k : k + chunk])
                acc[f, :, :, at] += np.rint(part).astype(acc.dtype)
    return acc


def requantize(acc: Array, scale: Array, zero_point: int, dtype: np.dtype[Any]) -> Array:
    """sat(rint(f32(acc) * scale) + zero_point); `scale` broadcasts."""
    info = np.iinfo(dtype)
    y = np.rint(acc.astype(F32) * scale.astype(F32))
    low, high = F32(info.min - zero_point), F32(info.max - zero_point)
    out: Array = (np.clip(y, low, high).astype(np.int32) + zero_point).astype(dtype)
    return out


def step_function(acc: Array, thresholds: Thresholds, dtype: np.dtype[Any]) -> Array:
    """base + step * (number of a channel's thresholds <= acc); channels on axis 1."""
    y = np.empty(acc.shape, dtype)
    for channel, row in enumerate(thresholds.values):
        count = np.searchsorted(row, acc[:, channel], side="right")
        y[:, channel] = thresholds.base + thresholds.step * count
    return y


def _conv(node: Conv, x: Array, dtype: np.dtype[Any]) -> Array:
    if dtype.itemsize >= 4:
        return np.ascontiguousarray(accumulate(node, x).transpose(np.argsort(node.axes))).astype(dtype, copy=False)
    if node.thresholds is not None:
        y = step_function(accumulate(node, x), node.thresholds, dtype)
        return np.ascontiguousarray(y.transpose(np.argsort(node.axes)))
    y = requantize(accumulate(node, x), node.scale.reshape(1, -1, 1, 1), node.y_zero_point, dtype)
    return np.ascontiguousarray(y.transpose(np.argsort(node.axes)))


def fma(a: Array, b: Array, c: Array) -> Array:
    """float32 a*b + c rounded once: exact product in float64, sum rounded to odd, then to float32."""
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = np.broadcast_to(np.asarray(c, np.float64), product.shape)
    total = product + addend
    part = total - product
    error = (product - (total - part)) + (addend - part)
    even = (total.view(np.int64) & 1) == 0
    step = np.where(error > 0, np.inf, -np.inf)
    return np.where((error != 0) & even, np.nextafter(total, step), total).astype(F32)


def pair(node: Binary, a: Array, b: Array, dtype: np.dtype[Any]) -> Array:
    """Results of a Binary for int32 operand values `a`, `b` of one shape."""
    info, p = np.iinfo(dtype), {k: F32(v) for k, v in node.params.items()}
    if node.kind == "add":
        inner = fma(b.astype(F32), np.full(b.shape, p["rb"]), np.full(b.shape, p["c"]))
        y = np.rint(fma(a.astype(F32), np.full(a.shape, p["ra"]), inner))
    else:
        product = ((a - node.a_zero_point) * (b - node.b_zero_point)).astype(F32)
        y = np.rint(product * p["s"] + F32(node.y_zero_point))
    out: Array = np.clip(y, info.min, info.max).astype(dtype)
    return out


def pair_table(node: Binary, dtype: np.dtype[Any]) -> Array:
    """(256, 256) results of a Binary by the bytes of its operands."""
    order = np.arange(256, dtype=np.uint8).view(dtype).astype(np.int32)
    return pair(node, *np.meshgrid(order, order, indexing="ij"), dtype)


def _binary(node: Binary, a: Array, b: Array, dtype: np.dtype[Any]) -> Array:
    """Small or scalar-by-tensor ones directly, the others through the table of all byte pairs."""
    left, right = a.reshape(node.a_shape), b.reshape(node.b_shape)
    if max(a.itemsize, b.itemsize, dtype.itemsize) > 1:
        total = left.astype(np.int64) * int(node.params["ra"]) + right.astype(np.int64) * int(node.params["rb"])
        info = np.iinfo(dtype)
        out: Array = np.clip(total + int(node.params["c"]), info.min, info.max).astype(dtype)
        return out
    if min(left.size, right.size) == 1:
        order = np.arange(256, dtype=np.uint8).view(dtype).astype(np.int32)
        scalar = np.broadcast_to(np.int32(left.item() if left.size == 1 else right.item()), (256,))
        row = pair(node, scalar, order, dtype) if left.size == 1 else pair(node, order, scalar, dtype)
        y: Array = row[np.ascontiguousarray(right if left.size == 1 else left).view(np.uint8)]
        return y
    if left.size * right.size == 0 or np.prod(node.y_shape) < 1 << 16:
        wide = np.broadcast_arrays(left.astype(np.int32), right.astype(np.int32))
        return pair(node, wide[0], wide[1], dtype)
    index = np.ascontiguousarray(left).view(np.uint8).astype(np.int32) * 256 + np.ascontiguousarray(right).view(
        np.uint8
    )
    return pair_table(node, dtype).reshape(-1).take(index)


def _table(node: Table, x: Array, dtype: np.dtype[Any]) -> Array:
    byte = np.ascontiguousarray(x).view(np.uint8).reshape(node.shape)
    entries = node.table.view(dtype)
    channel = np.zeros(1, np.intp) if len(entries) == 1 else np.arange(len(entries)).reshape(1, -1, 1, 1)
    y: Array = entries[channel, byte]
    return y


def _pool_taps(node: Pool, x: Array) -> list[Array]:
    _, _, oh, ow = node.y_shape
    (sh, sw), (dh, dw) = node.strides, node.dilations
    return [
        x[:, :, i * dh :, j * dw :][:, :, : (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]
        for i in range(node.kernel[0])
        for j in range(node.kernel[1])
    ]


def _max_pool(node: Pool, x: Array) -> Array:
    t, left, b, r = node.pads
    least = np.iinfo(x.dtype).min
    padded = np.pad(x.reshape(node.x_shape), ((0, 0), (0, 0), (t, b), (left, r)), constant_values=least)
    y = np.full(node.y_shape, least, x.dtype)
    for tap in _pool_taps(node, padded):
        np.maximum(y, tap, out=y)
    return y


def _average_pool(node: Pool, x: Array, dtype: np.dtype[Any]) -> Array:
    """Float32 sums in row-major window order over the valid taps, divided by the taps in the count region."""
    t, left, b, r = node.pads
    edge = ((0, 0), (0, 0), (t, b), (left, r))
    real = (F32(node.x_scale) * (x.reshape(node.x_shape).astype(np.int32) - node.x_zero_point).astype(F32)).astype(F32)
    total = np.zeros(node.y_shape, F32)
    for tap in _pool_taps(node, np.pad(real, edge)):
        total += tap
    region = np.ones((1, 1, *node.x_shape[2:]), np.int32)
    if node.count_include_pad:
        e = node.explicit_pads
        region = np.pad(region, ((0, 0), (0, 0), (e[0], e[2]), (e[1], e[3])), constant_values=1)
        rest = [max(p - q, 0) for p, q in zip(node.pads, e, strict=True)]
        region = np.pad(region, ((0, 0), (0, 0), (rest[0], rest[2]), (rest[1], rest[3])))
    else:
        region = np.pad(region, edge)
    count = np.zeros((1, 1, *node.y_shape[2:]), np.int32)
    for tap in _pool_taps(node, region):
        count += tap
    info = np.iinfo(dtype)
    mean = (total / np.maximum(count, 1).astype(F32)).astype(F32)
    y = np.rint((mean / F32(node.y_scale)).astype(F32) + F32(node.y_zero_point))
    out: Array = np.clip(y, info.min, info.max).astype(dtype)
    return out


def _global_average(node: GlobalAverage, x: Array, dtype: np.dtype[Any]) -> Array:
    acc = (x.reshape(node.x_shape).astype(np.int32) - node.x_zero_point).sum(axis=(2, 3), dtype=np.int64)
    return requantize(acc, np.asarray(node.scale, F32), node.y_zero_point, dtype).reshape(node.y_shape)


def _move(node: Move, xs: list[Array], elements: int, dtype: np.dtype[Any]) -> Array:
    """Strided copies between flat buffers; what no copy writes holds `fill`."""
    raw = np.dtype(f"u{dtype.itemsize}")
    flat = [np.ascontiguousarray(x).view(raw).reshape(-1) for x in xs]
    out = np.full(elements, node.fill or 0, raw)
    for c in node.copies:
        source = _strided(flat[c.source], c.src_offset, c, c.src_strides)
        _strided(out, c.dst_offset, c, c.dst_strides)[...] = source if c.table is None else c.table[source]
    return out.view(dtype)


def _strided(flat: Array, offset: int, c: Copy, strides: tuple[int, ...]) -> Array:
    """The view of a flat buffer that a copy reads or writes."""
    steps = tuple(s * flat.itemsize for s in strides)
    return np.lib.stride_tricks.as_strided(flat[offset:], shape=c.dims, strides=steps)


def _argmax(node: ArgMax, x: Array) -> Array:
    v = x.reshape(node.dims)
    index: Array = node.dims[1] - 1 - v[:, ::-1].argmax(axis=1) if node.select_last else v.argmax(axis=1)
    return index.astype(np.int64, copy=False)
