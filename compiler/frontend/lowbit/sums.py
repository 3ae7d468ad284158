"""Additions of unlike scales: QLinearAdd, taken only where it equals the float graph on every pair of operands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compiler.frontend.integer import QP, Unfit
from compiler.frontend.lowbit.chain import Chain
from compiler.frontend.lowbit.grid import Grid
from compiler.frontend.lowbit.linear import Ints
from compiler.frontend.onnxgraph import OnnxGraph
from compiler.frontend.read_ops import add_constants
from compiler.requant.binary import add_pairs

F32 = np.float32


@dataclass(frozen=True, slots=True)
class PairForm:
    """The result of the addition as 8-bit integers under `qp`; lo, hi: what the quantiser clamps (q - zero) to."""

    qp: QP
    lo: int
    hi: int


def pair_form(graph: OnnxGraph, chain: Chain, grid: Grid, a: Ints, b: Ints) -> PairForm:
    """The QLinearAdd that stands for chain(a + b). Raises Unfit where one pair differs or 8 bits do not do."""
    left, right = (np.arange(t.lo, t.hi + 1, t.step, dtype=np.int64) for t in (a, b))
    reals = [((q - t.zero).astype(F32) * t.scale[0]).astype(F32) for q, t in ((left, a), (right, b))]
    total = (reals[0][:, None] + reals[1][None, :]).astype(F32)
    wanted = chain.integers(graph, total.reshape(1, -1), total.size).reshape(total.shape)
    lo = int(wanted.min()) if grid.lo is None else grid.lo
    hi = int(wanted.max()) if grid.hi is None else grid.hi
    if grid.scale.size > 1:
        raise Unfit("a sum quantised by channel")
    shift = 0 if a.elem == b.elem else 128 if a.elem == 2 else -128  # the emitter brings b to the type of a
    for zero in (0, 128) if a.elem == 2 else (0,):
        qp = QP(F32(grid.scale[0]), zero, a.elem)
        if not (qp.lo <= lo - grid.zero + zero and hi - grid.zero + zero <= qp.hi):
            continue
        ra, rb, c = add_constants(F32(a.scale[0]), a.zero, F32(b.scale[0]), b.zero + shift, qp.scale, zero)
        found = add_pairs(left, right + shift, float(ra), float(rb), float(c), qp.lo, qp.hi) - zero + grid.zero
        if np.array_equal(np.clip(found, lo, hi), wanted):
            return PairForm(qp, lo, hi)
    raise Unfit("its two scales have no common unit, and no integer addition rounds as the float one for every pair")
