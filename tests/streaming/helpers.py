"""The shipped example as netlists, made once a process and cluster."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from functools import cache

from compiler.ir.graph import Graph
from compiler.isa.container import read_device, write_device
from compiler.isa.program import DeviceProgram
from compiler.ops.stream.assemble import assemble
from compiler.ops.stream.lower import legal_folds
from compiler.ops.stream.netlists import Seat, own_name
from compiler.ops.stream.programs import programs_of
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from compiler.schedule import schedule
from compiler.schedule.stream import _fill, aliases_of
from device_db import load_cluster
from device_db.model import DieRef
from tests.bundles import digits

FAST_HOST = {"host0": 500, "host1": 500}
SPREAD = (("/conv1", "u280-0/SLR2"), ("/conv3", "u280-1/SLR1"), ("/add", "u280-1/SLR0"), ("/scores", "u280-0/SLR0"))


@cache
def plan_of(devices: str, interval: int | None = None, anchors: tuple[tuple[str, str], ...] = ()) -> Plan:
    options = PartitionOptions(
        style="streaming", host_ns=FAST_HOST, interval=interval, anchors=anchors, time_limit_s=4.0
    )
    return partition(digits(), load_cluster(devices), options)


@cache
def binaries(devices: str, interval: int | None = None, anchors: tuple[tuple[str, str], ...] = ()) -> tuple[bytes, ...]:
    plan = plan_of(devices, interval, anchors)
    return tuple(write_device(p) for p in schedule(digits(), plan, load_cluster(devices)))


def programs(
    devices: str, interval: int | None = None, anchors: tuple[tuple[str, str], ...] = ()
) -> list[DeviceProgram]:
    """Fresh ones: a test may break them."""
    return copy.deepcopy([read_device(b) for b in binaries(devices, interval, anchors)])


def anyhow(graph: Graph, seed: int, copies: int = 1) -> list[DeviceProgram]:
    """Every layer of every copy with some legal fold on some die of two boards."""
    cluster, draw = load_cluster("u250+u50"), random.Random(seed)
    seats = {}
    for n in [own_name(n.name, c) for c in range(copies) for n in graph.nodes]:
        node = next(x for x in graph.nodes if x.name == n.partition("\x1f")[0])
        device = draw.randrange(2)
        die = draw.randrange(len(cluster.devices[device].board.dies))
        seats[n] = Seat(DieRef(device, die), draw.choice(legal_folds(graph, node, True)))
    assembly = assemble(graph, cluster, seats)
    found = []
    for net, p in zip(assembly.nets, programs_of(graph, cluster, assembly, 10**9, {}, {}), strict=True):
        _fill(p.fabric, net)
        whole = replace(p, outputs={n: graph.root(n) for n in graph.outputs}, aliases=aliases_of(graph))
        found.append(read_device(write_device(whole)))
    return found
