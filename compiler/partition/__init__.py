"""Graph + cluster + options -> Plan: one option table, bounds, search, prediction, and the plan's independent judge.

`partition` is the face; `check.check_plan` judges any plan and knows no solver; `predict.predict` prices any plan.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compiler.ir.graph import Graph
    from compiler.partition.options import PartitionOptions
    from compiler.plan.model import Plan
    from device_db.model import Cluster

__all__ = ["partition"]


def partition(graph: Graph, cluster: Cluster, options: PartitionOptions) -> Plan:
    """The best plan found within the options' time, judged before it is returned.

    Layers wider than 8 bits have streaming engines alone, so `auto` is `streaming` then.
    Raises FvcError FVC2xx: bad options (exit 2), or no plan fits (exit 1, with the unmet constraint and its levers).
    """
    if options.style == "streaming" or (options.style == "auto" and graph.wide):
        from compiler.partition.stream.planner import partition_streaming

        return partition_streaming(graph, cluster, replace(options, style="streaming"))
    if options.style == "auto":
        from compiler.partition.auto.planner import partition_auto

        return partition_auto(graph, cluster, options)
    from compiler.partition.planner import partition as plan

    return plan(graph, cluster, options)
