"""--min-devices: the fewest devices, the first ones of the cluster, on which a planner finds a plan."""

from __future__ import annotations

from collections.abc import Callable

from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db.errors import FvcError
from device_db.model import Cluster


def on_devices(make: Callable[[int], Plan], cluster: Cluster, options: PartitionOptions) -> Plan:
    """The plan that `make` gives for the least number of devices, for all of them unless the fewest are asked for.

    A refusal (exit code 1) of fewer is no error while one more is left; that of all of them is raised."""
    most = len(cluster.devices)
    for count in range(1, most) if options.min_devices else ():
        try:
            return make(count)
        except FvcError as error:
            if error.exit_code != 1:
                raise
    return make(most)
