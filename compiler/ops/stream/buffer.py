"""Buffers: any movement of data as copies between tensors, of which what depends on each other stands whole, twice.

That is a frame, an image where the copies keep images apart, and of an image a group of rows where every group of the
result comes from the same group of the inputs alone (the pixels of a transposed convolution, depth to space).
"""

from __future__ import annotations

import numpy as np

from compiler.ir.graph import Copy, Shape4
from compiler.isa.stream.table import BRAM, COPY_WORDS, LUTRAM, MAX_DIMS, URAM
from compiler.ops.stream.images import by_image, by_rows
from compiler.ops.stream.parts import Element, End, Engine, x_fields

LUTRAM_BITS, URAM_BITS = 1 << 15, 1 << 21


def dense(shape: Shape4) -> tuple[int, int, int, int]:
    """Row-major strides of a storage4 shape."""
    _, c, h, w = shape
    return (c * h * w, h * w, w, 1)


def frame_buffer(
    engine: Engine, sources: list[End | None], shapes: list[Shape4], out: Shape4, copies: tuple[Copy, ...],
    fill: int, x: Element, pe: int, name: str,
) -> End:  # fmt: skip
    """A BUF unit: inputs are tensors of `shapes` (n, c, h, w), dense in the buffer so, in the streams n, h, w, c."""
    images, shapes, out, copies = by_image(shapes, out, copies)
    groups, shapes, out, copies = by_rows(images, shapes, out, copies)
    f = {"pe": pe, **x_fields(x), "inputs": len(shapes), "elements": int(np.prod(out)), "copies": len(copies)}
    f |= {f"n{k}": int(np.prod(s)) for k, s in enumerate(shapes)} | {"fill": fill, "more": images * groups - 1}
    bits = 2 * x.bits * sum(int(np.prod(s)) for s in shapes)
    f["memory"] = LUTRAM if bits <= LUTRAM_BITS else (URAM if bits >= URAM_BITS else BRAM)
    slots = {0: (f"{name}.copies", lambda: pack_copies(shapes, out, copies))}
    tables = [c.table for c in copies if c.table is not None]
    if tables:
        slots[1] = (f"{name}.tables", lambda: b"".join(np.ascontiguousarray(t).tobytes() for t in tables))
    unit = engine.unit("BUF", f, slots)
    for k, source in enumerate(sources):
        if source is None:
            engine.inputs.append((unit, k))
        else:
            engine.streams.append((source, (unit, k)))
    return (unit, 0)


def pack_copies(shapes: list[Shape4], out: Shape4, copies: tuple[Copy, ...]) -> bytes:
    """int64: n, c, h, w of each input and of the output; then COPY_WORDS a copy."""
    head = [int(v) for s in (*shapes, out) for v in s]
    rows, tables = [], 0
    for c in copies:
        table = -1
        if c.table is not None:
            table, tables = tables, tables + 1
        spare = MAX_DIMS - len(c.dims)
        row = [c.source, len(c.dims), c.src_offset, c.dst_offset, table]
        row += [*c.dims, *[1] * spare, *c.src_strides, *[0] * spare, *c.dst_strides, *[0] * spare]
        assert len(row) == COPY_WORDS
        rows += row
    return np.array(head + rows, "<i8").tobytes()


def reorder(engine: Engine, at: End | None, shape: Shape4, axes: tuple[int, ...], x: Element, pe: int) -> End:
    """The tensor seen with axis axes[k] as its axis k (0 n, 1 c, 2 h, 3 w)."""
    strides = dense(shape)
    out: Shape4 = (shape[axes[0]], shape[axes[1]], shape[axes[2]], shape[axes[3]])
    copy = Copy(0, out, 0, tuple(strides[a] for a in axes), 0, dense(out))
    return frame_buffer(engine, [at], [shape], out, (copy,), 0, x, pe, f"reorder{len(engine.units)}")
