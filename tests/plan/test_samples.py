"""Reading .npz samples: every accepted stacking, and a block for everything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compiler.ir.samples import load_samples
from device_db.errors import FvcError

SPEC = {"x": ("float32", (1, 2, 3))}


def _save(path: Path, **arrays: object) -> Path:
    np.savez(path / "d.npz", **arrays)  # type: ignore[arg-type]
    return path / "d.npz"


@pytest.mark.parametrize(("shape", "samples"), [((5, 2, 3), 5), ((5, 1, 2, 3), 5), ((1, 2, 3), 1)])
def test_stacks(tmp_path: Path, shape: tuple[int, ...], samples: int) -> None:
    data = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    found = load_samples(_save(tmp_path, x=data), SPEC)
    assert len(found) == samples
    assert found[0]["x"].shape == (1, 2, 3)
    assert found[0]["x"].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate([f["x"] for f in found]).ravel(), data.ravel())


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"y": np.zeros((5, 2, 3))}, "'y', which is no input"),
        ({}, "no array 'x'"),
        ({"x": np.zeros((5, 3, 2))}, "shape 5x3x2"),
        ({"x": np.zeros((0, 2, 3))}, "number of samples"),
        ({"x": np.full((5, 2, 3), np.nan)}, "not finite"),
        ({"x": np.zeros((5, 2, 3), np.complex64)}, "type complex64"),
        ({"x": np.array([None])}, "no .npz file of plain arrays"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, object], says: str) -> None:
    with pytest.raises(FvcError) as caught:
        load_samples(_save(tmp_path, **arrays), SPEC)
    assert caught.value.code == "FVC007"
    assert says in caught.value.what and "pickle" not in caught.value.what


def test_unequal_counts_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, x=np.zeros((2, 2, 3)), y=np.zeros((3, 1)))
    with pytest.raises(FvcError, match="no common number"):
        load_samples(path, SPEC | {"y": ("float32", (1,))})


def test_no_npz_at_all(tmp_path: Path) -> None:
    with pytest.raises(FvcError) as missing:
        load_samples(tmp_path / "none.npz", SPEC)
    assert missing.value.code == "FVC002"
    for content in (b"", b"PK\x03\x04 broken", b"text"):
        (tmp_path / "d.npz").write_bytes(content)
        with pytest.raises(FvcError) as broken:
            load_samples(tmp_path / "d.npz", SPEC)
        assert broken.value.code == "FVC007" and "no archive of arrays" in broken.value.what
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(FvcError, match="single array"):
        load_samples(tmp_path / "single.npy", SPEC)
