"""Convolutions and matrix products: what may be split, what a box needs, tiles, instructions.

Output channels split by the array's rows (whole groups where there are groups); input channels split into partial
sums where there is one group. Rows, columns and the batch are general in the geometry.
"""

from __future__ import annotations

from compiler.ir.graph import Conv, DType, Graph
from compiler.isa.program import EngineSpec
from compiler.isa.table import Flag, Space
from compiler.ops.base import Proto, Step, Task, TaskTimeline, Tile, View, dense_view, unsigned_flag
from compiler.ops.conv_const import (
    folded_bias,
    instruction_zero_point,
    output_range,
    requant_plan,
    row_sum_coefficient,
    weight_block,
)
from compiler.ops.conv_geometry import (
    Geometry,
    Slots,
    Visit,
    act_bytes_of,
    gaps,
    geometry,
    input_grain,
    input_units,
    last_dims,
    mac_mode,
    operator_axes,
    out_dims,
    slots,
    turned,
    void,
    walk,
)
from compiler.ops.conv_tile import choose
from compiler.ops.conv_time import timeline
from compiler.ops.dma import load, load_const, padded_load, store
from compiler.ops.shares import input_share_of, share_bounds, share_of
from compiler.plan.model import Box
from compiler.requant import pack_vreq, packed_bytes
from cost_models.primitives import OTHER_CYCLES, vector_cycles

SUM_BYTES = 4  # of an accumulator that leaves the core: a partial sum, or the result of a layer without requantiser


def input_box(node: Conv, box: Box, k0: int, k1: int) -> Box:
    """The part of x that the output box needs: channels of its groups, rows and columns with their halo."""
    axes = operator_axes(node)
    n, m, h, w = ((box[2 * a], box[2 * a + 1]) for a in axes)
    whole = tuple(node.x_shape[node.axes.index(a)] for a in axes)
    group_m = node.weight.shape[0] // node.groups
    if node.groups == 1:
        channels = (k0, k1)
    else:
        group_k = node.weight.shape[1]
        channels = (m[0] // group_m * group_k, (m[1] - 1) // group_m * group_k + group_k)
    tall, wide = ((node.weight.shape[a] - 1) * node.dilations[a - 2] + 1 + gaps(node)[a - 2] for a in (2, 3))
    rows = _reach(h, node.strides[0], node.pads[0], tall, whole[2])
    cols = _reach(w, node.strides[1], node.pads[1], wide, whole[3])
    result = [0] * 8
    for a, (lo, hi) in zip(axes, (n, channels, rows, cols), strict=True):
        result[2 * a], result[2 * a + 1] = lo, hi
    return tuple(result)  # type: ignore[return-value]


def _reach(span: tuple[int, int], stride: int, pad: int, window: int, limit: int) -> tuple[int, int]:
    lo = max(0, min(limit - 1, span[0] * stride - pad))
    hi = min(limit, (span[1] - 1) * stride - pad + window)
    return lo, max(hi, lo + 1)


def geometry_of(
    graph: Graph, node: Conv, role: str, box: Box, k0: int, k1: int, memory: str, x: View | None = None,
    y: View | None = None,
) -> Geometry:  # fmt: skip
    x = x or dense_view(graph, node.x)
    y = y or dense_view(graph, node.y)
    elem = SUM_BYTES if role == "partial" or leaves_sums(graph, node) else 1
    ys = y.strides if y.elem == elem else tuple(s * elem // y.elem for s in y.strides)
    resident, share, inputs = memory == "resident", share_of(memory), input_share_of(memory)
    needed = View(node.x, Space.WORK, 0, input_box(node, box, k0, k1), 1).strides if inputs[1] > 1 else None
    return geometry(
        node, box, k0, k1, elem, x.strides, ys, resident, share, inputs, needed,  # type: ignore[arg-type]
    )  # fmt: skip


def choose_tile(g: Geometry, engine: EngineSpec, wgt_ring_bytes: int) -> Tile | None:
    return choose(g, engine, wgt_ring_bytes)


def task_timeline(g: Geometry, tile: Tile, engine: EngineSpec) -> TaskTimeline:
    return timeline(g, tile, engine)


def task_slots(g: Geometry, tile: Tile) -> Slots:
    return slots(g, tile)


def macs(g: Geometry) -> int:
    return (g.b1 - g.b0) * (g.m1 - g.m0) * (g.h1 - g.h0) * (g.w1 - g.w0) * (g.k1 - g.k0) * g.kh * g.kw


def leaves_sums(graph: Graph, node: Conv) -> bool:
    """Whether the layer's result is its int32 accumulators."""
    return graph.tensors[node.y].dtype == DType.I32


def pn_range(graph: Graph, node: Conv) -> int:
    """Input channels that may be split into partial sums, 0 if none."""
    return node.weight.shape[1] if node.groups == 1 and not leaves_sums(graph, node) else 0


class _Lowering:
    """One task's instructions; ring ordinals of weights and tables are counted from zero."""

    def __init__(self, task: Task, node: Conv) -> None:
        self.task, self.node, self.engine = task, node, task.engine
        self.x, self.y = task.view(node.x), task.view(task.partials[0] if task.role == "partial" else node.y)
        self.g = geometry_of(
            task.graph, node, task.role, task.box, task.reduce_from, task.reduce_to, task.memory, self.x, self.y
        )
        self.s = slots(self.g, task.tile)
        self.sums = task.role == "partial" or leaves_sums(task.graph, node)
        self.axes = operator_axes(node)
        self.x_unsigned = bool(unsigned_flag(task.graph, node.x, Flag.X_UNSIGNED))
        self.mac_flags = (int(Flag.X_UNSIGNED) if self.x_unsigned else 0) | (
            int(Flag.W_UNSIGNED) if node.weight.dtype.kind == "u" else 0
        )
        self.y_flag = 0 if self.sums else unsigned_flag(task.graph, node.y, Flag.Y_UNSIGNED)
        self.thresholds = True
        if not self.sums:
            full = requant_plan(node, self.x_unsigned, bool(self.y_flag), True)
            blocks = {v.m.start: v.m.size for v in walk(self.g, task.tile)}
            largest = max(4 * m + packed_bytes(full, a, a + m) for a, m in blocks.items())
            self.thresholds = largest <= task.engine.tab_bytes // 2 // 64 * 64
            self.plan = requant_plan(node, self.x_unsigned, bool(self.y_flag), self.thresholds)
            box = task.box
            m0, m1 = box[2 * self.axes[1]], box[2 * self.axes[1] + 1]
            task.notes["requantiser"] = self.plan.proof(m0, m1)
        self.act_block = self.packet = self.wgt = self.tab = -1
        self.resident: dict[tuple[int, int], int] = {}

    def steps(self) -> list[Step]:
        out = []
        for v in walk(self.g, self.task.tile):
            step = Step()
            if self.g.resident and not self.resident:
                step.loads.append(self.load_resident())
            if v.new_wgt and not self.g.resident:
                step.loads.append(self.load_weights(v))
            if v.new_tab:
                step.loads.append(self.load_table(v))
            if v.new_act:
                self.act_block += 1
                if void(self.g, v):
                    step.loads.append(Proto("SYNC", {}, cycles=OTHER_CYCLES))
                    step.cx.append(self.fill_input(v))
                else:
                    step.loads.extend(self.load_input(v))
            if v.first:
                self.packet += 1
            step.wgt, step.tab = self.wgt, self.tab
            if self.g.input_share[1] > 1:
                step.act, step.act_base = self.act_block, self.act_addr()
            step.cx.append(self.mac(v))
            if v.final:
                self.finish(v, step)
            out.append(step)
        return out

    def load_resident(self) -> Proto:
        """All weights of the task in one burst, in the first frame only; their blocks follow one another."""
        blocks: dict[tuple[int, int], bytes] = {}
        size = 0
        for v in walk(self.g, self.task.tile):
            key = (v.m.start, v.k)
            if key not in blocks:
                data = weight_block(self.node, v.m.start, v.m.size, v.k, v.depth)
                self.resident[key] = self.task.resident_addr + size
                blocks[key] = data
                size += len(data)
        proto = load_const(
            self.task, "weights", size, lambda: b"".join(blocks.values()), Space.WGT, self.task.resident_addr,
            "weights", int(Flag.ONCE),
        )  # fmt: skip
        proto.cycles, proto.bus_bytes = OTHER_CYCLES, 0
        return proto

    def load_weights(self, v: Visit) -> Proto:
        self.wgt += 1
        size = v.m.size * v.depth * self.g.kh * self.g.kw
        lo, hi = share_bounds(size, *self.g.share)
        return load_const(
            self.task, f"w{v.m.start}.{v.k}", hi - lo,
            lambda: weight_block(self.node, v.m.start, v.m.size, v.k, v.depth)[lo:hi], Space.WGT, lo, "weights",
        )  # fmt: skip

    def load_table(self, v: Visit) -> Proto:
        self.tab += 1
        m, task = v.m, self.task
        size = 4 * m.size
        if not self.sums:
            size += packed_bytes(self.plan, m.start, m.start + m.size)

        def make() -> bytes:
            bias = folded_bias(self.node, self.x_unsigned, m.start, m.start + m.size, task.reduce_from, task.reduce_to)
            entries = b"" if self.sums else pack_vreq(self.plan, m.start, m.start + m.size)
            return bias.astype("<i4").tobytes() + entries

        return load_const(task, f"t{m.start}", size, make, Space.TAB, 0, "table")

    def act_addr(self) -> int:
        return self.act_block % 2 * self.s.act_in

    def at(self, view: View, n: int, c: int, h: int, w: int) -> int:
        place = [0, 0, 0, 0]
        for a, i in zip(self.axes, (n, c, h, w), strict=True):
            place[a] = i
        return view.at(*place)

    def load_input(self, v: Visit) -> list[Proto]:
        g = self.g
        channel = v.k + v.m.group * g.group_k
        lo, hi = input_units(g, v)
        if g.last:
            row, col = (v.h + lo, v.w) if v.rows > 1 else (v.h, v.w + lo)
            to = self.act_addr() + lo * input_grain(g, v)
            start = self.at(self.x, v.batch, channel, row, col)
            return load(self.engine, self.x, start, Space.ACT, to, last_dims(g, v), "input")
        row, rows, top = g.rows_of(v.h, v.rows)
        col, cols, left = g.cols_of(v.w, v.cols)
        height, width = g.height(v.rows), g.width(v.cols)
        start = self.at(self.x, v.batch, channel + lo, row * g.row_step, col)
        xs, to = g.x_strides, self.act_addr() + lo * height * width
        dims = [(hi - lo, xs[1], height * width), (rows, xs[2], width), (cols, xs[3], 1)]
        if rows == height and cols == width:
            return load(self.engine, self.x, start, Space.ACT, to, dims, "input")
        return [
            padded_load(
                self.engine, self.x, start, to, dims,
                (top, height - rows - top, left, width - cols - left),
                self.node.x_zero_point & 0xFF,
            )
        ]  # fmt: skip

    def fill_input(self, v: Visit) -> Proto:
        """An input tile that is nothing but padding."""
        size = act_bytes_of(self.g, v.m, 0, v.depth, v.rows, v.cols)
        fields = {"dst_addr": self.act_addr(), "count": size, "value": self.node.x_zero_point & 0xFF}
        return Proto("VFILL", fields, 0, vector_cycles(size, 1, self.engine.vector_lanes), role="compute")

    def mac(self, v: Visit) -> Proto:
        g = self.g
        mode, cycles = mac_mode(
            g.last, v.m.size, v.depth, v.m.groups, g.kh, g.kw, v.rows, v.cols, self.engine.tm, self.engine.tn
        )
        flags = self.mac_flags | (int(Flag.INIT | Flag.BIAS) if v.first else 0)
        if g.last:
            window = {
                "n": 1, "groups": 1, "in_h": v.rows * v.cols, "in_w": v.depth, "kh": 1, "kw": v.depth,
                "sh": 1, "sw": 1, "dh": 1, "dw": 1, "oh": v.rows * v.cols, "ow": 1,
            }  # fmt: skip
        else:
            window = {
                "n": v.depth, "groups": v.m.groups, "in_h": g.height(v.rows), "in_w": g.width(v.cols),
                "kh": g.kh, "kw": g.kw, "sh": g.sh, "sw": g.sw, "dh": g.dh, "dw": g.dw, "oh": v.rows, "ow": v.cols,
            }  # fmt: skip
        fields = {
            "mode": mode,
            "act_addr": self.act_addr(),
            "wgt_addr": self.resident[(v.m.start, v.k)] if g.resident else 0,
            "acc_addr": self.acc_addr(),
            "m": v.m.size,
            "row_sum": row_sum_coefficient(self.node),
            **window,
        }
        if v.first:
            fields["tab_addr"] = 0
        return Proto("MAC", fields, flags, cycles, role="compute", result=self.sums and v.first)

    def acc_addr(self) -> int:
        return self.packet % 2 * self.s.acc if self.sums else 0

    def finish(self, v: Visit, step: Step) -> None:
        """Requantises (and turns) a finished tile and stores it."""
        g, s = self.g, self.s
        count = v.m.size * v.rows * v.cols
        start = self.at(self.y, v.batch, v.m.start, v.h, v.w)
        box = self.result_box(v)
        dims = out_dims(g, v)
        if self.sums:
            role = "partial" if self.task.role == "partial" else "output"
            step.stores = store(self.engine, self.y, start, Space.ACC, self.acc_addr(), dims, box, role)
            return
        out = 2 * s.act_in + self.packet % 2 * s.act_out
        turn = 2 * (s.act_in + s.act_out)
        lo, hi = output_range(self.task.graph, self.node)
        cycles = vector_cycles(count, 1, self.engine.vector_lanes)
        fields = {
            "acc_addr": 0,
            "dst_addr": turn if turned(g) else out,
            "tab_addr": 4 * v.m.size,
            "m": v.m.size,
            "zero_point": instruction_zero_point(self.plan, v.m.start, v.m.start + v.m.size),
            "lo": lo,
            "hi": hi,
            "count": v.rows * v.cols,
        }
        step.cx.append(Proto("VREQ", fields, self.y_flag, cycles, role="compute", result=not turned(g)))
        if turned(g):
            pixels = v.rows * v.cols
            turning = {
                "src_addr": turn, "dst_addr": out, "n3": 1, "n2": 1, "n1": pixels, "n0": v.m.size,
                "src_s1": 1, "src_s0": pixels, "dst_s1": v.m.size, "dst_s0": 1,
            }  # fmt: skip
            step.cx.append(Proto("VCOPY", turning, 0, cycles, role="compute", result=True))
        step.stores = store(self.engine, self.y, start, Space.ACT, out, dims, box)

    def result_box(self, v: Visit) -> tuple[int, ...]:
        box = [0] * 8
        ranges = ((v.batch, 1), (v.m.start, v.m.size), (v.h, v.rows), (v.w, v.cols))
        for a, (lo, size) in zip(self.axes, ranges, strict=True):
            box[2 * a], box[2 * a + 1] = lo, lo + size
        return tuple(box)


def lower(task: Task) -> list[Step]:
    """The steps of a full or partial convolution slice."""
    assert isinstance(task.node, Conv)
    return _Lowering(task, task.node).steps()
