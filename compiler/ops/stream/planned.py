"""A streaming plan read back: which layers are cut; seats, folds and FIFO depths of all that then stand by themselves.

A layer that is whole goes by its name, a slice of a cut one by its task: the names of the nodes of `expanded`.
"""

from __future__ import annotations

from compiler.ir.graph import Graph
from compiler.isa.stream.table import MEMORIES, VARIANTS
from compiler.ops.stream.netlists import Seat, own_name
from compiler.ops.stream.parts import Fold
from compiler.ops.stream.sliced import WHOLE, Cut, Cuts, as_cuts, expand, legal
from compiler.plan.model import EnginePlan, Plan, SlicePlan
from device_db.model import Cluster, DieRef


def cuts_of(plan: Plan) -> Cuts:
    """The layers that are cut. Raises ValueError for a strategy that streaming engines have not."""
    return as_cuts({layer.name: read_cut(layer.strategy) for layer in plan.layers})


def read_cut(strategy: str) -> Cut:
    """The cut of this name. Raises ValueError."""
    if strategy == "whole":
        return WHOLE
    factors = dict.fromkeys(("Pm", "Pn"), 1)
    for text in strategy.split(","):
        name, _, count = text.partition("=")
        if name not in factors or not count.isdecimal():
            raise ValueError(f"strategy '{strategy}'")
        factors[name] = int(count)
    cut = Cut(factors["Pm"], factors["Pn"])
    if cut.name != strategy:
        raise ValueError(f"strategy '{strategy}'")
    return cut


def expanded(graph: Graph, plan: Plan) -> Graph:
    """The graph with the plan's layers cut. Raises ValueError where a cut is not possible."""
    cuts = cuts_of(plan)
    nodes = {n.name: n for n in graph.nodes}
    for name, cut in cuts:
        if name not in nodes or not legal(nodes[name], cut):
            raise ValueError(f"layer '{name}' cannot be cut by {cut.name}")
    return expand(graph, cuts)


def seats_of(plan: Plan, cluster: Cluster) -> dict[str, Seat]:
    """Streaming layer or task of a cut one (`own_name`: of every copy) -> die and fold, as the plan has them."""
    dies = {cluster.die_name(ref): ref for ref in cluster.dies}
    return {name: Seat(_ref(dies, e), fold_of(e)) for name, e in engines_of(plan).items()}


def slices_of(plan: Plan, copy: int) -> dict[str, SlicePlan]:
    """The slices of one copy by the names of the nodes of `expanded`, in their order."""
    out: dict[str, SlicePlan] = {}
    for layer in plan.layers:
        own = [s for s in layer.slices if s.replica == copy]
        out |= {layer.name if len(own) == 1 else f"{layer.name}#{k}": s for k, s in enumerate(own)}
    return out


def engines_of(plan: Plan) -> dict[str, EnginePlan]:
    """The engine of every streaming layer or slice of every copy, copy by copy in the order of the expanded graph."""
    engines = {e.id: e for e in plan.engines}
    parts = [(own_name(n, c), engines[s.engine]) for c in range(plan.replicas) for n, s in slices_of(plan, c).items()]
    return {name: e for name, e in parts if e.style == "streaming"}


def copy_of(seats: dict[str, Seat], graph: Graph, copy: int) -> dict[str, Seat]:
    """The seats of one copy, under the nodes' own names."""
    return {n.name: seats[own_name(n.name, copy)] for n in graph.nodes}


def _ref(dies: dict[str, DieRef], e: EnginePlan) -> DieRef:
    return dies[f"{e.device}/{e.die}"]


def fold_of(e: EnginePlan) -> Fold:
    """A streaming engine's fold."""
    variant, memory = VARIANTS.index(e.parameters["variant"]), MEMORIES.index(e.parameters["memory"])
    return Fold(e.fold["pe"], e.fold["simd"], variant, memory)


def depths_of(plan: Plan) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Layer (`own_name`) -> depths and memories of its FIFOs."""
    words, memory = {}, {}
    for name, e in engines_of(plan).items():
        words[name] = list(e.parameters["fifo_depths"])
        memory[name] = [MEMORIES.index(m) for m in e.parameters["fifo_memories"]]
    return words, memory
