"""Float -> QDQ: static post-training quantization with onnxruntime.quantization, after exact float simplifications.

Needs a clean float OnnxGraph. Does: folds batch normalisation and biases (`simplify`), leaves unary islands whole (only
their ends are quantised), calibrates by minimum and maximum over the given samples or seeded random data, writes Q/DQ
pairs. Guarantees a QDQ OnnxGraph that `fuse` turns into integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from compiler.frontend import functions, islands, ort, shapes
from compiler.frontend.fuse import is_dequantize, is_quantize
from compiler.frontend.movement import clamp_bounds, is_clamp
from compiler.frontend.names import own_biases, put_aside, put_back
from compiler.frontend.onnxgraph import MS, Node, OnnxGraph, Type, numpy_dtype
from compiler.frontend.options import ImportOptions, ImportReport
from compiler.frontend.simplify import simplify
from compiler.ir.samples import load_samples
from device_db.errors import FvcError

Array = NDArray[Any]
Feeds = dict[str, Array]
_BIG_MODEL_BYTES = 1 << 28  # of constants
_SMALL_CONSTANT = 1 << 16  # elements: what may be an argument (a shape, a scale) stays in the model

QUANTIZED = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Relu", "Clip", "MaxPool", "AveragePool",
    "GlobalAveragePool", "Concat", "Split", "Slice", "Pad", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose",
    "Resize", "DepthToSpace", "SpaceToDepth", "ReduceMean", "ArgMax", "Tile", "Expand", "Gather",
)  # fmt: skip
_MOVES = {"Split", "Slice", "Pad", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Resize", "DepthToSpace",
          "SpaceToDepth", "Tile", "Expand", "Gather"}  # fmt: skip


def is_float(graph: OnnxGraph) -> bool:
    """Whether no node of the graph is quantised yet."""
    return not any(
        is_quantize(n)
        or is_dequantize(n)
        or n.op.startswith("QLinear")
        or n.op in _INTEGER_OPS
        or n.domain == functions.DOMAIN
        or (n.op == "Gather" and _is_table(graph, n.inputs[0]))
        for n in graph.nodes
    )


_INTEGER_OPS = {
    "QGemm", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "DynamicQuantizeLSTM", "QAttention",
    "DynamicQuantizeMatMul", "MatMulNBits",
}  # fmt: skip


def _is_table(graph: OnnxGraph, name: str) -> bool:
    return name in graph.constants and graph.constants[name].dtype in (np.uint8, np.int8)


def calibration(graph: OnnxGraph, options: ImportOptions, report: ImportReport) -> list[Feeds]:
    """One feed a sample, from the NPZ file (`compiler.ir.samples`) or seeded random numbers."""
    if options.calibrate is None:
        report.fallback(
            "CALIBRATED WITH RANDOM DATA: the integers are exact, but accuracy means nothing; give --calibrate FILE.npz"
        )
        rng = np.random.default_rng(options.seed)
        return [{i: _random(rng, graph, i) for i in graph.inputs} for _ in range(max(1, options.samples))]
    return _given(graph, options.calibrate)


def _given(graph: OnnxGraph, path: Path) -> list[Feeds]:
    inputs = {i: (str(numpy_dtype(graph.types[i].elem)), graph.types[i].dims) for i in graph.inputs}
    return load_samples(path, inputs)


def check_unused(graph: OnnxGraph, options: ImportOptions, report: ImportReport) -> None:
    """Of a model that is quantised already: samples that were given must be such, and are told to be of no use."""
    if options.calibrate is not None:
        _given(graph, options.calibrate)
        report.fallback("--calibrate has no effect: the model is quantised already")


def _random(rng: np.random.Generator, graph: OnnxGraph, name: str) -> Array:
    t = graph.types[name]
    dtype = numpy_dtype(t.elem)
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(t.dims), dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, t.dims), dtype)
    return np.asarray(rng.integers(0, 2 if dtype.itemsize > 1 else 128, t.dims), dtype)


def _name_captured(graph: OnnxGraph) -> None:
    """A tensor that a subgraph reads by name becomes a copy, so that what makes it can be quantised."""
    made = graph.producers()
    for name in dict.fromkeys(c for n in graph.nodes for c in n.captured):
        owner = made.get(name)
        if owner is None:
            continue
        inner = graph.fresh(f"{name}_inner")
        owner.outputs = [inner if o == name else o for o in owner.outputs]
        graph.replace_uses(name, inner)
        graph.types[inner] = graph.types.get(name, Type(TensorProto.FLOAT, None))
        graph.nodes.insert(graph.nodes.index(owner) + 1, Node("Identity", [inner], [name], graph.fresh(f"{name}_copy")))


ACTIVATIONS = {"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Swish"}
_AFFINE = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Identity", "BatchNormalization"}


def excluded(graph: OnnxGraph, *, whole: bool = False) -> tuple[list[str], list[str]]:
    """Names of the nodes that stay float, and tensors to quantise although no quantised node makes or reads them.

    Float stay island interiors, products of two activations, shape arithmetic, and what stands better on the host: a
    tail of concatenations, movement that no layer feeds. An activation function that ends the graph behind a layer is
    a table on the engine. With `whole` nothing is left out that an engine could do: for a graph that would otherwise
    have no layer at all.
    """
    made, users = graph.producers(), graph.consumers()
    names: dict[str, None] = {}
    inside: set[int] = set()
    tails: list[islands.Island] = []
    for n in reversed(graph.nodes):
        if id(n) in inside or not islands.is_elementwise(n):
            continue
        island = _largest(graph, made, users, n.outputs[0])
        if island is None:
            continue
        absorbed = len(island.nodes) == 1 and _saturates(graph, n) and _absorbs(made.get(island.source))
        inside.update(map(id, island.nodes))
        if not absorbed:
            names.update(dict.fromkeys(m.name for m in island.nodes))
            if _is_activation(graph, island, whole):
                tails.append(island)
    for n in graph.nodes:
        if n.op in QUANTIZED and n.name not in names and _float_only(graph, n):
            names[n.name] = None
    if not whole:
        _exclude_tail_concats(graph, users, names)
        _exclude_host_moves(graph, names, inside)
    ends: dict[str, None] = {}
    for island in tails:
        before = made.get(island.source)
        if whole or (before is not None and before.op in QUANTIZED and before.name not in names):
            ends |= dict.fromkeys((island.source, island.result))
    return list(names), list(ends)


def _is_activation(graph: OnnxGraph, island: islands.Island, whole: bool) -> bool:
    """Whether an island is an activation function that ends the graph; its 8 bits then cost little."""
    if island.result not in graph.outputs or 1 not in {graph.elem(island.source), graph.elem(island.result)}:
        return False
    ops = {n.op for n in island.nodes}
    return ops <= ACTIVATIONS | _AFFINE and bool(ops & ACTIVATIONS or (whole and ops == {"BatchNormalization"}))


def _finite(value: Array) -> bool:
    return value.dtype.kind != "f" or bool(np.isfinite(value).all())


def _float_only(graph: OnnxGraph, n: Node) -> bool:
    """Whether an operator of QUANTIZED has no integer form with these arguments."""
    if any(i in graph.constants and not _finite(graph.constants[i]) for i in n.uses) and n.op not in ("Clip", "Pad"):
        return True
    if any(i in graph.constants and not graph.constants[i].size for i in n.uses):
        return True
    if any(graph.elem(i) != 1 for i in [*n.outputs[:1], *n.uses[:1]] if i) and n.op != "ArgMax":
        return True
    if n.op in ("MatMul", "Gemm"):
        w = graph.constants.get(n.inputs[1])
        if w is None or w.ndim != 2 or n.inputs[0] in graph.constants:
            return True
        return n.op == "Gemm" and (n.real("alpha", 1) != 1 or n.real("beta", 1) != 1 or bool(n.integer("transA", 0)))
    if n.op == "Clip":
        return not _saturates(graph, n)
    if n.op in ("Conv", "ConvTranspose"):
        return n.inputs[1] not in graph.constants or graph.constants[n.inputs[1]].ndim > 4
    if n.op in ("MaxPool", "AveragePool", "GlobalAveragePool"):
        return len(graph.shape(n.inputs[0]) or ()) not in (3, 4) or len([o for o in n.outputs if o]) > 1
    if n.op == "Gather":
        return n.inputs[0] in graph.constants or n.inputs[1] not in graph.constants
    return n.op == "ReduceMean" or (n.op == "Resize" and n.text("mode", "nearest") != "nearest")


def _exclude_tail_concats(graph: OnnxGraph, users: dict[str, list[Node]], names: dict[str, None]) -> None:
    """A Concat behind the last layer stays float: one scale for boxes and scores together would ruin both."""
    tail: dict[str, bool] = {}
    for n in reversed(graph.nodes):
        passes = n.op in _MOVES or n.op == "Concat" or islands.is_elementwise(n) or n.op not in QUANTIZED
        is_tail = passes and all(tail.get(u.name, False) for o in n.outputs for u in users.get(o, []))
        tail[n.name] = is_tail
        if is_tail and n.op == "Concat":
            names[n.name] = None


def _exclude_host_moves(graph: OnnxGraph, names: dict[str, None], inside: set[int]) -> None:
    """Data movement that no engine layer feeds stays float: pre-processing at the inputs, and between host nodes."""
    fed: dict[str, bool] = {}
    for n in graph.nodes:
        above = any(fed.get(i, False) for i in n.uses)
        if n.op in _MOVES or (n.op in ("Concat", "Relu", "Clip", "ArgMax") and id(n) not in inside):
            if not above:
                names[n.name] = None
            result = above and n.name not in names
        elif id(n) in inside:
            result = above
        else:
            result = n.op in QUANTIZED and n.name not in names
        for o in n.outputs:
            fed[o] = result


def _saturates(graph: OnnxGraph, n: Node) -> bool:
    """Whether an 8-bit range, which always holds zero, does what this clamp does."""
    if n.op not in ("Relu", "Clip") or not is_clamp(n, graph):
        return False
    low, high = clamp_bounds(n, graph)
    return low <= 0 <= high and low < high


def _absorbs(n: Node | None) -> bool:
    return n is not None and n.op in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul")


def _largest(
    graph: OnnxGraph, made: dict[str, Node], users: dict[str, list[Node]], result: str
) -> islands.Island | None:
    """The greatest unary island ending in `result` whose inner tensors nobody else reads."""
    best: islands.Island | None = None
    ancestors = _elementwise_ancestors(graph, made, result)
    for source in ancestors:
        island = islands.find(graph, made, result, lambda name, s=source: name == s)  # type: ignore[misc]
        if island is None or (best is not None and len(island.nodes) <= len(best.nodes)):
            continue
        ids = {id(m) for m in island.nodes}
        inner = [m.outputs[0] for m in island.nodes if m.outputs[0] != result]
        if all(i not in graph.outputs and all(id(u) in ids for u in users.get(i, [])) for i in inner):
            best = island
    return best


def _elementwise_ancestors(graph: OnnxGraph, made: dict[str, Node], result: str) -> list[str]:
    seen: dict[str, None] = {}
    stack = [result]
    while stack and len(seen) < 64:
        n = made.get(stack.pop())
        if n is None or not islands.is_elementwise(n):
            continue
        for i in n.uses:
            if i not in graph.constants and i not in seen:
                seen[i] = None
                stack.append(i)
    return list(seen)


def quantize(graph: OnnxGraph, options: ImportOptions, report: ImportReport) -> OnnxGraph:
    """The QDQ graph of a float graph; the graph itself if it holds nothing to quantise."""
    if options.activations not in ("u8", "s8"):
        raise FvcError("FVC110", f"unknown activation type '{options.activations}'", help=("u8 or s8",))
    simplify(graph)
    _name_captured(graph)
    keep, ends = excluded(graph)
    if not ends and not _any_left(graph, keep):
        keep, ends = excluded(graph, whole=True)
    if not ends and not _any_left(graph, keep):
        return graph
    feeds = calibration(graph, options, report)
    own_biases(graph)
    aside = put_aside(graph)
    new_name = {old: new for new, old in aside.items()}
    feeds = [{new_name.get(k, k): v for k, v in feed.items()} for feed in feeds]
    ends = [new_name.get(e, e) for e in ends]
    outputs = graph.outputs  # an input that is an output as well is nothing to quantise
    graph.outputs = [o for o in outputs if o not in graph.inputs]
    new = _reload(graph, _quantize_static(graph, options, keep, ends, feeds, report))
    new.outputs = outputs
    put_back(new, aside)
    return new


def _any_left(graph: OnnxGraph, keep: list[str]) -> bool:
    skip = set(keep)
    return any(n.op in QUANTIZED and n.name not in skip for n in graph.nodes)


def ranges(graph: OnnxGraph, feeds: list[Feeds]) -> dict[str, tuple[Array, Array]]:
    """Least and greatest value of every float tensor over the samples, as ONNX Runtime computes them.

    The weights of a big model are fed like inputs: ONNX Runtime reads them where they lie, instead of from three
    copies (message, text, tensor)."""
    made = [o for n in graph.nodes for o in n.outputs if o and graph.elem(o) == TensorProto.FLOAT]
    big = sum(v.nbytes for v in graph.constants.values()) > _BIG_MODEL_BYTES
    model = graph.to_model(constants_up_to=_SMALL_CONSTANT if big else None)
    weights = {i.name: graph.constants[i.name] for i in model.graph.input if i.name in graph.constants}
    have = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=o) for o in made if o not in have)
    data = model.SerializeToString()
    del model
    found: dict[str, tuple[Array, Array]] = {}
    try:
        run = ort.session(data)
        del data
        for feed in feeds:
            values = dict(zip(made, run.run(made, feed | weights), strict=True)) if made else {}
            values.update({i: feed[i] for i in graph.inputs if graph.elem(i) == TensorProto.FLOAT})
            for name, v in values.items():
                if v.size:
                    low, high = v.min(), v.max()
                    before = found.get(name, (low, high))
                    found[name] = (np.minimum(before[0], low), np.maximum(before[1], high))
    except Exception as e:
        text = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise FvcError(
            "FVC111",
            f"ONNX Runtime cannot run the float model for calibration: {text[:300]}",
            help=("check that the model runs in ONNX Runtime with these input shapes",),
        ) from None
    return found


def _infinite(
    graph: OnnxGraph, stays: set[str], found: dict[str, tuple[Array, Array]], report: ImportReport
) -> list[str]:
    """Names of nodes that meet an infinite value: masks, which stay float. Raises FVC111 for a NaN."""
    names = []
    for n in graph.nodes:
        if n.op not in QUANTIZED or n.name in stays:
            continue
        for i in [*n.uses, *n.outputs]:
            if i not in found or np.isfinite(found[i]).all():
                continue
            if np.isnan(found[i]).any():
                raise FvcError(
                    "FVC111",
                    f"tensor '{i}' is NaN on the calibration data",
                    where=(f"node '{n.name}' ({n.op})",),
                    help=("calibrate with data that suits the model (--calibrate FILE.npz)",),
                )
            report.fallback(f"node '{n.name}' ({n.op}) stays float on the host: '{i}' is infinite")
            report.reasons.setdefault(n.name, f"'{i}' is infinite on the calibration data")
            names.append(n.name)
            break
    return names


def _quantize_static(
    graph: OnnxGraph, options: ImportOptions, keep: list[str], ends: list[str], feeds: list[Feeds], report: ImportReport
) -> onnx.ModelProto:
    """The static QDQ quantizer of onnxruntime.quantization, in memory (its front door writes the model four times).

    The constants of `graph` are used up."""
    import logging

    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    found = ranges(graph, feeds)
    keep = [*keep, *_infinite(graph, set(keep), found, report)]
    model = graph.to_model(consume=True)
    known = {*graph.inputs, *graph.outputs}
    model.graph.value_info.extend(graph.value_info(k) for k, t in graph.types.items() if t.static and k not in known)
    # shapes are known: without this mark the quantizer writes the model to a file and reads it again to infer them
    model.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    kind = QuantType.QUInt8 if options.activations == "u8" else QuantType.QInt8
    settings = {
        "ActivationSymmetric": False,
        "WeightSymmetric": True,
        "ForceQuantizeNoInputCheck": True,
        "DedicatedQDQPair": False,
    }
    data = TensorsData(CalibrationMethod.MinMax, {k: v for k, v in found.items() if np.isfinite(v).all()})
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        quantizer = QDQQuantizer(
            model, options.per_channel, False, kind, kind, data, [], keep, list(QUANTIZED), settings
        )
        for name in ends:
            if name in data.keys():  # noqa: SIM118  (TensorsData is no mapping)
                quantizer.quantize_activation_tensor(name)
        quantizer.quantize_model()
    except Exception as e:
        text = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise FvcError("FVC111", f"ONNX Runtime cannot quantise the model: {text[:300]}") from None
    finally:
        root.setLevel(level)
    made: onnx.ModelProto = quantizer.model.model
    return made


def _reload(graph: OnnxGraph, model: Any) -> OnnxGraph:
    from onnx import numpy_helper

    from compiler.frontend.load import name_nodes
    from compiler.frontend.onnxgraph import from_proto

    opsets = {("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in model.opset_import}
    new = OnnxGraph(
        graph.name,
        [from_proto(n) for n in model.graph.node],
        {t.name: np.asarray(numpy_helper.to_array(t)) for t in model.graph.initializer},
        graph.inputs,
        graph.outputs,
        {k: Type(t.elem, t.shape) for k, t in graph.types.items()},
        opsets.pop(""),
        {k: v for k, v in opsets.items() if k != MS},
    )
    name_nodes(new)
    new.sort()
    new.prune()
    shapes.infer(new)
    return new


def quantize_model(path: Path, out: Path, options: ImportOptions) -> ImportReport:
    """`fvc quantize`: read any accepted model, write its canonical integer model. Returns what was not exact."""
    from compiler.frontend import canonical
    from compiler.frontend.load import read_model

    report = ImportReport()
    graph = canonical(read_model(path), options, report, where=path.name)
    data = ort.serialize(graph.to_model())
    partial = out.with_name(out.name + ".partial")
    try:
        partial.write_bytes(data)
        partial.replace(out)
    except OSError as e:
        raise FvcError("FVC101", f"cannot write {out}: {e.strerror}") from None
    return report
