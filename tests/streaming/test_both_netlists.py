"""The plan checker's netlists are those of the planner, whatever is cut, folded, placed, copied or read from DRAM."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from compiler.frontend import ImportOptions, load_model
from tests.bundles import digits
from tests.streaming.both_netlists import differences
from tests.streaming.test_binaries import LOW_BIT
from tests.streaming.test_slices import LAYERS, cuts_anyhow


@pytest.mark.parametrize("seed", range(4))
def test_the_example_in_copies_and_cut(seed: int) -> None:
    assert differences(digits(), (), seed, copies=1 + seed) == []
    assert differences(digits(), cuts_anyhow(digits(), seed), seed, external=seed % 2 == 1) == []


@pytest.mark.parametrize("path", LOW_BIT, ids=lambda p: p.stem)
def test_low_bit_nets(path: Path) -> None:
    graph = load_model(path, ImportOptions())
    assert differences(graph, (), 1, copies=2) == []
    assert differences(graph, cuts_anyhow(graph, 2), 2, external=True) == []


@pytest.mark.parametrize("name", LAYERS)
def test_single_layers(name: str, tmp_path: Path) -> None:
    onnx.save(LAYERS[name], tmp_path / "layer.onnx")
    graph = load_model(tmp_path / "layer.onnx", ImportOptions())
    for seed in range(3):
        assert differences(graph, cuts_anyhow(graph, seed), seed, external=seed == 1) == []
