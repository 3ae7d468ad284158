"""The operators of QONNX and of FINN's frontend dialect, written out in standard float operators.

Needs an OnnxGraph with constants folded. Replaces Quant (IntQuant), BipolarQuant, Trunc (both forms), MultiThreshold
and QuantAvgPool2d; `lowered` has the rest. Every formula is that of the `qonnx` package 1.0.0, in float32 and in
its order, so the float graph gives what `qonnx` gives; constants are quantised here and become `GridConstant`s.
Raises FVC120 for scales and zero points, FVC121 for bit widths, FVC122 for operators and attributes not known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from compiler.frontend import shapes
from compiler.frontend.lowbit.grid import Array, Composite, Grid, GridConstant, Grids, annotated, whole
from compiler.frontend.lowbit.hardware import is_hardware, software, unknown
from compiler.frontend.lowbit.layout import sink_transposes
from compiler.frontend.lowbit.lowered import LOWERED, one_channel_groups, raise_lowered
from compiler.frontend.onnxgraph import Node, OnnxGraph
from device_db.errors import FvcError

F32 = np.float32
DOMAINS = ("qonnx.", "finn.", "onnx.brevitas")
MOST_BITS = 32
_MOVES = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}


def is_lowbit(graph: OnnxGraph) -> bool:
    """Whether any operator of QONNX or FINN is in the graph."""
    return any(_custom(n) for n in graph.nodes)


def _custom(n: Node) -> bool:
    return n.domain.startswith(DOMAINS)


def expand(graph: OnnxGraph, model: onnx.ModelProto) -> Grids:
    """Rewrite `graph` in place; the grids of its tensors."""
    grids = Grids()
    for a in model.graph.quantization_annotation:
        if a.tensor_name in graph.inputs:
            kinds = {p.key: p.value for p in a.quant_parameter_tensor_names}
            levels = annotated(kinds.get("finn_datatype", ""))
            if levels is not None:
                grids.inputs[a.tensor_name] = levels
    software(graph)
    single = raise_lowered(graph, _custom)
    sink_transposes(graph)
    shapes.infer(graph)
    writer = _Writer(graph, grids)
    for n in graph.nodes:
        if not _custom(n):
            _written_out(writer, n, _moved_or_kept)
            continue
        writer.begin = len(writer.nodes)
        _written_out(writer, n, _RULES[n.op])
    graph.nodes = writer.nodes
    one_channel_groups(graph, grids, single)
    for domain in [d for d in graph.domains if d.startswith(DOMAINS)]:
        del graph.domains[domain]
    graph.prune()
    return grids


def refuse_unknown(graph: OnnxGraph) -> None:
    """Raise FVC122 for the first operator of these domains that nothing here reads."""
    known = sorted({*_RULES, *LOWERED})
    for n in graph.nodes:
        if is_hardware(n):
            if not n.inputs or not n.outputs:
                raise unknown(n)
        elif _custom(n) and (n.op not in known or not n.inputs or not n.outputs):
            raise FvcError(
                "FVC122",
                f"the operator {n.op} of domain '{n.domain}' is not known",
                where=(f"node '{n.name}'",),
                help=("known are " + ", ".join(known),),
            )
        if _custom(n):
            graph.domains.setdefault(n.domain, 1)


def _written_out(writer: _Writer, n: Node, rule: Callable[[_Writer, Node], None]) -> None:
    """Apply a rule; constants whose shapes do not go together are the model's fault (FVC122)."""
    try:
        rule(writer, n)
    except (ValueError, IndexError, OverflowError, TypeError) as problem:
        raise FvcError(
            "FVC122", f"the inputs of node '{n.name}' do not fit one another: {problem}", where=(n.op,)
        ) from None


def _moved_or_kept(w: _Writer, n: Node) -> None:
    if not w.constant_move(n):
        w.nodes.append(n)


class _Writer:
    """Emits standard nodes; helpers for each quantiser rule."""

    def __init__(self, graph: OnnxGraph, grids: Grids) -> None:
        self.graph, self.grids = graph, grids
        self.nodes: list[Node] = []
        self.begin = 0  # where the nodes of the present operator start

    def const(self, base: str, value: Any) -> str:
        name = self.graph.fresh(base)
        self.graph.constants[name] = np.asarray(value)
        return name

    def emit(self, op: str, inputs: list[str], base: str, y: str = "", **attributes: Any) -> str:
        y = y or self.graph.fresh(base)
        self.nodes.append(Node(op, inputs, [y], self.graph.fresh(f"{y}_{op}"), "", attributes))
        return y

    def parameter(self, n: Node, index: int, what: str) -> Array:
        value = self.graph.constants.get(n.input(index))
        if value is None:
            code = "FVC121" if "width" in what else "FVC120"
            raise FvcError(
                code,
                f"the {what} of node '{n.name}' is not constant",
                where=(f"{n.op}, input {index} '{n.input(index)}'",),
                help=("a quantiser's parameters must be constants of the model: export it after training",),
            )
        return np.asarray(value)

    def scale(self, n: Node, index: int, what: str = "scale") -> Array:
        value = self.parameter(n, index, what).astype(F32)
        if value.size == 0 or not np.isfinite(value).all() or (value <= 0).any():
            bad = value.reshape(-1)[~(np.isfinite(value) & (value > 0)).reshape(-1)][:1]
            raise FvcError(
                "FVC120",
                f"the {what} of node '{n.name}' is not a positive number",
                where=(f"{n.op}: {float(bad[0]) if bad.size else 'empty'}",),
            )
        return value

    def bits(self, n: Node, index: int, what: str = "bit width") -> int:
        value = self.parameter(n, index, what)
        if np.unique(value).size != 1 or not whole(value) or not 1 <= float(value.reshape(-1)[0]) <= MOST_BITS:
            shown = ", ".join(f"{float(v):g}" for v in value.reshape(-1)[:4])
            raise FvcError(
                "FVC121",
                f"node '{n.name}' has a {what} of {shown or 'nothing'}",
                where=(n.op,),
                help=(f"one whole number from 1 to {MOST_BITS}",),
            )
        return int(value.reshape(-1)[0])

    def zero(self, n: Node, index: int) -> Array:
        value = self.parameter(n, index, "zero point").astype(F32)
        if not whole(value) or np.abs(value).max(initial=0) >= 2**24:
            raise FvcError(
                "FVC120",
                f"the zero point of node '{n.name}' is not a whole number",
                where=(f"{n.op}: {float(value.reshape(-1)[0]):g}",),
                help=("integers cannot stand for a grid that zero is not on",),
            )
        return value

    def grid(
        self, n: Node, y: str, integer: str, scale: Array, zero: Array, lo: int | None, hi: int | None, step: int = 1
    ) -> None:
        """Record the grid of activation y; one that is no single line of integers is left out and stays float."""
        axis = _axis(scale, self.graph.shape(n.inputs[0]))
        if axis is None or np.unique(zero).size != 1:
            return
        flat = scale.reshape(-1)
        one = flat[:1] if axis < 0 else flat
        zero_point = int(zero.reshape(-1)[0])
        self.grids.tensors[y] = Grid(integer, one, zero_point, lo, hi, step, n.name, axis, self.parts())

    def parts(self) -> tuple[str, ...]:
        return tuple(n.name for n in self.nodes[self.begin :])

    def constant_move(self, n: Node) -> bool:
        """Carry a grid constant through data movement with constant arguments; whether the node is done with."""
        held = self.grids.constants.get(n.inputs[0]) if n.inputs else None
        if held is None or n.domain or n.op not in _MOVES:
            return False
        shape = held.integers.shape
        wide = np.broadcast_to(held.scale, shape)
        if n.op == "Transpose":
            perm = n.ints("perm", range(len(shape))[::-1])
            moved = held.integers.transpose(perm), wide.transpose(perm)
        elif n.op == "Identity":
            moved = held.integers, wide
        else:
            value = self.graph.constants.get(n.input(1))
            if n.op == "Reshape" and value is not None:
                target = [shape[k] if d == 0 else int(d) for k, d in enumerate(value.reshape(-1))]
            elif n.op == "Flatten":
                cut = n.integer("axis", 1)
                target = [int(np.prod(shape[:cut])), -1]
            elif n.op == "Squeeze":
                drop = [int(v) % len(shape) for v in value] if value is not None else [
                    k for k, d in enumerate(shape) if d == 1
                ]  # fmt: skip
                target = [d for k, d in enumerate(shape) if k not in drop]
            elif n.op == "Unsqueeze" and value is not None:
                rank = len(shape) + value.size
                target, rest = [], list(shape)
                for k in range(rank):
                    target.append(1 if k in [int(v) % rank for v in value] else rest.pop(0))
            else:
                return False
            moved = held.integers.reshape(target), wide.reshape(target)
        self.put(n.outputs[0], *moved, held.node)
        return True

    def put(self, y: str, integers: Array, scale: Array, node: str, value: Array | None = None) -> None:
        """Make `y` a constant on a grid."""
        self.grids.constants[y] = GridConstant(np.ascontiguousarray(integers), scale, node)
        held = integers.astype(F32) * scale.astype(F32) if value is None else value
        self.graph.constants[y] = np.ascontiguousarray(held.astype(F32)).reshape(integers.shape)

    def bipolar(self, a: str, base: str) -> str:
        """+1 where a >= 0, else -1."""
        bit = self.emit("GreaterOrEqual", [a, self.const(f"{base}_origin", F32(0))], f"{base}_bit")
        real = self.emit("Cast", [bit], f"{base}_one", to=int(TensorProto.FLOAT))
        double = self.emit("Mul", [real, self.const(f"{base}_two", F32(2))], f"{base}_double")
        return self.emit("Sub", [double, self.const(f"{base}_minus", F32(1))], f"{base}_integer")

    def clip(self, a: str, lo: int, hi: int, base: str) -> str:
        limits = [self.const(f"{base}_lo", F32(lo)), self.const(f"{base}_hi", F32(hi))]
        return self.emit("Clip", [a, *limits], f"{base}_clipped")

    def rounded(self, n: Node, a: str, mode: str, base: str) -> str:
        """`a` as whole floats in a rounding mode of QONNX."""
        plain = {"ROUND": "Round", "HALF_EVEN": "Round", "CEIL": "Ceil", "FLOOR": "Floor"}.get(mode)
        if plain is not None:
            return self.emit(plain, [a], f"{base}_integer")
        away = {
            "UP": ("Ceil", 0.0), "DOWN": ("Floor", 0.0), "ROUND_TO_ZERO": ("Floor", 0.0), "HALF_UP": ("Floor", 0.5),
            "HALF_DOWN": ("Ceil", -0.5),
        }  # fmt: skip
        if mode not in away:
            raise FvcError(
                "FVC122",
                f"node '{n.name}' has the rounding mode '{mode}'",
                where=(n.op,),
                help=(f"known are {', '.join(_NUMPY_ROUND)}",),
            )
        op, shift = away[mode]
        start = len(self.nodes)
        size = self.emit("Abs", [a], f"{base}_abs")
        if shift:
            size = self.emit("Add", [size, self.const(f"{base}_half", F32(shift))], f"{base}_moved")
        size = self.emit(op, [size], f"{base}_whole")
        y = self.emit("Mul", [self.emit("Sign", [a], f"{base}_sign"), size], f"{base}_integer")
        self.grids.composites[y] = Composite(a, tuple(self.nodes[start:]))
        return y


def _axis(scale: Array, shape: tuple[int, ...] | None) -> int | None:
    """-1 for one scale, the axis along which it varies, None if it varies along several or the rank is unknown."""
    if scale.size == 1 or np.unique(scale).size == 1:
        return -1
    wide = [k for k, d in enumerate(scale.shape) if d != 1]
    if shape is None or len(wide) != 1 or scale.ndim > len(shape):
        return None
    return wide[0] + len(shape) - scale.ndim


def limits(bits: int, signed: bool, narrow: bool) -> tuple[int, int]:
    """Least and greatest integer of a QONNX quantiser."""
    if signed:
        return -(1 << (bits - 1)) + int(narrow), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - int(narrow)


_NUMPY_ROUND: dict[str, Any] = {
    "ROUND": np.round, "HALF_EVEN": np.round, "CEIL": np.ceil, "FLOOR": np.floor, "DOWN": np.fix,
    "ROUND_TO_ZERO": np.fix,  # what Brevitas calls DOWN
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + F32(0.5)),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - F32(0.5)),
}  # fmt: skip


def _quant(w: _Writer, n: Node) -> None:
    x, y = n.inputs[0], n.outputs[0]
    scale, zero, bits = w.scale(n, 1), w.zero(n, 2), w.bits(n, 3)
    signed, narrow = bool(n.integer("signed", 1)), bool(n.integer("narrow", 0))
    mode = n.text("rounding_mode", "ROUND").upper()
    bipolar = bits == 1 and signed
    lo, hi = (-1, 1) if bipolar else limits(bits, signed, narrow)
    if lo >= hi:
        raise FvcError("FVC121", f"node '{n.name}' has no two levels", where=(f"{bits} bits, narrow, {n.op}",))
    held = w.graph.constants.get(x)
    if held is not None:
        if mode not in _NUMPY_ROUND:
            w.rounded(n, x, mode, y)
        real = (held.astype(F32) / scale + zero).astype(F32)
        if bipolar:
            whole_numbers = np.where(real >= 0, F32(1), F32(-1))
        else:
            whole_numbers = _NUMPY_ROUND[mode](np.clip(real, F32(lo), F32(hi)))
        off = (whole_numbers - zero).astype(F32)
        w.put(y, off.astype(np.int64).astype(np.int32), scale, n.name, off * scale)
        return
    a = w.emit("Div", [x, w.const(f"{y}_scale", scale)], f"{y}_scaled")
    if zero.any():
        a = w.emit("Add", [a, w.const(f"{y}_zero", zero)], f"{y}_moved")
    r = w.bipolar(a, y) if bipolar else w.rounded(n, w.clip(a, lo, hi, y), mode, y)
    _rescale(w, r, zero, scale, y)
    w.grid(n, y, r, scale, zero, lo, hi, 2 if bipolar else 1)


def _rescale(w: _Writer, r: str, zero: Array, scale: Array, y: str) -> None:
    if np.any(zero):
        r = w.emit("Sub", [r, w.const(f"{y}_zero", zero.astype(F32))], f"{y}_centred")
    w.emit("Mul", [r, w.const(f"{y}_scale", scale)], "", y)


def _bipolar_quant(w: _Writer, n: Node) -> None:
    x, y = n.inputs[0], n.outputs[0]
    scale = w.scale(n, 1)
    held = w.graph.constants.get(x)
    if held is not None:
        w.put(y, np.where(held >= 0, 1, -1).astype(np.int32), scale, n.name)
        return
    r = w.bipolar(x, y)
    _rescale(w, r, np.zeros(1), scale, y)
    w.grid(n, y, r, scale, np.zeros(1), -1, 1, 2)


def _trunc(w: _Writer, n: Node) -> None:
    """Trunc of five inputs (QONNX 1) or of six (QONNX 2: output scale, clamped)."""
    x, y = n.inputs[0], n.outputs[0]
    scale, zero, bits = w.scale(n, 1), w.zero(n, 2), w.bits(n, 3, "input bit width")
    mode = n.text("rounding_mode", "FLOOR").upper()
    second = len(n.inputs) >= 6
    out_bits = w.bits(n, 5 if second else 4, "output bit width")
    lo: int | None = None
    hi: int | None = None
    if second:
        out_scale = w.scale(n, 4, "output scale")
        shrink = np.asarray(2 ** np.round(np.log2(out_scale / scale)), F32)
        lo, hi = limits(out_bits, bool(n.integer("signed", 1)), bool(n.integer("narrow", 0)))
        out_zero = zero / shrink
    else:
        out_scale, shrink, out_zero = scale, np.asarray(2.0 ** (bits - out_bits), F32), zero
    if not whole(out_zero):
        raise FvcError("FVC120", f"the zero point of node '{n.name}' is not whole after truncation", where=(n.op,))
    a = w.emit("Div", [x, w.const(f"{y}_scale", scale)], f"{y}_scaled")
    if zero.any():
        a = w.emit("Add", [a, w.const(f"{y}_zero", zero)], f"{y}_moved")
    a = w.emit("Round", [a], f"{y}_whole")
    a = w.emit("Div", [a, w.const(f"{y}_shrink", shrink)], f"{y}_shrunk")
    if lo is not None and hi is not None:
        a = w.clip(a, lo, hi, y)
    r = w.rounded(n, a, mode, y)
    _rescale(w, r, np.asarray(out_zero, F32), out_scale, y)
    w.grid(n, y, r, out_scale, np.asarray(out_zero, F32), lo, hi)


def _multithreshold(w: _Writer, n: Node) -> None:
    x, y = n.inputs[0], n.outputs[0]
    table = w.parameter(n, 1, "threshold table").astype(F32)
    shape = w.graph.shape(x)
    if shape is None or table.ndim != 2 or not table.size or np.isnan(table).any():
        raise FvcError("FVC122", f"the thresholds of node '{n.name}' are no table (channels, steps)", where=(n.op,))
    rank = len(shape)
    layout = n.text("data_layout", "") or {2: "NC", 3: "NWC", 4: "NCHW"}.get(rank, "")
    channel = layout.index("C") if "C" in layout else 1
    if len(table) not in (1, shape[channel]):
        raise FvcError(
            "FVC122",
            f"node '{n.name}' has {len(table)} rows of thresholds for {shape[channel]} channels",
            where=(n.op,),
        )
    steps = table.shape[1]
    form = [1] * rank
    form[channel] = len(table)
    start = len(w.nodes)
    side = w.emit("Unsqueeze", [x, w.const(f"{y}_axis", np.asarray([rank], np.int64))], f"{y}_side")
    hit = w.emit("GreaterOrEqual", [side, w.const(f"{y}_table", table.reshape(*form, steps))], f"{y}_hit")
    one = w.emit("Cast", [hit], f"{y}_one", to=int(TensorProto.FLOAT))
    last = w.const(f"{y}_last", np.asarray([rank], np.int64))
    count = w.emit("ReduceSum", [one, last], f"{y}_count", keepdims=0)
    w.grids.composites[count] = Composite(x, tuple(w.nodes[start:]))
    scale, bias = F32(n.real("out_scale", 1.0)), F32(n.real("out_bias", 0.0))
    if not np.isfinite(scale) or scale <= 0 or not np.isfinite(bias):
        raise FvcError("FVC120", f"the output scale of node '{n.name}' is not positive", where=(f"{n.op}: {scale}",))
    integer, double = count, 1
    if not (whole(scale) and whole(bias)):
        double = next((k for k in (1, 2) if float(bias) * k / float(scale) == round(float(bias) * k / float(scale))), 0)
        if not double:
            raise FvcError(
                "FVC120", f"the output bias of node '{n.name}' is not on the grid of its scale", where=(n.op,),
                help=("out_bias must be a multiple of out_scale, or of its half",),
            )  # fmt: skip
    if double == 2:
        integer = w.emit("Mul", [count, w.const(f"{y}_two", F32(2))], f"{y}_integer")
    scaled = w.emit("Mul", [integer, w.const(f"{y}_scale", F32(scale / double))], f"{y}_scaled")
    w.emit("Add", [scaled, w.const(f"{y}_bias", bias)], "", y)
    if whole(scale) and whole(bias):
        grid = (y, np.ones(1, F32), 0, int(bias), int(bias) + int(scale) * steps, int(scale))
    else:
        zero_point = -round(float(bias) * double / float(scale))
        grid = (integer, np.asarray([scale / double], F32), zero_point, 0, double * steps, double)
    name, unit, zero, lo, hi, step = grid
    w.grids.tensors[y] = Grid(name, unit, zero, lo, hi, step, n.name, -1, w.parts())


def _average_pool(w: _Writer, n: Node) -> None:
    """QuantAvgPool2d: the sum of a window, shifted right to the output's bits."""
    kernel, stride = n.integer("kernel", 1), n.integer("stride", 1)
    x, y = n.inputs[0], n.outputs[0]
    a = w.emit("AveragePool", [x], f"{y}_mean", kernel_shape=[kernel] * 2, strides=[stride] * 2)
    a = w.emit("Mul", [a, w.const(f"{y}_area", F32(kernel * kernel))], f"{y}_sum")
    a = w.emit("Round", [a], f"{y}_whole")
    bits = int((2 ** n.integer("ibits", 8) - 1) * kernel * kernel).bit_length()
    shift = max(0, bits - n.integer("obits", 8))
    a = w.emit("Mul", [a, w.const(f"{y}_shift", F32(2.0**-shift))], f"{y}_shifted")
    r = w.emit("Floor", [a], "", y)
    w.grids.tensors[r] = Grid(r, np.ones(1, F32), 0, None, None, 1, n.name, -1, w.parts())


_RULES = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar_quant,
    "Trunc": _trunc,
    "MultiThreshold": _multithreshold,
    "QuantAvgPool2d": _average_pool,
}
