"""Pieces of copies: clipping to runs loses and doubles nothing, footprints hold what they promise."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.ir.graph import DType
from compiler.ops.move import Piece, clip, flat_box, footprint, pieces
from tests.ops.graphs import Builder


def pairs(p: Piece) -> list[tuple[int, int]]:
    """(source byte, destination byte) of every element, by brute force."""
    out = []
    for index in itertools.product(*(range(n) for n, _, _ in p.loops)):
        src = p.src + sum(i * s for i, (_, s, _) in zip(index, p.loops, strict=True))
        dst = p.dst + sum(i * d for i, (_, _, d) in zip(index, p.loops, strict=True))
        out.append((src, dst))
    return out


def moved(builder: Builder) -> list[Piece]:
    return list(pieces(builder.steps[-1], 1))


@st.composite
def builders(draw: st.DrawFn) -> Builder:
    shape = tuple(draw(st.integers(1, 5)) for _ in range(4))
    b = Builder(0, DType.U8)
    x = b.input(shape)
    kind = draw(st.sampled_from(("transpose", "reverse", "slice", "pad", "up", "concat")))
    axis = draw(st.integers(0, 3))
    if kind == "transpose":
        b.transpose(x, tuple(draw(st.permutations(range(4)))))
    elif kind == "reverse":
        b.reverse(x, axis)
    elif kind == "slice":
        b.slice(x, axis, draw(st.integers(0, shape[axis] - 1)), draw(st.integers(1, 3)))
    elif kind == "pad":
        b.pad(x, (0, 1, 0, 1), (1, 0, 0, 2), draw(st.integers(1, 3)))
    elif kind == "up":
        b.upsample(x, 2)
    else:
        b.concat((x, x), axis, True)
    return b


@settings(max_examples=200, deadline=None)
@given(builders(), st.integers(1, 40))
def test_runs_share_out_every_element_once(b: Builder, size: int) -> None:
    total = b.tensors[b.steps[-1].y].elements
    whole = sorted(pair for p in moved(b) for pair in pairs(p))
    parts = []
    for lo in range(0, total, size):
        for p in moved(b):
            for part in clip(p, lo, lo + size):
                own = pairs(part)
                assert all(lo <= dst < lo + size for _, dst in own)
                parts += own
    assert sorted(parts) == whole


@settings(max_examples=200, deadline=None)
@given(builders())
def test_a_footprint_holds_every_element_where_it_says(b: Builder) -> None:
    for p in moved(b):
        f = footprint(p.loops, p.src)
        scratch = np.full(f.bytes, -1)
        for index in itertools.product(*(range(n) for n, _, _ in f.dims)):
            at = sum(i * s for i, (_, _, s) in zip(index, f.dims, strict=True))
            scratch[at] = f.start + sum(i * s for i, (_, s, _) in zip(index, f.dims, strict=True))
        assert (scratch >= 0).all()
        for index in itertools.product(*(range(n) for n, _, _ in p.loops)):
            src = p.src + sum(i * s for i, (_, s, _) in zip(index, p.loops, strict=True))
            at = f.origin + sum(i * s for i, s in zip(index, f.strides, strict=True))
            assert scratch[at] == src


def test_a_needed_run_is_cut_along_the_first_long_axis() -> None:
    assert flat_box((1, 8, 4, 4), 20, 50) == (0, 1, 1, 4, 0, 4, 0, 4)
    assert flat_box((3, 8, 4, 4), 20, 50) == (0, 1, 0, 8, 0, 4, 0, 4)
    assert flat_box((1, 1, 1, 9), 2, 5) == (0, 1, 0, 1, 0, 1, 2, 5)
