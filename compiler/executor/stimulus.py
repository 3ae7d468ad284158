"""Inputs to verify on: all-minimum, all-maximum, given samples, seeded random data.

Integer inputs span their type. A float input spans what the QuantizeLinear, or the Clip to constants, that it reaches
can express (else -1 … 1), scaling and shifting on the way undone; an integer index input spans the axis of the Gather
that it reaches (else 0 … 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.executor.faults import BAD_INPUT
from compiler.executor.reference import Reference
from device_db.errors import FvcError

Array = NDArray[Any]
_TRANSPARENT = frozenset(
    ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Slice", "Pad", "Concat", "Cast", "Split")
)


def input_range(reference: Reference, name: str) -> tuple[float, float]:
    """The least and the greatest value to feed graph input `name` with."""
    dtype, _ = reference.inputs[name]
    if dtype.kind == "b":
        return 0, 1
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        info = np.iinfo(dtype)
        return int(info.min), int(info.max)
    reached, todo = {name}, [(name, 1.0, 0.0)]  # tensor = factor * input + offset
    while todo:
        at, factor, offset = todo.pop(0)
        for n in reference.nodes:
            if at not in n.inputs:
                continue
            place = n.inputs.index(at)
            if n.op == "QuantizeLinear" and place == 0 and n.inputs[1] in reference.constants:
                scale = reference.constants[n.inputs[1]].reshape(-1).astype(np.float64)
                zero = reference.constants[n.inputs[2]].reshape(-1) if len(n.inputs) > 2 else np.zeros(1, np.uint8)
                info = np.iinfo(zero.dtype)
                point = zero.astype(np.float64)
                low, high = (info.min - point) * scale, (info.max - point) * scale
                return _undone(float(low.min()), float(high.max()), factor, offset)
            bounds = [reference.constants.get(i) for i in n.inputs[1:3]]
            if n.op == "Clip" and place == 0 and len(bounds) == 2 and all(b is not None for b in bounds):
                return _undone(float(bounds[0].min()), float(bounds[1].max()), factor, offset)  # type: ignore[union-attr]
            if n.op == "Gather" and place == 1 and n.inputs[0] in reference.constants:
                return 0, max(0, reference.constants[n.inputs[0]].shape[0] - 1)
            if n.op in _TRANSPARENT:
                fresh = [o for o in n.outputs if o not in reached]
                reached.update(fresh)
                todo += [(o, factor, offset) for o in fresh]
            by = _scalar(reference, n.inputs[1]) if place == 0 and len(n.inputs) == 2 else None
            if by is not None and n.op in ("Mul", "Div", "Add", "Sub") and n.outputs[0] not in reached:
                reached.add(n.outputs[0])
                if n.op in ("Mul", "Div") and by:
                    by = by if n.op == "Mul" else 1 / by
                    todo.append((n.outputs[0], factor * by, offset * by))
                elif n.op in ("Add", "Sub"):
                    todo.append((n.outputs[0], factor, offset + (by if n.op == "Add" else -by)))
    return (-1, 1) if dtype.kind == "f" else (0, 1)


def _undone(low: float, high: float, factor: float, offset: float) -> tuple[float, float]:
    """The inputs x for which factor * x + offset goes from low to high."""
    ends = sorted(((low - offset) / factor, (high - offset) / factor))
    return ends[0], ends[1]


def _scalar(reference: Reference, name: str) -> float | None:
    """A constant of one value, or the greatest of several positive ones."""
    value = reference.constants.get(name)
    if value is None or value.dtype.kind not in "fiu" or not value.size:
        return None
    return float(value.max()) if value.size == 1 or (value > 0).all() else None


def made_inputs(reference: Reference, count: int, seed: int = 0) -> list[tuple[str, dict[str, Array]]]:
    """(what it is, frame) of `count` inputs: all-minimum, all-maximum, then seeded random."""
    rng = np.random.default_rng(seed)
    ranges = {name: input_range(reference, name) for name in reference.inputs}
    frames: list[tuple[str, dict[str, Array]]] = []
    for k in range(count):
        frame = {}
        for name, (dtype, shape) in reference.inputs.items():
            low, high = ranges[name]
            if k < 2:
                frame[name] = np.full(shape, (low, high)[k]).astype(dtype)
            elif dtype.kind == "f":
                frame[name] = rng.uniform(low, high, shape).astype(dtype)
            else:
                frame[name] = rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)
        frames.append((("all-minimum", "all-maximum")[k] if k < 2 else f"random {k - 2} (seed {seed})", frame))
    return frames


def check_frame(inputs: dict[str, tuple[np.dtype[Any], tuple[int, ...]]], frame: dict[str, Array]) -> None:
    """Raises FVC409 unless the frame has exactly these inputs with these shapes and types."""
    wanted = ", ".join(f"{n} {d}{list(s)}" for n, (d, s) in inputs.items())
    help = (f"the model takes {wanted}",)
    for name in sorted(frame.keys() - inputs.keys()):
        raise FvcError(BAD_INPUT, f"the model has no input '{name}'", help=help)
    for name, (dtype, shape) in inputs.items():
        if name not in frame:
            raise FvcError(BAD_INPUT, f"input '{name}' is not given", help=help)
        value = frame[name]
        if value.dtype != dtype or value.shape != shape:
            raise FvcError(BAD_INPUT, f"input '{name}' is {value.dtype}{list(value.shape)}", help=help)
