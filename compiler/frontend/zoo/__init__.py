"""Well-known architectures with seeded weights and exact parameter counts: built here, nothing is downloaded.

`build(name)` gives a float ONNX model; weights are He-scaled from the seed, batch normalisation is present with
statistics near those of its input, so activations stay sane and the nets can be quantised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from device_db.errors import FvcError

if TYPE_CHECKING:
    import onnx

    from compiler.frontend.zoo.builder import Builder

_NETS = {
    "alexnet": "classic",
    "cnv-w1a1": "lowbit",
    "cnv-w2a2": "lowbit",
    "lenet": "classic",
    "mobilenetv1": "mobilenet",
    "mobilenetv1-w4a4": "lowbit",
    "mobilenetv2": "mobilenet",
    "resnet18": "resnet",
    "resnet50": "resnet",
    "resnet50-w1a2": "lowbit",
    "squeezenet1.0": "squeezenet",
    "squeezenet1.1": "squeezenet",
    "tfc-w1a1": "lowbit",
    "tiny": "tiny",
    "unet": "unet",
    "vgg16": "classic",
    "yolov3tiny": "yolo",
}


def names() -> tuple[str, ...]:
    """All architectures, sorted."""
    return tuple(sorted(_NETS))


def build(name: str, *, seed: int = 0) -> onnx.ModelProto:
    """The float model `name`; the same seed gives the same bytes. Raises FvcError FVC112 for an unknown name."""
    if name not in _NETS:
        import difflib

        near = difflib.get_close_matches(name, _NETS, 3)
        raise FvcError(
            "FVC112",
            f"no architecture named '{name}' in the zoo",
            where=("there are " + ", ".join(names()),),
            help=(f"did you mean {near[0]}?",) if near else (),
        )
    import importlib

    from compiler.frontend.zoo.builder import Builder

    module = importlib.import_module(f"compiler.frontend.zoo.{_NETS[name]}")
    net: Callable[[Builder, str], None] = module.net
    builder = Builder(name, seed)
    net(builder, name)
    return builder.finish()


def build_quantized(name: str, *, seed: int = 0) -> onnx.ModelProto:
    """The canonical integer model of `build(name)`, calibrated with seeded data."""
    from compiler.frontend import ImportOptions, ImportReport, canonical

    graph = canonical(build(name, seed=seed), ImportOptions(seed=seed, samples=2), ImportReport(), where=name)
    return graph.to_model()
