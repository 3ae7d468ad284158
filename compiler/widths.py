"""Layers wider than 8 bits: the better of a plan with them on engines and one without, and which a plan is of.

Only streaming engines take operands of 9 to 16 bits. With `--style streaming` they are read as engine layers, with
tiled engines they run on the host, and `--style auto` takes whichever plan of the two is better.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from device_db.errors import FvcError

if TYPE_CHECKING:
    from compiler.ir.graph import Graph
    from compiler.plan.model import Plan

ON_HOST = "layers wider than 8 bits run on the host in this plan"
STREAMED = "layers wider than 8 bits stream: tiled engines have none"


def better(wide: tuple[Graph, Callable[[], Plan]], narrow: tuple[Graph, Callable[[], Plan]]) -> tuple[Graph, Plan, str]:
    """The better plan with the graph that it is of, and the sentence that says so.

    Raises the narrow problem's FvcError where neither has a plan; errors that are no answer of a search at once."""
    found: list[tuple[Graph, Plan, str]] = []
    refusal: FvcError | None = None
    for (graph, make), told in ((wide, STREAMED), (narrow, ON_HOST)):
        try:
            found.append((graph, make(), told))
        except FvcError as problem:
            if problem.exit_code != 1:
                raise
            refusal = problem
    if not found:
        assert refusal is not None
        raise refusal
    return min(found, key=lambda f: _order(f[1]))


def read_for(plan: Plan, load: Callable[[bool], Graph]) -> Graph:
    """The graph that a plan is of. load: reads the model, with layers wider than 8 bits on engines or without."""
    wide = any(e.style == "streaming" for e in plan.engines)
    graph = load(wide)
    if wide and graph.wide and {n.name for n in graph.nodes} != {x.name for x in plan.layers}:
        return load(False)
    return graph


def _order(plan: Plan) -> tuple[int, int]:
    order = plan.predicted["interval_ns"], plan.predicted["latency_ns"]
    return order if plan.options.get("objective") != "latency" else order[::-1]
