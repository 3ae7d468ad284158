"""Replicas: how places are dealt out, and which number gives the most frames a second.

Needs the places and whole-layer costs; guarantees groups of equal size in machine order (places left over stay empty).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from compiler.ir.graph import Graph
from compiler.partition.costs import CostBook
from compiler.partition.layout import Place
from compiler.partition.options import PartitionOptions, host_time_ns
from device_db.errors import FvcError
from device_db.model import Cluster


def groups(here: Sequence[Place], replicas: int) -> list[list[Place]]:
    """The places of each replica, neighbours together. FVC207 when there are more replicas than places."""
    if replicas > len(here):
        raise FvcError(
            "FVC207",
            f"{replicas} replicas need as many engines, the cluster has {len(here)}",
            help=(f"--replicas {len(here)} or fewer", "more --cores a device, or add devices"),
            exit_code=1,
        )
    size = len(here) // replicas
    return [list(here[k * size : (k + 1) * size]) for k in range(replicas)]


def auto_replicas(
    graph: Graph, cluster: Cluster, options: PartitionOptions, book: CostBook, here: Sequence[Place]
) -> tuple[int, dict[int, float]]:
    """(replicas with the best throughput, frames a second estimated by number of replicas).

    Tried: one, one a device, one an engine (or as few as forced slices take), the number asked for; each by the
    merged-machine bound of its groups with closed-form costs. A pipeline of several engines comes within about one
    percent of that bound, which is charged. In a tie the fewest replicas win: they hold fewer copies of the weights.
    """
    from compiler.partition.engines import EngineChoice
    from compiler.partition.search import reference_khz

    ref_khz = reference_khz(cluster)
    known: dict[tuple[int, ...], int | None] = {}

    def interval(group: list[Place]) -> int | None:
        key = tuple(p.pool for p in group)
        if key not in known:
            ranked = EngineChoice(graph, cluster, group, book, ref_khz, options.memory).ranked(False)
            ticks = ranked[0][0] if ranked else None
            known[key] = ticks if ticks is None or len(group) == 1 else ticks * 101 // 100
        return known[key]

    host_ns = sum(host_time_ns(h.name, options) for h in graph.host_segments)
    out: dict[int, float] = {}
    need = prod(n for _, n in options.force_split)  # engines of a replica whose layers are cut so
    counts = {1, len({p.ref.device for p in here}), len(here) // need, max(1, options.replicas)}
    for count in sorted(c for c in counts if c == 1 or 0 < c <= len(here) // need):
        ticks = [interval(g) for g in groups(here, count)]
        if all(ticks):
            fps = count * ref_khz * 1000 / max(t for t in ticks if t)
            out[count] = round(min(fps, 1e9 / host_ns) if host_ns else fps, 1)
    best = max(out, key=lambda c: (out[c] > 1.001 * out.get(1, 0.0), out[c], -c), default=1)
    return best, out
