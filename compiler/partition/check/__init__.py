"""The plan's independent judge: imports no solver and none of the partitioner's modules.

It derives everything anew from plan, graph, cluster, operator room and cost models, so that a plan from anywhere (made
here, edited by hand, read from a file) is held to the same rules. `check_plan` gives findings; none means legal.
"""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.isa.check.findings import Finding, Findings
from compiler.partition.check.flow import check_flow
from compiler.partition.check.hardware import check_hardware
from compiler.partition.check.kinds import check_kinds
from compiler.partition.check.layers import check_layers, holdings, timelines
from compiler.partition.check.loads import bank_bytes, check_loads
from compiler.partition.check.numbers import check_numbers, check_styles
from compiler.partition.check.options import check_options
from compiler.plan.model import Plan
from device_db.model import Cluster

__all__ = ["Finding", "check_plan"]


def check_plan(plan: Plan, graph: Graph, cluster: Cluster) -> list[Finding]:
    """All rules that the plan breaks, in the order hardware, layers, flow, loads, numbers, options.

    Codes: FVC203 resources and scratchpads, FVC208 DRAM capacity, FVC209 wires and bandwidth, FVC220 everything else.
    Broken hardware, layers or channels hide the later rules, which would have nothing to stand on.
    """
    found = Findings()
    if not check_kinds(plan, found):
        return found.result()
    if plan.regions:
        from compiler.partition.check.mixed import check_netlists, check_regions, tiled_side

        if check_regions(plan, graph, cluster, found):
            tiled, view = tiled_side(plan, graph, cluster)
            check_tiled(tiled, view, cluster, found)
            check_netlists(plan, graph, cluster, found)
    elif any(e.style == "streaming" for e in plan.engines):
        from compiler.partition.check.streaming import check_streaming

        check_streaming(plan, graph, cluster, found)
    else:
        check_tiled(plan, graph, cluster, found)
    check_styles(plan, found)
    return found.result()


def check_tiled(plan: Plan, graph: Graph, cluster: Cluster, found: Findings) -> None:
    """A plan of tiled engines, or the tiled side of one with regions in the tiled view of its graph."""
    sound = check_hardware(plan, cluster, found) and check_layers(plan, graph, cluster, found)
    if sound and check_flow(plan, graph, cluster, found):
        held = holdings(plan, graph)
        times = timelines(plan, graph, held)
        banks = bank_bytes(plan, graph, times, held)
        if check_loads(plan, times, banks, cluster, found):
            check_numbers(plan, times, banks, cluster, found)
        check_options(plan, cluster, found)
