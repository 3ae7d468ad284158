"""Streaming plans: what they promise, what is refused, and that no edit of one passes its judge."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from compiler.isa.stream.table import MEMORIES
from compiler.partition import partition
from compiler.partition.check import check_plan
from compiler.partition.options import PartitionOptions
from compiler.partition.stream.depths import fifo_memory
from compiler.partition.stream.job import Job
from compiler.plan.io import parse_plan, write_plan
from device_db import load_cluster
from device_db.errors import FvcError
from tests.bundles import digits
from tests.streaming.helpers import FAST_HOST, SPREAD, plan_of


def test_a_plan_is_judged_legal_and_comes_back_from_its_file() -> None:
    for case in (("u280", None, ()), ("u280x2", 3000, SPREAD)):
        plan = plan_of(*case)
        assert parse_plan(write_plan(plan)) == plan
        assert check_plan(plan, digits(), load_cluster(case[0])) == []


def test_anchors_hold_and_an_interval_gives_up_speed_for_area() -> None:
    plan = plan_of("u280x2", 3000, SPREAD)
    at = {layer.name: layer.slices[0].engine for layer in plan.layers}
    for layer, place in SPREAD:
        assert at[layer].startswith(place + "/")
    quick = plan_of("u280x2")
    assert plan.predicted["pace_ps"] > quick.predicted["pace_ps"]
    assert sum(e.resources.lut for e in plan.engines) < sum(e.resources.lut for e in quick.engines)
    assert len({e.device for e in plan.engines}) == 2


def test_a_plan_that_a_network_link_limits_is_legal() -> None:
    """Packets leave 1,408 of 1,474 bytes of the line: planner and judge count both."""
    cluster = load_cluster("u280x2")
    slow = replace(cluster, links=tuple(replace(x, bits_per_second=10**9) for x in cluster.links))
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, anchors=SPREAD, time_limit_s=1.0)
    plan = partition(digits(), slow, options)
    assert plan.predicted["limiting"]["kind"] == "link" and check_plan(plan, digits(), slow) == []
    bits = plan.predicted["links"][plan.predicted["limiting"]["where"]]["bits_per_frame"]
    assert abs(plan.predicted["interval_ns"] - bits * 1474 / 1408) <= 1


def test_more_room_is_never_slower() -> None:
    """A PYNQ-Z2 folds the net far more than a U280 does."""
    small, large = plan_of("pynq-z2"), plan_of("u280")
    assert small.predicted["interval_ns"] >= large.predicted["interval_ns"]
    assert sum(e.resources.lut for e in small.engines) < 53_200  # LUTs of a Zynq 7020 (DS190)
    assert small.solver.bound <= small.solver.objective


def places(value: object, at: tuple = ()):
    """Paths of all numbers and short texts of a JSON document."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from places(v, (*at, k))
    elif isinstance(value, list):
        for k, v in enumerate(value):
            yield from places(v, (*at, k))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield at


# What a judge cannot derive: how long was solved, and prose; and what reports say of use beside the interval.
# A FIFO a word deeper is another legal plan.
FREE = {"fifo_depths", "options", "proved_by", "proved_scope", "notes", "seed", "workers", "fallbacks", "model"}
DESCRIBING = {"dies", "links", "banks", "host", "limiting", "fifo_interval_ps", "pace_ps", "replicas_auto"}


def test_every_number_of_a_plan_that_means_something_is_held_to_it() -> None:
    plan = plan_of("u280x2", 3000, SPREAD)
    document = json.loads(write_plan(plan))
    passed = []
    for path in random.Random(3).sample(list(places(document)), 90):
        if FREE & set(path) or (path[0] == "predicted" and path[1] in DESCRIBING):
            continue
        fresh = json.loads(write_plan(plan))
        target = fresh
        for k in path[:-1]:
            target = target[k]
        target[path[-1]] += 1
        try:
            edited = parse_plan(json.dumps(fresh))
        except FvcError:
            continue
        if not check_plan(edited, digits(), load_cluster("u280x2")):
            passed.append(path)
    assert passed == []


@pytest.mark.parametrize(
    "key",
    ["fps", "latency_ms", "energy_mj", "clock_mhz", "dies", "links", "host", "limiting", "interval_ns"],
)
@pytest.mark.parametrize("value", [None, "x", 0, -1, 10**30, [], {}, {"u280-0/SLR0": 3}])
def test_a_figure_that_is_none_is_a_finding(key: str, value: object) -> None:
    document = json.loads(write_plan(plan_of("u280x2", 3000, SPREAD)))
    document["predicted"][key] = value
    try:
        edited = parse_plan(json.dumps(document))
    except FvcError:
        return
    assert check_plan(edited, digits(), load_cluster("u280x2"))


@pytest.mark.parametrize(
    "options",
    [
        {"replicas": 65},
        {"cores": 2},
        {"force_split": (("Pr", 2),)},
    ],
    ids=lambda o: next(iter(o)),
)
def test_what_streaming_engines_do_not_do_is_refused_with_a_reason(options: dict) -> None:
    with pytest.raises(FvcError) as caught:
        partition(digits(), load_cluster("u280"), PartitionOptions(style="streaming", **options))
    assert (caught.value.code, caught.value.exit_code) == ("FVC201", 2)
    assert caught.value.help


def test_anchors_that_name_nothing() -> None:
    for anchor in (("/conv9", "u280-0"), ("/conv1", "u280-7/SLR0")):
        with pytest.raises(FvcError) as caught:
            partition(digits(), load_cluster("u280"), PartitionOptions(style="streaming", anchors=(anchor,)))
        assert caught.value.code == "FVC206"
        (lever,) = caught.value.help
        assert "/conv1" in lever if anchor[0] == "/conv9" else lever == "one of u280-0/SLR0, u280-0/SLR1, u280-0/SLR2"


def test_a_net_that_does_not_fit_says_what_is_short() -> None:
    graph, cluster = digits(), load_cluster("pynq-z2")
    board = cluster.devices[0].board
    die = board.dies[0]
    tiny = replace(die, raw=replace(die.raw, lut=die.shell.lut + 4000))
    small = replace(cluster, devices=(replace(cluster.devices[0], board=replace(board, dies=(tiny,))),))
    with pytest.raises(FvcError) as caught:
        partition(graph, small, PartitionOptions(style="streaming"))
    assert (caught.value.code, caught.value.exit_code) == ("FVC203", 1)
    assert "LUT" in caught.value.what and caught.value.help


def test_weights_that_do_not_stand_where_they_were_asked_are_told() -> None:
    """No pynq-z2 has URAM; the u280's holds only memories of 1,024 words or more."""
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, memory="uram", time_limit_s=2.0)
    plan = partition(digits(), load_cluster("pynq-z2"), options)
    (told,) = [f for f in plan.fallbacks if f.startswith("--memory uram: ")]
    weighed = [x for x in plan.layers if "Conv" in x.op or "MatMul" in x.op or "Gemm" in x.op]
    assert all(s.memory != "uram" for x in plan.layers for s in x.slices)
    assert f"weights of {len(weighed)} of {len(weighed)} layers" in told and weighed[0].name in told
    free = partition(digits(), load_cluster("pynq-z2"), replace(options, memory="auto"))
    assert not any(f.startswith("--memory") for f in free.fallbacks)


def test_large_fifos_stand_in_uram_only_where_there_is_some() -> None:
    shallow, deep = 256, 20_000  # words of 32 bits
    assert MEMORIES[fifo_memory(shallow, 32, True)] == "lutram"
    assert MEMORIES[fifo_memory(deep, 32, True)] == "uram" and MEMORIES[fifo_memory(deep, 32, False)] == "bram"


@pytest.mark.parametrize("more", [0, 3_334])  # a cycle
def test_a_plan_that_is_no_quicker_than_what_is_there_is_not_made(more: int) -> None:
    """Cuts are tried beside a plan; where their bound is no lower, no netlist is built."""
    options = PartitionOptions(style="streaming", host_ns=FAST_HOST, time_limit_s=3.0)
    known = plan_of("u280").predicted["pace_ps"]
    job = Job((digits(), ()), load_cluster("u280"), options, 1, 1, None, frozenset(), known + more)
    if more:
        assert job.plan(None).predicted["pace_ps"] == known
    else:
        with pytest.raises(FvcError, match="no plan below"):
            job.plan(None)
