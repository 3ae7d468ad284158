"""The MAC instruction: convolution or matrix product of one tile, exact in int32.

Operands are signed 8 bits (x', w'), so |x'*w'| <= 2^14 and a float32 sum of up to 1024 products is exact in any order
(every partial sum is an integer of magnitude <= 2^24). Longer sums are cut into such chunks, added in wrapping int32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.faults import ILLEGAL, Fault
from compiler.executor.memory import Action, Memory, fields_of
from compiler.isa.program import Instruction
from compiler.isa.table import Flag, Space

EXACT_TERMS = 1024
_scratch: dict[str, NDArray[np.float32]] = {}


def _buffer(name: str, size: int) -> NDArray[np.float32]:
    """A reused float32 work array: fresh pages a call would cost more than the arithmetic."""
    b = _scratch.get(name)
    if b is None or b.size < size:
        b = _scratch[name] = np.empty(max(size, 1 << 16), np.float32)
    return b[:size]


def window_fits(f: dict[str, int]) -> None:
    """Raises Fault unless every tap of every result lies inside the tile in_h x in_w."""
    if not all(f.get(k, 0) >= 1 for k in ("kh", "kw", "sh", "sw", "dh", "dw", "oh", "ow", "in_h", "in_w")):
        raise Fault(ILLEGAL, "has a window field of zero")
    for k, s, d, o, i in (("kh", "sh", "dh", "oh", "in_h"), ("kw", "sw", "dw", "ow", "in_w")):
        if (f[o] - 1) * f[s] + (f[k] - 1) * f[d] + 1 > f[i]:
            raise Fault(
                ILLEGAL, f"has a window that leaves its tile: {o}={f[o]} {s}={f[s]} {k}={f[k]} {d}={f[d]} {i}={f[i]}"
            )


def build_mac(memory: Memory, ins: Instruction) -> Action:
    """The closure that executes one MAC; all checks that do not depend on data are made here."""
    f = fields_of(ins)
    window_fits(f)
    m, n, g = f["m"], f["n"], f["groups"]
    if f["mode"] > 1 or min(m, n, g) < 1 or m % g:
        raise Fault(ILLEGAL, f"has mode={f['mode']} m={m} n={n} groups={g}")
    kh, kw, sh, sw, dh, dw, oh, ow = (f[k] for k in ("kh", "kw", "sh", "sw", "dh", "dw", "oh", "ow"))
    ih, iw, row_sum = f["in_h"], f["in_w"], f["row_sum"]
    init = bool(ins.flags & Flag.INIT)
    with_bias = bool(ins.flags & Flag.BIAS)
    if with_bias and not init:
        raise Fault(ILLEGAL, "has BIAS without INIT")
    x_flip = np.uint8(0x80 if ins.flags & Flag.X_UNSIGNED else 0)
    w_flip = np.uint8(0x80 if ins.flags & Flag.W_UNSIGNED else 0)
    act = memory[Space.ACT].dense(f["act_addr"], (g * n, ih * iw))
    wgt = memory[Space.WGT].dense(f["wgt_addr"], (m, n * kh * kw))
    acc = memory[Space.ACC].dense(f["acc_addr"], (m, oh, ow), np.dtype("<i4"), write=True, align=4)
    bias = memory[Space.TAB].dense(f["tab_addr"], (m,), np.dtype("<i4"), align=4) if with_bias else None

    taps = kh * kw
    # With unit strides a shifted row-major slice is the tap's operand; the columns beyond ow are computed and dropped.
    flat = sh == 1 and sw == 1 and oh * iw <= 2 * oh * ow + 16
    columns = oh * iw if flat else oh * ow
    reach = ((kh - 1) * dh) * iw + (kw - 1) * dw + columns if flat else ih * iw
    row = max(reach, ih * iw)
    channels = max(1, EXACT_TERMS // taps)  # input channels whose products sum exactly in float32
    real = np.float32 if taps <= EXACT_TERMS else np.float64
    direct = taps == 1 and flat  # the tile is its own im2col matrix

    def tap_slices(x: NDArray[Any]) -> list[NDArray[Any]]:
        """x: (rows, row) -> for each kernel tap the (rows, columns) or (rows, oh, ow) operand, as views."""
        if flat:
            return [x[:, i * dh * iw + j * dw :][:, :columns] for i in range(kh) for j in range(kw)]
        tile = x[:, : ih * iw].reshape(-1, ih, iw)
        rows, cols = (oh - 1) * sh + 1, (ow - 1) * sw + 1
        return [tile[:, i * dh : i * dh + rows : sh, j * dw : j * dw + cols : sw] for i in range(kh) for j in range(kw)]

    def depthwise(x: NDArray[Any], w: NDArray[Any]) -> NDArray[np.int32]:
        total = _buffer("result", m * columns).reshape(m, columns)
        term = _buffer("term", m * columns).reshape(m, columns)
        shaped, term_shaped = (total, term) if flat else (total.reshape(m, oh, ow), term.reshape(m, oh, ow))
        for t, part in enumerate(tap_slices(x)):
            weight = w[:, t : t + 1] if flat else w[:, t : t + 1, None]
            if t == 0:
                np.multiply(part, weight, out=shaped)
            else:
                np.multiply(part, weight, out=term_shaped)
                shaped += term_shaped
        return total.astype(np.int32)

    def product(x: NDArray[Any], w: NDArray[Any]) -> NDArray[np.int32]:
        """x: (n, row) of one group, w: (m/groups, n*taps) -> (m/groups, columns) int32."""
        sums: NDArray[np.int32] | None = None
        for start in range(0, n, channels):
            count = min(channels, n - start)
            block = x[start : start + count]
            if direct:
                matrix = block[:, :columns]
            elif real is np.float32:
                matrix = _buffer("columns", count * taps * columns).reshape(count * taps, columns)
                lifted = matrix.reshape(count, taps, columns)
                for t, part in enumerate(tap_slices(block)):
                    if flat:
                        lifted[:, t] = part
                    else:
                        lifted[:, t].reshape(count, oh, ow)[...] = part
            else:
                matrix = np.stack([p.reshape(count, columns) for p in tap_slices(block)], axis=1).reshape(-1, columns)
                matrix = matrix.astype(np.float64)
            weight = w[:, start * taps : (start + count) * taps].astype(real, copy=False)
            if real is np.float32:
                out = _buffer("result", len(weight) * columns).reshape(len(weight), columns)
                part_sum = np.matmul(weight, matrix, out=out).astype(np.int32)
            else:
                part_sum = (weight @ matrix).astype(np.int64).astype(np.int32)
            if row_sum:
                row_total = matrix.sum(axis=0, dtype=np.float64).astype(np.int64) * row_sum
                part_sum += row_total.astype(np.int32)
            sums = part_sum if sums is None else sums + part_sum
        assert sums is not None
        return sums

    def run(frame: int) -> None:
        x8, w8 = act.read(frame), wgt.read(frame)
        x = _buffer("x", g * n * row).reshape(g * n, row)
        x[:, : ih * iw] = (x8 ^ x_flip).view(np.int8) if x_flip else x8.view(np.int8)
        if row > ih * iw:
            x[:, ih * iw :] = 0
        w = ((w8 ^ w_flip) if w_flip else w8).view(np.int8).astype(np.float32)
        if n == 1 and m == g and taps <= EXACT_TERMS and not row_sum:
            result = depthwise(x, w)
        elif g == 1:
            result = product(x, w)
        else:
            mg = m // g
            result = np.concatenate([product(x[k * n : k * n + n], w[k * mg : k * mg + mg]) for k in range(g)])
        tile = result.reshape(m, oh, iw)[:, :, :ow] if flat else result.reshape(m, oh, ow)
        if not init:
            tile = acc.read(frame) + tile
        elif bias is not None:
            tile = tile + bias.read(frame)[:, None, None]
        acc.write(tile, frame)

    return run
