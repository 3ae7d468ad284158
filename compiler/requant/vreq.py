"""Requantiser plans: needs accumulator ranges and scales, gives per channel the cheapest form proved equal to float32.

For every accumulator in [acc_lo, acc_hi] the chosen form gives the integer that ONNX Runtime's
sat(rint(f32(acc) * scale) + zero_point) gives. `fixed` and `threshold` are proved on the exact steps of that function;
`fp32` is the same formula in the same arithmetic, equal by construction. No approximation is ever chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compiler.isa.table import MODE_EVEN, MODE_FIXED, MODE_FP32, MODE_THRESHOLD, VREQ_ENTRY_BYTES
from compiler.requant.fixed import Steps, find_fixed
from compiler.requant.steps import F32, I32, I64, INT32_MAX, INT32_MIN, find_steps, float_requantise

MODE_NAMES = {MODE_FIXED: "fixed", MODE_THRESHOLD: "threshold", MODE_FP32: "fp32"}
EVEN = "even"  # MODE_EVEN, which only netlists have

# Cost of a form in bytes of TAB a channel; a float unit (convert, multiply, round) is charged as many bytes as make it
# dearer than the fixed form and than a search among up to 16 thresholds, whose comparators it equals in area.
FIXED_COST = VREQ_ENTRY_BYTES
FP32_COST = VREQ_ENTRY_BYTES + 64
THRESHOLD_STEP_COST = 4
THRESHOLD_LIMIT_STEPS = 16

_CHUNK = 512  # channels at a time: a few MB of temporaries
SUMMED_AT_ONCE = 1 << 20  # weights
ENTRY = np.dtype([("word", "<u4"), ("shift", "u1"), ("mode", "u1"), ("steps", "<u2"), ("add", "<i8")])


@dataclass(frozen=True, slots=True, eq=False)
class RequantPlan:
    """The requantiser of one layer, a row a channel (m rows).

    mode: MODE_FIXED | MODE_THRESHOLD | MODE_FP32.
    multiplier, shift, add: y = clamp((acc*multiplier + add) >> shift, lo, hi) where mode is fixed (even: with halves to
      even, see `even`), else 0.
    scale: the float32 scale of every channel. base: the output at acc_lo.
    step_count: outputs reachable beyond the first, whatever the mode.
    offsets (m + 1), thresholds: thresholds[offsets[c]:offsets[c + 1]] are the steps of a threshold channel, ascending;
      other channels hold none.
    acc_lo, acc_hi: the range over which the proof holds. cost: in bytes of TAB or their equivalent.
    """

    mode: NDArray[np.uint8]
    multiplier: I64
    shift: I64
    add: I64
    scale: F32
    base: I32
    step_count: I32
    offsets: I64
    thresholds: I32
    acc_lo: I64
    acc_hi: I64
    cost: I64
    zero_point: int
    lo: int
    hi: int

    @property
    def channels(self) -> int:
        return len(self.mode)

    def mode_counts(self) -> dict[str, int]:
        """Channels by mode: {"fixed": …, "threshold": …, "fp32": …}."""
        return {name: int((self.mode == mode).sum()) for mode, name in MODE_NAMES.items()}

    def proof(self, start: int = 0, stop: int | None = None) -> dict[str, object]:
        """What the folding metadata records: modes, range and the parameters by channel, as plain integers."""
        cut = slice(start, self.channels if stop is None else stop)
        modes = self.mode[cut]
        names = MODE_NAMES | ({MODE_EVEN: EVEN} if (modes == MODE_EVEN).any() else {})
        return {
            "modes": {name: int((modes == mode).sum()) for mode, name in names.items()},
            "mode": modes.tolist(),
            "multiplier": self.multiplier[cut].tolist(),
            "shift": self.shift[cut].tolist(),
            "add": self.add[cut].tolist(),
            "scale_bits": self.scale[cut].view(np.uint32).tolist(),
            "steps": self.step_count[cut].tolist(),
            "acc_lo": self.acc_lo[cut].tolist(),
            "acc_hi": self.acc_hi[cut].tolist(),
            "proved_on": "both sides of every step in [acc_lo, acc_hi]; others by construction",
        }


def reachable_range(
    weight: NDArray[np.generic],
    weight_zero_point: int,
    x_zero_point: int,
    x_lo: int,
    x_hi: int,
    bias: ArrayLike | None = None,
    *,
    exact: bool = False,
) -> tuple[I64, I64]:
    """(acc_lo, acc_hi), each int64[M]: the extremes of bias + sum (x - x_zero_point)(w - weight_zero_point).

    weight: (M, ...) integers; x_lo, x_hi: least and greatest input value (0, 255 for u8; -128, 127 for s8). Padding
    counts as x = x_zero_point. A channel whose sum can leave int32 wraps, so its range is all of int32; with
    `exact` the accumulator has as many bits as it takes.
    """
    plus, minus = _signed_sums(weight, weight_zero_point)
    low, high = min(x_lo - x_zero_point, 0), max(x_hi - x_zero_point, 0)
    offset = np.zeros(len(plus), np.int64) if bias is None else np.asarray(bias, dtype=np.int64)
    acc_lo = offset + plus * low + minus * high
    acc_hi = offset + plus * high + minus * low
    if exact:
        return acc_lo, acc_hi
    wraps = (acc_lo < INT32_MIN) | (acc_hi > INT32_MAX)
    return np.where(wraps, INT32_MIN, acc_lo), np.where(wraps, INT32_MAX, acc_hi)


def _signed_sums(weight: NDArray[np.generic], zero_point: int) -> tuple[I64, I64]:
    """Each int64[M]: the sums of the positive and of the negative weights of each row, less the zero point.

    Some rows at a time, as wide copies of a hundred million weights would take gigabytes."""
    plus, minus = np.zeros(len(weight), np.int64), np.zeros(len(weight), np.int64)
    wide = np.dtype(np.int16 if weight.dtype.itemsize == 1 and abs(zero_point) <= 255 else np.int64)
    rows = max(1, SUMMED_AT_ONCE // max(1, weight[:1].size))
    for first in range(0, len(weight), rows):
        some = weight[first : first + rows]
        w = some.reshape(len(some), -1).astype(wide)
        w -= wide.type(zero_point)
        plus[first : first + rows] = np.maximum(w, 0).sum(axis=1, dtype=np.int64)
        minus[first : first + rows] = np.minimum(w, 0).sum(axis=1, dtype=np.int64)
    return plus, minus


def requantise(
    acc_lo: ArrayLike,
    acc_hi: ArrayLike,
    scale: ArrayLike,
    zero_point: int,
    lo: int,
    hi: int,
    *,
    threshold_limit_steps: int = THRESHOLD_LIMIT_STEPS,
    allow_fixed: bool = True,
) -> RequantPlan:
    """Chooses for every channel the cheapest form proved equal to float32 over [acc_lo, acc_hi].

    acc_lo, acc_hi: int64[m], within int32 (see `reachable_range`). scale: float32[m], or one for all.
    zero_point, lo, hi: integers of the output type; lo <= hi is the clamp (0, 255 or -128, 127, or narrower).
    threshold_limit_steps: the most steps that the threshold form may have; 0 switches it off.
    allow_fixed: False leaves the fixed form out (a negative or non-finite scale always gives fp32).

    Costs: fixed 16, threshold 16 + 4*steps, fp32 80; the cheapest proved form wins, ties go to the earlier of these.

    A global average uses it too: acc = sum of (x - zx), scale = f32(sx / (sy*H*W)), one channel for all.
    Raises ValueError where the arguments contradict each other.
    """
    low = np.atleast_1d(np.asarray(acc_lo, dtype=np.int64))
    high = np.atleast_1d(np.asarray(acc_hi, dtype=np.int64))
    low, high = np.broadcast_arrays(low, high)
    factor = np.ascontiguousarray(np.broadcast_to(np.asarray(scale, dtype=np.float32), low.shape))
    if lo > hi or (low > high).any() or (low < INT32_MIN).any() or (high > INT32_MAX).any():
        raise ValueError("requantise: empty output clamp, or accumulator range empty or outside int32")
    m = len(low)
    mode = np.full(m, MODE_FP32, np.uint8)
    multiplier, shift, add = np.zeros(m, np.int64), np.zeros(m, np.int64), np.zeros(m, np.int64)
    monotone = np.isfinite(factor) & (factor >= 0)
    first = float_requantise(low, factor, zero_point, lo, hi)
    last = float_requantise(high, factor, zero_point, lo, hi)
    count = np.where(monotone, last - first, 0).astype(np.int32)

    constant = monotone & (count == 0)
    if allow_fixed:
        mode[constant], add[constant] = MODE_FIXED, first[constant]
    kept: dict[int, I32] = {}
    order = np.argsort(count, kind="stable")  # rows of like length share a chunk: little padding
    order = order[count[order] > 0]
    for begin in range(0, len(order), _CHUNK):
        rows = order[begin : begin + _CHUNK]
        n = count[rows]
        width = int(n.max())
        t = find_steps(low[rows], high[rows], factor[rows], zero_point, lo, hi, first[rows], last[rows], width)
        fixed = np.zeros(len(rows), dtype=np.bool_)
        if allow_fixed:
            v0 = first[rows].astype(np.int64) + 1
            ends = (first[rows] > lo, last[rows] < hi)
            forms = find_fixed(Steps(t, t - 1, v0, n.astype(np.int64), low[rows], high[rows], *ends), lo, hi)
            fixed = forms.exists
            mode[rows[fixed]] = MODE_FIXED
            multiplier[rows], shift[rows], add[rows] = forms.multiplier, forms.shift, forms.add
        searched = ~fixed & (n <= threshold_limit_steps) & (FIXED_COST + THRESHOLD_STEP_COST * n <= FP32_COST)
        for k in np.flatnonzero(searched):
            kept[int(rows[k])] = t[k, : n[k]].astype(np.int32)
        mode[rows[searched]] = MODE_THRESHOLD

    lengths = np.zeros(m, np.int64)
    for c, values in kept.items():
        lengths[c] = len(values)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    thresholds = np.concatenate([kept[c] for c in sorted(kept)]) if kept else np.zeros(0, np.int32)
    cost = np.full(m, FIXED_COST, np.int64)
    cost[mode == MODE_FP32] = FP32_COST
    cost += THRESHOLD_STEP_COST * lengths
    return RequantPlan(
        mode, multiplier, shift, add, factor, first, count, offsets, thresholds,
        low.copy(), high.copy(), cost, zero_point, lo, hi,
    )  # fmt: skip


def pack_vreq(plan: RequantPlan, start: int = 0, stop: int | None = None) -> bytes:
    """The TAB image of channels [start, stop): (stop - start) entries of 16 bytes, then their int32 thresholds.

    Layout: the comment at the end of compiler/isa/table.py. Offsets of thresholds count from the first entry of this
    image, so a slice stands by itself at any multiple of 4. VREQ takes zero_point, lo, hi as its own fields.
    """
    stop = plan.channels if stop is None else stop
    cut = slice(start, stop)
    mode = plan.mode[cut]
    entry = np.zeros(stop - start, ENTRY)
    entry["mode"] = mode
    fixed, searched, floating = np.isin(mode, (MODE_FIXED, MODE_EVEN)), mode == MODE_THRESHOLD, mode == MODE_FP32
    word = np.zeros(stop - start, np.uint32)
    word[fixed] = plan.multiplier[cut][fixed].astype(np.int32).view(np.uint32)
    word[searched] = plan.base[cut][searched].astype(np.int32).view(np.uint32)
    word[floating] = plan.scale[cut][floating].view(np.uint32)
    entry["word"] = word
    entry["shift"][fixed] = plan.shift[cut][fixed]
    entry["steps"][searched] = np.diff(plan.offsets[start : stop + 1])[searched]
    first_byte = entry.nbytes + 4 * (plan.offsets[start:stop] - plan.offsets[start])
    entry["add"] = np.where(fixed, plan.add[cut], np.where(searched, first_byte, 0))
    data = plan.thresholds[plan.offsets[start] : plan.offsets[stop]]
    return entry.tobytes() + data.astype("<i4").tobytes()


def packed_bytes(plan: RequantPlan, start: int = 0, stop: int | None = None) -> int:
    """len(pack_vreq(plan, start, stop)) without packing."""
    stop = plan.channels if stop is None else stop
    return VREQ_ENTRY_BYTES * (stop - start) + 4 * int(plan.offsets[stop] - plan.offsets[start])
