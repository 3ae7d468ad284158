"""What each style gives, side by side: in which order plans are better, and how a plan tells it.

Needs finished plans; `Plan.predicted["styles"]` has a row a style, with its figures or why it has no plan, and which of
them was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compiler.partition.options import PartitionOptions
from compiler.plan.diff import span
from compiler.plan.model import Plan
from cost_models.primitives import ceil_div
from device_db.errors import FvcError
from device_db.model import RESOURCE_TYPES, Cluster

STYLES = ("tiled", "streaming", "mixed")


@dataclass(frozen=True, slots=True)
class Tried:
    """One style's plan, or why there is none: a refusal, or a reason not to look for one."""

    plan: Plan | None = None
    refusal: FvcError | None = None
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        """As plain JSON values."""
        if self.plan is not None:
            p = self.plan.predicted
            facts: dict[str, Any] = {"fits": True, "interval_ns": p["interval_ns"], "latency_ns": p["latency_ns"]}
            return facts | ({"streams": streams(self.plan)} if self.plan.regions else {})
        if self.refusal is not None:
            return {"fits": False, "code": self.refusal.code, "why": self.refusal.what}
        return {"fits": False, "why": self.reason}


def streams(plan: Plan) -> str:
    """Which layers of a plan with both styles stream, and where."""
    parts = []
    style = {e.id: e for e in plan.engines}
    for r in plan.regions:
        dies = dict.fromkeys(style[s.engine].die for x in plan.layers if x.name in r.layers for s in x.slices)
        parts.append(f"{len(r.layers)} layers ({span(r.layers)}) on {r.device}/{'+'.join(sorted(dies))}")
    return "; ".join(parts)


def order(plan: Plan, cluster: Cluster, options: PartitionOptions) -> tuple[int, ...]:
    """The less, the better: devices where the fewest are asked for, then the objective. Where --interval gives up speed
    for area, plans that keep it differ by the hardware that they take."""
    p = plan.predicted
    interval, latency = int(p["interval_ns"]), int(p["latency_ns"])
    devices = len({e.device for e in plan.engines}) if options.min_devices else 0
    if options.objective == "latency":
        return devices, latency, interval
    if options.interval:
        ref_khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
        asked = ceil_div(options.interval * 1_000_000, ref_khz)
        return devices, max(interval, asked), area_permille(plan, cluster), interval, latency
    return devices, interval, latency


def area_permille(plan: Plan, cluster: Cluster) -> int:
    """What the engines take of the cluster's scarcest resource."""
    shares = []
    for t in RESOURCE_TYPES:
        have = sum(getattr(cluster.die(ref).usable, t) for ref in cluster.dies)
        shares.append(ceil_div(1000 * sum(getattr(e.resources, t) for e in plan.engines), max(1, have)))
    return max(shares)


def with_styles(predicted: Mapping[str, Any], tried: Mapping[str, Tried], taken: str) -> dict[str, Any]:
    """The prediction of the plan that is taken, with a row a style."""
    return {**predicted, "styles": {"taken": taken, **{k: tried[k].facts() for k in STYLES if k in tried}}}


def lines(predicted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(style, one line) of all styles, for a person; nothing where one style was asked for."""
    facts = predicted.get("styles")
    if not isinstance(facts, dict):
        return []
    out = []
    for style in STYLES:
        row = facts.get(style)
        if not isinstance(row, dict):
            continue
        interval, latency = row.get("interval_ns"), row.get("latency_ns")
        if not isinstance(interval, int) or not isinstance(latency, int):
            code = f" ({row['code']})" if "code" in row else ""
            out.append((style, f"no plan: {row.get('why', 'without a reason')}{code}"))
            continue
        where = f"; {row['streams']}" if "streams" in row else ""
        taken = " (taken)" if facts.get("taken") == style else ""
        out.append((style, f"interval {interval:,} ns, latency {latency:,} ns{taken}{where}"))
    return out
