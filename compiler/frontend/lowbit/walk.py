"""From grids to integers: one topological walk that gives every quantised tensor an integer twin.

Needs a clean OnnxGraph with `grids`. At each quantiser the chain behind it ends in a sum of products (which becomes a
layer with thresholds), an integer tensor (a table), or floats (the quantiser runs on the host). Data movement, ReLU,
scaling and equal-scale additions carry integers along. Guarantees that every twin holds the integers that the float
graph's quantiser gives for the exact value of its input; what has no twin stays float, with its reason in the report.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from onnx import TensorProto

from compiler.frontend import functions, movement
from compiler.frontend.integer import DTYPE, QP, QT, S16, STORED, Emitter, Unfit
from compiler.frontend.lowbit import sums
from compiler.frontend.lowbit.chain import Chain, find
from compiler.frontend.lowbit.grid import Array, Grid, Grids, elem_of, fit_container
from compiler.frontend.lowbit.layers import sums_layer, threshold_layer, unit_layer
from compiler.frontend.lowbit.linear import Ints, Linear, linear, split_bias
from compiler.frontend.lowbit.steps import MOST_ENTRIES, MOST_STEPS, MOST_WIDE_STEPS, StepTable, step_table
from compiler.frontend.onnxgraph import Node, OnnxGraph
from compiler.frontend.options import ImportReport
from compiler.frontend.segments import CONVERSIONS
from compiler.frontend.simplify import means
from compiler.frontend.windows import window

F32 = np.float32
_LINEAR = {"Conv", "MatMul", "AveragePool", "GlobalAveragePool"}
_FLAT = {"Reshape", "Flatten", "Squeeze"}
_MOVES = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Slice", "Split", "DepthToSpace",
    "SpaceToDepth", "Tile", "Expand", "Gather", "MaxPool", "Resize", "Pad",
}  # fmt: skip


_NO_INT16 = {"Pad", "Resize", "DepthToSpace", "SpaceToDepth"}  # that ONNX Runtime has no kernel for


def convert(graph: OnnxGraph, report: ImportReport, *, wide: bool = False) -> None:
    """Rewrite `graph` in place; with `wide`, also what has 9 to 16 bits."""
    assert graph.grids is not None
    means(graph)
    split_bias(graph, graph.grids)
    walk = _Walk(graph, graph.grids, report, wide)
    walk.run()
    walk.close()
    if walk.near:
        report.fallback(
            f"{walk.near} of {walk.steps} thresholds lie within float32 rounding of a sum: there the integers follow "
            "the exact sum, the float graph its order of summation"
        )
    if walk.moved:
        report.fallback(
            f"{walk.moved} of these thresholds, of layers that have too many to store, stand where a multiplication "
            "and a shift has them, within that rounding"
        )
    if not walk.layers:
        report.fallback("no layer of this low-bit model has quantised inputs and weights: all of it runs in float")


class _Walk:
    def __init__(self, graph: OnnxGraph, grids: Grids, report: ImportReport, wide: bool) -> None:
        self.graph, self.grids, self.report, self.wide = graph, grids, report, wide
        self.most = MOST_WIDE_STEPS if wide else MOST_STEPS
        self.e = Emitter(graph, report)
        self.made = graph.producers()
        self.ints: dict[str, Ints] = {}
        self.linears: dict[str, Linear | None] = {}
        self.host: list[Node] = []  # float nodes of quantisers that run on the host
        self.near = self.moved = self.steps = self.layers = 0

    def run(self) -> None:
        for name, (lo, hi, step) in self.grids.inputs.items():
            if fit_container(lo, hi, 0, self.wide) is not None:
                self.annotated(name, lo, hi, step)
        for n in self.graph.nodes:
            y = n.outputs[0]
            grid = self.grids.tensors.get(y)
            try:
                if grid is not None:
                    self.quantise(y, grid)
                else:
                    self.carry(n)
            except Unfit as why:
                for name in (n.name, *(grid.parts if grid is not None else ())):
                    self.report.reasons.setdefault(name, str(why))

    def annotated(self, name: str, lo: int, hi: int, step: int) -> None:
        """A graph input that holds integers in float: the annotation is made true, so that nothing is undefined."""
        clipped, whole = self.graph.fresh(f"{name}_clipped"), self.graph.fresh(f"{name}_whole")
        limits = [self.e.const(f"{name}_lo", np.asarray(lo, F32)), self.e.const(f"{name}_hi", np.asarray(hi, F32))]
        nodes = [
            Node("Clip", [name, *limits], [clipped], self.graph.fresh(f"{name}_clip")),
            Node("Round", [clipped], [whole], self.graph.fresh(f"{name}_round")),
        ]
        self.host += nodes
        grid = Grid(whole, np.ones(1, F32), 0, lo, hi, step, name, -1, tuple(n.name for n in nodes))
        self.quantise_floats(name, grid, whole)

    # -- quantisers ------------------------------------------------------------------------------------------------

    def axis_of(self, name: str) -> int | None:
        """Channel axis of a tensor that a chain may start from."""
        if name in self.ints:
            rank = len(self.graph.shape(name) or ())
            return self.ints[name].axis if self.ints[name].axis >= 0 else min(1, rank - 1) if rank else 0
        found = self.linear_of(name)
        return None if found is None else found.axis

    def linear_of(self, name: str) -> Linear | None:
        if name not in self.linears:
            n = self.unflattened(name)
            found = None
            if n is not None and not n.domain and n.op in _LINEAR and n.inputs[0] in self.ints:
                try:
                    found = linear(self.graph, self.grids, n, self.ints[n.inputs[0]], self.wide)
                except Unfit as why:
                    self.report.reasons.setdefault(n.name, str(why))
            self.linears[name] = found
        return self.linears[name]

    def unflattened(self, name: str) -> Node | None:
        """The maker of `name`, or of the pixel a channel (N, C, 1, 1) that `name` (N, C) is."""
        n, shape = self.made.get(name), self.graph.shape(name)
        if n is None or n.domain or n.op not in _FLAT or shape is None or len(shape) != 2:
            return n
        before = self.graph.shape(n.inputs[0])
        return self.made.get(n.inputs[0]) if before == (*shape, *[1] * (len(before or ()) - 2)) else n

    def quantise(self, y: str, grid: Grid) -> None:
        """Give `y` a twin."""
        chain = find(self.graph, self.grids, self.made, grid.integer, self.axis_of)
        if chain is None:
            if not self.quantise_sum(y, grid):
                self.quantise_floats(y, grid, grid.integer)
        elif chain.source in self.ints:
            x = self.ints[chain.source]
            if self.beyond(grid, x):
                self.stepped(y, grid, chain, x)
            else:
                self.table(y, grid, chain, x)
        else:
            found = self.linear_of(chain.source)
            assert found is not None
            try:
                self.layer(y, grid, chain, found)
            except Unfit as why:
                for name in (found.node.name, *(n.name for n in chain.nodes), *grid.parts):
                    self.report.reasons.setdefault(name, str(why))
                self.quantise_floats(y, grid, grid.integer)

    def beyond(self, grid: Grid, x: Ints) -> bool:
        """Whether x, or what a quantiser makes of it, is wider than the 8 bits that a table maps."""
        if not self.wide or x.elem == S16:
            return self.wide
        return grid.lo is not None and grid.hi is not None and fit_container(grid.lo, grid.hi, grid.zero) is None

    def layer(self, y: str, grid: Grid, chain: Chain, found: Linear) -> None:
        """A sum of products and its step function: one node with thresholds."""
        low, high = found.reach(self.wide)
        table = step_table(self.graph, chain, grid, low, high, found.unit, self.most)
        shape, flat = self.graph.shape(found.node.outputs[0]), self.graph.shape(chain.source)
        if shape is None or flat is None:
            raise Unfit("the shape of its result is not static")
        self.thresholds(y, grid, found, table, shape, flat)

    def thresholds(
        self, y: str, grid: Grid, found: Linear, table: StepTable, shape: tuple[int, ...], flat: tuple[int, ...]
    ) -> None:
        """Give `y`, of shape `flat`, the twin that the sums of `found`, of shape `shape`, and a step function make."""
        shift, zero = self.container(grid, table.lo, table.hi)
        name, e = self.graph.fresh(f"{y}_q"), self.e
        made = name if flat == shape else self.graph.fresh(f"{y}_pixel_q")
        elem = elem_of(table.lo + shift, table.hi + shift)
        threshold_layer(e, found, table, shift, elem, made, shape, self.wide)
        if made != name:
            self.reshaped(made, name, flat, elem, f"{y}_flat", f"{found.node.name}_flat")
        self.keep(y, Ints(name, elem, grid.scale, grid.axis, zero, table.lo + shift, table.hi + shift, table.step))
        self.near, self.moved = self.near + table.near, self.moved + table.moved
        self.steps, self.layers = self.steps + table.values.size, self.layers + 1

    def reshaped(self, x: str, y: str, shape: tuple[int, ...], elem: int, form: str, name: str) -> None:
        target = self.e.const(form, np.asarray(shape, np.int64))
        self.e.nodes.append(Node("Reshape", [x, target], [y], self.graph.fresh(name)))
        self.e.declare(y, elem, shape)

    def container(self, grid: Grid, lo: int, hi: int) -> tuple[int, int]:
        fitted = fit_container(lo, hi, grid.zero, self.wide)
        if fitted is None:
            bits = 16 if self.wide else 8
            raise Unfit(f"its integers from {lo} to {hi} with the zero point {grid.zero} need more than {bits} bits")
        return fitted

    def stepped(self, y: str, grid: Grid, chain: Chain, x: Ints) -> None:
        """A step function of an integer tensor, one of both wide: a product with one for each channel."""
        if chain.channels and chain.axis != 1:
            raise Unfit("its constants vary along another axis than the channels")
        if x.scale.size > 1 and x.axis != 1:
            raise Unfit("its input's scale varies along another axis than the channels")
        unit, flat, pixel = self.unit(x, y, chain.source, f"{grid.node}_steps")
        low, high = unit.reach(True)
        table = step_table(self.graph, chain, grid, low, high, unit.unit, self.most)
        self.thresholds(y, grid, unit, table, pixel, flat)

    def unit(self, x: Ints, y: str, source: str, name: str) -> tuple[Linear, tuple[int, ...], tuple[int, ...]]:
        """A product with one over `x`, the twin of `source`; its shape, and that as pixels of channels."""
        flat = self.graph.shape(source)
        if flat is None or not 2 <= len(flat) <= 4:
            raise Unfit("a step function of wide integers over a tensor of this rank")
        pixel = (*flat, 1, 1) if len(flat) == 2 else flat
        if pixel != flat:
            seen = self.graph.fresh(f"{y}_pixel")
            self.reshaped(x.name, seen, pixel, x.elem, f"{seen}_shape", f"{name}_pixel")
            x = replace(x, name=seen)
        return unit_layer(x, pixel, self.graph.fresh(name)), flat, pixel

    def table(self, y: str, grid: Grid, chain: Chain, x: Ints) -> None:
        """A step function of an integer tensor: 256 entries, or 256 a channel."""
        if chain.channels and chain.axis != 1:
            raise Unfit("its constants vary along another axis than the channels")
        stored = np.clip(np.arange(256, dtype=np.uint8).view(DTYPE[x.elem]).astype(np.int64), x.lo, x.hi)
        real = ((stored - x.zero).astype(F32) * x.scale.reshape(-1, 1)).astype(F32)
        if x.scale.size > 1:
            if x.axis != 1:
                raise Unfit("its input's scale varies along another axis than the channels")
            chain.channels = x.scale.size
        values = chain.integers(self.graph, real, 256)
        self.look_up(y, grid, x, values)

    def look_up(self, y: str, grid: Grid, x: Ints, values: Array) -> None:
        """`values` (1 or C, 256) by the byte of x become a table, or nothing where they are x itself."""
        order = np.arange(256, dtype=np.uint8).view(DTYPE[x.elem]).astype(np.int64)
        reached = (order >= x.lo) & (order <= x.hi)
        lo, hi = int(values[:, reached].min()), int(values[:, reached].max())
        if grid.lo is not None and grid.hi is not None and grid.hi - grid.lo <= 255:
            lo, hi = grid.lo, grid.hi
        shift, zero = self.container(grid, lo, hi)
        elem = elem_of(lo + shift, hi + shift)
        if elem == x.elem and ((values + shift == order)[:, reached]).all():
            lo, hi = max(lo + shift, x.lo), min(hi + shift, x.hi)
            self.keep(y, Ints(x.name, elem, grid.scale, grid.axis, zero, lo, hi, x.step))
            return
        name = self.graph.fresh(f"{y}_q")
        rows = values if len(values) > 1 else values[0]
        self.e.table(x.name, name, rows + shift, elem, self.graph.fresh(f"{grid.node}_table"))
        self.keep(y, Ints(name, elem, grid.scale, grid.axis, zero, lo + shift, hi + shift, grid.step))

    def quantise_sum(self, y: str, grid: Grid) -> bool:
        """A quantiser over the sum of two integer tensors of unlike scales: QLinearAdd, where proved over all pairs."""

        def axis_of(name: str) -> int | None:
            return 1 if self.operands(name) is not None else None

        chain = find(self.graph, self.grids, self.made, grid.integer, axis_of)
        if chain is None or chain.channels:
            return False
        pair = self.operands(chain.source)
        assert pair is not None
        try:
            form = sums.pair_form(self.graph, chain, grid, *pair)
        except Unfit as why:
            self.report.reasons.setdefault(self.made[chain.source].name, str(why))
            return False
        a, b = (QT(t.name, QP(F32(t.scale[0]), t.zero, t.elem)) for t in pair)
        wide = self.graph.fresh(f"{y}_sum")
        self.e.binary("Add", a, b, wide, form.qp, self.graph.fresh(f"{grid.node}_add"))
        unit = Ints(wide, form.qp.elem, grid.scale, -1, form.qp.zero, form.qp.lo, form.qp.hi, 1)
        order = form.qp.bytes_in_order().astype(np.int64) - form.qp.zero + grid.zero
        bounded = np.clip(order, form.lo, form.hi)[None]
        self.look_up(y, grid, unit, bounded)
        return True

    def operands(self, name: str) -> tuple[Ints, Ints] | None:
        n = self.made.get(name)
        if n is None or n.op != "Add" or n.domain or not all(i in self.ints for i in n.inputs):
            return None
        a, b = (self.ints[i] for i in n.inputs)
        same = self.graph.shape(n.inputs[0]) == self.graph.shape(n.inputs[1])
        return (a, b) if same and a.scale.size == b.scale.size == 1 else None

    def quantise_floats(self, y: str, grid: Grid, r: str) -> None:
        """The quantiser stays float, on the host; its whole numbers become integers of 8 or 16 bits there."""
        if grid.lo is None or grid.hi is None:
            raise Unfit("a quantiser without limits over floats")
        shift, zero = self.container(grid, grid.lo, grid.hi)
        for part in grid.parts:
            self.report.reasons.setdefault(part, CONVERSIONS[0])
        if r == y and y in self.made:  # the float result keeps its name only until the integers take it over
            r = self.graph.fresh(f"{y}_float")
            maker = self.made.pop(y)
            maker.outputs = [r if o == y else o for o in maker.outputs]
            self.made[r] = maker
        elem = elem_of(grid.lo + shift, grid.hi + shift)
        if shift:
            moved = self.graph.fresh(f"{y}_shifted")
            offset = self.e.const(f"{y}_shift", np.asarray(shift, F32))
            self.host.append(Node("Add", [r, offset], [moved], self.graph.fresh(f"{grid.node}_shift")))
            r = moved
        name, cast = self.graph.fresh(f"{y}_q"), self.graph.fresh(f"{grid.node}_to_integer")
        self.report.reasons[cast] = CONVERSIONS[0]
        self.host.append(Node("Cast", [r], [name], cast, "", {"to": elem}))
        shape = self.graph.shape(y)
        if shape is not None:
            self.e.declare(name, elem, shape)
        self.keep(y, Ints(name, elem, grid.scale, grid.axis, zero, grid.lo + shift, grid.hi + shift, grid.step))

    def keep(self, y: str, t: Ints) -> None:
        self.ints[y] = t

    # -- what carries integers along -------------------------------------------------------------------------------

    def carry(self, n: Node) -> None:
        """Give the results of `n` twins if it is exact on integers."""
        if n.domain or not n.inputs:
            return
        data = [i for i in n.uses if i not in self.graph.constants]
        if not data or any(i not in self.ints for i in data):
            return
        x = self.ints[data[0]]
        y = n.outputs[0]
        if n.op in _MOVES:
            self.move(n, x)
        elif n.op == "Relu":
            if x.elem == S16:
                self.positive(n, x)
                return
            order = np.arange(256, dtype=np.uint8).view(DTYPE[x.elem]).astype(np.int64)
            values = np.clip(np.maximum(order, x.zero), x.lo, x.hi)[None]
            if x.hi > x.zero:
                self.look_up(y, Grid(y, x.scale, x.zero, None, None, 1, n.name, x.axis), x, values)
        elif n.op in ("Mul", "Div") and len(data) == 1 and n.inputs[0] == data[0] and n.inputs[1] != data[0]:
            value = self.graph.constants[n.inputs[1]]
            if (
                value.size == 1
                and value.ndim <= len(self.graph.shape(data[0]) or ())
                and float(value.reshape(-1)[0]) > 0
            ):
                factor = F32(value.reshape(-1)[0])
                scale = (x.scale * factor if n.op == "Mul" else x.scale / factor).astype(F32)
                self.keep(y, Ints(x.name, x.elem, scale, x.axis, x.zero, x.lo, x.hi, x.step))
        elif n.op == "Add" and len(data) == 2:
            self.add(n)
        elif n.op in ("Add", "Sub") and len(n.inputs) == 2 and len(data) == 1:
            self.shift(n, x)
        elif n.op == "Concat" and len(data) == len(n.inputs):
            parts = [self.ints[i] for i in data]
            if all(p.scale.size == 1 and (p.elem, p.zero) == (x.elem, x.zero) and p.scale == x.scale for p in parts):
                step = x.step if all((p.lo, p.hi, p.step) == (x.lo, x.hi, x.step) for p in parts) else 1
                name = self.graph.fresh(f"{y}_q")
                self.e.nodes.append(Node("Concat", [p.name for p in parts], [name], n.name, "", dict(n.attributes)))
                lo, hi = min(p.lo for p in parts), max(p.hi for p in parts)
                self.declare_like(name, x.elem, y)
                self.keep(y, Ints(name, x.elem, x.scale, -1, x.zero, lo, hi, step))

    def positive(self, n: Node, x: Ints) -> None:
        """ReLU of wide integers: one step at each above zero."""
        if x.lo >= x.zero or x.hi <= x.zero:
            if x.lo >= x.zero:
                self.keep(n.outputs[0], x)
            return
        unit, flat, pixel = self.unit(x, n.outputs[0], n.inputs[0], n.name)
        first = -(-(x.zero + 1 - x.lo) // x.step) * x.step + x.lo - x.zero  # the least level above zero
        count = (x.hi - x.zero - first) // x.step + 1
        channels = len(unit.weight)
        if first % x.step or count * channels > MOST_ENTRIES:
            raise Unfit("a ReLU of levels that are no multiples of their step, or of too many")
        row = first + x.step * np.arange(count, dtype=np.int32)
        table = StepTable(np.tile(row, (channels, 1)), np.ones(channels, np.int64), 0, x.step, 0)
        self.thresholds(
            n.outputs[0], Grid("", x.scale, 0, None, None, x.step, n.name, x.axis), unit, table, pixel, flat
        )

    def shift(self, n: Node, x: Ints) -> None:
        """A constant added on the tensor's own grid moves the zero point: FINN's out_bias as a node of its own."""
        left = n.inputs[0] in self.graph.constants
        value = self.graph.constants[n.inputs[0 if left else 1]]
        rank = len(self.graph.shape(n.inputs[1 if left else 0]) or ())
        if value.size != 1 or value.ndim > rank or x.scale.size != 1 or (left and n.op == "Sub"):
            return
        steps = float(value.reshape(-1)[0]) / float(x.scale[0]) * (1 if n.op == "Add" else -1)
        zero = x.zero - steps
        if zero != round(zero) or abs(zero) > 2**15:
            return
        if np.iinfo(STORED[x.elem]).min <= zero <= np.iinfo(STORED[x.elem]).max:
            self.keep(n.outputs[0], replace(x, zero=int(zero)))
        elif x.elem != S16:  # a zero point beyond the type of what is stored: other integers have to be stored
            order = np.arange(256, dtype=np.uint8).view(DTYPE[x.elem]).astype(np.int64)
            self.look_up(n.outputs[0], Grid("", x.scale, int(zero), None, None, x.step, n.name), x, order[None])

    def declare_like(self, name: str, elem: int, y: str) -> None:
        shape = self.graph.shape(y)
        if shape is None:
            raise Unfit(f"the shape of '{y}' is not static")
        self.e.declare(name, elem, shape)

    def move(self, n: Node, x: Ints) -> None:
        if not movement.moves_exactly(n, self.graph) or (x.scale.size > 1 and n.op != "MaxPool"):
            return
        if x.elem == S16 and n.op in _NO_INT16:
            raise Unfit(f"{n.op} of integers wider than 8 bits")
        qp = QP(F32(x.scale[0]), x.zero, x.elem)
        value = movement.pad_value(n, self.graph)
        lo, hi, step = x.lo, x.hi, x.step
        if value is not None:
            q = value / float(qp.scale) + x.zero
            if q != round(q) or not qp.lo <= q <= qp.hi:
                return
            if not (lo <= q <= hi and (q - lo) % step == 0):
                lo, hi, step = min(lo, int(q)), max(hi, int(q)), 1
        outputs = [self.graph.fresh(f"{o}_q") for o in n.outputs if o]
        moved = movement.moved(n, QT(x.name, qp), outputs, self.e)
        if x.elem == S16 and n.op == "MaxPool":
            moved = self.wide_pool(n, moved)
        self.e.nodes.append(moved)
        for o, name in zip([o for o in n.outputs if o], outputs, strict=True):
            self.declare_like(name, x.elem, o)
            self.keep(o, Ints(name, x.elem, x.scale, x.axis, x.zero, lo, hi, step))

    def wide_pool(self, n: Node, moved: Node) -> Node:
        """ONNX Runtime has no MaxPool of int16: the project's own, every attribute said."""
        win = window(n, (self.graph.shape(n.inputs[0]) or ())[2:], tuple(n.ints("kernel_shape", [])))
        attributes = {
            "ceil_mode": n.integer("ceil_mode", 0), "dilations": list(win.dilations), "kernel_shape": list(win.kernel),
            "pads": list(win.pads), "strides": list(win.strides), "to": S16,
        }  # fmt: skip
        return Node(functions.MAX_POOL, moved.inputs[:1], moved.outputs, moved.name, functions.DOMAIN, attributes)

    def add(self, n: Node) -> None:
        """The sum of two tensors whose scales are in the ratio of small whole numbers, if it is narrow enough."""
        pair = self.operands(n.outputs[0])
        if pair is None:
            return
        a, b = pair
        ratio = Fraction(float(a.scale[0])) / Fraction(float(b.scale[0]))
        if max(ratio.numerator, ratio.denominator) > 64:
            return
        p, q = ratio.numerator, ratio.denominator
        lo = p * (a.lo - a.zero) + q * (b.lo - b.zero)
        hi = p * (a.hi - a.zero) + q * (b.hi - b.zero)
        y, wide = n.outputs[0], S16 in (a.elem, b.elem)
        fitted = fit_container(lo, hi, 0, self.wide)
        if fitted is None:
            return
        shift, zero = fitted
        elem = elem_of(lo + shift, hi + shift)
        name = self.graph.fresh(f"{y}_q")
        if wide or elem == S16:
            given = [p, q, shift - p * a.zero - q * b.zero]
            factors = [self.e.const(f"{y}_{k}", np.asarray(v, np.int32)) for k, v in zip("abc", given, strict=True)]
            inputs = [a.name, b.name, *factors]
            self.e.nodes.append(Node(functions.ADD, inputs, [name], n.name, functions.DOMAIN, {"to": elem}))
            self.declare_like(name, elem, y)
        else:
            left, right = (QT(t.name, QP(F32(f), t.zero, t.elem)) for t, f in ((a, p), (b, q)))
            self.e.binary("Add", left, right, name, QP(F32(1), 0, elem), n.name)
        unit = np.asarray([Fraction(float(a.scale[0])) / p], np.float64).astype(F32)
        step = int(np.gcd(p * a.step, q * b.step))
        self.keep(y, Ints(name, elem, unit, -1, zero, lo + shift, hi + shift, step))

    # -- the end ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Integers where there are twins, a DequantizeLinear where a float reader or output wants one of them."""
        graph, e = self.graph, self.e
        twins = set(self.ints) - set(graph.inputs)
        floats = [n for n in graph.nodes if not (n.outputs[0] in twins and all(o in twins or not o for o in n.outputs))]
        back = []
        for y in sorted(twins):
            t = self.ints[y]
            if t.elem == S16:
                back += self.to_float(y, t)
                continue
            scale = t.scale.reshape(()) if t.scale.size == 1 else t.scale
            zero = np.full(scale.shape, t.zero).astype(DTYPE[t.elem])
            inputs = [t.name, e.const(f"{y}_scale", scale), e.const(f"{y}_zero_point", zero)]
            attributes = {} if t.scale.size == 1 else {"axis": t.axis}
            back.append(Node("DequantizeLinear", inputs, [y], graph.fresh(f"{y}_to_float"), "", attributes))
        graph.nodes = [*floats, *self.host, *e.nodes, *back]
        graph.sort()
        graph.prune()
        e.nodes = []
        kept = [n for n in graph.nodes if not self.leave_sums(n)]
        if e.nodes:
            graph.nodes = [*kept, *e.nodes]
            graph.sort()
            graph.prune()

    def to_float(self, y: str, t: Ints) -> list[Node]:
        """DequantizeLinear of int16, which operator sets before 21 do not have."""
        real, name = self.graph.fresh(f"{y}_real"), self.graph.fresh(f"{y}_to_float")
        nodes = [Node("Cast", [t.name], [real], name, "", {"to": int(TensorProto.FLOAT)})]
        if t.zero:
            moved = self.graph.fresh(f"{y}_centred")
            zero = self.e.const(f"{y}_zero_point", np.asarray(t.zero, F32))
            nodes.append(Node("Sub", [real, zero], [moved], self.graph.fresh(f"{y}_centre")))
            real = moved
        rank = len(self.graph.shape(y) or ())
        along = [-1 if k == t.axis else 1 for k in range(rank)]
        scale = t.scale.reshape(()) if t.scale.size == 1 else t.scale.reshape(along)
        nodes.append(Node("Mul", [real, self.e.const(f"{y}_scale", scale)], [y], self.graph.fresh(f"{y}_scaled")))
        for node in nodes:
            self.report.reasons[node.name] = CONVERSIONS[1]
        return nodes

    def leave_sums(self, n: Node) -> bool:
        """A product that a float operator reads (the last layer): its accumulators, scaled on the host."""
        if n.op not in ("Conv", "MatMul") or n.domain:
            return False
        try:
            found = self.linear_of(n.outputs[0])
            if found is None:
                return False
            low, high = found.reach(self.wide and not found.narrow)
            e, y = self.e, n.outputs[0]
            sums, real = self.graph.fresh(f"{y}_sums"), self.graph.fresh(f"{y}_real")
            sums_layer(e, found, low, high, sums, self.graph.shape(y))
        except Unfit:
            return False
        unit = found.unit.astype(F32)
        factor = unit[0].reshape(()) if (unit == unit[0]).all() else unit.reshape(found.column)
        names = [self.graph.fresh(f"{n.name}_to_float"), self.graph.fresh(f"{n.name}_scale")]
        e.nodes.append(Node("Cast", [sums], [real], names[0], "", {"to": int(TensorProto.FLOAT)}))
        e.nodes.append(Node("Mul", [real, e.const(f"{y}_unit", factor)], [y], names[1]))
        for name in names:
            self.report.reasons[name] = CONVERSIONS[1]
        self.layers += 1
        return True
