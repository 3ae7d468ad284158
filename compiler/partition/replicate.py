"""Replicas: how places are dealt out, and which number gives the most frames a second.

Needs the places and whole-layer costs; guarantees groups of equal size in machine order (places left over stay empty).
"""

from __future__ import annotations

from collections.abc import Sequence

from compiler.ir.graph import Graph
from compiler.partition.costs import CostBook
from compiler.partition.layout import Place
from compiler.partition.options import PartitionOptions
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
) -> tuple[int, float]:
    """(replicas with the best throughput, frames a second they give), by the merged-machine bound of each group.

    Tried: one, one a device, one an engine. A single engine meets its bound; a pipeline of several comes within about
    one percent of it, which is charged. In a tie the fewest replicas win: they hold fewer copies of the weights.
    """
    from compiler.partition.engines import EngineChoice
    from compiler.partition.search import reference_khz

    ref_khz = reference_khz(cluster)
    known: dict[tuple[int, ...], int | None] = {}

    def interval(group: list[Place]) -> int | None:
        key = tuple(p.pool for p in group)
        if key not in known:
            choice = EngineChoice(graph, cluster, group, book, ref_khz)
            engines = choice.best(False)
            ticks = None if engines is None else choice.rate(engines, exact=True)
            known[key] = ticks if ticks is None or len(group) == 1 else ticks * 101 // 100
        return known[key]

    best: tuple[float, int] | None = None
    for count in dict.fromkeys((1, len({p.ref.device for p in here}), len(here))):
        ticks = [interval(g) for g in groups(here, count)]
        if all(t is not None for t in ticks):
            fps = round(count * ref_khz * 1000 / max(t for t in ticks if t is not None), 1)
            if best is None or fps > best[0] * 1.001:
                best = (fps, count)
    return (best[1], best[0]) if best is not None else (1, 0.0)
