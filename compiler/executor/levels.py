"""Which results of each requantiser the inputs of a verification exercised, and how many it can give at all.

Both from the integer model: the reachable ones from the range of each channel's accumulator over all inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.accumulators import CHANNEL_AXIS
from compiler.executor.reference import NodeInfo, Reference

Array = NDArray[Any]
_TYPE_LEVELS = 256
_THRESHOLD = ("ConvThreshold", "MatMulThreshold")
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """What a requantised operator does to its accumulators: sat(rint(f32(acc) * scale) + zero).

    low, high: int64 (channels,), the accumulators that any inputs can make; scale: float32 (channels,). least, most:
    the range of the result's type.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    scale: NDArray[np.float32]
    zero: int
    least: int
    most: int

    def of(self, channels: Array) -> Scaling:
        """That of a row for each of `channels`."""
        return Scaling(self.low[channels], self.high[channels], self.scale[channels], self.zero, self.least, self.most)

    def __call__(self, acc: NDArray[np.int64]) -> NDArray[np.int64]:
        """Results of (channels, k) accumulators."""
        with np.errstate(over="ignore"):
            real = np.rint(acc.astype(np.float32) * self.scale[:, None])
        # Clipped first, so that the sum with the zero point is exact at every magnitude.
        inside = np.clip(real, self.least - self.zero, self.most - self.zero)
        out: NDArray[np.int64] = inside.astype(np.int64) + self.zero
        return out

    def levels(self) -> NDArray[np.int64]:
        """How many different results each channel can give.

        The result never falls as acc rises (scale > 0), so a level strictly between those of the two ends is reached
        exactly if the whole number nearest to its real accumulator gives it.
        """
        low, high = self.low[:, None], self.high[:, None]
        first, last = self(low), self(high)
        v = np.arange(self.least, self.most + 1)[None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            nearest = np.nan_to_num(np.rint((v - self.zero) / self.scale.astype(np.float64)[:, None]))
        acc = np.clip(nearest, low, high).astype(np.int64)
        reached = (v == first) | (v == last) | ((v > first) & (v < last) & (self(acc) == v))
        return np.asarray(reached.sum(axis=1), np.int64)


def scaling(reference: Reference, n: NodeInfo, channels: int, tensors: dict[str, Array]) -> Scaling | None:
    """That of a requantised node; `tensors`: any frame. None where it has thresholds, or parameters not constant."""
    if n.op in _THRESHOLD:
        return None
    constants, names = reference.constants, list(n.inputs)
    averaged = n.op == "QLinearGlobalAveragePool"
    bias = names[8:9] if n.op == "QLinearConv" else names[6:7] if n.op == "QGemm" else []
    bias = [b for b in bias if b]
    out = names[3:5] if averaged else names[7:9] if n.op == "QGemm" else names[6:8]
    if any(name not in constants for name in [*names[1 : 3 if averaged else 6], *bias, *out]):
        return None
    x_scale, x_zero = (constants[name] for name in names[1:3])
    y_scale, y_zero = (np.asarray(constants[name]) for name in out)
    x_range, y_range = np.iinfo(x_zero.dtype), np.iinfo(y_zero.dtype)
    down, up = int(x_range.min) - int(x_zero), int(x_range.max) - int(x_zero)
    if averaged:
        source = tensors.get(names[0])
        if source is None:
            return None
        pixels = int(np.prod(source.shape[2:]))
        low, high = np.full(channels, pixels * down), np.full(channels, pixels * up)
        scale = np.full(channels, np.float32(x_scale) / np.float32(np.float32(y_scale) * np.float32(pixels)))
    else:
        w, w_scale, w_zero = (constants[name] for name in names[3:6])
        real = (w if n.op == "QLinearConv" else np.moveaxis(w, -1, 0)).reshape(channels, -1).astype(np.int16)
        real -= w_zero.astype(np.int16).reshape(-1, 1)
        total = real.sum(axis=1, dtype=np.int64)
        plus = np.maximum(real, 0, out=real).sum(axis=1, dtype=np.int64)
        minus = total - plus
        start = constants[bias[0]].astype(np.int64).reshape(-1) if bias else np.zeros(1, np.int64)
        low, high = start + plus * down + minus * up, start + plus * up + minus * down
        product = (np.float32(x_scale) * w_scale.reshape(-1)).astype(np.float32)
        scale = np.broadcast_to(product / np.float32(y_scale), channels)
    wraps = (low < _INT32.min) | (high > _INT32.max)
    low, high = np.where(wraps, _INT32.min, low), np.where(wraps, _INT32.max, high)
    return Scaling(low, high, scale.astype(np.float32), int(y_zero), int(y_range.min), int(y_range.max))


class Levels:
    """Levels of each channel of each tensor that engines requantise: those that occurred, and how many can."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._seen: dict[str, NDArray[np.bool_]] = {}
        self._possible: dict[str, int] = {}

    @property
    def seen(self) -> int:
        return sum(int(v.sum()) for v in self._seen.values())

    @property
    def possible(self) -> int:
        return sum(self._possible.values())

    def add(self, tensors: dict[str, Array]) -> None:
        """One frame of the reference."""
        for n in self.reference.requantised.values():
            axis = CHANNEL_AXIS[n.op]
            value = tensors[n.outputs[0]]
            if value.dtype.itemsize != 1 or value.ndim < 2:
                continue
            byte = np.moveaxis(value.view(np.uint8), axis, 0).reshape(value.shape[axis], -1)
            seen = self._seen.setdefault(n.outputs[0], np.zeros((len(byte), _TYPE_LEVELS), np.bool_))
            seen[np.arange(len(byte))[:, None], byte] = True
            if n.outputs[0] not in self._possible:
                every = _TYPE_LEVELS * len(byte)
                if n.op in _THRESHOLD:
                    given = [self.reference.constants.get(name) for name in n.inputs[1:5]]
                    self._possible[n.outputs[0]] = _threshold_levels(given, n.op, len(byte))
                else:
                    of = scaling(self.reference, n, len(byte), tensors)
                    self._possible[n.outputs[0]] = every if of is None else int(of.levels().sum())


def _threshold_levels(given: list[Array | None], op: str, channels: int) -> int:
    """Levels of channels with thresholds: one, and one for each different threshold that an accumulator reaches."""
    w, x_zero, w_zero, table = given
    if w is None or x_zero is None or w_zero is None or table is None:
        return _TYPE_LEVELS * channels
    real = (w if op == "ConvThreshold" else np.moveaxis(w, -1, 0)).reshape(channels, -1).astype(np.int64) - int(w_zero)
    info = np.iinfo(x_zero.dtype)
    down, up = int(info.min) - int(x_zero), int(info.max) - int(x_zero)
    plus, minus = np.maximum(real, 0).sum(axis=1), np.minimum(real, 0).sum(axis=1)
    low, high = plus * down + minus * up, plus * up + minus * down
    return sum(
        1 + len(np.unique(row[(row > a) & (row <= b)]))
        for row, a, b in zip(table.astype(np.int64), low, high, strict=True)
    )
