"""A netlist with its seats told as a Plan: engines, layers, channels, prediction, and what is proved of it."""

from __future__ import annotations

from dataclasses import dataclass

from compiler.ir.graph import Conv, Graph, HostSegment
from compiler.isa.program import DeviceProgram
from compiler.isa.stream.network import Work, cycle_ps
from compiler.isa.stream.table import BRAM, MEMORIES, URAM, VARIANTS
from compiler.ops.stream.joins import LEAST_DEPTH
from compiler.ops.stream.lower import price
from compiler.ops.stream.measure import channels, engine_use
from compiler.ops.stream.netlists import Assembly, Seat, engine_id, own_name
from compiler.ops.stream.programs import fabric_dies
from compiler.ops.stream.sliced import WHOLE, Cuts, layer_of, role_of, task_of
from compiler.partition.options import PartitionOptions, host_time_ns
from compiler.partition.stream.copies import MOST_COPIES
from compiler.partition.stream.depths import Depths
from compiler.partition.stream.figures import predict
from compiler.partition.stream.forced import notes_of
from compiler.partition.stream.joint import Bound
from compiler.partition.stream.least import least_latency_ps
from compiler.plan.model import (
    SCHEMA,
    EnginePlan,
    HostSegmentPlan,
    LayerPlan,
    Plan,
    ResourcePlan,
    SlicePlan,
    SolverPlan,
)
from cost_models.primitives import ceil_div, ps_cycles
from device_db.model import Cluster, Resources

WEIGHED = ("full", "partial")  # slices that hold weights; joins hold none
ON_CHIP = "memory style on the chip of each layer"
LATENCY_BY = "the host's segments and PCIe one after another"
SHORTEST_FIFOS = f"FIFOs of {LEAST_DEPTH} words or more"


@dataclass(frozen=True, slots=True)
class Built:
    """Seats and their netlists with all FIFOs; pace_ps: of the slowest unit, link or the host."""

    seats: dict[str, Seat]
    assembly: Assembly
    depths: Depths
    programs: list[DeviceProgram]
    pace_ps: int


def told(
    whole: tuple[Graph, Cuts],
    graph: Graph,
    cluster: Cluster,
    options: PartitionOptions,
    built: Built,
    work: list[Work],
    proved: Bound,
    any_ps: int | None,
    styles: str,
) -> Plan:
    """The plan of a netlist; graph: that of `whole` with its cuts. styles: what was chosen from
    beside each layer's fold."""
    base, cuts = whole
    seats, assembly, depths, programs = built.seats, built.assembly, built.depths, built.programs
    use = {k: v for p in programs for k, v in engine_use(p).items()}
    ranks = {n.device: n.rank for n in assembly.nets}
    engines: list[EnginePlan] = []
    names: dict[str, str] = {}
    parts: dict[str, list[SlicePlan]] = {}
    order = {step.name: k for k, step in enumerate(graph.steps)}
    for copy, node in [(c, n) for c in range(assembly.copies) for n in graph.nodes]:
        own = own_name(node.name, copy)
        seat = seats[own]
        name = engine_id(cluster, graph, node.name, seat.ref, copy)
        names[name] = layer_of(node)
        r = use[name] + assembly.excess.get(own, Resources())
        die = cluster.die(seat.ref)
        parameters = {
            "clock_khz": die.clock_khz,
            "variant": VARIANTS[seat.fold.variant],
            "memory": MEMORIES[seat.fold.memory],
            "fifo_depths": depths.words.get(own, []),
            "fifo_memories": [MEMORIES[m] for m in depths.memory.get(own, [])],
        }
        engines.append(
            EnginePlan(
                name, ranks[seat.ref.device], cluster.devices[seat.ref.device].name, die.name, "streaming",
                {"pe": seat.fold.pe, "simd": seat.fold.simd}, parameters,
                ResourcePlan(r.lut, r.ff, r.bram18, r.uram, r.dsp), copy,
            )
        )  # fmt: skip
        cycles = price(graph, node, seat.fold, fabric_dies(cluster, seat.ref.device)[0].family).cycles
        role, box, (low, high) = role_of(graph, node)
        memory, at = MEMORIES[seat.fold.memory], order[node.name]
        parts.setdefault(layer_of(node), []).append(
            SlicePlan(task_of(node, copy), name, role, box, low, high, 0, at, memory, {}, cycles, copy)
        )
    cut = dict(cuts)
    layers = [LayerPlan(n.name, n.op, cut.get(n.name, WHOLE).name, tuple(parts[n.name])) for n in base.nodes]
    hosts = tuple(
        HostSegmentPlan(s.name, s.nodes, s.reason, 0, order[s.name], host_time_ns(s.name, options))
        for s in graph.steps
        if isinstance(s, HostSegment)
    )
    predicted = predict(programs, cluster, engines, names, work, assembly.copies)
    layers_told = f"{len(cuts)} layers cut as --force-split asks, the others whole" if cuts else "layers whole"
    predicted["pace_ps"] = built.pace_ps
    predicted["fifo_interval_ps"] = depths.interval_ps
    solver = solver_of_plan(
        graph, proved, predicted, cluster, options, work, assembly.copies, any_ps, layers_told, styles
    )
    return Plan(
        schema=SCHEMA,
        model={"name": graph.name},
        cluster={"spec": cluster.name, "topology": cluster.topology, "devices": [d.name for d in cluster.devices]},
        options=options.as_json(),
        solver=solver,
        engines=tuple(engines),
        layers=tuple(layers),
        channels=tuple(channels(graph, cluster, assembly, seats)),
        host_segments=hosts,
        predicted=predicted,
        replicas=assembly.copies,
        fallbacks=(*graph.fallbacks, *notes_of(base, cuts, options), *elsewhere(base, layers, options)),
    )


def elsewhere(graph: Graph, layers: list[LayerPlan], options: PartitionOptions) -> list[str]:
    """A sentence on the layers whose weights do not stand where --memory bram or uram asks: their memories are too
    shallow for a block, or no die has it."""
    wish, named = options.memory, {f[0] for f in options.folds}
    if wish not in (MEMORIES[BRAM], MEMORIES[URAM]):
        return []
    weighed = {n.name for n in graph.nodes if isinstance(n, Conv)} - named
    held = {x.name: sorted({s.memory for s in x.slices if s.role in WEIGHED}) for x in layers if x.name in weighed}
    other = [f"{name} ({', '.join(m)})" for name, m in held.items() if m != [wish]]
    text = f"--memory {wish}: weights of {len(other)} of {len(held)} layers stand elsewhere: {', '.join(other[:5])}"
    return [text + (", …" if other[5:] else "")] if other else []


def solver_of_plan(
    graph: Graph,
    proved: Bound,
    predicted: dict[str, object],
    cluster: Cluster,
    options: PartitionOptions,
    work: list[Work],
    copies: int,
    any_ps: int | None,
    layers: str,
    styles: str = ON_CHIP,
) -> SolverPlan:
    ref_khz = max(d.clock_khz for dev in cluster.devices for d in dev.board.dies)
    slowest_ps = max(cycle_ps(d.clock_khz) for dev in cluster.devices for d in dev.board.dies)
    objective = int(str(predicted["interval_cycles"]))
    host = sum(w.time_ps for w in work)
    least = ceil_div(proved.interval_ps, copies)
    by = proved.proved_by
    if any_ps is not None and any_ps < least:
        least, by = any_ps, f"prices of all dies as one, each number of copies up to {MOST_COPIES}"
    by_host = bool(work) and least < host + slowest_ps  # the search counts whole cycles
    bound = min(objective, ps_cycles(host if by_host else least, ref_khz))
    by = "the host's own time a frame" if by_host else by
    if options.interval and not by_host and least <= options.interval * slowest_ps:
        by = "--interval: no shorter one was looked for"
    if options.objective == "latency":
        objective = int(str(predicted["latency_cycles"]))
        bound, by = min(objective, ps_cycles(least_latency_ps(graph, work, cluster), ref_khz)), LATENCY_BY
    status = "OPTIMAL" if objective <= bound else "FEASIBLE"
    gap = round((objective - bound) / objective, 6) if objective else 0.0
    notes = (f"{options.workers} workers: the plan may differ from run to run",) if options.workers > 1 else ()
    if copies > 1:
        notes = (f"{copies} copies of the net: frame f goes to copy f mod {copies}", *notes)
    scope: tuple[str, ...] = (f"every legal PE, SIMD, variant and {styles}",)
    if options.folds:
        scope = (f"{scope[0]} of each layer but {len(options.folds)}, whose folds were given",)
    if any_ps is not None:
        told = f"{layers}, any number of copies up to {MOST_COPIES}, frames dealt out in turn"
    else:
        told = f"{layers}, " + (
            "one copy of each" if copies == 1 else f"{copies} copies of each, frames dealt out in turn"
        )
    scope = (*scope, "every die that the anchors allow", told, SHORTEST_FIFOS)
    return SolverPlan(status, objective, bound, gap, by, scope, options.seed, options.workers, notes)
