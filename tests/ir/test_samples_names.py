"""Arrays of every name that ONNX allows travel through .npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compiler.ir.samples import load_samples, npz_bytes


def test_names_that_savez_does_not_take(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3, dtype=np.float32), "a/b": np.zeros((), np.float32), "ä\n😀": np.ones(2, np.int8)}
    path = tmp_path / "x.npz"
    path.write_bytes(npz_bytes(arrays))
    (sample,) = load_samples(path, {name: (str(a.dtype), a.shape) for name, a in arrays.items()})
    assert all(np.array_equal(sample[name], a) and isinstance(sample[name], np.ndarray) for name, a in arrays.items())
    assert npz_bytes(arrays) == path.read_bytes()
