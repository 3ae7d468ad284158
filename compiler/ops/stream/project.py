"""The tiled side of a mixed plan: the plan and graph that are left when every region is one step.

Needs a plan with regions; gives what the rooms of tiled engines (schedule, prediction, checker) understand: regions as
host segments that take no time of the host, channels that begin or end at a region by its name.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.ir.graph import Graph
from compiler.ops.stream.regions import as_step, tiled_view
from compiler.plan.model import ChannelPlan, HostSegmentPlan, Plan
from device_db.model import Cluster


def projected(plan: Plan, graph: Graph, cluster: Cluster) -> tuple[Plan, Graph]:
    """(plan, graph) of the tiled view; predicted figures are left as they are."""
    view = tiled_view(graph, [as_step(graph, r, cluster) for r in plan.regions])
    layers = {x.name: x for x in plan.layers}
    region_of = {name: r.name for r in plan.regions for name in r.layers}
    end_of = {s.engine: region_of[x.name] for x in plan.layers if x.name in region_of for s in x.slices}
    known = {h.name: h for h in plan.host_segments}
    for r in plan.regions:
        known[r.name] = HostSegmentPlan(r.name, r.layers, "streaming engines", r.stage, r.order, 0)
    options = dict(plan.options)
    options["host_ns"] = {**options.get("host_ns", {}), **{r.name: 0 for r in plan.regions}}
    options["anchors"] = [a for a in options.get("anchors", ()) if a[0] not in region_of]
    return (
        replace(
            plan,
            options=options,
            engines=tuple(e for e in plan.engines if e.style == "tiled"),
            layers=tuple(layers[n.name] for n in view.nodes if n.name in layers),
            channels=tuple(_ends(c, end_of) for c in plan.channels if not _inner(c, end_of)),
            host_segments=tuple(known[s.name] for s in view.host_segments if s.name in known),
            regions=(),
        ),
        view,
    )


def _inner(c: ChannelPlan, end_of: dict[str, str]) -> bool:
    """Whether a channel is a stream within a region: it has no message."""
    return c.source in end_of and end_of[c.source] == end_of.get(c.target)


def _ends(c: ChannelPlan, end_of: dict[str, str]) -> ChannelPlan:
    return replace(c, source=end_of.get(c.source, c.source), target=end_of.get(c.target, c.target))
