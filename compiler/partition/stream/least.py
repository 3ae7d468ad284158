"""What no streaming plan's latency is below: the host's segments and the ways to the boards and back between them."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.ir.graph import Graph, HostSegment
from compiler.isa.stream.network import Work
from compiler.ops.stream.parts import element, stream_inputs
from cost_models.primitives import PS_PER_SECOND, ceil_div
from device_db.model import Cluster
from device_db.topology import link_specs


def least_latency_ps(graph: Graph, work: Sequence[Work], cluster: Cluster) -> int:
    """The longest way of a frame, layers and everything between boards taking no time.

    A segment reads whole tensors and gives whole ones; what it gives to layers crosses at the rate of all boards' PCIe
    together and with the least latency of one, what it takes of them with the latency alone, since its first words may
    leave while the last ones come in."""
    specs, names = link_specs(cluster), [d.name for d in cluster.devices]
    there = 1000 * min(specs[f"host>{n}"][1] for n in names)
    back = 1000 * min(specs[f"{n}>host"][1] for n in names)
    rate = sum(specs[f"host>{n}"][0] for n in names)
    host: dict[str, int] = {}  # tensor -> picoseconds before its last word, where it was made
    board: dict[str, int] = {}

    def at_host(root: str) -> int:
        return board[root] + back if root in board else host.get(root, 0)

    def on_board(root: str) -> int:
        if root in board:
            return board[root]
        t = graph.tensors[root]
        return host.get(root, 0) + there + ceil_div(t.elements * element(t).bits * PS_PER_SECOND, rate)

    segments = {w.name: w for w in work}
    for step in graph.steps:
        if isinstance(step, HostSegment):
            w = segments.get(step.name)
            ready = max((at_host(graph.root(x)) for x in (w or step).inputs), default=0)
            host |= {graph.root(y): ready + (w.time_ps if w else 0) for y in (w or step).outputs}
        else:
            board[graph.root(step.y)] = max(
                (on_board(graph.root(x)) for x in stream_inputs(graph, step)), default=there
            )
    return max([*host.values(), *(at_host(graph.root(y)) for y in graph.outputs)], default=0)
