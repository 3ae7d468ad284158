"""LD and ST boxes against plain NumPy slicing, frame slots, padding, element sizes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.executor.faults import Fault
from compiler.executor.memory import Region, collapse
from compiler.executor.transfer import build_ld, build_rx, build_st, build_tx
from compiler.isa.table import Space

from . import build as b
from .test_kernels import memory, take


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.tuples(*[st.integers(0, 2)] * 4), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_load_pads_a_box_of_a_tensor(c: int, h: int, w: int, pads: tuple[int, int, int, int], depth: int) -> None:
    """A tile of a (5, 7, 9) tensor from slot f mod depth, padded, with gaps between the scratchpad's planes."""
    rng = np.random.default_rng(c * h * w)
    slots = rng.integers(0, 256, (depth, 5, 7, 9)).astype(np.uint8)
    top, bottom, left, right = pads
    ph, pw = h + top + bottom, w + left + right
    f = {
        "dram_space": Space.WORK, "scratch_space": Space.ACT, "elem": 1, "fill": 77, "pad_top": top, "pad_left": left,
        "pad_bottom": bottom, "pad_right": right, "dram_addr": 10, "depth": depth, "frame_stride": 315,
        "n2": c, "n1": h, "n0": w, "dram_s2": 63, "dram_s1": 9, "dram_s0": 1, "scratch_addr": 5,
        "scratch_s2": ph * (pw + 1) + 3,
        "scratch_s1": pw + 1,
    }  # fmt: skip
    mem = memory(work=slots)
    load = build_ld(mem, b.ins("LD", **f))
    for frame in (0, 1, 4):
        load(frame)
        box = slots[frame % depth].ravel()[10:].copy()
        tile = np.stack([[box[i * 63 + j * 9 : i * 63 + j * 9 + w] for j in range(h)] for i in range(c)])
        want = np.pad(tile, ((0, 0), (top, bottom), (left, right)), constant_values=77)
        got = np.stack(
            [
                [
                    take(mem, Space.ACT, 5 + i * (ph * (pw + 1) + 3) + j * (pw + 1), pw, np.uint8, frame)
                    for j in range(ph)
                ]
                for i in range(c)
            ]
        )
        assert (got == want).all()
    with pytest.raises(Fault):  # the gap after the first row was never written
        mem[Space.ACT].range(5 + pw, 1, 4)


@pytest.mark.parametrize("elem,dtype", [(1, "u1"), (4, "<i4"), (8, "<i8")])
def test_store_and_message_keep_elements(elem: int, dtype: str) -> None:
    rng = np.random.default_rng(elem)
    x = rng.integers(0, 100, (2, 3, 4)).astype(dtype)
    space = Space.ACC if elem == 4 else Space.ACT
    mem = memory(**{space.name.lower(): x})
    box = {"elem": elem, "dram_addr": 3, "depth": 1, "n2": 2, "n1": 3, "n0": 4}
    spread = {"dram_s2": 30 * elem, "dram_s1": 9 * elem, "dram_s0": 2 * elem}
    store = {"scratch_space": space, "scratch_s2": 12 * elem, "scratch_s1": 4 * elem}
    build_st(mem, b.ins("ST", **(box | spread | store)))(0)
    sent = build_tx(mem, b.ins("TX", bytes=24 * elem, **(box | spread)))(0)
    assert sent == x.tobytes()
    back = box | {"dram_addr": 2000, "dram_s2": 12 * elem, "dram_s1": 4 * elem, "dram_s0": elem}
    build_rx(mem, b.ins("RX", bytes=24 * elem, **back))(0, sent)
    assert take(mem, Space.WORK, 2000, 24, dtype).tolist() == x.ravel().tolist()
    with pytest.raises(Fault):
        build_tx(mem, b.ins("TX", bytes=24 * elem, **(box | spread | {"dram_s0": 2 * elem + 1})))(0)


@pytest.mark.parametrize(
    "change",
    [
        {"dram_space": 2}, {"scratch_space": 0}, {"scratch_space": 6}, {"n0": 0}, {"elem": 2}, {"depth": 0},
        {"dram_addr": 1 << 20}, {"dram_s1": -100}, {"scratch_addr": (1 << 20) - 3}, {"elem": 4, "pad_left": 1},
        {"scratch_space": 4, "scratch_addr": 2}, {"scratch_s1": 0},
    ],
)  # fmt: skip
def test_load_refuses(change: dict[str, int]) -> None:
    f = {
        "dram_space": Space.WORK, "scratch_space": Space.ACT, "elem": 1, "depth": 1, "n2": 1, "n1": 2, "n0": 4,
        "dram_s1": 4, "dram_s0": 1, "scratch_s1": 4, "scratch_s2": 8,
    } | change  # fmt: skip
    with pytest.raises(Fault):
        build_ld(memory(), b.ins("LD", **f))


def test_barrier_is_a_message_without_bytes() -> None:
    assert build_tx(memory(), b.ins("TX"))(0) == b""
    take_barrier = build_rx(memory(), b.ins("RX"))
    take_barrier(0, b"")
    with pytest.raises(Fault):
        take_barrier(0, b"x")


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-9, 30)), min_size=1, max_size=4))
def test_collapse_visits_the_same_addresses(dims: list[tuple[int, int]]) -> None:
    def visited(counts: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
        return [
            int(sum(i * s for i, s in zip(at, strides, strict=True))) for at in np.ndindex(*counts)
        ]  # fmt: skip

    counts, strides = tuple(n for n, _ in dims), tuple(s for _, s in dims)
    assert visited(*collapse(counts, strides)) == visited(counts, strides)


def test_region_names_the_first_unwritten_byte() -> None:
    region = Region("ACT", 100)
    region.dense(10, (20,), write=True).write(1, 3)
    assert region.box(12, (3, 4), (5, 1)).read(3).tolist() == [[1] * 4] * 3
    with pytest.raises(Fault, match="ACT byte 31"):
        region.box(12, (2, 4), (10, 3)).read(3)
    with pytest.raises(Fault, match="ACT byte 30"):
        region.box(28, (5,), (1,)).read(3)
    with pytest.raises(Fault, match="another frame left"):
        region.box(12, (5,), (1,)).read(4)
