"""Words of a receiver: as wide as its reader takes beside the port, no wider than keeps up with it on another die."""

from __future__ import annotations

import pytest

from compiler.ir.graph import DType, Graph, Quant, Tensor
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.measure import busy_ps, crossing_wires
from compiler.ops.stream.netlists import Assembly, Seat
from compiler.ops.stream.parts import Fold
from compiler.ops.stream.programs import programs_of
from device_db import load_cluster
from device_db.model import Cluster, DieRef
from tests.partition.graphs import conv

SIDE, CHANNELS = 8, 64
ELEMENTS = SIDE * SIDE * CHANNELS


def built(folds: tuple[Fold, Fold], first: DieRef, second: DieRef) -> tuple[Assembly, Cluster, Graph]:
    """Two layers of a 1x1 kernel, 64 channels each; the host's ports of a u280 are on SLR0, the network's on SLR2."""
    tensors = {k: Tensor(k, (1, CHANNELS, SIDE, SIDE), DType.U8, Quant(0.05, 128)) for k in "xty"}
    layers = (conv("a", "x", "t", CHANNELS, CHANNELS, SIDE, 1), conv("b", "t", "y", CHANNELS, CHANNELS, SIDE, 1))
    graph, cluster = Graph("", tensors, {}, layers, ("x",), ("y",)), load_cluster("u280x2")
    seats = {"a": Seat(first, folds[0]), "b": Seat(second, folds[1])}
    return assemble(graph, cluster, seats), cluster, graph


def receivers(assembly: Assembly) -> list[int]:
    return [d.fields["pe"] for net in assembly.nets for d in net.drafts if d.op == "SRC"]


# A layer takes ELEMENTS / SIMD x (64 / PE) cycles: 4,096, 1,024 and 64; three quarters of that pass the 4,096 elements
# of a frame in words of 2, 8 and no less than all 64.
@pytest.mark.parametrize(("pe", "lanes"), [(1, 2), (4, 8), (64, 64)])
def test_a_reader_on_another_die_gets_the_fewest_lanes_that_keep_up(pe: int, lanes: int) -> None:
    fold = Fold(pe, 64)
    near, cluster, graph = built((fold, fold), DieRef(0, 0), DieRef(1, 2))
    assert receivers(near) == [64, 64]
    away, *_ = built((fold, fold), DieRef(0, 1), DieRef(1, 0))
    assert receivers(away) == [lanes, lanes]
    programs = programs_of(graph, cluster, away, 10**9, {}, {})
    wires = crossing_wires(programs)
    word = 8 * lanes + 2  # with valid and ready
    assert wires["u280-0/SLR0>SLR1"] == word
    assert wires["u280-1/SLR2>SLR1"] == wires["u280-1/SLR1>SLR0"] == word
    bare = busy_ps(programs_of(graph, cluster, near, 10**9, {}, {}))
    assert max(busy_ps(programs).values()) == max(bare.values())  # nobody waits longer for it


def test_of_two_readers_one_on_the_die_of_the_port() -> None:
    """The stream to the other one crosses, so both get words that the first of them keeps up with."""
    tensors = {k: Tensor(k, (1, CHANNELS, SIDE, SIDE), DType.U8, Quant(0.05, 128)) for k in "xty"}
    layers = (conv("a", "x", "t", CHANNELS, CHANNELS, SIDE, 1), conv("b", "x", "y", CHANNELS, CHANNELS, SIDE, 1))
    graph, cluster = Graph("", tensors, {}, layers, ("x",), ("t", "y")), load_cluster("u280")
    for dies, lanes in (((0, 0), 64), ((0, 1), 8), ((1, 0), 8)):
        seats = {n.name: Seat(DieRef(0, d), Fold(4, 64)) for n, d in zip(layers, dies, strict=True)}
        assert receivers(assemble(graph, cluster, seats)) == [lanes]
