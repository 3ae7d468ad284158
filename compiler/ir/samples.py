"""Input samples from .npz files: one reading for calibration, verification, running and evaluation.

An array bears the ONNX name of a graph input. Its first axis counts samples: for an input of shape (1, 3, 8, 8) both
(N, 3, 8, 8) and (N, 1, 3, 8, 8) are N samples, and (1, 3, 8, 8) is one. For an input of shape (4, 3, 8, 8) it is
(4 N, 3, 8, 8) or (N, 4, 3, 8, 8).
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_db.errors import FvcError

Array = NDArray[Any]
Spec = tuple[str, tuple[int, ...]]  # NumPy dtype name and static shape


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file. Raises FVC002 (not readable) and FVC007 (no .npz, Python objects in it)."""
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                single = file.read(6) == b"\x93NUMPY"
            raise ValueError("it is a single array" if single else "it is no archive of arrays (numpy.savez)")
        with np.load(path, allow_pickle=False) as content:
            return {name: _plain(content, name) for name in content.files}
    except OSError as problem:
        raise FvcError(
            "FVC002", f"cannot read the data file: {problem.strerror or problem}", where=(str(path),)
        ) from None
    except (ValueError, EOFError, KeyError, OverflowError, RuntimeError, zipfile.BadZipFile, zlib.error) as problem:
        raise FvcError("FVC007", f"this is no .npz file of plain arrays: {problem}", where=(str(path),)) from None


def _plain(content: Mapping[str, Array], name: str) -> Array:
    """One array; NumPy's own sentence on arrays of objects advises to load them unsafely."""
    try:
        return np.asarray(content[name])
    except ValueError as problem:
        raise ValueError(f"'{name}' holds Python objects or is damaged") from problem


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """An .npz file of these arrays; unlike np.savez it takes every name ("file", "a/b") and has no time in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def load_samples(path: Path, inputs: Mapping[str, Spec], *, besides: Collection[str] = ()) -> list[dict[str, Array]]:
    """One dict of inputs for each sample; `besides` names arrays that may be there for another reason (labels).

    Raises FVC002 and FVC007: a missing or unknown name, a shape or type that does not fit, unequal counts.
    """
    arrays = read_npz(path)
    where = (str(path),)
    named = ", ".join(f"{name} {dtype} {'x'.join(map(str, shape))}" for name, (dtype, shape) in inputs.items())
    help = (f"the model's inputs are {named}",)
    for name in sorted(arrays.keys() - inputs.keys() - set(besides)):
        raise FvcError("FVC007", f"the data has '{name}', which is no input of the model", where=where, help=help)
    columns: dict[str, Array] = {}
    for name, (dtype, shape) in inputs.items():
        if name not in arrays:
            raise FvcError("FVC007", f"the data has no array '{name}'", where=where, help=help)
        stacked = stack(arrays[name], shape)
        if stacked is None:
            found = "x".join(map(str, arrays[name].shape))
            raise FvcError(
                "FVC007", f"'{name}' has shape {found}, which is no stack of the input's", where=where, help=help
            )
        if not np.can_cast(stacked.dtype, np.dtype(dtype), "same_kind"):
            raise FvcError("FVC007", f"'{name}' has type {stacked.dtype}", where=where, help=help)
        if stacked.dtype.kind == "f" and not np.isfinite(stacked).all():
            raise FvcError("FVC007", f"'{name}' has values that are not finite", where=where)
        columns[name] = stacked.astype(dtype, copy=False)
    counts = {name: len(a) for name, a in columns.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        told = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise FvcError("FVC007", f"the arrays have no common number of samples: {told}", where=where)
    return [{name: np.asarray(a[k]) for name, a in columns.items()} for k in range(next(iter(counts.values()), 0))]


def stack(array: Array, shape: tuple[int, ...]) -> Array | None:
    """`array` as (samples, *shape), or None if it is no such stack."""
    if array.shape[1:] == shape and array.ndim == len(shape) + 1:
        return array
    if array.ndim == len(shape) and array.shape[1:] == shape[1:]:
        count = len(array) // shape[0] if shape and shape[0] else 1
        return array.reshape(count, *shape) if array.size == count * int(np.prod(shape)) else None
    return None


def join(values: list[Array]) -> Array:
    """One array of all samples: along the first axis where that is of length 1 in each, else along a new one."""
    if values[0].ndim and values[0].shape[0] == 1:
        return np.concatenate(values)
    return np.stack(values)
