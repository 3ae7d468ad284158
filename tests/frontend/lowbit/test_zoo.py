"""The FINN networks of `fvc zoo`: published parameter counts, bit widths layer by layer, integers against qonnx."""

from __future__ import annotations

import os
from collections import Counter
from math import prod
from pathlib import Path

import onnx
import pytest

from compiler.frontend import load_proto, zoo
from compiler.ir.graph import Conv, Graph
from tests.frontend.judge import assert_exact
from tests.frontend.lowbit import oracle

# Convolution and linear weights: TFC 784-64-64-64-10 and CNV as in Brevitas' bnn_pynq; MobileNetV1 and ResNet-50 as in
# the float nets without batch normalisation and bias (4,231,976 - 22,888 and 25,557,032 - 54,120).
WEIGHTS = {
    "tfc-w1a1": 784 * 64 + 64 * 64 * 2 + 64 * 10,
    "cnv-w1a1": 1_542_848,
    "cnv-w2a2": 1_542_848,
    "mobilenetv1-w4a4": 4_209_088,
    "resnet50-w1a2": 25_502_912,
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_published_parameter_counts(name: str) -> None:
    model = zoo.build(name)
    weights = [prod(t.dims) for t in model.graph.initializer if t.name.endswith(".weight") and len(t.dims) > 1]
    assert sum(weights) == WEIGHTS[name]
    every = [prod(t.dims) for t in model.graph.initializer if t.name.split(".")[-1] in ("weight", "bias")]
    assert sum(every) == {"mobilenetv1-w4a4": 4_231_976, "resnet50-w1a2": 25_557_032}.get(name, sum(every))


def widths(graph: Graph) -> Counter[str]:
    """How many layers have which weight and result types."""
    found: Counter[str] = Counter()
    for n in graph.nodes:
        if isinstance(n, Conv) and n.thresholds is not None and n.weight.shape[1:] != (1, 7, 7):  # not the average
            levels = graph.tensors[n.y].levels
            found[f"{n.weight_levels.type_name} {levels.type_name if levels else '?'}"] += 1
    return found


def test_bit_widths_of_the_binary_nets() -> None:
    assert widths(load_proto(zoo.build("tfc-w1a1"))) == {"BIPOLAR BIPOLAR": 3}
    assert widths(load_proto(zoo.build("cnv-w1a1"))) == {"BIPOLAR BIPOLAR": 8}
    graph = load_proto(zoo.build("cnv-w2a2"))
    assert widths(graph) == {"INT2 INT2": 8}
    assert {(t.levels.lo, t.levels.hi) for t in graph.tensors.values() if t.levels and t.levels.bits == 2} == {(-1, 1)}


@pytest.mark.slow
def test_bit_widths_of_the_imagenet_nets() -> None:
    assert widths(load_proto(zoo.build("mobilenetv1-w4a4"))) == {"INT8 UINT4": 1, "INT4 UINT4": 26}
    found = widths(load_proto(zoo.build("resnet50-w1a2")))
    assert found["INT8 UINT4"] == 1 and found["BIPOLAR UINT2"] == 32 and found["BIPOLAR INT4"] == 20


@pytest.mark.parametrize("name", ["tfc-w1a1", "cnv-w1a1", "cnv-w2a2"])
def test_onnx_runtime_judges(name: str) -> None:
    assert_exact(load_proto(zoo.build(name)), seeds=1)


def test_the_same_seed_gives_the_same_bytes() -> None:
    a, b, c = (zoo.build("tfc-w1a1", seed=s).SerializeToString(deterministic=True) for s in (1, 1, 2))
    assert a == b != c


@pytest.mark.slow
@pytest.mark.skipif(
    oracle.INTERPRETER not in os.environ, reason=f"{oracle.INTERPRETER} names no interpreter with qonnx"
)
@pytest.mark.parametrize("name", WEIGHTS)
def test_integers_equal_those_of_qonnx(name: str, tmp_path: Path) -> None:
    model = zoo.build(name)
    frame = oracle.frame_for(model, 1, 0.5)
    expected = oracle.execute(model, frame, tmp_path)
    compared = oracle.compare(load_proto(onnx.load_model_from_string(model.SerializeToString())), frame, expected)
    assert compared >= {"tfc-w1a1": 976, "mobilenetv1-w4a4": 5_000_000, "resnet50-w1a2": 10_000_000}.get(name, 100_000)
