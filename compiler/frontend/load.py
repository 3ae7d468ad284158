"""From a file to a clean OnnxGraph: parsed, data inside, shapes static, opset >= 13, names unique, constants folded.

Needs a path. Guarantees for the passes behind it: every node has a unique name, order is topological, everything that
can be computed without the inputs is a constant, every type that can be known is known. Raises FvcError 101-109.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from compiler.frontend import batch, functions, lowbit, ort, shapes, sizes, upgrade
from compiler.frontend.fold import fold_constants
from compiler.frontend.onnxgraph import Node, OnnxGraph, Type, from_proto, type_of
from compiler.frontend.options import ImportOptions, ImportReport
from compiler.frontend.reader import REASONS
from device_db.errors import FvcError

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


_NO_NUMBERS = (TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def read_model(path: Path) -> onnx.ModelProto:
    """Parse an ONNX file and pull external data in; the data must lie in the model's own folder."""
    if not path.exists():
        raise FvcError("FVC101", f"no such model file: {path}", help=("check the path",))
    if not path.is_file():
        raise FvcError("FVC101", f"not a file: {path}")
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise FvcError("FVC101", f"cannot read {path}: {e.strerror}") from None
    if not raw:
        raise FvcError("FVC102", f"the model file is empty: {path}")
    try:
        model = onnx.load_model_from_string(raw)
    except Exception:
        raise FvcError(
            "FVC102",
            f"not an ONNX model, or a truncated one: {path}",
            where=(f"{len(raw)} bytes do not parse as an ONNX protobuf",),
            help=("export the model again and compare file sizes",),
        ) from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise FvcError("FVC102", f"not an ONNX model: {path} holds no graph")
    _pull_external(model, path)
    return model


def _tensors(graph: onnx.GraphProto) -> Iterable[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("t"):
                yield a.t
            yield from a.tensors
            for sub in [a.g] if a.type == onnx.AttributeProto.GRAPH else list(a.graphs):
                yield from _tensors(sub)


def _pull_external(model: onnx.ModelProto, path: Path) -> None:
    folder = path.resolve().parent
    for t in _tensors(model.graph):
        if t.data_location != TensorProto.EXTERNAL:
            continue
        info = {e.key: e.value for e in t.external_data}
        location = info.get("location", "")
        target = folder / location
        inside = bool(location) and not PurePath(location).is_absolute()
        inside = inside and target.resolve().is_relative_to(folder)
        if not inside:
            raise FvcError(
                "FVC107",
                f"external data of tensor '{t.name}' points outside the model's folder: '{location}'",
                where=(str(path),),
                help=("save the model with its data beside it, or as one file",),
            )
        try:
            offset, length = int(info.get("offset", "0")), int(info.get("length", "-1"))
            with target.open("rb") as f:
                f.seek(max(offset, 0))
                data = f.read() if length < 0 else f.read(length)
        except (OSError, ValueError) as e:
            raise FvcError(
                "FVC107", f"external data of tensor '{t.name}' cannot be read: '{location}' ({e})", where=(str(path),)
            ) from None
        if 0 <= length != len(data):
            raise FvcError(
                "FVC107",
                f"external data of tensor '{t.name}' is truncated: {len(data)} of {length} bytes in '{location}'",
                where=(str(path),),
            )
        t.raw_data = data
        t.data_location = TensorProto.DEFAULT
        del t.external_data[:]


def load_graph(path: Path, options: ImportOptions, report: ImportReport) -> OnnxGraph:
    """The clean OnnxGraph of a model file."""
    return clean(read_model(path), options, report, path.name)


def clean(model: onnx.ModelProto, options: ImportOptions, report: ImportReport, where: str = "model") -> OnnxGraph:
    """The clean OnnxGraph of a ModelProto."""
    _remember(model, report)
    if any(not functions.is_ours(f) for f in model.functions):
        model = _inline(model)
    defined = {f.name for f in model.functions}
    opsets = {("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in model.opset_import}
    if not opsets.get(""):
        if any(n.domain in ("", "ai.onnx") for n in model.graph.node):
            raise FvcError(
                "FVC108", "the model does not say its operator set", where=(where,), help=("export the model again",)
            )
        opsets[""] = 13
    if opsets[""] < upgrade.OLDEST or (opsets[""] < upgrade.TARGET and has_subgraphs(model.graph)):
        model, opsets[""] = upgrade.by_onnx(model, opsets[""], where)
    if not ort.reads_opset(opsets[""]):
        model, opsets[""] = upgrade.down(model, opsets[""], where)
    constants = {}
    for t in model.graph.initializer:
        if t.name in constants:
            raise FvcError("FVC105", f"invalid graph: constant '{t.name}' is given twice", where=(where,))
        constants[t.name] = _array(t, where)
    if model.graph.sparse_initializer:
        raise FvcError("FVC109", "sparse initializers are not supported", where=(where,), help=("make them dense",))
    types: dict[str, Type] = {}
    inputs = []
    for info in model.graph.input:
        if info.name in constants:
            continue
        t = type_of(info)
        if t is None or t.elem in _NO_NUMBERS:
            raise FvcError(
                "FVC109",
                f"graph input '{info.name}' is not a tensor of numbers",
                where=(where,),
                help=("cut the model behind the nodes that make numbers of it",),
            )
        types[info.name] = t
        inputs.append(info.name)
    nodes = [from_proto(n) for n in model.graph.node]
    outputs = [o.name for o in model.graph.output]
    if not outputs:
        raise FvcError("FVC105", "invalid graph: it has no outputs", where=(where,))
    _ssa(nodes, inputs, constants, where)
    version = opsets.pop("")
    graph = OnnxGraph(model.graph.name, nodes, constants, inputs, outputs, types, version, opsets)
    graph.output_info = {o.name: o for o in model.graph.output}
    _fix_shapes(graph, model, options, where)
    alone = batch.widen(graph, options.batch, where) if options.batch > 1 else {}
    made = {*graph.inputs, *graph.constants, *(o for n in graph.nodes for o in n.outputs)}
    for o in outputs:
        if o not in made:
            raise FvcError("FVC105", f"invalid graph: output '{o}' is never made", where=(where,))
    name_nodes(graph)
    graph.sort()
    strange = next((n for n in graph.nodes if n.domain == functions.DOMAIN and n.op not in defined), None)
    if strange is not None:
        raise FvcError(
            "FVC105",
            f"invalid graph: nothing defines the operator {strange.op}",
            where=(where, f"node '{strange.name}'"),
        )
    upgrade.to_13(graph)
    upgrade.sums_to_adds(graph)
    if lowbit.is_lowbit(graph):
        lowbit.refuse_unknown(graph)
        _check(graph, where)
        fold_constants(graph)
        graph.grids = lowbit.expand(graph, model)
        graph.sort()
    _check(graph, where)
    if half_to_single(graph):
        report.fallback("16-bit floats of the model are read as float32")
    if double_to_single(graph):
        report.fallback("64-bit floats of the model, its inputs among them, are read as float32")
    graph.sort()
    fold_constants(graph)
    _check_finite(graph, where)
    graph.output_info = {}
    shapes.infer(graph)
    if graph.grids is None:  # the tables of a low-bit model leave no such tensors behind
        sizes.fits_memory(graph, where)
    _only_tensors(graph, where)
    if alone:
        batch.hold(graph, model, alone, options.batch, where, report)
    return graph


def _only_tensors(graph: OnnxGraph, where: str) -> None:
    for n in graph.nodes:
        if not n.domain and n.op in _NO_TENSORS:
            raise FvcError(
                "FVC109",
                f"node '{n.name}' ({n.op}) makes or reads a sequence, not a tensor",
                where=(where,),
                help=("export the model without sequences (Split and Concat do most of it)",),
            )


def _remember(model: onnx.ModelProto, report: ImportReport) -> None:
    """Reasons that an earlier import wrote into the model (`reader.with_reasons`); anything else there is ignored."""
    for p in model.metadata_props:
        if p.key != REASONS:
            continue
        try:
            known = json.loads(p.value)
        except ValueError:
            continue
        if isinstance(known, dict):
            report.reasons.update({k: v for k, v in known.items() if isinstance(v, str)})


def has_subgraphs(graph: onnx.GraphProto) -> bool:
    return any(
        a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for n in graph.node for a in n.attribute
    )


def _inline(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx.inliner

    others = [(f.domain, f.name) for f in model.functions if not functions.is_ours(f)]
    return onnx.inliner.inline_selected_functions(model, others)


def _array(t: TensorProto, where: str) -> NDArray[Any]:
    try:
        return np.asarray(numpy_helper.to_array(t))
    except Exception as e:
        raise FvcError("FVC102", f"constant '{t.name}' is damaged: {e}", where=(where,)) from None


def _ssa(nodes: list[Node], inputs: list[str], constants: dict[str, NDArray[Any]], where: str) -> None:
    made = {*inputs, *constants}
    for n in nodes:
        for o in n.outputs:
            if o and o in made:
                raise FvcError(
                    "FVC105", f"invalid graph: tensor '{o}' is made twice", where=(where, f"node '{n.name}' ({n.op})")
                )
            made.add(o)


def name_nodes(graph: OnnxGraph) -> None:
    """Unique node names: empty ones become op_index, repeated ones get a number; deterministic."""
    seen: set[str] = {n.name for n in graph.nodes}
    used: set[str] = set()
    for k, n in enumerate(graph.nodes):
        name = n.name or f"{n.op}_{k}"
        base, count = name, 1
        while name in used or (name != n.name and name in seen):
            count += 1
            name = f"{base}_{count}"
        n.name = name
        used.add(name)


def _dimension(d: onnx.TensorShapeProto.Dimension) -> str:
    """A dimension as the model states it: its name, its extent, or ? if it is not stated."""
    if d.dim_param:
        return str(d.dim_param)
    return str(d.dim_value) if d.HasField("dim_value") else "?"


def _fix_shapes(graph: OnnxGraph, model: onnx.ModelProto, options: ImportOptions, where: str) -> None:
    for name in options.shapes:
        if name not in graph.inputs:
            known = ", ".join(f"'{i}'" for i in graph.inputs)
            raise FvcError("FVC104", f"--shape names no graph input: '{name}'", where=(f"inputs are {known}",))
    params = {i.name: [_dimension(d) for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    dynamic: list[str] = []
    for name in graph.inputs:
        t, given = graph.types[name], options.shapes.get(name)
        shape = None if t.shape is None else tuple(d if d > 0 else -1 for d in t.shape)
        if given is not None:
            fits = shape is None or (
                len(shape) == len(given) and all(s in (-1, g) for s, g in zip(shape, given, strict=True))
            )
            if not fits or any(g <= 0 for g in given):
                raise FvcError(
                    "FVC104",
                    f"--shape {name}={','.join(map(str, given))} does not fit the model's ({', '.join(params[name])})",
                    where=(where,),
                )
            shape = tuple(given)
        graph.types[name] = Type(t.elem, shape)
        if shape is None or -1 in shape:
            dynamic.append(name)
    if dynamic:
        need = [f"input '{n}' has shape ({', '.join(params[n]) or 'unknown rank'})" for n in dynamic]
        example = " ".join(
            f"--shape {n}=" + ",".join(d if d.isdigit() and d != "0" else "N" for d in params[n]) for n in dynamic
        )
        raise FvcError(
            "FVC103",
            "the model has dynamic or empty dimensions; a compiled program needs static ones of 1 or more",
            where=tuple(need),
            help=(f"give {example} with a number for every N",),
        )


def _check(graph: OnnxGraph, where: str) -> None:
    """Let ONNX's own checker judge structure and attributes (big constants left out, com.microsoft unknown to it)."""
    model = graph.to_model(constants_up_to=256)
    for info in model.graph.output:  # a type that is not stated is inferred later; the checker wants one now
        if info.type.WhichOneof("value") in (None, "tensor_type"):
            t = info.type.tensor_type
            t.elem_type = t.elem_type or int(TensorProto.FLOAT)
            t.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except Exception as e:
        text = str(e).strip().splitlines() or ["?"]
        op = next((line for line in text if "No Op registered" in line or "==> Context" in line), "")
        raise FvcError(
            "FVC105", f"invalid graph: {text[0][:300]}", where=tuple(w for w in (where, op[:200]) if w)
        ) from None


def half_to_single(graph: OnnxGraph) -> bool:
    """float16 and bfloat16 weights and activations become float32; whether there were any."""
    halves = any(graph.types[i].elem in _HALVES for i in graph.inputs)
    if halves or any(_is_half(v.dtype) for v in graph.constants.values()):
        _to_single(graph, _HALVES, _is_half)
        return True
    return False


def double_to_single(graph: OnnxGraph) -> bool:
    """A model whose inputs are float64 becomes a float32 one; whether it was such."""
    if not any(graph.types[i].elem == TensorProto.DOUBLE for i in graph.inputs):
        return False
    _to_single(graph, (TensorProto.DOUBLE,), lambda dtype: dtype == np.float64)
    return True


def _is_half(dtype: np.dtype[Any]) -> bool:
    return dtype == np.float16 or str(dtype) == "bfloat16"


def _to_single(graph: OnnxGraph, elems: tuple[int, ...], chosen: Callable[[np.dtype[Any]], bool]) -> None:
    """Every constant, input, cast and attribute of these element types becomes float32."""
    for name, v in graph.constants.items():
        if chosen(v.dtype):
            with np.errstate(over="ignore"):  # what leaves float32 becomes Inf, and is refused as that
                graph.constants[name] = v.astype(np.float32)
    for name in graph.inputs:
        if graph.types[name].elem in elems:
            graph.types[name] = Type(TensorProto.FLOAT, graph.types[name].shape)
    graph.output_info = {}
    for n in graph.nodes:
        for key in ("to", "dtype"):
            if key in n.attributes and n.integer(key, 0) in elems:
                n.attributes[key] = int(TensorProto.FLOAT)
        for key, a in n.attributes.items():
            if isinstance(a, onnx.AttributeProto) and a.HasField("t") and a.t.data_type in elems:
                value = np.asarray(numpy_helper.to_array(a.t)).astype(np.float32)
                n.attributes[key] = onnx.helper.make_attribute(key, numpy_helper.from_array(value))


def _check_finite(graph: OnnxGraph, where: str) -> None:
    users = graph.consumers()
    for name, v in graph.constants.items():
        if v.dtype.kind != "f" or np.isfinite(v).all():
            continue
        for n in users.get(name, []):
            if n.op in _NOT_FINITE_OK:
                continue
            bad = "NaN" if np.isnan(v).any() else "Inf"
            if bad == "Inf" and n.op not in _FINITE:
                continue  # masks and bounds
            count = int(np.size(v) - np.isfinite(v).sum())
            raise FvcError(
                "FVC106",
                f"weight '{name}' holds {bad} ({count} of {v.size} values)",
                where=(f"node '{n.name}' ({n.op})", where),
                help=("retrain or export the model again: no integer stands for it",),
            )


_NOT_FINITE_OK = {"Clip", "Where", "Min", "Max", "Pad", "IsNaN", "IsInf", "Identity"}
_NO_TENSORS = {
    "SequenceEmpty", "SequenceConstruct", "SequenceAt", "SequenceErase", "SequenceInsert", "SequenceLength",
    "SequenceMap", "SplitToSequence", "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement",
    "StringSplit", "StringConcat", "StringNormalizer",
}  # fmt: skip
_FINITE = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "PRelu", "QuantizeLinear", "DequantizeLinear",
    "QLinearConv", "QLinearMatMul", "QGemm", "QLinearAdd", "QLinearMul", "LSTM", "GRU", "RNN",
}  # fmt: skip
