"""The zoo: exact parameter counts, sane activations, exact integers."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest

from compiler.frontend import ImportOptions, load_proto, zoo
from tests.frontend.judge import assert_exact, engine_ops, session

# torchvision's, the papers' and the references' own counts; without batch-norm running statistics
PARAMETERS = {
    "resnet50": 25_557_032,
    "resnet18": 11_689_512,
    "mobilenetv1": 4_231_976,
    "mobilenetv2": 3_504_872,
    "squeezenet1.0": 1_248_424,
    "squeezenet1.1": 1_235_496,
    "yolov3tiny": 8_852_366,
    "unet": 31_037_698,
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "lenet": 61_706,
}
BIG = ("alexnet", "vgg16", "unet", "resnet50", "resnet18", "yolov3tiny")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in ("alexnet", "vgg16") else []) for n in PARAMETERS]
)
def test_parameters(name: str) -> None:
    weights = [w for w in zoo.build(name).graph.initializer if "weight" in w.name or "bias" in w.name]
    assert sum(prod(w.dims) for w in weights) == PARAMETERS[name]


def test_same_seed_same_bytes() -> None:
    build = [zoo.build("squeezenet1.1", seed=s).SerializeToString(deterministic=True) for s in (1, 1, 2)]
    assert build[0] == build[1] != build[2]
    assert set(PARAMETERS) < set(zoo.names())


@pytest.mark.parametrize("name", ["squeezenet1.1", "mobilenetv1", "mobilenetv2", "lenet", "tiny"])
def test_activations_stay_sane(name: str) -> None:
    s = session(zoo.build(name))
    x = {i.name: np.random.default_rng(0).standard_normal(i.shape).astype(np.float32) for i in s.get_inputs()}
    for y in s.run(None, x):
        assert np.isfinite(y).all() and 1e-3 < y.std() < 1e3


@pytest.mark.parametrize("mode", ["u8", "s8"])
@pytest.mark.parametrize(
    "name",
    [
        "tiny",
        "lenet",
        "squeezenet1.1",
        "mobilenetv2",
        *(pytest.param(n, marks=pytest.mark.slow) for n in (*BIG, "mobilenetv1", "squeezenet1.0")),
    ],
)
def test_imports_exactly(name: str, mode: str) -> None:
    graph = load_proto(zoo.build(name), ImportOptions(activations=mode, per_channel=mode == "s8", samples=1))
    assert all(s.reason.startswith(("head", "tail")) for s in graph.host_segments)
    assert engine_ops(graph).count("QLinearConv") >= 2
    assert_exact(graph, seeds=1)


def test_quantized_zoo_is_canonical_already() -> None:
    proto = zoo.build_quantized("tiny")
    graph = load_proto(proto)
    assert not graph.fallbacks
    assert_exact(graph)
