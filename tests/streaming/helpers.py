"""The shipped example as netlists, made once a process and cluster."""

from __future__ import annotations

import copy
from functools import cache

from compiler.isa.container import read_device, write_device
from compiler.isa.program import DeviceProgram
from compiler.partition import partition
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from compiler.schedule import schedule
from device_db import load_cluster
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
