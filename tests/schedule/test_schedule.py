"""What a schedule must look like: transfers once and in order, deep buffers, loads once, the same bytes twice."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from compiler.ir.graph import DType, storage4
from compiler.isa import write_device
from compiler.isa.table import HOST_RANK, Flag, Queue, Space
from compiler.ops.boxes import whole_box
from compiler.schedule import schedule
from device_db import load_cluster
from tests.ops.graphs import Builder
from tests.schedule.running import assert_equal, programs_of
from tests.schedule.toy import BIG, SMALL, TINY, Toy

DIES = [(f"u280-{d}", f"SLR{k}") for d in range(4) for k in range(3)]


def diamond() -> Builder:
    """conv, two convs that read it, their sum: a skip and a tensor with two readers."""
    b = Builder(5, DType.U8)
    x = b.input((1, 8, 20, 20))
    root = b.conv(x, 24, (3, 3), pads=(1, 1, 1, 1))
    left, right = b.conv(root, 16), b.conv(root, 16, (3, 3), pads=(1, 1, 1, 1))
    b.binary(left, right, "add")
    return b


def instructions(programs, op):
    return [(c, i) for p in programs for c in p.cores for q in c.queues.values() for i in q if i.op == op]


def test_a_piece_is_received_once_for_all_its_readers() -> None:
    b = diamond()
    plan = Toy(b.graph(), SMALL, DIES[:3], spread=1).plan()
    # layer k stands on core k: both readers of t1 on cores of their own, so two copies leave core 0
    programs = programs_of(b.graph(), plan)
    sent = Counter()
    for core, i in instructions(programs, "TX"):
        if i.fields["rank"] != HOST_RANK and core.debug[i.debug].tensor == "t1":
            sent[i.fields["rank"]] += i.fields["bytes"]
    assert sent == {1: 24 * 400, 2: 24 * 400}
    plan = Toy(b.graph(), SMALL, [DIES[0], DIES[1]], spread=1).plan()  # conv, add on core 1; the other conv on core 0
    received = Counter()
    for core, i in instructions(programs_of(b.graph(), plan), "RX"):
        if i.fields["rank"] != HOST_RANK:
            received[(core.rank, core.debug[i.debug].tensor)] += i.fields["bytes"]
    assert received[(1, "t1")] == 24 * 400


def test_buffers_hold_as_many_frames_as_their_oldest_reader_lags() -> None:
    b = Builder(1, DType.S8)
    x = b.input((1, 4, 9, 9))
    first = b.conv(x, 4)
    second = b.conv(b.conv(first, 4), 4)
    b.binary(first, second, "add")
    plan = Toy(b.graph(), TINY, DIES[:3], spread=1).plan()  # cores 0, 1, 2, 0: the sum lags its first operand by 3
    stages = {s.task.split("#")[0]: s.stage for layer in plan.layers for s in layer.slices}
    assert stages["n3"] - stages["n0"] == 3
    (core,) = [c for p in programs_of(b.graph(), plan) for c in p.cores if c.rank == 0]
    depth = {p.tensor: p.depth for p in core.memory_map}
    assert depth["t1"] == 4


def test_messages_fit_their_channel_and_tags_ascend() -> None:
    b = diamond()
    programs = programs_of(b.graph(), Toy(b.graph(), SMALL, DIES[:4], pm=2).plan())
    channels = {c.id: c for p in programs for c in p.channels}
    for _, i in instructions(programs, "TX"):
        assert 0 < i.fields["bytes"] <= channels[i.fields["channel"]].max_bytes == 16384
    for p in programs:
        for c in p.cores:
            for q in (Queue.TX, Queue.RX):
                tags = [i.fields["tag"] for i in c.queues[q]]
                assert tags == sorted(set(tags))


def test_long_routes_name_every_link() -> None:
    b = diamond()
    programs = programs_of(b.graph(), Toy(b.graph(), SMALL, [("u280-0", "SLR0"), ("u280-2", "SLR1")], spread=1).plan())
    (channel,) = {c for p in programs for c in p.channels if (c.source_rank, c.target_rank) == (0, 1)}
    assert channel.transport == "Ethernet"
    assert channel.links[0] == "u280-0/SLR0>SLR1" and "u280-1>u280-2" in channel.links
    for p in programs:
        named = {link.id for link in p.links}
        assert all(set(c.links) <= named for c in p.channels)


def test_resident_weights_are_loaded_once_into_their_own_half() -> None:
    b = diamond()
    programs = programs_of(b.graph(), Toy(b.graph(), BIG, DIES[:1], resident=True).plan())
    loads = [i for _, i in instructions(programs, "LD") if i.fields["scratch_space"] == Space.WGT]
    assert len(loads) == 3 and all(i.flags & Flag.ONCE for i in loads)
    spans = sorted((i.fields["scratch_addr"], i.fields["n0"] * i.fields["n1"] * i.fields["n2"]) for i in loads)
    assert spans[0][0] >= BIG.wgt_bytes // 2 - 128
    assert all(a + n <= c for (a, n), (c, _) in itertools.pairwise(spans))


def test_layers_of_a_core_are_serialised() -> None:
    b = diamond()
    programs = programs_of(b.graph(), Toy(b.graph(), SMALL, DIES[:1]).plan())
    (core,) = programs[0].cores
    waits = [i for i in core.queues[Queue.LD] if i.wait >> Queue.ST & 1]
    posts = [i for i in core.queues[Queue.ST] if i.post >> Queue.LD & 1]
    assert len(waits) == len(posts) == 4
    assert core.marking[Queue.ST][Queue.LD] == 1  # the first layer waits for the last store of the frame before


def test_the_same_plan_gives_the_same_bytes() -> None:
    b = diamond()
    plan = Toy(b.graph(), SMALL, DIES[:4], pm=2, pn=2).plan()
    first, second = ([write_device(p) for p in schedule(b.graph(), plan, load_cluster("u280x4"))] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("shape", [(5, 12), (1, 7, 12), (2, 7, 12), (2, 3, 7, 12)])
@pytest.mark.parametrize("kwargs", [{}, {"pm": 2}, {"pn": 2}, {"pm": 2, "pn": 2, "resident": True}])
def test_matrix_products_of_any_rank(shape, kwargs) -> None:
    b = Builder(len(shape), DType.U8)
    axes = (0, 1, 2, 3) if len(shape) == 2 else (0, 3, 1, 2)
    y = b.conv(b.conv(b.input(shape), 70, axes=axes), 9, axes=axes)
    assert b.tensors[y].shape == (*shape[:-1], 9)
    assert_equal(b.graph(), Toy(b.graph(), TINY, DIES[:2], **kwargs).plan(), [b.frame(), b.frame()])


@pytest.mark.parametrize("dtype", [DType.U8, DType.S8])
def test_a_window_of_nothing_but_padding(dtype: DType) -> None:
    b = Builder(2, dtype)
    x = b.input((1, 3, 4, 4))
    b.conv(x, 8, (1, 1), pads=(3, 0, 3, 2))
    plan = Toy(b.graph(), TINY, DIES[:1]).plan()
    layer = plan.layers[0].slices[0]
    layer.tile["r"] = 1  # one row a tile: the outer ones see no element of x
    assert_equal(b.graph(), plan, [b.frame(), b.frame()])


def test_boxes_of_a_whole_layer_cover_its_tensor() -> None:
    b = diamond()
    g = b.graph()
    plan = Toy(g, TINY, DIES[:4], pm=3).plan()
    for layer in plan.layers:
        node = next(n for n in g.nodes if n.name == layer.name)
        whole = whole_box(storage4(g.tensors[node.y].shape))
        assert sum(s.box[3] - s.box[2] for s in layer.slices) == whole[3]
