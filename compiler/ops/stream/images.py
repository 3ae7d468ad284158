"""Movements that do the same with every image of a frame: the copies of one."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from compiler.ir.graph import Copy, Shape4

Apart = tuple[int, list[Shape4], Shape4, tuple[Copy, ...]]


def by_image(shapes: list[Shape4], out: Shape4, copies: tuple[Copy, ...]) -> Apart:
    """(images, shapes of an image of every input and of the result, copies within one image); the tensors as they are,
    as one image, where some copy does not keep images apart."""
    count = out[0]
    if count == 1 or any(s[0] != count for s in shapes):
        return 1, shapes, out, copies
    ones: list[Copy] = []
    for c in copies:
        one = _of_one(c, count, prod(shapes[c.source]) // count, prod(out) // count)
        if one is None:
            return 1, shapes, out, copies
        ones.append(one)
    return count, [(1, *s[1:]) for s in shapes], (1, *out[1:]), tuple(ones)


def _of_one(c: Copy, count: int, read: int, made: int) -> Copy | None:
    """The copy within the first image, if it is the same within each: one of its dimensions, or the outer part of one,
    counts the images of `read` and `made` elements."""
    for d, (size, step, to) in enumerate(zip(c.dims, c.src_strides, c.dst_strides, strict=True)):
        inner = size // count
        if size % count == 0 and (step * inner, to * inner) == (read, made):
            one = replace(c, dims=(*c.dims[:d], inner, *c.dims[d + 1 :]))
            if _within(one.src_offset, one.dims, one.src_strides, read) and _within(
                one.dst_offset, one.dims, one.dst_strides, made
            ):
                return one
    return None


def _within(offset: int, dims: tuple[int, ...], strides: tuple[int, ...], size: int) -> bool:
    """Whether a copy's elements all lie in the first `size`."""
    ends = [s * (n - 1) for n, s in zip(dims, strides, strict=True)]
    return offset + sum(min(e, 0) for e in ends) >= 0 and offset + sum(max(e, 0) for e in ends) < size
