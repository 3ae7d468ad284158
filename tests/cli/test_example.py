"""The shipped example is what its training script makes."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from tests.cli.commands import EXAMPLES


def test_the_test_digits_are_held_out() -> None:
    with np.load(EXAMPLES / "digits_test.npz") as test, np.load(EXAMPLES / "digits_calibration.npz") as calibration:
        assert test["image"].shape == (500, 1, 8, 8)
        held_out = {image.tobytes() for image in test["image"]}
        assert not held_out & {image.tobytes() for image in calibration["image"]}


@pytest.mark.slow
def test_training_again_gives_an_equally_good_model(tmp_path: Path) -> None:
    import onnxruntime as ort

    runpy.run_path(str(EXAMPLES / "train_digits.py"))["main"](tmp_path)
    for name in ("digits_calibration.npz", "digits_test.npz"):
        with np.load(tmp_path / name) as new, np.load(EXAMPLES / name) as old:
            assert all((new[k] == old[k]).all() for k in old.files)
    session = ort.InferenceSession(str(tmp_path / "digits.onnx"), providers=["CPUExecutionProvider"])
    with np.load(tmp_path / "digits_test.npz") as data:
        right = [
            session.run(None, {"image": x[None]})[0].argmax() == y
            for x, y in zip(data["image"], data["labels"], strict=True)
        ]
    assert np.mean(right) > 0.97
