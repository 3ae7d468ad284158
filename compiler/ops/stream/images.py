"""Movements that do the same with every image of a frame, or every group of rows of an image: the copies of one."""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod

from compiler.ir.graph import Copy, Shape4
from compiler.ops.stream.parts import divisors

MOST_PARTS = 1 << 16  # of a frame: what BUF's `more` counts
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


def by_rows(images: int, shapes: list[Shape4], out: Shape4, copies: tuple[Copy, ...]) -> Apart:
    """(groups, shapes of a group of rows of every input and of the result, copies within one): the most equal groups of
    rows that follow one another in all tensors and are copied alike, none from or to another group; 1 where there are
    none, or tensors have several images. images: of a frame, each with so many groups."""
    if out[0] == 1 and all(s[0] == 1 for s in shapes):
        for count in sorted(divisors(gcd(out[2], *(s[2] for s in shapes))), reverse=True)[:-1]:
            own = [_of_a_group(c, shapes[c.source], out, count) for c in copies]
            few = tuple(c for c in own if c is not None)
            if len(few) == len(copies) and images * count <= MOST_PARTS:
                return count, [_group(s, count) for s in shapes], _group(out, count), few
    return 1, shapes, out, copies


def _group(shape: Shape4, count: int) -> Shape4:
    n, c, h, w = shape
    return n, c, h // count, w


def _of_a_group(c: Copy, shape: Shape4, out: Shape4, count: int) -> Copy | None:
    """The part of a copy within the first group of rows if one of its dimensions, or the outer part of one, leads from
    group to group."""
    read, made = (s[2] // count * s[3] for s in (shape, out))  # elements of a channel's rows
    for d, (size, step, to) in enumerate(zip(c.dims, c.src_strides, c.dst_strides, strict=True)):
        inner = size // count
        if size % count == 0 and (step * inner, to * inner) == (read, made):
            dims = (*c.dims[:d], inner, *c.dims[d + 1 :])
            source = _closer(c.src_offset, dims, c.src_strides, read, count)
            target = _closer(c.dst_offset, dims, c.dst_strides, made, count)
            if source is not None and target is not None:
                return Copy(c.source, dims, *source, *target, c.table)
    return None


def _closer(
    offset: int, dims: tuple[int, ...], strides: tuple[int, ...], rows: int, count: int
) -> tuple[int, tuple[int, ...]] | None:
    """Offset and strides in a tensor whose channels have the first group alone, `rows` elements of `count` times as
    many; None if a copy leaves that."""
    plane = rows * count
    channel, low = divmod(offset, plane)
    high, start, out = low, channel * rows + low, []
    for size, stride in zip(dims, strides, strict=True):
        channels, rest = divmod(stride + rows, plane)  # two elements of a group are less than its rows apart
        rest -= rows
        low, high = low + min(0, rest * (size - 1)), high + max(0, rest * (size - 1))
        out.append(channels * rows + rest)
    return (start, tuple(out)) if low >= 0 and high < rows else None
