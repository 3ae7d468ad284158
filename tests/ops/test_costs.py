"""Costs: the timeline is that of the lowered instructions, bounds from first principles, tiles that pipeline well."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compiler.ir.graph import Conv, DType, storage4
from compiler.ops import input_boxes, likely_stored, resident_budget_bytes, splits, task_cost, task_timeline
from compiler.ops.base import timeline_of
from compiler.ops.boxes import burst_bytes, whole_box
from compiler.ops.registry import _steps
from compiler.plan.model import Box
from cost_models.pipeline import pipeline_makespan
from tests.ops.graphs import Builder, random_graph
from tests.schedule.toy import BIG, SMALL, TINY


def conv_case(shape, m, kernel=(1, 1), strides=(1, 1), pads=(0, 0, 0, 0), groups=1):
    b = Builder(1, DType.U8)
    y = b.conv(b.input(shape), m, kernel, strides, pads, groups=groups)
    return b.graph(), b.steps[0], whole_box(storage4(b.tensors[y].shape))


@pytest.mark.parametrize("seed", range(24))
def test_priced_times_are_those_of_the_instructions(seed: int) -> None:
    b = random_graph(seed)
    g = b.graph()
    for spec in (TINY, SMALL):
        for node in g.nodes:
            if not isinstance(node, Conv):
                continue
            box = whole_box(storage4(g.tensors[node.y].shape))
            k = node.weight.shape[1]
            cases = [("full", (0, k), "stream"), ("full", (0, k), "resident")]
            if splits(g, node).reduce > 1:
                cases += [("partial", (k // 2, k), "stream")]
            for role, reach, memory in cases:
                cost = task_cost(g, node, role, box, reach, spec, memory)
                if cost is None:
                    assert memory == "resident"
                    continue
                lowered = timeline_of(_steps(g, node, role, box, reach, spec, cost.tile, memory, 2, {})[0])
                priced = task_timeline(g, node, role, box, reach, spec, cost.tile, memory)
                for name in ("ld_main", "cx_head", "cx_tail", "st", "st_bus_bytes"):
                    assert getattr(priced, name) == getattr(lowered, name), (name, role, memory)
                # threshold entries make tables a little longer than their nominal size
                for a, b_ in zip(priced.ld_ahead, lowered.ld_ahead, strict=True):
                    assert a <= b_ <= a + 64 * cost.tile["m"]
                assert cost.cycles == pipeline_makespan(priced)


def test_array_cycles_are_a_lower_bound() -> None:
    g, node, box = conv_case((1, 256, 14, 14), 512, (3, 3), (1, 1), (1, 1, 1, 1))
    cost = task_cost(g, node, "full", box, (0, 0), BIG)
    assert cost is not None
    assert cost.macs == 512 * 14 * 14 * 256 * 9
    assert cost.compute_cycles >= cost.macs / (BIG.tm * BIG.tn)
    assert cost.cycles >= cost.compute_cycles
    assert cost.read_bytes >= 512 * 256 * 9 + 256 * 14 * 14  # every weight and every input once
    assert cost.write_bytes >= 512 * 14 * 14


RESNET = [
    ((1, 64, 56, 56), 256, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 64, 56, 56), 64, (3, 3), (1, 1), (1, 1, 1, 1)),
    ((1, 128, 28, 28), 128, (3, 3), (1, 1), (1, 1, 1, 1)),
    ((1, 1024, 14, 14), 256, (1, 1), (1, 1), (0, 0, 0, 0)),
    ((1, 512, 7, 7), 512, (3, 3), (1, 1), (1, 1, 1, 1)),
]


@pytest.mark.parametrize("case", RESNET)
def test_tiles_keep_the_busiest_queue_busy(case) -> None:
    g, node, box = conv_case(*case)
    cost = task_cost(g, node, "full", box, (0, 0), BIG)
    assert cost is not None
    bank = (cost.read_bytes + cost.write_bytes) * BIG.clock_khz * 1000 / BIG.bank_bytes_per_second
    assert cost.cycles <= 1.4 * max(cost.compute_cycles, cost.load_cycles, cost.store_cycles, bank)
    assert cost.tiles <= 64


def test_weights_are_read_once_where_they_can_be() -> None:
    g, node, box = conv_case((1, 512, 7, 7), 512, (3, 3), (1, 1), (1, 1, 1, 1))
    cost = task_cost(g, node, "full", box, (0, 0), SMALL)
    assert cost is not None
    assert cost.weight_bytes == 512 * 512 * 9
    assert cost.read_bytes < 2.2 * (cost.weight_bytes + 512 * 49)


def test_resident_weights_leave_the_bank_alone() -> None:
    g, node, box = conv_case((1, 64, 28, 28), 64, (3, 3), (1, 1), (1, 1, 1, 1))
    stream = task_cost(g, node, "full", box, (0, 0), BIG)
    resident = task_cost(g, node, "full", box, (0, 0), BIG, "resident")
    assert stream is not None and resident is not None
    assert resident.resident_bytes == 64 * 64 * 9
    assert resident.read_bytes <= stream.read_bytes - 64 * 64 * 9
    assert resident.cycles <= stream.cycles
    small = replace(BIG, wgt_bytes=2 * 64 * 64 * 9 - 128)
    assert resident_budget_bytes(small) < 64 * 64 * 9
    assert task_cost(g, node, "full", box, (0, 0), small, "resident") is None


@pytest.mark.parametrize(
    "case",
    [
        ((1, 25088, 1, 1), 1000, (1, 1)),
        ((1, 3, 416, 416), 32, (3, 3), (2, 2), (1, 1, 1, 1)),
        ((1, 2048, 7, 7), 1024, (3, 3), (1, 1), (1, 1, 1, 1)),
        ((1, 960, 30, 30), 960, (5, 5), (1, 1), (2, 2, 2, 2), 960),
        ((64, 512, 1, 1), 512, (1, 1)),
    ],
)
def test_large_layers_tile_on_small_engines(case) -> None:
    g, node, box = conv_case(*case)
    for spec in (SMALL, TINY):
        assert task_cost(g, node, "full", box, (0, 0), spec) is not None


def test_an_engine_too_small_for_any_tile_has_no_cost() -> None:
    g, node, box = conv_case((1, 64, 56, 56), 64, (3, 3), (1, 1), (1, 1, 1, 1))
    assert task_cost(g, node, "full", box, (0, 0), replace(TINY, act_bytes=128)) is None
    assert task_cost(g, node, "full", box, (0, 0), replace(TINY, tab_bytes=0)) is None


def test_halves_cost_less_than_the_whole() -> None:
    g, node, box = conv_case((1, 256, 28, 28), 512, (3, 3), (1, 1), (1, 1, 1, 1))
    whole = task_cost(g, node, "full", box, (0, 0), SMALL)
    half = task_cost(g, node, "full", (0, 1, 0, 256, 0, 28, 0, 28), (0, 0), SMALL)
    part = task_cost(g, node, "partial", box, (0, 128), SMALL)
    assert whole and half and part
    assert half.cycles < 0.6 * whole.cycles
    assert part.compute_cycles < 0.6 * whole.compute_cycles
    assert part.write_bytes >= 4 * 512 * 28 * 28


def test_needs_of_a_slice() -> None:
    g, node, _ = conv_case((1, 12, 10, 10), 24, (3, 3), (2, 2), (1, 1, 1, 1), 4)
    assert splits(g, node).quantum == 6 and splits(g, node).reduce == 0
    need = input_boxes(g, node, "full", (0, 1, 6, 12, 1, 3, 0, 5))
    assert need == {"t0": (0, 1, 3, 6, 1, 6, 0, 10)}  # second group; rows 2*1-1 .. 2*2+1, columns 0 .. 9


def test_equal_slices_have_equal_costs() -> None:
    g, node, _ = conv_case((1, 64, 20, 20), 96, (3, 3), (1, 1), (1, 1, 1, 1))
    costs = [task_cost(g, node, "full", (0, 1, a, a + 32, 0, 20, 0, 20), (0, 0), SMALL) for a in (0, 32, 64)]
    assert costs[0] == costs[1] == costs[2]


@pytest.mark.parametrize("seed", range(12))
def test_row_slices_are_priced_as_their_buffers_lie(seed: int) -> None:
    """Inputs and results held in part: priced strides and runs are those of the lowered instructions."""
    b = random_graph(seed)
    g = b.graph()
    for node in g.nodes:
        if not isinstance(node, Conv):
            continue
        box = whole_box(storage4(g.tensors[node.y].shape))
        for cut in splits(g, node).others:
            half = list(box)
            half[2 * cut.axis + 1] = (cut.extent + 1) // 2
            part = tuple(half)
            held = {**likely_stored(g, node, "full", part, (0, 0)), node.y: part}
            k = node.weight.shape[1]
            cost = task_cost(g, node, "full", part, (0, k), SMALL)
            assert cost is not None
            lowered = timeline_of(_steps(g, node, "full", part, (0, k), SMALL, cost.tile, "stream", 2, held)[0])
            priced = task_timeline(g, node, "full", part, (0, k), SMALL, cost.tile, stored=held)
            for name in ("ld_main", "cx_head", "cx_tail", "st", "st_bus_bytes"):
                assert getattr(priced, name) == getattr(lowered, name), (name, cut)


def test_bursts_of_a_box_count_its_runs() -> None:
    held = (0, 2, 3, 7, 0, 10, 0, 20)  # 2 x 4 x 10 x 20
    assert burst_bytes(held, held, 1) == 1600
    assert burst_bytes(held, (0, 1, 3, 7, 2, 4, 0, 20), 1) == 4 * 64  # four runs of 40 bytes
    assert burst_bytes(held, (0, 2, 3, 7, 0, 10, 5, 6), 1) == 80 * 64  # a column: a burst an element
    assert burst_bytes(held, (0, 2, 4, 5, 0, 10, 0, 20), 4) == 2 * 832  # 800 bytes each


def test_a_strided_layer_is_searched_with_in_the_whole_of_its_input() -> None:
    """A 1x1 window of stride 3 reads 7 of 8 columns: others read the last one too, so rows are no dense run."""
    g, node, box = conv_case((1, 64, 8, 8), 64, (1, 1), (3, 3))
    tile = {"m": 64, "n": 64, "r": 3, "c": 3, "order": 0}
    assert input_boxes(g, node, "full", box)[node.x] == (0, 1, 0, 64, 0, 7, 0, 7)
    likely = likely_stored(g, node, "full", box, (0, 0))
    assert likely[node.x] == (0, 1, 0, 64, 0, 8, 0, 8)
    rows = likely_stored(g, node, "full", (0, 1, 0, 64, 1, 3, 0, 3), (0, 0))
    assert rows[node.x] == (0, 1, 0, 64, 3, 7, 0, 8)
    usual, dense = (
        task_timeline(g, node, "full", box, (0, 0), SMALL, tile, stored=stored) for stored in (likely, None)
    )
    assert sum(usual.ld_bus_bytes) > sum(dense.ld_bus_bytes)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads", "box", "need"),
    [
        (28, 1, 2, (0, 0), (0, 1, 0, 64, 0, 14, 0, 14), (0, 28, 0, 28)),  # the last column follows a window too
        (28, 1, 2, (0, 0), (0, 1, 0, 64, 3, 7, 0, 14), (6, 14, 0, 28)),  # a slice: up to the next one's first row
        (27, 1, 2, (0, 0), (0, 1, 0, 64, 0, 14, 0, 14), (0, 27, 0, 27)),  # nothing follows the last window
        (30, 2, 5, (0, 0), (0, 1, 0, 64, 0, 6, 0, 6), (0, 30, 0, 30)),
        (28, 1, 2, (1, 1), (0, 1, 0, 64, 0, 15, 0, 15), (0, 28, 0, 28)),  # padded: windows alone (rows -1, 1 ... 27)
        (28, 3, 2, (0, 0), (0, 1, 0, 64, 0, 13, 0, 13), (0, 27, 0, 27)),  # windows overlap
    ],
)
def test_what_lies_between_windows_is_read_with_them(
    size: int, kernel: int, stride: int, pads: tuple[int, int], box: Box, need: tuple[int, int, int, int]
) -> None:
    """Rows and columns that no window reads, where the input has them after every window."""
    g, node, _ = conv_case((1, 64, size, size), 64, (kernel, kernel), (stride, stride), (*pads, *pads))
    assert input_boxes(g, node, "full", box)[node.x] == (0, 1, 0, 64, *need)
