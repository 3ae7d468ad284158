"""What does not fit is a report: its code, exit code, the thing that is short, and a lever."""

from __future__ import annotations

import dataclasses

import pytest

from compiler.catalog import CATALOG
from compiler.ir.graph import DType, Graph, HostSegment, Tensor
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from device_db import load_cluster
from device_db.clusters import with_more
from device_db.errors import FvcError
from device_db.model import Cluster, Resources
from tests.partition.graphs import conv, residual


def error_of(graph: Graph, cluster: Cluster, **options: object) -> FvcError:
    with pytest.raises(FvcError) as caught:
        partition(graph, cluster, PartitionOptions(time_limit_s=1, **options))  # type: ignore[arg-type]
    assert caught.value.code in CATALOG
    assert caught.value.help
    return caught.value


def with_die(cluster: Cluster, **changes: object) -> Cluster:
    """The cluster with every die changed."""
    devices = []
    for d in cluster.devices:
        dies = tuple(dataclasses.replace(x, **changes) for x in d.board.dies)  # type: ignore[arg-type]
        devices.append(dataclasses.replace(d, board=dataclasses.replace(d.board, dies=dies)))
    return dataclasses.replace(cluster, devices=tuple(devices))


def test_a_board_too_small_for_any_engine() -> None:
    tiny = with_die(load_cluster("pynq-z2"), raw=Resources(5_000, 8_000, 20, 0, 10), shell=Resources())
    e = error_of(residual(), tiny)
    assert (e.code, e.exit_code) == ("FVC202", 1)
    assert "budget" in e.what


def test_weights_beyond_every_bank() -> None:
    cluster = load_cluster("zcu102")
    banks = tuple(dataclasses.replace(b, capacity_bytes=8192) for b in cluster.devices[0].board.banks)
    small = dataclasses.replace(
        cluster,
        devices=(
            dataclasses.replace(cluster.devices[0], board=dataclasses.replace(cluster.devices[0].board, banks=banks)),
        ),
    )
    e = error_of(residual(), small)
    assert (e.code, e.exit_code) == ("FVC208", 1)
    assert "needed" in e.what


def test_a_frame_rate_out_of_reach() -> None:
    e = error_of(residual(), load_cluster("u280"), target_fps=1e7)
    assert (e.code, e.exit_code) == ("FVC204", 1)
    assert any("u280" in h for h in e.help)


def test_a_latency_out_of_reach() -> None:
    e = error_of(residual(), load_cluster("u280"), max_latency_ms=1e-6)
    assert (e.code, e.exit_code) == ("FVC205", 1)


def test_more_replicas_than_engines() -> None:
    e = error_of(residual(), load_cluster("u280"), replicas=4)
    assert (e.code, e.exit_code) == ("FVC207", 1)


@pytest.mark.parametrize("anchor", [("nothing", "u280-0/SLR0"), ("conv0a", "u280-0/SLR7")])
def test_an_anchor_that_names_nothing(anchor: tuple[str, str]) -> None:
    e = error_of(residual(), load_cluster("u280"), anchors=(anchor,))
    assert (e.code, e.exit_code) == ("FVC206", 2)


def test_contradicting_anchor_and_cut() -> None:
    anchors = (("conv0a", "u280-0/SLR0"), ("conv0b", "u280-0/SLR1"))
    e = error_of(residual(), load_cluster("u280"), anchors=anchors, forbidden_cuts=(("conv0a", "conv0b"),))
    assert (e.code, e.exit_code) == ("FVC211", 1)


def test_no_engine_layer() -> None:
    graph = Graph(
        "host only", {}, {}, (HostSegment("host0", ("x",), ("y",), ("a",), "Erf has no engine", b""),), ("x",), ("y",),
        {}, {"x": ("float32", (1, 4)), "y": ("float32", (1, 4))},
    )  # fmt: skip
    e = error_of(graph, load_cluster("u280"))
    assert (e.code, e.exit_code) == ("FVC213", 1)
    assert "Erf" in e.block()


@pytest.mark.parametrize(
    "options",
    [{"objective": "speed"}, {"style": "sideways"}, {"replicas": -1}, {"cores": 0}, {"force_split": (("Pq", 2),)},
     {"time_limit_s": 0.0}, {"memory": "paper"}, {"interval": 0}, {"target_fps": 0.0}],
)  # fmt: skip
def test_meaningless_options(options: dict[str, object]) -> None:
    e = FvcError("", "")
    with pytest.raises(FvcError) as caught:
        partition(residual(), load_cluster("u280"), PartitionOptions(**options))  # type: ignore[arg-type]
    e = caught.value
    assert (e.code, e.exit_code) == ("FVC201", 2)


def test_one_huge_layer_is_sliced_or_refused_but_never_wrong() -> None:
    side, n = 8, 2048
    shape = (1, n, side, side)
    tensors = {k: Tensor(k, shape, DType.U8) for k in ("x", "y")}
    graph = Graph("wide", tensors, {}, (conv("c", "x", "y", n, n, side),), ("x",), ("y",))
    plan = partition(graph, load_cluster("u280"), PartitionOptions(time_limit_s=1))
    assert plan.layers[0].strategy.startswith("Pm=")


def test_how_many_more_devices_is_found_by_solving_for_them() -> None:
    """The number named is the least that reaches the rate."""
    graph, cluster = residual(), load_cluster("zcu102")
    alone = partition(graph, cluster, PartitionOptions(time_limit_s=1)).predicted["fps"]
    e = error_of(graph, cluster, target_fps=2.2 * alone)
    (lever,) = (h for h in e.help if "more zcu102" in h)
    more = int(lever.split()[2])
    assert lever == f"fits from {more} more zcu102 on" and more > 1
    for count in (more, more + 1):
        plan = partition(graph, load_cluster(f"zcu102x{count}"), PartitionOptions(time_limit_s=1))
        assert (plan.predicted["fps"] >= 2.2 * alone) == (count > more)


def test_a_cluster_with_more_is_the_larger_cluster() -> None:
    for spec, topology in (("zcu102", None), ("u280x2", "ring"), ("zcu102x3", "switch"), ("u280+zcu102", "mesh")):
        cluster = load_cluster(spec, topology=topology)
        got = with_more(cluster, 2)
        last = cluster.devices[-1].board.name
        wanted = load_cluster(f"{spec}+{last}x2", topology=topology)
        assert got is not None
        assert (got.devices, got.links, got.topology) == (wanted.devices, wanted.links, wanted.topology)
    assert with_more(load_cluster("zcu102x256"), 1) is None
