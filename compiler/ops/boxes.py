"""Boxes: eight half-open storage4 bounds (n0, n1, c0, c1, h0, h1, w0, w1), and the small arithmetic on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

from compiler.ir.graph import Graph, Shape4, storage4
from compiler.plan.model import Box
from cost_models.primitives import dma_bus_bytes

ALIGN_BYTES = 64


def align(value: int, to: int = ALIGN_BYTES) -> int:
    return -(-value // to) * to


def whole_box(shape: Shape4) -> Box:
    return (0, shape[0], 0, shape[1], 0, shape[2], 0, shape[3])


def box_sizes(box: Sequence[int]) -> Shape4:
    return (box[1] - box[0], box[3] - box[2], box[5] - box[4], box[7] - box[6])


def box_elements(box: Sequence[int]) -> int:
    return prod(box_sizes(box))


def intersect(a: Sequence[int], b: Sequence[int]) -> Box | None:
    """The common box, or None where it is empty."""
    r = tuple(max(a[i], b[i]) if i % 2 == 0 else min(a[i], b[i]) for i in range(8))
    if any(r[i] >= r[i + 1] for i in range(0, 8, 2)):
        return None
    return r  # type: ignore[return-value]


def bounding(a: Sequence[int] | None, b: Sequence[int]) -> Box:
    """The least box that holds both."""
    if a is None:
        return tuple(b)  # type: ignore[return-value]
    return tuple(min(a[i], b[i]) if i % 2 == 0 else max(a[i], b[i]) for i in range(8))  # type: ignore[return-value]


def hull(boxes: Iterable[Sequence[int]]) -> Box:
    """The least box that holds all of the boxes (at least one)."""
    least: Box | None = None
    for box in boxes:
        least = bounding(least, box)
    assert least is not None
    return least


def burst_bytes(held: Sequence[int], box: Sequence[int], elem: int) -> int:
    """Bytes that a bank is busy for when `box` is moved out of or into the dense box `held`: whole bursts a run."""
    counts, all_of_it = box_sizes(box), box_sizes(held)
    run, runs, inner = elem, 1, True
    for count, size in zip(counts[::-1], all_of_it[::-1], strict=True):
        if inner:
            run *= count
        else:
            runs *= count
        inner = inner and count == size
    return dma_bus_bytes(runs, run)


def tensor_shape4(graph: Graph, name: str) -> Shape4:
    return storage4(graph.tensors[name].shape)


def dense_strides(sizes: Shape4, elem: int = 1) -> Shape4:
    return (sizes[1] * sizes[2] * sizes[3] * elem, sizes[2] * sizes[3] * elem, sizes[3] * elem, elem)
