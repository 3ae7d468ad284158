"""The answer "it does not fit" as an object: constraint, demand, bound, contributors, levers, cheapest relaxation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

from compiler.ir.graph import Conv, DType, Graph
from compiler.partition.kinds import TYPES
from compiler.partition.options import PartitionOptions
from compiler.plan.model import Plan
from device_db.errors import FvcError
from device_db.model import Cluster

if TYPE_CHECKING:
    from compiler.partition.check import Finding
    from compiler.partition.engines import EngineChoice
    from compiler.partition.layout import Place
    from compiler.partition.problem import Problem


# Findings of the checker that say "it does not fit": the constraint family, and what relieves it, the cheapest first.
CAPACITY = {"FVC203": "resources", "FVC208": "dram_capacity", "FVC209": "bandwidth"}
LEVERS = {
    "FVC203": ("--memory external keeps weights off the chip", "use boards with more BRAM or URAM"),
    "FVC208": ("spread the layers over more devices", "use boards with more DRAM a bank"),
    "FVC209": ("fewer --cores a device", "use boards with more bandwidth"),
}
TRIES, TRY_SECONDS, TRY_DEVICES = 3, 5.0, 32  # larger clusters that are solved, solver time each, their size


@dataclass(frozen=True, slots=True)
class Infeasibility:
    """One unmet constraint. demand and bound are in `unit`; contributors largest first."""

    code: str
    family: str  # the constraint family's name
    statement: str
    where: str
    demand: int
    bound: int
    unit: str
    contributors: tuple[tuple[str, int], ...] = ()
    levers: tuple[str, ...] = ()
    relaxation: str = ""

    @property
    def gap(self) -> int:
        return self.demand - self.bound

    def error(self) -> FvcError:
        """As an error block with exit code 1."""
        what = f"{self.statement} on {self.where}: {self.demand:,} {self.unit} needed, {self.bound:,} available"
        who = ", ".join(f"{name} ({amount:,})" for name, amount in self.contributors[:5])
        help = list(self.levers)
        if self.relaxation:
            help.append(self.relaxation)
        where = (f"constraint: {self.family}", *((who,) if who else ()))
        return FvcError(self.code, what, where=where, help=tuple(help), exit_code=1)


def no_layer(graph: Graph) -> FvcError:
    """A graph without engine layers."""
    reasons = tuple(f"{s.name}: {s.reason}" for s in graph.host_segments[:5])
    wide = any("more than 8 bits" in r for r in reasons)
    return FvcError(
        "FVC213",
        f"no layer of '{graph.name}' runs on an engine",
        where=reasons,
        help=(
            *(("--style streaming has engines for up to 16 bits",) if wide else ()),
            "run the model with ONNX Runtime, or quantize operators that an engine has (docs/operators.md)",
        ),
        exit_code=1,
    )


def too_wide(graph: Graph) -> FvcError:
    """A graph read for streaming engines, with integers of 9 to 16 bits."""
    names = [n.name for n in graph.nodes if any(graph.tensors[t].dtype == DType.S16 for t in (*n.inputs, n.y))]
    return FvcError(
        "FVC210",
        f"'{graph.name}' has layers of more than 8 bits, which no tiled engine takes",
        where=tuple(names[:5]),
        help=("use --style streaming", "import it with wide=False: such layers then run on the host"),
        exit_code=1,
    )


def no_engine(cluster: Cluster, place_list: Sequence[Place], choice: EngineChoice) -> FvcError:
    """A die that holds not even the smallest engine."""
    from compiler.partition.kinds import FOLDS_M, FOLDS_N, smallest_engine

    for place in place_list:
        if choice.offered[place.pool]:
            continue
        board = cluster.devices[place.ref.device].board
        die = board.dies[place.ref.die]
        need = smallest_engine(board, place.ref.die, place.port, choice.memory)
        have = die.usable
        worst = max(TYPES, key=lambda t: getattr(need, t) * place.cores_on_die / max(1, getattr(have, t)))
        return Infeasibility(
            "FVC202",
            "resources",
            f"even the smallest engine ({FOLDS_M[0]}x{FOLDS_N[0]}) is over the {worst.upper()} budget",
            cluster.die_name(place.ref),
            getattr(need, worst) * place.cores_on_die,
            getattr(have, worst),
            worst.upper(),
            ((f"{place.cores_on_die} engine(s)", getattr(need, worst) * place.cores_on_die),),
            (
                *(("--memory auto",) if choice.memory in ("bram", "uram") else ()),
                *(("ask for fewer --cores",) if place.cores_on_die > 1 else ()),
                "use a larger board",
            ),
        ).error()
    raise AssertionError("every place has engines")


def no_layer_fit(graph: Graph, cluster: Cluster, choice: EngineChoice) -> FvcError:
    """A layer that no engine of any place can tile."""
    for c in choice.classes:
        node = choice.nodes[c][0]
        best = None
        for q in choice.pools:
            for candidate in choice.offered[q]:
                if choice.exact(c, candidate.spec) is not None:
                    best = candidate
                    break
                if best is None and (best is None):
                    continue
            if best is not None:
                break
        if best is not None:
            continue
        largest = max(
            (k.spec for q in choice.pools for k in choice.offered[q]), key=lambda s: s.act_bytes + s.wgt_bytes
        )
        weights = node.weight.size if isinstance(node, Conv) else 0
        read = max((graph.tensors[t].bytes for t in node.inputs if t in graph.tensors), default=0)
        return Infeasibility(
            "FVC203",
            "scratch",
            f"no tile of layer '{node.name}' ({node.op}) fits an engine's scratchpads",
            "any die of " + cluster.name,
            max(read, weights),
            largest.act_bytes + largest.wgt_bytes,
            "bytes",
            (("weights", weights), ("input", read), ("output", graph.tensors[node.y].bytes)),
            ("use boards with more BRAM", "split the layer in the model"),
        ).error()
    return FvcError(
        "FVC203", "no combination of engines holds every layer", help=("use boards with more BRAM",), exit_code=1
    )


def too_deep(graph: Graph, cluster: Cluster) -> FvcError:
    """A skip connection spans more stages than a buffer has frame slots."""
    return FvcError(
        "FVC211",
        f"a tensor of '{graph.name}' would have to be kept for more than 255 frames",
        help=("--objective latency keeps one frame in flight", "use fewer or larger devices"),
        exit_code=1,
    )


def no_placement(problem: Problem, cluster: Cluster, options: PartitionOptions) -> FvcError:
    """The sweep found no allocation at any interval: anchors, cuts or forced slices exclude each other."""
    levers = []
    if options.anchors:
        levers.append("drop an --anchor")
    if options.forbidden_cuts:
        levers.append("allow a forbidden cut")
    if options.force_split:
        levers.append("drop --force-split")
    return FvcError(
        "FVC211",
        "no engine holds every layer under the given anchors, cuts and forced slices",
        where=(f"{len(problem.table.layers)} layers, {problem.slots} engines of {cluster.name}",),
        help=tuple(levers) or ("add a device",),
        exit_code=1,
    )


def check_limits(plan: Plan, graph: Graph, cluster: Cluster, options: PartitionOptions, search: bool = True) -> None:
    """Raises FVC204 or FVC205 where the plan misses the frame rate or latency asked for.

    search: look for the number of devices that reach the rate."""
    p = plan.predicted
    limiting = p.get("limiting", {})
    levers = tuple(limiting.get("relief", ()))
    if options.target_fps is not None and p["fps"] < options.target_fps:
        have, want = float(p["fps"]), options.target_fps
        auto = p.get("replicas_auto", {})
        more = ""
        streaming = any(e.style == "streaming" for e in plan.engines)
        if search and not streaming and limiting.get("kind") != "host":
            more = _more_devices(graph, cluster, options, _least_more(plan, cluster, want), want)
        relax = more
        if auto.get("fps", 0) >= want and plan.replicas != auto.get("replicas"):
            relax = f"--replicas auto ({auto['replicas']}) would give about {auto['fps']} frames a second"
        raise FvcError(
            "FVC204",
            f"{want:g} frames a second asked for, {have:g} reached on {cluster.name}",
            where=(f"limited by: {limiting.get('text', '')}", f"bound: no plan of these options beats {_fps(plan):g}"),
            help=tuple(h for h in (relax, *levers) if h),
            exit_code=1,
        )
    if options.max_latency_ms is not None and p["latency_ms"] > options.max_latency_ms:
        heavy = sorted(((s.cycles, layer.name) for layer in plan.layers for s in layer.slices), reverse=True)[:5]
        relax = "--objective latency" if options.objective != "latency" else "a higher --clock or a larger board"
        raise FvcError(
            "FVC205",
            f"{options.max_latency_ms:g} ms of latency asked for, {p['latency_ms']:g} ms reached on {cluster.name}",
            where=(", ".join(f"{name} ({cycles:,} cycles)" for cycles, name in heavy),),
            help=(relax, *levers),
            exit_code=1,
        )


def _fps(plan: Plan) -> float:
    """Frames a second at the proven bound of the interval (throughput plans), else at the plan's own interval."""
    p = plan.predicted
    if plan.options.get("objective") != "throughput" or not plan.solver.objective:
        return float(p["fps"])
    return round(float(p["fps"]) * plan.solver.objective / max(1, plan.solver.bound), 3)


def _least_more(plan: Plan, cluster: Cluster, fps: float) -> int:
    """So many more of these engines' devices at least: the bound is a sum of prices over capacity, which grows with
    the devices where they are alike."""
    count = len({e.device for e in plan.engines})
    if len({d.board.name for d in cluster.devices}) > 1 or plan.options.get("objective") != "throughput":
        return 1
    return max(1, ceil(count * (fps / max(_fps(plan), float(plan.predicted["fps"])) - 1)))


def _more_devices(graph: Graph, cluster: Cluster, options: PartitionOptions, least: int, fps: float = 0.0) -> str:
    """How many more of the last device do, found by solving the larger clusters; the fewest first."""
    from compiler.partition.planner import partition
    from device_db.clusters import with_more

    board = cluster.devices[-1].board.name
    quick = replace(options, target_fps=None, max_latency_ms=None, time_limit_s=min(options.time_limit_s, TRY_SECONDS))
    tried = 0
    for more in range(least, least + TRIES):
        larger = with_more(cluster, more)
        if larger is None or len(larger.devices) > TRY_DEVICES:
            break
        try:
            found = partition(graph, larger, quick, search_relief=False)
        except FvcError:
            found = None
        if found is not None and found.predicted["fps"] >= fps:
            return f"fits from {more} more {board} on"
        tried = more
    if least > 1 and not tried:
        return f"these engines need at least {least} more {board}"
    return f"no plan found with up to {tried} more {board} fits" if tried else ""


def refused(
    findings: Sequence[Finding], plan: Plan, graph: Graph, cluster: Cluster, options: PartitionOptions, search: bool
) -> FvcError:
    """The partitioner's own plan did not pass the checker: a plan that does not fit, or a defect.

    search: look for the number of devices on which it fits."""
    first = next((f for f in findings if f.code in CAPACITY), findings[0])
    if first.code not in CAPACITY:
        return FvcError(
            "FVC290",
            first.what,
            where=tuple(w for f in findings[:5] for w in f.where),
            help=("this is a defect of fvc; please report the command line and the model",),
            exit_code=70,
        )
    levers = list(LEVERS[first.code])
    if plan.replicas > 1:
        levers.insert(0, "--replicas 1 holds one copy of the weights")
    if search and not _one_layer_alone(findings, plan):
        levers += [m for m in (_more_devices(graph, cluster, options, 1),) if m]
    where = (f"constraint: {CAPACITY[first.code]}", *(w for f in findings[:5] for w in f.where))
    return FvcError(first.code, first.what, where=where, help=tuple(levers), exit_code=1)


def _one_layer_alone(findings: Sequence[Finding], plan: Plan) -> bool:
    """Whether an engine that is over holds a single layer: more engines do not help it."""
    crowded = {s.engine for layer in plan.layers for s in layer.slices if any(s.engine in f.what for f in findings)}
    layers = [{layer.name for layer in plan.layers for s in layer.slices if s.engine == e} for e in crowded]
    return any(len(x) < 2 for x in layers)
